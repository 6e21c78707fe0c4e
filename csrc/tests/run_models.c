/* Runs the models that tests/c_models.py has written, with their inputs, and compares with the outputs
 * that Python gave:
 *
 *     run_models FILE [SEED]
 *
 * Each is run whole, row by row, in parts and step by step, on every instruction set, on one thread
 * and on two; and asked for sizes that no machine has. Built with AddressSanitizer and
 * UndefinedBehaviorSanitizer it fails at the first bad access. Prints what it did. */
#include "fastrnn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t size, batch, timesteps, inputs, outputs, masks; /* masks: may a step be padding? */
    double tolerance;
} head;
typedef struct {
    head h;
    uint8_t *bytes;
    int32_t *x; /* or floats */
    float *y;
} example;

static long number, streams, padded;
static const char *now = "";
static int fail(const char *what, long detail) {
    printf("model %ld, %s: %s (%ld)\n", number, now, what, detail);
    exit(1);
}
#define CHECK(right, detail) ((right) ? 0 : fail(#right, (long)(detail)))

static uint64_t seed = 1;
static int64_t any_below(int64_t n) { /* xorshift */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (int64_t)(seed % (uint64_t)n);
}

/* Exactly so much, so that an access past the end is seen. */
static void *of_size(int64_t n) {
    void *memory = malloc(n > 0 ? (size_t)n : 1);
    if (!memory) fail("no memory for the test", (long)n);
    return memory;
}
static void *read_part(FILE *file, int64_t bytes) {
    char padding[8];
    void *memory = of_size(bytes);
    CHECK(fread(memory, 1, (size_t)bytes, file) == (size_t)bytes, bytes);
    CHECK(fread(padding, 1, (size_t)(-bytes & 7), file) == (size_t)(-bytes & 7), bytes);
    return memory;
}

static void compare(const example *e, const float *y, const float *expected, int64_t n) {
    for (int64_t i = 0; i < n && e->h.tolerance < INFINITY; i++) {
        const int same = y[i] == expected[i] || (isnan(y[i]) && isnan(expected[i]));
        if (same || fabs((double)y[i] - expected[i]) <= e->h.tolerance) continue;
        printf("expected %g, received %g, tolerance %g\n", expected[i], y[i], e->h.tolerance);
        fail("wrong number", (long)i);
    }
}

/* The time steps [from, from + count) of the batch's rows, or of these in reverse. */
static void run_part(fastrnn_session *session, const example *e, int64_t features, int64_t from,
                     int64_t count, int reverse, const float *state, int64_t state_size, int *status,
                     float *new_state, float *y, int64_t y_row) {
    const int64_t batch = e->h.batch, steps = e->h.timesteps, row = count * features;
    int32_t *x = of_size(batch * row * 4);
    float *ordered = of_size(batch * state_size * 4), *out = of_size(batch * y_row * 4);
    for (int64_t b = 0; b < batch; b++) {
        const int64_t to = reverse ? batch - 1 - b : b;
        memcpy(x + to * row, e->x + (b * steps + from) * features, (size_t)row * 4);
        memcpy(ordered + to * state_size, state + b * state_size, (size_t)state_size * 4);
    }
    *status = fastrnn_run(session, x, batch, count, ordered, out);
    for (int64_t b = 0; b < batch; b++) {
        const int64_t at = reverse ? batch - 1 - b : b;
        memcpy(new_state + b * state_size, ordered + at * state_size, (size_t)state_size * 4);
        if (!*status) memcpy(y + b * y_row, out + at * y_row, (size_t)y_row * 4);
    }
    free(x), free(ordered), free(out);
}

/* parts: time steps of each call at most. */
static void run_stream(fastrnn_session *session, const example *e, const fastrnn_input *input,
                       const fastrnn_shape *output, int64_t most) {
    const int64_t batch = e->h.batch, steps = e->h.timesteps, size = input->state;
    const int64_t width = output->features;
    const size_t bytes = (size_t)(batch * size) * 4;
    float *state = of_size((int64_t)bytes), *next = of_size((int64_t)bytes);
    float *y = of_size(e->h.outputs * 4), *part = of_size(e->h.outputs * 4);
    memset(state, 0, bytes);
    for (int64_t t = 0, count; t < steps; t += count) {
        count = most > 1 ? 1 + any_below(most) : 1;
        if (count > steps - t) count = steps - t;
        const int64_t y_row = (output->timesteps ? count : 1) * width;
        int status;
        run_part(session, e, input->features, t, count, any_below(2) == 1, state, size, &status, next,
                 part, y_row);
        if (input->timesteps && count != steps) {
            CHECK(status == FASTRNN_BAD_SHAPE && !memcmp(state, next, bytes), status);
            goto end;
        }
        if (status == FASTRNN_NOT_STREAMABLE && e->h.masks) {
            CHECK(!memcmp(state, next, bytes), t); /* a refused call changes nothing */
            padded++;
            goto end;
        }
        CHECK(status == FASTRNN_OK, status);
        memcpy(state, next, bytes);
        for (int64_t b = 0; b < batch; b++)
            memcpy(y + (output->timesteps ? b * steps + t : b) * width, part + b * y_row,
                   (size_t)y_row * 4);
    }
    compare(e, y, e->y, e->h.outputs);
    streams++;
end:
    free(state), free(next), free(y), free(part);
}

static void ask_for_too_much(fastrnn_session *session, const fastrnn_model *model, const example *e) {
    static const int64_t sizes[] = {0, -1, 1, 3, INT32_MAX, 1ll + INT32_MAX, 1ll << 40, 1ll << 47,
                                    1ll << 56, 1ll << 62, INT64_MAX - 1, INT64_MAX, INT64_MIN};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    float y, state = 0;
    for (int b = 0; b < SIZES; b++)
        for (int t = 0; t < SIZES; t++) {
            fastrnn_shape shape = {-1, -1, -1};
            const int status = fastrnn_model_output(model, sizes[b], sizes[t], &shape);
            CHECK(status == FASTRNN_OK || (status == FASTRNN_BAD_SHAPE && shape.batch == -1), status);
            if (status) {
                CHECK(fastrnn_run(session, e->x, sizes[b], sizes[t], NULL, &y) == status, b);
                const int kept = fastrnn_run(session, e->x, sizes[b], sizes[t], &state, &y);
                CHECK(kept == status || kept == FASTRNN_NOT_STREAMABLE, kept);
                continue;
            }
            const double floats = (double)shape.batch * (double)(shape.timesteps + 1) * (double)shape.features;
            CHECK(shape.batch == sizes[b] && shape.features > 0 && floats <= 0x1p48, b);
            if (number % 50 == 0 && e->h.size > 64 && floats > 0x1p45) /* layers need room for as much */
                CHECK(fastrnn_run(session, e->x, sizes[b], sizes[t], NULL, &y) == FASTRNN_OUT_OF_MEMORY, b);
        }
}

static void run_example(const example *e) {
    fastrnn_model *model;
    fastrnn_session *session;
    fastrnn_input input;
    fastrnn_shape output;
    int status = fastrnn_model_read(&model, e->bytes, (size_t)e->h.size);
    CHECK(status == FASTRNN_OK, status);
    CHECK((status = fastrnn_session_new(&session, model)) == FASTRNN_OK, status);
    fastrnn_model_input(model, &input);
    const int64_t batch = e->h.batch, steps = e->h.timesteps, row = steps * input.features;
    CHECK(batch * row == e->h.inputs, input.features);
    status = fastrnn_model_output(model, batch, steps, &output);
    CHECK(status == FASTRNN_OK, status);
    const int64_t out = (output.timesteps ? output.timesteps : 1) * output.features;
    CHECK(batch * out == e->h.outputs, out);

    float *y = of_size(e->h.outputs * 4), *y_row = of_size(out * 4);
    int32_t *x_row = of_size(row * 4);
    for (int times = 0; times < 2; times++) {
        now = "whole";
        memset(y, 0xff, (size_t)e->h.outputs * 4);
        CHECK((status = fastrnn_run(session, e->x, batch, steps, NULL, y)) == FASTRNN_OK, status);
        compare(e, y, e->y, e->h.outputs);
        now = "one row";
        const int64_t b = any_below(batch);
        memcpy(x_row, e->x + b * row, (size_t)row * 4);
        CHECK((status = fastrnn_run(session, x_row, 1, steps, NULL, y_row)) == FASTRNN_OK, status);
        compare(e, y_row, e->y + b * out, out);
    }
    free(x_row), free(y_row), free(y);
    if (input.state >= 0) {
        now = "with state";
        run_stream(session, e, &input, &output, 1 << 30);
        now = "in parts";
        run_stream(session, e, &input, &output, 1 + steps / 2);
        now = "step by step";
        run_stream(session, e, &input, &output, 1);
    } else {
        float state[1] = {0};
        CHECK(fastrnn_run(session, e->x, batch, steps, state, e->y) == FASTRNN_NOT_STREAMABLE, 0);
    }
    now = "hostile sizes";
    ask_for_too_much(session, model, e);
    fastrnn_session_free(session);
    fastrnn_model_free(model);
}

/* What is no number, NULL, or a size that lies. */
static void ask_for_nonsense(const example *e) {
    fastrnn_model *model;
    fastrnn_session *session;
    fastrnn_shape shape;
    fastrnn_input input;
    const char *isa;
    CHECK(fastrnn_model_read(&model, e->bytes, (size_t)e->h.size) == FASTRNN_OK, 0);
    CHECK(fastrnn_session_new(&session, model) == FASTRNN_OK, 0);
    CHECK(fastrnn_model_read(NULL, e->bytes, 1) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_model_load(NULL, "") == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_model_input(NULL, &input) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_model_input(model, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_model_output(NULL, 1, 1, &shape) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_model_output(model, 1, 1, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_session_new(NULL, model) == FASTRNN_BAD_ARGUMENT, 0);
    fastrnn_session *none;
    CHECK(fastrnn_session_new(&none, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_run(NULL, e->x, 1, 1, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_run(session, NULL, 1, 1, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_run(session, e->x, 1, 1, NULL, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_isa(NULL) == FASTRNN_BAD_ARGUMENT && fastrnn_isa(&isa) == FASTRNN_OK, 0);
    CHECK(fastrnn_set_isa(NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_session_free(NULL) == FASTRNN_OK && fastrnn_model_free(NULL) == FASTRNN_OK, 0);
    static const int numbers[] = {0, -1, 1025, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 5; i++) {
        CHECK(fastrnn_set_threads(numbers[i]) == FASTRNN_BAD_ARGUMENT, i);
        CHECK(fastrnn_check_abi(numbers[i]) == FASTRNN_WRONG_ABI, i);
        CHECK(fastrnn_status_text(numbers[i]) != NULL, i);
    }
    static const size_t sizes[] = {0, 1, 47, 48, SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, SIZE_MAX - 7};
    for (int i = 0; i < 8; i++) {
        fastrnn_model *read = NULL;
        CHECK(fastrnn_model_read(&read, e->bytes, sizes[i]) == FASTRNN_NOT_A_MODEL && !read, i);
        CHECK(fastrnn_model_read(&read, NULL, sizes[i]) == FASTRNN_BAD_ARGUMENT, i);
    }
    fastrnn_session_free(session);
    fastrnn_model_free(model);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    FILE *file = fopen(argv[1], "rb");
    if (!file) return 2;
    const char *const sets[] = {"base", "avx2", "avx512"};
    example e;
    for (; fread(&e.h, sizeof e.h, 1, file) == 1; number++) {
        e.bytes = read_part(file, e.h.size);
        e.x = read_part(file, e.h.inputs * 4);
        e.y = read_part(file, e.h.outputs * 4);
        for (int s = 0; s < 3; s++)
            for (int threads = 1; threads <= 2; threads++) {
                fastrnn_set_threads(threads);
                if (fastrnn_set_isa(sets[s]) == FASTRNN_OK) run_example(&e);
            }
        if (number == 0) ask_for_nonsense(&e);
        free(e.bytes), free(e.x), free(e.y);
    }
    fclose(file);
    printf("models %ld, streams %ld, padded %ld\n", number, streams, padded);
    return number == 0;
}
