/* The public entries: the choice of instruction set, threads, and work handed to the kernels. */
#include "engine.h"
#include "kernels.h"
#include "parallel.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
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
#if defined(__x86_64__) && !defined(FASTRNN_BASE_ONLY)
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

__attribute__((constructor)) static void use_the_best(void) {
    isa found[4];
    isas(found);
    current = found[0];
}

const kernel_table *fr_kernels(void) { return current.table; }

const char *fr_isa(void) { return current.name; }

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

static atomic_int thread_count = 1;
static atomic_int within_cpus; /* and no more than the CPUs of the thread that calls */
static atomic_int threads_taken;
static atomic_int pool_started; /* threads do not survive fork(): a child made after that runs alone */
static int alone;

static void after_fork(void) {
    alone = pool_started;
    threads_taken = 0;
}

#ifdef _OPENMP
#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif
/* CPUs that the calling thread may use (its affinity, or OpenMP's places). Asking takes 0.6 us, so
 * that an answer holds for the rest of a tick of the clock: 1 to 10 ms. */
static int cpus(int anew) {
    static _Thread_local struct timespec asked;
    static _Thread_local int answer;
    struct timespec tick;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &tick);
    if (anew || tick.tv_nsec != asked.tv_nsec || tick.tv_sec != asked.tv_sec) {
        answer = omp_get_num_procs();
        asked = tick;
    }
    return answer > 1 ? answer : 1;
}
#else
static int cpus(int anew) { return 1; }
#endif

static int usable_threads(int anew) {
    if (alone) return 1;
    const int most = thread_count, here = within_cpus && most > 1 ? cpus(anew) : most;
    return here < most ? here : most;
}
int fr_threads(void) { return usable_threads(1); }

/* GNU's OpenMP ends the process when it cannot make a thread. So before a caller's first region of
 * more threads than it has had, as many are made here. */
#ifdef _OPENMP
static void *through(void *gate) {
    pthread_mutex_lock(gate);
    pthread_mutex_unlock(gate);
    return NULL;
}
static int can_start(int threads) {
    static _Thread_local int started = 1;
    pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; /* all of them are there at once */
    pthread_t made[MAX_SLICES];
    int n = started;
    pthread_mutex_lock(&gate);
    while (n < threads && pthread_create(&made[n], NULL, through, &gate) == 0) n++;
    pthread_mutex_unlock(&gate);
    for (int i = started; i < n; i++) pthread_join(made[i], NULL);
    if (n >= threads) started = threads;
    return n >= threads;
}
#else
static int can_start(int threads) { return 0; }
#endif

int fr_take_threads(int wanted) {
    wanted = wanted < 1 ? 1 : wanted;
    const int others = atomic_fetch_add(&threads_taken, wanted);
    const int left = (wanted > 1 ? usable_threads(0) : 1) - others;
    int taken = wanted <= left ? wanted : left > 1 ? left : 1;
    if (taken > 1 && !can_start(taken)) taken = 1;
    if (taken < wanted) atomic_fetch_sub(&threads_taken, wanted - taken);
    if (taken > 1 && !pool_started) pool_started = 1;
    return taken;
}
void fr_give_threads(int taken) { atomic_fetch_sub(&threads_taken, taken); }

void fr_set_threads(int threads) {
    static int registered;
    if (!registered) registered = pthread_atfork(NULL, NULL, after_fork) == 0;
    thread_count = threads < 1 ? 1 : threads > MAX_SLICES ? MAX_SLICES : threads;
    within_cpus = 0;
}
void fr_set_threads_within_cpus(int threads) {
    fr_set_threads(threads);
    within_cpus = 1;
}

/* Waking a thread costs some 5 us; below 400,000 operations a thread it does not pay. */
int fr_threads_for(double flops) {
    const double threads = flops / 4e5;
    if (threads < 2) return 1;
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
#endif
    const int most = usable_threads(0);
    return threads >= most ? most : (int)threads;
}

/* --- memory ---------------------------------------------------------------------------------- */

/* Weights and saved states of some MB are read in strides that outrun the table of small pages.
 * LSTM(512) on 16 rows, one thread of an AVX2 EPYC: forward x 1.08, backward 1.07. */
void fr_use_large_pages(void *memory, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t page = 4096, from = ((uintptr_t)memory + page - 1) & ~(page - 1);
    const uintptr_t end = (uintptr_t)memory + (uintptr_t)bytes;
    if (bytes >= 4 << 20) madvise((void *)from, end - from, MADV_HUGEPAGE);
#else
    (void)memory;
    (void)bytes;
#endif
}

/* --- interrupts --------------------------------------------------------------------------------- */

static int (*interrupt)(void);

void fr_set_interrupt(int (*asked)(void)) { interrupt = asked; }

pass_watch fr_new_watch(void) { return (pass_watch){.asked = interrupt ? seconds_now() : 0.0}; }

int fr_watch(pass_watch *watch) {
#ifdef _OPENMP
    if (omp_get_thread_num() != 0) return is_stopped(watch);
#endif
    if (interrupt && seconds_now() - watch->asked > 0.05) {
        if (interrupt()) atomic_store(&watch->stopped, INTERRUPTED);
        watch->asked = seconds_now();
    }
    return is_stopped(watch);
}

/* --- recurrent layers -------------------------------------------------------------------------- */

int64_t fr_rnn_packed_size(int cell, int64_t features, int64_t units) {
    return fr_kernels()->packed_size(cell, features, units);
}
int64_t fr_rnn_packed_back_size(int cell, int64_t features, int64_t units) {
    return fr_kernels()->packed_back_size(cell, features, units);
}

void fr_rnn_pack(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                 const float *bias, int64_t features, int64_t units) {
    const kernel_table *k = fr_kernels();
    int threads = fr_threads_for(2.0 * gates_of(cell) * (double)(units * (features + units)));
    FOR_TASKS(part, k->pack_parts(features, units), threads,
              k->pack(cell, packed, kernel, recurrent_kernel, bias, features, units, part));
}

void fr_rnn_pack_back(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                      int64_t features, int64_t units) {
    const kernel_table *k = fr_kernels();
    int threads = fr_threads_for(2.0 * gates_of(cell) * (double)(units * (features + units)));
    FOR_TASKS(part, k->pack_back_parts(features, units), threads,
              k->pack_back(cell, packed, kernel, recurrent_kernel, features, units, part));
}

static rnn_slice slice_of(const fr_rnn *rnn, int64_t slice, int64_t slices) {
    int64_t row = rnn->batch * slice / slices;
    return (rnn_slice){slice, row, rnn->batch * (slice + 1) / slices - row, 0, 1, NULL, NULL, NULL};
}

typedef int64_t (*slice_size)(const fr_rnn *rnn, int64_t rows, int parts);

/* Sum of the sizes of the slices before `slice`. */
static int64_t offset(slice_size size, const fr_rnn *rnn, int64_t slice, fr_rnn_split split) {
    const int64_t rows = rnn->batch / split.slices; /* or one more */
    const int64_t longer = slice_of(rnn, slice, split.slices).row - slice * rows;
    return (slice - longer) * size(rnn, rows, split.parts) +
           (longer > 0 ? longer * size(rnn, rows + 1, split.parts) : 0);
}

int64_t fr_rnn_saved_size(const fr_rnn *rnn, fr_rnn_split split) {
    return offset(fr_kernels()->saved_size, rnn, split.slices, split);
}
int64_t fr_rnn_forward_scratch(const fr_rnn *rnn, fr_rnn_split split) {
    return offset(fr_kernels()->forward_scratch, rnn, split.slices, split);
}
int64_t fr_rnn_backward_scratch(const fr_rnn *rnn, fr_rnn_split split) {
    return offset(fr_kernels()->backward_scratch, rnn, split.slices, split);
}

static double flops_of(const fr_rnn *rnn, int count) {
    const int64_t inputs = rnn->index ? 0 : rnn->features; /* that are multiplied at each step */
    return 2.0 * gates_of(rnn->cell) * count * (double)rnn->batch * (double)rnn->timesteps *
           (double)rnn->units * (double)(inputs + rnn->units);
}
static double flops_of_choices(const fr_rnn *rnn) {
    return 2.0 * gates_of(rnn->cell) * (double)rnn->choices * (double)rnn->units * (double)rnn->features;
}

fr_rnn_split fr_rnn_best_split(const fr_rnn *rnn, int count) {
    fr_rnn_split split = {1, 1};
    const int threads = fr_threads_for(flops_of(rnn, count));
    const double columns = gates_of(rnn->cell) * (double)rnn->units;
    const double weights = 4.0 * columns * (double)(rnn->features + rnn->units);
    const double step = 2.0 * (double)rnn->batch * columns * (double)rnn->units;
    int64_t wanted = threads; /* threads for one direction */
    /* A direction to a thread reads half the weights; sharing both saves adding dx. */
    if (count == 2 && (weights > 1 << 19 || rnn->batch < 2 * threads)) wanted = threads / 2;
    if (wanted < 1) wanted = 1;
    /* Too few rows to fill a tile each: split the units, if a step outweighs its barrier. Two
     * threads on AVX-512, EPYC: batch 1 x 0.93 (64 units), 1.67 (96), 1.75 (128), 2.06 (256), 1.84
     * (512), 1.79 (1024) in inference; batch 5 x 1.26 (128), 0.99 (192); batch 8 x 0.95 (128), 1.00
     * (512), 1.06 (1024). On AVX2, EPYC: batch 32 forward x 1.01 (256), 0.97 to 1.05 (512), 1.06 (1024),
     * backward 1.03 to 1.07, 1.04, 1.11. */
    const int few = rnn->batch < (weights > 12 << 20 ? 17 : weights > 1 << 20 ? 6 : 3) * wanted;
    if (few && (rnn->cell == FR_LSTM || rnn->cell == FR_GRU) &&
        wanted > 1 && rnn->units >= 40 * wanted && step / (double)wanted >= 3e4) {
        split.parts = (int)wanted;
        return split;
    }
    /* Of many rows several slices to a thread: 128 rows of a chunk's dz are half of L1, and a faster
     * thread takes more of them. Two threads of an AVX2 EPYC, forward and backward: 500 rows of 64 units
     * x 1.04 to 1.05, 5,000 x 1.3 to 1.4; 512 rows of 128 units 1.01 and 1.13, of 256 1.02 and 1.2. */
    const int64_t rows = rnn->batch / wanted, best = weights > 1 << 20 ? 128 : 64;
    const int64_t each = rows > 128 ? (rows + best / 2) / best : 1;
    wanted *= each < 32 ? each : 32;
    split.slices = wanted < rnn->batch ? wanted : rnn->batch;
    if (split.slices > MAX_SLICES) split.slices = MAX_SLICES;
    return split;
}

static int check_index(const fr_rnn *rnn) {
    for (int64_t b = 0; b < rnn->batch && rnn->index; b++)
        for (int64_t t = 0; t < rnn->timesteps; t++) {
            const int32_t choice = rnn->index[b * rnn->index_row + t * rnn->index_time];
            if (choice < 0 || choice >= rnn->choices) return FR_BAD_INDEX;
        }
    return FR_OK;
}

static int check(const fr_rnn *rnn, int count, fr_rnn_split split) {
    if (count < 1 || count > 2 || split.slices < 1 || split.slices > MAX_SLICES ||
        split.parts < 1 || split.parts > MAX_SLICES)
        return FR_BAD_ARGUMENT;
    for (int d = 0; d < count; d++) {
        const fr_rnn *l = rnn + d;
        if (l->batch < split.slices || l->timesteps < 1 || l->features < 1 || l->units < 1)
            return FR_BAD_SIZE;
        if (l->index && (l->choices < 1 || !l->products)) return FR_BAD_ARGUMENT;
        if (l->mask && (l->batch >= INT32_MAX || l->timesteps >= INT32_MAX)) return FR_BAD_SIZE;
        if (!l->packed || (!l->x && !l->index) || (uint32_t)l->cell >= FR_CELLS ||
            (uint32_t)l->activation >= FR_ACTIVATIONS ||
            (uint32_t)l->recurrent_activation >= FR_ACTIVATIONS)
            return FR_BAD_ARGUMENT;
        if (l->cell != FR_LSTM && (l->c0 || l->c_last || l->dc_last || l->dc0))
            return FR_BAD_ARGUMENT;
        if (check_index(l)) return FR_BAD_INDEX;
    }
    return FR_OK;
}

typedef struct {
    const fr_rnn *rnn;
    int count;
    fr_rnn_split split;
    float *const *scratch;
    void (*kernel)(const fr_rnn *rnn, rnn_slice slice, float *saved);
    slice_size scratch_size;
    pass_watch *watch;
} rnn_pass;

static void run_slice(const rnn_pass *pass, int d, int64_t s, int part, step_barrier *barrier) {
    const fr_rnn *rnn = pass->rnn + d;
    rnn_slice slice = slice_of(rnn, s, pass->split.slices);
    slice.part = part;
    slice.parts = barrier ? pass->split.parts : 1;
    slice.barrier = barrier;
    slice.watch = pass->watch;
    slice.scratch = pass->scratch[d] + offset(pass->scratch_size, rnn, s, pass->split);
    pass->kernel(rnn, slice,
                 rnn->saved ? rnn->saved + offset(fr_kernels()->saved_size, rnn, s, pass->split)
                             : NULL);
}

/* Threads that share a layer's units meet at every step: where other programs take the CPUs away,
 * each meeting can last a time slice. A forward pass that sees this begins again on one thread, and
 * so do all for the next tenth of a second. */
#ifdef _OPENMP
static _Atomic double alone_until;

/* Threads need not be equally fast: half the time that a step may take where the caches are busy. */
static double patience(const fr_rnn *rnn, int parts) {
    const double weights = gates_of(rnn->cell) * (double)(rnn->units * (rnn->features + rnn->units));
    return 2e-5 + weights * (4.0 / 8e9 + (double)rnn->batch * 2.0 / 1e11) / parts;
}
#endif
static int most_late(const fr_rnn *rnn) {
    return 4 + (int)(rnn->timesteps < 1 << 20 ? rnn->timesteps / 64 : 1 << 14);
}

/* A direction that adds to dx follows the one before it on the same thread. */
static void run_pass(const rnn_pass *pass) {
    const fr_rnn *rnn = pass->rnn;
    const int count = pass->count;
    const int64_t slices = pass->split.slices;
    const int together = count == 2 && rnn[1].dx && rnn[1].dx_add && !rnn[1].index;
    const int chains = together ? 1 : count;
#ifdef _OPENMP
    const int parts = pass->split.parts;
    pass_watch *watch = pass->watch;
    if (parts > 1 && !together && seconds_now() >= alone_until) {
        const int wanted = (int)(count * slices) * parts, taken = fr_take_threads(wanted);
        step_barrier barriers[2] = {0};
        watch->patience = patience(rnn, parts);
        int enough = 0;
        if (taken == wanted && slices == 1) {
#pragma omp parallel num_threads(wanted)
            if (omp_get_num_threads() == wanted) {
                float_mode mode = flush_subnormals();
                const int id = omp_get_thread_num();
                if (id == 0) enough = 1;
                run_slice(pass, id / parts, 0, id % parts, &barriers[id / parts]);
                restore(mode);
            }
        }
        fr_give_threads(taken);
        if (atomic_load(&watch->late) >= most_late(rnn)) alone_until = seconds_now() + 0.1;
        if (is_stopped(watch) == TOO_LATE) atomic_store(&watch->stopped, 0);
        else if (enough) return;
    }
#endif
    FOR_TASKS(task, chains * slices, fr_threads_for(flops_of(rnn, count)), {
        const int d = (int)(task % chains);
        run_slice(pass, d, task / chains, 0, NULL);
        if (together) run_slice(pass, 1, task / chains, 0, NULL);
    });
}

/* --- rows of x picked by index ----------------------------------------------------------------- */

int64_t fr_rnn_products_size(int cell, int64_t choices, int64_t features, int64_t units) {
    return fr_kernels()->products_size(cell, choices, features, units);
}

typedef void (*rows_function)(const fr_rnn *rnn, int64_t row, int64_t rows);

/* All choices, in tasks of a cache's worth of rows. */
static void for_choices(const fr_rnn *rnn, rows_function function, pass_watch *watch) {
    enum { AT_ONCE = 96 };
    FOR_TASKS(task, (rnn->choices + AT_ONCE - 1) / AT_ONCE, fr_threads_for(flops_of_choices(rnn)), {
        const int64_t row = task * AT_ONCE;
        const int64_t left = rnn->choices - row;
        if (!fr_watch(watch)) function(rnn, row, left < AT_ONCE ? left : AT_ONCE);
    });
}

int fr_rnn_multiply(const fr_rnn *rnn) {
    if (rnn->choices < 1 || rnn->features < 1 || rnn->units < 1) return FR_BAD_SIZE;
    if (!rnn->products || !rnn->packed || !rnn->x || (uint32_t)rnn->cell >= FR_CELLS)
        return FR_BAD_ARGUMENT;
    pass_watch watch = fr_new_watch();
    for_choices(rnn, fr_kernels()->multiply, &watch);
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}

/* What the backward leaves out where rows are picked: gradients of bias and kernel (packed, or in
 * place if NULL), and dx. */
static void back_to_choices(const fr_rnn *rnn, fr_rnn_split split, float *gradients,
                            pass_watch *watch) {
    const kernel_table *k = fr_kernels();
    FOR_TASKS(chunk, k->chunks(rnn), fr_threads_for(flops_of_choices(rnn)), {
        for (int64_t s = 0; s < split.slices && !fr_watch(watch); s++)
            k->gather_gradients(rnn, slice_of(rnn, s, split.slices),
                                rnn->saved + offset(k->saved_size, rnn, s, split), chunk);
        if (!fr_watch(watch)) k->input_weight_gradients(rnn, chunk, gradients);
    });
    if (rnn->dx) for_choices(rnn, k->choice_gradients, watch);
}

/* --- passes of recurrent layers ------------------------------------------------------------------ */

int fr_rnn_forward(const fr_rnn *rnn, int count, fr_rnn_split split, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(rnn, count, split);
    if (status) return status;
    fr_rnn no_dx[2]; /* dx_add orders the backward only */
    for (int d = 0; d < count; d++) no_dx[d] = rnn[d], no_dx[d].dx = NULL;
    pass_watch watch = fr_new_watch();
    watch.most_late = most_late(rnn);
    run_pass(&(rnn_pass){no_dx, count, split, scratch, k->forward, k->forward_scratch, &watch});
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}

int fr_rnn_needs_back(const fr_rnn *rnn) {
    return rnn->dx != NULL || rnn->batch * rnn->timesteps > 24;
}

int fr_rnn_backward(const fr_rnn *rnn, int count, fr_rnn_split split, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(rnn, count, split);
    if (status) return status;
    for (int d = 0; d < count; d++)
        if (!rnn[d].saved || !rnn[d].x || !rnn[d].dkernel || !rnn[d].drecurrent ||
            (!rnn[d].packed_back && fr_rnn_needs_back(rnn + d)))
            return FR_BAD_ARGUMENT;
    pass_watch watch = fr_new_watch();
    run_pass(&(rnn_pass){rnn, count, split, scratch, k->backward, k->backward_scratch, &watch});
    for (int d = 0; d < count && !is_stopped(&watch); d++) {
        const int in_place = k->gradients_in_place(rnn + d, slice_of(rnn + d, 0, split.slices).rows);
        if (rnn[d].index) back_to_choices(rnn + d, split, in_place ? NULL : scratch[d], &watch);
        if (in_place) continue;
        float *gradients[MAX_SLICES];
        for (int64_t s = 0; s < split.slices; s++)
            gradients[s] = scratch[d] + offset(k->backward_scratch, rnn + d, s, split);
        const int64_t rows = 1 + rnn[d].features + rnn[d].units;
        const double columns = gates_of(rnn[d].cell) * (double)rnn[d].units;
        const double work = 4.0 * (double)split.slices * (double)rows * columns;
        const int64_t of_inputs = rnn[d].index ? 1 : split.slices;
        FOR_TASKS(row, rows, fr_threads_for(work),
                  k->unpack_gradient(rnn + d, gradients, row <= rnn[d].features ? of_inputs : split.slices,
                                     row));
    }
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}
