/* For a CPU without AVX-512: included before everything else (.ci/emulate), it makes the kernels for
 * AVX-512 of two AVX2 vectors each, and the engine take the CPU for one that runs them. */
#define __builtin_cpu_supports(feature) 1
#ifdef __AVX512F__
#pragma GCC target("no-avx512f,no-avx512dq,no-avx512bw,no-avx512vl,avx2,fma")
#include <immintrin.h>
#include <stdint.h>
#include <string.h>
#define __AVX512F__ 1

typedef float emulated __attribute__((vector_size(64)));
typedef union {
    emulated whole;
    __m256 half[2];
} halves;

static inline emulated emulated_load(uint16_t mask, const float *from) {
    emulated x = {0};
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) x[i] = from[i];
    return x;
}
static inline void emulated_store(float *to, uint16_t mask, emulated x) {
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1) to[i] = x[i];
}
#define OF_HALVES(call)                                                                            \
    for (int i = 0; i < 2; i++) r.half[i] = call;                                                  \
    return r.whole
static inline emulated emulated_fmadd(emulated a, emulated b, emulated c) {
    halves x = {a}, y = {b}, z = {c}, r;
    OF_HALVES(_mm256_fmadd_ps(x.half[i], y.half[i], z.half[i]));
}
static inline emulated emulated_min(emulated a, emulated b) {
    halves x = {a}, y = {b}, r;
    OF_HALVES(_mm256_min_ps(x.half[i], y.half[i]));
}
static inline emulated emulated_max(emulated a, emulated b) {
    halves x = {a}, y = {b}, r;
    OF_HALVES(_mm256_max_ps(x.half[i], y.half[i]));
}
static inline emulated emulated_sqrt(emulated a) {
    halves x = {a}, r;
    OF_HALVES(_mm256_sqrt_ps(x.half[i]));
}
/* 1 / x to 14 bits. */
static inline emulated emulated_rcp14(emulated x) {
    for (int i = 0; i < 16; i++) {
        float y = 1.0f / x[i];
        uint32_t bits;
        memcpy(&bits, &y, sizeof y);
        if ((bits & 0x7f800000) != 0x7f800000) bits = (bits + 0x200) & ~0x3ffu;
        memcpy(&y, &bits, sizeof y);
        x[i] = y;
    }
    return x;
}
#undef OF_HALVES

#define __m512 emulated
#define __mmask16 uint16_t
#define _mm512_maskz_loadu_ps emulated_load
#define _mm512_mask_storeu_ps emulated_store
#define _mm512_fmadd_ps emulated_fmadd
#define _mm512_min_ps emulated_min
#define _mm512_max_ps emulated_max
#define _mm512_sqrt_ps emulated_sqrt
#define _mm512_rcp14_ps emulated_rcp14
#endif
