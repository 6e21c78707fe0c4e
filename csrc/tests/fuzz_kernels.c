/* Random shapes, masks, splits and numbers of threads through the kernels of recurrent layers and of
 * conditional random fields, on every instruction set, compared with the definition in double
 * precision: outputs one by one, gradients by the derivative of the loss in a random direction. Arrays
 * are allocated to the byte, so that AddressSanitizer sees every access beyond them.
 *
 *     fuzz_kernels [rounds] [seed]          prints the first difference and ends with status 1 */
#include "engine.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int cell, zero_output, reverse;
    int64_t B, T, F, U, G;
    float *x, *kernel, *recurrent, *bias, *h0, *c0, *dy; /* h0, c0 may be NULL */
    uint8_t *mask;                                        /* or NULL */
    int64_t choices;                                      /* or 0; else x is rows at index */
    float *rows;
    int32_t *index;
} problem;

static const int GATES[] = {[FR_LSTM] = 4, [FR_GRU] = 3, [FR_SIMPLE_RNN] = 1, [FR_GRU_RESET_BEFORE] = 3};

static _Thread_local uint64_t state;
static void seed(uint64_t number) { state = 0x9e3779b97f4a7c15u * (2 * number + 1); }
static uint64_t draw(void) { /* xorshift64* */
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return state * 2685821657736338717u;
}
static int64_t between(int64_t low, int64_t high) {
    return low + (int64_t)((draw() >> 11) % (uint64_t)(high - low + 1));
}
static void *allocate(size_t bytes) {
    void *p = malloc(bytes ? bytes : 1);
    if (!p) exit(2);
    return p;
}
static float *array(int64_t n, double scale) {
    float *a = allocate((size_t)n * sizeof *a);
    for (int64_t i = 0; i < n; i++)
        a[i] = (float)(scale * ((double)(draw() >> 11) / (double)(1ull << 52) - 1));
    return a;
}

/* x of each step from the rows that p picks from. */
static float *pick(const problem *p, const float *rows) {
    float *x = allocate((size_t)(p->B * p->T * p->F) * sizeof *x);
    for (int64_t n = 0; n < p->B * p->T; n++)
        memcpy(x + n * p->F, rows + p->index[n] * p->F, (size_t)p->F * sizeof *x);
    return x;
}

/* --- the definition -------------------------------------------------------------------------- */

typedef struct { /* an amount added to the inputs in a direction of their own */
    double step;
    const float *x, *kernel, *recurrent, *bias;
} shift;

#define MOVED(name, i) (p->name[i] + s.step * (s.name ? (double)s.name[i] : 0.0))

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

/* y (B, T, U) in the layer's own order of time; returns sum(dy * y). */
static double reference(double *y, const problem *p, shift s) {
    const int64_t U = p->U, F = p->F, T = p->T, C = p->G * U;
    double *h = allocate(3 * (size_t)U * sizeof *h), *c = h + U, *out = c + U;
    double *zx = allocate(2 * (size_t)C * sizeof *zx), *zh = zx + C, loss = 0;
    for (int64_t b = 0; b < p->B; b++) {
        for (int64_t j = 0; j < U; j++) {
            h[j] = p->h0 ? p->h0[b * U + j] : 0;
            c[j] = p->c0 ? p->c0[b * U + j] : 0;
            out[j] = 0;
        }
        for (int64_t t = 0; t < T; t++) {
            const int64_t place = b * T + (p->reverse ? T - 1 - t : t);
            if (p->mask && !p->mask[place]) {
                for (int64_t j = 0; j < U && p->zero_output; j++) out[j] = 0;
            } else {
                for (int64_t n = 0; n < C; n++) {
                    zx[n] = MOVED(bias, n);
                    zh[n] = p->cell == FR_GRU ? MOVED(bias, C + n) : 0;
                    for (int64_t k = 0; k < F; k++)
                        zx[n] += MOVED(x, place * F + k) * MOVED(kernel, k * C + n);
                    if (p->cell == FR_GRU_RESET_BEFORE && n >= 2 * U) continue;
                    for (int64_t k = 0; k < U; k++) zh[n] += h[k] * MOVED(recurrent, k * C + n);
                }
                for (int64_t n = 2 * U; n < C && p->cell == FR_GRU_RESET_BEFORE; n++)
                    for (int64_t k = 0; k < U; k++)
                        zh[n] += sigmoid(zx[U + k] + zh[U + k]) * h[k] * MOVED(recurrent, k * C + n);
                for (int64_t j = 0; j < U; j++) {
                    const double first = sigmoid(zx[j] + zh[j]);
                    if (p->cell == FR_LSTM) {
                        c[j] = sigmoid(zx[U + j] + zh[U + j]) * c[j] +
                               first * tanh(zx[2 * U + j] + zh[2 * U + j]);
                        h[j] = sigmoid(zx[3 * U + j] + zh[3 * U + j]) * tanh(c[j]);
                    } else if (p->cell == FR_SIMPLE_RNN) {
                        h[j] = tanh(zx[j] + zh[j]);
                    } else {
                        const double reset =
                            p->cell == FR_GRU ? sigmoid(zx[U + j] + zh[U + j]) : 1;
                        h[j] = first * h[j] +
                               (1 - first) * tanh(zx[2 * U + j] + reset * zh[2 * U + j]);
                    }
                }
                memcpy(out, h, (size_t)U * sizeof *h);
            }
            for (int64_t j = 0; j < U; j++) {
                if (y) y[place * U + j] = out[j];
                loss += p->dy[place * U + j] * out[j];
            }
        }
    }
    free(h), free(zx);
    return loss;
}

/* --- the kernels ------------------------------------------------------------------------------ */

typedef struct {
    float *y, *dx, *dkernel, *drecurrent, *dbias;
} result;

static fr_rnn direction(const problem *p, result *r, float *packed, float *back, float *products) {
    const int64_t first = p->reverse ? p->T - 1 : 0, sign = p->reverse ? -1 : 1;
    fr_rnn rnn = {
        .cell = p->cell, .batch = p->B, .timesteps = p->T, .features = p->F, .units = p->U,
        .activation = FR_TANH, .recurrent_activation = FR_SIGMOID,
        .zero_output_for_mask = p->zero_output, .packed = packed, .packed_back = back,
        .x = p->x + first * p->F, .x_row = p->T * p->F, .x_time = sign * p->F,
        .mask = p->mask ? p->mask + first : NULL, .mask_row = p->T, .mask_time = sign,
        .h0 = p->h0, .c0 = p->c0,
        .y = r->y + first * p->U, .y_row = p->T * p->U, .y_time = sign * p->U,
        .dy = p->dy + first * p->U, .dy_row = p->T * p->U, .dy_time = sign * p->U,
        .dx = r->dx + first * p->F, .dx_row = p->T * p->F, .dx_time = sign * p->F,
        .dkernel = r->dkernel, .drecurrent = r->drecurrent, .dbias = r->dbias,
    };
    if (p->choices == 0) return rnn;
    rnn.x = p->rows, rnn.x_row = p->F, rnn.choices = p->choices, rnn.products = products;
    rnn.index = p->index + first, rnn.index_row = p->T, rnn.index_time = sign;
    rnn.dx = r->dx, rnn.dx_row = p->F;
    return rnn;
}

static int status(int code) {
    if (code != FR_OK) printf("status %d\n", code);
    return code != FR_OK;
}

/* Forward without and with `saved`, then backward, of one or two directions side by side. */
static int compute(const problem *p, result *r, int count) {
    fr_rnn rnn[2];
    float *memory[2][7] = {{0}}, *scratch[2];
    int wrong = 0;
    for (int d = 0; d < count; d++) {
        const problem *q = p + d;
        memory[d][0] = array(fr_rnn_packed_size(q->cell, q->F, q->U), 1);
        memory[d][1] = array(fr_rnn_packed_back_size(q->cell, q->F, q->U), 1);
        fr_rnn_pack(q->cell, memory[d][0], q->kernel, q->recurrent, q->bias, q->F, q->U);
        fr_rnn_pack_back(q->cell, memory[d][1], q->kernel, q->recurrent, q->F, q->U);
        memory[d][6] = array(fr_rnn_products_size(q->cell, q->choices, q->F, q->U), 1);
        rnn[d] = direction(q, r + d, memory[d][0], memory[d][1], memory[d][6]);
        if (q->choices) wrong |= status(fr_rnn_multiply(rnn + d));
    }
    fr_rnn_split split = fr_rnn_best_split(rnn, count);
    if (split.parts == 1 && between(0, 1)) split.slices = between(1, p->B < 4 ? p->B : 4);
    for (int d = 0; d < count; d++)
        scratch[d] = memory[d][2] = array(fr_rnn_forward_scratch(rnn + d, split), 1);
    wrong |= status(fr_rnn_forward(rnn, count, split, scratch));
    for (int d = 0; d < count; d++) {
        const int64_t n = p[d].B * p[d].T * p[d].U;
        memory[d][3] = allocate((size_t)n * sizeof(float));
        memcpy(memory[d][3], r[d].y, (size_t)n * sizeof(float));
        rnn[d].saved = memory[d][4] = array(fr_rnn_saved_size(rnn + d, split), 1);
        scratch[d] = NULL;
    }
    wrong |= status(fr_rnn_forward(rnn, count, split, scratch));
    for (int d = 0; d < count; d++) {
        const int64_t n = p[d].B * p[d].T * p[d].U;
        for (int64_t i = 0; i < n && !wrong; i++)
            if (fabsf(memory[d][3][i] - r[d].y[i]) > 1e-5f) wrong = 1;
        if (wrong) printf("inference and training differ\n");
        scratch[d] = memory[d][5] = array(fr_rnn_backward_scratch(rnn + d, split), 1);
    }
    wrong |= status(fr_rnn_backward(rnn, count, split, scratch));
    for (int d = 0; d < count; d++) {
        for (int i = 0; i < 7; i++) free(memory[d][i]);
    }
    return wrong;
}

/* --- comparing -------------------------------------------------------------------------------- */

static double dot(const float *a, const float *b, int64_t n, double *size) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i], *size += fabs((double)a[i] * b[i]);
    return sum;
}

static int differs(const problem *p, const result *r) {
    const int64_t n = p->B * p->T * p->U, C = p->G * p->U, biases = p->cell == FR_GRU ? 2 * C : C;
    double *y = allocate((size_t)n * sizeof *y), worst = 0;
    reference(y, p, (shift){0});
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs(y[i] - r->y[i]);
        if (!(error <= worst)) worst = error; /* NaN counts */
    }
    free(y);
    if (!(worst < 2e-5)) return printf("y differs by %g\n", worst), 1;

    const int64_t inputs = (p->choices ? p->choices : p->B * p->T) * p->F;
    float *of_x = array(inputs, 1);
    shift s = {0, p->choices ? pick(p, of_x) : of_x, array(p->F * C, 1), array(p->U * C, 1),
               array(biases, 1)};
    const double step = 1e-4;
    s.step = step;
    double expected = reference(NULL, p, s), size = 0.1;
    s.step = -step;
    expected = (expected - reference(NULL, p, s)) / (2 * step);
    const double received = dot(r->dx, of_x, inputs, &size) +
                            dot(r->dkernel, s.kernel, p->F * C, &size) +
                            dot(r->drecurrent, s.recurrent, p->U * C, &size) +
                            dot(r->dbias, s.bias, biases, &size);
    if (s.x != of_x) free(of_x);
    free((void *)s.x), free((void *)s.kernel), free((void *)s.recurrent), free((void *)s.bias);
    if (!(fabs(received - expected) < 1e-4 * size))
        return printf("derivative is %g, expected %g\n", received, expected), 1;
    return 0;
}

static problem random_problem(int wide) {
    problem p = {.cell = (int)between(0, FR_CELLS - 1), .zero_output = (int)between(0, 1)};
    p.reverse = (int)between(0, 1);
    p.B = between(1, wide ? 5 : 14);
    p.T = between(1, 9);
    p.F = wide && between(0, 1) ? between(300, 400) : between(1, 40); /* weights beyond 1 MB */
    p.U = wide ? between(128, 200) : between(1, 70); /* from 128 on, threads may share the units */
    p.G = GATES[p.cell];
    return p;
}

static void fill(problem *p) {
    const int64_t C = p->G * p->U;
    p->choices = between(0, 2) ? 0 : between(1, 30);
    p->rows = array(p->choices * p->F, 1);
    p->index = allocate((size_t)(p->B * p->T) * sizeof *p->index);
    for (int64_t n = 0; n < p->B * p->T && p->choices; n++)
        p->index[n] = (int32_t)between(0, p->choices - 1);
    p->x = p->choices ? pick(p, p->rows) : array(p->B * p->T * p->F, 1);
    p->kernel = array(p->F * C, 1 / sqrt((double)p->F));
    p->recurrent = array(p->U * C, 1 / sqrt((double)p->U));
    p->bias = array(p->cell == FR_GRU ? 2 * C : C, 0.5);
    p->h0 = between(0, 1) ? array(p->B * p->U, 1) : NULL;
    p->c0 = p->cell == FR_LSTM && between(0, 1) ? array(p->B * p->U, 1) : NULL;
    p->dy = array(p->B * p->T * p->U, 1);
    p->mask = NULL;
    const int64_t kind = between(0, 4); /* none, all, few, half of the steps, or a run of them */
    if (kind == 0) return;
    p->mask = allocate((size_t)(p->B * p->T));
    for (int64_t b = 0; b < p->B; b++) {
        const int64_t first = between(0, 1) * between(0, p->T - 1), end = between(1, p->T);
        uint8_t *mask = p->mask + b * p->T;
        for (int64_t t = 0; t < p->T; t++)
            mask[t] = kind == 1 ? 1 : kind == 2 ? between(0, 7) == 0 : kind == 3 ? between(0, 1) != 0
                    : t >= first && t < end;
    }
}

/* threads: 0 to leave number of threads and instruction set as they are */
static int round_of(int number, int threads) {
    problem p[2];
    result r[2];
    const int count = (int)between(1, 2);
    p[0] = random_problem(between(0, 7) == 0);
    p[1] = p[0];
    p[1].reverse = !p[0].reverse;
    for (int d = 0; d < count; d++) {
        fill(p + d);
        const int64_t C = p[d].G * p[d].U;
        const int64_t inputs = p[d].choices ? p[d].choices : p[d].B * p[d].T;
        r[d] = (result){array(p[d].B * p[d].T * p[d].U, 9), array(inputs * p[d].F, 9),
                        array(p[d].F * C, 9), array(p[d].U * C, 9),
                        array(p[d].cell == FR_GRU ? 2 * C : C, 9)};
    }
    if (threads) fr_set_threads(threads);
    int wrong = 0;
    for (int isa = 0; (threads ? fr_isa_name(isa) != NULL : isa == 0) && !wrong; isa++) {
        if (threads) fr_set_isa(fr_isa_name(isa));
        wrong = compute(p, r, count);
        for (int d = 0; d < count && !wrong; d++) wrong = differs(p + d, r + d);
        if (wrong)
            printf("round %d: %s, cell %d, batch %ld, timesteps %ld, features %ld, units %ld, "
                   "choices %ld, mask %d, zero_output_for_mask %d, directions %d, threads %d\n",
                   number, fr_isa(), p->cell, (long)p->B, (long)p->T, (long)p->F, (long)p->U,
                   (long)p->choices, p->mask != NULL, p->zero_output, count, fr_threads());
    }
    for (int d = 0; d < count; d++) {
        free(p[d].x), free(p[d].kernel), free(p[d].recurrent), free(p[d].bias), free(p[d].h0);
        free(p[d].c0), free(p[d].dy), free(p[d].mask), free(p[d].rows), free(p[d].index);
        free(r[d].y), free(r[d].dx), free(r[d].dkernel), free(r[d].drecurrent), free(r[d].dbias);
    }
    return wrong;
}

/* --- conditional random fields ------------------------------------------------------------------- */

/* Sum of the losses in double precision of what is moved by `step` in directions of their own. */
static double crf_reference(const fr_crf *c, const fr_crf *by, double step) {
    const int64_t n = c->tags;
    double *alpha = allocate(2 * (size_t)n * sizeof *alpha), *next = alpha + n, total = 0;
#define AT(name, i) (c->name[i] + step * (by ? (double)by->name[i] : 0.0))
    for (int64_t b = 0; b < c->batch; b++) {
        int64_t before = -1, label = 0;
        for (int64_t t = 0; t < c->timesteps; t++) {
            const int64_t place = b * c->timesteps + t;
            if (c->mask && !c->mask[place]) continue;
            for (int64_t j = 0; j < n; j++) {
                double sum = 0;
                for (int64_t i = 0; i < n && before >= 0; i++)
                    sum += exp(alpha[i] + AT(chain, i * n + j));
                next[j] = AT(scores, place * n + j) + (before < 0 ? AT(first, j) : log(sum));
            }
            label = c->labels[place];
            total -= AT(scores, place * n + label);
            total -= before < 0 ? AT(first, label) : AT(chain, before * n + label);
            before = label;
            memcpy(alpha, next, (size_t)n * sizeof *alpha);
        }
        double sum = 0;
        for (int64_t j = 0; j < n && before >= 0; j++) sum += exp(alpha[j] + AT(last, j));
        if (before >= 0) total += log(sum) - AT(last, label);
    }
#undef AT
    free(alpha);
    return total;
}

static int crf_differs(fr_crf *c) {
    const int64_t steps = c->batch * c->timesteps, n = c->tags;
    float *scratch = array(fr_crf_scratch(c), 9), *path = array(steps * n, 9);
    double received = 0, size = 0.1, sum = 0;
    int wrong = status(fr_crf_loss(c, scratch)) | status(fr_crf_path(c, path, scratch));
    for (int64_t b = 0; b < c->batch; b++) sum += c->losses[b];
    const double expected = crf_reference(c, NULL, 0), step = 1e-4;
    if (!(fabs(sum - expected) < 1e-5 * (1 + fabs(expected))))
        wrong = 1, printf("loss is %g, expected %g\n", sum, expected);
    const fr_crf by = {.scores = array(steps * n, 1), .chain = array(n * n, 1), .first = array(n, 1),
                       .last = array(n, 1)};
    const double slope = (crf_reference(c, &by, step) - crf_reference(c, &by, -step)) / (2 * step);
    received += dot(c->dscores, by.scores, steps * n, &size);
    received += dot(c->dchain, by.chain, n * n, &size);
    received += dot(c->dfirst, by.first, n, &size) + dot(c->dlast, by.last, n, &size);
    if (!(fabs(received - slope) < 1e-4 * size))
        wrong = 1, printf("derivative is %g, expected %g\n", received, slope);
    int64_t *best = allocate((size_t)steps * sizeof *best);
    for (int64_t i = 0; i < steps; i++) {
        best[i] = 0;
        while (best[i] < n - 1 && path[i * n + best[i]] != 1) best[i]++;
    }
    const int64_t *labels = c->labels;
    c->labels = best; /* no path is likelier than the best one */
    if (!(crf_reference(c, NULL, 0) < expected + 1e-5 * (1 + fabs(expected))))
        wrong = 1, printf("the path is not the best one\n");
    c->labels = labels;
    free(scratch), free(path), free(best), free((void *)by.scores), free((void *)by.chain);
    free((void *)by.first), free((void *)by.last);
    return wrong;
}

static int crf_round(int number, int threads) {
    fr_crf c = {.batch = between(1, 40), .timesteps = between(1, 9), .tags = between(1, 40)};
    const int64_t steps = c.batch * c.timesteps, n = c.tags;
    c.scores = array(steps * n, 3), c.chain = array(n * n, 3);
    c.first = array(n, 3), c.last = array(n, 3);
    c.losses = allocate((size_t)c.batch * sizeof *c.losses);
    c.dscores = array(steps * n, 9), c.dchain = array(n * n, 9);
    c.dfirst = array(n, 9), c.dlast = array(n, 9);
    int64_t *labels = allocate((size_t)steps * sizeof *labels);
    uint8_t *mask = allocate((size_t)steps);
    const int64_t share = between(0, 3);
    for (int64_t i = 0; i < steps; i++) {
        mask[i] = between(0, 3) < share;
        labels[i] = mask[i] || share == 3 ? between(0, n - 1) : -1;
    }
    c.labels = labels, c.mask = share == 3 ? NULL : mask;
    if (threads) fr_set_threads(threads);
    int wrong = 0;
    for (int isa = 0; (threads ? fr_isa_name(isa) != NULL : isa == 0) && !wrong; isa++) {
        if (threads) fr_set_isa(fr_isa_name(isa));
        wrong = crf_differs(&c);
        if (wrong)
            printf("round %d: %s, CRF, batch %ld, timesteps %ld, tags %ld, mask %d, threads %d\n", number,
                   fr_isa(), (long)c.batch, (long)c.timesteps, (long)n, c.mask != NULL, fr_threads());
    }
    free((void *)c.scores), free((void *)c.chain), free((void *)c.first), free((void *)c.last);
    free(c.losses), free(c.dscores), free(c.dchain), free(c.dfirst), free(c.dlast);
    free(labels), free(mask);
    return wrong;
}

/* One of several threads that call the engine at once. */
static void *caller(void *argument) {
    const int *numbers = argument; /* rounds, seed */
    seed((uint64_t)numbers[1]);
    for (int number = 0; number < numbers[0]; number++)
        if (round_of(number, 0) || crf_round(number, 0)) exit(1);
    return NULL;
}

int main(int argc, char **argv) {
    const int rounds = argc > 1 ? atoi(argv[1]) : 100, first = argc > 2 ? atoi(argv[2]) : 0;
    seed((uint64_t)first);
    for (int number = 0; number < rounds; number++)
        if (round_of(number, (int)between(1, 3)) || crf_round(number, (int)between(1, 3))) return 1;

    pthread_t callers[3];
    int numbers[3][2];
    fr_set_threads(2);
    fr_set_isa(fr_isa_name(0));
    for (int i = 0; i < 3; i++) {
        numbers[i][0] = rounds / 5, numbers[i][1] = first + 1 + i;
        if (pthread_create(callers + i, NULL, caller, numbers[i])) return 2;
    }
    for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
    printf("%d rounds on", rounds);
    for (int isa = 0; fr_isa_name(isa); isa++) printf(" %s", fr_isa_name(isa));
    printf("\n");
    return 0;
}
