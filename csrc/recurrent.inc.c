/* Recurrent cells through time for one slice of the batch.
 *
 * LSTM: Hochreiter & Schmidhuber 1997, Gers 2000       z = b + x W + h' U
 *     i, f, o = rec(z_i), rec(z_f), rec(z_o);  g = act(z_g)
 *     c = f c' + i g;  h = o act(c)
 * GRU: Cho et al. 2014, the reset gate after the product with U (Keras's reset_after)
 *     z, r = rec(z_z), rec(z_r);  s = b_s + h' U_h;  n = act(b_h + x W_h + r s)
 *     h = z h' + (1 - z) n
 *   or, with the reset gate before it, n = act(b_h + x W_h + (r h') U_h)
 * Simple RNN: Elman 1990
 *     h = act(b + x W + h' U)
 *
 * Packed columns of LSTM and GRU. Units go in chunks of V; the 4 pieces of a chunk (i, f, g, o; or
 * n's share of x, z, r, s) sit side by side, 4V columns. The rest of the units (not where the reset
 * comes before: its chunks are all whole) goes in groups of V/4, the 4 pieces of a group in one vector. A transpose of 4 groups (of any rows: they are
 * contiguous) gives vectors of the same form as a chunk's.
 * Simple RNN: chunks of 4V units, which are 4V columns; the last chunk has 1 to 4 vectors. */

#define GROUP (V / 4)

typedef struct {
    int cell;
    int64_t units, gates;  /* gates: columns of Keras's weights for each unit */
    int64_t chunk_units, full, tail; /* full chunks, then one of `tail` vectors if that is not 0 */
    int64_t columns, chunks;
    int64_t h_row;         /* units rounded up to V */
    int64_t k;             /* rows of a packed panel: bias, features, units */
    int strips;            /* are packed weights of 4 vectors in strips? */
} layout;

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int is_gru(int cell) { return cell == FR_GRU || cell == FR_GRU_RESET_BEFORE; }

static layout layout_of(int cell, int64_t features, int64_t units) {
    layout l = {.cell = cell, .units = units, .gates = gates_of(cell), .k = 1 + features + units};
    const int simple = cell == FR_SIMPLE_RNN;
    const int64_t vector_units = simple ? V : GROUP;
    l.chunk_units = 4 * vector_units;
    l.full = units / l.chunk_units;
    l.tail = (units % l.chunk_units + vector_units - 1) / vector_units;
    if (l.tail == 4 || (l.tail && cell == FR_GRU_RESET_BEFORE)) l.full++, l.tail = 0;
    l.columns = l.full * 4 * V + l.tail * V;
    l.chunks = l.full + (l.tail > 0);
    l.h_row = (units + V - 1) / V * V;
    l.strips = BY_HALVES && !is_gru(cell) && l.k * l.columns > 1 << 18; /* 1 MB */
    return l;
}
static layout layout_of_run(const fr_rnn *rnn) {
    return layout_of(rnn->cell, rnn->features, rnn->units);
}
INLINE int chunk_vectors(const layout *l, int64_t chunk) {
    return chunk < l->full ? 4 : (int)l->tail;
}
/* Packed weights: per chunk the bias, then rows of its columns for all features and units, or two
 * strips of them. Where row k (bias, features, units) has a column, and the distances from there. */
INLINE int64_t packed_at(const layout *l, int64_t chunk, int64_t k, int64_t column) {
    const int64_t start = chunk * l->k * 4 * V, half = 2 * V;
    if (!l->strips || chunk == l->full || k == 0)
        return start + k * chunk_vectors(l, chunk) * V + column;
    const int64_t strip = column < half ? 0 : l->k - 2;
    return start + 4 * V + (strip + k - 1) * half + column;
}
INLINE int64_t packed_row(const layout *l, int64_t chunk) {
    return (l->strips && chunk < l->full ? 2 : chunk_vectors(l, chunk)) * V;
}
INLINE int64_t packed_strip(const layout *l) { return l->strips ? (l->k - 1) * 2 * V : 2 * V; }

/* Is this chunk one of groups, whose cells are computed for all rows at once? */
INLINE int in_groups(const layout *l, int64_t chunk) {
    return chunk == l->full && l->cell != FR_SIMPLE_RNN;
}

/* Gates (and z, and dz) of one time step: per chunk (rows, 4V), then (rows, tail, V). Cell states
 * of LSTM and GRU: per chunk (rows, V), then (rows, groups, V/4); whole in fours of groups. */
INLINE int64_t tail_cells(const layout *l, int64_t rows) { return (rows * l->tail + 3) / 4; }
INLINE int64_t gates_size(const layout *l, int64_t rows) {
    return rows * l->full * 4 * V + tail_cells(l, rows) * 4 * V;
}
INLINE int64_t cells_size(const layout *l, int64_t rows) {
    return l->cell == FR_SIMPLE_RNN ? 0 : rows * l->full * V + tail_cells(l, rows) * V;
}

/* --- packing --------------------------------------------------------------------------------- */

/* GRU's first piece takes nothing from h and its last nothing from x; the last has the columns of
 * U_h, which r h' is multiplied with where the reset comes before. */
enum weights_kind { OF_X, OF_H, OF_RESET_H };
INLINE int gate_of(int cell, enum weights_kind kind, int64_t piece) {
    static const int8_t gru[2][4] = {{2, 0, 1, -1}, {-1, 0, 1, 2}};
    return is_gru(cell) ? gru[kind][piece] : (int)piece;
}

/* Where the columns of a chunk begin that weights of a kind go to, and how many vectors they are. */
INLINE int first_vector(const layout *l, int64_t chunk, enum weights_kind kind) {
    if (!is_gru(l->cell) || chunk >= l->full) return 0;
    return kind == OF_X ? 0 : kind == OF_H ? 1 : 3;
}
INLINE int chunk_vectors_of(const layout *l, int64_t chunk, enum weights_kind kind) {
    if (!is_gru(l->cell) || chunk >= l->full) return chunk_vectors(l, chunk);
    if (kind == OF_H && l->cell == FR_GRU_RESET_BEFORE) return 2;
    return kind == OF_RESET_H ? 1 : 3;
}

INLINE int64_t run_length(int64_t units, int64_t first, int64_t width) {
    int64_t left = units - first;
    return left < 0 ? 0 : left < width ? left : width;
}

/* A run of packed columns [column, column + length) of a chunk that is a run [source, source +
 * length) of Keras's columns; length is 0 where there are none. */
typedef struct {
    int64_t column, source, length;
} column_run;
INLINE int64_t runs_in(const layout *l, int64_t chunk) {
    return in_groups(l, chunk) ? 4 * l->tail : chunk_vectors(l, chunk);
}
INLINE column_run run_of(const layout *l, int64_t chunk, enum weights_kind kind, int64_t n) {
    const int simple = l->cell == FR_SIMPLE_RNN, groups = in_groups(l, chunk);
    const int64_t width = groups ? GROUP : V;
    const int64_t unit = chunk * l->chunk_units + (simple ? n * V : n / 4 * GROUP);
    const int gate = simple ? 0 : gate_of(l->cell, kind, n % 4);
    if (gate < 0) return (column_run){0, 0, 0};
    return (column_run){n * width, gate * l->units + unit, run_length(l->units, unit, width)};
}

/* Rows are packed in blocks, so that the weights are read from front to back. */
enum { PACK_ROWS = 16 };
static int64_t rnn_pack_parts(int64_t features, int64_t units) {
    return (features + units) / PACK_ROWS + 1;
}

/* Behind the weights each block has 0 times the sum of its recurrent weights: 0, or NaN where one of
 * them is infinite or NaN, so that a state of zeros has to be multiplied. */
static int64_t rnn_packed_size(int cell, int64_t features, int64_t units) {
    layout l = layout_of(cell, features, units);
    return l.k * l.columns + rnn_pack_parts(features, units);
}
static int is_infinite(const fr_rnn *rnn, const layout *l) {
    const float *zeros = rnn->packed + l->k * l->columns;
    float sum = 0.0f;
    for (int64_t part = 0; part < rnn_pack_parts(rnn->features, rnn->units); part++) sum += zeros[part];
    return sum != 0.0f;
}

/* A row of Keras's weights to row k of all panels. Returns 0 times their sum. */
static float pack_row(const layout *l, float *packed, int64_t k, const float *row,
                      enum weights_kind kind) {
    const int64_t whole = l->units / l->chunk_units; /* chunks all of whose columns are there */
    int64_t source[4] = {-1, -1, -1, -1};
    for (int v = 0; v < 4 && row && whole; v++) {
        const column_run run = run_of(l, 0, kind, v);
        if (run.length) source[v] = run.source;
    }
    const int64_t strip = k > 0 ? packed_strip(l) : 2 * V;
    vf zeros[4] = {{0}};
    float zero = 0.0f;
    for (int64_t chunk = 0; chunk < whole; chunk++) {
        float *to = packed + packed_at(l, chunk, k, 0);
        UNROLL(4)
        for (int v = 0; v < 4; v++) {
            const vf some = source[v] < 0 ? splat(0.0f) : load(row + source[v] + chunk * l->chunk_units);
            store(to + v / 2 * strip + v % 2 * V, some);
            zeros[v] += some * 0.0f;
        }
    }
    zeros[0] += zeros[1] + zeros[2] + zeros[3];
    for (int i = 0; i < V; i++) zero += ((const float *)zeros)[i];
    for (int64_t chunk = whole; chunk < l->chunks; chunk++) {
        for (int v = 0; v < chunk_vectors(l, chunk); v++)
            store(packed + packed_at(l, chunk, k, v * V), splat(0.0f));
        for (int64_t n = 0; row && n < runs_in(l, chunk); n++) {
            const column_run run = run_of(l, chunk, kind, n);
            float *to = packed + packed_at(l, chunk, k, run.column);
            for (int64_t j = 0; j < run.length; j++) {
                to[j] = row[run.source + j];
                zero += to[j] * 0.0f;
            }
        }
    }
    return zero;
}

/* packed: bias, kernel, recurrent_kernel, where packed_at has them. */
static void rnn_pack(int cell, float *packed, const float *kernel, const float *recurrent_kernel,
                     const float *bias, int64_t features, int64_t units, int64_t part) {
    layout l = layout_of(cell, features, units);
    const int64_t keras_row = l.gates * units;
    float zero = 0.0f;
    for (int64_t k = part * PACK_ROWS; k < least(l.k, (part + 1) * PACK_ROWS); k++) {
        if (k > features)
            zero += pack_row(&l, packed, k, recurrent_kernel + (k - 1 - features) * keras_row, OF_H);
        else
            pack_row(&l, packed, k, k > 0 ? kernel + (k - 1) * keras_row : bias, OF_X);
    }
    packed[l.k * l.columns + part] = zero;
    if (part > 0 || !bias || cell != FR_GRU) return;
    for (int64_t chunk = 0; chunk < l.chunks; chunk++) /* its bias of h */
        for (int64_t n = 0; n < runs_in(&l, chunk); n++) {
            const column_run run = run_of(&l, chunk, OF_H, n);
            float *to = packed + packed_at(&l, chunk, 0, run.column);
            for (int64_t j = 0; j < run.length; j++) to[j] += bias[keras_row + run.source + j];
        }
}

static int64_t rnn_packed_back_size(int cell, int64_t features, int64_t units) {
    layout l = layout_of(cell, features, units);
    return l.columns * (l.h_row + (features + V - 1) / V * V);
}

INLINE int64_t back_panels(int64_t size) { return panel_count((size + V - 1) / V); }
static int64_t rnn_pack_back_parts(int64_t features, int64_t units) {
    return back_panels(units) + back_panels(features);
}

/* to (columns, rows) = from (rows, columns) transposed. */
static void transpose(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows,
                      int64_t columns) {
    for (int64_t c = 0; c < columns; c += 4)
        for (int64_t r = 0; r < rows; r += 4) {
            const float *block = from + r * from_row + c;
            float *out = to + c * to_row + r;
            if (rows - r >= 4 && columns - c >= 4)
                transpose_4x4(out, to_row, block, from_row);
            else
                for (int64_t i = 0; i < least(rows - r, 4); i++)
                    for (int64_t j = 0; j < least(columns - c, 4); j++)
                        out[j * to_row + i] = block[i * from_row + j];
        }
}

/* packed: recurrent_kernel transposed, per panel of units (columns, panel width), then the kernel
 * transposed likewise. A part is a panel: two threads that write to one line of cache take twice as
 * long. */
static void rnn_pack_back(int cell, float *packed, const float *kernel,
                          const float *recurrent_kernel, int64_t features, int64_t units,
                          int64_t part) {
    layout l = layout_of(cell, features, units);
    const float *weights = recurrent_kernel;
    enum weights_kind kind = OF_H;
    int64_t size = units;
    if (part >= back_panels(units)) {
        part -= back_panels(units);
        packed += l.columns * l.h_row;
        weights = kernel;
        kind = OF_X;
        size = features;
        if (!kernel) return;
    }
    const int64_t vectors = (size + V - 1) / V, first = panel_start(vectors, part) * V;
    const int64_t width = panel_start(vectors, part + 1) * V - first;
    packed += l.columns * first;
    if (first + width > size || units % l.chunk_units || is_gru(cell))
        memset(packed, 0, (size_t)(l.columns * width) * sizeof(float));
    for (int64_t v = 0; v < width; v += V) { /* V rows at a time: what is read of them stays in L1 */
        const int64_t filled = run_length(size, first + v, V);
        const float *rows = weights + (first + v) * l.gates * units;
        for (int64_t chunk = 0; chunk < l.chunks; chunk++)
            for (int64_t n = 0; n < runs_in(&l, chunk); n++) {
                const column_run run = run_of(&l, chunk, kind, n);
                transpose(packed + (chunk * 4 * V + run.column) * width + v, width, rows + run.source,
                          l.gates * units, filled, run.length);
            }
    }
}

/* --- activations ----------------------------------------------------------------------------- */

#define ELU_SCALE 1.05070098f /* selu: Klambauer et al. 2017 */
#define ELU_ALPHA 1.67326324f

INLINE vf activate_as(int kind, vf x) {
    switch (kind) {
    case FR_TANH: return vtanh(x);
    case FR_SIGMOID: return vsigmoid(x);
    case FR_RELU: return at_least(0.0f, x);
    case FR_HARD_SIGMOID: return at_most(1.0f, at_least(0.0f, x * (1.0f / 6.0f) + 0.5f));
    case FR_HARD_SIGMOID_KERAS2: return at_most(1.0f, at_least(0.0f, x * 0.2f + 0.5f));
    case FR_SOFTSIGN: return x / (1.0f + absolute(x));
    case FR_ELU: return choose(x > 0.0f, x, vexpm1(at_most(0.0f, x)));
    case FR_SELU:
        return ELU_SCALE * choose(x > 0.0f, x, ELU_ALPHA * vexpm1(at_most(0.0f, x)));
    case FR_EXPONENTIAL: x = vexp(0.5f * x); return x * x; /* to infinity and to 0 */
    default: return x;
    }
}

/* Derivative of the activation at the input that gave the output y. */
INLINE vf slope_as(int kind, vf y) {
    vf one = splat(1.0f), zero = splat(0.0f), distance;
    switch (kind) {
    case FR_TANH: return 1.0f - y * y;
    case FR_SIGMOID: return y - y * y;
    case FR_RELU: return choose(y > 0.0f, one, zero);
    case FR_HARD_SIGMOID: return choose((y > 0.0f) & (y < 1.0f), splat(1.0f / 6.0f), zero);
    case FR_HARD_SIGMOID_KERAS2: return choose((y > 0.0f) & (y < 1.0f), splat(0.2f), zero);
    case FR_SOFTSIGN: distance = 1.0f - absolute(y); return distance * distance;
    case FR_ELU: return choose(y > 0.0f, one, y + 1.0f);
    case FR_SELU: return choose(y > 0.0f, splat(ELU_SCALE), y + ELU_SCALE * ELU_ALPHA);
    case FR_EXPONENTIAL: return y;
    default: return one;
    }
}

/* Inline for a constant kind; a call for others, whose switches would be most of the object code. */
static __attribute__((noinline)) vf activate_any(int kind, vf x) { return activate_as(kind, x); }
static __attribute__((noinline)) vf slope_any(int kind, vf y) { return slope_as(kind, y); }
INLINE vf activate(int kind, vf x) {
    return __builtin_constant_p(kind) ? activate_as(kind, x) : activate_any(kind, x);
}
INLINE vf slope(int kind, vf y) {
    return __builtin_constant_p(kind) ? slope_as(kind, y) : slope_any(kind, y);
}

/* --- the cell -------------------------------------------------------------------------------- */

/* The first half of a cell: LSTM or GRU on 4 vectors of z, replaced by i, f, g, o or n, z, r, s.
 * c: the state before, replaced by the new one (for GRU that is h). */
INLINE void cell(int kind, int act, int rec, vf gates[4], vf *c) {
    const int usual = __builtin_constant_p(act) && act == FR_TANH && rec == FR_SIGMOID;
    if (kind == FR_GRU) {
        if (usual) saturate(2, (int[]){0, 0}, gates + 1);
        else
            for (int g = 1; g < 3; g++) gates[g] = activate(rec, gates[g]);
        gates[0] = activate(act, gates[0] + gates[2] * gates[3]);
        *c = gates[0] + gates[1] * (*c - gates[0]);
        return;
    }
    if (usual) saturate(4, (int[]){0, 0, 1, 0}, gates);
    else
        for (int g = 0; g < 4; g++) gates[g] = activate(g == 2 ? act : rec, gates[g]);
    *c = gates[1] * *c + gates[0] * gates[2];
}

/* gates: as cell() left them, replaced by dz; dc: gradient of c from the step after, replaced by
 * the one for the step before. */
INLINE void cell_back(int kind, int act, int rec, vf gates[4], vf c, vf c_before, vf dh, vf *dc) {
    if (kind == FR_GRU) {
        vf n = gates[0], z = gates[1], r = gates[2], s = gates[3], d = *dc + dh;
        vf dn = d * (1.0f - z) * slope(act, n);
        gates[0] = dn;
        gates[1] = d * (c_before - n) * slope(rec, z);
        gates[2] = dn * s * slope(rec, r);
        gates[3] = dn * r;
        *dc = d * z;
        return;
    }
    vf i = gates[0], f = gates[1], g = gates[2], o = gates[3], a = activate(act, c);
    vf d = *dc + dh * o * slope(act, a);
    gates[3] = dh * a * slope(rec, o);
    gates[0] = d * g * slope(rec, i);
    gates[2] = d * i * slope(act, g);
    gates[1] = d * c_before * slope(rec, f);
    *dc = d * f;
}

/* 4 x 4 transpose of pieces of V/4 lanes; its own inverse. */
INLINE void transpose_groups(vf v[4]) {
    const vf low01 = PIECES(v[0], v[1], 0, 4, 1, 5), high01 = PIECES(v[0], v[1], 2, 6, 3, 7);
    const vf low23 = PIECES(v[2], v[3], 0, 4, 1, 5), high23 = PIECES(v[2], v[3], 2, 6, 3, 7);
    v[0] = PIECES(low01, low23, 0, 1, 4, 5);
    v[1] = PIECES(low01, low23, 2, 3, 6, 7);
    v[2] = PIECES(high01, high23, 0, 1, 4, 5);
    v[3] = PIECES(high01, high23, 2, 3, 6, 7);
}

/* rows of full chunks. z: (chunks, rows, 4V), made gates if keep; c_before, c: (chunks, rows, V). The
 * outputs are made from the finished states, so that no row waits for its own. */
INLINE void cells_full(int kind, int act, int rec, int keep, float *z, const float *c_before, float *c,
                       float *h, int64_t h_row, int64_t rows, int64_t chunks) {
    for (int64_t n = 0; n < chunks * rows; n++) {
        float *row = z + n * 4 * V;
        vf gates[4] = {load(row), load(row + V), load(row + 2 * V), load(row + 3 * V)};
        vf state = load(c_before + n * V);
        cell(kind, act, rec, gates, &state);
        store(c + n * V, state);
        UNROLL(4)
        for (int g = 0; g < 4; g++)
            if (keep || g == 3) store(row + g * V, gates[g]);
    }
    for (int64_t chunk = 0; chunk < chunks; chunk++, h += V)
        for (int64_t r = 0; r < rows; r++, z += 4 * V, c += V)
            store(h + r * h_row, kind == FR_GRU ? load(c) : load(z + 3 * V) * activate(act, load(c)));
}

/* All rows of the tail. z: (rows, groups, V); c_before, c: (rows, groups, V/4). */
INLINE void cells_tail(int kind, int act, int rec, int keep, const layout *l, float *z, const float *c_before,
                       float *c, float *h, int64_t rows) {
    int64_t row = 0, group = 0;
    for (int64_t n = 0; n < tail_cells(l, rows); n++, z += 4 * V) {
        vf gates[4] = {load(z), load(z + V), load(z + 2 * V), load(z + 3 * V)};
        transpose_groups(gates);
        vf state = load(c_before + n * V);
        cell(kind, act, rec, gates, &state);
        const vf out = kind == FR_GRU ? state : gates[3] * activate(act, state);
        store(c + n * V, state);
        for (int j = 0; j < 4 && row < rows; j++) {
            memcpy(h + row * l->h_row + group * GROUP, (float *)&out + j * GROUP,
                   GROUP * sizeof(float));
            if (++group == l->tail) group = 0, row++;
        }
        if (keep) {
            transpose_groups(gates);
            for (int g = 0; g < 4; g++) store(z + g * V, gates[g]);
        }
    }
}

INLINE void cells_full_back(int kind, int act, int rec, float *gates, const float *c, const float *c_before,
                            const float *dh, int64_t h_row, float *dc, int64_t rows) {
    for (int64_t r = 0; r < rows; r++, gates += 4 * V) {
        vf v[4] = {load(gates), load(gates + V), load(gates + 2 * V), load(gates + 3 * V)};
        vf d = load(dc + r * V);
        cell_back(kind, act, rec, v, load(c + r * V), load(c_before + r * V), load(dh + r * h_row), &d);
        store(dc + r * V, d);
        for (int g = 0; g < 4; g++) store(gates + g * V, v[g]);
    }
}

INLINE void cells_tail_back(int kind, int act, int rec, const layout *l, float *gates, const float *c,
                            const float *c_before, const float *dh, float *dc, int64_t rows) {
    int64_t row = 0, group = 0;
    for (int64_t n = 0; n < tail_cells(l, rows); n++, gates += 4 * V) {
        vf v[4] = {load(gates), load(gates + V), load(gates + 2 * V), load(gates + 3 * V)};
        vf d = load(dc + n * V), dh_cell = {0};
        for (int j = 0; j < 4 && row < rows; j++) {
            memcpy((float *)&dh_cell + j * GROUP, dh + row * l->h_row + group * GROUP,
                   GROUP * sizeof(float));
            if (++group == l->tail) group = 0, row++;
        }
        transpose_groups(v);
        cell_back(kind, act, rec, v, load(c + n * V), load(c_before + n * V), dh_cell, &d);
        transpose_groups(v);
        store(dc + n * V, d);
        for (int g = 0; g < 4; g++) store(gates + g * V, v[g]);
    }
}

/* Simple RNN: rows of a chunk of nv vectors. z: (rows, nv V), made h if keep. */
INLINE void simple_cells(int act, int keep, float *z, float *h, int64_t h_row, int nv, int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < nv; v++, z += V) {
            const vf out = activate(act, load(z));
            store(h + r * h_row + v * V, out);
            if (keep) store(z, out);
        }
}
INLINE void simple_cells_back(int act, float *gates, const float *dh, int64_t h_row, int nv,
                              int64_t rows) {
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < nv; v++, gates += V)
            store(gates, load(dh + r * h_row + v * V) * slope(act, load(gates)));
}

/* The usual cells and activations as constants, any other by a switch at each vector. */
#define WITH_TANH(rnn, call)                                                                       \
    do {                                                                                           \
        if ((rnn)->activation == FR_TANH) {                                                        \
            enum { act = FR_TANH };                                                                \
            call;                                                                                  \
        } else {                                                                                   \
            const int act = (rnn)->activation;                                                     \
            call;                                                                                  \
        }                                                                                          \
    } while (0)
#define WITH_CELL(rnn, call)                                                                       \
    do {                                                                                           \
        const int usual = (rnn)->activation == FR_TANH && (rnn)->recurrent_activation == FR_SIGMOID; \
        if (usual && (rnn)->cell == FR_LSTM) {                                                     \
            enum { kind = FR_LSTM, act = FR_TANH, rec = FR_SIGMOID };                              \
            call;                                                                                  \
        } else if (usual && (rnn)->cell == FR_GRU) {                                               \
            enum { kind = FR_GRU, act = FR_TANH, rec = FR_SIGMOID };                               \
            call;                                                                                  \
        } else {                                                                                   \
            const int kind = (rnn)->cell, act = (rnn)->activation, rec = (rnn)->recurrent_activation; \
            call;                                                                                  \
        }                                                                                          \
    } while (0)

/* --- parts of the units ----------------------------------------------------------------------- */

/* Chunks [first, end) of the part of a slice; parts of LSTM and GRU begin at panels of packed_back. */
INLINE int64_t part_start(const layout *l, int part, int parts) {
    if (l->cell == FR_SIMPLE_RNN) return part == 0 ? 0 : l->chunks;
    const int64_t vectors = l->h_row / V;
    return panel_start(vectors, panel_count(vectors) * part / parts);
}

/* Floats of a row's cell states in a chunk. */
INLINE int64_t cell_width(const layout *l, int64_t chunk) {
    return chunk < l->full ? V : l->tail * GROUP;
}
/* Copies units [first, end) of one row between the layout of cell states and a plain row. */
static void copy_row(const layout *l, int64_t rows, int64_t row, int64_t first, int64_t end,
                     float *cells, float *plain, int to_cells) {
    for (int64_t unit = first; unit < end; unit += V) {
        float *p = cells + rows * unit + row * cell_width(l, unit / V);
        const size_t bytes = (size_t)run_length(end, unit, V) * sizeof(float);
        if (to_cells) memcpy(p, plain + unit, bytes);
        else memcpy(plain + unit, p, bytes);
    }
}

/* The rows [row, row + count) of the chunks [first, end). */
static void carry_cells(const layout *l, float *to, const float *from, int64_t rows, int64_t row,
                        int64_t count, int64_t first, int64_t end) {
    for (int64_t chunk = first; chunk < end && l->cell != FR_SIMPLE_RNN; chunk++) {
        const int64_t width = cell_width(l, chunk), at = rows * chunk * V + row * width;
        memcpy(to + at, from + at, (size_t)(count * width) * sizeof(float));
    }
}
static void carry_states(const layout *l, float *c, const float *c_before, float *h,
                         const float *h_before, int64_t rows, int64_t row, int64_t count,
                         int64_t first, int64_t end) {
    carry_cells(l, c, c_before, rows, row, count, first, end);
    const int64_t unit = first * l->chunk_units, h_end = least(end * l->chunk_units, l->h_row);
    const size_t bytes = (size_t)(h_end - unit) * sizeof(float);
    if (h_end - unit == l->h_row)
        memcpy(h + row * l->h_row, h_before + row * l->h_row, (size_t)count * bytes);
    else
        for (int64_t r = row; r < row + count; r++)
            memcpy(h + r * l->h_row + unit, h_before + r * l->h_row + unit, bytes);
}

/* --- masks ------------------------------------------------------------------------------------ */

/* The order in which a slice's rows are worked on where there is a mask: the longest first, so that
 * the rows that padding takes out of a step come last and are left alone. Without a mask the
 * pointers are NULL. */
typedef struct {
    int32_t *row;   /* (rows) row of the slice */
    int32_t *first; /* (rows) first step that is not masked, or timesteps */
    int32_t *count; /* (timesteps) rows up to the last that is on */
    int32_t *on;    /* (timesteps) how many of them are on */
    int32_t *moved; /* (1) is the order another than the batch's? */
    float *x;       /* (rows, features) of a step, in this order */
} row_order;

static int64_t order_size(const fr_rnn *rnn, int64_t rows) {
    const int64_t size = 2 * rows + 2 * (rnn->timesteps + 1) + 1 + rows * rnn->features;
    return rnn->mask ? (size + V - 1) / V * V : 0; /* the next slice begins at a whole vector */
}
static row_order order_at(const fr_rnn *rnn, int64_t rows, float *memory) {
    if (!rnn->mask) return (row_order){0};
    int32_t *row = (int32_t *)memory, *first = row + rows, *count = first + rows;
    int32_t *on = count + rnn->timesteps + 1, *moved = on + rnn->timesteps + 1;
    return (row_order){row, first, count, on, moved, (float *)(moved + 1)};
}

INLINE int64_t batch_row(rnn_slice slice, row_order order, int64_t r) {
    return slice.row + (order.row ? order.row[r] : r);
}
INLINE int64_t rows_to_do(rnn_slice slice, row_order order, int64_t t) {
    return order.row ? order.count[t] : slice.rows;
}
INLINE int all_on(row_order order, int64_t t) {
    return !order.row || order.on[t] == order.count[t];
}
INLINE int is_on(const fr_rnn *rnn, rnn_slice slice, row_order order, int64_t r, int64_t t) {
    return !order.row ||
           (r < order.count[t] &&
            (all_on(order, t) ||
             rnn->mask[batch_row(slice, order, r) * rnn->mask_row + t * rnn->mask_time]));
}

/* Is the output of a step the state after it? Not where a mask makes it zeros. */
INLINE int shows_state(const fr_rnn *rnn, rnn_slice slice, row_order order, int64_t r, int64_t t) {
    return is_on(rnn, slice, order, r, t) || (!rnn->zero_output_for_mask && order.first[r] < t);
}

/* The steps [first, end) between a row's padding; none where all is masked. */
INLINE void between_padding(const fr_rnn *rnn, int64_t batch_row, int64_t *first, int64_t *end) {
    const uint8_t *mask = rnn->mask + batch_row * rnn->mask_row;
    const int64_t way = rnn->mask_time;
    for (*end = rnn->timesteps; *end > 0 && !mask[(*end - 1) * way];) --*end;
    for (*first = 0; *first < *end && !mask[*first * way];) ++*first;
}

/* Less padding than a 16th does not pay for gathering x, nor do shared units. */
static void find_order(const fr_rnn *rnn, rnn_slice slice, row_order order) {
    const int64_t rows = slice.rows, steps = rnn->timesteps, way = rnn->mask_time;
    const size_t bytes = (size_t)(steps + 1) * sizeof(int32_t);
    int64_t first, end, padded = 0;
    int32_t *padding = order.first, *place = order.count; /* of rows with so much padding */
    memset(place, 0, bytes);
    for (int64_t r = 0; r < rows; r++) {
        between_padding(rnn, slice.row + r, &first, &end);
        padding[r] = (int32_t)(steps - (end - first));
        padded += padding[r];
        place[padding[r]]++;
    }
    for (int64_t n = 0, next = 0; n <= steps; n++) {
        const int32_t here = place[n];
        place[n] = (int32_t)next;
        next += here;
    }
    const int sorted = padded * 16 >= rows * steps && slice.parts == 1 &&
                       rnn->cell != FR_GRU_RESET_BEFORE;
    *order.moved = 0;
    for (int64_t r = 0; r < rows; r++) {
        const int64_t to = sorted ? place[padding[r]]++ : r;
        order.row[to] = (int32_t)r;
        *order.moved |= to != r;
    }

    memset(order.count, 0, bytes);
    memset(order.on, 0, bytes); /* as changes from step to step */
    for (int64_t n = 0; n < rows; n++) {
        between_padding(rnn, batch_row(slice, order, n), &first, &end);
        const uint8_t *mask = rnn->mask + batch_row(slice, order, n) * rnn->mask_row;
        order.first[n] = (int32_t)(first < end ? first : steps);
        int before = 0, here;
        for (int64_t t = first; t < end; t++, before = here) {
            here = mask[t * way] != 0;
            order.on[t] += here - before;
            order.count[t] = (int32_t)n + 1;
        }
        order.on[end] -= before;
    }
    for (int64_t t = 0, on = 0; t < steps; t++) {
        on += order.on[t];
        order.on[t] = (int32_t)on;
        if (on == 0) order.count[t] = 0;
        else if (rnn->cell == FR_GRU_RESET_BEFORE) order.count[t] = (int32_t)rows;
    }
}

/* x of step t, rows in the order; *row: from one to the next. */
static const float *ordered_x(const fr_rnn *rnn, rnn_slice slice, row_order order, int64_t t,
                              int64_t *row) {
    const float *x = rnn->x + t * rnn->x_time;
    *row = rnn->x_row;
    if (!order.row || !*order.moved) return x + slice.row * rnn->x_row;
    *row = rnn->features;
    for (int64_t r = 0; r < order.count[t]; r++)
        memcpy(order.x + r * rnn->features, x + batch_row(slice, order, r) * rnn->x_row,
               (size_t)rnn->features * sizeof(float));
    return order.x;
}

/* Of many short rows the CPU's own prefetchers lose track: rows of step t of x and y. 20 units on 32
 * rows a thread of an AVX2 EPYC: forward and backward x 1.02 to 1.1. Inline, since GCC removes calls of
 * functions that only prefetch. */
INLINE void fetch(const float *row, int64_t n) {
    for (int64_t j = 0; j < n; j += 16) __builtin_prefetch(row + j, 0, 3);
}
INLINE void fetch_rows(const fr_rnn *rnn, rnn_slice slice, row_order order, int64_t t, const float *y,
                       int64_t y_row, int64_t y_time, int64_t width, int with_x) {
    enum { MANY = 8 };
    if (slice.rows < MANY || t < 0 || t >= rnn->timesteps) return;
    for (int64_t r = 0; r < slice.rows; r++) {
        const int64_t row = batch_row(slice, order, r);
        if (y) fetch(y + row * y_row + t * y_time, width);
        if (with_x) fetch(rnn->x + row * rnn->x_row + t * rnn->x_time, rnn->features);
    }
}

/* --- rows of x picked by index ----------------------------------------------------------------- */

/* Products with W, and then their gradients, lie as the gates of one time step of `choices` rows. */
static int64_t rnn_chunks(const fr_rnn *rnn) { return layout_of_run(rnn).chunks; }
static int64_t rnn_products_size(int cell, int64_t choices, int64_t features, int64_t units) {
    layout l = layout_of(cell, features, units);
    return gates_size(&l, choices);
}
INLINE float *products_of(const fr_rnn *rnn, int64_t chunk) {
    return rnn->products + chunk * rnn->choices * 4 * V;
}
INLINE enum tile_kind tiles_of(const layout *l, int64_t chunk) {
    return chunk == l->full ? ROWS : l->strips ? STRIPS : is_gru(l->cell) ? SKEWED : ROWS;
}

/* Products of the rows [row, row + rows). */
static void rnn_multiply(const fr_rnn *rnn, int64_t row, int64_t rows) {
    layout l = layout_of_run(rnn);
    for (int64_t chunk = 0; chunk < l.chunks; chunk++) {
        const int nv = chunk_vectors(&l, chunk);
        const int64_t width = nv * V;
        const segment of_x = {rnn->x + row * rnn->x_row, rnn->packed + packed_at(&l, chunk, 1, 0),
                              rnn->x_row, rnn->features, packed_row(&l, chunk), packed_strip(&l)};
        gemm(tiles_of(&l, chunk), rows, nv, &of_x, 1, products_of(rnn, chunk) + row * width, width,
             rnn->packed + packed_at(&l, chunk, 0, 0), 0, V);
    }
}

/* The products of step t of the first rows of a slice, to z (rows, width), one chunk. */
static void pick_products(const fr_rnn *rnn, rnn_slice slice, row_order order, int64_t chunk,
                          int64_t width, int64_t t, int64_t rows, float *z) {
    const float *products = products_of(rnn, chunk);
    const int32_t *index = rnn->index + t * rnn->index_time;
    const int64_t next = t + 1 < rnn->timesteps ? rnn->index_time : 0;
    for (int64_t r = 0; r < rows; r++, z += width) {
        const int32_t *choice = index + batch_row(slice, order, r) * rnn->index_row;
        const float *from = products + *choice * width, *soon = products + choice[next] * width;
        for (int64_t j = 0; j < width; j += V) store(z + j, load(from + j));
        for (int64_t j = 0; j < width; j += 16) __builtin_prefetch(soon + j, 0, 2);
    }
}

/* --- forward --------------------------------------------------------------------------------- */

/* saved: for each step the gates; for each step and the one before the first, c; likewise h; for
 * each step r h' where that is multiplied; the order of the rows. */
static int64_t saved_before_order(const fr_rnn *rnn, const layout *l, int64_t rows) {
    const int64_t t = rnn->timesteps;
    return t * gates_size(l, rows) + (t + 1) * (cells_size(l, rows) + rows * l->h_row) +
           (l->cell == FR_GRU_RESET_BEFORE ? t * rows * l->h_row : 0);
}
static int64_t rnn_saved_size(const fr_rnn *rnn, int64_t rows, int parts) {
    (void)parts;
    layout l = layout_of_run(rnn);
    return saved_before_order(rnn, &l, rows) + order_size(rnn, rows);
}

/* With few rows x W is taken for a block of steps at once, to use a tile's rows and to read W once
 * a block; with many it runs in the tile of h U. Blocks of 1 mean the latter. Where the weights are
 * far beyond L2, 32 rows are few: LSTM(512) on 512 features, two threads of an AVX2 EPYC, 16 rows
 * each x 1.2 to 1.4, 32 x 1.1, 64 x 0.9 to 1.1. */
static int64_t hoisted_steps(const fr_rnn *rnn, int64_t rows) {
    const int64_t weights = 4 * gates_of(rnn->cell) * rnn->units * (rnn->features + rnn->units); /* bytes */
    const int64_t few = weights > 6 << 20 ? 32 : weights >= 1 << 19 ? 12 : 3;
    if (rnn->index || rnn->features < 8 || rows > few) return 1;
    return rnn->timesteps < 12 ? rnn->timesteps : 12;
}

static int64_t rnn_forward_scratch(const fr_rnn *rnn, int64_t rows, int parts) {
    layout l = layout_of_run(rnn);
    if (rnn->saved) return 0;
    return 2 * (cells_size(&l, rows) + rows * l.h_row) + parts * (rows + 4) * 4 * V +
           hoisted_steps(rnn, rows) * gates_size(&l, rows) +
           (l.cell == FR_GRU_RESET_BEFORE ? rows * l.h_row : 0) + order_size(rnn, rows);
}

/* GRU with the reset first, all chunks of a step from the products with x and h on: z and r, r h',
 * its product, and the state. */
static void reset_before_cells(const fr_rnn *rnn, const layout *l, float *z, float *reset_h,
                               const float *c_before, float *c, float *h, int64_t rows) {
    const int act = rnn->activation, rec = rnn->recurrent_activation;
    for (int64_t n = 0; n < l->chunks * rows; n++) {
        float *gates = z + n * 4 * V;
        const vf r = activate(rec, load(gates + 2 * V));
        store(gates + V, activate(rec, load(gates + V)));
        store(gates + 2 * V, r);
        store(reset_h + n % rows * l->h_row + n / rows * V, r * load(c_before + n * V));
    }
    for (int64_t chunk = 0; chunk < l->chunks; chunk++) {
        const float *weights = rnn->packed + packed_at(l, chunk, 1 + rnn->features, 3 * V);
        const segment of_h = {reset_h, weights, l->h_row, l->units, packed_row(l, chunk), 0};
        gemm_add(ROWS, rows, 1, &of_h, 1, z + chunk * rows * 4 * V, 4 * V);
    }
    for (int64_t n = 0; n < l->chunks * rows; n++) {
        const vf candidate = activate(act, load(z + n * 4 * V)), before = load(c_before + n * V);
        const vf out = candidate + load(z + n * 4 * V + V) * (before - candidate);
        store(z + n * 4 * V, candidate);
        store(c + n * V, out);
        store(h + n % rows * l->h_row + n / rows * V, out);
    }
}

/* The cells of so many rows are computed at once, to overlap; of fewer rows those of all chunks. */
enum { CELL_ROWS = 12 };

/* After how many steps to look whether to stop: some 10 million operations. */
static int64_t steps_watched(const fr_rnn *rnn, rnn_slice slice) {
    const double step = 2.0 * gates_of(rnn->cell) * (double)(slice.rows * rnn->units) *
                        (double)(rnn->features + rnn->units);
    return step > 1e7 ? 1 : (int64_t)(1e7 / step);
}

static void rnn_forward(const fr_rnn *rnn, rnn_slice slice, float *saved) {
    layout l = layout_of_run(rnn);
    const int64_t rows = slice.rows, steps = rnn->timesteps, features = rnn->features;
    const int64_t g_size = gates_size(&l, rows), c_size = cells_size(&l, rows), h_size = rows * l.h_row;
    const int64_t first = part_start(&l, slice.part, slice.parts);
    const int64_t end = part_start(&l, slice.part + 1, slice.parts);
    const int64_t unit = least(first * l.chunk_units, l.units);
    const int64_t units_end = least(end * l.chunk_units, l.units);
    const int64_t block = hoisted_steps(rnn, rows), b_strip = packed_strip(&l);
    const size_t bytes = (size_t)(units_end - unit) * sizeof(float);
    const int keep = saved != NULL, beforehand = block > 1 || rnn->index;
    const int64_t full_end = least(end, l.full);
    const int all_chunks = rows < CELL_ROWS && (rnn->cell == FR_LSTM || rnn->cell == FR_GRU);
    /* Kept states have a place for each step; otherwise two places take turns. */
    const int reset_before = rnn->cell == FR_GRU_RESET_BEFORE;
    float *cells, *hs, *z = NULL, *zs, *reset_h, *order_memory;
    if (keep) {
        zs = saved;
        cells = saved + steps * g_size;
        hs = cells + (steps + 1) * c_size;
        reset_h = hs + (steps + 1) * h_size;
        order_memory = saved + saved_before_order(rnn, &l, rows);
    } else {
        cells = slice.scratch;
        hs = cells + 2 * c_size;
        z = hs + 2 * h_size + slice.part * (rows + 4) * 4 * V;
        zs = hs + 2 * h_size + slice.parts * (rows + 4) * 4 * V;
        reset_h = zs + block * g_size;
        order_memory = reset_h + (reset_before ? h_size : 0);
    }
    const row_order order = order_at(rnn, rows, order_memory);
    if (slice.part == 0) {
        if (rnn->mask) find_order(rnn, slice, order);
        const float *c0 = is_gru(rnn->cell) ? rnn->h0 : rnn->c0;
        memset(cells, 0, (size_t)c_size * sizeof(float));
        memset(hs, 0, (size_t)h_size * sizeof(float));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t row = batch_row(slice, order, r) * l.units;
            if (c0) copy_row(&l, rows, r, 0, l.units, cells, (float *)c0 + row, 1);
            if (rnn->h0) memcpy(hs + r * l.h_row, rnn->h0 + row, (size_t)l.units * sizeof(float));
        }
    }
    barrier_wait(slice.barrier, slice.parts, slice.watch);

    float *c = cells, *h = hs;
    const int from_zeros = !rnn->h0 && !is_infinite(rnn, &l);
    const int64_t watched = steps_watched(rnn, slice);
    for (int64_t t = 0; t < steps; t++) {
        if (is_stopped(slice.watch) || ((t + 1) % watched == 0 && fr_watch(slice.watch))) return;
        const float *c_before = c, *h_before = h;
        c = cells + (keep ? t + 1 : (t + 1) % 2) * c_size;
        h = hs + (keep ? t + 1 : (t + 1) % 2) * h_size;
        float *step_z = keep ? zs + t * g_size
                        : beforehand || reset_before || all_chunks ? zs + t % block * g_size : NULL;
        const int64_t doing = rows_to_do(slice, order, t);
        int64_t x_row = 0;
        const float *x = beforehand ? NULL : ordered_x(rnn, slice, order, t, &x_row);
        const int recurrent = t > 0 || !from_zeros; /* the first step from zeros has no h U */
        const int any = (block > 1 && t % block == 0) || doing > 0;
        for (int64_t n = first; any && n < end; n++) {
            /* Back and forth, to find in L1 what the step before read last. */
            const int64_t chunk = t % 2 ? first + end - 1 - n : n;
            const int nv = chunk_vectors(&l, chunk);
            const int64_t width = nv * V;
            const float *bias = rnn->packed + packed_at(&l, chunk, 0, 0), *weights = bias + width;
            const int64_t b_row = packed_row(&l, chunk);
            const enum tile_kind tiles = tiles_of(&l, chunk);
            segment segments[2] = {
                {x, weights, x_row, features, b_row, b_strip},
                {h_before, weights + features * b_row, l.h_row, l.units, b_row, b_strip}};
            float *chunk_z = step_z ? step_z + chunk * rows * 4 * V : z;
            float *chunk_h = h + chunk * l.chunk_units;
            if (block > 1 && t % block == 0) {
                const int64_t count = steps - t < block ? steps - t : block;
                for (int64_t r = 0; r < rows; r++) {
                    segment of_x = segments[0];
                    of_x.a = rnn->x + batch_row(slice, order, r) * rnn->x_row + t * rnn->x_time;
                    of_x.stride = rnn->x_time;
                    gemm(tiles, count, nv, &of_x, 1, chunk_z + r * width, g_size, bias, 0, V);
                }
            }
            if (rnn->index) pick_products(rnn, slice, order, chunk, width, t, doing, chunk_z);
            if (beforehand) segments[0].k = 0;
            const int64_t cells_at = l.cell == FR_SIMPLE_RNN ? 0 : chunk * rows * V;
            const float *chunk_c_before = c_before + cells_at;
            float *chunk_c = c + cells_at;
            int64_t done = 0; /* rows whose cells are computed */
            FOR_TILES(row, height, doing, tiles, nv) {
                const int own = step_z || in_groups(&l, chunk); /* has every row a place in chunk_z? */
                float *tile_z = chunk_z + (own ? row : row - done) * width;
                const float *init = beforehand ? tile_z : bias;
                if (!beforehand || recurrent)
                    TILES[tiles][nv - 1][height - 1](row, segments, 1 + recurrent, tile_z, width, init,
                                                    beforehand ? width : 0, V);
                const int64_t ready = row + height - done;
                if (reset_before || (all_chunks && chunk < l.full)) continue;
                if (ready < CELL_ROWS && row + height < doing) continue;
                float *z_ready = chunk_z + (own ? done : 0) * width;
                float *h_ready = chunk_h + done * l.h_row;
                if (l.cell == FR_SIMPLE_RNN)
                    WITH_TANH(rnn, simple_cells(act, keep, z_ready, h_ready, l.h_row, nv, ready));
                else if (chunk < l.full)
                    WITH_CELL(rnn, cells_full(kind, act, rec, keep, z_ready, chunk_c_before + done * V,
                                              chunk_c + done * V, h_ready, l.h_row, ready, 1));
                done += ready;
            }
            if (in_groups(&l, chunk))
                WITH_CELL(rnn, cells_tail(kind, act, rec, keep, &l, chunk_z, chunk_c_before, chunk_c,
                                          chunk_h, doing));
        }
        /* Where rows are off, not all of a chunk's are computed. */
        const int64_t at_once = doing == rows ? full_end - first : 1;
        for (int64_t chunk = first; chunk < full_end && all_chunks && doing > 0; chunk += at_once)
            WITH_CELL(rnn, cells_full(kind, act, rec, keep, step_z + chunk * rows * 4 * V,
                                      c_before + chunk * rows * V, c + chunk * rows * V,
                                      h + chunk * V, l.h_row, doing, at_once));
        float *step_reset_h = keep ? reset_h + t * h_size : reset_h;
        if (reset_before && any)
            reset_before_cells(rnn, &l, step_z, step_reset_h, c_before, c, h, rows);
        else if (reset_before)
            memset(step_reset_h, 0, (size_t)h_size * sizeof(float)); /* it meets dz = 0 */
        if (doing < rows) /* where that is rounded up to fours of groups, a few too many were made */
            carry_states(&l, c, c_before, h, h_before, rows, doing, rows - doing, first, end);
        for (int64_t r = 0; r < doing && !all_on(order, t); r++)
            if (!is_on(rnn, slice, order, r, t))
                carry_states(&l, c, c_before, h, h_before, rows, r, 1, first, end);
        fetch_rows(rnn, slice, order, t + 1, rnn->y ? rnn->y + unit : NULL, rnn->y_row, rnn->y_time,
                   units_end - unit, !beforehand);
        for (int64_t r = 0; r < rows && rnn->y; r++) {
            float *y = rnn->y + batch_row(slice, order, r) * rnn->y_row + t * rnn->y_time + unit;
            if (is_on(rnn, slice, order, r, t)) memcpy(y, h + r * l.h_row + unit, bytes);
            else if (t > 0 && !rnn->zero_output_for_mask) memcpy(y, y - rnn->y_time, bytes);
            else memset(y, 0, bytes);
        }
        barrier_wait(slice.barrier, slice.parts, slice.watch);
    }

    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = batch_row(slice, order, r);
        const float *h_row = h + r * l.h_row + unit;
        if (rnn->h_last) memcpy(rnn->h_last + row * l.units + unit, h_row, bytes);
        if (rnn->c_last)
            copy_row(&l, rows, r, unit, units_end, c, rnn->c_last + row * l.units, 0);
        if (!rnn->last) continue;
        float *last = rnn->last + row * rnn->last_row + unit;
        const int shown = rnn->zero_output_for_mask ? is_on(rnn, slice, order, r, steps - 1)
                                                    : !order.row || order.first[r] < steps;
        if (shown) memcpy(last, h_row, bytes);
        else memset(last, 0, bytes);
    }
}

/* --- backward -------------------------------------------------------------------------------- */

/* Weight gradients are taken over blocks of steps, so that each product is this deep. */
enum { MOST_BLOCK_STEPS = 32 };
static int64_t block_steps(int64_t rows, int64_t steps) {
    int64_t block = (96 + rows - 1) / rows;
    if (block > steps) block = steps;
    return block > MOST_BLOCK_STEPS ? MOST_BLOCK_STEPS : block;
}

static int64_t block_inputs_size(const fr_rnn *rnn, int64_t rows) {
    if (rnn->index) return 0;
    int64_t size = block_steps(rows, rnn->timesteps) * rows * (1 + rnn->features);
    return (size + V - 1) / V * V;
}

/* One slice of whole vectors of units: gradients go straight to where Keras has them, unless they
 * are added to often, which is slower there (rows are a power of two apart as a rule). */
static int rnn_gradients_in_place(const fr_rnn *rnn, int64_t rows) {
    return rows == rnn->batch && rnn->units % V == 0 && !is_gru(rnn->cell) &&
           rnn->timesteps <= 4 * block_steps(rows, rnn->timesteps);
}

/* scratch: gradients laid out as the packed weights, where they are not in place; dh, dc, a copy of
 * dc for masks; for each part x of a block of steps; the gradient of r h' where that is multiplied. */
static int64_t rnn_backward_scratch(const fr_rnn *rnn, int64_t rows, int parts) {
    layout l = layout_of_run(rnn);
    return (rnn_gradients_in_place(rnn, rows) ? 0 : l.k * l.columns) + rows * l.h_row +
           2 * cells_size(&l, rows) + parts * block_inputs_size(rnn, rows) +
           (l.cell == FR_GRU_RESET_BEFORE ? rows * l.h_row : 0);
}

/* dz (one step, all chunks, rows from `row`) times one panel of transposed weights, added to out. */
static void multiply_dz(const layout *l, enum weights_kind kind, const float *dz, int64_t rows,
                        int64_t row, int64_t height, const float *weights, int nv, float *out,
                        int64_t out_row) {
    enum { AT_ONCE = 16 };
    segment segments[AT_ONCE];
    for (int64_t chunk = 0, count; chunk < l->chunks; chunk += count) {
        for (count = 0; count < AT_ONCE && chunk + count < l->chunks; count++) {
            const int64_t at = chunk + count, width = chunk_vectors(l, at) * V;
            const int64_t column = first_vector(l, at, kind) * V;
            segments[count] = (segment){dz + at * rows * 4 * V + row * width + column,
                                        weights + (at * 4 * V + column) * nv * V, width,
                                        chunk_vectors_of(l, at, kind) * V, nv * V, 2 * V};
        }
        gemm_add(ROWS, height, nv, segments, count, out, out_row);
    }
}

/* This part's columns of dx of one step; the slice's rows begin at row dz_row of dz_rows in dz. Rows
 * in another order, and panels that end within the features, go through a buffer. */
static void input_gradient(const fr_rnn *rnn, const layout *l, const float *dz, int64_t dz_rows,
                           int64_t dz_row, rnn_slice slice, row_order order, int64_t t) {
    const int64_t rows = slice.rows, doing = rows_to_do(slice, order, t);
    const int64_t features = rnn->features, vectors = (features + V - 1) / V;
    const int moved = order.row && *order.moved;
    float *dx = rnn->dx + t * rnn->dx_time;
    for (int64_t r = doing; r < rows && !rnn->dx_add && slice.part == 0; r++)
        memset(dx + batch_row(slice, order, r) * rnn->dx_row, 0, (size_t)features * sizeof(float));
    const float *weights = rnn->packed_back + l->columns * l->h_row;
    const int64_t panels = panel_count(vectors);
    for (int64_t panel = panels * slice.part / slice.parts;
         panel < panels * (slice.part + 1) / slice.parts; panel++) {
        const int64_t column = panel_start(vectors, panel) * V;
        const int64_t width = panel_start(vectors, panel + 1) * V - column;
        const int64_t filled = run_length(features, column, width);
        const int nv = (int)(width / V);
        const float *panel_weights = weights + l->columns * column;
        if (filled == width && !moved) {
            float *out = dx + slice.row * rnn->dx_row + column;
            if (!rnn->dx_add)
                for (int64_t r = 0; r < doing; r++)
                    memset(out + r * rnn->dx_row, 0, (size_t)width * sizeof(float));
            multiply_dz(l, OF_X, dz, dz_rows, dz_row, doing, panel_weights, nv, out, rnn->dx_row);
            continue;
        }
        enum { BUFFER_ROWS = 24 };
        float buffer[BUFFER_ROWS * 4 * V];
        const int64_t tile_rows = BUFFER_ROWS / TILE_ROWS(nv) * TILE_ROWS(nv);
        for (int64_t row = 0; row < doing; row += tile_rows) {
            const int64_t height = run_length(doing, row, tile_rows);
            memset(buffer, 0, (size_t)(height * width) * sizeof(float));
            multiply_dz(l, OF_X, dz, dz_rows, dz_row + row, height, panel_weights, nv, buffer, width);
            for (int64_t r = 0; r < height; r++) {
                float *out = dx + batch_row(slice, order, row + r) * rnn->dx_row + column;
                for (int64_t j = 0; j < filled; j++)
                    out[j] = rnn->dx_add ? out[j] + buffer[r * width + j] : buffer[r * width + j];
            }
        }
    }
}

/* Where the gradients of a chunk's weights go: packed, or to Keras's arrays if gradients is NULL. */
typedef struct {
    float *bias, *kernel, *recurrent_kernel;
    int64_t row, column; /* from one row, and from one vector of a row, to the next */
} gradients_place;
static gradients_place place_of(const fr_rnn *rnn, const layout *l, int64_t chunk, float *gradients) {
    const int64_t unit = chunk * l->chunk_units, width = chunk_vectors(l, chunk) * V;
    if (!gradients)
        return (gradients_place){rnn->dbias ? rnn->dbias + unit : NULL, rnn->dkernel + unit,
                                 rnn->drecurrent + unit, l->gates * l->units,
                                 l->cell == FR_LSTM ? l->units : V};
    float *bias = gradients + chunk * l->k * 4 * V;
    return (gradients_place){bias, bias + width, bias + (1 + rnn->features) * width, width, V};
}

/* Of this part's columns the weights' gradients of the steps [t, t + count), added to those of
 * later steps if these are not the first. gradients: packed, or NULL for in place. */
static void weight_gradients(const fr_rnn *rnn, const layout *l, rnn_slice slice, row_order order,
                             int64_t first_chunk, int64_t end, float *gradients, int first,
                             const float *dz, const float *h_before, const float *reset_h,
                             float *xs, int64_t t, int64_t count) {
    const int64_t rows = slice.rows, features = rnn->features, x_row = 1 + features;
    const int64_t g_size = gates_size(l, rows), h_size = rows * l->h_row;
    for (int64_t s = 0; s < count && !rnn->index; s++)
        for (int64_t r = 0; r < rows_to_do(slice, order, t + s); r++) {
            float *out = xs + (s * rows + r) * x_row;
            out[0] = 1.0f; /* for the bias */
            memcpy(out + 1, rnn->x + batch_row(slice, order, r) * rnn->x_row + (t + s) * rnn->x_time,
                   (size_t)features * sizeof(float));
        }
    segment segments[MOST_BLOCK_STEPS];
    for (int64_t chunk = first_chunk; chunk < end; chunk++) {
        const int nv = chunk_vectors(l, chunk), of_x = chunk_vectors_of(l, chunk, OF_X);
        const int64_t width = nv * V;
        const gradients_place to = place_of(rnn, l, chunk, gradients);
        for (int64_t s = 0; s < count; s++)
            segments[s] = (segment){xs + s * rows * x_row, dz + s * g_size + chunk * rows * 4 * V,
                                    x_row, rows_to_do(slice, order, t + s), width, 2 * V};
        if (rnn->index) {
            /* at the end, for all choices */
        } else if (gradients && of_x == nv) { /* the bias in one with the kernel */
            gemm_sums(first, x_row, nv, segments, count, to.bias, to.row, to.column);
        } else {
            if (to.bias) gemm_sums(first, 1, nv, segments, count, to.bias, to.row, to.column);
            for (int64_t s = 0; s < count; s++) segments[s].a++;
            gemm_sums(first, features, of_x, segments, count, to.kernel, to.row, to.column);
        }
        for (enum weights_kind kind = OF_H; kind <= OF_RESET_H; kind++) {
            if (kind == OF_RESET_H && l->cell != FR_GRU_RESET_BEFORE) break;
            const int64_t offset = first_vector(l, chunk, kind) * V;
            for (int64_t s = 0; s < count; s++) {
                segments[s].a = (kind == OF_H ? h_before : reset_h) + s * h_size;
                segments[s].b = dz + s * g_size + chunk * rows * 4 * V + offset;
                segments[s].stride = l->h_row;
            }
            gemm_sums(first, l->units, chunk_vectors_of(l, chunk, kind), segments, count,
                      to.recurrent_kernel + offset, to.row, to.column);
        }
    }
}

/* Where every step was masked. */
static void no_weight_gradients(const fr_rnn *rnn, const layout *l, float *gradients) {
    const size_t columns = (size_t)(l->gates * l->units) * sizeof(float);
    if (gradients) memset(gradients, 0, (size_t)(l->k * l->columns) * sizeof(float));
    if (gradients) return;
    memset(rnn->dkernel, 0, (size_t)rnn->features * columns);
    memset(rnn->drecurrent, 0, (size_t)l->units * columns);
    if (rnn->dbias) memset(rnn->dbias, 0, columns);
}

/* dz of one row times `count` rows, from unit k on, of the recurrent_kernel as the forward has it. */
INLINE void dots_with_dz(const int count, const fr_rnn *rnn, const layout *l, enum weights_kind kind,
                         const float *dz, int64_t rows, int64_t row, int64_t k, float *out) {
    vf sums[8] = {0};
    for (int64_t chunk = 0; chunk < l->chunks; chunk++) {
        const int64_t width = chunk_vectors(l, chunk) * V, column = first_vector(l, chunk, kind) * V;
        const float *d = dz + chunk * rows * 4 * V + row * width + column;
        const int64_t next = packed_row(l, chunk);
        for (int v = 0; v < chunk_vectors_of(l, chunk, kind); v++) {
            const vf dv = load(d + v * V);
            const float *weights =
                rnn->packed + packed_at(l, chunk, 1 + rnn->features + k, column + v * V);
            UNROLL(8)
            for (int i = 0; i < count; i++) sums[i] = multiply_add(load(weights + i * next), dv, sums[i]);
        }
    }
    for (int i = 0; i < count; i++) out[i] += sum_lanes(sums[i]);
}

/* Adds dz of the first `doing` rows times the transposed recurrent_kernel, this part's columns, to
 * out. */
static void state_gradient(const fr_rnn *rnn, const layout *l, enum weights_kind kind,
                           const float *dz, rnn_slice slice, int64_t doing, int64_t unit,
                           int64_t units_end, float *out) {
    for (int64_t row = 0; row < doing && !rnn->packed_back; row++) {
        float *to = out + row * l->h_row;
        int64_t k = unit;
        for (; k + 8 <= units_end; k += 8) dots_with_dz(8, rnn, l, kind, dz, slice.rows, row, k, to + k);
        for (; k < units_end; k++) dots_with_dz(1, rnn, l, kind, dz, slice.rows, row, k, to + k);
    }
    if (!rnn->packed_back) return;
    const int64_t vectors = l->h_row / V;
    for (int64_t panel = 0; panel < panel_count(vectors); panel++) {
        const int64_t from = panel_start(vectors, panel);
        if (from * V < unit || from * V >= units_end) continue;
        multiply_dz(l, kind, dz, slice.rows, 0, doing,
                    rnn->packed_back + l->columns * from * V,
                    (int)(panel_start(vectors, panel + 1) - from), out + from * V, l->h_row);
    }
}

/* GRU with the reset first: dz of a step. gates: n, z, r; d_reset becomes the gradient of r h'. */
static void reset_before_cells_back(const fr_rnn *rnn, const layout *l, rnn_slice slice,
                                    float *gates, const float *c_before, const float *dh, float *dc,
                                    float *d_reset) {
    const int act = rnn->activation, rec = rnn->recurrent_activation;
    const int64_t rows = slice.rows, count = l->chunks * rows;
    for (int64_t n = 0; n < count; n++) {
        float *g = gates + n * 4 * V;
        const vf candidate = load(g), z = load(g + V);
        const vf d = load(dc + n * V) + load(dh + n % rows * l->h_row + n / rows * V);
        const vf dn = d * (1.0f - z) * slope(act, candidate);
        store(g, dn);
        store(g + V, d * (load(c_before + n * V) - candidate) * slope(rec, z));
        store(g + 3 * V, dn);
        store(dc + n * V, d * z);
    }
    memset(d_reset, 0, (size_t)(rows * l->h_row) * sizeof(float));
    state_gradient(rnn, l, OF_RESET_H, gates, slice, rows, 0, l->units, d_reset);
    for (int64_t n = 0; n < count; n++) {
        float *g = gates + n * 4 * V;
        const vf r = load(g + 2 * V), d = load(d_reset + n % rows * l->h_row + n / rows * V);
        store(g + 2 * V, d * load(c_before + n * V) * slope(rec, r));
        store(dc + n * V, load(dc + n * V) + d * r);
    }
}

static void rnn_backward(const fr_rnn *rnn, rnn_slice slice, float *saved) {
    layout l = layout_of_run(rnn);
    const int64_t rows = slice.rows, steps = rnn->timesteps;
    const int64_t g_size = gates_size(&l, rows), c_size = cells_size(&l, rows), h_size = rows * l.h_row;
    const int64_t block = block_steps(rows, steps);
    const int64_t first = part_start(&l, slice.part, slice.parts);
    const int64_t end = part_start(&l, slice.part + 1, slice.parts);
    const int64_t unit = least(first * l.chunk_units, l.units);
    const int64_t units_end = least(end * l.chunk_units, l.units);
    const size_t bytes = (size_t)(units_end - unit) * sizeof(float);
    float *gates = saved, *cells = gates + steps * g_size, *hs = cells + (steps + 1) * c_size;
    float *gradients = rnn_gradients_in_place(rnn, rows) ? NULL : slice.scratch;
    float *dh = slice.scratch + (gradients ? l.k * l.columns : 0), *dc = dh + h_size;
    float *dc_kept = dc + c_size;
    float *xs = dc_kept + c_size + slice.part * block_inputs_size(rnn, rows);
    float *d_reset = xs + block_inputs_size(rnn, rows); /* such a slice is not parted */
    const row_order order = order_at(rnn, rows, saved + saved_before_order(rnn, &l, rows));

    if (slice.part == 0) {
        memset(dh, 0, (size_t)h_size * sizeof(float));
        memset(dc, 0, (size_t)c_size * sizeof(float));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t row = batch_row(slice, order, r) * l.units;
            if (rnn->dh_last)
                memcpy(dh + r * l.h_row, rnn->dh_last + row, (size_t)l.units * sizeof(float));
            if (rnn->dc_last)
                copy_row(&l, rows, r, 0, l.units, dc, (float *)rnn->dc_last + row, 1);
        }
    }
    barrier_wait(slice.barrier, slice.parts, slice.watch);

    int any_in_block = 0, none_yet = 1;
    const int64_t watched = steps_watched(rnn, slice);
    for (int64_t t = steps - 1; t >= -1; t--) {
        if (is_stopped(slice.watch) || ((t + 1) % watched == 0 && fr_watch(slice.watch))) return;
        /* dh of step t: what came from step t + 1 (in dh for masked rows), dy, and dz U'. */
        if (t == -1 && !rnn->dh0) break;
        const int64_t done = t < steps - 1 ? rows_to_do(slice, order, t + 1) : 0;
        for (int64_t r = 0; r < done; r++)
            if (is_on(rnn, slice, order, r, t + 1)) memset(dh + r * l.h_row + unit, 0, bytes);
        for (int64_t r = 0; r < rows && rnn->dy && t >= 0; r++) {
            if (!shows_state(rnn, slice, order, r, t)) continue;
            const float *dy =
                rnn->dy + batch_row(slice, order, r) * rnn->dy_row + t * rnn->dy_time;
            for (int64_t j = unit; j < units_end; j++) dh[r * l.h_row + j] += dy[j];
        }
        if (done > 0)
            state_gradient(rnn, &l, OF_H, gates + (t + 1) * g_size, slice, done, unit, units_end, dh);
        if (t == -1) break;

        fetch_rows(rnn, slice, order, t - 1, rnn->dy ? rnn->dy + unit : NULL, rnn->dy_row, rnn->dy_time,
                   units_end - unit, !rnn->index);
        float *dz = gates + t * g_size;
        const float *c = cells + (t + 1) * c_size, *c_before = cells + t * c_size;
        const int64_t doing = rows_to_do(slice, order, t);
        const int any = doing > 0, holes = !all_on(order, t);
        /* The last four of groups may reach into rows that are off. */
        const int64_t too_many = end > l.full ? least(rows - doing, 3) : 0;
        carry_cells(&l, dc_kept, dc, rows, doing, too_many, l.full, end);
        for (int64_t r = 0; r < doing && holes; r++)
            if (!is_on(rnn, slice, order, r, t)) carry_cells(&l, dc_kept, dc, rows, r, 1, first, end);
        if (any && l.cell == FR_GRU_RESET_BEFORE)
            reset_before_cells_back(rnn, &l, slice, dz, c_before, dh, dc, d_reset);
        for (int64_t chunk = first; chunk < end && any && l.cell != FR_GRU_RESET_BEFORE; chunk++) {
            const int64_t at = l.cell == FR_SIMPLE_RNN ? 0 : chunk * rows * V;
            float *chunk_dz = dz + chunk * rows * 4 * V;
            const float *chunk_dh = dh + chunk * l.chunk_units;
            if (l.cell == FR_SIMPLE_RNN)
                WITH_TANH(rnn, simple_cells_back(act, chunk_dz, chunk_dh, l.h_row,
                                                 chunk_vectors(&l, chunk), doing));
            else if (chunk < l.full)
                WITH_CELL(rnn, cells_full_back(kind, act, rec, chunk_dz, c + at, c_before + at, chunk_dh,
                                               l.h_row, dc + at, doing));
            else
                WITH_CELL(rnn, cells_tail_back(kind, act, rec, &l, chunk_dz, c + at, c_before + at,
                                               chunk_dh, dc + at, doing));
        }
        carry_cells(&l, dc, dc_kept, rows, doing, too_many, l.full, end);
        for (int64_t r = 0; r < doing && holes; r++) {
            if (is_on(rnn, slice, order, r, t)) continue;
            carry_cells(&l, dc, dc_kept, rows, r, 1, first, end);
            for (int64_t chunk = first; chunk < end; chunk++) {
                const int64_t width = chunk_vectors(&l, chunk) * V;
                memset(dz + chunk * rows * 4 * V + r * width, 0, (size_t)width * sizeof(float));
            }
        }
        barrier_wait(slice.barrier, slice.parts, slice.watch);

        if (rnn->dx && !rnn->index) input_gradient(rnn, &l, dz, rows, 0, slice, order, t);
        any_in_block |= any;
        if (t % block == 0 && any_in_block) {
            any_in_block = 0;
            weight_gradients(rnn, &l, slice, order, first, end, gradients, none_yet, dz,
                             hs + t * h_size, hs + (steps + 1 + t) * h_size, xs, t,
                             t + block < steps ? block : steps - t);
            none_yet = 0;
        }
    }

    if (none_yet && slice.part == 0) no_weight_gradients(rnn, &l, gradients);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = batch_row(slice, order, r) * l.units;
        if (rnn->dh0) {
            float *dh0 = rnn->dh0 + row;
            if (is_gru(rnn->cell)) copy_row(&l, rows, r, unit, units_end, dc, dh0, 0);
            else memset(dh0 + unit, 0, bytes);
            for (int64_t j = unit; j < units_end; j++) dh0[j] += dh[r * l.h_row + j];
        }
        if (rnn->dc0) copy_row(&l, rows, r, unit, units_end, dc, rnn->dc0 + row, 0);
    }
}

/* The gradients of the products, over the products: sums of a slice's dz, which the backward has
 * left in `saved`; those of the first slice are not added to what is there. */
static void rnn_gather_gradients(const fr_rnn *rnn, rnn_slice slice, const float *saved,
                                 int64_t chunk) {
    layout l = layout_of_run(rnn);
    const int64_t rows = slice.rows, width = chunk_vectors(&l, chunk) * V;
    const row_order order = order_at(rnn, rows, (float *)saved + saved_before_order(rnn, &l, rows));
    float *sums = products_of(rnn, chunk);
    if (slice.row == 0) memset(sums, 0, (size_t)(rnn->choices * width) * sizeof(float));
    for (int64_t t = 0; t < rnn->timesteps; t++) {
        const float *dz = saved + t * gates_size(&l, rows) + chunk * rows * 4 * V;
        const int32_t *index = rnn->index + t * rnn->index_time;
        for (int64_t r = 0; r < rows_to_do(slice, order, t); r++, dz += width) {
            float *sum = sums + index[batch_row(slice, order, r) * rnn->index_row] * width;
            for (int64_t j = 0; j < width; j += V) store(sum + j, load(sum + j) + load(dz + j));
        }
    }
}

enum { CHOICES_AT_ONCE = 96 };

/* One chunk's columns of dbias and dkernel. gradients: packed, or NULL for in place. */
static void rnn_input_weight_gradients(const fr_rnn *rnn, int64_t chunk, float *gradients) {
    layout l = layout_of_run(rnn);
    const int nv = chunk_vectors(&l, chunk), of_x = chunk_vectors_of(&l, chunk, OF_X);
    const gradients_place to = place_of(rnn, &l, chunk, gradients);
    const float one = 1.0f;
    for (int64_t row = 0; row < rnn->choices; row += CHOICES_AT_ONCE) {
        const int64_t rows = least(rnn->choices - row, CHOICES_AT_ONCE);
        segment s = {&one, products_of(rnn, chunk) + row * nv * V, 0, rows, nv * V, 2 * V};
        if (to.bias) gemm_sums(row == 0, 1, nv, &s, 1, to.bias, to.row, to.column);
        s.a = rnn->x + row * rnn->x_row;
        s.stride = rnn->x_row;
        gemm_sums(row == 0, rnn->features, of_x, &s, 1, to.kernel, to.row, to.column);
    }
}

/* dx of the rows [row, row + rows). */
static void rnn_choice_gradients(const fr_rnn *rnn, int64_t row, int64_t rows) {
    layout l = layout_of_run(rnn);
    const rnn_slice slice = {.row = row, .rows = rows, .parts = 1};
    input_gradient(rnn, &l, rnn->products, rnn->choices, row, slice, (row_order){0}, 0);
}

static void unpack_row(const layout *l, float *const *gradients, int64_t slices, int64_t k,
                       enum weights_kind kind, float *out) {
    for (int64_t chunk = 0; chunk < l->chunks; chunk++) {
        const int64_t at = chunk * l->k * 4 * V + k * chunk_vectors(l, chunk) * V;
        for (int64_t n = 0; n < runs_in(l, chunk); n++) {
            const column_run run = run_of(l, chunk, kind, n);
            for (int64_t s = 0; s < slices; s++) {
                const float *from = gradients[s] + at + run.column;
                float *to = out + run.source;
                if (run.length == V) store(to, s ? load(to) + load(from) : load(from));
                else
                    for (int64_t j = 0; j < run.length; j++) to[j] = s ? to[j] + from[j] : from[j];
            }
        }
    }
}

static void rnn_unpack_gradient(const fr_rnn *rnn, float *const *gradients, int64_t slices,
                                int64_t k) {
    layout l = layout_of_run(rnn);
    const int64_t keras_row = l.gates * l.units, features = rnn->features;
    if (k > features)
        unpack_row(&l, gradients, slices, k, OF_H, rnn->drecurrent + (k - 1 - features) * keras_row);
    else if (k > 0)
        unpack_row(&l, gradients, slices, k, OF_X, rnn->dkernel + (k - 1) * keras_row);
    else if (rnn->dbias) {
        unpack_row(&l, gradients, slices, k, OF_X, rnn->dbias);
        if (rnn->cell == FR_GRU) unpack_row(&l, gradients, slices, k, OF_H, rnn->dbias + keras_row);
    }
}
