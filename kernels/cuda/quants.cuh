// GGUF block types (ggml-common.h), each decoded into the same form: a slice of quads of four consecutive weights. A
// quad is four signed bytes in a word; a weight is scale * byte, plus offset where the type has one. Quads of one RUN
// share scale and offset and lie in one group of 32 columns. This one form feeds dequantisation, the exact product and
// dp4a.
//
// Blocks of 18, 22, 34, 110 and 210 bytes put every other block at an address that is only even. Buffers start at
// multiples of four, or of the widest load (registry.BLOCK_ALIGNMENT, a constraint of the ops).
#pragma once
#include "common.cuh"

// WORDS words from p, which must be a multiple of ALIGNMENT.
template <int ALIGNMENT, int WORDS>
struct Words {
    static INLINE void load(const uint8* p, uint32 (&word)[WORDS]) {
        for (int i = 0; i < WORDS; ++i) word[i] = ((const uint32*)p)[i];
    }
};

template <int WORDS>
struct Words<16, WORDS> {
    static INLINE void load(const uint8* p, uint32 (&word)[WORDS]) {
        for (int i = 0; i < WORDS; i += 4) {
            const uint4 four = *(const uint4*)(p + 4 * i);
            word[i] = four.x, word[i + 1] = four.y, word[i + 2] = four.z, word[i + 3] = four.w;
        }
    }
};

template <int WORDS>
struct Words<8, WORDS> {
    static INLINE void load(const uint8* p, uint32 (&word)[WORDS]) {
        for (int i = 0; i < WORDS; i += 2) {
            const uint2 two = *(const uint2*)(p + 4 * i);
            word[i] = two.x, word[i + 1] = two.y;
        }
    }
};

// Even addresses: aligned words from at or just before p, shifted together. The two bytes before p, read when p is no
// multiple of four, are inside the buffer because the buffer's start is one; the last two bytes are loaded apart so
// that nothing past p + 4 * WORDS is touched.
template <int WORDS>
struct Words<2, WORDS> {
    static INLINE void load(const uint8* p, uint32 (&word)[WORDS]) {
        const uint32 odd = (uint32)((uint64)p & 2);
        const uint32* aligned = (const uint32*)(p - odd);
        uint32 next[WORDS + 1];
        for (int i = 0; i < WORDS; ++i) next[i] = aligned[i];
        next[WORDS] = *(const uint16*)(p + 4 * WORDS - 2);
        for (int i = 0; i < WORDS; ++i) word[i] = __funnelshift_r(next[i], next[i + 1], 8 * odd);
    }
};

INLINE float half_at(const uint8* p) {
    return half_to_float(*(const uint16*)p);
}

// Subtract a constant of at most 128 from each of four bytes that are below 128, without borrowing between them.
INLINE uint32 subtract_bytes(uint32 bytes, uint32 each) {
    return ((bytes | 0x80808080u) - each * 0x01010101u) ^ 0x80808080u;
}

// Bits 0..3 to bit 4 of bytes 0..3.
INLINE uint32 fifth_bits(uint32 four) {
    return ((four & 15u) * 0x02040810u) & 0x10101010u;
}

INLINE uint32 low_nibbles(uint32 word) {
    return word & 0x0f0f0f0fu;
}

INLINE uint32 high_nibbles(uint32 word) {
    return (word >> 4) & 0x0f0f0f0fu;
}

// The non-linear table of the IQ4 types at four nibbles of the low 16 bits.
INLINE uint32 four_levels(uint32 nibbles) {
    const uint32 low = __byte_perm(0xbfad9881u, 0xf6eaddcfu, nibbles & 0x7777u);
    const uint32 high = __byte_perm(0x26190d01u, 0x71594535u, nibbles & 0x7777u);
    return __byte_perm(low, high, 0x3210u | ((nibbles & 0x8888u) >> 1));
}

INLINE void levels(uint32 word, uint32& low, uint32& high) {
    const uint32 first = four_levels(word), second = four_levels(word >> 16);
    low = __byte_perm(first, second, 0x6420u);
    high = __byte_perm(first, second, 0x7531u);
}

template <int QUAD_COUNT, int RUN_LENGTH>
struct Slice {
    uint32 quad[QUAD_COUNT];
    float scale[QUAD_COUNT / RUN_LENGTH];
    float offset[QUAD_COUNT / RUN_LENGTH];
};

template <int ELEMENTS_, int BYTES_, int QUADS_, int RUN_, bool HAS_OFFSET_>
struct Layout {
    static const int ELEMENTS = ELEMENTS_, BYTES = BYTES_, QUADS = QUADS_, RUN = RUN_;
    static const int SLICES = ELEMENTS / (4 * QUADS);
    static const bool HAS_OFFSET = HAS_OFFSET_;
    typedef Slice<QUADS, RUN> Slice_;
};

// 32 weights: the low nibbles of 16 bytes, then the high ones.
struct HalvesOf32 {
    static INLINE int position(int, int quad) {
        return 4 * quad;
    }
};

struct Q4_0 : Layout<32, 18, 8, 8, false>, HalvesOf32 {
    static INLINE void decode(const uint8* block, int, Slice_& slice) {
        uint32 word[4];
        Words<2, 4>::load(block + 2, word);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = subtract_bytes(low_nibbles(word[i]), 8);
            slice.quad[4 + i] = subtract_bytes(high_nibbles(word[i]), 8);
        }
        slice.scale[0] = half_at(block);
    }
};

struct Q4_1 : Layout<32, 20, 8, 8, true>, HalvesOf32 {
    static INLINE void decode(const uint8* block, int, Slice_& slice) {
        uint32 word[5];
        Words<4, 5>::load(block, word);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = low_nibbles(word[1 + i]);
            slice.quad[4 + i] = high_nibbles(word[1 + i]);
        }
        slice.scale[0] = low_half(word[0]);
        slice.offset[0] = high_half(word[0]);
    }
};

struct Q5_0 : Layout<32, 22, 8, 8, false>, HalvesOf32 {
    static INLINE void decode(const uint8* block, int, Slice_& slice) {
        uint32 word[5];
        Words<2, 5>::load(block + 2, word);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = subtract_bytes(low_nibbles(word[1 + i]) | fifth_bits(word[0] >> 4 * i), 16);
            slice.quad[4 + i] = subtract_bytes(high_nibbles(word[1 + i]) | fifth_bits(word[0] >> (16 + 4 * i)), 16);
        }
        slice.scale[0] = half_at(block);
    }
};

struct Q5_1 : Layout<32, 24, 8, 8, true>, HalvesOf32 {
    static INLINE void decode(const uint8* block, int, Slice_& slice) {
        uint32 word[6];
        Words<8, 6>::load(block, word);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = low_nibbles(word[2 + i]) | fifth_bits(word[1] >> 4 * i);
            slice.quad[4 + i] = high_nibbles(word[2 + i]) | fifth_bits(word[1] >> (16 + 4 * i));
        }
        slice.scale[0] = low_half(word[0]);
        slice.offset[0] = high_half(word[0]);
    }
};

struct Q8_0 : Layout<32, 34, 4, 4, false> {
    static INLINE int position(int slice, int quad) {
        return 16 * slice + 4 * quad;
    }
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        Words<2, 4>::load(block + 2 + 16 * index, slice.quad);
        slice.scale[0] = half_at(block);
    }
};

// 128 weights from 32 bytes: byte l holds weights l, l + 32, l + 64 and l + 96 (Q2_K, Q3_K; Q6_K likewise).
// A slice takes eight bytes, so its quads come in pairs that share a group of 16.
struct CrumbsOf128 {
    static INLINE int position(int slice, int quad) {
        return 128 * (slice / 4) + 32 * (quad / 2) + 8 * (slice % 4) + 4 * (quad % 2);
    }
};

struct Q2_K : Layout<256, 84, 8, 2, true>, CrumbsOf128 {
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        uint32 word[2];
        Words<4, 2>::load(block + 16 + 8 * index, word);
        const uint32 factors = *(const uint32*)(block + 80);
        const uint8* scales = block + 8 * (index / 4) + (index % 4) / 2;
        for (int run = 0; run < 4; ++run) {
            slice.quad[2 * run] = (word[0] >> 2 * run) & 0x03030303u;
            slice.quad[2 * run + 1] = (word[1] >> 2 * run) & 0x03030303u;
            slice.scale[run] = low_half(factors) * (float)(scales[2 * run] & 15);
            slice.offset[run] = -(high_half(factors) * (float)(scales[2 * run] >> 4));
        }
    }
};

struct Q3_K : Layout<256, 110, 8, 2, false>, CrumbsOf128 {
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        uint32 low[2], high[2];
        Words<2, 2>::load(block + 32 + 8 * index, low);
        Words<2, 2>::load(block + 8 * (index % 4), high);
        const int upper = index / 4;
        const float d = half_at(block + 108);
        for (int run = 0; run < 4; ++run) {
            for (int i = 0; i < 2; ++i) {
                const uint32 third = (high[i] >> (4 * upper + run)) & 0x01010101u;
                slice.quad[2 * run + i] = subtract_bytes(((low[i] >> 2 * run) & 0x03030303u) | third << 2, 4);
            }
            const int group = 2 * run + (index % 4) / 2;
            const int nibble = (block[96 + group] >> 4 * upper) & 15;
            const int crumb = (block[104 + group % 4] >> 2 * (2 * upper + group / 4)) & 3;
            slice.scale[run] = d * (float)((nibble | crumb << 4) - 32);
        }
    }
};

// Slice of a Q4_K or Q5_K block: 16 bytes whose low nibbles belong to one group of 32 and high nibbles to the next.
struct NibblesOf64 {
    static INLINE int position(int slice, int quad) {
        return 64 * (slice / 2) + 16 * (slice % 2) + 32 * (quad / 4) + 4 * (quad % 4);
    }
    // Scales and minimums of the two groups, from the first 16 bytes of the block: d, dmin, 12 packed bytes.
    template <class SliceType>
    static INLINE void scales(const uint32 (&header)[4], int index, SliceType& slice) {
        const int chunk = index / 2, shift = 16 * (chunk % 2);
        const uint32 first = header[1] >> shift, second = header[2] >> shift, rest = header[3] >> shift;
        const uint32 scale = chunk < 2 ? first & 0x3f3fu : (rest & 0x0f0fu) | ((first >> 2) & 0x3030u);
        const uint32 minimum = chunk < 2 ? second & 0x3f3fu : ((rest >> 4) & 0x0f0fu) | ((second >> 2) & 0x3030u);
        const float d = low_half(header[0]), dmin = high_half(header[0]);
        slice.scale[0] = d * (float)(scale & 255u);
        slice.scale[1] = d * (float)(scale >> 8);
        slice.offset[0] = -(dmin * (float)(minimum & 255u));
        slice.offset[1] = -(dmin * (float)(minimum >> 8));
    }
};

struct Q4_K : Layout<256, 144, 8, 4, true>, NibblesOf64 {
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        uint32 header[4], word[4];
        Words<16, 4>::load(block, header);
        Words<16, 4>::load(block + 16 + 16 * index, word);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = low_nibbles(word[i]);
            slice.quad[4 + i] = high_nibbles(word[i]);
        }
        scales(header, index, slice);
    }
};

struct Q5_K : Layout<256, 176, 8, 4, true>, NibblesOf64 {
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        uint32 header[4], word[4], fifth[4];
        Words<16, 4>::load(block, header);
        Words<16, 4>::load(block + 16 + 16 * (index % 2), fifth);
        Words<16, 4>::load(block + 48 + 16 * index, word);
        const int bit = 2 * (index / 2);
        for (int i = 0; i < 4; ++i) {
            slice.quad[i] = low_nibbles(word[i]) | ((fifth[i] >> bit) & 0x01010101u) << 4;
            slice.quad[4 + i] = high_nibbles(word[i]) | ((fifth[i] >> (bit + 1)) & 0x01010101u) << 4;
        }
        scales(header, index, slice);
    }
};

struct Q6_K : Layout<256, 210, 8, 2, false>, CrumbsOf128 {
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        const int upper = index / 4, start = 8 * (index % 4);
        uint32 near[2], far[2], high[2];
        Words<2, 2>::load(block + 64 * upper + start, near);
        Words<2, 2>::load(block + 64 * upper + 32 + start, far);
        Words<2, 2>::load(block + 128 + 32 * upper + start, high);
        for (int i = 0; i < 2; ++i) {
            slice.quad[i] = low_nibbles(near[i]) | (high[i] & 0x03030303u) << 4;
            slice.quad[2 + i] = low_nibbles(far[i]) | (high[i] & 0x0c0c0c0cu) << 2;
            slice.quad[4 + i] = high_nibbles(near[i]) | (high[i] & 0x30303030u);
            slice.quad[6 + i] = high_nibbles(far[i]) | ((high[i] >> 2) & 0x30303030u);
        }
        const float d = half_at(block + 208);
        const int8* scales = (const int8*)(block + 192) + 8 * upper + (index % 4) / 2;
        for (int run = 0; run < 4; ++run) slice.scale[run] = d * (float)scales[2 * run];
        for (int quad = 0; quad < 8; ++quad) slice.quad[quad] = subtract_bytes(slice.quad[quad], 32);
    }
};

struct IQ4_NL : Layout<32, 18, 8, 8, false>, HalvesOf32 {
    static INLINE void decode(const uint8* block, int, Slice_& slice) {
        uint32 word[4];
        Words<2, 4>::load(block + 2, word);
        for (int i = 0; i < 4; ++i) levels(word[i], slice.quad[i], slice.quad[4 + i]);
        slice.scale[0] = half_at(block);
    }
};

struct IQ4_XS : Layout<256, 136, 8, 8, false> {
    static INLINE int position(int slice, int quad) {
        return 32 * slice + 4 * quad;
    }
    static INLINE void decode(const uint8* block, int index, Slice_& slice) {
        uint32 header[2], word[4];
        Words<8, 2>::load(block, header);
        Words<8, 4>::load(block + 8 + 16 * index, word);
        for (int i = 0; i < 4; ++i) levels(word[i], slice.quad[i], slice.quad[4 + i]);
        const int scale = ((header[1] >> 4 * index) & 15) | ((header[0] >> (16 + 2 * index)) & 3) << 4;
        slice.scale[0] = low_half(header[0]) * (float)(scale - 32);
    }
};

// Byte i of a quad as a float, by placing it in the last mantissa byte of 2^23: no integer-to-float unit involved.
// `biased` is the quad with 128 added to each byte.
INLINE float biased_byte(uint32 biased, int i) {
    return __uint_as_float(__byte_perm(biased, 0x4b000000u, 0x7440u + i)) - 8388736.0f;
}

INLINE float4 quad_values(uint32 quad) {
    const uint32 biased = quad ^ 0x80808080u;
    return make_float4(biased_byte(biased, 0), biased_byte(biased, 1), biased_byte(biased, 2), biased_byte(biased, 3));
}
