/* Public entries for training on flat arrays: ranges handed to the kernels on several threads. */
#include "engine.h"
#include "kernels.h"
#include "parallel.h"

#include <stddef.h>

/* Work is cut by its size alone, so that sums do not depend on the number of threads. */
#define MAX_BLOCKS 256
#define BLOCK 8192

typedef struct {
    int64_t rows, size, count; /* `count` blocks of `size` rows, the last one shorter */
} blocks;

static blocks blocks_of(int64_t rows, int64_t columns) {
    const int64_t count = 1 + rows * columns / BLOCK;
    int64_t size = count < MAX_BLOCKS ? (BLOCK + columns - 1) / columns : rows / MAX_BLOCKS + 1;
    if (columns == 1) size = (size + 15) / 16 * 16; /* whole vectors */
    return (blocks){rows, size, (rows + size - 1) / size};
}
static int64_t length(blocks b, int64_t block) {
    const int64_t left = b.rows - block * b.size;
    return left < b.size ? left : b.size;
}

#define COST 20.0 /* of one element, in operations */

WORK(update, const fr_update *u; blocks b; int64_t begin;) {
    const int64_t from = w->begin + task * w->b.size;
    fr_kernels()->update(w->u, from, from + length(w->b, task));
}
int fr_update_values(const fr_update *u, int64_t begin, int64_t end) {
    static const int needed[] = {0, 1, 2, 2, 1, 2};
    if (begin < 0 || end < begin) return FR_BAD_SIZE;
    if ((uint32_t)u->rule >= FR_RULES || !u->values || !u->gradients) return FR_BAD_ARGUMENT;
    for (int i = 0; i < needed[u->rule]; i++)
        if (!u->slots[i]) return FR_BAD_ARGUMENT;
    const blocks b = blocks_of(end - begin, 1);
    FOR_TASKS(b.count, fr_threads_for(COST * (double)b.rows), update, u, b, begin);
    return FR_OK;
}

WORK(sum_of_squares, const float *x; blocks b; double *sums;) {
    const int64_t from = task * w->b.size;
    w->sums[task] = fr_kernels()->sum_of_squares(w->x, from, from + length(w->b, task));
}
double fr_sum_of_squares(const float *x, int64_t n) {
    const blocks b = blocks_of(n, 1);
    double sums[MAX_BLOCKS], total = 0;
    FOR_TASKS(b.count, fr_threads_for((double)n), sum_of_squares, x, b, sums);
    for (int64_t i = 0; i < b.count; i++) total += sums[i];
    return total;
}

WORK(scale, float *x; float factor; blocks b;) {
    const int64_t from = task * w->b.size;
    fr_kernels()->scale(w->x, w->factor, from, from + length(w->b, task));
}
void fr_scale(float *x, float factor, int64_t n) {
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(b.count, fr_threads_for((double)n), scale, x, factor, b);
}

WORK(clip, float *x; float bound; blocks b;) {
    const int64_t from = task * w->b.size;
    fr_kernels()->clip(w->x, w->bound, from, from + length(w->b, task));
}
void fr_clip(float *x, float bound, int64_t n) {
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(b.count, fr_threads_for((double)n), clip, x, bound, b);
}

WORK(loss, const fr_loss *loss; blocks b; double *sums;) {
    w->sums[task] = fr_kernels()->loss(w->loss, task * w->b.size, length(w->b, task));
}
int fr_loss_value(double *value, const fr_loss *loss) {
    const int softmax = loss->kind == FR_SOFTMAX_CROSSENTROPY;
    if (loss->rows < 0 || loss->columns < 1 || loss->columns > INT32_MAX) return FR_BAD_SIZE;
    if ((uint32_t)loss->kind >= FR_LOSSES || !loss->z || (softmax && !loss->y) ||
        !(loss->targets || (softmax && loss->labels)))
        return FR_BAD_ARGUMENT;
    if (softmax && loss->labels)
        for (int64_t r = 0; r < loss->rows; r++)
            if ((uint64_t)loss->labels[r] >= (uint64_t)loss->columns) return FR_BAD_INDEX;
    const blocks b = blocks_of(loss->rows, loss->columns);
    double sums[MAX_BLOCKS];
    const double cost = COST * (double)loss->rows * (double)loss->columns;
    FOR_TASKS(b.count, fr_threads_for(cost), loss, loss, b, sums);
    *value = 0;
    for (int64_t i = 0; i < b.count; i++) *value += sums[i];
    return FR_OK;
}

WORK(activate, float *y; const float *x; int activation; blocks b;) {
    const int64_t from = task * w->b.size;
    fr_kernels()->activate(w->activation, w->y, w->x, from, from + length(w->b, task));
}
int fr_activate(float *y, const float *x, int64_t n, int activation) {
    if (!y || !x || n < 0) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS) return FR_BAD_ARGUMENT;
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(b.count, fr_threads_for(COST * (double)n), activate, y, x, activation, b);
    return FR_OK;
}

WORK(activate_back, float *dx; const float *dy, *y; int activation; blocks b;) {
    const int64_t from = task * w->b.size;
    fr_kernels()->activate_back(w->activation, w->dx, w->dy, w->y, from, from + length(w->b, task));
}
int fr_activate_back(float *dx, const float *dy, const float *y, int64_t n, int activation) {
    if (!dx || !dy || !y || n < 0) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS) return FR_BAD_ARGUMENT;
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(b.count, fr_threads_for(COST * (double)n), activate_back, dx, dy, y, activation, b);
    return FR_OK;
}

WORK(softmax, float *y; int64_t columns; blocks b;) {
    fr_kernels()->softmax(w->y, w->columns, task * w->b.size, length(w->b, task));
}
int fr_softmax(float *y, int64_t rows, int64_t columns) {
    if (!y || rows < 0 || columns < 1 || columns > INT32_MAX) return FR_BAD_SIZE;
    const blocks b = blocks_of(rows, columns);
    FOR_TASKS(b.count, fr_threads_for(COST * (double)rows * (double)columns), softmax, y, columns, b);
    return FR_OK;
}

WORK(binary_matches, float *matches; const float *y_true, *y_pred; float threshold; blocks b;
     int64_t *counts;) {
    const int64_t from = task * w->b.size;
    w->counts[task] = fr_kernels()->binary_matches(w->matches, w->y_true, w->y_pred, w->threshold, from,
                                                   from + length(w->b, task));
}
int64_t fr_binary_matches(float *matches, const float *y_true, const float *y_pred,
                          float threshold, int64_t n) {
    const blocks b = blocks_of(n, 1);
    int64_t counts[MAX_BLOCKS], total = 0;
    FOR_TASKS(b.count, fr_threads_for((double)n), binary_matches, matches, y_true, y_pred, threshold, b,
              counts);
    for (int64_t i = 0; i < b.count; i++) total += counts[i];
    return total;
}

WORK(class_matches, float *matches; const float *y_true; const int64_t *labels;
     const float *y_pred; int64_t columns; blocks b; int64_t *counts;) {
    w->counts[task] = fr_kernels()->class_matches(w->matches, w->y_true, w->labels, w->y_pred,
                                                  w->columns, task * w->b.size, length(w->b, task));
}
int64_t fr_class_matches(float *matches, const float *y_true, const int64_t *labels,
                         const float *y_pred, int64_t rows, int64_t columns) {
    if (columns < 1 || columns > INT32_MAX) return 0;
    const blocks b = blocks_of(rows, columns);
    int64_t counts[MAX_BLOCKS], total = 0;
    FOR_TASKS(b.count, fr_threads_for(4.0 * (double)rows * (double)columns), class_matches, matches,
              y_true, labels, y_pred, columns, b, counts);
    for (int64_t i = 0; i < b.count; i++) total += counts[i];
    return total;
}
