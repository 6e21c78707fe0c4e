/* The public entries: the choice of instruction set, threads, and work handed to the kernels. */
#include "fastrnn.h"
#include "kernels.h"
#include "parallel.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#define MAX_SLICES 1024

/* --- instruction sets ------------------------------------------------------------------------ */

typedef struct {
    const char *name;
    const kernel_table *table;
} isa;

static int isas(isa found[4]) {
    int n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        found[n++] = (isa){"avx512", &fr_kernels_avx512};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found[n++] = (isa){"avx2", &fr_kernels_avx2};
#endif
    found[n++] = (isa){"base", &fr_kernels_base};
    return n;
}

static isa current;

const kernel_table *fr_kernels(void) {
    if (!current.table) {
        isa found[4];
        isas(found);
        current = found[0];
    }
    return current.table;
}

const char *fr_isa(void) {
    fr_kernels();
    return current.name;
}

const char *fr_isa_name(int index) {
    isa found[4];
    return index >= 0 && index < isas(found) ? found[index].name : NULL;
}

int fr_set_isa(const char *name) {
    isa found[4];
    int n = isas(found);
    for (int i = 0; i < n; i++)
        if (name && strcmp(found[i].name, name) == 0) {
            current = found[i];
            return FR_OK;
        }
    return FR_BAD_ARGUMENT;
}

/* --- threads --------------------------------------------------------------------------------- */

static int thread_count = 1;
static int pool_started; /* threads do not survive fork(): a child made after that runs alone */
static int alone;

void fr_pool_starts(void) { pool_started = 1; }

static void after_fork(void) { alone = pool_started; }

void fr_set_threads(int threads) {
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, after_fork) == 0;
    thread_count = threads < 1 ? 1 : threads > MAX_SLICES ? MAX_SLICES : threads;
}

int fr_threads(void) { return alone ? 1 : thread_count; }

/* Waking a thread costs some 5 us; below 400,000 operations a thread it does not pay. */
int fr_threads_for(double flops) {
    double threads = flops / 4e5;
    int most = fr_threads();
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
#endif
    return threads >= most ? most : threads < 1 ? 1 : (int)threads;
}

/* --- LSTM ------------------------------------------------------------------------------------ */

int64_t fr_lstm_packed_size(int64_t features, int64_t units) {
    return fr_kernels()->packed_size(features, units);
}
int64_t fr_lstm_packed_back_size(int64_t features, int64_t units) {
    return fr_kernels()->packed_back_size(features, units);
}

void fr_lstm_pack(float *packed, const float *kernel, const float *recurrent_kernel,
                  const float *bias, int64_t features, int64_t units) {
    const kernel_table *k = fr_kernels();
    int threads = fr_threads_for(8.0 * (double)(units * (features + units)));
    FOR_TASKS(part, k->pack_parts(units), threads,
              k->pack(packed, kernel, recurrent_kernel, bias, features, units, part));
}

void fr_lstm_pack_back(float *packed, const float *kernel, const float *recurrent_kernel,
                       int64_t features, int64_t units) {
    const kernel_table *k = fr_kernels();
    int threads = fr_threads_for(8.0 * (double)(units * (features + units)));
    FOR_TASKS(part, k->pack_back_parts(features, units), threads,
              k->pack_back(packed, kernel, recurrent_kernel, features, units, part));
}

static lstm_slice slice_of(const fr_lstm *lstm, int64_t slice, int64_t slices) {
    int64_t row = lstm->batch * slice / slices;
    return (lstm_slice){slice, row, lstm->batch * (slice + 1) / slices - row, NULL};
}

typedef int64_t (*slice_size)(const fr_lstm *lstm, int64_t rows);

/* Sum of the sizes of the slices before `slice`. */
static int64_t offset(slice_size size, const fr_lstm *lstm, int64_t slice, int64_t slices) {
    int64_t total = 0;
    for (int64_t s = 0; s < slice; s++) total += size(lstm, slice_of(lstm, s, slices).rows);
    return total;
}

int64_t fr_lstm_saved_size(const fr_lstm *lstm, int64_t slices) {
    return offset(fr_kernels()->saved_size, lstm, slices, slices);
}
int64_t fr_lstm_forward_scratch(const fr_lstm *lstm, int64_t slices) {
    return offset(fr_kernels()->forward_scratch, lstm, slices, slices);
}
int64_t fr_lstm_backward_scratch(const fr_lstm *lstm, int64_t slices) {
    return offset(fr_kernels()->backward_scratch, lstm, slices, slices);
}

static double flops_of(const fr_lstm *lstm, int count) {
    return 8.0 * count * (double)lstm->batch * (double)lstm->timesteps * (double)lstm->units *
           (double)(lstm->features + lstm->units);
}

static int check(const fr_lstm *lstm, int count, int64_t slices) {
    if (count < 1 || slices < 1 || slices > MAX_SLICES) return FR_BAD_ARGUMENT;
    for (int d = 0; d < count; d++) {
        const fr_lstm *l = lstm + d;
        if (l->batch < slices || l->timesteps < 1 || l->features < 1 || l->units < 1)
            return FR_BAD_SIZE;
        if (!l->packed || !l->x || (uint32_t)l->activation >= FR_ACTIVATIONS ||
            (uint32_t)l->recurrent_activation >= FR_ACTIVATIONS)
            return FR_BAD_ARGUMENT;
    }
    return FR_OK;
}

int fr_lstm_forward(const fr_lstm *lstm, int count, int64_t slices, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(lstm, count, slices);
    if (status) return status;
    FOR_TASKS(task, count * slices, fr_threads_for(flops_of(lstm, count)), {
        const fr_lstm *l = lstm + task / slices;
        lstm_slice slice = slice_of(l, task % slices, slices);
        slice.scratch = scratch[task / slices] + offset(k->forward_scratch, l, slice.slice, slices);
        k->forward(l, slice,
                   l->saved ? l->saved + offset(k->saved_size, l, slice.slice, slices) : NULL);
    });
    return FR_OK;
}

int fr_lstm_backward(const fr_lstm *lstm, int count, int64_t slices, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(lstm, count, slices);
    if (status) return status;
    for (int d = 0; d < count; d++)
        if (!lstm[d].saved || !lstm[d].packed_back || !lstm[d].dkernel || !lstm[d].drecurrent)
            return FR_BAD_ARGUMENT;
    const int threads = fr_threads_for(2 * flops_of(lstm, count));
    /* A direction that adds to dx follows the one before it on the same thread. */
    FOR_TASKS(task, count * slices, threads, {
        const int64_t first = task % count;
        const int64_t s = task / count;
        for (int64_t d = first; d < count && !lstm[first].dx_add && (d == first || lstm[d].dx_add); d++) {
            lstm_slice slice = slice_of(lstm + d, s, slices);
            slice.scratch = scratch[d] + offset(k->backward_scratch, lstm + d, s, slices);
            k->backward(lstm + d, slice, lstm[d].saved + offset(k->saved_size, lstm + d, s, slices));
        }
    });
    for (int d = 0; d < count; d++) {
        float *gradients[MAX_SLICES];
        for (int64_t s = 0; s < slices; s++)
            gradients[s] = scratch[d] + offset(k->backward_scratch, lstm + d, s, slices);
        const int64_t rows = 1 + lstm[d].features + lstm[d].units;
        const double work = 16.0 * (double)slices * (double)rows * (double)lstm[d].units;
        FOR_TASKS(row, rows, fr_threads_for(work),
                  k->unpack_gradient(lstm + d, gradients, slices, row));
    }
    return FR_OK;
}

int fr_mask_gradient(float *dh, const float *dy, const fr_lstm *lstm) {
    if (!lstm->mask || !dy || !dh) return FR_BAD_ARGUMENT;
    const int64_t units = lstm->units, steps = lstm->timesteps;
    memset(dh, 0, (size_t)(lstm->batch * steps * units) * sizeof(float));
    for (int64_t b = 0; b < lstm->batch; b++) {
        int64_t shown = -1;
        for (int64_t t = 0; t < steps; t++) {
            const int masked = !lstm->mask[b * lstm->mask_row + t * lstm->mask_time];
            if (!masked) shown = t;
            if (shown < 0 || (masked && lstm->zero_output_for_mask)) continue;
            float *to = dh + (b * steps + shown) * units;
            const float *from = dy + b * lstm->dy_row + t * lstm->dy_time;
            for (int64_t j = 0; j < units; j++) to[j] += from[j];
        }
    }
    return FR_OK;
}
