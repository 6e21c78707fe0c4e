/* One vector type per instruction set, and exp, tanh, sigmoid and log on it.
 * The same source is compiled for every instruction set; V is the number of floats in a vector. */
#ifndef FASTRNN_SIMD_H
#define FASTRNN_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define V 16
#elif defined(__AVX2__)
#define V 8
#else
#define V 4
#endif

typedef float vf __attribute__((vector_size(4 * V)));
typedef int32_t vi __attribute__((vector_size(4 * V)));
typedef uint32_t vu __attribute__((vector_size(4 * V)));
typedef float vf_unaligned __attribute__((vector_size(4 * V), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vf load(const float *p) { return *(const vf_unaligned *)p; }
INLINE void store(float *p, vf v) { *(vf_unaligned *)p = v; }
INLINE vf splat(float x) { return x - (vf){0}; }
INLINE vf choose(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }

/* UNROLL: a loop of at most n turns, wholly; UNROLL_BY: one of any number. */
#define PRAGMA(text) _Pragma(#text)
#ifdef __clang__
#define UNROLL(n) _Pragma("clang loop unroll(full)")
#define UNROLL_BY(n) PRAGMA(clang loop unroll_count(n))
#else
#define UNROLL(n) PRAGMA(GCC unroll n)
#define UNROLL_BY(n) UNROLL(n)
#endif

/* The quarters a, b, c, d of the 8 quarters of x and y. */
#if V == 16
#define LANES_OF(q) 4 * (q), 4 * (q) + 1, 4 * (q) + 2, 4 * (q) + 3
#elif V == 8
#define LANES_OF(q) 2 * (q), 2 * (q) + 1
#else
#define LANES_OF(q) q
#endif
#ifdef __clang__
#define PIECES(x, y, a, b, c, d)                                                                   \
    __builtin_shufflevector(x, y, LANES_OF(a), LANES_OF(b), LANES_OF(c), LANES_OF(d))
#else
#define PIECES(x, y, a, b, c, d)                                                                   \
    __builtin_shuffle(x, y, (vi){LANES_OF(a), LANES_OF(b), LANES_OF(c), LANES_OF(d)})
#endif

/* The first n lanes, 0 <= n <= V; lanes not loaded are zero. */
#if defined(__AVX512F__)
INLINE vf load_n(const float *p, int64_t n) {
    return (vf)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
INLINE void store_n(float *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
#elif defined(__AVX2__)
INLINE __m256i first_lanes(int64_t n) {
    return (__m256i)((vi){0, 1, 2, 3, 4, 5, 6, 7} < (vi){0} + (int32_t)n);
}
INLINE vf load_n(const float *p, int64_t n) {
    return n == V ? load(p) : (vf)_mm256_maskload_ps(p, first_lanes(n));
}
INLINE void store_n(float *p, vf v, int64_t n) {
    if (n == V) store(p, v); /* a masked store takes AMD's CPUs some 20 cycles: Adam x 0.2 */
    else _mm256_maskstore_ps(p, first_lanes(n), (__m256)v);
}
#else
INLINE vf load_n(const float *p, int64_t n) {
    if (n == V) return load(p);
    vf v = {0};
    for (int i = 0; i < n; i++) v[i] = p[i];
    return v;
}
INLINE void store_n(float *p, vf v, int64_t n) {
    if (n == V) store(p, v);
    else
        for (int i = 0; i < n; i++) p[i] = v[i];
}
#endif

/* a b + c, fused where there is such an instruction: a compiler may leave one tile's sums in two
 * instructions and fuse another's, and a row's result would depend on how many rows there are. */
INLINE vf multiply_add(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

/* Min and max with a bound: a NaN in x stays NaN. */
INLINE vf at_most(float bound, vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_min_ps((__m512)splat(bound), (__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_min_ps((__m256)splat(bound), (__m256)x);
#elif defined(__x86_64__)
    return (vf)_mm_min_ps((__m128)splat(bound), (__m128)x);
#else
    return choose(x > bound, splat(bound), x);
#endif
}
INLINE vf at_least(float bound, vf x) {
#if defined(__AVX512F__)
    return (vf)_mm512_max_ps((__m512)splat(bound), (__m512)x);
#elif defined(__AVX2__)
    return (vf)_mm256_max_ps((__m256)splat(bound), (__m256)x);
#elif defined(__x86_64__)
    return (vf)_mm_max_ps((__m128)splat(bound), (__m128)x);
#else
    return choose(x < bound, splat(bound), x);
#endif
}
INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }

/* a / b. On AVX-512, for normal b and to 2 ulp, by an estimate of 1 / b and one Newton step: it divides
 * half as fast. */
INLINE vf ratio(vf a, vf b) {
#if defined(__AVX512F__)
    const vf r = (vf)_mm512_rcp14_ps((__m512)b);
    return a * (r * (2.0f - b * r));
#else
    return a / b;
#endif
}

INLINE float sum_lanes(vf x) {
    typedef float quarter __attribute__((vector_size(16)));
    quarter parts[V / 4], sum;
    memcpy(parts, &x, sizeof x);
    sum = parts[0];
    for (int i = 1; i < V / 4; i++) sum += parts[i];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
}

INLINE void transpose_4x4(float *to, int64_t to_row, const float *from, int64_t from_row) {
    typedef float quad __attribute__((vector_size(16)));
    typedef float quad_unaligned __attribute__((vector_size(16), aligned(4), may_alias));
    quad rows[4];
    for (int i = 0; i < 4; i++) rows[i] = *(const quad_unaligned *)(from + i * from_row);
#define LOW(a, b) (quad){a[0], b[0], a[1], b[1]}
#define HIGH(a, b) (quad){a[2], b[2], a[3], b[3]}
    const quad low02 = LOW(rows[0], rows[2]), low13 = LOW(rows[1], rows[3]);
    const quad high02 = HIGH(rows[0], rows[2]), high13 = HIGH(rows[1], rows[3]);
    *(quad_unaligned *)to = LOW(low02, low13);
    *(quad_unaligned *)(to + to_row) = HIGH(low02, low13);
    *(quad_unaligned *)(to + 2 * to_row) = LOW(high02, high13);
    *(quad_unaligned *)(to + 3 * to_row) = HIGH(high02, high13);
#undef LOW
#undef HIGH
}

#define LOG2E 1.44269504f
#define LOG2E_LOW 1.92596299e-8f /* log2(e) - LOG2E */
/* 1.5 * 2^23, so that adding and subtracting it rounds to a whole number, and an exponent's bias. */
#define ROUND 12583039.0f

/* Of n vectors side by side, since one alone would wait for each of its operations. */
#define EACH UNROLL(4) for (int i = 0; i < n; i++)

/* factor x log2(e) = log2(scale) + f, |f| <= 1/2. x: clamped so that |factor x| <= 87. */
INLINE void reduce(const int n, const float factor[], const vf x[], vf scale[], vf f[]) {
    EACH {
        const vf whole = x[i] * (factor[i] * LOG2E) + ROUND;
        scale[i] = (vf)((vu)whole << 23);
        f[i] = whole - ROUND;
    }
    EACH f[i] = x[i] * (factor[i] * LOG2E) - f[i];
}

/* (2^f - 1) / f by a minimax polynomial of degree 5 (relative error 1.1e-8), or of degree 4 such that
 * 2^f is right to 9.3e-8. */
static const float SLOPE_5[] = {1.5403508e-4f, 1.3390736e-3f, 9.6182376e-3f,
                                5.5503573e-2f, 2.4022649e-1f, 6.9314718e-1f};
static const float SLOPE_4[] = {1.3269521e-3f, 9.671291e-3f, 5.550711e-2f, 2.4022247e-1f,
                                6.93147e-1f};

INLINE vf clamp(float bound, vf x) { return at_most(bound, at_least(-bound, x)); }
INLINE vf exp_and(float more, vf x) {
    vf scale, f;
    x = clamp(87.0f, x);
    reduce(1, (float[]){1.0f}, &x, &scale, &f);
    f += x * LOG2E_LOW;
    vf q = splat(SLOPE_5[0]);
    UNROLL(5)
    for (int k = 1; k < 6; k++) q = q * f + SLOPE_5[k];
    return scale * (f * q) + (scale + more);
}
INLINE vf vexp(vf x) { return exp_and(0.0f, x); }
INLINE vf vexpm1(vf x) { return exp_and(-1.0f, x); }

/* Of each of n vectors sigmoid or, where is_tanh, tanh: tanh(x) = e / (e + 2) with e = exp(2x) - 1,
 * which is exact near 0; saturated beyond +-9.1.
 * tanh errs by at most 3.6 ulp, or 1.5e-7; sigmoid by 9.8e-8, and for negative x by 2.8 ulp and another
 * 0.22 |x|, without FMA 1.4 |x|, since log2(e) is rounded. AVX-512 (emulated) adds 1 ulp or 7e-8. Over
 * every 499th float32. */
INLINE void saturate(const int n, const int is_tanh[], vf x[]) {
    vf scale[4], f[4], q[4], under[4];
    float factor[4];
    EACH factor[i] = is_tanh[i] ? 2.0f : -1.0f;
    EACH x[i] = clamp(is_tanh[i] ? 9.1f : 87.0f, x[i]);
    reduce(n, factor, x, scale, f);
    EACH q[i] = is_tanh[i] ? SLOPE_5[0] * f[i] + SLOPE_5[1] : splat(SLOPE_4[0]);
    UNROLL(4)
    for (int k = 1; k < 5; k++) EACH q[i] = q[i] * f[i] + (is_tanh[i] ? SLOPE_5[k + 1] : SLOPE_4[k]);
    EACH q[i] = is_tanh[i] ? q[i] * f[i] : q[i] * f[i] + 1.0f;
    EACH x[i] = is_tanh[i] ? scale[i] * q[i] + (scale[i] - 1.0f) : splat(1.0f);
    EACH under[i] = is_tanh[i] ? x[i] + 2.0f : scale[i] * q[i] + 1.0f;
    EACH x[i] = ratio(x[i], under[i]);
}
#undef EACH
INLINE vf vsigmoid(vf x) {
    saturate(1, (int[]){0}, &x);
    return x;
}
INLINE vf vtanh(vf x) {
    saturate(1, (int[]){1}, &x);
    return x;
}

/* log(x) for normal x > 0: mantissa in [sqrt(1/2), sqrt(2)), atanh series in s = (m-1)/(m+1). */
INLINE vf vlog(vf x) {
    vi bits = (vi)x - 0x3f3504f3;
    vi exponent = bits >> 23;
    vf m = (vf)((bits & 0x007fffff) + 0x3f3504f3);
    vf s = (m - 1.0f) / (m + 1.0f), z = s * s;
    vf q = splat(0.2222222f);
    q = q * z + 0.28571429f;
    q = q * z + 0.4f;
    q = q * z + 0.66666667f;
    vf series = s * (z * q) + (s + s);
    return __builtin_convertvector(exponent, vf) * 0.69314718f + series;
}

#endif
