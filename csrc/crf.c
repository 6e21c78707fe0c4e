/* Public entries of conditional random fields: sizes and labels checked, rows cut into tasks. */
#include "engine.h"
#include "kernels.h"
#include "parallel.h"

#include <math.h>
#include <string.h>

#define MOST_TASKS 16 /* whatever the threads, so that sums do not depend on their number */

static int64_t width_of(int64_t tags) { return (tags + 15) / 16 * 16; } /* whole vectors */
static int64_t tasks_of(const fr_crf *c) { return c->batch < MOST_TASKS ? c->batch : MOST_TASKS; }
static int64_t start(const fr_crf *c, int64_t task) { return c->batch * task / tasks_of(c); }

/* The chain, then for each task its sums of gradients and what a row needs. */
static int64_t chain_size(const fr_crf *c) { return (c->tags + 2) * width_of(c->tags); }
static int64_t task_size(const fr_crf *c) {
    return chain_size(c) + (c->timesteps + c->tags + 2) * width_of(c->tags);
}
int64_t fr_crf_scratch(const fr_crf *crf) { return chain_size(crf) + tasks_of(crf) * task_size(crf); }

static int check(const fr_crf *c) {
    if (c->batch < 1 || c->timesteps < 1 || c->tags < 1 || c->tags > INT32_MAX) return FR_BAD_SIZE;
    if (!c->scores || !c->chain || !c->first || !c->last) return FR_BAD_ARGUMENT;
    return FR_OK;
}

/* The chain as the kernels take it; returns its largest number. */
static double pack(float *packed, const fr_crf *c) {
    const int64_t n = c->tags, width = width_of(n);
    float top = -3.4028235e38f;
    for (int64_t i = 0; i < n * n; i++) top = c->chain[i] > top ? c->chain[i] : top;
    memset(packed, 0, (size_t)chain_size(c) * sizeof(float));
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) packed[i * width + j] = c->chain[i * n + j] - top;
    memcpy(packed + n * width, c->first, (size_t)n * sizeof(float));
    memcpy(packed + (n + 1) * width, c->last, (size_t)n * sizeof(float));
    return (double)top;
}

static double flops_of(const fr_crf *c, double each) {
    return each * (double)c->batch * (double)c->timesteps * (double)c->tags * (double)c->tags;
}

WORK(crf_loss, const fr_crf *crf; const float *chain; double top; float *scratch; pass_watch *watch;) {
    const fr_crf *c = w->crf;
    float *dchain = w->scratch + task * task_size(c);
    memset(dchain, 0, (size_t)chain_size(c) * sizeof(float));
    for (int64_t row = start(c, task); row < start(c, task + 1); row++) {
        if (fr_watch(w->watch)) break;
        c->losses[row] = fr_kernels()->crf_loss(c, w->chain, width_of(c->tags), w->top, row, dchain,
                                                dchain + chain_size(c));
    }
}
WORK(crf_sum, const fr_crf *crf; const float *scratch;) {
    const fr_crf *c = w->crf;
    const int64_t n = c->tags, from = task * width_of(n);
    float *out = task < n ? c->dchain + task * n : task == n ? c->dfirst : c->dlast;
    for (int64_t j = 0; j < n; j++) out[j] = w->scratch[from + j];
    for (int64_t other = 1; other < tasks_of(c); other++)
        for (int64_t j = 0; j < n; j++) out[j] += w->scratch[other * task_size(c) + from + j];
}

int fr_crf_loss(const fr_crf *crf, float *scratch) {
    const int status = check(crf);
    if (status) return status;
    if (!crf->losses || (crf->dscores && !(crf->dchain && crf->dfirst && crf->dlast)))
        return FR_BAD_ARGUMENT;
    for (int64_t i = 0; crf->labels && i < crf->batch * crf->timesteps; i++)
        if ((!crf->mask || crf->mask[i]) && (uint64_t)crf->labels[i] >= (uint64_t)crf->tags)
            return FR_BAD_INDEX;
    const double top = pack(scratch, crf);
    float *rest = scratch + chain_size(crf);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(tasks_of(crf), fr_threads_for(flops_of(crf, 40)), crf_loss, crf, scratch, top, rest, &watch);
    if (is_stopped(&watch)) return FR_INTERRUPTED;
    if (crf->dscores)
        FOR_TASKS(crf->tags + 2, fr_threads_for((double)(tasks_of(crf) * chain_size(crf))), crf_sum, crf,
                  rest);
    return FR_OK;
}

WORK(crf_path, const fr_crf *crf; const float *chain; float *path, *scratch; pass_watch *watch;) {
    const fr_crf *c = w->crf;
    for (int64_t row = start(c, task); row < start(c, task + 1); row++) {
        if (fr_watch(w->watch)) break;
        fr_kernels()->crf_path(c, w->chain, width_of(c->tags), row,
                               w->path + row * c->timesteps * c->tags,
                               w->scratch + task * task_size(c));
    }
}

int fr_crf_path(const fr_crf *crf, float *path, float *scratch) {
    const int status = check(crf);
    if (status || !path) return status ? status : FR_BAD_ARGUMENT;
    pack(scratch, crf);
    pass_watch watch = fr_new_watch();
    FOR_TASKS(tasks_of(crf), fr_threads_for(flops_of(crf, 4)), crf_path, crf, scratch, path,
              scratch + chain_size(crf), &watch);
    return is_stopped(&watch) ? FR_INTERRUPTED : FR_OK;
}
