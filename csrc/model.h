/* A network as libfastrnn has read it: what model_reading.c makes, model_shapes.c knows the shapes of
 * and model_running.c runs. */
#ifndef FASTRNN_MODEL_H
#define FASTRNN_MODEL_H

#include "engine.h"
#include "fastrnn.h"

enum kind {
    EMBEDDING = 1, MASKING, RECURRENT, BIDIRECTIONAL, DENSE, SCALE, ACTIVATION, SOFTMAX, LAYER_NORM,
    AVERAGE_POOL, MAX_POOL, REPEAT, FLATTEN, LAST_OF_CHAINS = FLATTEN,
    MERGE, CONCATENATE, DOT, ATTENTION, HEADS, PADDING, CROPPING, UP_SAMPLING, TRANSPOSE, RESHAPE, KINDS
};
enum { RETURN_SEQUENCES = 1, BACKWARDS = 2, ZERO_OUTPUT = 4, BIAS = 8 }; /* n[4] of RECURRENT */
enum { CONCAT, SUM, MUL, AVE, APART, MODES };          /* n[0] of BIDIRECTIONAL; of chains all but APART */
enum { ADD, SUBTRACT, MULTIPLY, AVERAGE, MAXIMUM, MINIMUM, MERGES };              /* n[0] of MERGE */
enum { TIME, FEATURES };                                                  /* axes of CONCATENATE, DOT */
enum { CAUSAL = 1 }; /* options of ATTENTION and HEADS */

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

static inline int has_sequences(const layer *l) { return l->directions[0].flags & RETURN_SEQUENCES; }
static inline int states_of(const direction *d) { return d->cell == FR_LSTM ? 2 : 1; }
static inline int64_t rows_of(fastrnn_shape s) { return s.batch * (s.timesteps ? s.timesteps : 1); }
static inline int64_t floats_of(fastrnn_shape s) { return rows_of(s) * s.features; }
static inline int within(int64_t value, int64_t low, int64_t end) { return value >= low && value < end; }
static inline int looked_up_above(const layer *l) { return l->kind == EMBEDDING && !l->weights; }
static inline int makes_mask(const layer *l) {
    return l->kind == MASKING || l->kind == EMBEDDING || l->kind == MERGE || l->kind == CONCATENATE;
}
static inline int is_apart(const layer *l) { return l->count == 2 && l->option == APART; }
/* Both directions are written before they are merged. */
static inline int is_wide(const layer *l) { return l->count == 2 && within(l->option, SUM, APART); }
static inline int is_single(const fastrnn_model *m) { return m->inputs == 1 && m->output_count == 1; }

/* An input of DOT as rows of `size` products: TIME is never an axis of one without time steps. */
typedef struct {
    int64_t rows, size; /* rows 0 where there is no other axis */
} dot_side;
static inline dot_side side_of_dot(int axis, fastrnn_shape s) {
    if (axis == TIME) return (dot_side){s.features, s.timesteps};
    return (dot_side){s.timesteps, s.features};
}

/* Sets the shapes of a call's outputs; 0 where those of its inputs do not fit. timesteps is 0 where there
 * are none. As a model is read sizes may be UNKNOWN, which fits all. */
int fr_set_shapes(const layer *l, const call *c, fastrnn_shape *shapes);

float *fr_new_floats(int64_t n); /* aligned to 64 bytes; NULL where there are none */

#endif
