/* The public entries: the choice of instruction set, and work handed to the kernels. */
#include "engine.h"
#include "kernels.h"
#include "parallel.h"

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

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

/* --- recurrent layers -------------------------------------------------------------------------- */

int64_t fr_rnn_packed_size(int cell, int64_t features, int64_t units) {
    return fr_kernels()->packed_size(cell, features, units);
}
int64_t fr_rnn_packed_back_size(int cell, int64_t features, int64_t units) {
    return fr_kernels()->packed_back_size(cell, features, units);
}

WORK(pack, int cell; float *packed; const float *kernel, *recurrent_kernel, *bias;
     int64_t features, units;) {
    fr_kernels()->pack(w->cell, w->packed, w->kernel, w->recurrent_kernel, w->bias, w->features,
                       w->units, task);
}
void fr_rnn_pack(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                 const float *bias, int64_t features, int64_t units) {
    const int threads = fr_threads_for(2.0 * gates_of(cell) * (double)(units * (features + units)));
    FOR_TASKS(fr_kernels()->pack_parts(features, units), threads, pack, cell, packed, kernel,
              recurrent_kernel, bias, features, units);
}

WORK(pack_back, int cell; float *packed; const float *kernel, *recurrent_kernel;
     int64_t features, units;) {
    fr_kernels()->pack_back(w->cell, w->packed, w->kernel, w->recurrent_kernel, w->features, w->units,
                            task);
}
void fr_rnn_pack_back(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                      int64_t features, int64_t units) {
    const int threads = fr_threads_for(2.0 * gates_of(cell) * (double)(units * (features + units)));
    FOR_TASKS(fr_kernels()->pack_back_parts(features, units), threads, pack_back, cell, packed, kernel,
              recurrent_kernel, features, units);
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
 * each meeting can last a time slice. A forward pass that has waited longer than it would take alone
 * begins again on one thread. */
static double time_alone(const rnn_pass *pass) { return 1e-4 + flops_of(pass->rnn, pass->count) / 2e10; }

WORK(part, const rnn_pass *pass; step_barrier *barriers;) {
    const int parts = w->pass->split.parts, d = (int)task / parts;
    run_slice(w->pass, d, 0, (int)task % parts, &w->barriers[d]);
}

/* Returns whether the pass was made so. */
static int share_units(const rnn_pass *pass) {
    step_barrier barriers[2] = {0};
    pass_watch *watch = pass->watch;
    const int threads = pass->count * pass->split.parts;
    const double alone = time_alone(pass);
    watch->patience = (long long)(1e9 * alone);
    const double begun = seconds_now();
    if (!fr_together(threads, alone / 2, part_task, &(part_work){pass, barriers})) return 0;
    const double time = seconds_now() - begun, waited = 1e-9 * (double)watch->waited;
    const int in_vain = is_stopped(watch) == TOO_LATE || waited >= time;
    fr_shared(in_vain ? -time : threads * (time - waited) - time);
    if (is_stopped(watch) != TOO_LATE) return 1;
    atomic_store(&watch->stopped, 0);
    return 0;
}

/* A direction that adds to dx follows the one before it on the same thread. */
WORK(chain, const rnn_pass *pass; int chains, together;) {
    run_slice(w->pass, (int)(task % w->chains), task / w->chains, 0, NULL);
    if (w->together) run_slice(w->pass, 1, task / w->chains, 0, NULL);
}

static void run_pass(const rnn_pass *pass) {
    const fr_rnn *rnn = pass->rnn;
    const int together = pass->count == 2 && rnn[1].dx && rnn[1].dx_add && !rnn[1].index;
    const int chains = together ? 1 : pass->count;
    if (pass->split.parts > 1 && !together && pass->split.slices == 1 && share_units(pass)) return;
    FOR_TASKS(chains * pass->split.slices, fr_threads_for(flops_of(rnn, pass->count)), chain, pass,
              chains, together);
}

/* --- rows of x picked by index ----------------------------------------------------------------- */

int64_t fr_rnn_products_size(int cell, int64_t choices, int64_t features, int64_t units) {
    return fr_kernels()->products_size(cell, choices, features, units);
}

typedef void (*rows_function)(const fr_rnn *rnn, int64_t row, int64_t rows);

/* All choices, in tasks of a cache's worth of rows. */
enum { AT_ONCE = 96 };
WORK(choices, const fr_rnn *rnn; rows_function function; pass_watch *watch;) {
    const int64_t row = task * AT_ONCE, left = w->rnn->choices - row;
    if (!fr_watch(w->watch)) w->function(w->rnn, row, left < AT_ONCE ? left : AT_ONCE);
}
static void for_choices(const fr_rnn *rnn, rows_function function, pass_watch *watch) {
    FOR_TASKS((rnn->choices + AT_ONCE - 1) / AT_ONCE, fr_threads_for(flops_of_choices(rnn)), choices,
              rnn, function, watch);
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
WORK(back_to_choices, const fr_rnn *rnn; fr_rnn_split split; float *gradients; pass_watch *watch;) {
    const kernel_table *k = fr_kernels();
    for (int64_t s = 0; s < w->split.slices && !fr_watch(w->watch); s++)
        k->gather_gradients(w->rnn, slice_of(w->rnn, s, w->split.slices),
                            w->rnn->saved + offset(k->saved_size, w->rnn, s, w->split), task);
    if (!fr_watch(w->watch)) k->input_weight_gradients(w->rnn, task, w->gradients);
}
static void back_to_choices(const fr_rnn *rnn, fr_rnn_split split, float *gradients,
                            pass_watch *watch) {
    const kernel_table *k = fr_kernels();
    FOR_TASKS(k->chunks(rnn), fr_threads_for(flops_of_choices(rnn)), back_to_choices, rnn, split,
              gradients, watch);
    if (rnn->dx) for_choices(rnn, k->choice_gradients, watch);
}

/* --- passes of recurrent layers ------------------------------------------------------------------ */

/* A pass that writes its last states where its first ones are cannot begin again. */
static int replaces_states(const fr_rnn *rnn, int count) {
    int replaces = 0;
    for (int d = 0; d < count; d++)
        replaces |= (rnn[d].h_last && rnn[d].h_last == rnn[d].h0) ||
                    (rnn[d].c_last && rnn[d].c_last == rnn[d].c0);
    return replaces;
}

int fr_rnn_forward(const fr_rnn *rnn, int count, fr_rnn_split split, float *const *scratch) {
    const kernel_table *k = fr_kernels();
    int status = check(rnn, count, split);
    if (status) return status;
    fr_rnn no_dx[2]; /* dx_add orders the backward only */
    for (int d = 0; d < count; d++) no_dx[d] = rnn[d], no_dx[d].dx = NULL;
    pass_watch watch = fr_new_watch();
    watch.restarts = !replaces_states(rnn, count);
    run_pass(&(rnn_pass){no_dx, count, split, scratch, k->forward, k->forward_scratch, &watch});
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}

int fr_rnn_needs_back(const fr_rnn *rnn) {
    return rnn->dx != NULL || rnn->batch * rnn->timesteps > 24;
}

WORK(unpack_gradient, const fr_rnn *rnn; float *const *gradients; int64_t of_inputs, slices;) {
    fr_kernels()->unpack_gradient(w->rnn, w->gradients,
                                  task <= w->rnn->features ? w->of_inputs : w->slices, task);
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
        FOR_TASKS(rows, fr_threads_for(work), unpack_gradient, rnn + d, gradients, of_inputs,
                  split.slices);
    }
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}
