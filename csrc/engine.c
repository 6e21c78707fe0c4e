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
    return (lstm_slice){slice, row, lstm->batch * (slice + 1) / slices - row, 0, 1, NULL, NULL};
}

typedef int64_t (*slice_size)(const fr_lstm *lstm, int64_t rows, int parts);

/* Sum of the sizes of the slices before `slice`. */
static int64_t offset(slice_size size, const fr_lstm *lstm, int64_t slice, fr_lstm_split split) {
    int64_t total = 0;
    for (int64_t s = 0; s < slice; s++)
        total += size(lstm, slice_of(lstm, s, split.slices).rows, split.parts);
    return total;
}

int64_t fr_lstm_saved_size(const fr_lstm *lstm, fr_lstm_split split) {
    return offset(fr_kernels()->saved_size, lstm, split.slices, split);
}
int64_t fr_lstm_forward_scratch(const fr_lstm *lstm, fr_lstm_split split) {
    return offset(fr_kernels()->forward_scratch, lstm, split.slices, split);
}
int64_t fr_lstm_backward_scratch(const fr_lstm *lstm, fr_lstm_split split) {
    return offset(fr_kernels()->backward_scratch, lstm, split.slices, split);
}

static double flops_of(const fr_lstm *lstm, int count) {
    return 8.0 * count * (double)lstm->batch * (double)lstm->timesteps * (double)lstm->units *
           (double)(lstm->features + lstm->units);
}

fr_lstm_split fr_lstm_best_split(const fr_lstm *lstm, int count) {
    fr_lstm_split split = {1, 1};
    const int threads = fr_threads_for(flops_of(lstm, count));
    const double weights = 16.0 * (double)lstm->units * (double)(lstm->features + lstm->units);
    const double step = 8.0 * (double)lstm->batch * (double)lstm->units * (double)lstm->units;
    int64_t wanted = threads; /* threads for one direction */
    /* A direction to a thread reads half the weights; sharing both saves adding dx. */
    if (count == 2 && (weights > 1 << 19 || lstm->batch < 2 * threads)) wanted = threads / 2;
    if (wanted <= 1) return split;
    /* Too few rows to fill a tile each: split the units, if a step outweighs its barrier. Two
     * threads on AVX-512, EPYC: batch 1 x 2.06 (256 units), 1.84 (512), 1.79 (1024) in inference;
     * batch 8 x 0.95 (128), 1.00 (512), 1.06 (1024). */
    const int few = lstm->batch < (weights > 1 << 20 ? 6 : 3) * wanted;
    if (few && lstm->units >= 64 * wanted && step / (double)wanted >= 1e5)
        split.parts = (int)wanted;
    else
        split.slices = wanted < lstm->batch ? wanted : lstm->batch;
    return split;
}

static int check(const fr_lstm *lstm, int count, fr_lstm_split split) {
    if (count < 1 || count > 2 || split.slices < 1 || split.slices > MAX_SLICES ||
        split.parts < 1 || split.parts > MAX_SLICES)
        return FR_BAD_ARGUMENT;
    for (int d = 0; d < count; d++) {
        const fr_lstm *l = lstm + d;
        if (l->batch < split.slices || l->timesteps < 1 || l->features < 1 || l->units < 1)
            return FR_BAD_SIZE;
        if (!l->packed || !l->x || (uint32_t)l->activation >= FR_ACTIVATIONS ||
            (uint32_t)l->recurrent_activation >= FR_ACTIVATIONS)
            return FR_BAD_ARGUMENT;
    }
    return FR_OK;
}

typedef struct {
    const fr_lstm *lstm;
    int count;
    fr_lstm_split split;
    float *const *scratch;
    void (*kernel)(const fr_lstm *lstm, lstm_slice slice, float *saved);
    slice_size scratch_size;
} lstm_pass;

static void run_slice(const lstm_pass *pass, int d, int64_t s, int part, step_barrier *barrier) {
    const fr_lstm *lstm = pass->lstm + d;
    lstm_slice slice = slice_of(lstm, s, pass->split.slices);
    slice.part = part;
    slice.parts = barrier ? pass->split.parts : 1;
    slice.barrier = barrier;
    slice.scratch = pass->scratch[d] + offset(pass->scratch_size, lstm, s, pass->split);
    pass->kernel(lstm, slice,
                 lstm->saved ? lstm->saved + offset(fr_kernels()->saved_size, lstm, s, pass->split)
                             : NULL);
}

/* A direction that adds to dx follows the one before it on the same thread. */
static void run_pass(const lstm_pass *pass) {
    const fr_lstm *lstm = pass->lstm;
    const int count = pass->count, parts = pass->split.parts;
    const int64_t slices = pass->split.slices;
    const int together = count == 2 && lstm[1].dx && lstm[1].dx_add;
    const int chains = together ? 1 : count;
#ifdef _OPENMP
    if (parts > 1 && !together) {
        const int wanted = (int)(count * slices) * parts;
        step_barrier barriers[2] = {0};
        int enough = 0;
        fr_pool_starts();
#pragma omp parallel num_threads(wanted)
        if (omp_get_num_threads() == wanted && slices == 1) {
            float_mode mode = flush_subnormals();
            const int id = omp_get_thread_num();
            if (id == 0) enough = 1;
            run_slice(pass, id / parts, 0, id % parts, &barriers[id / parts]);
            restore(mode);
        }
        if (enough) return;
    }
#endif
    FOR_TASKS(task, chains * slices, fr_threads_for(flops_of(lstm, count)), {
        const int d = (int)(task % chains);
        run_slice(pass, d, task / chains, 0, NULL);
        if (together) run_slice(pass, 1, task / chains, 0, NULL);
    });
}

int fr_lstm_forward(const fr_lstm *lstm, int count, fr_lstm_split split, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(lstm, count, split);
    if (status) return status;
    fr_lstm no_dx[2]; /* dx_add orders the backward only */
    for (int d = 0; d < count; d++) no_dx[d] = lstm[d], no_dx[d].dx = NULL;
    run_pass(&(lstm_pass){no_dx, count, split, scratch, k->forward, k->forward_scratch});
    return FR_OK;
}

int fr_lstm_backward(const fr_lstm *lstm, int count, fr_lstm_split split, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(lstm, count, split);
    if (status) return status;
    for (int d = 0; d < count; d++)
        if (!lstm[d].saved || !lstm[d].packed_back || !lstm[d].dkernel || !lstm[d].drecurrent)
            return FR_BAD_ARGUMENT;
    run_pass(&(lstm_pass){lstm, count, split, scratch, k->backward, k->backward_scratch});
    for (int d = 0; d < count; d++) {
        float *gradients[MAX_SLICES];
        for (int64_t s = 0; s < split.slices; s++)
            gradients[s] = scratch[d] + offset(k->backward_scratch, lstm + d, s, split);
        const int64_t rows = 1 + lstm[d].features + lstm[d].units;
        const double work = 16.0 * (double)split.slices * (double)rows * (double)lstm[d].units;
        FOR_TASKS(row, rows, fr_threads_for(work),
                  k->unpack_gradient(lstm + d, gradients, split.slices, row));
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
