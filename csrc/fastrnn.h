/* fastrnn: fused LSTM kernels and what else is hot in training a recurrent network, float32.
 *
 * Plain pointers and 64-bit sizes; the caller owns all memory. Strides are in floats and may be
 * negative (a layer that runs backwards in time starts at the last step). Every entry that can be
 * given wrong sizes returns a status. Nothing here allocates, prints or exits. */
#ifndef FASTRNN_H
#define FASTRNN_H

#include <stdint.h>

enum fr_status { FR_OK = 0, FR_BAD_SIZE = 1, FR_BAD_ARGUMENT = 2, FR_BAD_INDEX = 3 };

/* Activations that run inside the kernels: the derivative follows from the output alone. */
enum fr_activation {
    FR_LINEAR, FR_RELU, FR_SIGMOID, FR_TANH, FR_HARD_SIGMOID, FR_HARD_SIGMOID_KERAS2,
    FR_SOFTSIGN, FR_ELU, FR_SELU, FR_EXPONENTIAL, FR_ACTIVATIONS
};

/* --- instruction sets and threads ------------------------------------------------------------ */

const char *fr_isa(void);               /* the set in use: "base", "avx2" or "avx512" */
const char *fr_isa_name(int index);     /* those this CPU can run, best first; NULL after the last */
int fr_set_isa(const char *name);       /* FR_BAD_ARGUMENT if unknown or not on this CPU */
void fr_set_threads(int threads);       /* >= 1; a process made by fork() stays at one thread */
int fr_threads(void);
int fr_threads_for(double flops);       /* how many threads pay for this much work */

/* --- LSTM: one direction of one layer on one batch ------------------------------------------- */

typedef struct {
    int64_t batch, timesteps, features, units;
    int32_t activation, recurrent_activation; /* enum fr_activation */
    int32_t zero_output_for_mask;

    const float *packed;             /* from fr_lstm_pack */
    const float *x;                  /* (batch, timesteps, features) */
    int64_t x_row, x_time;
    const uint8_t *mask;             /* (batch, timesteps), 0 = carry the state over; or NULL */
    int64_t mask_row, mask_time;
    const float *h0, *c0;            /* (batch, units), or NULL for zeros */

    float *y;                        /* (batch, timesteps, units), or NULL */
    int64_t y_row, y_time;
    float *last;                     /* (batch, units) last output, or NULL */
    int64_t last_row;
    float *h_last, *c_last;          /* (batch, units) last state, or NULL */

    float *saved;                    /* fr_lstm_saved_size floats for the backward, or NULL */

    /* Backward only. dy follows y's shape and dh_last, dc_last the last states (h_last and last
     * are one there: the caller adds both gradients). dx is overwritten, or added to. */
    const float *packed_back;        /* from fr_lstm_pack_back */
    const float *dy;                 /* or NULL; zero at masked steps, see fr_mask_gradient */
    int64_t dy_row, dy_time;
    const float *dh_last, *dc_last;  /* (batch, units), or NULL for zeros */
    float *dx;                       /* (batch, timesteps, features), or NULL */
    int64_t dx_row, dx_time;
    int32_t dx_add;
    float *dkernel, *drecurrent, *dbias; /* (features, 4u), (units, 4u), (4u) or NULL; overwritten */
    float *dh0, *dc0;                /* (batch, units), or NULL */
} fr_lstm;

/* Gate order is Keras's: i, f, c, o. */
int64_t fr_lstm_packed_size(int64_t features, int64_t units);
int64_t fr_lstm_packed_back_size(int64_t features, int64_t units);
void fr_lstm_pack(float *packed, const float *kernel, const float *recurrent_kernel,
                  const float *bias, int64_t features, int64_t units);
/* kernel may be NULL where dx is not wanted, bias above where the layer has none. */
void fr_lstm_pack_back(float *packed, const float *kernel, const float *recurrent_kernel,
                       int64_t features, int64_t units);

/* The batch is cut into `slices`, each a thread's work through all time steps; forward and
 * backward of one batch must use the same number. `count` directions run side by side; they may
 * share dx only if dx_add is set in all but the first. */
int64_t fr_lstm_saved_size(const fr_lstm *lstm, int64_t slices);
int64_t fr_lstm_forward_scratch(const fr_lstm *lstm, int64_t slices);
int64_t fr_lstm_backward_scratch(const fr_lstm *lstm, int64_t slices);
int fr_lstm_forward(const fr_lstm *lstm, int count, int64_t slices, float *const *scratch);
int fr_lstm_backward(const fr_lstm *lstm, int count, int64_t slices, float *const *scratch);

/* Gradient of y -> of h where a mask repeats (or zeroes) outputs: moves each masked step's dy to
 * the last unmasked step before it. dh is (batch, timesteps, units), contiguous. */
int fr_mask_gradient(float *dh, const float *dy, const fr_lstm *lstm);

#endif
