/* The register tile that all matrix products are made of:
 *
 *     c[r][n] = init[r][n] + sum over segments and k of a[r][k] * b[k][n]
 *
 * with R rows and NV vectors of columns held in registers. b's row k begins b_row after the one
 * before. a is read a scalar at a time, either row-major (a[r*stride + k]) or transposed
 * (a[k*stride + r]); segments let one product run over several pieces of memory. The vectors of a
 * row of c, and of init, are V apart; in a transposed tile `column` apart, and init may be NULL for
 * zeros.
 * Of 4 vectors, a skewed tile adds the first segment to the first 3 and the rest to the last 3. A
 * panel of 4 vectors may lie in two strips, b_strip apart, each with 2 vectors of all rows. */

typedef struct {
    const float *a, *b;
    int64_t stride, k, b_row, b_strip; /* b_strip: from the first 2 of 4 vectors to the others */
} segment;
enum tile_kind { ROWS, TRANSPOSED, SKEWED, STRIPS, TILE_KINDS };

typedef void (*tile_fn)(int64_t row, const segment *segments, int64_t count, float *c,
                        int64_t c_row, const float *init, int64_t init_row, int64_t column);

/* As many accumulators as the registers hold beside one row of b and the broadcasts:
 * 24 of 32 on AVX-512 (6 x 4 measured best), 12 of 16 on AVX2, 8 of 16 without FMA. */
#if V == 16
#define TILE_ROWS(nv) ((nv) == 4 ? 6 : (nv) == 3 ? 8 : 12)
#elif V == 8
#define TILE_ROWS(nv) ((nv) == 4 ? 3 : (nv) == 3 ? 4 : (nv) == 2 ? 6 : 8)
#else
#define TILE_ROWS(nv) ((nv) == 4 ? 2 : (nv) == 3 ? 3 : (nv) == 2 ? 4 : 8)
#endif
#define MAX_TILE_ROWS 12
#define REGISTERS (V == 16 ? 32 : 16)

/* With 12 accumulators the rows that are over go with three others through 4 vectors in two halves:
 * 4 x 2 runs at 95 % of the peak and 2 x 4 at 76; from L3 at 58 to 80 and 60, in strips at 90 (Zen 3).
 * One row reads a single stream up to 8 % faster, so that small weights are not in strips. */
#define BY_HALVES (V < 16)

/* Adds one row of b, vectors [V0, V1), to the accumulators. a, b: at that row. */
INLINE void add_row(const int R, const int NV, const int V0, const int V1, const int transposed,
                    const float *a, int64_t stride, const float *b, const float *b2, vf acc[]) {
    /* One pointer for three rows: x86 addresses reach stride and 2*stride from it. */
    const float *a3 = a + 3 * stride, *a6 = a + 6 * stride, *a9 = a + 9 * stride;
    vf x[MAX_TILE_ROWS], bv[4];
#define LOAD_B(v) load((v) < 2 ? b + (v) * V : b2 + ((v) - 2) * V)
#define SPLAT_A(r)                                                                                 \
    splat(transposed ? a[r] : ((r) < 3 ? a : (r) < 6 ? a3 : (r) < 9 ? a6 : a9)[(r) % 3 * stride])
    if (R * NV + R + 1 > REGISTERS) { /* b's first, or GCC spills: 6 x 2 on AVX2 x 0.54 */
        UNROLL(4)
        for (int v = V0; v < V1; v++) bv[v] = LOAD_B(v);
        UNROLL(12)
        for (int r = 0; r < R; r++) {
            x[r] = SPLAT_A(r);
            UNROLL(4)
            for (int v = V0; v < V1; v++)
                acc[r * NV + v] = multiply_add(x[r], bv[v], acc[r * NV + v]);
        }
    } else {
        UNROLL(12)
        for (int r = 0; r < R; r++) x[r] = SPLAT_A(r);
        UNROLL(4)
        for (int v = V0; v < V1; v++) {
            bv[v] = LOAD_B(v);
            UNROLL(12)
            for (int r = 0; r < R; r++)
                acc[r * NV + v] = multiply_add(x[r], bv[v], acc[r * NV + v]);
        }
    }
#undef LOAD_B
#undef SPLAT_A
}

/* Adds one segment to the accumulators of vectors [V0, V1). */
INLINE void accumulate(const int R, const int NV, const int V0, const int V1,
                       const enum tile_kind kind, int64_t row, segment s, const int halved,
                       int half, vf acc[]) {
    const int transposed = kind == TRANSPOSED;
    const int64_t b_row = kind == STRIPS ? 2 * V : NV == 4 || halved ? 4 * V : s.b_row;
    const int64_t a_step = transposed ? s.stride : 1;
    const float *a = s.a + (transposed ? row : row * s.stride);
    const float *b = s.b + (halved ? half * s.b_strip : 0);
    const float *b2 = b + (kind == STRIPS ? s.b_strip : 2 * V);
    if (V == 8 && s.k >= 4) { /* x 1.04 to 1.1 where two hardware threads share a core's decoder */
        UNROLL_BY(4)
        for (int64_t k = s.k; k > 0; k--, a += a_step, b += b_row, b2 += b_row)
            add_row(R, NV, V0, V1, transposed, a, s.stride, b, b2, acc);
    } else {
        UNROLL_BY(1)
        for (int64_t k = s.k; k > 0; k--, a += a_step, b += b_row, b2 += b_row)
            add_row(R, NV, V0, V1, transposed, a, s.stride, b, b2, acc);
    }
}

/* halved: the first or the last 2 of 4 vectors, by `half`. */
INLINE void tile(const int R, const int NV, const enum tile_kind kind, int64_t row,
                 const segment *segments, int64_t count, float *c, int64_t c_row,
                 const float *init, int64_t init_row, int64_t column, const int halved,
                 int half) {
    const int64_t apart = kind == TRANSPOSED ? column : V;
    vf acc[MAX_TILE_ROWS * 4];
    UNROLL(12)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int v = 0; v < NV; v++)
            acc[r * NV + v] = kind == TRANSPOSED && !init
                                  ? splat(0.0f) : load(init + r * init_row + v * apart);

    if (kind == SKEWED) accumulate(R, NV, 0, 3, kind, row, segments[0], halved, half, acc);
    for (int64_t s = kind == SKEWED; s < count; s++)
        accumulate(R, NV, kind == SKEWED, NV, kind, row, segments[s], halved, half, acc);
    UNROLL(12)
    for (int r = 0; r < R; r++)
        UNROLL(4)
        for (int v = 0; v < NV; v++) store(c + r * c_row + v * apart, acc[r * NV + v]);
}

#define TILE_FUNCTION(R, NV, KIND)                                                                 \
    static void tile_##KIND##_##R##x##NV(int64_t row, const segment *segments, int64_t count,     \
                                         float *c, int64_t c_row, const float *init,              \
                                         int64_t init_row, int64_t column)
#define TILE(R, NV, KIND)                                                                          \
    TILE_FUNCTION(R, NV, KIND) {                                                                   \
        tile(R, NV, KIND, row, segments, count, c, c_row, init, init_row, column, 0, 0);           \
    }
#define TILE_BY_HALVES(R, KIND)                                                                    \
    TILE_FUNCTION(R, 4, KIND) {                                                                    \
        for (int half = 0; half < 2; half++)                                                       \
            tile(R, 2, KIND, row, segments, count, c + half * 2 * V, c_row, init + half * 2 * V,   \
                 init_row, column, 1, half);                                                       \
    }
#define TILES_OF_2(M, NV) M(1, NV) M(2, NV)
#define TILES_OF_3(M, NV) TILES_OF_2(M, NV) M(3, NV)
#define TILES_OF_4(M, NV) TILES_OF_3(M, NV) M(4, NV)
#define TILES_OF_6(M, NV) TILES_OF_4(M, NV) M(5, NV) M(6, NV)
#define TILES_OF_8(M, NV) TILES_OF_6(M, NV) M(7, NV) M(8, NV)
#define TILES_OF_12(M, NV) TILES_OF_8(M, NV) M(9, NV) M(10, NV) M(11, NV) M(12, NV)
#if V == 16
#define ALL_TILES(M) TILES_OF_12(M, 1) TILES_OF_12(M, 2) TILES_OF_8(M, 3) TILES_OF_6(M, 4)
#define TILES_OF_4_VECTORS TILES_OF_6
#elif V == 8
#define ALL_TILES(M) TILES_OF_8(M, 1) TILES_OF_6(M, 2) TILES_OF_4(M, 3) TILES_OF_3(M, 4)
#define TILES_OF_4_VECTORS TILES_OF_3
#define TILES_BY_HALVES(M) M(4, 4) M(5, 4)
#else
#define ALL_TILES(M) TILES_OF_8(M, 1) TILES_OF_4(M, 2) TILES_OF_3(M, 3) TILES_OF_2(M, 4)
#define TILES_OF_4_VECTORS TILES_OF_2
#define TILES_BY_HALVES(M) M(3, 4)
#endif
#define ROW_TILE(R, NV) TILE(R, NV, ROWS)
#define TRANSPOSED_TILE(R, NV) TILE(R, NV, TRANSPOSED)
#define SKEWED_TILE(R, NV) TILE(R, NV, SKEWED)
#define STRIPS_TILE(R, NV) TILE(R, NV, STRIPS)
#define HALVED_ROW_TILE(R, NV) TILE_BY_HALVES(R, ROWS)
#define HALVED_STRIPS_TILE(R, NV) TILE_BY_HALVES(R, STRIPS)
ALL_TILES(ROW_TILE)
ALL_TILES(TRANSPOSED_TILE)
TILES_OF_4_VECTORS(SKEWED_TILE, 4)
#if BY_HALVES
TILES_OF_4_VECTORS(STRIPS_TILE, 4)
TILES_BY_HALVES(HALVED_ROW_TILE)
TILES_BY_HALVES(HALVED_STRIPS_TILE)
#endif

#define ROW_ENTRY(R, NV) [ROWS][NV - 1][R - 1] = tile_ROWS_##R##x##NV,
#define TRANSPOSED_ENTRY(R, NV) [TRANSPOSED][NV - 1][R - 1] = tile_TRANSPOSED_##R##x##NV,
#define SKEWED_ENTRY(R, NV) [SKEWED][NV - 1][R - 1] = tile_SKEWED_##R##x##NV,
#define STRIPS_ENTRY(R, NV) [STRIPS][NV - 1][R - 1] = tile_STRIPS_##R##x##NV,
static const tile_fn TILES[TILE_KINDS][4][MAX_TILE_ROWS] = {
    ALL_TILES(ROW_ENTRY) ALL_TILES(TRANSPOSED_ENTRY) TILES_OF_4_VECTORS(SKEWED_ENTRY, 4)
#if BY_HALVES
    TILES_OF_4_VECTORS(STRIPS_ENTRY, 4) TILES_BY_HALVES(ROW_ENTRY) TILES_BY_HALVES(STRIPS_ENTRY)
#endif
};

/* n rows in tiles of even height (32 rows by 6 go 6 6 5 5 5 5, not 6 6 6 6 6 2); where a tile may go
 * by halves, the first takes what is over (16 by 3 go 4 3 3 3 3). */
#define FOR_TILES(row, height, n, kind, nv)                                                        \
    for (int64_t row = 0, height; row < (n) && (height = tile_height(kind, nv, (n) - row), 1);      \
         row += height)
INLINE int64_t tile_height(enum tile_kind kind, int nv, int64_t left) {
    const int64_t most = TILE_ROWS(nv);
    if (left <= most) return left;
    if (BY_HALVES && nv == 4 && (kind == ROWS || kind == STRIPS))
        return most + left % TILE_ROWS(4);
    const uint32_t n = left < 1 << 20 ? (uint32_t)left : 1 << 20; /* whose divisions are faster */
    const uint32_t tiles = (n + (uint32_t)most - 1) / (uint32_t)most;
    return (n + tiles - 1) / tiles;
}

/* All n rows of one column panel. init may be c itself, or one row for all with init_row 0. */
static void gemm(enum tile_kind kind, int64_t n, int nv, const segment *segments, int64_t count,
                 float *c, int64_t c_row, const float *init, int64_t init_row, int64_t column) {
    FOR_TILES(row, height, n, kind, nv)
        TILES[kind][nv - 1][height - 1](row, segments, count, c + row * c_row, c_row,
                                        init + row * init_row, init_row, column);
}
static void gemm_add(enum tile_kind kind, int64_t n, int nv, const segment *segments, int64_t count,
                     float *c, int64_t c_row) {
    gemm(kind, n, nv, segments, count, c, c_row, c, c_row, V);
}
/* Sums over the rows of a, to c or, if they are not the first, added to it. */
static void gemm_sums(int first, int64_t n, int nv, const segment *segments, int64_t count, float *c,
                      int64_t c_row, int64_t column) {
    gemm(TRANSPOSED, n, nv, segments, count, c, c_row, first ? NULL : c, first ? 0 : c_row, column);
}

/* Columns in panels of at most 4 vectors, of even width. */
INLINE int64_t panel_count(int64_t vectors) { return (vectors + 3) / 4; }
INLINE int64_t panel_start(int64_t vectors, int64_t panel) {
    return vectors * panel / panel_count(vectors);
}
