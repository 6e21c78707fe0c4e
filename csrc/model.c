/* libfastrnn: reads a network from the file that fastrnn/interop/c_export.py writes, and runs it. */
#include "fastrnn.h"
#include "kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the file ----------------------------------------------------------------------------------
 *
 * Little-endian. A header, then layers in order. A layer is its kind and 7 numbers, all int64, then
 * float32 arrays, together padded to 8 bytes; which numbers and arrays stands in read_layer. */

enum { FORMAT = 1, MOST_LAYERS = 4096 };
static const char MAGIC[8] = "fastrnn";

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t crc32; /* of all that follows */
    uint64_t size;  /* of the file */
    uint32_t layers;
    uint32_t flags;
    int64_t features, timesteps;
} header;
enum { INDICES = 1, SEQUENCES = 2 }; /* flags of the header */

typedef struct {
    int64_t kind, n[7];
} record;
enum kind {
    EMBEDDING = 1, MASKING, RECURRENT, BIDIRECTIONAL, DENSE, SCALE, ACTIVATION, SOFTMAX, LAYER_NORM,
    AVERAGE_POOL, MAX_POOL, REPEAT, FLATTEN
};
enum { RETURN_SEQUENCES = 1, BACKWARDS = 2, ZERO_OUTPUT = 4, BIAS = 8 }; /* n[4] of RECURRENT */
enum { CONCAT, SUM, MUL, AVE, MERGES };                                  /* n[0] of BIDIRECTIONAL */

static uint32_t crc32(const uint8_t *bytes, size_t size) {
    uint32_t table[256], crc = 0xffffffff;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    return ~crc;
}

/* --- models -------------------------------------------------------------------------------------- */

typedef struct {
    int cell, activation, recurrent_activation, flags;
    int64_t units;
    int64_t state_at; /* where its h, then its c, begin in a stream's state */
    float *packed;
    float *products;  /* of the rows of the EMBEDDING below, or NULL */
} direction;

typedef struct {
    enum kind kind;
    int64_t in, out;         /* features */
    int64_t n;               /* size of an EMBEDDING (also of one that is looked up by the layer
                                above it), times of REPEAT, timesteps of FLATTEN */
    int option;              /* activation, merge, mask_zero or rms_scaling */
    int count;               /* directions */
    direction directions[2];
    float *weights;          /* packed for DENSE; NULL for an EMBEDDING that is looked up above */
} layer;

struct fastrnn_model {
    fastrnn_input input;
    const char *isa;
    int64_t count;
    layer layers[];
};

struct fastrnn_session {
    const fastrnn_model *model;
    float *memory;
    int64_t size;
    fr_rnn_split splits[]; /* of the recurrent layers in this call */
};

static float *new_floats(int64_t n) {
    if (n < 0 || n > INT64_MAX / 8) return NULL;
    const int64_t bytes = (n * (int64_t)sizeof(float) + 63) / 64 * 64 + 64;
    float *memory = aligned_alloc(64, (size_t)bytes);
    if (memory) fr_use_large_pages(memory, bytes);
    return memory;
}

static int has_sequences(const layer *l) { return l->directions[0].flags & RETURN_SEQUENCES; }
static int states_of(const direction *d) { return d->cell == FR_LSTM ? 2 : 1; }

/* --- reading ------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at, *end;
} reader;

static int take(reader *r, void *to, size_t size) {
    if (size > (size_t)(r->end - r->at)) return 0;
    memcpy(to, r->at, size);
    r->at += size;
    return 1;
}

/* The next array of rows x columns floats, in `*array`, which the caller frees. */
static int take_array(reader *r, int64_t rows, int64_t columns, float **array) {
    const int64_t left = (int64_t)((r->end - r->at) / (ptrdiff_t)sizeof(float));
    *array = NULL;
    if (rows < 1 || columns < 1 || rows > left / columns) return FASTRNN_NOT_A_MODEL;
    *array = new_floats(rows * columns);
    if (!*array) return FASTRNN_OUT_OF_MEMORY;
    take(r, *array, (size_t)(rows * columns) * sizeof(float));
    return FASTRNN_OK;
}
/* Of several arrays the first that fails says why. */
static int take_arrays(reader *r, int count, const int64_t (*shapes)[2], float **arrays) {
    int status = FASTRNN_OK;
    for (int i = 0; i < count; i++) arrays[i] = NULL;
    for (int i = 0; i < count && !status; i++)
        if (shapes[i][0]) status = take_array(r, shapes[i][0], shapes[i][1], &arrays[i]);
    return status;
}
static void free_arrays(int count, float **arrays) {
    for (int i = 0; i < count; i++) free(arrays[i]);
}

static int within(int64_t value, int64_t low, int64_t end) { return value >= low && value < end; }
enum { MOST = 1 << 30 }; /* of any size in the file */

/* The next record; of its numbers those that its kind has no use for are 0. */
static int take_record(reader *r, record *rec) {
    static const int8_t used[FLATTEN + 1] = {
        [EMBEDDING] = 3, [RECURRENT] = 5, [BIDIRECTIONAL] = 1, [DENSE] = 3, [ACTIVATION] = 1,
        [LAYER_NORM] = 1, [REPEAT] = 1, [FLATTEN] = 1};
    if (!take(r, rec, sizeof *rec) || !within(rec->kind, EMBEDDING, FLATTEN + 1)) return 0;
    for (int i = used[rec->kind]; i < 7; i++)
        if (rec->n[i]) return 0;
    return 1;
}

static int read_direction(reader *r, const record *rec, int64_t features, direction *d) {
    const int64_t *n = rec->n;
    if (rec->kind != RECURRENT || !within(n[0], 0, FR_CELLS) || !within(n[1], 1, MOST) ||
        !within(n[2], 0, FR_ACTIVATIONS) || !within(n[3], 0, FR_ACTIVATIONS) || !within(n[4], 0, 16))
        return FASTRNN_NOT_A_MODEL;
    *d = (direction){.cell = (int)n[0], .units = n[1], .activation = (int)n[2],
                     .recurrent_activation = (int)n[3], .flags = (int)n[4]};
    const int64_t columns = gates_of(d->cell) * d->units;
    const int64_t biases = !(d->flags & BIAS) ? 0 : d->cell == FR_GRU ? 2 : 1;
    const int64_t shapes[3][2] = {{features, columns}, {d->units, columns}, {biases, columns}};
    float *arrays[3];
    int status = take_arrays(r, 3, shapes, arrays);
    if (!status) {
        d->packed = new_floats(fr_rnn_packed_size(d->cell, features, d->units));
        if (d->packed)
            fr_rnn_pack(d->cell, d->packed, arrays[0], arrays[1], arrays[2], features, d->units);
        else
            status = FASTRNN_OUT_OF_MEMORY;
    }
    free_arrays(3, arrays);
    return status;
}

static int read_dense(reader *r, const record *rec, layer *l) {
    if (!within(rec->n[0], 1, MOST) || !within(rec->n[1], 0, FR_ACTIVATIONS) || !within(rec->n[2], 0, 2))
        return FASTRNN_NOT_A_MODEL;
    l->out = rec->n[0];
    l->option = (int)rec->n[1];
    const int64_t shapes[2][2] = {{l->in, l->out}, {rec->n[2], l->out}};
    float *arrays[2];
    int status = take_arrays(r, 2, shapes, arrays);
    if (!status) {
        l->weights = new_floats(fr_dense_packed_size(l->in, l->out));
        if (l->weights) fr_dense_pack(l->weights, arrays[0], arrays[1], l->in, l->out, 0);
        else status = FASTRNN_OUT_OF_MEMORY;
    }
    free_arrays(2, arrays);
    return status;
}

/* What flows from layer to layer. */
typedef struct {
    int64_t features, timesteps; /* timesteps 0 where free */
    int sequences, indices;
} flow;

/* Numbers and arrays of each kind of layer. */
static int read_layer(reader *r, layer *l, flow *now) {
    record rec, inner;
    if (!take_record(r, &rec)) return FASTRNN_NOT_A_MODEL;
    l->kind = (enum kind)rec.kind;
    l->in = l->out = now->features;
    if ((l->kind == EMBEDDING) != now->indices) return FASTRNN_NOT_A_MODEL;
    int status = FASTRNN_OK, sequences = now->sequences;
    int64_t timesteps = now->timesteps;
    switch (l->kind) {
    case EMBEDDING: /* size, width, mask_zero; table (size, width) */
        if (!within(rec.n[0], 1, MOST) || !within(rec.n[1], 1, MOST) || !within(rec.n[2], 0, 2))
            return FASTRNN_NOT_A_MODEL;
        l->n = rec.n[0], l->out = rec.n[1], l->option = rec.n[2] && sequences;
        status = take_array(r, l->n, l->out, &l->weights);
        break;
    case MASKING: /* mask_value (1) */
        if (!sequences) return FASTRNN_NOT_A_MODEL;
        status = take_array(r, 1, 1, &l->weights);
        break;
    case RECURRENT: /* cell, units, activation, recurrent_activation, flags; kernel, recurrent_kernel,
                       bias if flagged: shapes as in Keras */
    case BIDIRECTIONAL: /* merge; then two records of RECURRENT */
        if (!sequences) return FASTRNN_NOT_A_MODEL;
        l->count = l->kind == BIDIRECTIONAL ? 2 : 1;
        l->out = 0;
        for (int d = 0; d < l->count && !status; d++) {
            if (l->count == 2 && !take_record(r, &inner)) return FASTRNN_NOT_A_MODEL;
            status = read_direction(r, l->count == 2 ? &inner : &rec, l->in, &l->directions[d]);
            l->out += l->directions[d].units;
        }
        if (status) return status;
        if (l->count == 2) {
            const direction *d = l->directions;
            const int differ = d[0].flags ^ d[1].flags;
            if (!within(rec.n[0], 0, MERGES) || differ & RETURN_SEQUENCES || !(differ & BACKWARDS))
                return FASTRNN_NOT_A_MODEL;
            l->option = (int)rec.n[0];
            if (l->option != CONCAT && d[0].units != d[1].units) return FASTRNN_NOT_A_MODEL;
            if (l->option != CONCAT) l->out /= 2;
        }
        sequences = has_sequences(l) != 0;
        break;
    case DENSE: /* units, activation, whether there is a bias; kernel (features, units), bias (units) */
        status = read_dense(r, &rec, l);
        break;
    case SCALE: /* scale, offset (features each) */
        status = take_array(r, 2, l->in, &l->weights);
        break;
    case ACTIVATION: /* activation */
        if (!within(rec.n[0], 0, FR_ACTIVATIONS)) return FASTRNN_NOT_A_MODEL;
        l->option = (int)rec.n[0];
        break;
    case LAYER_NORM: /* rms_scaling; epsilon for each feature, gamma, beta (features each) */
        if (!within(rec.n[0], 0, 2)) return FASTRNN_NOT_A_MODEL;
        l->option = (int)rec.n[0];
        status = take_array(r, 3, l->in, &l->weights);
        break;
    case AVERAGE_POOL:
    case MAX_POOL:
        if (!sequences) return FASTRNN_NOT_A_MODEL;
        sequences = 0;
        break;
    case REPEAT: /* times */
        if (sequences || !within(rec.n[0], 1, MOST)) return FASTRNN_NOT_A_MODEL;
        l->n = timesteps = rec.n[0];
        sequences = 1;
        break;
    case FLATTEN: /* timesteps, which are not free */
        if (!sequences || rec.n[0] != timesteps || !within(timesteps, 1, MOST / l->in))
            return FASTRNN_NOT_A_MODEL;
        l->n = rec.n[0], l->out = l->n * l->in;
        sequences = 0;
        break;
    case SOFTMAX: break;
    }
    *now = (flow){l->out, sequences ? timesteps : 0, sequences, 0};
    const size_t left = (size_t)(r->end - r->at);
    r->at += left % 8 < left ? left % 8 : left; /* arrays are padded to 8 bytes; so is the file */
    return status;
}

/* Places of the layers' states in a stream's state; -1 where a layer needs what is to come. */
static int64_t place_states(fastrnn_model *model) {
    int64_t size = 0;
    for (int64_t i = 0; i < model->count; i++) {
        layer *l = &model->layers[i];
        direction *d = l->directions;
        if (l->kind == BIDIRECTIONAL || l->kind == AVERAGE_POOL || l->kind == MAX_POOL ||
            l->kind == REPEAT || l->kind == FLATTEN || d->flags & BACKWARDS)
            return -1;
        if (l->kind != RECURRENT) continue;
        d->state_at = size;
        size += states_of(d) * d->units;
    }
    return size;
}

/* A recurrent layer right above an EMBEDDING takes x W once for each row, where that is worth its
 * memory; the rows themselves are not needed then. The engine gives the same bits either way. */
enum { FEWEST_FEATURES = 32, MOST_PRODUCTS = 64 << 20 };
static void multiply_rows(layer *embedding, layer *above) {
    int64_t bytes = 0;
    for (int d = 0; d < above->count; d++)
        bytes += 4 * fr_rnn_products_size(above->directions[d].cell, embedding->n, embedding->out,
                                          above->directions[d].units);
    if (above->count == 0 || embedding->out < FEWEST_FEATURES || bytes > MOST_PRODUCTS) return;
    int failed = 0;
    for (int i = 0; i < above->count; i++) {
        direction *d = &above->directions[i];
        d->products = new_floats(fr_rnn_products_size(d->cell, embedding->n, embedding->out, d->units));
        const fr_rnn rnn = {.cell = d->cell, .features = embedding->out, .units = d->units,
                            .packed = d->packed, .x = embedding->weights, .x_row = embedding->out,
                            .choices = embedding->n, .products = d->products};
        failed |= fr_rnn_multiply(&rnn);
    }
    for (int i = 0; i < above->count && failed; i++) {
        free(above->directions[i].products);
        above->directions[i].products = NULL;
    }
    if (failed) return;
    above->n = embedding->n;
    free(embedding->weights);
    embedding->weights = NULL;
}
static int looked_up_above(const layer *l) { return l->kind == EMBEDDING && !l->weights; }

int fastrnn_model_read(fastrnn_model **out, const void *bytes, size_t size) {
    if (!out || !bytes) return FASTRNN_BAD_ARGUMENT;
    *out = NULL;
    header head;
    if (size < sizeof head || size > PTRDIFF_MAX) return FASTRNN_NOT_A_MODEL;
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, MAGIC, sizeof MAGIC)) return FASTRNN_NOT_A_MODEL;
    if (head.format > FORMAT) return FASTRNN_TOO_NEW;
    const size_t summed = offsetof(header, size);
    const int indices = (head.flags & INDICES) != 0, sequences = (head.flags & SEQUENCES) != 0;
    if (head.format < 1 || head.size != size || size % 8 || head.layers > MOST_LAYERS ||
        head.flags > (INDICES | SEQUENCES) || !within(head.features, 1, indices ? 2 : MOST) ||
        !within(head.timesteps, 0, sequences ? MOST : 1) ||
        crc32((const uint8_t *)bytes + summed, size - summed) != head.crc32)
        return FASTRNN_NOT_A_MODEL;

    fastrnn_model *model = calloc(1, sizeof *model + head.layers * sizeof(layer));
    if (!model) return FASTRNN_OUT_OF_MEMORY;
    reader r = {(const uint8_t *)bytes + sizeof head, (const uint8_t *)bytes + size};
    flow now = {head.features, head.timesteps, sequences, indices};
    model->input = (fastrnn_input){indices, sequences, head.features, head.timesteps, 0};
    model->isa = fr_isa();
    int status = FASTRNN_OK;
    for (; model->count < head.layers && !status; model->count++)
        status = read_layer(&r, &model->layers[model->count], &now);
    if (!status && (r.at != r.end || now.indices)) status = FASTRNN_NOT_A_MODEL;
    for (int64_t i = 0; i + 1 < model->count && !status; i++)
        if (model->layers[i].kind == EMBEDDING)
            multiply_rows(&model->layers[i], &model->layers[i + 1]);
    model->input.state = place_states(model);
    if (status) fastrnn_model_free(model);
    else *out = model;
    return status;
}

int fastrnn_model_load(fastrnn_model **model, const char *path) {
    if (!model || !path) return FASTRNN_BAD_ARGUMENT;
    *model = NULL;
    FILE *file = fopen(path, "rb");
    if (!file) return FASTRNN_CANNOT_READ;
    int status = FASTRNN_CANNOT_READ;
    uint8_t *bytes = NULL;
    header head;
    if (fread(&head, sizeof head, 1, file) != 1)
        status = ferror(file) ? FASTRNN_CANNOT_READ : FASTRNN_NOT_A_MODEL;
    else if (memcmp(head.magic, MAGIC, sizeof MAGIC))
        status = FASTRNN_NOT_A_MODEL;
    else if (fseek(file, 0, SEEK_END) == 0 && ftell(file) >= 0) {
        const size_t size = (size_t)ftell(file);
        bytes = malloc(size);
        rewind(file);
        if (!bytes) status = FASTRNN_OUT_OF_MEMORY;
        else if (fread(bytes, 1, size, file) == size) status = fastrnn_model_read(model, bytes, size);
    }
    free(bytes);
    fclose(file);
    return status;
}

int fastrnn_model_free(fastrnn_model *model) {
    if (!model) return FASTRNN_OK;
    for (int64_t i = 0; i < model->count; i++) {
        free(model->layers[i].weights);
        for (int d = 0; d < 2; d++) {
            free(model->layers[i].directions[d].packed);
            free(model->layers[i].directions[d].products);
        }
    }
    free(model);
    return FASTRNN_OK;
}

int fastrnn_model_input(const fastrnn_model *model, fastrnn_input *input) {
    if (!model || !input) return FASTRNN_BAD_ARGUMENT;
    *input = model->input;
    return FASTRNN_OK;
}

/* --- running ------------------------------------------------------------------------------------- */

/* What a layer's output is like: timesteps 0 where there are no sequences. */
static fastrnn_shape shape_after(const layer *l, fastrnn_shape in) {
    fastrnn_shape out = {in.batch, in.timesteps, l->out};
    if (l->kind == REPEAT) out.timesteps = l->n;
    if (l->kind == AVERAGE_POOL || l->kind == MAX_POOL || l->kind == FLATTEN ||
        (l->count && !has_sequences(l)))
        out.timesteps = 0;
    return out;
}
static int64_t rows_of(fastrnn_shape s) { return s.batch * (s.timesteps ? s.timesteps : 1); }

static int makes_mask(const layer *l) {
    return l->kind == MASKING || (l->kind == EMBEDDING && l->option);
}

/* The directions of a layer from x (or indices) to y, in which a step has `width` floats. */
static void set_directions(const layer *l, fastrnn_shape in, const float *x, const uint8_t *mask,
                           float *y, fr_rnn *rnn) {
    static const int32_t some_index;
    const int64_t steps = in.timesteps;
    const int64_t width = l->directions[0].units + l->directions[1].units;
    for (int i = 0; i < l->count; i++) {
        const direction *d = &l->directions[i];
        const int64_t first = d->flags & BACKWARDS ? steps - 1 : 0, way = first ? -1 : 1;
        float *part = y ? y + (i ? l->directions[0].units : 0) : NULL;
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

/* Floats of scratch that a layer needs; with states, also a place for h and c of each row. */
static int64_t scratch_of(const layer *l, const fr_rnn *rnn, fr_rnn_split split, int64_t places[2]) {
    int64_t total = 0;
    for (int d = 0; d < l->count; d++) {
        places[d] = total;
        total += (fr_rnn_forward_scratch(&rnn[d], split) + 15) / 16 * 16;
    }
    return total;
}

/* What a call needs. A layer may make more rows, and wider ones, than it is given: all buffers of a
 * session are sized here. */
typedef struct {
    fastrnn_shape input, output;
    int64_t between; /* floats of the largest output of a layer */
    int64_t scratch; /* floats, of the recurrent layer that needs most */
    int64_t states;  /* floats of all streams' states */
    int64_t masked;  /* time steps of the batch where most may be masked */
} call_plan;

/* Where a layer's inputs and outputs are so few floats, no size that is computed of them overflows. */
static int is_too_large(const layer *l, fastrnn_shape in, fastrnn_shape out) {
    const int64_t steps = in.timesteps > out.timesteps ? in.timesteps : out.timesteps;
    const double width = (double)in.features + 2.0 * (double)(l ? l->out : 0);
    return (double)in.batch * ((double)steps + 1.0) * width > 0x1p48;
}

static void grow(int64_t *size, int64_t needed) {
    if (needed > *size) *size = needed;
}

/* splits: how the recurrent layers are to be split is left there, or NULL: without scratch. */
static int plan_call(const fastrnn_model *model, int64_t batch, int64_t timesteps, int with_states,
                     fr_rnn_split *splits, call_plan *plan) {
    static const uint8_t some_mask;
    const fastrnn_input *input = &model->input;
    if (batch < 1 || timesteps < 1 || (!input->sequences && timesteps != 1) ||
        (input->timesteps && timesteps != input->timesteps))
        return FASTRNN_BAD_SHAPE;
    fastrnn_shape now = {batch, input->sequences ? timesteps : 0, input->features};
    if (is_too_large(NULL, now, now)) return FASTRNN_BAD_SHAPE;
    *plan = (call_plan){.input = now};
    const uint8_t *likely_mask = NULL;
    for (int64_t i = 0; i < model->count; i++) {
        const layer *l = &model->layers[i];
        const fastrnn_shape next = shape_after(l, now);
        if (is_too_large(l, now, next)) return FASTRNN_BAD_SHAPE;
        if (makes_mask(l)) {
            likely_mask = &some_mask;
            grow(&plan->masked, rows_of(now));
        }
        if (l->count && likely_mask && (now.batch >= INT32_MAX || now.timesteps >= INT32_MAX))
            return FASTRNN_BAD_SHAPE; /* the engine counts masked rows and steps in 32 bits */
        if (l->count && splits) { /* split once: the number of threads may change meanwhile */
            fr_rnn rnn[2];
            int64_t places[2];
            set_directions(l, now, NULL, likely_mask, NULL, rnn);
            splits[i] = fr_rnn_best_split(rnn, l->count);
            grow(&plan->scratch, scratch_of(l, rnn, splits[i], places));
        }
        if (!looked_up_above(l)) /* both directions, before they are merged */
            grow(&plan->between, rows_of(next) * (l->count == 2 ? 2 : 1) * next.features);
        now = next;
    }
    plan->between = (plan->between + 15) / 16 * 16;
    plan->states = with_states ? batch * input->state : 0;
    plan->output = now;
    return FASTRNN_OK;
}

int fastrnn_model_output(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                         fastrnn_shape *shape) {
    if (!model || !shape) return FASTRNN_BAD_ARGUMENT;
    call_plan plan;
    const int status = plan_call(model, batch, timesteps, 0, NULL, &plan);
    if (!status) *shape = plan.output;
    return status;
}

static void merge(int how, float *y, int64_t rows, int64_t units) {
    for (int64_t r = 0; r < rows && how != CONCAT; r++)
        for (int64_t j = 0; j < units; j++) {
            const float a = y[r * 2 * units + j], b = y[r * 2 * units + units + j];
            y[r * units + j] = how == MUL ? a * b : how == SUM ? a + b : 0.5f * (a + b);
        }
}

/* hc: this layer's h, then c, of all streams, which are replaced; or NULL to begin at zeros. */
static int run_recurrent(const layer *l, fastrnn_shape in, const float *x, const uint8_t *mask,
                         float *y, fr_rnn_split split, float *scratch, float *hc) {
    fr_rnn rnn[2];
    int64_t places[2];
    set_directions(l, in, x, mask, y, rnn);
    scratch_of(l, rnn, split, places);
    float *const parts[2] = {scratch + places[0], scratch + places[l->count - 1]};
    const direction *d = l->directions;
    if (hc) {
        rnn->h0 = rnn->h_last = hc;
        if (d->cell == FR_LSTM) rnn->c0 = rnn->c_last = hc + in.batch * d->units;
    }
    const int status = fr_rnn_forward(rnn, l->count, split, parts);
    if (status) return status == FR_BAD_INDEX ? FASTRNN_BAD_INDEX : FASTRNN_BAD_ARGUMENT;
    if (l->count == 2)
        merge(l->option, y, in.batch * (has_sequences(l) ? in.timesteps : 1), d->units);
    return FASTRNN_OK;
}

/* Between the streams' rows, which the caller has, and each layer's h and c of all streams. */
static void move_states(const fastrnn_model *model, int64_t batch, float *rows, float *hc, int back) {
    for (int64_t i = 0; i < model->count; i++) {
        const direction *d = model->layers[i].directions;
        const size_t bytes = (size_t)d->units * sizeof(float);
        for (int64_t n = 0; n < batch * states_of(d) && model->layers[i].count; n++) {
            float *row = rows + n % batch * model->input.state + d->state_at + n / batch * d->units;
            float *layers = hc + batch * d->state_at + n * d->units;
            if (back) memcpy(row, layers, bytes);
            else memcpy(layers, row, bytes);
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

/* Sets the mask; 0 if no step is masked. */
static int mask_steps(const layer *l, fastrnn_shape in, const void *x, uint8_t *mask) {
    int any = 0;
    for (int64_t n = 0; n < in.batch * in.timesteps; n++) {
        mask[n] = 0;
        if (l->kind == EMBEDDING) mask[n] = ((const int32_t *)x)[n] != 0;
        for (int64_t j = 0; j < in.features && l->kind == MASKING; j++)
            mask[n] |= ((const float *)x)[n * in.features + j] != l->weights[0];
        any |= !mask[n];
    }
    return any;
}

static int run_layer(const layer *l, fastrnn_shape in, const float *x, float *y, const uint8_t *mask) {
    const int64_t rows = rows_of(in), n = l->in;
    switch (l->kind) {
    case EMBEDDING:
        return fr_embedding_forward(y, l->weights, (const int32_t *)x, rows, l->n, l->out)
                   ? FASTRNN_BAD_INDEX : FASTRNN_OK;
    case MASKING:
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) y[r * n + j] = mask && !mask[r] ? 0.0f : x[r * n + j];
        return FASTRNN_OK;
    case DENSE:
        return fr_dense_forward(y, x, l->weights, l->option, rows, n, l->out) ? FASTRNN_BAD_ARGUMENT
                                                                              : FASTRNN_OK;
    case SCALE: return fr_batch_norm_forward(y, x, l->weights, l->weights + n, rows, n);
    case ACTIVATION: return fr_activate(y, x, rows * n, l->option);
    case SOFTMAX:
        memcpy(y, x, (size_t)(rows * n) * sizeof(float));
        return fr_softmax(y, rows, n);
    case LAYER_NORM: layer_norm(l, rows, x, y); return FASTRNN_OK;
    case AVERAGE_POOL:
    case MAX_POOL: pool(l->kind, in, x, mask, y); return FASTRNN_OK;
    case REPEAT:
        for (int64_t r = 0; r < in.batch * l->n; r++)
            memcpy(y + r * n, x + r / l->n * n, (size_t)n * sizeof(float));
        return FASTRNN_OK;
    default: /* FLATTEN */
        memcpy(y, x, (size_t)(rows * n) * sizeof(float));
        return FASTRNN_OK;
    }
}

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

static int reserve(fastrnn_session *session, int64_t floats) {
    open_gaps(session);
    if (floats <= session->size) return FASTRNN_OK;
    free(session->memory);
    session->memory = new_floats(floats);
    session->size = session->memory ? floats : 0;
    return session->memory ? FASTRNN_OK : FASTRNN_OUT_OF_MEMORY;
}

int fastrnn_run(fastrnn_session *session, const void *x, int64_t batch, int64_t timesteps,
                float *state, float *y) {
    if (!session || !x || !y) return FASTRNN_BAD_ARGUMENT;
    const fastrnn_model *model = session->model;
    if (model->isa != fr_isa()) return FASTRNN_OTHER_ISA;
    if (state && model->input.state < 0) return FASTRNN_NOT_STREAMABLE;
    call_plan plan;
    int status = plan_call(model, batch, timesteps, state != NULL, session->splits, &plan);
    if (status) return status;
    const int64_t masked = plan.masked / 4 + 1; /* in floats */
    status = reserve(session, 2 * plan.between + plan.scratch + plan.states + masked + 5 * GAP);
    if (status) return status;
    float *turns[2] = {session->memory, after_gap(session->memory + plan.between)};
    float *scratch = after_gap(turns[1] + plan.between);
    float *states = after_gap(scratch + plan.scratch), *mask_floats = after_gap(states + plan.states);
    uint8_t *mask_at = (uint8_t *)mask_floats, *mask = NULL;
    after_gap(mask_floats + masked);

    if (state) move_states(model, batch, state, states, 0);
    const float *in = x;
    fastrnn_shape now = plan.input;
    for (int64_t i = 0; i < model->count && !status; i++) {
        const layer *l = &model->layers[i];
        const fastrnn_shape next = shape_after(l, now);
        float *out = i == model->count - 1 && l->count < 2 ? y : turns[i % 2];
        if (makes_mask(l)) {
            mask = mask_steps(l, now, in, mask_at) ? mask_at : NULL;
            if (mask && state) return FASTRNN_NOT_STREAMABLE;
        }
        if (looked_up_above(l)) {
            now = next;
            continue;
        }
        status = l->count ? run_recurrent(l, now, in, mask, out, session->splits[i], scratch,
                                          state ? states + batch * l->directions[0].state_at : NULL)
                          : run_layer(l, now, in, out, mask);
        if (!next.timesteps || l->kind == REPEAT) mask = NULL;
        in = out;
        now = next;
    }
    if (status) return status;
    if (state) move_states(model, batch, state, states, 1);
    if (in != y) memcpy(y, in, (size_t)(rows_of(now) * now.features) * sizeof(float));
    return FASTRNN_OK;
}

int fastrnn_session_new(fastrnn_session **session, const fastrnn_model *model) {
    if (!session || !model) return FASTRNN_BAD_ARGUMENT;
    *session = calloc(1, sizeof **session + (size_t)model->count * sizeof *(*session)->splits);
    if (!*session) return FASTRNN_OUT_OF_MEMORY;
    (*session)->model = model;
    return FASTRNN_OK;
}

int fastrnn_session_free(fastrnn_session *session) {
    if (session) free(session->memory);
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
        "the instruction set was changed after the model was loaded"};
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
