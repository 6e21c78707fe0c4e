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

void fr_dense_pack(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                   int transposed) {
    const kernel_table *kernels = fr_kernels();
    FOR_TASKS(part, kernels->dense_pack_parts(n), fr_threads_for(2.0 * (double)k * (double)n),
              kernels->dense_pack(packed, weights, bias, k, n, transposed, part));
}

/* Rows of a dense layer between two looks whether to stop. */
static int64_t rows_watched(int64_t k, int64_t n) {
    const double row = 2.0 * (double)k * (double)n;
    return row > 1e5 ? 96 : 96 * (int64_t)(1e5 / row);
}

int fr_dense_forward(float *y, const float *x, const float *packed, int activation, int64_t rows,
                     int64_t k, int64_t n) {
    if (rows < 1 || k < 1 || n < 1) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS) return FR_BAD_ARGUMENT;
    const kernel_table *kernels = fr_kernels();
    int64_t slices = fr_threads_for(2.0 * (double)rows * (double)k * (double)n);
    if (slices > rows) slices = rows;
    const int64_t most = rows_watched(k, n);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(s, slices, (int)slices, {
        const int64_t end = start(rows, s + 1, slices);
        for (int64_t row = start(rows, s, slices); row < end; row += most) {
            if (fr_watch(&watch)) break;
            kernels->dense_forward(y + row * n, x + row * k, packed, activation,
                                   end - row < most ? end - row : most, k, n);
        }
    });
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}

int64_t fr_dense_slices(int64_t rows, int64_t k, int64_t n) {
    int64_t slices = fr_threads_for(4.0 * (double)rows * (double)k * (double)n);
    slices = slices > MAX_SLICES ? MAX_SLICES : slices;
    return slices > rows ? rows : slices;
}

static int64_t dense_slice_scratch(int64_t k, int64_t n) {
    return fr_dense_packed_size(k, n) + 96 * 64;
}
int64_t fr_dense_scratch(int64_t k, int64_t n, int64_t slices) {
    return slices * dense_slice_scratch(k, n);
}

int fr_dense_backward(float *dx, float *dweights, float *dbias, float *dy, const float *x,
                      const float *y, const float *packed_back, int activation, int64_t rows,
                      int64_t k, int64_t n, int64_t slices, float *scratch) {
    if (rows < 1 || k < 1 || n < 1 || slices < 1 || slices > MAX_SLICES || slices > rows)
        return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS || (dx && !packed_back)) return FR_BAD_ARGUMENT;
    const kernel_table *kernels = fr_kernels();
    const int64_t size = fr_dense_packed_size(k, n);
    float *dw[MAX_SLICES];
    for (int64_t s = 0; s < slices; s++) dw[s] = scratch + s * dense_slice_scratch(k, n);
    const int64_t most = rows_watched(k, n);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(s, slices, (int)slices, {
        const int64_t end = start(rows, s + 1, slices);
        memset(dw[s], 0, (size_t)size * sizeof(float));
        for (int64_t row = start(rows, s, slices); row < end; row += most) {
            if (fr_watch(&watch)) break;
            kernels->dense_backward(dx ? dx + row * k : NULL, dw[s], dy + row * n, x + row * k,
                                    y + row * n, packed_back, activation,
                                    end - row < most ? end - row : most, k, n, dw[s] + size);
        }
    });
    if (is_stopped(&watch)) return FR_INTERRUPTED;
    FOR_TASKS(i, 1 + k, fr_threads_for(2.0 * (double)slices * (double)k * (double)n), {
        float *out = i == 0 ? dbias : dweights + (i - 1) * n;
        if (out) kernels->dense_unpack_gradient(out, dw, slices, k, n, i);
    });
    return FR_OK;
}

/* --- dropout --------------------------------------------------------------------------------- */

int fr_dropout(float *y, const float *x, int64_t n, float rate, uint64_t seed) {
    if (!(rate >= 0.0f && rate < 1.0f)) return FR_BAD_ARGUMENT;
    const kernel_table *kernels = fr_kernels();
    const int64_t slices = fr_threads_for(4.0 * (double)n);
    FOR_TASKS(s, slices, (int)slices,
              kernels->dropout(y, x, start(n, s, slices), start(n, s + 1, slices), rate, seed));
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

int fr_embedding_forward(float *out, const float *table, const int32_t *index, int64_t n,
                         int64_t size, int64_t width) {
    if (fr_bad_index(index, n, size) >= 0) return FR_BAD_INDEX;
    const kernel_table *kernels = fr_kernels();
    const int64_t slices = fr_threads_for((double)n * (double)width);
    FOR_TASKS(s, slices, (int)slices, {
        const int64_t row = start(n, s, slices);
        kernels->embedding_forward(out + row * width, table, index + row,
                                   start(n, s + 1, slices) - row, width);
    });
    return FR_OK;
}

int fr_embedding_backward(float *dtable, const float *dy, const int32_t *index, int64_t n,
                          int64_t size, int64_t width) {
    if (fr_bad_index(index, n, size) >= 0) return FR_BAD_INDEX;
    const kernel_table *kernels = fr_kernels();
    const int64_t slices = fr_threads_for((double)(n + size) * (double)width);
    FOR_TASKS(s, slices, (int)slices, {
        const int64_t row = start(size, s, slices);
        memset(dtable + row * width, 0,
               (size_t)((start(size, s + 1, slices) - row) * width) * sizeof(float));
    });
    FOR_TASKS(s, slices, (int)slices,
              kernels->embedding_backward(dtable, dy, index, n, width, s, slices));
    return FR_OK;
}

/* --- batch normalisation ----------------------------------------------------------------------- */

static double sum_blocks(const double *blocks, int64_t stride, int64_t j) {
    double total = 0;
    for (int b = 0; b < BLOCKS; b++) total += blocks[b * stride + j];
    return total;
}

int64_t fr_batch_norm_scratch(int64_t n) { return (2 * BLOCKS + 2) * n; }

int fr_batch_norm_moments(float *mean, float *variance, const float *x, const uint8_t *mask,
                          int64_t rows, int64_t n, double *scratch) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    const kernel_table *kernels = fr_kernels();
    int64_t used = rows;
    if (mask) {
        used = 0;
        for (int64_t r = 0; r < rows; r++) used += mask[r] != 0;
    }
    float *shift = (float *)(scratch + 2 * BLOCKS * n); /* the first row: keeps the sums small */
    memcpy(shift, x, (size_t)n * sizeof(float));
    memset(scratch, 0, (size_t)(2 * BLOCKS * n) * sizeof(double));
    FOR_TASKS(b, BLOCKS, fr_threads_for(6.0 * (double)rows * (double)n), {
        const int64_t row = start(rows, b, BLOCKS);
        kernels->bn_moments(scratch + 2 * b * n, scratch + (2 * b + 1) * n, x + row * n, shift,
                            mask ? mask + row : NULL, start(rows, b + 1, BLOCKS) - row, n);
    });
    for (int64_t j = 0; j < n; j++) {
        const double m = sum_blocks(scratch, 2 * n, j) / (used ? (double)used : 1.0);
        const double s = sum_blocks(scratch + n, 2 * n, j) / (used ? (double)used : 1.0);
        mean[j] = used ? (float)(shift[j] + m) : 0.0f;
        variance[j] = s - m * m < 0 ? 0.0f : (float)(s - m * m);
    }
    return FR_OK;
}

int fr_batch_norm_forward(float *y, const float *x, const float *scale, const float *offset,
                          int64_t rows, int64_t n) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    const kernel_table *kernels = fr_kernels();
    const int64_t slices = fr_threads_for(2.0 * (double)rows * (double)n);
    FOR_TASKS(s, slices, (int)slices, {
        const int64_t row = start(rows, s, slices);
        kernels->bn_forward(y + row * n, x + row * n, scale, offset,
                            start(rows, s + 1, slices) - row, n);
    });
    return FR_OK;
}

int fr_batch_norm_backward(float *dx, float *dgamma, float *dbeta, const float *dy, const float *x,
                           const float *mean, const float *inverse, const float *gamma,
                           const uint8_t *mask, int64_t rows, int64_t n, double *scratch) {
    if (rows < 1 || n < 1) return FR_BAD_SIZE;
    const kernel_table *kernels = fr_kernels();
    const int threads = fr_threads_for(8.0 * (double)rows * (double)n);
    int64_t used = rows;
    if (mask) {
        used = 0;
        for (int64_t r = 0; r < rows; r++) used += mask[r] != 0;
    }
    memset(scratch, 0, (size_t)(2 * BLOCKS * n) * sizeof(double));
    FOR_TASKS(b, BLOCKS, threads, {
        const int64_t row = start(rows, b, BLOCKS);
        kernels->bn_sums(scratch + 2 * b * n, scratch + (2 * b + 1) * n, dy + row * n, x + row * n,
                         mean, inverse, start(rows, b + 1, BLOCKS) - row, n);
    });
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
    FOR_TASKS(s, threads, threads, {
        const int64_t row = start(rows, s, threads);
        kernels->bn_backward(dx + row * n, dy + row * n, x + row * n, mean, a, b, c,
                             mask ? mask + row : NULL, start(rows, s + 1, threads) - row, n);
    });
    return FR_OK;
}
