// GGUF's block types (ggml-common.h), read 256 weights at a time: a span, which is one block of a K type or up to eight
// blocks of 32. A span has up to eight groups of 32 codes. A weight is scale * (code - offset) - minimum; the offset is
// the type's, a scale and a minimum belong to a group, or to each half of it where a type is `fine`.
//
// Written in the compiler's vector types, so one source serves every instruction set; `type` is always a constant
// where these functions are inlined.
#pragma once
#include "common.h"

typedef enum {  // ggml's numbers
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13,
    Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, BF16 = 30
} Type;

#define EACH_BLOCK_TYPE(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)

enum { GROUP = 32, SPAN = 256 };

typedef uint8_t Bytes __attribute__((vector_size(32)));
typedef int32_t Words __attribute__((vector_size(32)));
typedef float Floats __attribute__((vector_size(32)));
typedef float Floats16 __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(16)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef int8_t Signed16 __attribute__((vector_size(16)));

// The value of a possibly unaligned vector or number at p.
#define LOAD(kind, p) ({ kind value_; memcpy(&value_, (p), sizeof value_); value_; })
#define STORE(p, value) ({ __typeof__(value) value_ = (value); memcpy((p), &value_, sizeof value_); })

INLINE int block_weights(Type type) {
    return type == Q4_0 || type == Q4_1 || type == Q5_0 || type == Q5_1 || type == Q8_0 || type == IQ4_NL ? GROUP : SPAN;
}
INLINE int block_bytes(Type type) {
    switch (type) {
        case Q4_0: return 18;
        case Q4_1: return 20;
        case Q5_0: return 22;
        case Q5_1: return 24;
        case Q8_0: return 34;
        case Q2_K: return 84;
        case Q3_K: return 110;
        case Q4_K: return 144;
        case Q5_K: return 176;
        case Q6_K: return 210;
        case IQ4_NL: return 18;
        case IQ4_XS: return 136;
        default: return 0;
    }
}
INLINE int span_bytes(Type type) { return SPAN / block_weights(type) * block_bytes(type); }
INLINE int has_minimum(Type type) {
    return type == Q4_1 || type == Q5_1 || type == Q2_K || type == Q4_K || type == Q5_K;
}
INLINE int is_fine(Type type) { return type == Q2_K || type == Q3_K || type == Q6_K; }
// Codes of these types take all 8 bits and are signed; those of the others are 0 to 63.
INLINE int is_signed(Type type) { return type == Q8_0 || type == IQ4_NL || type == IQ4_XS; }
INLINE int code_offset(Type type) {
    return type == Q4_0 ? 8 : type == Q5_0 ? 16 : type == Q6_K ? 32 : type == Q3_K ? 4 : 0;
}
INLINE int code_bits(Type type) {
    return is_signed(type) ? 8 : type == Q6_K ? 6 : type == Q5_0 || type == Q5_1 || type == Q5_K ? 5 : 4;
}

INLINE float half_value(uint16_t half) {
#if defined(__F16C__)
    return _cvtsh_ss(half);
#elif defined(__aarch64__)
    return (float)LOAD(_Float16, &half);
#else
    const uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    // The exponent's bias is 15 in halves and 127 in floats; multiplying also makes subnormal halves normal floats.
    const float value = LOAD(float, &rest) * 0x1p112f;
    const uint32_t bits = sign | (rest < 0x0f800000 ? LOAD(uint32_t, &value) : rest | 0x7f800000);
    return LOAD(float, &bits);
#endif
}
INLINE Floats half_values(Halves halves) {
#if defined(__F16C__)
    return (Floats)_mm256_cvtph_ps((__m128i)halves);
#else
    Floats values;
    for (int i = 0; i < 8; ++i) values[i] = half_value(halves[i]);
    return values;
#endif
}
INLINE float half_at(const uint8_t *p) { return half_value(LOAD(uint16_t, p)); }

INLINE int float_bytes(Type type) { return type == F32 ? 4 : 2; }

// The number at `index` of an array of F32, F16 or BF16.
INLINE float float_at(Type type, const uint8_t *p, int64_t index) {
    if (type == F32) return LOAD(float, p + 4 * index);
    if (type == F16) return half_at(p + 2 * index);
    const uint32_t bits = (uint32_t)LOAD(uint16_t, p + 2 * index) << 16;
    return LOAD(float, &bits);
}
INLINE Floats floats_at(Type type, const uint8_t *p, int64_t index) {
    if (type == F32) return LOAD(Floats, p + 4 * index);
    const Halves halves = LOAD(Halves, p + 2 * index);
    if (type == F16) return half_values(halves);
    return (Floats)(__builtin_convertvector(halves, Words) << 16);
}
INLINE float sum_of(Floats x) { return ((x[0] + x[4]) + (x[2] + x[6])) + ((x[1] + x[5]) + (x[3] + x[7])); }
INLINE void store_float(Type type, uint8_t *p, int64_t index, float value) {
    if (type == F32) {
        STORE(p + 4 * index, value);
    } else if (type == F16) {
        STORE(p + 2 * index, (_Float16)value);
    } else {
        const uint32_t bits = LOAD(uint32_t, &value), even = bits + 0x7fff + (bits >> 16 & 1);
        STORE(p + 2 * index, (uint16_t)(value != value ? 0x7fc0 : even >> 16));
    }
}

// The scales (or minimums) of the blocks of 32 of a span: the half at `offset` of each of `groups` blocks, then zeros.
INLINE Floats block_halves(const uint8_t *span, int bytes, int offset, int groups) {
    Halves halves = {0};
    for (int g = 0; g < groups; ++g) halves[g] = LOAD(uint16_t, span + g * bytes + offset);
    return half_values(halves);
}

INLINE Floats low_half(Floats16 x) { return __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7); }
INLINE Floats high_half(Floats16 x) { return __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15); }
INLINE Floats16 joined(Floats low, Floats high) {
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// Low nibbles of 16 bytes, then their high nibbles.
INLINE Bytes nibbles16(const uint8_t *p) {
    const Bytes16 packed = LOAD(Bytes16, p);
    const Bytes16 low = packed & 15, high = packed >> 4;
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
                                   21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31);
}
// The 32 bits at p as bytes of 0 or 16.
INLINE Bytes fifth_bits(const uint8_t *p) {
    const uint32_t bits = LOAD(uint32_t, p);
    const Words copies = (Words){0} + (int32_t)bits;
    const Bytes spread = __builtin_shufflevector((Bytes)copies, (Bytes)copies, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1,
                                                 1, 1, 18, 18, 18, 18, 18, 18, 18, 18, 19, 19, 19, 19, 19, 19, 19, 19);
    const Bytes mask = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128,
                        1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    return (Bytes)((spread & mask) != 0) & 16;
}
// The levels of the IQ4 types.
INLINE Bytes16 iq4_table(void) {
    typedef int8_t Levels __attribute__((vector_size(16)));
    return (Bytes16)(Levels){-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
}
INLINE Bytes iq4_levels(Bytes codes) {
#if defined(__AVX2__)
    return (Bytes)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256((__m128i)iq4_table()), (__m256i)codes);
#else
    Bytes values;
    for (int i = 0; i < 32; i += 16) {
#if defined(__SSSE3__)
        STORE((char *)&values + i, _mm_shuffle_epi8((__m128i)iq4_table(), LOAD(__m128i, (char *)&codes + i)));
#elif defined(__aarch64__)
        STORE((char *)&values + i, vqtbl1q_s8((int8x16_t)iq4_table(), LOAD(uint8x16_t, (char *)&codes + i)));
#else
        for (int j = i; j < i + 16; ++j) values[j] = iq4_table()[codes[j]];
#endif
    }
    return values;
#endif
}

// The 32 codes of group `g` of a span.
INLINE Bytes span_codes(Type type, const uint8_t *span, int g) {
    const uint8_t *block = span + (block_weights(type) == GROUP ? g * block_bytes(type) : 0);
    const int half = g >> 2, quarter = g & 3;
    switch (type) {
        case Q4_0: return nibbles16(block + 2);
        case Q4_1: return nibbles16(block + 4);
        case Q5_0: return nibbles16(block + 6) | fifth_bits(block + 2);
        case Q5_1: return nibbles16(block + 8) | fifth_bits(block + 4);
        case Q8_0: return LOAD(Bytes, block + 2);
        case Q2_K: return LOAD(Bytes, block + 16 + 32 * half) >> (uint8_t)(2 * quarter) & 3;
        case Q3_K:
            return (LOAD(Bytes, block + 32 + 32 * half) >> (uint8_t)(2 * quarter) & 3) |
                   (LOAD(Bytes, block) >> (uint8_t)g & 1) << 2;
        case Q4_K: return LOAD(Bytes, block + 16 + 32 * (g >> 1)) >> (uint8_t)(4 * (g & 1)) & 15;
        case Q5_K:
            return (LOAD(Bytes, block + 48 + 32 * (g >> 1)) >> (uint8_t)(4 * (g & 1)) & 15) |
                   (LOAD(Bytes, block + 16) >> (uint8_t)g & 1) << 4;
        case Q6_K:
            return (LOAD(Bytes, block + 64 * half + 32 * (g & 1)) >> (uint8_t)(4 * (quarter >> 1)) & 15) |
                   (LOAD(Bytes, block + 128 + 32 * half) >> (uint8_t)(2 * quarter) & 3) << 4;
        case IQ4_NL: return iq4_levels(nibbles16(block + 2));
        case IQ4_XS: return iq4_levels(nibbles16(block + 8 + 16 * g));
        default: return (Bytes){0};
    }
}

// Scales and minimums of a span: of its eight groups, or (fine) of its sixteen half groups.
typedef struct {
    Floats16 scale, minimum;
} Scales;

// The 8 six-bit scales and 8 six-bit minimums of Q4_K and Q5_K, in 12 bytes: the first four of each in the low six bits
// of their byte; of the last four the low half in bytes 8 to 11, the top two bits above the first four. `block` starts
// 4 bytes before them.
INLINE Bytes16 six_bit_scales(const uint8_t *block) {
    typedef uint32_t Fours __attribute__((vector_size(16)));
    const Bytes16 bytes = LOAD(Bytes16, block), none = {0};
    const Bytes16 low = __builtin_shufflevector(bytes, none, 4, 5, 6, 7, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    const Bytes16 top = __builtin_shufflevector(bytes, none, 16, 16, 16, 16, 4, 5, 6, 7, 16, 16, 16, 16, 8, 9, 10, 11);
    const Fours shift = {0, 0, 0, 4}, mask = {0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f};
    return (Bytes16)(((Fours)low >> shift & mask) | ((Fours)top >> 2 & 0x30303030));
}
// The 16 six-bit scales of Q3_K, less 32: low halves in 8 bytes (low nibbles first), top two bits in the next 4.
INLINE Signed16 three_k_scales(const uint8_t *p) {
    const uint64_t low = LOAD(uint64_t, p), mask = 0x0f0f0f0f0f0f0f0f, top = 0x30303030;
    const uint64_t high = LOAD(uint32_t, p + 8);
    const uint64_t codes[2] = {(low & mask) | ((high << 4 & top) | (high << 2 & top) << 32),
                               (low >> 4 & mask) | ((high & top) | (high >> 2 & top) << 32)};
    return LOAD(Signed16, codes) - 32;
}
INLINE Signed16 iq4_xs_scales(const uint8_t *block) {
    Signed16 codes = {0};
    for (int g = 0; g < 8; ++g) {
        const int low = block[4 + g / 2] >> 4 * (g & 1) & 15, high = LOAD(uint16_t, block + 2) >> 2 * g & 3;
        codes[g] = (int8_t)((low | high << 4) - 32);
    }
    return codes;
}

INLINE Scales span_scales(Type type, const uint8_t *span, int groups) {
    Scales result = {0};
    const Floats none = {0};
    const int bytes = block_bytes(type);
    switch (type) {
        case Q4_1:
        case Q5_1:
            result.minimum = joined(-block_halves(span, bytes, 2, groups), none);
            // fall through
        case Q4_0:
        case Q5_0:
        case Q8_0:
        case IQ4_NL: result.scale = joined(block_halves(span, bytes, 0, groups), none); break;
        case Q4_K:
        case Q5_K: {
            const Floats16 both = __builtin_convertvector(six_bit_scales(span), Floats16);
            result.scale = joined(half_at(span) * low_half(both), none);
            result.minimum = joined(half_at(span + 2) * high_half(both), none);
            break;
        }
        case Q2_K: {
            const Bytes16 both = LOAD(Bytes16, span);
            result.scale = half_at(span + 80) * __builtin_convertvector(both & 15, Floats16);
            result.minimum = half_at(span + 82) * __builtin_convertvector(both >> 4, Floats16);
            break;
        }
        case Q3_K: result.scale = half_at(span + 108) * __builtin_convertvector(three_k_scales(span + 96), Floats16); break;
        case Q6_K:
            result.scale = half_at(span + 208) * __builtin_convertvector(LOAD(Signed16, span + 192), Floats16);
            break;
        case IQ4_XS: result.scale = half_at(span) * __builtin_convertvector(iq4_xs_scales(span), Floats16); break;
        default: break;
    }
    return result;
}
