/* Public entries of the layers around the recurrent ones: sizes checked, work cut into tasks. */
#include "engine.h"
#include "kernels.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

#define MAX_SLICES 64
#define BLOCKS 16 /* batch statistics are summed in this many blocks, whatever the threads */

static int64_t start(int64_t rows, int64_t slice, int64_t slices) { return rows * slice / slices; }

/* --- dense ----------------------------------------------------------------------------------- */

int64_t fr_dense_packed_size(int64_t k, int64_t n) { return fr_kernels()->dense_packed_size(k, n); }

WORK(dense_pack, float *packed; const float *weights, *bias; int64_t k, n; int transposed;) {
    fr_kernels()->dense_pack(w->packed, w->weights, w->bias, w->k, w->n, w->transposed, task);
}
void fr_dense_pack(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                   int transposed) {
    FOR_TASKS(fr_kernels()->dense_pack_parts(n), fr_threads_for(2.0 * (double)k * (double)n),
              dense_pack, packed, weights, bias, k, n, transposed);
}

#define MOST_IN_CACHE 131072 /* floats */
#define BLOCK (96 * 64)      /* floats of scratch for a block of rows: DENSE_BLOCK * 4V or more */
/* Rows of a dense layer between two looks whether to stop. Weights of many MB are read as seldom as
 * the rows stay in the second-level cache. */
static int64_t rows_watched(int64_t k, int64_t n) {
    const double row = 2.0 * (double)k * (double)n;
    if (row > 16 * MOST_IN_CACHE && k > 96 && k < 1024) return 3 * MOST_IN_CACHE / 4 / k;
    return row > 1e5 ? 96 : 96 * (int64_t)(1e5 / row);
}

/* Weights larger than a thread's cache are read by one thread each, not by all. */
static int share_columns(int64_t k, int64_t n, int64_t threads) {
    return fr_kernels()->dense_pack_parts(n) >= 8 * threads && (double)k * (double)n > MOST_IN_CACHE;
}

/* Slices of the rows, or with `across` of the parts, the panels of columns. */
WORK(dense_forward, float *y; const float *x, *packed; int activation;
     int64_t rows, k, n, parts, slices; int across; pass_watch *watch;) {
    const int64_t most = rows_watched(w->k, w->n), count = w->across ? w->parts : w->rows;
    const int64_t begin = start(count, task, w->slices), end = start(count, task + 1, w->slices);
    const int64_t last = w->across ? w->rows : end;
    for (int64_t row = w->across ? 0 : begin; row < last; row += most) {
        if (fr_watch(w->watch)) break;
        fr_kernels()->dense_forward(w->y + row * w->n, w->x + row * w->k, w->packed, w->activation,
                                    last - row < most ? last - row : most, w->k, w->n,
                                    w->across ? begin : 0, w->across ? end : w->parts);
    }
}

int fr_dense_forward(float *y, const float *x, const float *packed, int activation, int64_t rows,
                     int64_t k, int64_t n) {
    if (rows < 1 || k < 1 || n < 1) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS) return FR_BAD_ARGUMENT;
    int64_t slices = fr_threads_for(2.0 * (double)rows * (double)k * (double)n);
    const int64_t parts = fr_kernels()->dense_pack_parts(n);
    const int across = share_columns(k, n, slices);
    if (!across && slices > rows) slices = rows;
    pass_watch watch = fr_new_watch();
    FOR_TASKS(slices, (int)slices, dense_forward, y, x, packed, activation, rows, k, n, parts, slices,
              across, &watch);
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}

/* Where a thread has columns of its own, no sums of whole gradients are to be cleared and added, but
 * each panel reads all rows. Two threads of an AVX2 EPYC, gradient of the weights: 20 rows x 512 x 8000
 * x 3.3, 64 x 1024 x 4096 2.1, 320 x 1024 x 4096 1.28, 1280 x 512 x 8000 1.1, 4096 x 300 x 2000 0.8. */
static int gradient_by_columns(int64_t rows, int64_t k, int64_t n, int64_t slices) {
    return rows <= 1536 && share_columns(k, n, slices);
}

int64_t fr_dense_slices(int64_t rows, int64_t k, int64_t n) {
    int64_t slices = fr_threads_for(4.0 * (double)rows * (double)k * (double)n);
    slices = slices > MAX_SLICES ? MAX_SLICES : slices;
    return slices > rows && !gradient_by_columns(rows, k, n, slices) ? rows : slices;
}

static int64_t dense_slice_scratch(int64_t rows, int64_t k, int64_t n, int64_t slices) {
    const int by_columns = gradient_by_columns(rows, k, n, slices);
    return (by_columns ? (1 + k) * 64 : fr_dense_packed_size(k, n)) + BLOCK;
}
int64_t fr_dense_scratch(int64_t rows, int64_t k, int64_t n, int64_t slices) {
    return slices * dense_slice_scratch(rows, k, n, slices);
}

typedef struct {
    float *dx, *dy;
    const float *x, *y, *packed_back;
    int activation;
    int64_t rows, k, n, slices;
} dense_pass;
WORK(dense_backward, dense_pass d; float **dw; int64_t size; pass_watch *watch;) {
    const dense_pass *d = &w->d;
    const int64_t most = rows_watched(d->k, d->n), end = start(d->rows, task + 1, d->slices);
    memset(w->dw[task], 0, (size_t)w->size * sizeof(float));
    for (int64_t row = start(d->rows, task, d->slices); row < end; row += most) {
        if (fr_watch(w->watch)) break;
        fr_kernels()->dense_backward(d->dx ? d->dx + row * d->k : NULL, w->dw[task],
                                     d->dy + row * d->n, d->x + row * d->k, d->y + row * d->n,
                                     d->packed_back, d->activation,
                                     end - row < most ? end - row : most, d->k, d->n,
                                     w->dw[task] + w->size);
    }
}
/* Slices of the parts. */
WORK(dense_gradient, dense_pass d; float *dweights, *dbias, *scratch; int64_t parts, size;
     pass_watch *watch;) {
    const dense_pass *d = &w->d;
    const int64_t most = rows_watched(d->k, d->n), end = start(w->parts, task + 1, d->slices);
    float *panel = w->scratch + task * w->size, *block = panel + w->size - BLOCK;
    for (int64_t part = start(w->parts, task, d->slices); part < end; part++) {
        for (int64_t row = 0; row < d->rows && !fr_watch(w->watch); row += most)
            fr_kernels()->dense_add_gradient(panel, d->dy + row * d->n, d->x + row * d->k,
                                             d->rows - row < most ? d->rows - row : most, d->k, d->n,
                                             part, row == 0, block);
        if (is_stopped(w->watch)) break;
        fr_kernels()->dense_place_gradient(w->dweights, w->dbias, panel, d->k, d->n, part);
    }
}
WORK(dense_slope, dense_pass d; int64_t slices;) {
    const int64_t n = w->d.rows * w->d.n, from = start(n, task, w->slices);
    fr_kernels()->dense_slope(w->d.dy + from, w->d.y + from, w->d.activation,
                              start(n, task + 1, w->slices) - from);
}
static int backward_by_columns(const dense_pass *d, float *dweights, float *dbias, float *scratch) {
    const int64_t slices = fr_threads_for(20.0 * (double)d->rows * (double)d->n);
    if (d->activation != FR_LINEAR) FOR_TASKS(slices, (int)slices, dense_slope, *d, slices);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(d->slices, (int)d->slices, dense_gradient, *d, dweights, dbias, scratch,
              fr_kernels()->dense_pack_parts(d->n),
              dense_slice_scratch(d->rows, d->k, d->n, d->slices), &watch);
    if (is_stopped(&watch)) return FR_INTERRUPTED;
    return d->dx ? fr_dense_forward(d->dx, d->dy, d->packed_back, FR_LINEAR, d->rows, d->n, d->k) : FR_OK;
}

WORK(dense_unpack, float *dweights, *dbias; float **dw; int64_t slices, k, n;) {
    float *out = task == 0 ? w->dbias : w->dweights + (task - 1) * w->n;
    if (out) fr_kernels()->dense_unpack_gradient(out, w->dw, w->slices, w->k, w->n, task);
}

int fr_dense_backward(float *dx, float *dweights, float *dbias, float *dy, const float *x,
                      const float *y, const float *packed_back, int activation, int64_t rows,
                      int64_t k, int64_t n, int64_t slices, float *scratch) {
    if (rows < 1 || k < 1 || n < 1 || slices < 1 || slices > MAX_SLICES) return FR_BAD_SIZE;
    const int by_columns = gradient_by_columns(rows, k, n, slices);
    if (slices > rows && !by_columns) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS || (dx && !packed_back)) return FR_BAD_ARGUMENT;
    const dense_pass pass = {dx, dy, x, y, packed_back, activation, rows, k, n, slices};
    if (by_columns) return backward_by_columns(&pass, dweights, dbias, scratch);
    const int64_t size = fr_dense_packed_size(k, n);
    float *dw[MAX_SLICES];
    for (int64_t s = 0; s < slices; s++) dw[s] = scratch + s * dense_slice_scratch(rows, k, n, slices);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(slices, (int)slices, dense_backward, pass, dw, size, &watch);
    if (is_stopped(&watch)) return FR_INTERRUPTED;
    FOR_TASKS(1 + k, fr_threads_for(2.0 * (double)slices * (double)k * (double)n), dense_unpack,
              dweights, dbias, dw, slices, k, n);
    return FR_OK;
}

/* --- dropout --------------------------------------------------------------------------------- */

WORK(dropout, float *y; const float *x; int64_t n, slices; float rate; uint64_t seed;) {
    fr_kernels()->dropout(w->y, w->x, start(w->n, task, w->slices), start(w->n, task + 1, w->slices),
                          w->rate, w->seed);
}
int fr_dropout(float *y, const float *x, int64_t n, float rate, uint64_t seed) {
    if (!(rate >= 0.0f && rate < 1.0f)) return FR_BAD_ARGUMENT;
    const int64_t slices = fr_threads_for(4.0 * (double)n);
    FOR_TASKS(slices, (int)slices, dropout, y, x, n, slices, rate, seed);
    return FR_OK;
}

/* --- embedding ------------------------------------------------------------------------------- */

int64_t fr_bad_index(const int32_t *index, int64_t n, int64_t size) {
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= size) return i;
    return -1;
}

int64_t fr_distinct(int32_t *values, int32_t *places, const int32_t *index, int64_t n, int64_t size,
                    int32_t *scratch) {
    int64_t count = 0;
    memset(scratch, 0xff, (size_t)size * sizeof(int32_t));
    for (int64_t i = 0; i < n; i++) {
        int32_t *place = scratch + index[i];
        if (*place < 0) {
            *place = (int32_t)count;
            values[count++] = index[i];
        }
        places[i] = *place;
    }
    return count;
}

static int64_t hot(const float *x, int64_t features) {
    int64_t place = features;
    for (int64_t from = 0; from < features; from += 16) {
        uint32_t bits[16] = {0}, any = 0;
        memcpy(bits, x + from, (size_t)(features - from < 16 ? features - from : 16) * sizeof(float));
        for (int i = 0; i < 16; i++) any |= bits[i];
        for (int i = 0; any && i < 16; i++) {
            if (!bits[i]) continue;
            if (bits[i] != 0x3f800000 || place < features) return -1; /* 1.0f */
            place = from + i;
        }
    }
    return place;
}
WORK(one_hot, int32_t *index; const float *x; int64_t rows, features, slices; atomic_int *other;) {
    const int64_t end = start(w->rows, task + 1, w->slices);
    for (int64_t row = start(w->rows, task, w->slices); row < end && !*w->other; row++) {
        const int64_t place = hot(w->x + row * w->features, w->features);
        w->index[row] = (int32_t)place;
        if (place < 0) *w->other = 1;
    }
}
int fr_one_hot(int32_t *index, const float *x, int64_t rows, int64_t features) {
    if (rows < 1 || hot(x, features) < 0) return 0;
    const int64_t slices = fr_threads_for((double)rows * (double)features);
    atomic_int other = 0;
    FOR_TASKS(slices, (int)slices, one_hot, index, x, rows, features, slices, &other);
    return !other;
}

WORK(embedding_forward, float *out; const float *table; const int32_t *index; int64_t n, width, slices;) {
    const int64_t row = start(w->n, task, w->slices);
    fr_kernels()->embedding_forward(w->out + row * w->width, w->table, w->index + row,
                                    start(w->n, task + 1, w->slices) - row, w->width);
}
int fr_embedding_forward(float *out, const float *table, const int32_t *index, int64_t n,
                         int64_t size, int64_t width) {
    if (fr_bad_index(index, n, size) >= 0) return FR_BAD_INDEX;
    const int64_t slices = fr_threads_for((double)n * (double)width);
    FOR_TASKS(slices, (int)slices, embedding_forward, out, table, index, n, width, slices);
    return FR_OK;
}

WORK(zeros, float *out; int64_t rows, width, slices;) {
    const int64_t row = start(w->rows, task, w->slices);
    memset(w->out + row * w->width, 0,
           (size_t)((start(w->rows, task + 1, w->slices) - row) * w->width) * sizeof(float));
}
WORK(embedding_backward, float *dtable; const float *dy; const int32_t *index;
     int64_t n, width, slices;) {
    fr_kernels()->embedding_backward(w->dtable, w->dy, w->index, w->n, w->width, task, w->slices);
}
int fr_embedding_backward(float *dtable, const float *dy, const int32_t *index, int64_t n,
                          int64_t size, int64_t width) {
    if (fr_bad_index(index, n, size) >= 0) return FR_BAD_INDEX;
    const int64_t slices = fr_threads_for((double)(n + size) * (double)width);
    FOR_TASKS(slices, (int)slices, zeros, dtable, size, width, slices);
    FOR_TASKS(slices, (int)slices, embedding_backward, dtable, dy, index, n, width, slices);
    return FR_OK;
}

/* --- batch normalisation ----------------------------------------------------------------------- */

static double sum_blocks(const double *blocks, int64_t stride, int64_t j) {
    double total = 0;
    for (int b = 0; b < BLOCKS; b++) total += blocks[b * stride + j];
    return total;
}

int64_t fr_batch_norm_scratch(int64_t n) { return (2 * BLOCKS + 2) * n; }

WORK(bn_moments, double *scratch; const float *x, *shift; const uint8_t *mask; int64_t rows, n;) {
    const int64_t row = start(w->rows, task, BLOCKS), n = w->n;
    fr_kernels()->bn_moments(w->scratch + 2 * task * n, w->scratch + (2 * task + 1) * n, w->x + row * n,
                             w->shift, w->mask ? w->mask + row : NULL,
                             start(w->rows, task + 1, BLOCKS) - row, n);
}
int fr_batch_norm_moments(float *mean, float *variance, const float *x, const uint8_t *mask,
                          int64_t rows, int64_t n, double *scratch) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    int64_t used = rows;
    if (mask) {
        used = 0;
        for (int64_t r = 0; r < rows; r++) used += mask[r] != 0;
    }
    float *shift = (float *)(scratch + 2 * BLOCKS * n); /* the first row: keeps the sums small */
    memcpy(shift, x, (size_t)n * sizeof(float));
    memset(scratch, 0, (size_t)(2 * BLOCKS * n) * sizeof(double));
    FOR_TASKS(BLOCKS, fr_threads_for(6.0 * (double)rows * (double)n), bn_moments, scratch, x, shift,
              mask, rows, n);
    for (int64_t j = 0; j < n; j++) {
        const double m = sum_blocks(scratch, 2 * n, j) / (used ? (double)used : 1.0);
        const double s = sum_blocks(scratch + n, 2 * n, j) / (used ? (double)used : 1.0);
        mean[j] = used ? (float)(shift[j] + m) : 0.0f;
        variance[j] = s - m * m < 0 ? 0.0f : (float)(s - m * m);
    }
    return FR_OK;
}

WORK(bn_forward, float *y; const float *x, *scale, *offset; int64_t rows, n, slices;) {
    const int64_t row = start(w->rows, task, w->slices);
    fr_kernels()->bn_forward(w->y + row * w->n, w->x + row * w->n, w->scale, w->offset,
                             start(w->rows, task + 1, w->slices) - row, w->n);
}
int fr_batch_norm_forward(float *y, const float *x, const float *scale, const float *offset,
                          int64_t rows, int64_t n) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    const int64_t slices = fr_threads_for(2.0 * (double)rows * (double)n);
    FOR_TASKS(slices, (int)slices, bn_forward, y, x, scale, offset, rows, n, slices);
    return FR_OK;
}

WORK(bn_sums, double *scratch; const float *dy, *x, *mean, *inverse; int64_t rows, n;) {
    const int64_t row = start(w->rows, task, BLOCKS), n = w->n;
    fr_kernels()->bn_sums(w->scratch + 2 * task * n, w->scratch + (2 * task + 1) * n, w->dy + row * n,
                          w->x + row * n, w->mean, w->inverse, start(w->rows, task + 1, BLOCKS) - row,
                          n);
}
WORK(bn_backward, float *dx; const float *dy, *x, *mean, *a, *b, *c; const uint8_t *mask;
     int64_t rows, n, slices;) {
    const int64_t row = start(w->rows, task, w->slices), n = w->n;
    fr_kernels()->bn_backward(w->dx + row * n, w->dy + row * n, w->x + row * n, w->mean, w->a, w->b,
                              w->c, w->mask ? w->mask + row : NULL,
                              start(w->rows, task + 1, w->slices) - row, n);
}
int fr_batch_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                           const float *mean, const float *inverse, const float *gamma,
                           const uint8_t *mask, int64_t rows, int64_t n, double *scratch) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    const int threads = fr_threads_for(8.0 * (double)rows * (double)n);
    int64_t used = rows;
    if (mask) {
        used = 0;
        for (int64_t r = 0; r < rows; r++) used += mask[r] != 0;
    }
    memset(scratch, 0, (size_t)(2 * BLOCKS * n) * sizeof(double));
    FOR_TASKS(BLOCKS, threads, bn_sums, scratch, dy, x, mean, inverse, rows, n);
    float *a = (float *)(scratch + 2 * BLOCKS * n), *b = a + n, *c = b + n;
    const double share = used ? 1.0 / (double)used : 0.0;
    for (int64_t j = 0; j < n; j++) {
        const double g = sum_blocks(scratch, 2 * n, j), d = sum_blocks(scratch + n, 2 * n, j);
        if (dgamma) dgamma[j] = (float)g;
        if (dbeta) dbeta[j] = (float)d;
        a[j] = (gamma ? gamma[j] : 1.0f) * inverse[j];
        b[j] = (float)(a[j] * d * share);
        c[j] = (float)(a[j] * g * share * inverse[j]);
    }
    if (!dx) return FR_OK;
    FOR_TASKS(threads, threads, bn_backward, dx, dy, x, mean, a, b, c, mask, rows, n, threads);
    return FR_OK;
}
