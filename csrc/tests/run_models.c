/* Runs the models that tests/c_models.py has written, with their inputs, and compares with the outputs
 * that Python gave:
 *
 *     run_models FILE [SEED]
 *
 * Graphs too. Each is run whole, row by row, in parts and step by step, on every instruction set, on one thread
 * and on two; and asked for sizes that no machine has. Built with AddressSanitizer and
 * UndefinedBehaviorSanitizer it fails at the first bad access. Prints what it did. */
#include "fastrnn.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    int64_t size, batch, inputs, outputs, masks; /* masks: may a step be padding? */
    double tolerance;
} head;
enum { MOST = 64 };
typedef struct {
    head h;
    fastrnn_shape shapes[2 * MOST]; /* of the inputs, then of the outputs */
    uint8_t *bytes;
    int32_t *x[MOST]; /* or floats */
    float *y[MOST];
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

static int64_t steps_of(fastrnn_shape s) { return s.timesteps ? s.timesteps : 1; }
static int64_t size_of(fastrnn_shape s) { return s.batch * steps_of(s) * s.features; }

static void compare(const example *e, const float *y, const float *expected, int64_t n) {
    for (int64_t i = 0; i < n && e->h.tolerance < INFINITY; i++) {
        const int same = y[i] == expected[i] || (isnan(y[i]) && isnan(expected[i]));
        if (same || fabs((double)y[i] - expected[i]) <= e->h.tolerance) continue;
        printf("expected %g, received %g, tolerance %g\n", expected[i], y[i], e->h.tolerance);
        fail("wrong number", (long)i);
    }
}

/* A model of one input and one output is run by the functions for these as often as by the others. */
static int is_single(const example *e) { return e->h.inputs == 1 && e->h.outputs == 1; }
static int call(fastrnn_session *session, const example *e, void *const *x, const fastrnn_shape *shapes,
                float *state, float *const *y) {
    if (is_single(e) && any_below(2))
        return fastrnn_run(session, x[0], shapes[0].batch, steps_of(shapes[0]), state, y[0]);
    return fastrnn_graph_run(session, (const void *const *)x, shapes, state, y);
}
static int ask_shapes(const fastrnn_model *model, const example *e, const fastrnn_shape *inputs,
                      fastrnn_shape *outputs) {
    if (is_single(e) && any_below(2))
        return fastrnn_model_output(model, inputs[0].batch, steps_of(inputs[0]), outputs);
    return fastrnn_graph_shapes(model, inputs, outputs);
}

/* Rows [row, row + rows) of an array, of these time steps [from, from + count); or of the rows in
 * reverse. Back: those of `part` are put there. */
static void move_rows(fastrnn_shape s, int32_t *whole, int32_t *part, int64_t row, int64_t rows,
                      int64_t from, int64_t count, int reverse, int back) {
    const int64_t steps = steps_of(s), width = (s.timesteps ? count : 1) * s.features;
    for (int64_t b = 0; b < rows; b++) {
        int32_t *one = whole + ((row + b) * steps + (s.timesteps ? from : 0)) * s.features;
        int32_t *other = part + (reverse ? rows - 1 - b : b) * width;
        memcpy(back ? one : other, back ? other : one, (size_t)width * 4);
    }
}

typedef struct {
    fastrnn_shape shapes[2 * MOST];
    void *x[MOST];
    float *y[MOST];
} part;
/* Inputs of so many rows and steps, and room for what they give; status of the question for it. */
static int new_part(const fastrnn_model *model, const example *e, int64_t row, int64_t rows, int64_t from,
                    int64_t count, int reverse, part *p) {
    const int64_t ins = e->h.inputs;
    for (int64_t i = 0; i < ins; i++) {
        fastrnn_shape s = e->shapes[i];
        p->shapes[i] = (fastrnn_shape){rows, s.timesteps ? count : 0, s.features};
        p->x[i] = of_size(size_of(p->shapes[i]) * 4);
        move_rows(s, e->x[i], p->x[i], row, rows, from, count, reverse, 0);
    }
    const int status = ask_shapes(model, e, p->shapes, p->shapes + ins);
    for (int64_t i = 0; i < e->h.outputs; i++) {
        p->y[i] = of_size(status ? 4 : size_of(p->shapes[ins + i]) * 4);
        if (!status) memset(p->y[i], 0xff, (size_t)size_of(p->shapes[ins + i]) * 4);
    }
    return status;
}
static void free_part(const example *e, part *p) {
    for (int64_t i = 0; i < e->h.inputs; i++) free(p->x[i]);
    for (int64_t i = 0; i < e->h.outputs; i++) free(p->y[i]);
}

/* The time steps that inputs have alike; 0 if they differ. */
static int64_t common_steps(const example *e) {
    int64_t steps = 1, any = 0;
    for (int64_t i = 0; i < e->h.inputs; i++) {
        if (!e->shapes[i].timesteps) continue;
        if (any && steps != e->shapes[i].timesteps) return 0;
        steps = e->shapes[i].timesteps, any = 1;
    }
    for (int64_t i = 0; i < e->h.outputs; i++)
        if (e->shapes[e->h.inputs + i].timesteps > 0 && e->shapes[e->h.inputs + i].timesteps != steps)
            return 0;
    return steps;
}
static int has_fixed_steps(const fastrnn_model *model, const example *e) {
    int fixed = 0;
    for (int i = 0; i < e->h.inputs; i++) {
        fastrnn_port p;
        CHECK(fastrnn_graph_input(model, i, &p) == FASTRNN_OK, i);
        fixed |= p.timesteps > 0;
    }
    return fixed;
}

static void turn_rows(float *rows, int64_t count, int64_t size) {
    for (int64_t b = 0; b < count / 2; b++)
        for (int64_t j = 0; j < size; j++) {
            const float kept = rows[b * size + j];
            rows[b * size + j] = rows[(count - 1 - b) * size + j];
            rows[(count - 1 - b) * size + j] = kept;
        }
}

/* most: time steps of each call at most. */
static void run_stream(fastrnn_session *session, const fastrnn_model *model, const example *e,
                       int64_t size, int64_t most) {
    const int64_t batch = e->h.batch, steps = common_steps(e), ins = e->h.inputs;
    const int fixed = has_fixed_steps(model, e);
    const size_t bytes = (size_t)(batch * size) * 4;
    float *state = of_size((int64_t)bytes), *kept = of_size((int64_t)bytes), *y[MOST];
    for (int64_t i = 0; i < e->h.outputs; i++) y[i] = of_size(size_of(e->shapes[ins + i]) * 4);
    memset(state, 0, bytes);
    int done = 1;
    for (int64_t t = 0, count; t < steps && done; t += count) {
        part p;
        const int reverse = any_below(2) == 1;
        count = most > 1 ? 1 + any_below(most) : 1;
        if (count > steps - t) count = steps - t;
        int status = new_part(model, e, 0, batch, t, count, reverse, &p);
        CHECK(status == FASTRNN_OK || (status == FASTRNN_BAD_SHAPE && fixed && count != steps), status);
        memcpy(kept, state, bytes);
        if (reverse) turn_rows(state, batch, size);
        status = call(session, e, p.x, p.shapes, state, p.y);
        if (reverse) turn_rows(state, batch, size);
        if (status) {
            CHECK(!memcmp(state, kept, bytes), t); /* a refused call changes nothing */
            CHECK((status == FASTRNN_BAD_SHAPE && fixed && count != steps) ||
                  (status == FASTRNN_NOT_STREAMABLE && e->h.masks), status);
            padded += status == FASTRNN_NOT_STREAMABLE;
            done = 0;
        }
        for (int64_t i = 0; i < e->h.outputs && done; i++)
            move_rows(e->shapes[ins + i], (int32_t *)y[i], (int32_t *)p.y[i], 0, batch, t, count, reverse, 1);
        free_part(e, &p);
    }
    for (int64_t i = 0; i < e->h.outputs && done; i++)
        compare(e, y[i], e->y[i], size_of(e->shapes[ins + i]));
    streams += done;
    for (int64_t i = 0; i < e->h.outputs; i++) free(y[i]);
    free(state), free(kept);
}

static void ask_for_too_much(fastrnn_session *session, const fastrnn_model *model, const example *e) {
    static const int64_t sizes[] = {0, -1, 1, 3, INT32_MAX, 1ll + INT32_MAX, 1ll << 40, 1ll << 47,
                                    1ll << 56, 1ll << 62, INT64_MAX - 1, INT64_MAX, INT64_MIN};
    enum { SIZES = sizeof sizes / sizeof *sizes };
    const int64_t ins = e->h.inputs, outs = e->h.outputs;
    float room[MOST], state = 0, *y[MOST];
    for (int64_t i = 0; i < outs; i++) y[i] = &room[i];
    for (int b = 0; b < SIZES; b++)
        for (int t = 0; t < SIZES; t++) {
            fastrnn_shape in[MOST], out[MOST];
            for (int64_t i = 0; i < outs; i++) out[i] = (fastrnn_shape){-1, -1, -1};
            for (int64_t i = 0; i < ins; i++)
                in[i] = (fastrnn_shape){sizes[b], e->shapes[i].timesteps ? sizes[t] : 0,
                                        any_below(50) ? e->shapes[i].features : sizes[any_below(SIZES)]};
            if (any_below(50) == 0) in[any_below(ins)].batch = sizes[any_below(SIZES)];
            const int status = fastrnn_graph_shapes(model, in, out);
            CHECK(status == FASTRNN_OK || (status == FASTRNN_BAD_SHAPE && out->batch == -1), status);
            if (status) {
                CHECK(fastrnn_graph_run(session, (const void *const *)e->x, in, NULL, y) == status, b);
                const int kept = fastrnn_graph_run(session, (const void *const *)e->x, in, &state, y);
                CHECK(kept == status || kept == FASTRNN_NOT_STREAMABLE, kept);
                continue;
            }
            for (int64_t i = 0; i < outs; i++) {
                const double floats =
                    (double)out[i].batch * (double)(out[i].timesteps + 1) * (double)out[i].features;
                CHECK(out[i].batch == in[0].batch && out[i].features > 0 && floats <= 0x1p48, b);
            }
        }
}

static void run_whole(fastrnn_session *session, const fastrnn_model *model, const example *e, int64_t row,
                      int64_t rows) {
    const int64_t ins = e->h.inputs;
    part p;
    for (int64_t i = 0; i < ins; i++) { /* each input has time steps of its own */
        fastrnn_shape s = e->shapes[i];
        p.shapes[i] = (fastrnn_shape){rows, s.timesteps, s.features};
        p.x[i] = of_size(size_of(p.shapes[i]) * 4);
        move_rows(s, e->x[i], p.x[i], row, rows, 0, s.timesteps, 0, 0);
    }
    int status = ask_shapes(model, e, p.shapes, p.shapes + ins);
    CHECK(status == FASTRNN_OK, status);
    for (int64_t i = 0; i < e->h.outputs; i++) {
        const fastrnn_shape known = e->shapes[ins + i], s = p.shapes[ins + i];
        CHECK(s.batch == rows && s.timesteps == known.timesteps && s.features == known.features, i);
        p.y[i] = of_size(size_of(s) * 4);
        memset(p.y[i], 0xff, (size_t)size_of(s) * 4);
    }
    CHECK((status = call(session, e, p.x, p.shapes, NULL, p.y)) == FASTRNN_OK, status);
    for (int64_t i = 0; i < e->h.outputs; i++) {
        const int64_t size = size_of(p.shapes[ins + i]);
        compare(e, p.y[i], e->y[i] + row * (size / rows), size);
    }
    free_part(e, &p);
}

/* What the model says of itself, beside the example. */
static int64_t describe(const fastrnn_model *model, const example *e) {
    fastrnn_sizes sizes;
    fastrnn_input input;
    CHECK(fastrnn_graph_sizes(model, &sizes) == FASTRNN_OK, 0);
    CHECK(sizes.inputs == e->h.inputs && sizes.outputs == e->h.outputs, sizes.outputs);
    for (int i = 0; i < sizes.inputs + sizes.outputs; i++) {
        const fastrnn_shape s = e->shapes[i];
        fastrnn_port p;
        const int status = i < sizes.inputs ? fastrnn_graph_input(model, i, &p)
                                            : fastrnn_graph_output(model, i - sizes.inputs, &p);
        CHECK(status == FASTRNN_OK && p.name, status);
        CHECK(p.sequences == (s.timesteps > 0) && (!p.timesteps || p.timesteps == s.timesteps), i);
        CHECK(!p.features || p.features == s.features, i);
    }
    const int status = fastrnn_model_input(model, &input);
    CHECK(status == (is_single(e) ? FASTRNN_OK : FASTRNN_SEVERAL), status);
    if (!status) CHECK(input.state == sizes.state && input.features == e->shapes->features, input.state);
    return sizes.state;
}

static void run_example(const example *e) {
    fastrnn_model *model;
    fastrnn_session *session;
    int status = fastrnn_model_read(&model, e->bytes, (size_t)e->h.size);
    CHECK(status == FASTRNN_OK, status);
    CHECK((status = fastrnn_session_new(&session, model)) == FASTRNN_OK, status);
    const int64_t state_size = describe(model, e), steps = common_steps(e);
    for (int times = 0; times < 2; times++) {
        now = "whole";
        run_whole(session, model, e, 0, e->h.batch);
        now = "one row";
        run_whole(session, model, e, any_below(e->h.batch), 1);
    }
    if (state_size >= 0 && steps) {
        now = "with state";
        run_stream(session, model, e, state_size, 1 << 30);
        now = "in parts";
        run_stream(session, model, e, state_size, 1 + steps / 2);
        now = "step by step";
        run_stream(session, model, e, state_size, 1);
    } else if (state_size < 0) {
        float state[1] = {0};
        CHECK(call(session, e, (void *const *)e->x, e->shapes, state, e->y) == FASTRNN_NOT_STREAMABLE, 0);
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
    CHECK(fastrnn_run(NULL, e->x[0], 1, 1, NULL, e->y[0]) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_run(session, NULL, 1, 1, NULL, e->y[0]) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_run(session, e->x[0], 1, 1, NULL, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    fastrnn_sizes counts;
    fastrnn_port p;
    CHECK(fastrnn_graph_sizes(NULL, &counts) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_sizes(model, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    static const int32_t wrong[] = {-1, 64, INT32_MAX, INT32_MIN};
    for (int i = 0; i < 4; i++) {
        CHECK(fastrnn_graph_input(model, wrong[i], &p) == FASTRNN_BAD_ARGUMENT, i);
        CHECK(fastrnn_graph_output(model, wrong[i], &p) == FASTRNN_BAD_ARGUMENT, i);
    }
    CHECK(fastrnn_graph_input(model, 0, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_output(NULL, 0, &p) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_shapes(NULL, e->shapes, &shape) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_shapes(model, NULL, &shape) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_shapes(model, e->shapes, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    const void *const *x = (const void *const *)e->x;
    const void *no_x[MOST] = {NULL};
    float *no_y[MOST] = {NULL};
    CHECK(fastrnn_graph_run(NULL, x, e->shapes, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_run(session, NULL, e->shapes, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_run(session, no_x, e->shapes, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_run(session, x, NULL, NULL, e->y) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_run(session, x, e->shapes, NULL, NULL) == FASTRNN_BAD_ARGUMENT, 0);
    CHECK(fastrnn_graph_run(session, x, e->shapes, NULL, no_y) == FASTRNN_BAD_ARGUMENT, 0);
    if (!is_single(e)) {
        CHECK(fastrnn_run(session, e->x[0], 1, 1, NULL, e->y[0]) == FASTRNN_SEVERAL, 0);
        CHECK(fastrnn_model_output(model, 1, 1, &shape) == FASTRNN_SEVERAL, 0);
    }
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
        if (sizes[i] == (size_t)e->h.size) continue; /* a model that does nothing */
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
        const int64_t ins = e.h.inputs, outs = e.h.outputs;
        CHECK(ins <= MOST && outs <= MOST, outs);
        CHECK(fread(e.shapes, sizeof *e.shapes, (size_t)(ins + outs), file) == (size_t)(ins + outs), outs);
        e.bytes = read_part(file, e.h.size);
        for (int64_t i = 0; i < ins; i++) e.x[i] = read_part(file, size_of(e.shapes[i]) * 4);
        for (int64_t i = 0; i < outs; i++) e.y[i] = read_part(file, size_of(e.shapes[ins + i]) * 4);
        for (int s = 0; s < 3; s++)
            for (int threads = 1; threads <= 2; threads++) {
                fastrnn_set_threads(threads);
                if (fastrnn_set_isa(sets[s]) == FASTRNN_OK) run_example(&e);
            }
        ask_for_nonsense(&e);
        free(e.bytes);
        for (int64_t i = 0; i < ins; i++) free(e.x[i]);
        for (int64_t i = 0; i < outs; i++) free(e.y[i]);
    }
    fclose(file);
    printf("models %ld, streams %ld, padded %ld\n", number, streams, padded);
    return number == 0;
}
