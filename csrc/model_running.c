/* libfastrnn: runs a network that was read. */
#include "model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* --- a call's plan --------------------------------------------------------------------------------- */

/* Between the buffers of a session AddressSanitizer finds a gap. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { GAP = 16 };
static void open_gaps(fastrnn_session *session) {
    __asan_unpoison_memory_region(session->memory, (size_t)session->size * sizeof(float));
}
static float *after_gap(float *gap) {
    __asan_poison_memory_region(gap, GAP * sizeof(float));
    return gap + GAP;
}
#else
enum { GAP = 0 };
static void open_gaps(fastrnn_session *session) { (void)session; }
static float *after_gap(float *gap) { return gap; }
#endif

/* The directions of a layer from x (or indices) to y, and to apart in the mode of that name: in them a
 * step has `width` floats. */
static void set_directions(const layer *l, fastrnn_shape in, const float *x, const uint8_t *mask,
                           float *y, float *apart, fr_rnn *rnn) {
    static const int32_t some_index;
    const int64_t steps = in.timesteps;
    const int in_two = is_apart(l);
    for (int i = 0; i < l->count; i++) {
        const direction *d = &l->directions[i];
        const int64_t first = d->flags & BACKWARDS ? steps - 1 : 0, way = first ? -1 : 1;
        const int64_t width = in_two ? d->units : l->directions[0].units + l->directions[1].units;
        float *part = i && in_two ? apart : y && i ? y + l->directions[0].units : y;
        rnn[i] = (fr_rnn){
            .cell = d->cell, .batch = in.batch, .timesteps = steps, .features = l->in,
            .units = d->units, .activation = d->activation,
            .recurrent_activation = d->recurrent_activation,
            .zero_output_for_mask = (d->flags & ZERO_OUTPUT) != 0, .packed = d->packed,
            .x = x ? x + first * l->in : NULL, .x_row = steps * l->in, .x_time = way * l->in,
            .mask = mask ? mask + first : NULL, .mask_row = steps, .mask_time = way};
        if (d->products) {
            rnn[i].x = NULL;
            rnn[i].index = x ? (const int32_t *)x + first : &some_index;
            rnn[i].index_row = steps, rnn[i].index_time = way;
            rnn[i].choices = l->n, rnn[i].products = d->products;
        }
        if (has_sequences(l)) { /* the second direction's outputs are turned round, as in Keras */
            rnn[i].y = part && i ? part + (steps - 1) * width : part;
            rnn[i].y_row = steps * width;
            rnn[i].y_time = i ? -width : width;
        } else {
            rnn[i].last = part;
            rnn[i].last_row = width;
        }
    }
}

/* Scratch: memory NULL only counts how much of it there has to be. */
typedef struct {
    float *memory;
    int64_t used;
} scratch;
static float *take_scratch(scratch *s, int64_t floats) {
    float *part = s->memory ? s->memory + s->used : NULL;
    s->used += (floats + 15) / 16 * 16;
    return part;
}
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

typedef struct {
    float *left, *right, *packed;
} dot_scratch;
static dot_scratch lay_out_dot(const layer *l, fastrnn_shape left, fastrnn_shape right, scratch *s) {
    const dot_side b = side_of_dot(l->option >> 1 & 1, right);
    dot_scratch d;
    d.left = take_scratch(s, floats_of(left) / left.batch);
    d.right = take_scratch(s, floats_of(right) / right.batch);
    d.packed = take_scratch(s, fr_dense_packed_size(b.size, b.rows ? b.rows : 1));
    return d;
}

typedef struct {
    float *scores, *sums, *packed;
} attention_scratch;
static attention_scratch lay_out_attention(const layer *l, fastrnn_shape query, fastrnn_shape value,
                                           fastrnn_shape key, scratch *s) {
    const int64_t steps = key.timesteps;
    attention_scratch a;
    a.scores = take_scratch(s, query.timesteps * steps);
    a.sums = take_scratch(s, l->option ? steps * key.features : 0);
    a.packed = take_scratch(s, larger(fr_dense_packed_size(key.features, steps),
                                      fr_dense_packed_size(steps, value.features)));
    return a;
}

typedef struct {
    float *queries, *keys, *values, *contexts;              /* of all heads */
    float *query, *key, *value, *context, *scores, *packed; /* of one */
} heads_scratch;
static heads_scratch lay_out_heads(const struct heads *h, fastrnn_shape query, int64_t steps, scratch *s) {
    const int64_t rows = rows_of(query), all = query.batch * steps, n = query.timesteps;
    heads_scratch a;
    a.queries = take_scratch(s, rows * h->query.out);
    a.keys = take_scratch(s, all * h->key.out);
    a.values = take_scratch(s, all * h->value.out);
    a.contexts = take_scratch(s, rows * h->output.in);
    a.query = take_scratch(s, n * h->size);
    a.key = take_scratch(s, steps * h->size);
    a.value = take_scratch(s, steps * h->value_size);
    a.context = take_scratch(s, n * h->value_size);
    a.scores = take_scratch(s, n * steps);
    a.packed = take_scratch(s, larger(fr_dense_packed_size(h->size, steps),
                                      fr_dense_packed_size(steps, h->value_size)));
    return a;
}

/* Floats of scratch of a recurrent layer; and where each direction's begin. */
static int64_t scratch_of(const layer *l, const fr_rnn *rnn, fr_rnn_split split, int64_t places[2]) {
    int64_t total = 0;
    for (int d = 0; d < l->count; d++) {
        places[d] = total;
        total += (fr_rnn_forward_scratch(&rnn[d], split) + 15) / 16 * 16;
    }
    return total;
}

/* What a call of the library needs: all buffers of a session are sized here, the slots' in
 * session->sizes. A layer may make more rows, and wider ones, than it is given. */
typedef struct {
    int64_t between; /* floats of all buffers */
    int64_t scratch; /* floats, of the call that needs most */
    int64_t states;  /* floats of all streams' states, before and after */
    int64_t masked;  /* time steps of all masks that are made */
} call_plan;

/* Where a call's inputs and outputs are so few floats, no size that is computed of them overflows. */
static int is_too_large(int64_t batch, int64_t steps, double width) {
    return (double)batch * ((double)steps + 1.0) * width > 0x1p48;
}
static int call_is_too_large(const layer *l, const call *c, const fastrnn_shape *shapes) {
    const fastrnn_shape in = shapes[c->in[0]];
    for (int o = c->out; o < c->out + c->outs; o++) {
        const fastrnn_shape out = shapes[o];
        const int64_t features = l->count ? l->out : out.features;
        const int64_t steps = in.timesteps > out.timesteps ? in.timesteps : out.timesteps;
        if (is_too_large(in.batch, steps, (double)in.features + 2.0 * (double)features)) return 1;
    }
    if (l->kind != ATTENTION && l->kind != HEADS) return 0;
    const int64_t steps = shapes[c->in[1]].timesteps;
    if (is_too_large(in.batch, in.timesteps, (double)steps)) return 1;
    const struct heads *h = l->heads;
    return h && is_too_large(in.batch, larger(in.timesteps, steps),
                             2.0 * (double)(h->query.out + h->key.out + h->value.out + h->output.in));
}

static void grow(int64_t *size, int64_t needed) {
    if (needed > *size) *size = needed;
}

static int64_t scratch_of_call(const layer *l, const call *c, const fastrnn_shape *shapes) {
    scratch s = {NULL, 0};
    const fastrnn_shape in = shapes[c->in[0]], last = shapes[c->in[c->ins - 1]];
    if (l->kind == DOT) lay_out_dot(l, in, last, &s);
    if (l->kind == ATTENTION) lay_out_attention(l, in, shapes[c->in[1]], last, &s);
    if (l->kind == HEADS) lay_out_heads(l->heads, in, last.timesteps, &s);
    return s.used;
}

/* shapes: of the slots, those of the inputs are set. session: its splits and sizes are set, or NULL. */
static int plan_call(const fastrnn_model *model, fastrnn_shape *shapes, int with_states,
                     fastrnn_session *session, call_plan *plan) {
    static const uint8_t some_mask;
    *plan = (call_plan){.between = 0};
    if (session) memset(session->sizes, 0, (size_t)model->buffer_count * sizeof *session->sizes);
    for (int64_t i = 0; i < model->call_count; i++) {
        const call *c = &model->calls[i];
        const layer *l = &model->layers[c->layer];
        const fastrnn_shape in = shapes[c->in[0]];
        if (!fr_set_shapes(l, c, shapes) || call_is_too_large(l, c, shapes)) return FASTRNN_BAD_SHAPE;
        if (model->slots[c->out].masked && makes_mask(l)) plan->masked += rows_of(shapes[c->out]);
        const uint8_t *likely_mask = model->slots[c->in[0]].masked ? &some_mask : NULL;
        if (l->count && likely_mask && (in.batch >= INT32_MAX || in.timesteps >= INT32_MAX))
            return FASTRNN_BAD_SHAPE; /* the engine counts masked rows and steps in 32 bits */
        if (!session) continue;
        if (l->count) { /* split once: the number of threads may change meanwhile */
            fr_rnn rnn[2];
            int64_t places[2];
            set_directions(l, in, NULL, likely_mask, NULL, NULL, rnn);
            session->splits[i] = fr_rnn_best_split(rnn, l->count);
            grow(&plan->scratch, scratch_of(l, rnn, session->splits[i], places));
        } else if (l->kind > LAST_OF_CHAINS) {
            grow(&plan->scratch, scratch_of_call(l, c, shapes));
        }
        for (int o = c->out; o < c->out + c->outs; o++)
            if (model->slots[o].buffer >= 0)
                grow(&session->sizes[model->slots[o].buffer], floats_of(shapes[o]) * (is_wide(l) ? 2 : 1));
    }
    for (int64_t b = 0; b < model->buffer_count && session; b++) {
        session->sizes[b] = (session->sizes[b] + 15) / 16 * 16;
        plan->between += session->sizes[b] + GAP;
    }
    plan->states = with_states ? 2 * shapes[0].batch * model->input.state : 0;
    return FASTRNN_OK;
}

/* shapes of the inputs, which the caller gives, checked. */
static int set_inputs(const fastrnn_model *model, const fastrnn_shape *given, fastrnn_shape *shapes) {
    for (int i = 0; i < model->inputs; i++) {
        const fastrnn_shape in = given[i], known = model->shapes[i];
        if (in.batch < 1 || in.batch != given[0].batch || in.features != known.features ||
            (known.timesteps == UNKNOWN ? in.timesteps < 1 : in.timesteps != known.timesteps) ||
            is_too_large(in.batch, in.timesteps, (double)in.features))
            return FASTRNN_BAD_SHAPE;
        shapes[i] = in;
    }
    return FASTRNN_OK;
}
/* The same for a model of one input, of which timesteps are 1 where there are none. */
static int shape_of_input(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                          fastrnn_shape *shape) {
    const fastrnn_input *input = &model->input;
    if (!is_single(model)) return FASTRNN_SEVERAL;
    if (!input->sequences && timesteps != 1) return FASTRNN_BAD_SHAPE;
    *shape = (fastrnn_shape){batch, input->sequences ? timesteps : 0, input->features};
    return FASTRNN_OK;
}

int fastrnn_graph_shapes(const fastrnn_model *model, const fastrnn_shape *inputs, fastrnn_shape *outputs) {
    enum { FEW = 64 };
    if (!model || !inputs || !outputs) return FASTRNN_BAD_ARGUMENT;
    fastrnn_shape few[FEW], *shapes = few;
    call_plan plan;
    if (model->slot_count > FEW) shapes = malloc((size_t)model->slot_count * sizeof *shapes);
    if (!shapes) return FASTRNN_OUT_OF_MEMORY;
    int status = set_inputs(model, inputs, shapes);
    if (!status) status = plan_call(model, shapes, 0, NULL, &plan);
    for (int i = 0; i < model->output_count && !status; i++) outputs[i] = shapes[model->outputs[i]];
    if (shapes != few) free(shapes);
    return status;
}

int fastrnn_model_output(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                         fastrnn_shape *shape) {
    if (!model || !shape) return FASTRNN_BAD_ARGUMENT;
    fastrnn_shape input;
    const int status = shape_of_input(model, batch, timesteps, &input);
    return status ? status : fastrnn_graph_shapes(model, &input, shape);
}

/* --- running ------------------------------------------------------------------------------------- */

static void merge(int how, float *y, int64_t rows, int64_t units) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < units; j++) {
            const float a = y[r * 2 * units + j], b = y[r * 2 * units + units + j];
            y[r * units + j] = how == MUL ? a * b : how == SUM ? a + b : 0.5f * (a + b);
        }
}

/* hc: this call's h, then c, of all streams, and where they are to be afterwards; or NULL to begin at
 * zeros, or at the states that the call reads. */
static int run_recurrent(const layer *l, const call *c, fastrnn_session *session, fr_rnn_split split,
                         float *const *hc) {
    fr_rnn rnn[2];
    int64_t places[2] = {0, 0};
    const fastrnn_shape in = session->shapes[c->in[0]];
    const int in_two = is_apart(l);
    float *y = session->writes[c->out], **next = session->writes + c->out + 1 + in_two;
    set_directions(l, in, session->values[c->in[0]], session->masks[c->in[0]], y,
                   in_two ? next[-1] : NULL, rnn);
    scratch_of(l, rnn, split, places);
    float *const parts[2] = {session->scratch + places[0], session->scratch + places[l->count - 1]};
    const int *given = c->in + 1;
    for (int d = 0; d < l->count; d++) {
        const int has_c = states_of(&l->directions[d]) == 2;
        if (c->ins > 1) rnn[d].h0 = session->values[*given++];
        if (c->ins > 1 && has_c) rnn[d].c0 = session->values[*given++];
        if (c->outs > 1 + in_two) rnn[d].h_last = *next++;
        if (c->outs > 1 + in_two && has_c) rnn[d].c_last = *next++;
    }
    if (hc) {
        const int64_t size = in.batch * l->directions->units;
        rnn->h0 = hc[0], rnn->h_last = hc[1];
        if (l->directions->cell == FR_LSTM) rnn->c0 = hc[0] + size, rnn->c_last = hc[1] + size;
    }
    const int status = fr_rnn_forward(rnn, l->count, split, parts);
    if (status) return status == FR_BAD_INDEX ? FASTRNN_BAD_INDEX : FASTRNN_BAD_ARGUMENT;
    if (is_wide(l)) merge(l->option, y, rows_of(session->shapes[c->out]), l->directions->units);
    return FASTRNN_OK;
}

/* Between the streams' rows, which the caller has, and each call's h and c of all streams. */
static void move_states(const fastrnn_model *model, int64_t batch, float *rows, float *hc, int back) {
    for (int64_t i = 0; i < model->call_count; i++) {
        const call *c = &model->calls[i];
        const direction *d = model->layers[c->layer].directions;
        const size_t bytes = (size_t)d->units * sizeof(float);
        for (int64_t n = 0; n < batch * states_of(d) && model->layers[c->layer].count; n++) {
            float *row = rows + n % batch * model->input.state + c->state_at + n / batch * d->units;
            float *calls = hc + batch * c->state_at + n * d->units;
            if (back) memcpy(row, calls, bytes);
            else memcpy(calls, row, bytes);
        }
    }
}

static void layer_norm(const layer *l, int64_t rows, const float *x, float *y) {
    const int64_t n = l->in;
    const float *gamma = l->weights + n, *beta = gamma + n;
    for (int64_t r = 0; r < rows; r++, x += n, y += n) {
        double sum = 0, squares = 0;
        for (int64_t j = 0; j < n; j++) sum += x[j];
        const float mean = (float)(sum / (double)n);
        for (int64_t j = 0; j < n; j++) squares += (double)(x[j] - mean) * (x[j] - mean);
        const float scale = 1.0f / sqrtf((float)(squares / (double)n) + l->weights[0]);
        for (int64_t j = 0; j < n; j++)
            y[j] = (x[j] - (l->option ? 0.0f : mean)) * scale * gamma[j] + beta[j];
    }
}

/* A mask takes part in the average, as in Keras, but not in the maximum. */
static void pool(enum kind kind, fastrnn_shape in, const float *x, const uint8_t *mask, float *y) {
    const int64_t n = in.features;
    for (int64_t b = 0; b < in.batch; b++, y += n) {
        int64_t used = 0;
        for (int64_t j = 0; j < n; j++) y[j] = kind == MAX_POOL ? x[j] : 0.0f;
        for (int64_t t = 0; t < in.timesteps; t++, x += n) {
            if (kind == AVERAGE_POOL && mask && !mask[b * in.timesteps + t]) continue;
            used++;
            for (int64_t j = 0; j < n; j++) {
                if (kind == AVERAGE_POOL) y[j] += x[j];
                else if (!(x[j] <= y[j])) y[j] = y[j] == y[j] ? x[j] : y[j]; /* NaN stays */
            }
        }
        for (int64_t j = 0; j < n && kind == AVERAGE_POOL; j++) y[j] /= (float)used;
    }
}

/* --- layers of several inputs --- */

/* The row of an input at time step t of what it is broadcast to. */
static int64_t row_at(fastrnn_shape s, int64_t b, int64_t t) {
    return s.timesteps > 1 ? b * s.timesteps + t : b;
}

#define FOLD(expression)                                  \
    for (int64_t j = 0; j < n; j++) {                     \
        const float a = y[j], b = x[j * way];             \
        y[j] = (expression);                              \
    }
static void fold(int how, int64_t n, float *y, const float *x, int64_t way) {
    switch (how) {
    case ADD:
    case AVERAGE: FOLD(a + b) break;
    case SUBTRACT: FOLD(a - b) break;
    case MULTIPLY: FOLD(a * b) break;
    case MAXIMUM: FOLD(a >= b || a != a ? a : b) break; /* NaN stays */
    default: FOLD(a <= b || a != a ? a : b)
    }
}
static void copy_row(int64_t n, float *y, const float *x, int64_t way) {
    for (int64_t j = 0; j < n; j++) y[j] = x[j * way];
}

/* Does a masked step of an input not count? What counts instead of all that are masked is 0 in
 * products, the first input in extremes: as in Keras. */
static void merge_row(const layer *l, const call *c, const fastrnn_session *session, int64_t b, int64_t t,
                      int64_t n, float *y) {
    const int skips = l->option == MULTIPLY || l->option == MAXIMUM || l->option == MINIMUM;
    int counted = 0;
    for (int i = 0; i < c->ins; i++) {
        const fastrnn_shape in = session->shapes[c->in[i]];
        const int64_t row = row_at(in, b, t), way = in.features > 1;
        const uint8_t *mask = session->masks[c->in[i]];
        const float *x = session->values[c->in[i]] + row * in.features;
        if (skips && mask && !mask[row]) continue;
        if (counted++) fold(l->option, n, y, x, way);
        else copy_row(n, y, x, way);
    }
    if (!counted) {
        const fastrnn_shape in = session->shapes[c->in[0]];
        copy_row(n, y, session->values[c->in[0]] + row_at(in, b, t) * in.features, in.features > 1);
        for (int64_t j = 0; j < n && l->option == MULTIPLY; j++) y[j] = 0.0f;
    }
    for (int64_t j = 0; j < n && l->option == AVERAGE; j++) y[j] /= (float)c->ins;
}

static void run_merge(const layer *l, const call *c, const fastrnn_session *session, float *y) {
    const fastrnn_shape out = session->shapes[c->out];
    const int64_t steps = out.timesteps ? out.timesteps : 1;
    for (int64_t r = 0; r < out.batch * steps; r++)
        merge_row(l, c, session, r / steps, r % steps, out.features, y + r * out.features);
}

/* The inputs in blocks side by side: rows, or all rows of a sample. */
static void run_concatenate(const layer *l, const call *c, const fastrnn_session *session, float *y) {
    const fastrnn_shape out = session->shapes[c->out];
    const int64_t rows = l->option == TIME ? out.batch : rows_of(out), width = floats_of(out) / rows;
    for (int i = 0; i < c->ins; i++) {
        const int64_t part = floats_of(session->shapes[c->in[i]]) / rows;
        for (int64_t r = 0; r < rows; r++)
            memcpy(y + r * width, session->values[c->in[i]] + r * part, (size_t)part * sizeof(float));
        y += part;
    }
}

/* A step is masked if it is in all inputs; or the inputs' masks one after another. */
static void merge_masks(const layer *l, const call *c, const fastrnn_session *session, uint8_t *mask) {
    const fastrnn_shape out = session->shapes[c->out];
    int64_t offset = 0;
    memset(mask, 0, (size_t)rows_of(out));
    for (int i = 0; i < c->ins; i++) {
        const fastrnn_shape in = session->shapes[c->in[i]];
        const uint8_t *given = session->masks[c->in[i]];
        const int along_time = l->kind == CONCATENATE && l->option == TIME;
        for (int64_t b = 0; b < out.batch; b++)
            for (int64_t t = 0; t < (along_time ? in.timesteps : out.timesteps); t++)
                mask[b * out.timesteps + offset + t] |= !given || given[row_at(in, b, t)];
        if (along_time) offset += in.timesteps;
    }
}

/* y (rows, n) = a (rows, k) b, which is (k, n), or (n, k) if transposed. */
static int multiply(float *y, const float *a, const float *b, int64_t rows, int64_t k, int64_t n,
                    int transposed, float *packed) {
    fr_dense_pack(packed, b, NULL, k, n, transposed);
    return fr_dense_forward(y, a, packed, FR_LINEAR, rows, k, n) ? FASTRNN_BAD_ARGUMENT : FASTRNN_OK;
}

static void transpose(float *y, const float *x, int64_t rows, int64_t columns) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) y[j * rows + i] = x[i * columns + j];
}

/* One sample's side of DOT, with its vectors in rows: x itself, or in `copy`. */
static const float *rows_of_dot(const layer *l, int axis, dot_side side, const float *x, float *copy) {
    const int64_t rows = side.rows ? side.rows : 1;
    const int normalize = l->option & 4;
    if (axis == FEATURES && !normalize) return x;
    if (axis == TIME) transpose(copy, x, side.size, rows);
    else memcpy(copy, x, (size_t)(rows * side.size) * sizeof(float));
    for (int64_t r = 0; r < rows && normalize; r++) {
        float *row = copy + r * side.size, squares = 0.0f;
        for (int64_t j = 0; j < side.size; j++) squares += row[j] * row[j];
        const float inverse = 1.0f / sqrtf(squares);
        for (int64_t j = 0; j < side.size; j++) row[j] *= inverse > 1e7f ? 1e7f : inverse;
    }
    return copy;
}

static int run_dot(const layer *l, const call *c, const fastrnn_session *session, float *y) {
    const fastrnn_shape left = session->shapes[c->in[0]], right = session->shapes[c->in[1]];
    const int axes[2] = {l->option & 1, l->option >> 1 & 1};
    const dot_side a = side_of_dot(axes[0], left), b = side_of_dot(axes[1], right);
    const int64_t rows = a.rows ? a.rows : 1, n = b.rows ? b.rows : 1;
    scratch s = {session->scratch, 0};
    const dot_scratch d = lay_out_dot(l, left, right, &s);
    int status = FASTRNN_OK;
    for (int64_t i = 0; i < left.batch && !status; i++) {
        const float *one = session->values[c->in[0]] + i * rows * a.size;
        const float *other = session->values[c->in[1]] + i * n * b.size;
        one = rows_of_dot(l, axes[0], a, one, d.left);
        other = rows_of_dot(l, axes[1], b, other, d.right);
        status = multiply(y + i * rows * n, one, other, rows, a.size, n, 1, d.packed);
    }
    return status;
}

/* --- attention --- */

/* Which values are hidden from the query at step t of sample b; seen from `first` up to `end`. */
typedef struct {
    const uint8_t *queries, *values, *keys; /* masks or NULL */
    int causal;
    int64_t window; /* 0 for none */
} view;
static int is_hidden(const view *v, fastrnn_shape query, int64_t steps, int64_t b, int64_t t, int64_t s) {
    return (v->queries && !v->queries[b * query.timesteps + t]) ||
           (v->values && !v->values[b * steps + s]) || (v->keys && !v->keys[b * steps + s]) ||
           (v->causal && s > t) || (v->window && (s > t ? s - t : t - s) >= v->window);
}
static int hides(const view *v) { return v->queries || v->values || v->keys || v->causal || v->window; }

/* scores (queries, steps) of sums: of factors of tanh(query + key). */
static int sum_scores(const layer *l, int64_t queries, int64_t steps, const float *query, const float *key,
                      float *scores, float *sums) {
    const int64_t n = l->in;
    const float inner = l->weights[0], *outer = l->weights + 1;
    for (int64_t t = 0; t < queries; t++, query += n, scores += steps) {
        for (int64_t i = 0; i < steps; i++)
            for (int64_t j = 0; j < n; j++) sums[i * n + j] = (query[j] + key[i * n + j]) * inner;
        if (fr_activate(sums, sums, steps * n, FR_TANH)) return FASTRNN_BAD_ARGUMENT;
        for (int64_t i = 0; i < steps; i++) {
            float sum = 0.0f;
            for (int64_t j = 0; j < n; j++) sum += sums[i * n + j] * outer[j];
            scores[i] = sum;
        }
    }
    return FASTRNN_OK;
}

static int run_attention(const layer *l, const call *c, const fastrnn_session *session) {
    enum { FAR = 1000000000 };
    const int key_at = c->in[c->ins - 1];
    const fastrnn_shape query = session->shapes[c->in[0]], value = session->shapes[c->in[1]];
    const fastrnn_shape key = session->shapes[key_at];
    const int64_t rows = query.timesteps, steps = key.timesteps, k = key.features;
    const uint8_t *query_mask = session->masks[c->in[0]];
    const view v = {NULL, session->masks[c->in[1]], NULL, c->options & CAUSAL, 0};
    scratch s = {session->scratch, 0};
    const attention_scratch a = lay_out_attention(l, query, value, key, &s);
    int status = FASTRNN_OK;
    for (int64_t b = 0; b < query.batch && !status; b++) {
        const float *q = session->values[c->in[0]] + b * rows * k;
        const float *keys = session->values[key_at] + b * steps * k;
        float *scores = c->outs == 2 ? session->writes[c->out + 1] + b * rows * steps : a.scores;
        float *y = session->writes[c->out] + b * rows * value.features;
        status = l->option ? sum_scores(l, rows, steps, q, keys, scores, a.sums)
                           : multiply(scores, q, keys, rows, k, steps, 1, a.packed);
        for (int64_t i = 0; i < rows * steps && !l->option; i++) scores[i] *= l->weights[0];
        for (int64_t i = 0; i < rows * steps && hides(&v); i++)
            if (is_hidden(&v, query, steps, b, i / steps, i % steps)) scores[i] -= (float)FAR;
        if (status || fr_softmax(scores, rows, steps)) return FASTRNN_BAD_ARGUMENT;
        status = multiply(y, scores, session->values[c->in[1]] + b * steps * value.features, rows, steps,
                          value.features, 0, a.packed);
        for (int64_t i = 0; i < rows * value.features && query_mask; i++)
            y[i] *= (float)query_mask[b * rows + i / value.features];
    }
    return status;
}

static int project(const layer *l, const float *x, int64_t rows, float *y) {
    return fr_dense_forward(y, x, l->weights, l->option, rows, l->in, l->out) ? FASTRNN_BAD_ARGUMENT
                                                                              : FASTRNN_OK;
}
/* Columns of one head, of rows of `width`. */
static void pick_head(float *y, const float *x, int64_t rows, int64_t size, int64_t width) {
    for (int64_t r = 0; r < rows; r++) memcpy(y + r * size, x + r * width, (size_t)size * sizeof(float));
}

static int run_head(const layer *l, const heads_scratch *a, const view *v, fastrnn_shape query,
                    int64_t steps, int64_t b, int64_t head) {
    const struct heads *h = l->heads;
    const int64_t rows = query.timesteps, shared = head / (h->queries / h->values);
    const float factor = 1.0f / sqrtf((float)h->size);
    pick_head(a->query, a->queries + b * rows * h->query.out + head * h->size, rows, h->size, h->query.out);
    pick_head(a->key, a->keys + b * steps * h->key.out + shared * h->size, steps, h->size, h->key.out);
    pick_head(a->value, a->values + b * steps * h->value.out + shared * h->value_size, steps,
              h->value_size, h->value.out);
    int status = multiply(a->scores, a->query, a->key, rows, h->size, steps, 1, a->packed);
    for (int64_t i = 0; i < rows * steps; i++) a->scores[i] *= factor;
    for (int64_t i = 0; i < rows * steps && hides(v); i++)
        if (is_hidden(v, query, steps, b, i / steps, i % steps)) a->scores[i] = -1e9f;
    if (status || fr_softmax(a->scores, rows, steps)) return FASTRNN_BAD_ARGUMENT;
    for (int64_t i = 0; i < rows * steps && l->option && hides(v); i++)
        if (is_hidden(v, query, steps, b, i / steps, i % steps)) a->scores[i] = 0.0f;
    status = multiply(a->context, a->scores, a->value, rows, steps, h->value_size, 0, a->packed);
    for (int64_t r = 0; r < rows; r++)
        memcpy(a->contexts + (b * rows + r) * h->output.in + head * h->value_size,
               a->context + r * h->value_size, (size_t)h->value_size * sizeof(float));
    return status;
}

static int run_heads(const layer *l, const call *c, const fastrnn_session *session) {
    const struct heads *h = l->heads;
    const int key_at = c->in[c->ins - 1];
    const fastrnn_shape query = session->shapes[c->in[0]];
    const int64_t steps = session->shapes[key_at].timesteps, all = query.batch * steps;
    const view v = {session->masks[c->in[0]], session->masks[c->in[1]],
                    c->ins == 3 ? session->masks[key_at] : NULL, c->options & CAUSAL, h->window};
    scratch s = {session->scratch, 0};
    const heads_scratch a = lay_out_heads(h, query, steps, &s);
    int status = project(&h->query, session->values[c->in[0]], rows_of(query), a.queries);
    if (!status) status = project(&h->key, session->values[key_at], all, a.keys);
    if (!status) status = project(&h->value, session->values[c->in[1]], all, a.values);
    for (int64_t i = 0; i < query.batch * h->queries && !status; i++)
        status = run_head(l, &a, &v, query, steps, i / h->queries, i % h->queries);
    return status ? status : project(&h->output, a.contexts, rows_of(query), session->writes[c->out]);
}

/* --- calls --- */

/* Sets the mask; 0 if no step is masked. */
static int mask_steps(const layer *l, const call *c, const fastrnn_session *session, uint8_t *mask) {
    const fastrnn_shape in = session->shapes[c->in[0]];
    const void *x = session->values[c->in[0]];
    int any = 0;
    if (l->kind == MERGE || l->kind == CONCATENATE) merge_masks(l, c, session, mask);
    for (int64_t n = 0; n < rows_of(session->shapes[c->out]); n++) {
        if (l->kind == EMBEDDING) mask[n] = ((const int32_t *)x)[n] != 0;
        if (l->kind == MASKING) mask[n] = 0;
        for (int64_t j = 0; j < in.features && l->kind == MASKING; j++)
            mask[n] |= ((const float *)x)[n * in.features + j] != l->weights[0];
        any |= !mask[n];
    }
    return any;
}

/* Sets the mask of what a call gives, made at `made` if the call makes one; returns how long it is. */
static int64_t set_mask(const fastrnn_model *model, const layer *l, const call *c,
                        fastrnn_session *session, uint8_t *made) {
    for (int i = 1; i < c->outs; i++) session->masks[c->out + i] = NULL;
    session->masks[c->out] = NULL;
    if (!model->slots[c->out].masked) return 0;
    if (!makes_mask(l)) {
        session->masks[c->out] = session->masks[c->in[0]];
        if (is_apart(l)) session->masks[c->out + 1] = session->masks[c->out];
        return 0;
    }
    if (mask_steps(l, c, session, made)) session->masks[c->out] = made;
    return rows_of(session->shapes[c->out]);
}

static int run_layer(const layer *l, const call *c, const fastrnn_session *session) {
    const fastrnn_shape in = session->shapes[c->in[0]];
    const float *x = session->values[c->in[0]];
    float *y = session->writes[c->out];
    const int64_t rows = rows_of(in), n = in.features;
    switch (l->kind) {
    case EMBEDDING:
        return fr_embedding_forward(y, l->weights, (const int32_t *)x, rows, l->n, l->out)
                   ? FASTRNN_BAD_INDEX : FASTRNN_OK;
    case MASKING: {
        const uint8_t *mask = session->masks[c->out];
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) y[r * n + j] = mask && !mask[r] ? 0.0f : x[r * n + j];
        return FASTRNN_OK;
    }
    case DENSE: return project(l, x, rows, y);
    case SCALE: return fr_batch_norm_forward(y, x, l->weights, l->weights + n, rows, n);
    case ACTIVATION: return fr_activate(y, x, rows * n, l->option);
    case SOFTMAX:
        memcpy(y, x, (size_t)(rows * n) * sizeof(float));
        return fr_softmax(y, rows, n);
    case LAYER_NORM: layer_norm(l, rows, x, y); return FASTRNN_OK;
    case AVERAGE_POOL:
    case MAX_POOL: pool(l->kind, in, x, session->masks[c->in[0]], y); return FASTRNN_OK;
    case REPEAT:
    case UP_SAMPLING:
        for (int64_t r = 0; r < rows * l->n; r++)
            memcpy(y + r * n, x + r / l->n * n, (size_t)n * sizeof(float));
        return FASTRNN_OK;
    case PADDING:
        memset(y, 0, (size_t)floats_of(session->shapes[c->out]) * sizeof(float));
        for (int64_t b = 0; b < in.batch; b++)
            memcpy(y + (b * (in.timesteps + l->n + l->after) + l->n) * n, x + b * in.timesteps * n,
                   (size_t)(in.timesteps * n) * sizeof(float));
        return FASTRNN_OK;
    case CROPPING: {
        const int64_t kept = session->shapes[c->out].timesteps;
        for (int64_t b = 0; b < in.batch; b++)
            memcpy(y + b * kept * n, x + (b * in.timesteps + l->n) * n, (size_t)(kept * n) * sizeof(float));
        return FASTRNN_OK;
    }
    case TRANSPOSE:
        for (int64_t b = 0; b < in.batch; b++)
            transpose(y + b * in.timesteps * n, x + b * in.timesteps * n, in.timesteps, n);
        return FASTRNN_OK;
    case MERGE: run_merge(l, c, session, y); return FASTRNN_OK;
    case CONCATENATE: run_concatenate(l, c, session, y); return FASTRNN_OK;
    case DOT: return run_dot(l, c, session, y);
    case ATTENTION: return run_attention(l, c, session);
    case HEADS: return run_heads(l, c, session);
    default: /* FLATTEN, RESHAPE */
        memcpy(y, x, (size_t)(rows * n) * sizeof(float));
        return FASTRNN_OK;
    }
}

static int reserve(fastrnn_session *session, int64_t floats) {
    open_gaps(session);
    if (floats <= session->size) return FASTRNN_OK;
    free(session->memory);
    session->memory = fr_new_floats(floats);
    session->size = session->memory ? floats : 0;
    return session->memory ? FASTRNN_OK : FASTRNN_OUT_OF_MEMORY;
}

/* Where a call writes what it gives. */
static void set_writes(const fastrnn_model *model, const call *c, fastrnn_session *session,
                       float *const *y) {
    for (int o = c->out; o < c->out + c->outs; o++) {
        const slot *s = &model->slots[o];
        session->writes[o] = s->buffer >= 0 ? session->buffers[s->buffer] : y[s->output];
        session->values[o] = session->writes[o];
    }
}

/* What of a call depends on shapes alone is kept for the next one. */
static int is_planned(const fastrnn_session *session, const fastrnn_shape *inputs, int with_states) {
    if (session->threads != fr_threads() || session->with_states != with_states) return 0;
    for (int i = 0; i < session->model->inputs; i++) {
        const fastrnn_shape a = inputs[i], b = session->shapes[i];
        if (a.batch != b.batch || a.timesteps != b.timesteps || a.features != b.features) return 0;
    }
    return 1;
}
static int make_plan(fastrnn_session *session, const fastrnn_shape *inputs, int with_states) {
    const fastrnn_model *model = session->model;
    const int threads = fr_threads();
    call_plan plan;
    session->threads = 0;
    int status = set_inputs(model, inputs, session->shapes);
    if (!status) status = plan_call(model, session->shapes, with_states, session, &plan);
    if (status) return status;
    const int64_t masked = plan.masked / 4 + 1; /* in floats */
    status = reserve(session, plan.between + plan.scratch + plan.states + masked + 3 * GAP);
    if (status) return status;
    float *memory = session->memory;
    for (int64_t b = 0; b < model->buffer_count; b++) {
        session->buffers[b] = memory;
        memory = after_gap(memory + session->sizes[b]);
    }
    session->scratch = memory;
    session->states = after_gap(memory + plan.scratch);
    float *masks = after_gap(session->states + plan.states);
    session->made_masks = (uint8_t *)masks;
    after_gap(masks + masked);
    session->threads = threads;
    session->with_states = with_states;
    return FASTRNN_OK;
}

static int run(fastrnn_session *session, const void *const *x, const fastrnn_shape *inputs, float *state,
               float *const *y) {
    const fastrnn_model *model = session->model;
    const int64_t batch = inputs->batch;
    if (model->isa != fr_isa()) return FASTRNN_OTHER_ISA;
    if (state && model->input.state < 0) return FASTRNN_NOT_STREAMABLE;
    int status = FASTRNN_OK;
    if (!is_planned(session, inputs, state != NULL)) status = make_plan(session, inputs, state != NULL);
    if (status) return status;
    uint8_t *mask_at = session->made_masks;
    float *const states[2] = {session->states,
                              session->states + (state ? batch * model->input.state : 0)};

    if (state) move_states(model, batch, state, states[0], 0);
    for (int i = 0; i < model->inputs; i++) session->values[i] = x[i], session->masks[i] = NULL;
    for (int64_t i = 0; i < model->call_count && !status; i++) {
        const call *c = &model->calls[i];
        const layer *l = &model->layers[c->layer];
        mask_at += set_mask(model, l, c, session, mask_at);
        if (state && session->masks[c->out]) return FASTRNN_NOT_STREAMABLE;
        if (looked_up_above(l)) {
            session->values[c->out] = session->values[c->in[0]];
            continue;
        }
        set_writes(model, c, session, y);
        float *const hc[2] = {states[0] + batch * c->state_at, states[1] + batch * c->state_at};
        status = l->count ? run_recurrent(l, c, session, session->splits[i], state ? hc : NULL)
                          : run_layer(l, c, session);
    }
    if (status) return status;
    if (state) move_states(model, batch, state, states[1], 1);
    for (int i = 0; i < model->output_count; i++) {
        const int number = model->outputs[i];
        if (session->values[number] == y[i]) continue;
        memcpy(y[i], session->values[number], (size_t)floats_of(session->shapes[number]) * sizeof(float));
    }
    return FASTRNN_OK;
}

int fastrnn_run(fastrnn_session *session, const void *x, int64_t batch, int64_t timesteps,
                float *state, float *y) {
    if (!session || !x || !y) return FASTRNN_BAD_ARGUMENT;
    fastrnn_shape input;
    const int status = shape_of_input(session->model, batch, timesteps, &input);
    return status ? status : run(session, &x, &input, state, &y);
}

int fastrnn_graph_run(fastrnn_session *session, const void *const *x, const fastrnn_shape *inputs,
                      float *state, float *const *y) {
    if (!session || !x || !inputs || !y) return FASTRNN_BAD_ARGUMENT;
    for (int i = 0; i < session->model->inputs; i++)
        if (!x[i]) return FASTRNN_BAD_ARGUMENT;
    for (int i = 0; i < session->model->output_count; i++)
        if (!y[i]) return FASTRNN_BAD_ARGUMENT;
    return run(session, x, inputs, state, y);
}

int fastrnn_session_new(fastrnn_session **session, const fastrnn_model *model) {
    if (!session || !model) return FASTRNN_BAD_ARGUMENT;
    const size_t slots = (size_t)model->slot_count, buffers = (size_t)model->buffer_count + 1;
    fastrnn_session *s = *session = calloc(1, sizeof *s);
    if (!s) return FASTRNN_OUT_OF_MEMORY;
    s->model = model;
    s->shapes = calloc(slots, sizeof *s->shapes);
    s->values = calloc(slots, sizeof *s->values);
    s->writes = calloc(slots, sizeof *s->writes);
    s->masks = calloc(slots, sizeof *s->masks);
    s->splits = calloc((size_t)model->call_count + 1, sizeof *s->splits);
    s->sizes = calloc(buffers, sizeof *s->sizes);
    s->buffers = calloc(buffers, sizeof *s->buffers);
    if (s->shapes && s->values && s->writes && s->masks && s->splits && s->sizes && s->buffers)
        return FASTRNN_OK;
    fastrnn_session_free(s);
    *session = NULL;
    return FASTRNN_OUT_OF_MEMORY;
}

int fastrnn_session_free(fastrnn_session *session) {
    if (!session) return FASTRNN_OK;
    free(session->memory);
    free(session->shapes), free(session->values), free(session->writes), free(session->masks);
    free(session->splits), free(session->sizes), free(session->buffers);
    free(session);
    return FASTRNN_OK;
}

/* --- the rest ------------------------------------------------------------------------------------ */

int fastrnn_check_abi(int abi) { return abi == FASTRNN_ABI ? FASTRNN_OK : FASTRNN_WRONG_ABI; }

const char *fastrnn_status_text(int status) {
    static const char *const texts[] = {
        "no error", "an argument is NULL or outside its range", "the file cannot be read",
        "not a model of fastrnn, or damaged", "written for a later version of this library",
        "out of memory", "batch or timesteps do not fit the model",
        "an index is outside the Embedding", "the model needs whole sequences, or a step is padding",
        "header and library are of different versions",
        "the instruction set was changed after the model was loaded",
        "the model has several inputs or outputs: call fastrnn_graph_run"};
    return within(status, 0, sizeof texts / sizeof *texts) ? texts[status] : "unknown status";
}

int fastrnn_set_threads(int threads) {
    if (!within(threads, 1, 1025)) return FASTRNN_BAD_ARGUMENT;
    fr_set_threads(threads);
    return FASTRNN_OK;
}

int fastrnn_set_isa(const char *name) {
    return name && fr_set_isa(name) == FR_OK ? FASTRNN_OK : FASTRNN_BAD_ARGUMENT;
}

int fastrnn_isa(const char **name) {
    if (!name) return FASTRNN_BAD_ARGUMENT;
    *name = fr_isa();
    return FASTRNN_OK;
}
