/* What each instruction set provides: compiled once per set from kernels.c, chosen in engine.c. */
#ifndef FASTRNN_KERNELS_H
#define FASTRNN_KERNELS_H

#include "fastrnn.h"

/* One thread's share of a direction: rows [row, row + rows), slice number `slice`. */
typedef struct {
    int64_t slice, row, rows;
    float *scratch;
} lstm_slice;

typedef struct {
    int64_t (*packed_size)(int64_t features, int64_t units);
    int64_t (*packed_back_size)(int64_t features, int64_t units);
    int64_t (*pack_parts)(int64_t units);  /* packing is done in this many independent parts */
    void (*pack)(float *packed, const float *kernel, const float *recurrent_kernel,
                 const float *bias, int64_t features, int64_t units, int64_t part);
    int64_t (*pack_back_parts)(int64_t features, int64_t units);
    void (*pack_back)(float *packed, const float *kernel, const float *recurrent_kernel,
                      int64_t features, int64_t units, int64_t part);

    int64_t (*saved_size)(const fr_lstm *lstm, int64_t rows);  /* of one slice */
    int64_t (*forward_scratch)(const fr_lstm *lstm, int64_t rows);
    int64_t (*backward_scratch)(const fr_lstm *lstm, int64_t rows);
    void (*forward)(const fr_lstm *lstm, lstm_slice slice, float *saved);
    void (*backward)(const fr_lstm *lstm, lstm_slice slice, float *saved);
    /* Sum of the slices' packed gradients, one row k of [bias; kernel; recurrent_kernel]. */
    void (*unpack_gradient)(const fr_lstm *lstm, float *const *gradients, int64_t slices, int64_t k);
} kernel_table;

const kernel_table *fr_kernels(void); /* the table in use */

extern const kernel_table fr_kernels_base;
#if defined(__x86_64__)
extern const kernel_table fr_kernels_avx2, fr_kernels_avx512;
#endif

#endif
