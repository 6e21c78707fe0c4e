/* libfastrnn: reads a network from the file that fastrnn/interop/c_export.py writes. */
#include "kernels.h"
#include "model.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the file ----------------------------------------------------------------------------------
 *
 * Little-endian. A header, then what the format says, all of it padded to 8 bytes.
 *
 * CHAIN: the layers in order. A layer is its kind and 7 numbers, all int64, then float32 arrays; which
 * numbers and arrays stands in read_layer.
 *
 * GRAPH: the inputs, the calls in order, the outputs. What a call gives is in slots, which are counted
 * as they are written: first the inputs, then what each call gives; a call reads slots before its own.
 * An input is a `port` and its name; a call is a `reading`, the slots (int64) that it reads and, if it
 * is the first call of its layer, that layer; an output is a slot, the length of its name, its name. */

enum { CHAIN = 1, GRAPH, FORMATS };
enum { MOST_LAYERS = 4096, MOST_CALLS = 4096, MOST_PORTS = 1024, MOST_OUTS = 6, MOST_NAME = 1 << 16 };
static const char MAGIC[8] = "fastrnn";

typedef struct {
    char magic[8];
    uint32_t format;
    uint32_t crc32; /* of all that follows */
    uint64_t size;  /* of the file */
    uint32_t layers;
    union { uint32_t flags, calls; };                 /* of a CHAIN, of a GRAPH; so below */
    union { int64_t features, inputs; };
    union { int64_t timesteps, outputs; };
} header;
enum { INDICES = 1, SEQUENCES = 2 }; /* flags of the header and of a port */

typedef struct {
    int64_t flags, features, timesteps, name; /* name: bytes of it */
} port;
typedef struct {
    int64_t layer, options, ins, outs;
} reading;

typedef struct {
    int64_t kind, n[7];
} record;

static uint32_t crc32(const uint8_t *bytes, size_t size) {
    uint32_t table[256], crc = 0xffffffff;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int bit = 0; bit < 8; bit++) table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xedb88320 : 0);
    }
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
    return ~crc;
}

/* --- layers ------------------------------------------------------------------------------------- */

float *fr_new_floats(int64_t n) {
    if (n < 0 || n > INT64_MAX / 8) return NULL;
    const int64_t bytes = (n * (int64_t)sizeof(float) + 63) / 64 * 64 + 64;
    float *memory = aligned_alloc(64, (size_t)bytes);
    if (memory) fr_use_large_pages(memory, bytes);
    return memory;
}

typedef struct {
    const uint8_t *at, *end;
} reader;

static int take(reader *r, void *to, size_t size) {
    if (size > (size_t)(r->end - r->at)) return 0;
    memcpy(to, r->at, size);
    r->at += size;
    return 1;
}

/* What is in the file is padded to 8 bytes; so is the file. */
static void take_padding(reader *r) {
    const size_t left = (size_t)(r->end - r->at);
    r->at += left % 8 < left ? left % 8 : left;
}

/* The next array of rows x columns floats, in `*array`, which the caller frees. */
static int take_array(reader *r, int64_t rows, int64_t columns, float **array) {
    const int64_t left = (int64_t)((r->end - r->at) / (ptrdiff_t)sizeof(float));
    *array = NULL;
    if (rows < 1 || columns < 1 || rows > left / columns) return FASTRNN_NOT_A_MODEL;
    *array = fr_new_floats(rows * columns);
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

enum { MOST = 1 << 30 }; /* of any size in the file */
enum { MOST_TIMES = 1 << 14 }; /* of UP_SAMPLING */

/* The next record, of a kind below `end`; of its numbers those that its kind has no use for are 0. */
static int take_record(reader *r, record *rec, enum kind end) {
    static const int8_t used[KINDS] = {
        [EMBEDDING] = 3, [RECURRENT] = 5, [BIDIRECTIONAL] = 1, [DENSE] = 3, [ACTIVATION] = 1,
        [LAYER_NORM] = 1, [REPEAT] = 1, [FLATTEN] = 1, [MERGE] = 1, [CONCATENATE] = 1, [DOT] = 3,
        [ATTENTION] = 1, [HEADS] = 6, [PADDING] = 2, [CROPPING] = 2, [UP_SAMPLING] = 1, [RESHAPE] = 2};
    if (!take(r, rec, sizeof *rec) || !within(rec->kind, EMBEDDING, end)) return 0;
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
        d->packed = fr_new_floats(fr_rnn_packed_size(d->cell, features, d->units));
        if (d->packed)
            fr_rnn_pack(d->cell, d->packed, arrays[0], arrays[1], arrays[2], features, d->units);
        else
            status = FASTRNN_OUT_OF_MEMORY;
    }
    free_arrays(3, arrays);
    return status;
}

static int read_both(reader *r, const record *rec, layer *l, enum kind end) {
    record inner;
    l->count = 2;
    l->out = 0;
    for (int d = 0; d < 2; d++) {
        if (!take_record(r, &inner, end)) return FASTRNN_NOT_A_MODEL;
        const int status = read_direction(r, &inner, l->in, &l->directions[d]);
        if (status) return status;
        l->out += l->directions[d].units;
    }
    const direction *d = l->directions;
    const int differ = d[0].flags ^ d[1].flags;
    if (!within(rec->n[0], 0, end == KINDS ? MODES : APART) || differ & RETURN_SEQUENCES ||
        !(differ & BACKWARDS))
        return FASTRNN_NOT_A_MODEL;
    l->option = (int)rec->n[0];
    if (within(l->option, SUM, APART) && d[0].units != d[1].units) return FASTRNN_NOT_A_MODEL;
    if (within(l->option, SUM, APART)) l->out /= 2;
    return FASTRNN_OK;
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
        l->weights = fr_new_floats(fr_dense_packed_size(l->in, l->out));
        if (l->weights) fr_dense_pack(l->weights, arrays[0], arrays[1], l->in, l->out, 0);
        else status = FASTRNN_OUT_OF_MEMORY;
    }
    free_arrays(2, arrays);
    return status;
}

/* One projection of HEADS, of `out` columns, or of any number where that is 0. */
static int read_projection(reader *r, layer *l, int64_t in, int64_t out) {
    record rec;
    if (!take_record(r, &rec, KINDS) || rec.kind != DENSE || (out && rec.n[0] != out))
        return FASTRNN_NOT_A_MODEL;
    l->kind = DENSE;
    l->in = in;
    const int status = read_dense(r, &rec, l);
    take_padding(r);
    return status;
}

static int read_heads(reader *r, const record *rec, layer *l) {
    const int64_t *n = rec->n;
    struct heads *h = l->heads = calloc(1, sizeof *h);
    if (!h) return FASTRNN_OUT_OF_MEMORY;
    for (int i = 0; i < 4; i++)
        if (!within(n[i], 1, 1 << 15)) return FASTRNN_NOT_A_MODEL;
    if (n[0] % n[1] || !within(n[4], 0, MOST) || !within(n[5], 0, 2)) return FASTRNN_NOT_A_MODEL;
    *h = (struct heads){n[0], n[1], n[2], n[3], n[4], .query.in = 0};
    l->option = (int)n[5];
    int64_t sizes[2]; /* of keys and of values */
    if (!take(r, sizes, sizeof sizes) || !within(sizes[0], 1, MOST) || !within(sizes[1], 1, MOST))
        return FASTRNN_NOT_A_MODEL;
    int status = read_projection(r, &h->query, l->in, h->queries * h->size);
    if (!status) status = read_projection(r, &h->key, sizes[0], h->values * h->size);
    if (!status) status = read_projection(r, &h->value, sizes[1], h->values * h->value_size);
    if (!status) status = read_projection(r, &h->output, h->queries * h->value_size, 0);
    l->out = h->output.out;
    return status;
}

/* Numbers and arrays of each kind of layer, of inputs (or a first input) of so many features. */
static int read_layer(reader *r, layer *l, int64_t features, enum kind end) {
    record rec;
    if (!take_record(r, &rec, end)) return FASTRNN_NOT_A_MODEL;
    const int64_t *n = rec.n;
    l->kind = (enum kind)rec.kind;
    l->in = l->out = features;
    int fits = 1, status = FASTRNN_OK;
    switch (l->kind) {
    case EMBEDDING: /* size, width, mask_zero; table (size, width) */
        fits = within(n[0], 1, MOST) && within(n[1], 1, MOST) && within(n[2], 0, 2);
        l->n = n[0], l->out = n[1], l->option = n[2] == 1;
        if (fits) status = take_array(r, l->n, l->out, &l->weights);
        break;
    case MASKING: /* mask_value (1) */
        status = take_array(r, 1, 1, &l->weights);
        break;
    case RECURRENT: /* cell, units, activation, recurrent_activation, flags; kernel, recurrent_kernel,
                       bias if flagged: shapes as in Keras */
        l->count = 1;
        status = read_direction(r, &rec, l->in, l->directions);
        l->out = l->directions[0].units;
        break;
    case BIDIRECTIONAL: /* merge; then two records of RECURRENT */
        status = read_both(r, &rec, l, end);
        break;
    case DENSE: /* units, activation, whether there is a bias; kernel (features, units), bias (units) */
        status = read_dense(r, &rec, l);
        break;
    case SCALE: /* scale, offset (features each) */
        status = take_array(r, 2, l->in, &l->weights);
        break;
    case ACTIVATION: /* activation */
        fits = within(n[0], 0, FR_ACTIVATIONS);
        l->option = (int)n[0];
        break;
    case LAYER_NORM: /* rms_scaling; epsilon for each feature, gamma, beta (features each) */
        fits = within(n[0], 0, 2);
        l->option = (int)n[0];
        if (fits) status = take_array(r, 3, l->in, &l->weights);
        break;
    case REPEAT: /* times */
        fits = within(n[0], 1, MOST);
        l->n = n[0];
        break;
    case FLATTEN: /* timesteps, which are not free */
        fits = features > 0 && within(n[0], 1, MOST / features);
        l->n = n[0], l->out = fits ? l->n * l->in : 0;
        break;
    case MERGE: /* what: ADD ... */
        fits = within(n[0], 0, MERGES);
        l->option = (int)n[0];
        break;
    case CONCATENATE: /* axis */
        fits = within(n[0], 0, 2);
        l->option = (int)n[0];
        break;
    case DOT: /* the two axes, normalize */
        fits = within(n[0], 0, 2) && within(n[1], 0, 2) && within(n[2], 0, 2);
        l->option = fits ? (int)(n[0] | n[1] << 1 | n[2] << 2) : 0;
        break;
    case ATTENTION: /* are scores sums? factor of the products; or of queries + keys, then those of what
                       is summed (features) */
        fits = within(n[0], 0, 2);
        l->option = (int)n[0];
        if (fits) status = take_array(r, 1, l->option ? 1 + features : 1, &l->weights);
        break;
    case HEADS: /* heads of queries, of values; size of those of queries, of values; window; does what
                   sees nothing give nothing? Features of keys, of values; four records of DENSE */
        status = read_heads(r, &rec, l);
        break;
    case PADDING: /* steps before, after */
    case CROPPING:
        fits = within(n[0], 0, MOST) && within(n[1], 0, MOST);
        l->n = n[0], l->after = n[1];
        break;
    case UP_SAMPLING: /* times */
        fits = within(n[0], 1, MOST_TIMES);
        l->n = n[0];
        break;
    case RESHAPE: /* timesteps, 0 for none; features */
        fits = within(n[0], 0, MOST) && within(n[1], 1, MOST);
        l->n = n[0], l->out = n[1];
        break;
    case SOFTMAX:
    case AVERAGE_POOL:
    case MAX_POOL:
    case TRANSPOSE:
    case KINDS: break;
    }
    take_padding(r);
    return fits ? status : FASTRNN_NOT_A_MODEL;
}

/* --- calls, whole models ------------------------------------------------------------------------- */

/* Do inputs and outputs of a call fit its layer in number and rank, and those features that its
 * weights are for? */
static int fits_layer(const fastrnn_model *model, const layer *l, const call *c) {
    const fastrnn_shape *shapes = model->shapes, *in = &shapes[c->in[0]];
    int sequences = 0, states = 0, outs = 1;
    for (int i = 0; i < c->ins; i++) {
        if (model->slots[c->in[i]].indices != (l->kind == EMBEDDING)) return 0;
        sequences += shapes[c->in[i]].timesteps != 0;
    }
    if (!within(c->options, 0, l->kind == ATTENTION || l->kind == HEADS ? 2 : 1)) return 0;
    switch (l->kind) {
    case RECURRENT:
    case BIDIRECTIONAL:
        for (int d = 0; d < l->count; d++)
            for (int i = 0; i < states_of(&l->directions[d]); i++, states++)
                if (c->ins > 1 && (states + 1 >= c->ins ||
                                   shapes[c->in[states + 1]].features != l->directions[d].units))
                    return 0;
        outs += is_apart(l);
        return in->timesteps && sequences == 1 && in->features == l->in &&
               (c->ins == 1 || c->ins == 1 + states) && (c->outs == outs || c->outs == outs + states);
    case MERGE: return c->outs == 1 && (l->option != SUBTRACT || c->ins == 2);
    case CONCATENATE:
        return c->outs == 1 && (sequences == c->ins || (sequences == 0 && l->option == FEATURES));
    case DOT:
        return c->outs == 1 && c->ins == 2 && (in->timesteps || (l->option & 1) == FEATURES) &&
               (shapes[c->in[1]].timesteps || (l->option >> 1 & 1) == FEATURES);
    case ATTENTION:
        return within(c->ins, 2, 4) && sequences == c->ins && within(c->outs, 1, 3) &&
               (!l->option || in->features == l->in);
    case HEADS:
        return within(c->ins, 2, 4) && sequences == c->ins && c->outs == 1 &&
               in->features == l->in &&
               shapes[c->in[1]].features == l->heads->value.in &&
               shapes[c->in[c->ins - 1]].features == l->heads->key.in;
    default: break;
    }
    if (c->ins != 1 || c->outs != 1) return 0;
    switch (l->kind) {
    case DENSE:
    case SCALE:
    case LAYER_NORM: return in->features == l->in;
    case FLATTEN: return in->features == l->in && in->timesteps == l->n;
    case REPEAT: return !sequences;
    case MASKING:
    case AVERAGE_POOL:
    case MAX_POOL:
    case PADDING:
    case CROPPING:
    case UP_SAMPLING:
    case TRANSPOSE: return sequences;
    default: return 1;
    }
}

/* May steps of a call's first output be masked? */
static int masks_steps(const fastrnn_model *model, const layer *l, const call *c) {
    const slot *slots = model->slots;
    int masked = 0;
    switch (l->kind) {
    case EMBEDDING: return l->option && model->shapes[c->in[0]].timesteps;
    case MASKING: return 1;
    case MERGE:
    case CONCATENATE:
        for (int i = 0; i < c->ins; i++) masked += slots[c->in[i]].masked;
        return l->kind == CONCATENATE && l->option == TIME ? masked > 0 : masked == c->ins;
    case RECURRENT:
    case BIDIRECTIONAL: return slots[c->in[0]].masked && has_sequences(l);
    case DENSE:
    case SCALE:
    case ACTIVATION:
    case SOFTMAX:
    case LAYER_NORM:
    case ATTENTION:
    case HEADS: return slots[c->in[0]].masked;
    default: return 0;
    }
}

/* The slots that a call writes; 0 where it does not fit. */
static int write_slots(fastrnn_model *model, const call *c) {
    const layer *l = &model->layers[c->layer];
    const int number = (int)(c - model->calls);
    if (!fits_layer(model, l, c) || !fr_set_shapes(l, c, model->shapes)) return 0;
    for (int i = 0; i < c->ins; i++) {
        model->slots[c->in[i]].readers++;
        model->slots[c->in[i]].last = number;
    }
    for (int o = c->out; o < c->out + c->outs; o++) {
        const fastrnn_shape shape = model->shapes[o];
        if (!within(shape.timesteps, UNKNOWN, MOST) || !within(shape.features, UNKNOWN, MOST) ||
            !shape.features)
            return 0;
        model->slots[o] = (slot){.last = number, .output = -1, .buffer = -1};
    }
    model->slots[c->out].masked = masks_steps(model, l, c);
    if (is_apart(l)) model->slots[c->out + 1].masked = model->slots[c->out].masked;
    model->slot_count += c->outs;
    return 1;
}

static int new_call(fastrnn_model *model, reading what, call **made) {
    call *c = *made = &model->calls[model->call_count];
    *c = (call){.layer = (int)what.layer, .options = (int)what.options, .ins = (int)what.ins,
                .outs = (int)what.outs, .out = (int)model->slot_count};
    c->in = calloc((size_t)what.ins, sizeof *c->in);
    if (!c->in) return FASTRNN_OUT_OF_MEMORY;
    model->call_count++;
    return FASTRNN_OK;
}

/* The layer, if this is its first call, and what the call gives. */
static int finish_call(reader *r, fastrnn_model *model, const call *c, enum kind end) {
    int status = FASTRNN_OK;
    if (c->layer == model->count)
        status = read_layer(r, &model->layers[model->count++], model->shapes[c->in[0]].features, end);
    return status || write_slots(model, c) ? status : FASTRNN_NOT_A_MODEL;
}

static int new_input(fastrnn_model *model, int64_t flags, int64_t features, int64_t timesteps) {
    const int indices = (flags & INDICES) != 0, sequences = (flags & SEQUENCES) != 0;
    if (!within(flags, 0, (INDICES | SEQUENCES) + 1) || !within(features, 1, indices ? 2 : MOST) ||
        !within(timesteps, 0, sequences ? MOST : 1))
        return 0;
    model->shapes[model->slot_count] =
        (fastrnn_shape){0, sequences && !timesteps ? UNKNOWN : timesteps, features};
    model->slots[model->slot_count++] = (slot){.indices = indices, .output = -1, .buffer = -1};
    return 1;
}

static int new_output(fastrnn_model *model, int64_t number) {
    if (!within(number, 0, model->slot_count) || model->slots[number].indices) return 0;
    slot *s = &model->slots[number];
    s->readers++;
    s->last = (int)model->call_count;
    s->output = s->output < 0 ? model->output_count : s->output;
    model->outputs[model->output_count++] = (int)number;
    return 1;
}

static int read_name(reader *r, int64_t size, const char **name) {
    if (!within(size, 0, MOST_NAME) || size > r->end - r->at || memchr(r->at, 0, (size_t)size))
        return FASTRNN_NOT_A_MODEL;
    char *copy = calloc(1, (size_t)size + 1);
    if (!copy) return FASTRNN_OUT_OF_MEMORY;
    take(r, copy, (size_t)size);
    take_padding(r);
    *name = copy;
    return FASTRNN_OK;
}

static int read_chain(reader *r, fastrnn_model *model, const header *head) {
    if (!new_input(model, head->flags, head->features, head->timesteps)) return FASTRNN_NOT_A_MODEL;
    call *c;
    int status = read_name(r, 0, &model->ports[0].name);
    if (!status) status = read_name(r, 0, &model->ports[1].name);
    for (uint32_t i = 0; i < head->layers && !status; i++) {
        status = new_call(model, (reading){i, 0, 1, 1}, &c);
        if (!status) c->in[0] = (int)i;
        if (!status) status = finish_call(r, model, c, LAST_OF_CHAINS + 1);
    }
    return status || new_output(model, head->layers) ? status : FASTRNN_NOT_A_MODEL;
}

static int read_call(reader *r, fastrnn_model *model, uint32_t layers) {
    reading what;
    if (!take(r, &what, sizeof what) || !within(what.layer, 0, model->count + 1) ||
        what.layer >= layers || !within(what.options, 0, 2) || !within(what.ins, 1, MOST_PORTS) ||
        !within(what.outs, 1, MOST_OUTS + 1))
        return FASTRNN_NOT_A_MODEL;
    call *c;
    const int status = new_call(model, what, &c);
    if (status) return status;
    for (int i = 0; i < c->ins; i++) {
        int64_t number;
        if (!take(r, &number, sizeof number) || !within(number, 0, c->out)) return FASTRNN_NOT_A_MODEL;
        c->in[i] = (int)number;
    }
    return finish_call(r, model, c, KINDS);
}

static int read_graph(reader *r, fastrnn_model *model, const header *head) {
    int status = FASTRNN_OK;
    for (int i = 0; i < model->inputs && !status; i++) {
        port p;
        if (!take(r, &p, sizeof p) || !new_input(model, p.flags, p.features, p.timesteps))
            return FASTRNN_NOT_A_MODEL;
        status = read_name(r, p.name, &model->ports[i].name);
    }
    for (uint32_t i = 0; i < head->calls && !status; i++) status = read_call(r, model, head->layers);
    for (int64_t i = 0; i < head->outputs && !status; i++) {
        int64_t output[2]; /* slot, bytes of the name */
        if (!take(r, output, sizeof output) || !new_output(model, output[0])) return FASTRNN_NOT_A_MODEL;
        status = read_name(r, output[1], &model->ports[model->inputs + i].name);
    }
    return status || model->count == head->layers ? status : FASTRNN_NOT_A_MODEL;
}

static void describe_ports(fastrnn_model *model) {
    for (int i = 0; i < model->inputs + model->output_count; i++) {
        const int number = i < model->inputs ? i : model->outputs[i - model->inputs];
        const fastrnn_shape shape = model->shapes[number];
        fastrnn_port *p = &model->ports[i];
        p->indices = model->slots[number].indices;
        p->sequences = shape.timesteps != 0;
        p->timesteps = shape.timesteps == UNKNOWN ? 0 : shape.timesteps;
        p->features = shape.features == UNKNOWN ? 0 : shape.features;
    }
    const fastrnn_port *p = model->ports;
    model->input = (fastrnn_input){p->indices, p->sequences, p->features, p->timesteps, 0};
}

/* Does a call need what is to come? */
static int needs_whole_sequences(const fastrnn_model *model, const call *c) {
    const layer *l = &model->layers[c->layer];
    int sequences = 0;
    switch (l->kind) {
    case EMBEDDING:
    case MASKING:
    case DENSE:
    case SCALE:
    case ACTIVATION:
    case SOFTMAX:
    case LAYER_NORM: return 0;
    case RECURRENT: return l->directions[0].flags & BACKWARDS || c->ins > 1 || c->outs > 1;
    case MERGE:
        for (int i = 0; i < c->ins; i++) sequences += model->shapes[c->in[i]].timesteps != 0;
        return sequences != 0 && sequences != c->ins;
    case CONCATENATE: return l->option == TIME;
    default: return 1;
    }
}

/* Places of the calls' states in a stream's state; -1 where a call needs what is to come. */
static int64_t place_states(fastrnn_model *model) {
    int64_t size = 0;
    for (int64_t i = 0; i < model->call_count; i++) {
        call *c = &model->calls[i];
        if (needs_whole_sequences(model, c)) return -1;
        const direction *d = model->layers[c->layer].directions;
        c->state_at = size;
        if (model->layers[c->layer].count) size += states_of(d) * d->units;
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
        d->products = fr_new_floats(fr_rnn_products_size(d->cell, embedding->n, embedding->out, d->units));
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

/* Where no other call needs the rows, nor the layers on both sides. */
static void multiply_all_rows(fastrnn_model *model, const int *calls_of_layers) {
    for (int64_t i = 0; i < model->call_count; i++) {
        const call *c = &model->calls[i];
        const slot *s = &model->slots[c->out];
        if (model->layers[c->layer].kind != EMBEDDING || s->readers != 1 || s->output >= 0) continue;
        const int above = model->calls[s->last].layer;
        if (calls_of_layers[c->layer] == 1 && calls_of_layers[above] == 1)
            multiply_rows(&model->layers[c->layer], &model->layers[above]);
    }
}

/* A slot has its buffer until its last reader is done; outputs are written where the caller wants
 * them. busy: of each buffer the last call that needs it. */
static void place_buffers(fastrnn_model *model, int *busy) {
    for (int i = 0; i < model->call_count; i++) {
        const call *c = &model->calls[i];
        const layer *l = &model->layers[c->layer];
        for (int o = c->out; o < c->out + c->outs; o++) {
            slot *s = &model->slots[o];
            if (looked_up_above(l) || (s->output >= 0 && !is_wide(l))) continue;
            int b = 0;
            while (b < model->buffer_count && busy[b] >= i) b++;
            if (b == model->buffer_count) model->buffer_count++;
            busy[b] = s->last;
            s->buffer = b;
        }
    }
}

static int prepare(fastrnn_model *model) {
    int *numbers = calloc((size_t)(model->count + model->slot_count), sizeof *numbers);
    if (!numbers) return FASTRNN_OUT_OF_MEMORY;
    describe_ports(model);
    for (int64_t i = 0; i < model->call_count; i++) numbers[model->calls[i].layer]++;
    multiply_all_rows(model, numbers);
    place_buffers(model, numbers + model->count);
    model->input.state = place_states(model);
    free(numbers);
    return FASTRNN_OK;
}

static fastrnn_model *new_model(const header *head) {
    const int is_graph = head->format == GRAPH;
    const size_t calls = is_graph ? head->calls : head->layers;
    const size_t inputs = is_graph ? (size_t)head->inputs : 1, outputs = is_graph ? (size_t)head->outputs : 1;
    fastrnn_model *model = calloc(1, sizeof *model);
    if (!model) return NULL;
    model->isa = fr_isa();
    model->inputs = (int)inputs;
    model->layers = calloc(head->layers + 1, sizeof *model->layers);
    model->calls = calloc(calls + 1, sizeof *model->calls);
    const size_t slots = inputs + calls * (is_graph ? MOST_OUTS : 1);
    model->slots = calloc(slots, sizeof *model->slots);
    model->shapes = calloc(slots, sizeof *model->shapes);
    model->outputs = calloc(outputs, sizeof *model->outputs);
    model->ports = calloc(inputs + outputs, sizeof *model->ports);
    model->port_count = model->ports ? (int)(inputs + outputs) : 0;
    if (model->layers && model->calls && model->slots && model->shapes && model->outputs && model->ports)
        return model;
    fastrnn_model_free(model);
    return NULL;
}

int fastrnn_model_read(fastrnn_model **out, const void *bytes, size_t size) {
    if (!out || !bytes) return FASTRNN_BAD_ARGUMENT;
    *out = NULL;
    header head;
    if (size < sizeof head || size > PTRDIFF_MAX) return FASTRNN_NOT_A_MODEL;
    memcpy(&head, bytes, sizeof head);
    if (memcmp(head.magic, MAGIC, sizeof MAGIC)) return FASTRNN_NOT_A_MODEL;
    if (head.format >= FORMATS) return FASTRNN_TOO_NEW;
    const size_t summed = offsetof(header, size);
    if (head.format < CHAIN || head.size != size || size % 8 || head.layers > MOST_LAYERS ||
        (head.format == GRAPH && (head.calls > MOST_CALLS || !within(head.inputs, 1, MOST_PORTS) ||
                                  !within(head.outputs, 1, MOST_PORTS))) ||
        crc32((const uint8_t *)bytes + summed, size - summed) != head.crc32)
        return FASTRNN_NOT_A_MODEL;

    fastrnn_model *model = new_model(&head);
    if (!model) return FASTRNN_OUT_OF_MEMORY;
    reader r = {(const uint8_t *)bytes + sizeof head, (const uint8_t *)bytes + size};
    int status = head.format == GRAPH ? read_graph(&r, model, &head) : read_chain(&r, model, &head);
    if (!status && r.at != r.end) status = FASTRNN_NOT_A_MODEL;
    if (!status) status = prepare(model);
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

static void free_layer(layer *l) {
    free(l->weights);
    for (int d = 0; d < 2; d++) {
        free(l->directions[d].packed);
        free(l->directions[d].products);
    }
    if (!l->heads) return;
    free(l->heads->query.weights);
    free(l->heads->key.weights);
    free(l->heads->value.weights);
    free(l->heads->output.weights);
    free(l->heads);
}

int fastrnn_model_free(fastrnn_model *model) {
    if (!model) return FASTRNN_OK;
    for (int64_t i = 0; i < model->count; i++) free_layer(&model->layers[i]);
    for (int64_t i = 0; i < model->call_count; i++) free(model->calls[i].in);
    for (int i = 0; i < model->port_count; i++) free((char *)model->ports[i].name);
    free(model->layers), free(model->calls), free(model->slots), free(model->outputs);
    free(model->ports), free(model->shapes);
    free(model);
    return FASTRNN_OK;
}

int fastrnn_model_input(const fastrnn_model *model, fastrnn_input *input) {
    if (!model || !input) return FASTRNN_BAD_ARGUMENT;
    if (!is_single(model)) return FASTRNN_SEVERAL;
    *input = model->input;
    return FASTRNN_OK;
}

int fastrnn_graph_sizes(const fastrnn_model *model, fastrnn_sizes *sizes) {
    if (!model || !sizes) return FASTRNN_BAD_ARGUMENT;
    *sizes = (fastrnn_sizes){model->inputs, model->output_count, model->input.state};
    return FASTRNN_OK;
}
int fastrnn_graph_input(const fastrnn_model *model, int32_t number, fastrnn_port *p) {
    if (!model || !p || !within(number, 0, model->inputs)) return FASTRNN_BAD_ARGUMENT;
    *p = model->ports[number];
    return FASTRNN_OK;
}
int fastrnn_graph_output(const fastrnn_model *model, int32_t number, fastrnn_port *p) {
    if (!model || !p || !within(number, 0, model->output_count)) return FASTRNN_BAD_ARGUMENT;
    *p = model->ports[model->inputs + number];
    return FASTRNN_OK;
}
