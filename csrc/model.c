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
    if (!within(rec->n[0], 1, MOST) || !within(rec->n[1], 0, FR_ACTIVATIONS)) return FASTRNN_NOT_A_MODEL;
    l->out = rec->n[0];
    l->option = (int)rec->n[1];
    const int64_t shapes[2][2] = {{l->in, l->out}, {rec->n[2] != 0, l->out}};
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
    int64_t features;
    int sequences, indices;
} flow;

/* Numbers and arrays of each kind of layer. */
static int read_layer(reader *r, layer *l, flow *now) {
    record rec, inner;
    if (!take(r, &rec, sizeof rec) || !within(rec.kind, EMBEDDING, FLATTEN + 1)) return FASTRNN_NOT_A_MODEL;
    l->kind = (enum kind)rec.kind;
    l->in = l->out = now->features;
    if ((l->kind == EMBEDDING) != now->indices) return FASTRNN_NOT_A_MODEL;
    int status = FASTRNN_OK, sequences = now->sequences;
    switch (l->kind) {
    case EMBEDDING: /* size, width, mask_zero; table (size, width) */
        if (!within(rec.n[0], 1, MOST) || !within(rec.n[1], 1, MOST)) return FASTRNN_NOT_A_MODEL;
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
            if (l->count == 2 && !take(r, &inner, sizeof inner)) return FASTRNN_NOT_A_MODEL;
            status = read_direction(r, l->count == 2 ? &inner : &rec, l->in, &l->directions[d]);
            l->out += l->directions[d].units;
        }
        if (status) return status;
        if (l->count == 2) {
            const direction *d = l->directions;
            if (!within(rec.n[0], 0, MERGES) || ((d[0].flags ^ d[1].flags) & RETURN_SEQUENCES))
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
        l->option = rec.n[0] != 0;
        status = take_array(r, 3, l->in, &l->weights);
        break;
    case AVERAGE_POOL:
    case MAX_POOL:
        if (!sequences) return FASTRNN_NOT_A_MODEL;
        sequences = 0;
        break;
    case REPEAT: /* times */
        if (sequences || !within(rec.n[0], 1, MOST)) return FASTRNN_NOT_A_MODEL;
        l->n = rec.n[0];
        sequences = 1;
        break;
    case FLATTEN: /* timesteps */
        if (!sequences || !within(rec.n[0], 1, MOST / l->in)) return FASTRNN_NOT_A_MODEL;
        l->n = rec.n[0], l->out = l->n * l->in;
        sequences = 0;
        break;
    case SOFTMAX: break;
    }
    *now = (flow){l->out, sequences, 0};
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
    reader r = {bytes, (const uint8_t *)bytes + size};
    header head;
    if (!take(&r, &head, sizeof head) || memcmp(head.magic, MAGIC, sizeof MAGIC))
        return FASTRNN_NOT_A_MODEL;
    if (head.format > FORMAT) return FASTRNN_TOO_NEW;
    const size_t summed = offsetof(header, size);
    if (head.format < 1 || head.size != size || size % 8 || head.layers > MOST_LAYERS ||
        head.flags > 3 || !within(head.features, 1, MOST) || !within(head.timesteps, 0, MOST) ||
        crc32((const uint8_t *)bytes + summed, size - summed) != head.crc32)
        return FASTRNN_NOT_A_MODEL;

    fastrnn_model *model = calloc(1, sizeof *model + head.layers * sizeof(layer));
    if (!model) return FASTRNN_OUT_OF_MEMORY;
    flow now = {head.features, (head.flags & SEQUENCES) != 0, (head.flags & INDICES) != 0};
    model->input = (fastrnn_input){now.indices, now.sequences, now.features, head.timesteps, 0};
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

static int input_shape(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                       fastrnn_shape *shape) {
    const fastrnn_input *in = &model->input;
    if (batch < 1 || timesteps < 1 || (!in->sequences && timesteps != 1) ||
        (in->timesteps && timesteps != in->timesteps))
        return FASTRNN_BAD_SHAPE;
    *shape = (fastrnn_shape){batch, in->sequences ? timesteps : 0, in->features};
    fastrnn_shape now = *shape;
    for (int64_t i = 0; i < model->count; i++) {
        const layer *l = &model->layers[i];
        if (l->kind == FLATTEN && now.timesteps != l->n) return FASTRNN_BAD_SHAPE;
        const double steps = (double)(l->kind == REPEAT ? l->n : now.timesteps + 1);
        if ((double)batch * steps * (double)(l->in + 2 * l->out) > 0x1p56) return FASTRNN_BAD_SHAPE;
        now = shape_after(l, now);
    }
    return FASTRNN_OK;
}

int fastrnn_model_output(const fastrnn_model *model, int64_t batch, int64_t timesteps,
                         fastrnn_shape *shape) {
    if (!model || !shape) return FASTRNN_BAD_ARGUMENT;
    const int status = input_shape(model, batch, timesteps, shape);
    for (int64_t i = 0; i < model->count && !status; i++)
        *shape = shape_after(&model->layers[i], *shape);
    return status;
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

static void merge(int how, float *y, int64_t rows, int64_t units) {
    for (int64_t r = 0; r < rows && how != CONCAT; r++)
        for (int64_t j = 0; j < units; j++) {
            const float a = y[r * 2 * units + j], b = y[r * 2 * units + units + j];
            y[r * units + j] = how == MUL ? a * b : how == SUM ? a + b : 0.5f * (a + b);
        }
}

/* states: (batch, all states) or NULL; hc: room for this layer's h and c. */
static int run_recurrent(const layer *l, fastrnn_shape in, const float *x, const uint8_t *mask,
                         float *y, fr_rnn_split split, float *scratch, float *states,
                         int64_t states_row, float *hc) {
    fr_rnn rnn[2];
    int64_t places[2];
    set_directions(l, in, x, mask, y, rnn);
    scratch_of(l, rnn, split, places);
    float *const parts[2] = {scratch + places[0], scratch + places[l->count - 1]};
    const direction *d = l->directions;
    const size_t bytes = (size_t)d->units * sizeof(float);
    const int64_t each = in.batch * d->units;
    if (states) {
        rnn->h0 = rnn->h_last = hc;
        if (d->cell == FR_LSTM) rnn->c0 = rnn->c_last = hc + each;
    }
    for (int64_t n = 0; n < in.batch * states_of(d) && states; n++)
        memcpy(hc + n * d->units,
               states + n % in.batch * states_row + d->state_at + n / in.batch * d->units, bytes);
    const int status = fr_rnn_forward(rnn, l->count, split, parts);
    if (status) return status == FR_BAD_INDEX ? FASTRNN_BAD_INDEX : FASTRNN_BAD_ARGUMENT;
    for (int64_t n = 0; n < in.batch * states_of(d) && states; n++)
        memcpy(states + n % in.batch * states_row + d->state_at + n / in.batch * d->units,
               hc + n * d->units, bytes);
    if (l->count == 2)
        merge(l->option, y, in.batch * (has_sequences(l) ? in.timesteps : 1), d->units);
    return FASTRNN_OK;
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

static int makes_mask(const layer *l) {
    return l->kind == MASKING || (l->kind == EMBEDDING && l->option);
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

static int reserve(fastrnn_session *session, int64_t floats) {
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
    fastrnn_shape shape;
    int status = input_shape(model, batch, timesteps, &shape);
    if (status) return status;

    /* Two places for what layers give, in turns; scratch; states of a layer; the mask. */
    int64_t widest = 0, scratch = 0, units = 0;
    static const uint8_t some_mask;
    const uint8_t *likely_mask = NULL;
    fastrnn_shape now = shape;
    for (int64_t i = 0; i < model->count; i++) {
        const layer *l = &model->layers[i];
        if (makes_mask(l)) likely_mask = &some_mask;
        if (l->count) { /* split once: the number of threads may change meanwhile */
            fr_rnn rnn[2];
            int64_t places[2];
            set_directions(l, now, NULL, likely_mask, NULL, rnn);
            session->splits[i] = fr_rnn_best_split(rnn, l->count);
            const int64_t needed = scratch_of(l, rnn, session->splits[i], places);
            if (needed > scratch) scratch = needed;
        }
        if (l->directions[0].units > units) units = l->directions[0].units;
        now = shape_after(l, now);
        if (looked_up_above(l)) continue;
        const int64_t floats = rows_of(now) * (l->count == 2 ? 2 : 1) * now.features;
        if (floats > widest) widest = floats;
    }
    widest = (widest + 15) / 16 * 16;
    const int64_t states = state ? 2 * batch * units : 0;
    status = reserve(session, 2 * widest + scratch + states + rows_of(shape) / 4 + 1);
    if (status) return status;
    float *turns[2] = {session->memory, session->memory + widest};
    float *scratch_at = turns[1] + widest, *hc = scratch_at + scratch;
    uint8_t *mask_at = (uint8_t *)(hc + states), *mask = NULL;

    const float *in = x;
    now = shape;
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
        status = l->count ? run_recurrent(l, now, in, mask, out, session->splits[i], scratch_at,
                                          state, model->input.state, hc)
                          : run_layer(l, now, in, out, mask);
        if (!next.timesteps || l->kind == REPEAT) mask = NULL;
        in = out;
        now = next;
    }
    if (!status && in != y) memcpy(y, in, (size_t)(rows_of(now) * now.features) * sizeof(float));
    return status;
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
