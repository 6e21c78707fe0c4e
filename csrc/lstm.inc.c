/* LSTM through time for one slice of the batch: Hochreiter & Schmidhuber 1997, Gers 2000.
 *
 *     i, f, o = rec(z_i), rec(z_f), rec(z_o);  g = act(z_c);  z = b + x W + h' U
 *     c = f c' + i g;  h = o act(c)
 *
 * Packed columns. Units go in chunks of V; the 4 gates of a chunk sit side by side, 4V columns.
 * The rest of the units goes in groups of V/4, the 4 gates of a group in one vector. A transpose
 * of 4 groups (of any rows: they are contiguous) gives vectors of the same form as a chunk's. */

#define GROUP (V / 4)

typedef struct {
    int64_t units, full, groups; /* chunks of V units, then groups of V/4 */
    int64_t columns;             /* 4V per chunk, V per group */
    int64_t chunks;              /* full, plus one if there are groups */
    int64_t h_row;               /* units rounded up to V */
    int64_t k;                   /* rows of a packed panel: bias, features, units */
} layout;

static layout layout_of(int64_t features, int64_t units) {
    layout l = {.units = units, .full = units / V, .k = 1 + features + units};
    l.groups = (units % V + GROUP - 1) / GROUP;
    if (l.groups == 4) l.full++, l.groups = 0;
    l.columns = l.full * 4 * V + l.groups * V;
    l.chunks = l.full + (l.groups > 0);
    l.h_row = (units + V - 1) / V * V;
    return l;
}
INLINE int chunk_vectors(const layout *l, int64_t chunk) {
    return chunk < l->full ? 4 : (int)l->groups;
}

/* Gates (and z, and dz) of one time step: per chunk (rows, 4V), then (rows, groups, V). Cell
 * states: per chunk (rows, V), then (rows, groups, V/4). The tail is whole in fours of groups. */
INLINE int64_t tail_cells(const layout *l, int64_t rows) { return (rows * l->groups + 3) / 4; }
INLINE int64_t gates_size(const layout *l, int64_t rows) {
    return rows * l->full * 4 * V + tail_cells(l, rows) * 4 * V;
}
INLINE int64_t cells_size(const layout *l, int64_t rows) {
    return rows * l->full * V + tail_cells(l, rows) * V;
}

/* --- packing --------------------------------------------------------------------------------- */

/* Calls body for each run of packed columns [column, column + run) of a chunk that is a run
 * [source, source + run) of Keras columns; `run` may be 0 where the units end. */
#define FOR_RUNS(l, chunk, column, source, run)                                                    \
    for (int64_t width_ = (chunk) < (l)->full ? V : GROUP, vectors_ = chunk_vectors(l, chunk),     \
                 piece_ = 0, column, source, run;                                                  \
         piece_ < ((chunk) < (l)->full ? 4 : 4 * vectors_) &&                                      \
         (column = piece_ * width_,                                                                \
         run = run_length((l)->units, (chunk) * V + piece_ / 4 * width_, width_),                  \
         source = piece_ % 4 * (l)->units + (chunk) * V + piece_ / 4 * width_, 1);                 \
         piece_++)
INLINE int64_t run_length(int64_t units, int64_t first, int64_t width) {
    int64_t left = units - first;
    return left < 0 ? 0 : left < width ? left : width;
}

static int64_t lstm_packed_size(int64_t features, int64_t units) {
    layout l = layout_of(features, units);
    return l.k * l.columns;
}

static int64_t lstm_pack_parts(int64_t units) { return layout_of(1, units).chunks; }

/* packed: per chunk (1 + features + units, columns of the chunk): bias, kernel, recurrent_kernel. */
static void lstm_pack(float *packed, const float *kernel, const float *recurrent_kernel,
                      const float *bias, int64_t features, int64_t units, int64_t chunk) {
    layout l = layout_of(features, units);
    int64_t width = chunk_vectors(&l, chunk) * V;
    float *panel = packed + chunk * l.k * 4 * V;
    memset(panel, 0, (size_t)(l.k * width) * sizeof(float));
    for (int64_t k = 0; k < l.k; k++, panel += width) {
        const float *row = k == 0          ? bias
                           : k <= features ? kernel + (k - 1) * 4 * units
                                           : recurrent_kernel + (k - 1 - features) * 4 * units;
        if (!row) continue;
        FOR_RUNS(&l, chunk, column, source, run)
            memcpy(panel + column, row + source, (size_t)run * sizeof(float));
    }
}

static int64_t lstm_packed_back_size(int64_t features, int64_t units) {
    layout l = layout_of(features, units);
    return l.columns * (l.h_row + (features + V - 1) / V * V);
}

static int64_t lstm_pack_back_parts(int64_t features, int64_t units) {
    return panel_count((units + V - 1) / V) + panel_count((features + V - 1) / V);
}

/* packed: recurrent_kernel transposed, per panel of units (columns, panel width), then the kernel
 * transposed likewise. */
static void lstm_pack_back(float *packed, const float *kernel, const float *recurrent_kernel,
                           int64_t features, int64_t units, int64_t part) {
    layout l = layout_of(features, units);
    int64_t size = units, panels = panel_count(l.h_row / V);
    const float *weights = recurrent_kernel;
    if (part >= panels) {
        part -= panels;
        packed += l.columns * l.h_row;
        weights = kernel;
        size = features;
        if (!kernel) return;
    }
    int64_t vectors = (size + V - 1) / V;
    int64_t first = panel_start(vectors, part) * V, width = panel_start(vectors, part + 1) * V - first;
    int64_t filled = size - first < width ? size - first : width;
    float *panel = packed + l.columns * first;
    memset(panel, 0, (size_t)(l.columns * width) * sizeof(float));
    for (int64_t chunk = 0; chunk < l.chunks; chunk++, panel += 4 * V * width)
        FOR_RUNS(&l, chunk, column, source, run)
            for (int64_t j = 0; j < filled; j++)
                for (int64_t p = 0; p < run; p++)
                    panel[(column + p) * width + j] = weights[(first + j) * 4 * units + source + p];
}

/* --- activations ----------------------------------------------------------------------------- */

#define ELU_SCALE 1.05070098f /* selu: Klambauer et al. 2017 */
#define ELU_ALPHA 1.67326324f

INLINE vf activate(int kind, vf x) {
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
    case FR_EXPONENTIAL: return vexp(x);
    default: return x;
    }
}

/* Derivative of the activation at the input that gave the output y. */
INLINE vf slope(int kind, vf y) {
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

/* --- the cell -------------------------------------------------------------------------------- */

/* gates: 4 vectors of z, replaced by i, f, g, o; c: the state before, replaced by the new one. */
INLINE vf cell(int act, int rec, vf gates[4], vf *c) {
    gates[0] = activate(rec, gates[0]);
    gates[1] = activate(rec, gates[1]);
    gates[2] = activate(act, gates[2]);
    gates[3] = activate(rec, gates[3]);
    *c = gates[1] * *c + gates[0] * gates[2];
    return gates[3] * activate(act, *c);
}

/* gates: i, f, g, o, replaced by dz; dc: gradient of c from the step after, replaced by the one
 * for the step before. */
INLINE void cell_back(int act, int rec, vf gates[4], vf c, vf c_before, vf dh, vf *dc) {
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
    vi low, high, even, odd;
    for (int i = 0; i < V; i++) {
        int piece = i / GROUP, lane = i % GROUP;
        low[i] = (piece % 2 * 4 + piece / 2) * GROUP + lane;      /* a0 b0 a1 b1 */
        high[i] = (piece % 2 * 4 + piece / 2 + 2) * GROUP + lane; /* a2 b2 a3 b3 */
        even[i] = (piece / 2 * 4 + piece % 2) * GROUP + lane;     /* a0 a1 b0 b1 */
        odd[i] = (piece / 2 * 4 + piece % 2 + 2) * GROUP + lane;  /* a2 a3 b2 b3 */
    }
    vf t0 = __builtin_shuffle(v[0], v[1], low), t1 = __builtin_shuffle(v[0], v[1], high);
    vf t2 = __builtin_shuffle(v[2], v[3], low), t3 = __builtin_shuffle(v[2], v[3], high);
    v[0] = __builtin_shuffle(t0, t2, even);
    v[1] = __builtin_shuffle(t0, t2, odd);
    v[2] = __builtin_shuffle(t1, t3, even);
    v[3] = __builtin_shuffle(t1, t3, odd);
}

/* rows of one full chunk. z: (rows, 4V), made gates if keep; c_before, c: (rows, V). */
INLINE void cells_full(int act, int rec, int keep, float *z, const float *c_before, float *c,
                       float *h, int64_t h_row, int64_t rows) {
    for (int64_t r = 0; r < rows; r++, z += 4 * V) {
        vf gates[4] = {load(z), load(z + V), load(z + 2 * V), load(z + 3 * V)};
        vf state = load(c_before + r * V);
        store(h + r * h_row, cell(act, rec, gates, &state));
        store(c + r * V, state);
        if (keep)
            for (int g = 0; g < 4; g++) store(z + g * V, gates[g]);
    }
}

/* All rows of the tail. z: (rows, groups, V); c_before, c: (rows, groups, V/4). */
INLINE void cells_tail(int act, int rec, int keep, const layout *l, float *z, const float *c_before,
                       float *c, float *h, int64_t rows) {
    int64_t row = 0, group = 0;
    for (int64_t n = 0; n < tail_cells(l, rows); n++, z += 4 * V) {
        vf gates[4] = {load(z), load(z + V), load(z + 2 * V), load(z + 3 * V)};
        transpose_groups(gates);
        vf state = load(c_before + n * V);
        vf out = cell(act, rec, gates, &state);
        store(c + n * V, state);
        for (int j = 0; j < 4 && row < rows; j++) {
            memcpy(h + row * l->h_row + group * GROUP, (float *)&out + j * GROUP,
                   GROUP * sizeof(float));
            if (++group == l->groups) group = 0, row++;
        }
        if (keep) {
            transpose_groups(gates);
            for (int g = 0; g < 4; g++) store(z + g * V, gates[g]);
        }
    }
}

INLINE void cells_full_back(int act, int rec, float *gates, const float *c, const float *c_before,
                            const float *dh, int64_t h_row, float *dc, int64_t rows) {
    for (int64_t r = 0; r < rows; r++, gates += 4 * V) {
        vf v[4] = {load(gates), load(gates + V), load(gates + 2 * V), load(gates + 3 * V)};
        vf d = load(dc + r * V);
        cell_back(act, rec, v, load(c + r * V), load(c_before + r * V), load(dh + r * h_row), &d);
        store(dc + r * V, d);
        for (int g = 0; g < 4; g++) store(gates + g * V, v[g]);
    }
}

INLINE void cells_tail_back(int act, int rec, const layout *l, float *gates, const float *c,
                            const float *c_before, const float *dh, float *dc, int64_t rows) {
    int64_t row = 0, group = 0;
    for (int64_t n = 0; n < tail_cells(l, rows); n++, gates += 4 * V) {
        vf v[4] = {load(gates), load(gates + V), load(gates + 2 * V), load(gates + 3 * V)};
        vf d = load(dc + n * V), dh_cell = {0};
        for (int j = 0; j < 4 && row < rows; j++) {
            memcpy((float *)&dh_cell + j * GROUP, dh + row * l->h_row + group * GROUP,
                   GROUP * sizeof(float));
            if (++group == l->groups) group = 0, row++;
        }
        transpose_groups(v);
        cell_back(act, rec, v, load(c + n * V), load(c_before + n * V), dh_cell, &d);
        transpose_groups(v);
        store(dc + n * V, d);
        for (int g = 0; g < 4; g++) store(gates + g * V, v[g]);
    }
}

/* The usual pair of activations as constants, any other by a switch at each vector. */
#define WITH_ACTIVATIONS(lstm, call)                                                               \
    do {                                                                                           \
        if ((lstm)->activation == FR_TANH && (lstm)->recurrent_activation == FR_SIGMOID) {         \
            enum { act = FR_TANH, rec = FR_SIGMOID };                                              \
            call;                                                                                  \
        } else {                                                                                   \
            int act = (lstm)->activation, rec = (lstm)->recurrent_activation;                      \
            call;                                                                                  \
        }                                                                                          \
    } while (0)

/* --- parts of the units ----------------------------------------------------------------------- */

/* Chunks [first, end) of the part of a slice; parts begin at panels of packed_back. */
INLINE int64_t part_start(const layout *l, int part, int parts) {
    const int64_t vectors = l->h_row / V;
    return panel_start(vectors, panel_count(vectors) * part / parts);
}

/* Copies units [first, end) of one row between the layout of cell states and a plain row. */
static void copy_row(const layout *l, int64_t rows, int64_t row, int64_t first, int64_t end,
                     float *cells, float *plain, int to_cells) {
    for (int64_t unit = first; unit < end; unit += V) {
        float *p = cells + rows * unit + row * (unit / V < l->full ? V : l->groups * GROUP);
        const size_t bytes = (size_t)run_length(end, unit, V) * sizeof(float);
        if (to_cells) memcpy(p, plain + unit, bytes);
        else memcpy(plain + unit, p, bytes);
    }
}
static void carry_cells(const layout *l, float *to, const float *from, int64_t rows, int64_t row,
                        int64_t first, int64_t end) {
    for (int64_t chunk = first; chunk < end; chunk++) {
        int64_t width = chunk < l->full ? V : l->groups * GROUP;
        int64_t at = rows * chunk * V + row * width;
        memcpy(to + at, from + at, (size_t)width * sizeof(float));
    }
}

/* --- forward --------------------------------------------------------------------------------- */

/* saved: for each step the gates; for each step and the one before the first, c; likewise h. */
static int64_t lstm_saved_size(const fr_lstm *lstm, int64_t rows, int parts) {
    (void)parts;
    layout l = layout_of(lstm->features, lstm->units);
    int64_t t = lstm->timesteps;
    return t * gates_size(&l, rows) + (t + 1) * (cells_size(&l, rows) + rows * l.h_row);
}

/* With few rows x W is taken for a block of steps at once, to use a tile's rows and to read W once
 * a block; with many it runs in the tile of h U. Blocks of 1 mean the latter. */
static int64_t hoisted_steps(const fr_lstm *lstm, int64_t rows) {
    const int64_t weights = 16 * lstm->units * (lstm->features + lstm->units); /* bytes */
    if (lstm->features < 8 || (rows > 3 && (rows > 12 || weights < 1 << 19))) return 1;
    return lstm->timesteps < 12 ? lstm->timesteps : 12;
}

static int64_t lstm_forward_scratch(const fr_lstm *lstm, int64_t rows, int parts) {
    layout l = layout_of(lstm->features, lstm->units);
    if (lstm->saved) return 0;
    return 2 * (cells_size(&l, rows) + rows * l.h_row) + parts * (rows + 4) * 4 * V +
           hoisted_steps(lstm, rows) * gates_size(&l, rows);
}

static void lstm_forward(const fr_lstm *lstm, lstm_slice slice, float *saved) {
    layout l = layout_of(lstm->features, lstm->units);
    const int64_t rows = slice.rows, steps = lstm->timesteps, features = lstm->features;
    const int64_t g_size = gates_size(&l, rows), c_size = cells_size(&l, rows), h_size = rows * l.h_row;
    const int64_t first = part_start(&l, slice.part, slice.parts);
    const int64_t end = part_start(&l, slice.part + 1, slice.parts);
    const int64_t unit = first * V, units_end = end * V < l.units ? end * V : l.units;
    const int64_t block = hoisted_steps(lstm, rows);
    const size_t bytes = (size_t)(units_end - unit) * sizeof(float);
    const int keep = saved != NULL;
    /* Kept states have a place for each step; otherwise two places take turns. */
    float *cells, *hs, *z = NULL, *zs;
    if (keep) {
        zs = saved;
        cells = saved + steps * g_size;
        hs = cells + (steps + 1) * c_size;
    } else {
        cells = slice.scratch;
        hs = cells + 2 * c_size;
        z = hs + 2 * h_size + slice.part * (rows + 4) * 4 * V;
        zs = hs + 2 * h_size + slice.parts * (rows + 4) * 4 * V;
    }
    if (slice.part == 0) {
        memset(cells, 0, (size_t)c_size * sizeof(float));
        memset(hs, 0, (size_t)h_size * sizeof(float));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t row = (slice.row + r) * l.units;
            if (lstm->c0) copy_row(&l, rows, r, 0, l.units, cells, (float *)lstm->c0 + row, 1);
            if (lstm->h0)
                memcpy(hs + r * l.h_row, lstm->h0 + row, (size_t)l.units * sizeof(float));
        }
    }
    barrier_wait(slice.barrier, slice.parts);

    float *c = cells, *h = hs;
    for (int64_t t = 0; t < steps; t++) {
        const float *c_before = c, *h_before = h;
        c = cells + (keep ? t + 1 : (t + 1) % 2) * c_size;
        h = hs + (keep ? t + 1 : (t + 1) % 2) * h_size;
        float *step_z = keep ? zs + t * g_size : block > 1 ? zs + t % block * g_size : NULL;
        const float *x = lstm->x + slice.row * lstm->x_row + t * lstm->x_time;
        const int recurrent = t > 0 || lstm->h0; /* the first step from zeros has no h U */
        for (int64_t chunk = first; chunk < end; chunk++) {
            const int nv = chunk_vectors(&l, chunk);
            const int64_t width = nv * V;
            const float *panel = lstm->packed + chunk * l.k * 4 * V;
            const segment of_h = {h_before, panel + (1 + features) * width, l.h_row, l.units};
            segment segments[2] = {{x, panel + width, lstm->x_row, features}, of_h};
            float *chunk_z = step_z ? step_z + chunk * rows * 4 * V : z;
            const float *chunk_c_before = c_before + chunk * rows * V;
            float *chunk_c = c + chunk * rows * V, *chunk_h = h + chunk * V;
            if (block > 1 && t % block == 0) {
                const int64_t count = steps - t < block ? steps - t : block;
                for (int64_t r = 0; r < rows; r++) {
                    segment of_x = {x + r * lstm->x_row, panel + width, lstm->x_time, features};
                    gemm(0, count, nv, &of_x, 1, chunk_z + r * width, g_size, panel, 0);
                }
            }
            FOR_TILES(row, height, rows, nv) {
                float *tile_z = step_z || chunk == l.full ? chunk_z + row * width : z;
                if (block == 1)
                    TILES[0][nv - 1][height - 1](row, segments, 1 + recurrent, tile_z, width, panel, 0);
                else if (recurrent)
                    TILES[0][nv - 1][height - 1](row, &of_h, 1, tile_z, width, tile_z, width);
                if (chunk < l.full)
                    WITH_ACTIVATIONS(lstm, cells_full(act, rec, keep, tile_z, chunk_c_before + row * V,
                                                      chunk_c + row * V, chunk_h + row * l.h_row,
                                                      l.h_row, height));
            }
            if (chunk == l.full)
                WITH_ACTIVATIONS(lstm, cells_tail(act, rec, keep, &l, chunk_z, chunk_c_before,
                                                  chunk_c, chunk_h, rows));
        }
        const uint8_t *mask =
            lstm->mask ? lstm->mask + slice.row * lstm->mask_row + t * lstm->mask_time : NULL;
        float *y = lstm->y ? lstm->y + slice.row * lstm->y_row + t * lstm->y_time + unit : NULL;
        for (int64_t r = 0; r < rows && (mask || y); r++) {
            const float *out = h + r * l.h_row + unit;
            if (mask && !mask[r * lstm->mask_row]) {
                carry_cells(&l, c, c_before, rows, r, first, end);
                memcpy(h + r * l.h_row + unit, h_before + r * l.h_row + unit, bytes);
                const int repeated = y && t > 0 && !lstm->zero_output_for_mask;
                out = repeated ? y + r * lstm->y_row - lstm->y_time : NULL;
            }
            if (!y) continue;
            if (out) memcpy(y + r * lstm->y_row, out, bytes);
            else memset(y + r * lstm->y_row, 0, bytes);
        }
        barrier_wait(slice.barrier, slice.parts);
    }

    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = slice.row + r;
        const float *h_row = h + r * l.h_row + unit;
        if (lstm->h_last) memcpy(lstm->h_last + row * l.units + unit, h_row, bytes);
        if (lstm->c_last)
            copy_row(&l, rows, r, unit, units_end, c, lstm->c_last + row * l.units, 0);
        if (!lstm->last) continue;
        float *last = lstm->last + row * lstm->last_row + unit;
        int shown = !lstm->mask; /* is the last output h, or zeros? */
        for (int64_t t = steps - 1; t >= 0 && !shown; t--) {
            shown = lstm->mask[row * lstm->mask_row + t * lstm->mask_time] != 0;
            if (lstm->zero_output_for_mask) break;
        }
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

static int64_t block_inputs_size(const fr_lstm *lstm, int64_t rows) {
    int64_t size = block_steps(rows, lstm->timesteps) * rows * (1 + lstm->features);
    return (size + V - 1) / V * V;
}

/* scratch: packed gradients (laid out as the packed weights), dh, dc, a copy of dc for masks; and
 * for each part x of a block of steps. */
static int64_t lstm_backward_scratch(const fr_lstm *lstm, int64_t rows, int parts) {
    layout l = layout_of(lstm->features, lstm->units);
    return l.k * l.columns + rows * l.h_row + 2 * cells_size(&l, rows) +
           parts * block_inputs_size(lstm, rows);
}

/* dz (one step, all chunks, rows from `row`) times one panel of transposed weights, added to out. */
static void multiply_dz(const layout *l, const float *dz, int64_t rows, int64_t row, int64_t height,
                        const float *weights, int nv, float *out, int64_t out_row) {
    enum { AT_ONCE = 16 };
    segment segments[AT_ONCE];
    for (int64_t chunk = 0, count; chunk < l->chunks; chunk += count) {
        for (count = 0; count < AT_ONCE && chunk + count < l->chunks; count++) {
            const int64_t at = chunk + count, width = chunk_vectors(l, at) * V;
            segments[count] = (segment){dz + at * rows * 4 * V + row * width,
                                        weights + at * 4 * V * nv * V, width, width};
        }
        gemm_add(0, height, nv, segments, count, out, out_row);
    }
}

/* This part's columns of dx of one step. Panels that end within the features go through a buffer. */
static void input_gradient(const fr_lstm *lstm, const layout *l, const float *dz, lstm_slice slice,
                           int64_t t) {
    const int64_t rows = slice.rows, features = lstm->features, vectors = (features + V - 1) / V;
    float *dx = lstm->dx + slice.row * lstm->dx_row + t * lstm->dx_time;
    const float *weights = lstm->packed_back + l->columns * l->h_row;
    const int64_t panels = panel_count(vectors);
    for (int64_t panel = panels * slice.part / slice.parts;
         panel < panels * (slice.part + 1) / slice.parts; panel++) {
        const int64_t column = panel_start(vectors, panel) * V;
        const int64_t width = panel_start(vectors, panel + 1) * V - column;
        const int64_t filled = run_length(features, column, width);
        const int nv = (int)(width / V);
        const float *panel_weights = weights + l->columns * column;
        if (filled == width) {
            if (!lstm->dx_add)
                for (int64_t r = 0; r < rows; r++)
                    memset(dx + r * lstm->dx_row + column, 0, (size_t)width * sizeof(float));
            multiply_dz(l, dz, rows, 0, rows, panel_weights, nv, dx + column, lstm->dx_row);
            continue;
        }
        enum { BUFFER_ROWS = 24 };
        float buffer[BUFFER_ROWS * 4 * V];
        const int64_t tile_rows = BUFFER_ROWS / TILE_ROWS(nv) * TILE_ROWS(nv);
        for (int64_t row = 0; row < rows; row += tile_rows) {
            const int64_t height = run_length(rows, row, tile_rows);
            memset(buffer, 0, (size_t)(height * width) * sizeof(float));
            multiply_dz(l, dz, rows, row, height, panel_weights, nv, buffer, width);
            for (int64_t r = 0; r < height; r++) {
                float *out = dx + (row + r) * lstm->dx_row + column;
                for (int64_t j = 0; j < filled; j++)
                    out[j] = lstm->dx_add ? out[j] + buffer[r * width + j] : buffer[r * width + j];
            }
        }
    }
}

/* This part's columns of the weights' gradients of the steps [t, t + count), added. */
static void weight_gradients(const fr_lstm *lstm, const layout *l, lstm_slice slice, int64_t first,
                             int64_t end, float *gradients, const float *dz, const float *h_before,
                             float *xs, int64_t t, int64_t count) {
    const int64_t rows = slice.rows, features = lstm->features, x_row = 1 + features;
    const int64_t g_size = gates_size(l, rows), h_size = rows * l->h_row;
    for (int64_t s = 0; s < count; s++)
        for (int64_t r = 0; r < rows; r++) {
            float *out = xs + (s * rows + r) * x_row;
            out[0] = 1.0f; /* for the bias */
            memcpy(out + 1, lstm->x + (slice.row + r) * lstm->x_row + (t + s) * lstm->x_time,
                   (size_t)features * sizeof(float));
        }
    segment segments[MOST_BLOCK_STEPS];
    for (int64_t chunk = first; chunk < end; chunk++) {
        const int nv = chunk_vectors(l, chunk);
        float *panel = gradients + chunk * l->k * 4 * V;
        for (int64_t s = 0; s < count; s++)
            segments[s] = (segment){xs + s * rows * x_row, dz + s * g_size + chunk * rows * 4 * V,
                                    x_row, rows};
        gemm_add(1, x_row, nv, segments, count, panel, nv * V);
        for (int64_t s = 0; s < count; s++) {
            segments[s].a = h_before + s * h_size;
            segments[s].stride = l->h_row;
        }
        gemm_add(1, l->units, nv, segments, count, panel + x_row * nv * V, nv * V);
    }
}

static void lstm_backward(const fr_lstm *lstm, lstm_slice slice, float *saved) {
    layout l = layout_of(lstm->features, lstm->units);
    const int64_t rows = slice.rows, steps = lstm->timesteps;
    const int64_t g_size = gates_size(&l, rows), c_size = cells_size(&l, rows), h_size = rows * l.h_row;
    const int64_t block = block_steps(rows, steps), vectors = l.h_row / V;
    const int64_t first = part_start(&l, slice.part, slice.parts);
    const int64_t end = part_start(&l, slice.part + 1, slice.parts);
    const int64_t unit = first * V, units_end = end * V < l.units ? end * V : l.units;
    const size_t bytes = (size_t)(units_end - unit) * sizeof(float);
    float *gates = saved, *cells = gates + steps * g_size, *hs = cells + (steps + 1) * c_size;
    float *gradients = slice.scratch, *dh = gradients + l.k * l.columns, *dc = dh + h_size;
    float *dc_kept = dc + c_size;
    float *xs = dc_kept + c_size + slice.part * block_inputs_size(lstm, rows);

    if (slice.part == 0) {
        memset(gradients, 0, (size_t)(l.k * l.columns) * sizeof(float));
        memset(dh, 0, (size_t)h_size * sizeof(float));
        memset(dc, 0, (size_t)c_size * sizeof(float));
        for (int64_t r = 0; r < rows; r++) {
            const int64_t row = (slice.row + r) * l.units;
            if (lstm->dh_last)
                memcpy(dh + r * l.h_row, lstm->dh_last + row, (size_t)l.units * sizeof(float));
            if (lstm->dc_last)
                copy_row(&l, rows, r, 0, l.units, dc, (float *)lstm->dc_last + row, 1);
        }
    }
    barrier_wait(slice.barrier, slice.parts);

    for (int64_t t = steps - 1; t >= -1; t--) {
        /* dh of step t: what came from step t + 1 (in dh for masked rows), dy, and dz U'. */
        if (t == -1 && !lstm->dh0) break;
        const uint8_t *mask_after =
            lstm->mask && t + 1 < steps
                ? lstm->mask + slice.row * lstm->mask_row + (t + 1) * lstm->mask_time : NULL;
        for (int64_t r = 0; r < rows; r++) {
            float *row = dh + r * l.h_row;
            if (t < steps - 1 && !(mask_after && !mask_after[r * lstm->mask_row]))
                memset(row + unit, 0, (size_t)((end - first) * V) * sizeof(float));
            if (lstm->dy && t >= 0) {
                const float *dy = lstm->dy + (slice.row + r) * lstm->dy_row + t * lstm->dy_time;
                for (int64_t j = unit; j < units_end; j++) row[j] += dy[j];
            }
        }
        if (t < steps - 1)
            for (int64_t panel = 0; panel < panel_count(vectors); panel++) {
                const int64_t from = panel_start(vectors, panel);
                if (from < first || from >= end) continue;
                multiply_dz(&l, gates + (t + 1) * g_size, rows, 0, rows,
                            lstm->packed_back + l.columns * from * V,
                            (int)(panel_start(vectors, panel + 1) - from), dh + from * V, l.h_row);
            }
        if (t == -1) break;

        float *dz = gates + t * g_size;
        const float *c = cells + (t + 1) * c_size, *c_before = cells + t * c_size;
        const uint8_t *mask =
            lstm->mask ? lstm->mask + slice.row * lstm->mask_row + t * lstm->mask_time : NULL;
        for (int64_t r = 0; r < rows && mask; r++)
            if (!mask[r * lstm->mask_row]) carry_cells(&l, dc_kept, dc, rows, r, first, end);
        for (int64_t chunk = first; chunk < end && chunk < l.full; chunk++) {
            const int64_t at = chunk * rows * V;
            WITH_ACTIVATIONS(lstm, cells_full_back(act, rec, dz + 4 * at, c + at, c_before + at,
                                                   dh + chunk * V, l.h_row, dc + at, rows));
        }
        if (end > l.full) {
            const int64_t at = l.full * rows * V;
            WITH_ACTIVATIONS(lstm, cells_tail_back(act, rec, &l, dz + 4 * at, c + at, c_before + at,
                                                   dh + l.full * V, dc + at, rows));
        }
        for (int64_t r = 0; r < rows && mask; r++) {
            if (mask[r * lstm->mask_row]) continue;
            carry_cells(&l, dc, dc_kept, rows, r, first, end);
            for (int64_t chunk = first; chunk < end; chunk++) {
                const int64_t width = chunk_vectors(&l, chunk) * V;
                memset(dz + chunk * rows * 4 * V + r * width, 0, (size_t)width * sizeof(float));
            }
        }
        barrier_wait(slice.barrier, slice.parts);

        if (lstm->dx) input_gradient(lstm, &l, dz, slice, t);
        if (t % block == 0)
            weight_gradients(lstm, &l, slice, first, end, gradients, dz, hs + t * h_size, xs, t,
                             t + block < steps ? block : steps - t);
    }

    for (int64_t r = 0; r < rows; r++) {
        const int64_t row = (slice.row + r) * l.units;
        if (lstm->dh0) memcpy(lstm->dh0 + row + unit, dh + r * l.h_row + unit, bytes);
        if (lstm->dc0) copy_row(&l, rows, r, unit, units_end, dc, lstm->dc0 + row, 0);
    }
}

static void lstm_unpack_gradient(const fr_lstm *lstm, float *const *gradients, int64_t slices,
                                 int64_t k) {
    layout l = layout_of(lstm->features, lstm->units);
    float *out = k == 0                   ? lstm->dbias
                 : k <= lstm->features ? lstm->dkernel + (k - 1) * 4 * l.units
                                       : lstm->drecurrent + (k - 1 - lstm->features) * 4 * l.units;
    if (!out) return;
    for (int64_t chunk = 0; chunk < l.chunks; chunk++) {
        int64_t at = chunk * l.k * 4 * V + k * chunk_vectors(&l, chunk) * V;
        FOR_RUNS(&l, chunk, column, source, run)
            for (int64_t j = 0; j < run; j++) {
                float sum = gradients[0][at + column + j];
                for (int64_t s = 1; s < slices; s++) sum += gradients[s][at + column + j];
                out[source + j] = sum;
            }
    }
}
