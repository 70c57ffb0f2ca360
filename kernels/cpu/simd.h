// The few vector operations that the motion search needs, for each instruction set: unsigned 16-bit lanes, LANES at a
// time, and sums of absolute differences of bytes.
#pragma once
#include "common.h"

#if defined(__AVX512BW__)
enum { LANES = 32 };
typedef __m512i Words;
INLINE Words load_words(const uint16_t *p) { return _mm512_loadu_si512(p); }
INLINE void store_words(uint16_t *p, Words a) { _mm512_storeu_si512(p, a); }
INLINE Words same_words(uint32_t a) { return _mm512_set1_epi16((short)a); }
INLINE Words difference(Words a, Words b) { return _mm512_or_si512(_mm512_subs_epu16(a, b), _mm512_subs_epu16(b, a)); }
INLINE Words sum(Words a, Words b) { return _mm512_add_epi16(a, b); }
INLINE Words saturated_sum(Words a, Words b) { return _mm512_adds_epu16(a, b); }
INLINE Words least(Words a, Words b) { return _mm512_min_epu16(a, b); }
INLINE uint32_t at_most(Words a, Words limit) { return _mm512_cmple_epu16_mask(a, limit); }
#elif defined(__AVX2__)
enum { LANES = 16 };
typedef __m256i Words;
INLINE Words load_words(const uint16_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void store_words(uint16_t *p, Words a) { _mm256_storeu_si256((__m256i *)p, a); }
INLINE Words same_words(uint32_t a) { return _mm256_set1_epi16((short)a); }
INLINE Words difference(Words a, Words b) { return _mm256_or_si256(_mm256_subs_epu16(a, b), _mm256_subs_epu16(b, a)); }
INLINE Words sum(Words a, Words b) { return _mm256_add_epi16(a, b); }
INLINE Words saturated_sum(Words a, Words b) { return _mm256_adds_epu16(a, b); }
INLINE Words least(Words a, Words b) { return _mm256_min_epu16(a, b); }
INLINE uint32_t at_most(Words a, Words limit) {
    const __m256i within = _mm256_cmpeq_epi16(_mm256_subs_epu16(a, limit), _mm256_setzero_si256());
    const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(within), _mm256_extracti128_si256(within, 1));
    return (uint32_t)_mm_movemask_epi8(bytes);
}
#elif defined(__SSE4_1__)
enum { LANES = 8 };
typedef __m128i Words;
INLINE Words load_words(const uint16_t *p) { return _mm_loadu_si128((const __m128i *)p); }
INLINE void store_words(uint16_t *p, Words a) { _mm_storeu_si128((__m128i *)p, a); }
INLINE Words same_words(uint32_t a) { return _mm_set1_epi16((short)a); }
INLINE Words difference(Words a, Words b) { return _mm_or_si128(_mm_subs_epu16(a, b), _mm_subs_epu16(b, a)); }
INLINE Words sum(Words a, Words b) { return _mm_add_epi16(a, b); }
INLINE Words saturated_sum(Words a, Words b) { return _mm_adds_epu16(a, b); }
INLINE Words least(Words a, Words b) { return _mm_min_epu16(a, b); }
INLINE uint32_t at_most(Words a, Words limit) {
    const __m128i within = _mm_cmpeq_epi16(_mm_subs_epu16(a, limit), _mm_setzero_si128());
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(within, _mm_setzero_si128()));
}
#elif defined(__aarch64__)
enum { LANES = 8 };
typedef uint16x8_t Words;
INLINE Words load_words(const uint16_t *p) { return vld1q_u16(p); }
INLINE void store_words(uint16_t *p, Words a) { vst1q_u16(p, a); }
INLINE Words same_words(uint32_t a) { return vdupq_n_u16((uint16_t)a); }
INLINE Words difference(Words a, Words b) { return vabdq_u16(a, b); }
INLINE Words sum(Words a, Words b) { return vaddq_u16(a, b); }
INLINE Words saturated_sum(Words a, Words b) { return vqaddq_u16(a, b); }
INLINE Words least(Words a, Words b) { return vminq_u16(a, b); }
INLINE uint32_t at_most(Words a, Words limit) {
    static const uint16_t bits[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u16(vandq_u16(vcleq_u16(a, limit), vld1q_u16(bits)));
}
#endif

// Sum of absolute differences of two times 48 bytes, at a and a + pitch.
#if defined(__AVX512BW__)
typedef __m512i Sads;
INLINE Sads no_sads(void) { return _mm512_setzero_si512(); }
INLINE Sads add_sads(Sads sum, const uint8_t *a, const uint8_t *b, size_t pitch) {
    const __mmask64 line = 0xffffffffffff;
    for (int row = 0; row < 2; ++row, a += pitch, b += pitch) {
        const __m512i here = _mm512_maskz_loadu_epi8(line, a), there = _mm512_maskz_loadu_epi8(line, b);
        sum = _mm512_add_epi64(sum, _mm512_sad_epu8(here, there));
    }
    return sum;
}
INLINE uint32_t total_sads(Sads sum) { return (uint32_t)_mm512_reduce_add_epi64(sum); }
#elif defined(__AVX2__)
typedef __m256i Sads;
INLINE Sads no_sads(void) { return _mm256_setzero_si256(); }
INLINE __m256i two_ends(const uint8_t *a, size_t pitch) {
    const __m128i first = _mm_loadu_si128((const __m128i *)(a + 32));
    return _mm256_inserti128_si256(_mm256_castsi128_si256(first), _mm_loadu_si128((const __m128i *)(a + pitch + 32)), 1);
}
INLINE Sads add_sads(Sads sum, const uint8_t *a, const uint8_t *b, size_t pitch) {
    for (int row = 0; row < 2; ++row) {
        const __m256i here = _mm256_loadu_si256((const __m256i *)(a + (size_t)row * pitch));
        const __m256i there = _mm256_loadu_si256((const __m256i *)(b + (size_t)row * pitch));
        sum = _mm256_add_epi64(sum, _mm256_sad_epu8(here, there));
    }
    return _mm256_add_epi64(sum, _mm256_sad_epu8(two_ends(a, pitch), two_ends(b, pitch)));
}
INLINE uint32_t total_sads(Sads sum) {
    const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
    return (uint32_t)(_mm_cvtsi128_si32(half) + _mm_extract_epi32(half, 2));
}
#elif defined(__SSE4_1__)
typedef __m128i Sads;
INLINE Sads no_sads(void) { return _mm_setzero_si128(); }
INLINE Sads add_sads(Sads sum, const uint8_t *a, const uint8_t *b, size_t pitch) {
    for (int row = 0; row < 2; ++row, a += pitch, b += pitch) {
        for (int x = 0; x < 48; x += 16) {
            const __m128i here = _mm_loadu_si128((const __m128i *)(a + x));
            sum = _mm_add_epi64(sum, _mm_sad_epu8(here, _mm_loadu_si128((const __m128i *)(b + x))));
        }
    }
    return sum;
}
INLINE uint32_t total_sads(Sads sum) { return (uint32_t)(_mm_cvtsi128_si32(sum) + _mm_extract_epi32(sum, 2)); }
#elif defined(__aarch64__)
typedef uint32x4_t Sads;
INLINE Sads no_sads(void) { return vdupq_n_u32(0); }
INLINE Sads add_sads(Sads sum, const uint8_t *a, const uint8_t *b, size_t pitch) {
    for (int row = 0; row < 2; ++row, a += pitch, b += pitch) {
        for (int x = 0; x < 48; x += 16) {
            sum = vdotq_u32(sum, vabdq_u8(vld1q_u8(a + x), vld1q_u8(b + x)), vdupq_n_u8(1));
        }
    }
    return sum;
}
INLINE uint32_t total_sads(Sads sum) { return vaddvq_u32(sum); }
#endif
