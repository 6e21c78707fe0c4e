/* libfastrnn: reads a network from the file that fastrnn/interop/c_export.py writes, and runs it. */
#include "fastrnn.h"
#include "kernels.h"

#include <math.h>
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
enum { CAUSAL = 1 }; /* options of ATTENTION and HEADS */

typedef struct {
    int64_t kind, n[7];
} record;
enum kind {
    EMBEDDING = 1, MASKING, RECURRENT, BIDIRECTIONAL, DENSE, SCALE, ACTIVATION, SOFTMAX, LAYER_NORM,
    AVERAGE_POOL, MAX_POOL, REPEAT, FLATTEN, LAST_OF_CHAINS = FLATTEN,
    MERGE, CONCATENATE, DOT, ATTENTION, HEADS, PADDING, CROPPING, UP_SAMPLING, TRANSPOSE, RESHAPE, KINDS
};
enum { RETURN_SEQUENCES = 1, BACKWARDS = 2, ZERO_OUTPUT = 4, BIAS = 8 }; /* n[4] of RECURRENT */
enum { CONCAT, SUM, MUL, AVE, APART, MODES };          /* n[0] of BIDIRECTIONAL; of chains all but APART */
enum { ADD, SUBTRACT, MULTIPLY, AVERAGE, MAXIMUM, MINIMUM, MERGES };              /* n[0] of MERGE */
enum { TIME, FEATURES };                                                  /* axes of CONCATENATE, DOT */

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
    float *packed;
    float *products;  /* of the rows of the EMBEDDING below, or NULL */
} direction;

typedef struct {
    enum kind kind;
    int64_t in, out;         /* features */
    int64_t n;               /* size of an EMBEDDING (also of one that is looked up by the layer
                                above it), times of REPEAT and UP_SAMPLING, timesteps of FLATTEN and
                                RESHAPE, steps before in PADDING and CROPPING */
    int64_t after;           /* steps after in PADDING and CROPPING */
    int option;              /* activation, merge, mask_zero, rms_scaling, axis or score */
    int count;               /* directions */
    direction directions[2];
    float *weights;          /* packed for DENSE; NULL for an EMBEDDING that is looked up above */
    struct heads *heads;     /* of HEADS, or NULL */
} layer;

/* Projections of several heads; queries is a multiple of values, window 0 where there is none. */
struct heads {
    int64_t queries, values, size, value_size, window;
    layer query, key, value, output; /* DENSE */
};

typedef struct {
    int layer, options, ins, outs;
    int out;          /* its first slot */
    int *in;          /* the slots that it reads */
    int64_t state_at; /* where its h, then its c, begin in a stream's state */
} call;

typedef struct {
    int indices;
    int masked; /* may a step of it be masked? */
    int readers, last; /* how many read it, and which call is the last; all calls for an output */
    int output; /* which output it is, or -1 */
    int buffer; /* where it is kept, or -1: where the caller has it */
} slot;
enum { UNKNOWN = -1 };

struct fastrnn_model {
    fastrnn_input input; /* the first */
    const char *isa;
    layer *layers;
    call *calls;
    slot *slots;
    fastrnn_shape *shapes; /* of the slots, UNKNOWN where a call decides */
    int *outputs; /* slots */
    fastrnn_port *ports; /* the inputs, then the outputs */
    int64_t count, call_count, slot_count, buffer_count;
    int inputs, output_count, port_count;
};

struct fastrnn_session {
    const fastrnn_model *model;
    float *memory;
    int64_t size;
    fastrnn_shape *shapes; /* of the slots in this call, and so on */
    const float **values;
    float **writes;
    const uint8_t **masks; /* or NULL where no step is masked */
    fr_rnn_split *splits;  /* of the calls */
    int64_t *sizes;        /* of the buffers */
    float **buffers, *scratch, *states;
    uint8_t *made_masks;
    int threads, with_states; /* for which all this was planned; threads 0 where it was not */
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
static int64_t rows_of(fastrnn_shape s) { return s.batch * (s.timesteps ? s.timesteps : 1); }
static int64_t floats_of(fastrnn_shape s) { return rows_of(s) * s.features; }
static int within(int64_t value, int64_t low, int64_t end) { return value >= low && value < end; }

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
        d->packed = new_floats(fr_rnn_packed_size(d->cell, features, d->units));
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
        l->weights = new_floats(fr_dense_packed_size(l->in, l->out));
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

/* --- shapes --------------------------------------------------------------------------------------
 *
 * timesteps is 0 where there are none. As a model is read sizes may be UNKNOWN, which fits all. */

static int64_t same(int64_t a, int64_t b) {
    return a == UNKNOWN ? b : b == UNKNOWN || a == b ? a : 0;
}
/* One is repeated to the other's size if it is 1. */
static int64_t joined(int64_t a, int64_t b) {
    if (a == UNKNOWN || b == UNKNOWN) return UNKNOWN;
    return a == b || b == 1 ? a : a == 1 ? b : 0;
}
static int64_t plus(int64_t a, int64_t b) { return a == UNKNOWN || b == UNKNOWN ? UNKNOWN : a + b; }

static fastrnn_shape shape_of_merged(const call *c, const fastrnn_shape *shapes) {
    fastrnn_shape out = {shapes[c->in[0]].batch, 1, 1};
    int sequences = 0;
    for (int i = 0; i < c->ins; i++) {
        const fastrnn_shape in = shapes[c->in[i]];
        sequences |= in.timesteps != 0;
        out.timesteps = out.timesteps ? joined(out.timesteps, in.timesteps ? in.timesteps : 1) : 0;
        out.features = out.features ? joined(out.features, in.features) : 0;
    }
    if (!out.timesteps) out.features = 0;
    if (!sequences) out.timesteps = 0;
    return out;
}

static fastrnn_shape shape_of_concatenated(const layer *l, const call *c, const fastrnn_shape *shapes) {
    fastrnn_shape out = shapes[c->in[0]];
    for (int i = 1; i < c->ins; i++) {
        const fastrnn_shape in = shapes[c->in[i]];
        const int64_t shared = l->option == TIME ? same(out.features, in.features)
                               : out.timesteps   ? same(out.timesteps, in.timesteps)
                                                 : 1;
        if (!shared) return (fastrnn_shape){0, 0, 0};
        if (l->option == TIME) out.timesteps = plus(out.timesteps, in.timesteps), out.features = shared;
        else out.features = plus(out.features, in.features), out.timesteps = out.timesteps ? shared : 0;
    }
    return out;
}

/* An input of DOT as rows of `size` products: TIME is never an axis of one without time steps. */
typedef struct {
    int64_t rows, size; /* rows 0 where there is no other axis */
} dot_side;
static dot_side side_of_dot(int axis, fastrnn_shape s) {
    if (axis == TIME) return (dot_side){s.features, s.timesteps};
    return (dot_side){s.timesteps, s.features};
}
static fastrnn_shape shape_of_dot(const layer *l, fastrnn_shape left, fastrnn_shape right) {
    const dot_side a = side_of_dot(l->option & 1, left), b = side_of_dot(l->option >> 1 & 1, right);
    if (!same(a.size, b.size)) return (fastrnn_shape){0, 0, 0};
    if (a.rows && b.rows) return (fastrnn_shape){left.batch, a.rows, b.rows};
    return (fastrnn_shape){left.batch, 0, a.rows ? a.rows : b.rows ? b.rows : 1};
}

static int64_t cropped(const layer *l, int64_t timesteps) {
    if (timesteps == UNKNOWN) return UNKNOWN;
    return timesteps > l->n + l->after ? timesteps - l->n - l->after : 0;
}

/* Sets the shapes of a call's outputs; 0 where those of its inputs do not fit. */
static int set_shapes(const layer *l, const call *c, fastrnn_shape *shapes) {
    const fastrnn_shape in = shapes[c->in[0]], last = shapes[c->in[c->ins - 1]];
    fastrnn_shape *out = shapes + c->out;
    *out = (fastrnn_shape){in.batch, in.timesteps, l->out};
    int next = 1;
    switch (l->kind) {
    case RECURRENT:
    case BIDIRECTIONAL:
        if (!has_sequences(l)) out->timesteps = 0;
        if (l->count == 2 && l->option == APART) {
            out->features = l->directions[0].units;
            out[next++] = (fastrnn_shape){in.batch, out->timesteps, l->directions[1].units};
        }
        for (int d = 0; d < l->count && next < c->outs; d++)
            for (int i = 0; i < states_of(&l->directions[d]); i++)
                out[next++] = (fastrnn_shape){in.batch, 0, l->directions[d].units};
        return 1;
    case EMBEDDING:
    case DENSE:
    case SCALE:
    case LAYER_NORM: return 1;
    case MASKING:
    case ACTIVATION: out->features = in.features; return 1;
    case SOFTMAX: out->features = in.features; return in.features <= INT32_MAX;
    case AVERAGE_POOL:
    case MAX_POOL: *out = (fastrnn_shape){in.batch, 0, in.features}; return 1;
    case REPEAT: *out = (fastrnn_shape){in.batch, l->n, in.features}; return 1;
    case FLATTEN: out->timesteps = 0; return in.timesteps == l->n;
    case MERGE: *out = shape_of_merged(c, shapes); break;
    case CONCATENATE: *out = shape_of_concatenated(l, c, shapes); break;
    case DOT: *out = shape_of_dot(l, in, last); break;
    case ATTENTION:
        *out = (fastrnn_shape){in.batch, in.timesteps, shapes[c->in[1]].features};
        if (c->outs == 2) out[1] = (fastrnn_shape){in.batch, in.timesteps, last.timesteps};
        return same(in.features, last.features) && same(shapes[c->in[1]].timesteps, last.timesteps) &&
               last.timesteps <= INT32_MAX;
    case HEADS:
        return same(shapes[c->in[1]].timesteps, last.timesteps) && last.timesteps <= INT32_MAX;
    case PADDING:
        *out = (fastrnn_shape){in.batch, plus(in.timesteps, l->n + l->after), in.features};
        return 1;
    case CROPPING:
        *out = (fastrnn_shape){in.batch, cropped(l, in.timesteps), in.features};
        return out->timesteps != 0;
    case UP_SAMPLING:
        *out = (fastrnn_shape){in.batch, in.timesteps == UNKNOWN ? UNKNOWN : in.timesteps * l->n,
                               in.features};
        return 1;
    case TRANSPOSE: *out = (fastrnn_shape){in.batch, in.features, in.timesteps}; return 1;
    case RESHAPE:
        *out = (fastrnn_shape){in.batch, l->n, l->out};
        return in.features == UNKNOWN || in.timesteps == UNKNOWN ||
               (in.timesteps ? in.timesteps : 1) * in.features == (l->n ? l->n : 1) * l->out;
    case KINDS: break;
    }
    return out->features != 0;
}

/* --- reading a graph ------------------------------------------------------------------------------ */

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
        outs += l->count == 2 && l->option == APART;
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
static int makes_mask(const layer *l) {
    return l->kind == MASKING || l->kind == EMBEDDING || l->kind == MERGE || l->kind == CONCATENATE;
}

/* The slots that a call writes; 0 where it does not fit. */
static int write_slots(fastrnn_model *model, const call *c) {
    const layer *l = &model->layers[c->layer];
    const int number = (int)(c - model->calls);
    if (!fits_layer(model, l, c) || !set_shapes(l, c, model->shapes)) return 0;
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

/* Both directions are written before they are merged. */
static int is_wide(const layer *l) { return l->count == 2 && within(l->option, SUM, APART); }

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

static int is_single(const fastrnn_model *model) { return model->inputs == 1 && model->output_count == 1; }

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
    const int is_apart = l->count == 2 && l->option == APART;
    for (int i = 0; i < l->count; i++) {
        const direction *d = &l->directions[i];
        const int64_t first = d->flags & BACKWARDS ? steps - 1 : 0, way = first ? -1 : 1;
        const int64_t width = is_apart ? d->units : l->directions[0].units + l->directions[1].units;
        float *part = i && is_apart ? apart : y && i ? y + l->directions[0].units : y;
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
        if (!set_shapes(l, c, shapes) || call_is_too_large(l, c, shapes)) return FASTRNN_BAD_SHAPE;
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
    const int is_apart = l->count == 2 && l->option == APART;
    float *y = session->writes[c->out], **next = session->writes + c->out + 1 + is_apart;
    set_directions(l, in, session->values[c->in[0]], session->masks[c->in[0]], y,
                   is_apart ? next[-1] : NULL, rnn);
    scratch_of(l, rnn, split, places);
    float *const parts[2] = {session->scratch + places[0], session->scratch + places[l->count - 1]};
    const int *given = c->in + 1;
    for (int d = 0; d < l->count; d++) {
        const int has_c = states_of(&l->directions[d]) == 2;
        if (c->ins > 1) rnn[d].h0 = session->values[*given++];
        if (c->ins > 1 && has_c) rnn[d].c0 = session->values[*given++];
        if (c->outs > 1 + is_apart) rnn[d].h_last = *next++;
        if (c->outs > 1 + is_apart && has_c) rnn[d].c_last = *next++;
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
        const int is_apart = l->kind == CONCATENATE && l->option == TIME;
        for (int64_t b = 0; b < out.batch; b++)
            for (int64_t t = 0; t < (is_apart ? in.timesteps : out.timesteps); t++)
                mask[b * out.timesteps + offset + t] |= !given || given[row_at(in, b, t)];
        if (is_apart) offset += in.timesteps;
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
    session->memory = new_floats(floats);
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
