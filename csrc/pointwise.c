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

int fr_update_values(const fr_update *u, int64_t begin, int64_t end) {
    static const int needed[] = {0, 1, 2, 2, 1, 2};
    if (begin < 0 || end < begin) return FR_BAD_SIZE;
    if ((uint32_t)u->rule >= FR_RULES || !u->values || !u->gradients) return FR_BAD_ARGUMENT;
    for (int i = 0; i < needed[u->rule]; i++)
        if (!u->slots[i]) return FR_BAD_ARGUMENT;
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(end - begin, 1);
    FOR_TASKS(task, b.count, fr_threads_for(COST * (double)b.rows), {
        const int64_t from = begin + task * b.size;
        k->update(u, from, from + length(b, task));
    });
    return FR_OK;
}

double fr_sum_of_squares(const float *x, int64_t n) {
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(n, 1);
    double sums[MAX_BLOCKS], total = 0;
    FOR_TASKS(task, b.count, fr_threads_for((double)n), {
        const int64_t from = task * b.size;
        sums[task] = k->sum_of_squares(x, from, from + length(b, task));
    });
    for (int64_t i = 0; i < b.count; i++) total += sums[i];
    return total;
}

void fr_scale(float *x, float factor, int64_t n) {
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(task, b.count, fr_threads_for((double)n), {
        const int64_t from = task * b.size;
        k->scale(x, factor, from, from + length(b, task));
    });
}

void fr_clip(float *x, float bound, int64_t n) {
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(task, b.count, fr_threads_for((double)n), {
        const int64_t from = task * b.size;
        k->clip(x, bound, from, from + length(b, task));
    });
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
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(loss->rows, loss->columns);
    double sums[MAX_BLOCKS];
    const double cost = COST * (double)loss->rows * (double)loss->columns;
    FOR_TASKS(task, b.count, fr_threads_for(cost),
              sums[task] = k->loss(loss, task * b.size, length(b, task)));
    *value = 0;
    for (int64_t i = 0; i < b.count; i++) *value += sums[i];
    return FR_OK;
}

int fr_activate(float *y, const float *x, int64_t n, int activation) {
    if (!y || !x || n < 0) return FR_BAD_SIZE;
    if ((uint32_t)activation >= FR_ACTIVATIONS) return FR_BAD_ARGUMENT;
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(n, 1);
    FOR_TASKS(task, b.count, fr_threads_for(COST * (double)n), {
        const int64_t from = task * b.size;
        k->activate(activation, y, x, from, from + length(b, task));
    });
    return FR_OK;
}

int fr_softmax(float *y, int64_t rows, int64_t columns) {
    if (!y || rows < 0 || columns < 1 || columns > INT32_MAX) return FR_BAD_SIZE;
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(rows, columns);
    FOR_TASKS(task, b.count, fr_threads_for(COST * (double)rows * (double)columns),
              k->softmax(y, columns, task * b.size, length(b, task)));
    return FR_OK;
}

int64_t fr_binary_matches(float *matches, const float *y_true, const float *y_pred,
                          float threshold, int64_t n) {
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(n, 1);
    int64_t counts[MAX_BLOCKS], total = 0;
    FOR_TASKS(task, b.count, fr_threads_for((double)n), {
        const int64_t from = task * b.size;
        counts[task] = k->binary_matches(matches, y_true, y_pred, threshold, from,
                                         from + length(b, task));
    });
    for (int64_t i = 0; i < b.count; i++) total += counts[i];
    return total;
}

int64_t fr_class_matches(float *matches, const float *y_true, const int64_t *labels,
                         const float *y_pred, int64_t rows, int64_t columns) {
    if (columns < 1 || columns > INT32_MAX) return 0;
    const kernel_table *k = fr_kernels();
    const blocks b = blocks_of(rows, columns);
    int64_t counts[MAX_BLOCKS], total = 0;
    FOR_TASKS(task, b.count, fr_threads_for(4.0 * (double)rows * (double)columns),
              counts[task] = k->class_matches(matches, y_true, labels, y_pred, columns,
                                              task * b.size, length(b, task)));
    for (int64_t i = 0; i < b.count; i++) total += counts[i];
    return total;
}
