/* libfastrnn: the shapes of what the calls of a network give. */
#include "model.h"

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

int fr_set_shapes(const layer *l, const call *c, fastrnn_shape *shapes) {
    const fastrnn_shape in = shapes[c->in[0]], last = shapes[c->in[c->ins - 1]];
    fastrnn_shape *out = shapes + c->out;
    *out = (fastrnn_shape){in.batch, in.timesteps, l->out};
    int next = 1;
    switch (l->kind) {
    case RECURRENT:
    case BIDIRECTIONAL:
        if (!has_sequences(l)) out->timesteps = 0;
        if (is_apart(l)) {
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
