/* Dense, dropout, embedding and batch normalisation on a range of rows. */

/* --- dense: y = act(x W + b) ----------------------------------------------------------------- */

/* Packed: per panel of at most 4 vectors of columns, bias (width), then (k, width). So few columns
 * that a panel would be mostly empty are packed as columns instead: bias (n), then (n, k). */
INLINE int narrow(int64_t n) { return n <= 2; }

static int64_t dense_packed_size(int64_t k, int64_t n) { return (1 + k) * ((n + V - 1) / V * V); }

static int64_t dense_pack_parts(int64_t n) { return panel_count((n + V - 1) / V); }

/* weights (k, n), or (n, k) if transposed. */
static void dense_pack(float *packed, const float *weights, const float *bias, int64_t k, int64_t n,
                       int transposed, int64_t part) {
    const int64_t vectors = (n + V - 1) / V, first = panel_start(vectors, part) * V;
    const int64_t width = panel_start(vectors, part + 1) * V - first;
    const int64_t filled = run_length(n, first, width);
    float *panel = packed + (1 + k) * first;
    memset(panel, 0, (size_t)((1 + k) * width) * sizeof(float));
    if (narrow(n)) {
        for (int64_t j = 0; j < n; j++) {
            panel[j] = bias ? bias[j] : 0.0f;
            for (int64_t i = 0; i < k; i++)
                panel[n + j * k + i] = transposed ? weights[j * k + i] : weights[i * n + j];
        }
        return;
    }
    if (bias) memcpy(panel, bias + first, (size_t)filled * sizeof(float));
    panel += width;
    if (transposed)
        for (int64_t j = 0; j < filled; j++)
            for (int64_t i = 0; i < k; i++) panel[i * width + j] = weights[(first + j) * k + i];
    else
        for (int64_t i = 0; i < k; i++)
            memcpy(panel + i * width, weights + i * n + first, (size_t)filled * sizeof(float));
}

#define DENSE_BLOCK 96
#define DENSE_DEPTH (4096 / V) /* so many rows of a panel stay in the second-level cache */
/* Parts from begin to end, panels of columns; x (rows, k), y (rows, n), both contiguous. */
static void dense_forward(float *y, const float *x, const float *packed, int activation,
                          int64_t rows, int64_t k, int64_t n, int64_t begin, int64_t end) {
    const int64_t vectors = (n + V - 1) / V;
    if (narrow(n)) {
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < n; j++) {
                const float *weights = packed + n + j * k;
                vf sum = {0};
                for (int64_t i = 0; i < k; i += V) {
                    const int64_t count = run_length(k, i, V);
                    sum += load_n(x + r * k + i, count) * load_n(weights + i, count);
                }
                y[r * n + j] = packed[j] + sum_lanes(sum);
            }
        for (int64_t i = 0; i < rows * n && activation != FR_LINEAR; i += V) {
            const int64_t count = run_length(rows * n, i, V);
            store_n(y + i, activate(activation, load_n(y + i, count)), count);
        }
        return;
    }
    const int deep = k > DENSE_DEPTH;
    const int64_t most = deep ? DENSE_BLOCK : rows;
    for (int64_t part = begin; part < end; part++) {
        const int64_t first = panel_start(vectors, part) * V;
        const int64_t width = panel_start(vectors, part + 1) * V - first;
        const int64_t filled = run_length(n, first, width);
        const int nv = (int)(width / V);
        const float *panel = packed + (1 + k) * first;
        float buffer[DENSE_BLOCK * 4 * V];
        for (int64_t block = 0; block < rows; block += most)
            for (int64_t from = 0; from < k; from += DENSE_DEPTH) {
                const int64_t depth = run_length(k, from, DENSE_DEPTH);
                const segment some = {x + block * k + from, panel + (1 + from) * width, k, depth, width,
                                      2 * V};
                FOR_TILES(row, height, run_length(rows, block, most), ROWS, nv) {
                    float *tile_y = buffer + (deep ? row * width : 0);
                    TILES[ROWS][nv - 1][height - 1](row, &some, 1, tile_y, width,
                                                    from ? tile_y : panel, from ? width : 0, V);
                    if (from + depth < k) continue;
                    for (int64_t r = 0; r < height; r++)
                        for (int64_t j = 0; j < filled; j += V)
                            store_n(y + (block + row + r) * n + first + j,
                                    activate(activation, load(tile_y + r * width + j)),
                                    run_length(filled, j, V));
                }
            }
    }
}

static void dense_slope(float *dy, const float *y, int activation, int64_t n) {
    for (int64_t i = 0; i < n && activation != FR_LINEAR; i += V) {
        const int64_t count = run_length(n, i, V);
        store_n(dy + i, load_n(dy + i, count) * slope(activation, load_n(y + i, count)), count);
    }
}

/* The gradient of one part, a panel (1 + k, width), of the weights: what some rows give is added to
 * it, or where they are the first, put there. scratch: DENSE_BLOCK * 4V floats. */
static void dense_add_gradient(float *panel, const float *dy, const float *x, int64_t rows, int64_t k,
                               int64_t n, int64_t part, int first_rows, float *scratch) {
    const int64_t vectors = (n + V - 1) / V, first = panel_start(vectors, part) * V;
    const int64_t width = panel_start(vectors, part + 1) * V - first;
    for (int64_t row = 0; row < rows; row += DENSE_BLOCK) {
        const int64_t height = run_length(rows, row, DENSE_BLOCK);
        const int fresh = first_rows && row == 0;
        for (int64_t j = 0; j < width; j += V) {
            const int64_t count = run_length(n, first + j, V);
            vf sum = fresh ? splat(0.0f) : load(panel + j);
            for (int64_t r = 0; r < height; r++) {
                vf dz = load_n(dy + (row + r) * n + first + j, count);
                sum += dz;
                store(scratch + r * width + j, dz);
            }
            store(panel + j, sum);
        }
        const segment block = {x + row * k, scratch, k, height, width, 2 * V};
        gemm_sums(fresh, k, (int)(width / V), &block, 1, panel + width, width, V);
    }
}

/* Puts a part's gradient among those of dweights (k, n) and dbias, which may be NULL. */
static void dense_place_gradient(float *dweights, float *dbias, const float *panel, int64_t k,
                                 int64_t n, int64_t part) {
    const int64_t vectors = (n + V - 1) / V, first = panel_start(vectors, part) * V;
    const int64_t width = panel_start(vectors, part + 1) * V - first;
    const size_t bytes = (size_t)run_length(n, first, width) * sizeof(float);
    if (dbias) memcpy(dbias + first, panel, bytes);
    for (int64_t i = 0; i < k; i++) memcpy(dweights + i * n + first, panel + (1 + i) * width, bytes);
}

/* Gradients of some rows. dy becomes dz in place; dw (1 + k, n rounded up to V), in panels as
 * packed, is added to; dx may be NULL; scratch: DENSE_BLOCK * 4V floats. */
static void dense_backward(float *dx, float *dw, float *dy, const float *x, const float *y,
                           const float *packed_back, int activation, int64_t rows, int64_t k,
                           int64_t n, float *scratch) {
    dense_slope(dy, y, activation, rows * n);
    const int64_t vectors = (n + V - 1) / V;
    for (int64_t row = 0; row < rows && narrow(n); row++)
        for (int64_t j = 0; j < n; j++) {
            const float dz = dy[row * n + j];
            float *column = dw + n + j * k;
            dw[j] += dz;
            for (int64_t i = 0; i < k; i += V) {
                const int64_t count = run_length(k, i, V);
                store_n(column + i, load_n(column + i, count) + dz * load_n(x + row * k + i, count),
                        count);
            }
        }
    for (int64_t row = 0; row < rows && !narrow(n); row += DENSE_BLOCK) {
        const int64_t height = run_length(rows, row, DENSE_BLOCK);
        for (int64_t part = 0; part < panel_count(vectors); part++)
            dense_add_gradient(dw + (1 + k) * panel_start(vectors, part) * V, dy + row * n, x + row * k,
                               height, k, n, part, 0, scratch);
    }
    if (dx) dense_forward(dx, dy, packed_back, FR_LINEAR, rows, n, k, 0, dense_pack_parts(k));
}

/* dw of all slices, summed: row i of (bias; weights). */
static void dense_unpack_gradient(float *out, float *const *dw, int64_t slices, int64_t k,
                                  int64_t n, int64_t i) {
    const int64_t vectors = (n + V - 1) / V;
    for (int64_t part = 0; part < panel_count(vectors); part++) {
        const int64_t first = panel_start(vectors, part) * V;
        const int64_t width = panel_start(vectors, part + 1) * V - first;
        const int64_t filled = run_length(n, first, width);
        for (int64_t j = 0; j < filled; j++) {
            const int64_t at = !narrow(n) ? (1 + k) * first + i * width + j
                               : i == 0   ? j
                                          : n + j * k + i - 1;
            float sum = dw[0][at];
            for (int64_t s = 1; s < slices; s++) sum += dw[s][at];
            out[first + j] = sum;
        }
    }
}

/* --- dropout --------------------------------------------------------------------------------- */

/* A bijective mixer of 32 bits with low bias (two multiply-xorshift rounds, Wellons 2018). */
INLINE uint32_t mix(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

/* y = x / (1 - rate) where element i of the stream `seed` is kept, else 0. */
static void dropout(float *y, const float *x, int64_t begin, int64_t end, float rate, uint64_t seed) {
    const uint32_t dropped = (uint32_t)((double)rate * 4294967296.0);
    const float scale = 1.0f / (1.0f - rate);
    while (begin < end) {
        const uint64_t high = (uint64_t)begin >> 32;
        int64_t stop = (int64_t)((high + 1) << 32);
        if (stop > end) stop = end;
        const uint32_t key = mix((uint32_t)seed ^ (uint32_t)high), key2 = (uint32_t)(seed >> 32);
        for (int64_t i = begin; i < stop; i++) {
            const uint32_t random = mix(mix((uint32_t)i + key) ^ key2);
            y[i] = random >= dropped ? x[i] * scale : 0.0f;
        }
        begin = stop;
    }
}

/* --- embedding ------------------------------------------------------------------------------- */

static void embedding_forward(float *out, const float *table, const int32_t *index, int64_t n,
                              int64_t width) {
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * width, table + (int64_t)index[i] * width, (size_t)width * sizeof(float));
}

/* Adds dy's rows to those rows of the table's gradient that are `part` modulo `parts`. */
static void embedding_backward(float *dtable, const float *dy, const int32_t *index, int64_t n,
                               int64_t width, int64_t part, int64_t parts) {
    for (int64_t i = 0; i < n; i++) {
        if (index[i] % parts != part) continue;
        float *row = dtable + (int64_t)index[i] * width;
        const float *from = dy + i * width;
        for (int64_t j = 0; j < width; j++) row[j] += from[j];
    }
}

/* --- batch normalisation: Ioffe & Szegedy 2015 ------------------------------------------------ */

/* sum += x - shift and squares += (x - shift)^2 over the rows whose mask is set. */
static void bn_moments(double *sum, double *squares, const float *x, const float *shift,
                       const uint8_t *mask, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += n) {
        if (mask && !mask[r]) continue;
        for (int64_t j = 0; j < n; j++) {
            const double d = x[j] - shift[j];
            sum[j] += d;
            squares[j] += d * d;
        }
    }
}

static void bn_forward(float *y, const float *x, const float *scale, const float *offset,
                       int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += n, y += n)
        for (int64_t j = 0; j < n; j++) y[j] = x[j] * scale[j] + offset[j];
}

/* dbeta += dy and dgamma += dy * normalised x. */
static void bn_sums(double *dgamma, double *dbeta, const float *dy, const float *x,
                    const float *mean, const float *inverse, int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += n, dy += n)
        for (int64_t j = 0; j < n; j++) {
            dbeta[j] += dy[j];
            dgamma[j] += dy[j] * ((x[j] - mean[j]) * inverse[j]);
        }
}

/* dx = a dy, and for rows in the statistics - b - c (x - mean). */
static void bn_backward(float *dx, const float *dy, const float *x, const float *mean,
                        const float *a, const float *b, const float *c, const uint8_t *mask,
                        int64_t rows, int64_t n) {
    for (int64_t r = 0; r < rows; r++, x += n, dy += n, dx += n) {
        const float used = !mask || mask[r] ? 1.0f : 0.0f;
        for (int64_t j = 0; j < n; j++)
            dx[j] = a[j] * dy[j] - used * (b[j] + c[j] * (x[j] - mean[j]));
    }
}
