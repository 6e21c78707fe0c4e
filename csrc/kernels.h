/* What each instruction set provides: compiled once per set from kernels.c, chosen in engine.c. */
#ifndef FASTRNN_KERNELS_H
#define FASTRNN_KERNELS_H

#include "barrier.h"
#include "engine.h"
#include "parallel.h"

static inline int gates_of(int cell) { return cell == FR_LSTM ? 4 : cell == FR_SIMPLE_RNN ? 1 : 3; }

/* One thread's share of a direction: rows [row, row + rows), slice number `slice`, and of the
 * units the part `part` of `parts`, whose threads meet at `barrier` in each time step. */
typedef struct {
    int64_t slice, row, rows;
    int part, parts;
    step_barrier *barrier;
    pass_watch *watch;
    float *scratch;
} rnn_slice;

typedef struct {
    int64_t (*packed_size)(int cell, int64_t features, int64_t units);
    int64_t (*packed_back_size)(int cell, int64_t features, int64_t units);
    int64_t (*pack_parts)(int64_t features, int64_t units); /* packing is in so many parts */
    void (*pack)(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                 const float *bias, int64_t features, int64_t units, int64_t part);
    int64_t (*pack_back_parts)(int64_t features, int64_t units);
    void (*pack_back)(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                      int64_t features, int64_t units, int64_t part);

    int64_t (*saved_size)(const fr_rnn *rnn, int64_t rows, int parts); /* of one slice */
    int64_t (*forward_scratch)(const fr_rnn *rnn, int64_t rows, int parts);
    int64_t (*backward_scratch)(const fr_rnn *rnn, int64_t rows, int parts);
    /* Where steps pick rows of x by index; products and their gradients are in chunks. */
    int64_t (*chunks)(const fr_rnn *rnn);
    int64_t (*products_size)(int cell, int64_t choices, int64_t features, int64_t units);
    void (*multiply)(const fr_rnn *rnn, int64_t row, int64_t rows);
    void (*gather_gradients)(const fr_rnn *rnn, rnn_slice slice, const float *saved, int64_t chunk);
    void (*input_weight_gradients)(const fr_rnn *rnn, int64_t chunk, float *gradients);
    void (*choice_gradients)(const fr_rnn *rnn, int64_t row, int64_t rows);

    void (*forward)(const fr_rnn *rnn, rnn_slice slice, float *saved);
    void (*backward)(const fr_rnn *rnn, rnn_slice slice, float *saved);
    int (*gradients_in_place)(const fr_rnn *rnn, int64_t rows); /* or else packed: */
    /* Sum of the slices' packed gradients, one row k of [bias; kernel; recurrent_kernel]. */
    void (*unpack_gradient)(const fr_rnn *rnn, float *const *gradients, int64_t slices, int64_t k);

    int64_t (*dense_packed_size)(int64_t k, int64_t n);
    int64_t (*dense_pack_parts)(int64_t n);
    void (*dense_pack)(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                       int transposed, int64_t part);
    void (*dense_forward)(float *y, const float *x, const float *packed, int activation,
                          int64_t rows, int64_t k, int64_t n, int64_t begin, int64_t end);
    void (*dense_slope)(float *dy, const float *y, int activation, int64_t n);
    void (*dense_add_gradient)(float *panel, const float *dy, const float *x, int64_t rows, int64_t k,
                               int64_t n, int64_t part, int first_rows, float *scratch);
    void (*dense_place_gradient)(float *dweights, float *dbias, const float *panel, int64_t k, int64_t n,
                                 int64_t part);
    void (*dense_backward)(float *dx, float *dw, float *dy, const float *x, const float *y,
                           const float *packed_back, int activation, int64_t rows, int64_t k,
                           int64_t n, float *scratch);
    void (*dense_unpack_gradient)(float *out, float *const *dw, int64_t slices, int64_t k,
                                  int64_t n, int64_t i);
    void (*dropout)(float *y, const float *x, int64_t begin, int64_t end, float rate, uint64_t seed);
    void (*embedding_forward)(float *out, const float *table, const int32_t *index, int64_t n,
                              int64_t width);
    void (*embedding_backward)(float *dtable, const float *dy, const int32_t *index, int64_t n,
                               int64_t width, int64_t part, int64_t parts);
    void (*bn_moments)(double *sum, double *squares, const float *x, const float *shift,
                       const uint8_t *mask, int64_t rows, int64_t n);
    void (*bn_forward)(float *y, const float *x, const float *scale, const float *offset,
                       int64_t rows, int64_t n);
    void (*bn_sums)(double *dgamma, double *dbeta, const float *dy, const float *x,
                    const float *mean, const float *inverse, int64_t rows, int64_t n);
    void (*bn_backward)(float *dx, const float *dy, const float *x, const float *mean,
                        const float *a, const float *b, const float *c, const uint8_t *mask,
                        int64_t rows, int64_t n);

    /* pointwise.inc.c, on [begin, end) or rows from `row` on */
    void (*update)(const fr_update *update, int64_t begin, int64_t end);
    double (*sum_of_squares)(const float *x, int64_t begin, int64_t end);
    void (*scale)(float *x, float factor, int64_t begin, int64_t end);
    void (*clip)(float *x, float bound, int64_t begin, int64_t end);
    void (*activate)(int activation, float *y, const float *x, int64_t begin, int64_t end);
    void (*activate_back)(int activation, float *dx, const float *dy, const float *y, int64_t begin,
                          int64_t end);
    void (*softmax)(float *y, int64_t columns, int64_t row, int64_t rows);
    double (*loss)(const fr_loss *loss, int64_t row, int64_t rows);
    int64_t (*binary_matches)(float *matches, const float *y_true, const float *y_pred,
                              float threshold, int64_t begin, int64_t end);
    int64_t (*class_matches)(float *matches, const float *y_true, const int64_t *labels,
                             const float *y_pred, int64_t columns, int64_t row, int64_t rows);

    /* crf.inc.c, on one row of the batch */
    double (*crf_loss)(const fr_crf *crf, const float *chain, int64_t width, double top, int64_t row,
                       float *dchain, float *scratch);
    void (*crf_path)(const fr_crf *crf, const float *chain, int64_t width, int64_t row, float *path,
                     float *scratch);
} kernel_table;

const kernel_table *fr_kernels(void); /* the table in use */

extern const kernel_table fr_kernels_base;
#if defined(__x86_64__)
extern const kernel_table fr_kernels_avx2, fr_kernels_avx512;
#endif

#endif
