/* The engine: fused recurrent kernels and what else is hot in training a recurrent network, float32.
 *
 * Plain pointers and 64-bit sizes; the caller owns all memory. Strides are in floats and may be
 * negative (a layer that runs backwards in time starts at the last step). Every entry that can be
 * given wrong sizes returns a status. Nothing here allocates, prints or exits. */
#ifndef FASTRNN_ENGINE_H
#define FASTRNN_ENGINE_H

#include <stdint.h>

enum fr_status { FR_OK = 0, FR_BAD_SIZE = 1, FR_BAD_ARGUMENT = 2, FR_BAD_INDEX = 3, FR_INTERRUPTED = 4 };

/* Activations that run inside the kernels: the derivative follows from the output alone. */
enum fr_activation {
    FR_LINEAR, FR_RELU, FR_SIGMOID, FR_TANH, FR_HARD_SIGMOID, FR_HARD_SIGMOID_KERAS2,
    FR_SOFTSIGN, FR_ELU, FR_SELU, FR_EXPONENTIAL, FR_ACTIVATIONS
};

/* --- instruction sets and threads ------------------------------------------------------------ */

const char *fr_isa(void);               /* the set in use: "base", "avx2" or "avx512" */
const char *fr_isa_name(int index);     /* those this CPU can run, best first; NULL after the last */
int fr_set_isa(const char *name);       /* FR_BAD_ARGUMENT if unknown or not on this CPU */
void fr_set_threads(int threads);       /* >= 1 */
void fr_set_threads_within_cpus(int threads); /* at most, and no more than the caller's affinity */
int fr_threads(void);
int fr_threads_for(double flops);       /* how many threads pay for this much work */
void fr_use_large_pages(void *memory, int64_t bytes); /* where the system has them, from 4 MB on */

/* What a long pass of a recurrent or dense layer calls now and then, at most 20 times a second and
 * only on the thread that called; it ends with FR_INTERRUPTED if the answer is not 0. */
void fr_set_interrupt(int (*asked)(void));

/* --- recurrent layers: one direction of one layer on one batch -------------------------------- */

/* Gates in Keras's order, side by side in kernel (features, gates units), recurrent_kernel (units,
 * gates units) and bias (gates units); FR_GRU's bias is (2, 3 units), of x and of h. */
enum fr_cell {
    FR_LSTM,       /* i, f, c, o */
    FR_GRU,        /* z, r, h: the reset gate after the product with recurrent_kernel */
    FR_SIMPLE_RNN, /* one */
    FR_GRU_RESET_BEFORE, /* z, r, h: the reset gate multiplies h before that product */
    FR_CELLS
};

typedef struct {
    int32_t cell;                    /* enum fr_cell; only LSTM has c */
    int64_t batch, timesteps, features, units;
    int32_t activation, recurrent_activation; /* enum fr_activation */
    int32_t zero_output_for_mask;

    const float *packed;             /* from fr_rnn_pack */
    const float *x;                  /* (batch, timesteps, features) */
    int64_t x_row, x_time;
    /* Where the steps pick from a few vectors: which of `choices` rows of x, then (choices, features),
     * each step has. Then so is dx; and x W is taken once for each row, by fr_rnn_multiply. */
    const int32_t *index;            /* (batch, timesteps), or NULL */
    int64_t index_row, index_time, choices;
    float *products;                 /* fr_rnn_products_size floats; the backward overwrites them */
    const uint8_t *mask;             /* (batch, timesteps), 0 = carry the state over; or NULL */
    int64_t mask_row, mask_time;
    const float *h0, *c0;            /* (batch, units), or NULL for zeros */

    float *y;                        /* (batch, timesteps, units), or NULL */
    int64_t y_row, y_time;
    float *last;                     /* (batch, units) last output, or NULL */
    int64_t last_row;
    float *h_last, *c_last;          /* (batch, units) last state, or NULL */

    float *saved;                    /* fr_rnn_saved_size floats for the backward, or NULL */

    /* Backward only. dy follows y's shape and dh_last, dc_last the last states (h_last and last
     * are one there: the caller adds both gradients). dx is overwritten, or added to. */
    const float *packed_back;        /* from fr_rnn_pack_back, or NULL: see fr_rnn_needs_back */
    const float *dy;                 /* or NULL */
    int64_t dy_row, dy_time;
    const float *dh_last, *dc_last;  /* (batch, units), or NULL for zeros */
    float *dx;                       /* (batch, timesteps, features), or NULL */
    int64_t dx_row, dx_time;
    int32_t dx_add;
    float *dkernel, *drecurrent, *dbias; /* as the weights, or dbias NULL; overwritten */
    float *dh0, *dc0;                /* (batch, units), or NULL */
} fr_rnn;

int64_t fr_rnn_packed_size(int cell, int64_t features, int64_t units);
int64_t fr_rnn_packed_back_size(int cell, int64_t features, int64_t units);
void fr_rnn_pack(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                 const float *bias, int64_t features, int64_t units);
/* kernel may be NULL where dx is not wanted, bias above where the layer has none. */
void fr_rnn_pack_back(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                      int64_t features, int64_t units);

/* How the work of one direction is split: the batch into `slices`, each a thread's work through
 * all time steps; or one slice's units into `parts`, whose threads meet at every step. Forward and
 * backward of one batch must use the same split. `count` (1 or 2) directions run side by side;
 * two may share dx if the second sets dx_add, and then run one after the other. */
typedef struct {
    int64_t slices;
    int parts;
} fr_rnn_split;

fr_rnn_split fr_rnn_best_split(const fr_rnn *rnn, int count);
int64_t fr_rnn_products_size(int cell, int64_t choices, int64_t features, int64_t units);
int fr_rnn_multiply(const fr_rnn *rnn); /* products = bias + x W, before a forward with index */
int64_t fr_rnn_saved_size(const fr_rnn *rnn, fr_rnn_split split);
int64_t fr_rnn_forward_scratch(const fr_rnn *rnn, fr_rnn_split split); /* 0 if saved is set */
int64_t fr_rnn_backward_scratch(const fr_rnn *rnn, fr_rnn_split split);
int fr_rnn_forward(const fr_rnn *rnn, int count, fr_rnn_split split, float *const *scratch);
/* For a few rows and steps packing for the backward takes longer than doing without. */
int fr_rnn_needs_back(const fr_rnn *rnn);
int fr_rnn_backward(const fr_rnn *rnn, int count, fr_rnn_split split, float *const *scratch);

/* --- layers around the recurrent ones ------------------------------------------------------------------- */

/* Dense: y (rows, n) = act(x (rows, k) W (k, n) + bias). pack: weights (k, n), or (n, k) if
 * transposed, which is the form for dx: fr_dense_pack(back, W, NULL, n, k, 1). */
int64_t fr_dense_packed_size(int64_t k, int64_t n);
void fr_dense_pack(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                   int transposed);
int fr_dense_forward(float *y, const float *x, const float *packed, int activation, int64_t rows,
                     int64_t k, int64_t n);
/* dy becomes dz in place; dweights (k, n), dbias (n) or NULL and dx (rows, k) or NULL are
 * overwritten. */
int64_t fr_dense_slices(int64_t rows, int64_t k, int64_t n);
int64_t fr_dense_scratch(int64_t rows, int64_t k, int64_t n, int64_t slices);
int fr_dense_backward(float *dx, float *dweights, float *dbias, float *dy, const float *x,
                      const float *y, const float *packed_back, int activation, int64_t rows,
                      int64_t k, int64_t n, int64_t slices, float *scratch);

/* y = x / (1 - rate) where kept, else 0; what is kept depends on seed and place alone, so that the
 * same call takes dy to dx. y may be x. */
int fr_dropout(float *y, const float *x, int64_t n, float rate, uint64_t seed);

/* Embedding: index (n) with values in [0, size), table (size, width). dtable is overwritten. */
int64_t fr_bad_index(const int32_t *index, int64_t n, int64_t size); /* first bad place, or -1 */
/* How many different values there are; these in the order in which they come, and for each index
 * the place of its value among them. scratch: size. */
int64_t fr_distinct(int32_t *values, int32_t *places, const int32_t *index, int64_t n, int64_t size,
                    int32_t *scratch);
/* index (rows): where the one 1 of each row of x (rows, features) is, or features for a row of zeros.
 * Returns whether all rows are so. */
int fr_one_hot(int32_t *index, const float *x, int64_t rows, int64_t features);
int fr_embedding_forward(float *out, const float *table, const int32_t *index, int64_t n,
                         int64_t size, int64_t width);
int fr_embedding_backward(float *dtable, const float *dy, const int32_t *index, int64_t n,
                          int64_t size, int64_t width);

/* Batch normalisation of x (rows, n) over the rows whose mask (rows) is set, or all. */
int64_t fr_batch_norm_scratch(int64_t n); /* doubles */
int fr_batch_norm_moments(float *mean, float *variance, const float *x, const uint8_t *mask,
                          int64_t rows, int64_t n, double *scratch);
int fr_batch_norm_forward(float *y, const float *x, const float *scale, const float *offset,
                          int64_t rows, int64_t n); /* y = x scale + offset */
/* inverse: 1 / sqrt(variance + epsilon); gamma, dgamma, dbeta, dx may be NULL. */
int fr_batch_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                           const float *mean, const float *inverse, const float *gamma,
                           const uint8_t *mask, int64_t rows, int64_t n, double *scratch);

/* --- training on flat arrays ----------------------------------------------------------------- */

enum fr_rule { FR_SGD, FR_RMSPROP, FR_ADAM, FR_ADAMAX, FR_ADAGRAD, FR_ADADELTA, FR_RULES };

/* One step of an optimizer. A mean takes in what is new by x += (new - x) * share.
 *   SGD       slots [momentum]                      w -= rate * g
 *   RMSprop   square, [momentum], [mean gradient]   w -= rate * g / sqrt(square + epsilon)
 *   Adam      mean, square, [largest square]
 *             w -= rate * (mean_factor * mean + gradient_factor * g)
 *                  / (sqrt(square_factor * square) + epsilon); AdamW, Nadam by the factors
 *   Adamax    mean, norm (falls by `momentum`)      w -= rate * mean / (norm + epsilon)
 *   Adagrad   sum of squares                        w -= rate * g / sqrt(sum + epsilon)
 *   Adadelta  square of g, square of change         w -= rate * g * sqrt(change + epsilon) / ...
 * A slot in brackets may be NULL: the step is then made without it. */
typedef struct {
    int32_t rule;                        /* enum fr_rule */
    int32_t nesterov;                    /* SGD with momentum */
    float decay;                         /* w -= decay * w before everything else */
    float rate, momentum, epsilon;
    float new_gradient, new_square;      /* share of the new: 1 - beta_1, 1 - beta_2 (or 1 - rho) */
    float mean_factor, gradient_factor, square_factor;
    float *values;
    const float *gradients;
    float *slots[3];
} fr_update;

int fr_update_values(const fr_update *update, int64_t begin, int64_t end);

double fr_sum_of_squares(const float *x, int64_t n);
void fr_scale(float *x, float factor, int64_t n);
void fr_clip(float *x, float bound, int64_t n); /* to [-bound, bound]; NaN stays */

int fr_activate(float *y, const float *x, int64_t n, int activation); /* y may be x */
int fr_activate_back(float *dx, const float *dy, const float *y, int64_t n, int activation);
int fr_softmax(float *y, int64_t rows, int64_t columns); /* in place, row by row */

enum fr_loss_kind {
    FR_SIGMOID_CROSSENTROPY, FR_SOFTMAX_CROSSENTROPY, FR_SQUARED_ERROR, FR_ABSOLUTE_ERROR, FR_LOSSES
};

/* Targets t count as target_scale * t + target_offset. A loss is computed for each row by softmax,
 * for each element otherwise. The first two kinds take logits. */
typedef struct {
    int32_t kind;                        /* enum fr_loss_kind */
    int64_t rows, columns;
    const float *z;                      /* (rows, columns) */
    const float *targets;                /* (rows, columns), or NULL where there are labels */
    const int64_t *labels;               /* (rows) classes in [0, columns): softmax only */
    const float *weights;                /* (rows), or NULL for ones */
    float target_scale, target_offset;
    float scale;                         /* of the gradient only */
    float *y;                            /* (rows, columns) sigmoid or softmax of z, or z */
    float *dz;                           /* (rows, columns) gradient of scale * weight * loss */
} fr_loss;

/* value: sum of weight * loss, not scaled. dz may be NULL, or z itself; y may be NULL but for
 * softmax. A label outside its range gives FR_BAD_INDEX, with nothing written. */
int fr_loss_value(double *value, const fr_loss *loss);

/* How many of n predictions are right: y_true == (y_pred > threshold). matches (n) becomes 1 where
 * they are, or is NULL. */
int64_t fr_binary_matches(float *matches, const float *y_true, const float *y_pred,
                          float threshold, int64_t n);
/* The same for rows of y_pred (rows, columns), the place of the first maximum against labels (rows)
 * or, where those are NULL, against that of y_true (rows, columns). */
int64_t fr_class_matches(float *matches, const float *y_true, const int64_t *labels,
                         const float *y_pred, int64_t rows, int64_t columns);

/* --- linear-chain conditional random fields -------------------------------------------------- */

/* The score of a path of tags is the sum of its scores in each step, of chain from each to the next,
 * and of first and last. Steps whose mask is 0 take no part: those around them are neighbours. */
typedef struct {
    int64_t batch, timesteps, tags;
    const float *scores;                 /* (batch, timesteps, tags) */
    const float *chain;                  /* (tags, tags): from the row's tag to the column's */
    const float *first, *last;           /* (tags) */
    const uint8_t *mask;                 /* (batch, timesteps), or NULL for ones */
    const int64_t *labels;               /* (batch, timesteps) in [0, tags) where the mask is 1 */
    const float *weights;                /* (batch) of the gradients, or NULL for ones */
    double *losses;                      /* (batch), not weighted */
    float *dscores;                      /* as scores; or NULL, then so may be the others */
    float *dchain, *dfirst, *dlast;      /* as chain, first and last */
} fr_crf;

/* losses: negative log-likelihoods of the labels, 0 for a row without steps. Without labels the logs
 * of the sums over all paths, and dscores the probability of each tag in each step. A label outside its
 * range gives FR_BAD_INDEX, with nothing written. */
int64_t fr_crf_scratch(const fr_crf *crf);
int fr_crf_loss(const fr_crf *crf, float *scratch);
/* path (batch, timesteps, tags): 1 on the path with the highest score, else 0; the first tag where the
 * mask is 0. */
int fr_crf_path(const fr_crf *crf, float *path, float *scratch);

#endif
