// y = x W^T + bias with W in GGUF's blocks as they lie in the file, and x rounded to 8 bits in groups of 32 columns
// that share a scale (the largest magnitude / 127). Products of codes are summed as integers within a group; scales
// are applied in float32.
//
// One row of x: each row of W is decoded in registers and summed along its columns. Several: a few rows of W at a time
// become a panel, in which ROWS rows lie beside each other so that a lane of a vector is a row, and COLUMNS rows of x
// are multiplied with it at once. A panel serves all of x and is forgotten.
#include "linear.h"

#pragma STDC FP_CONTRACT ON

#if defined(__AVX512VNNI__)
enum { ROWS = 16, COLUMNS = 8 };
#else
enum { ROWS = 8, COLUMNS = 4 };
#endif

enum { TILE_BYTES = 192 << 10 };  // of panels decoded at a time: they are to stay in a core's second cache
enum { PAGE_BYTES = 4096 };

typedef int32_t Lanes __attribute__((vector_size(4 * ROWS)));
typedef float FloatLanes __attribute__((vector_size(4 * ROWS)));
typedef uint8_t ByteLanes __attribute__((vector_size(4 * ROWS)));

// Where unsigned codes are multiplied with signed ones only, signed codes are kept 128 higher.
#if defined(__AVX512VNNI__)
enum { RAISED = 128 };
#else
enum { RAISED = 0 };
#endif

INLINE int stored_offset(Type type) { return is_signed(type) ? RAISED : code_offset(type); }
INLINE Bytes stored_codes(Type type, const uint8_t *span, int g) {
    const Bytes codes = span_codes(type, span, g);
    return RAISED != 0 && is_signed(type) ? codes ^ 128 : codes;
}
INLINE int parts(Type type) { return is_fine(type) ? 2 : 1; }

// Groups of a span whose codes lie side by side in a row of x: `apart` is the difference of their numbers, 1, 2 or 4.
#if defined(__AVX512VNNI__)
INLINE int apart(Type type) {
    return type == Q4_K || type == Q5_K ? 2 : type == Q2_K || type == Q3_K ? 4 : 1;
}
#else
INLINE int apart(Type type) {
    (void)type;
    return 1;
}
#endif
INLINE int64_t place(Type type, int64_t g) {
    const int64_t bit = apart(type);
    return (g & ~(2 * bit - 1)) | (g & (bit - 1)) << 1 | (g & bit ? 1 : 0);
}

// A row of x: its codes, the scale of each group, and for each group (fine: half group) the sum of its numbers where
// the type of W has minimums, else the sum of its codes times minus the offset. Padded to whole spans.
typedef struct {
    int64_t spans;  // of 256 columns, the last perhaps of fewer
    int64_t scales, sums, bytes;  // offsets, and the size of a row
} Layout;

static Layout layout_of(Type type, int64_t columns) {
    const int64_t spans = (columns + SPAN - 1) / SPAN, scales = spans * SPAN, sums = scales + spans * 8 * 4;
    return (Layout){spans, scales, sums, sums + spans * 8 * 4 * (is_fine(type) ? 2 : 1)};
}

INLINE void round_group(Type type, const float *x, uint8_t *codes, float *scale, uint8_t *sums) {
    int32_t largest = 0;  // the bits of magnitudes order like the magnitudes, NaN above all
    for (int i = 0; i < GROUP; ++i) {
        const int32_t magnitude = LOAD(int32_t, x + i) & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    const float step = LOAD(float, &largest) / 127;
    *scale = step;
    int8_t rounded[GROUP];
    if (step > 0 && step <= 3e38f) {
        for (int i = 0; i < GROUP; ++i) rounded[i] = (int8_t)(int32_t)__builtin_rintf(x[i] / step);
    } else {
        memset(rounded, 0, GROUP);
        if (step != 0) *scale = __builtin_nanf("");
    }
    memcpy(codes, rounded, GROUP);
    for (int part = 0; part < parts(type); ++part) {
        const int count = GROUP / parts(type);
        int32_t sum = 0;
        for (int i = 0; i < count; ++i) sum += rounded[part * count + i];
        if (has_minimum(type)) STORE(sums + 4 * part, (float)sum * *scale);
        else STORE(sums + 4 * part, -stored_offset(type) * sum);
    }
}

INLINE void round_row(Type type, Type dtype, const uint8_t *x, int64_t columns, uint8_t *row) {
    const Layout layout = layout_of(type, columns);
    const int64_t groups = columns / GROUP;
    memset(row + groups / 8 * SPAN, 0, (size_t)(layout.scales - groups / 8 * SPAN));
    memset(row + layout.scales + 4 * groups, 0, (size_t)(layout.bytes - layout.scales - 4 * groups));
    for (int64_t g = 0; g < groups; ++g) {
        float values[GROUP];
        for (int i = 0; i < GROUP; ++i) values[i] = float_at(dtype, x, g * GROUP + i);
        round_group(type, values, row + place(type, g) * GROUP, (float *)(row + layout.scales) + g,
                    row + layout.sums + 4 * parts(type) * g);
    }
}

// Sums of four products of neighbours, in each of eight lanes.
INLINE Words dot(Type type, Bytes codes, Bytes x) {
    (void)type;
#if defined(__AVX512VNNI__)
    return (Words)_mm256_dpbusd_epi32(_mm256_setzero_si256(), (__m256i)codes, (__m256i)x);
#elif defined(__AVX2__)
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = (__m256i)codes, b = (__m256i)x;
    if (is_signed(type)) b = _mm256_sign_epi8(b, a), a = _mm256_abs_epi8(a);
    return (Words)_mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones);
#elif defined(__SSSE3__)
    const __m128i ones = _mm_set1_epi16(1);
    Words sums;
    for (int i = 0; i < 2; ++i) {
        __m128i a = _mm_loadu_si128((const __m128i *)&codes + i), b = _mm_loadu_si128((const __m128i *)&x + i);
        if (is_signed(type)) b = _mm_sign_epi8(b, a), a = _mm_abs_epi8(a);
        STORE((char *)&sums + 16 * i, _mm_madd_epi16(_mm_maddubs_epi16(a, b), ones));
    }
    return sums;
#elif defined(__ARM_FEATURE_DOTPROD)
    Words sums;
    for (int i = 0; i < 2; ++i) {
        const int8x16_t a = vld1q_s8((const int8_t *)&codes + 16 * i), b = vld1q_s8((const int8_t *)&x + 16 * i);
        vst1q_s32((int32_t *)&sums + 4 * i, vdotq_s32(vdupq_n_s32(0), a, b));
    }
    return sums;
#else
    Words sums = {0};
    for (int i = 0; i < GROUP; ++i) sums[i / 4] += (int8_t)codes[i] * (int8_t)x[i];
    return sums;
#endif
}

INLINE Floats pair(float first, float last) { return (Floats){first, first, first, first, last, last, last, last}; }
// For code in which the number of a group has to be a constant.
#define EACH_GROUP(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)

INLINE Floats16 twice_each(Floats x) {
    return __builtin_shufflevector(x, x, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
}

INLINE void add_group(Type type, const uint8_t *weight, const uint8_t *codes, Floats16 factor, int g,
                      Floats total[2]) {
    const Words products = dot(type, stored_codes(type, weight, g), LOAD(Bytes, codes + GROUP * place(type, g)));
    const Floats each = is_fine(type) ? pair(factor[2 * g], factor[2 * g + 1]) : pair(factor[g], factor[g]);
    total[g & 1] += __builtin_convertvector(products, Floats) * each;
}

// Adds the products of `groups` groups of a span of W with those of a row of x to `total`.
INLINE void add_span(Type type, const uint8_t *weight, const uint8_t *codes, const float *scale, const uint8_t *sums,
                     int groups, Floats total[2]) {
    const Scales scales = span_scales(type, weight, groups);
    const Floats step = LOAD(Floats, scale);
    const Floats16 factor = scales.scale * (is_fine(type) ? twice_each(step) : joined(step, step));
    for (int part = 0; part < parts(type); ++part) {
        const Floats here = part ? high_half(factor) : low_half(factor);
        const Floats minimum = part ? high_half(scales.minimum) : low_half(scales.minimum);
        if (has_minimum(type)) total[part] -= minimum * LOAD(Floats, sums + 32 * part);
        else if (stored_offset(type)) total[part] += here * __builtin_convertvector(LOAD(Words, sums + 32 * part), Floats);
    }
#define ADD(g) \
    if (g < groups) add_group(type, weight, codes, factor, g, total);
    EACH_GROUP(ADD)
#undef ADD
}

#if defined(__AVX512VNNI__)
typedef uint8_t Bytes64 __attribute__((vector_size(64)));
typedef uint16_t Halves32 __attribute__((vector_size(64)));
typedef int32_t Words16 __attribute__((vector_size(64)));

INLINE Bytes64 twice(const uint8_t *p) { return (Bytes64)_mm512_broadcast_i64x4(LOAD(__m256i, p)); }
INLINE Bytes64 byte_each(int first, int last) {
    return (Bytes64)_mm512_inserti64x4(_mm512_set1_epi8((char)first), _mm256_set1_epi8((char)last), 1);
}
INLINE Halves32 half_each(int first, int last) {
    return (Halves32)_mm512_inserti64x4(_mm512_set1_epi16((short)first), _mm256_set1_epi16((short)last), 1);
}

// The stored codes of group `g` of a block of a K type and of the group `apart` from it.
INLINE Bytes64 two_groups(Type type, const uint8_t *block, int g) {
    const int half = g >> 2, quarter = g & 3, nibble = 4 * (g & 1);
    switch (type) {
        case Q2_K: return LOAD(Bytes64, block + 16) >> (uint8_t)(2 * g) & 3;
        case Q3_K:
            return (LOAD(Bytes64, block + 32) >> (uint8_t)(2 * g) & 3) |
                   ((Bytes64)((twice(block) & byte_each(1 << g, 16 << g)) != 0) & 4);
        case Q4_K: return LOAD(Bytes64, block + 16 + 64 * half) >> (uint8_t)nibble & 15;
        case Q5_K:
            return (LOAD(Bytes64, block + 48 + 64 * half) >> (uint8_t)nibble & 15) |
                   ((Bytes64)((twice(block + 16) & byte_each(1 << g, 4 << g)) != 0) & 16);
        case Q6_K: {
            const Halves32 high = (Halves32)twice(block + 128 + 32 * half);
            return (LOAD(Bytes64, block + 64 * half) >> (uint8_t)(2 * quarter) & 15) |
                   ((Bytes64)(quarter ? high >> half_each(0, 2) : high << half_each(4, 2)) & 48);
        }
        case IQ4_XS: {
            const __m512i packed = _mm512_castsi256_si512(LOAD(__m256i, block + 8 + 16 * g));
            const __m512i each = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3), packed);
            const __m512i codes = _mm512_srlv_epi64(each, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
            const Bytes16 levels = iq4_table() ^ 128;
            return (Bytes64)_mm512_shuffle_epi8(_mm512_broadcast_i32x4((__m128i)levels), (__m512i)((Bytes64)codes & 15));
        }
        default: return (Bytes64){0};
    }
}

INLINE void add_two_groups(Type type, const uint8_t *block, const uint8_t *codes, Floats16 factor, int k,
                           Floats16 total[2]) {
    const int bit = apart(type), g = (k & ~(bit - 1)) << 1 | (k & (bit - 1)), other = g + bit;
    const __m512i products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), (__m512i)two_groups(type, block, g),
                                                 _mm512_loadu_si512(codes + 2 * GROUP * k));
    const int fine = is_fine(type), a = fine ? 2 * g : g, b = fine ? 2 * other : other;
    const __m512i lanes = _mm512_setr_epi32(a, a, a, a, a + fine, a + fine, a + fine, a + fine, b, b, b, b, b + fine,
                                            b + fine, b + fine, b + fine);
    total[k & 1] += (Floats16)_mm512_cvtepi32_ps(products) * (Floats16)_mm512_permutexvar_ps(lanes, (__m512)factor);
}

// The same of a block of a K type, 64 products at a time.
INLINE void add_block(Type type, const uint8_t *block, const uint8_t *codes, const float *scale, const uint8_t *sums,
                      Floats16 total[2]) {
    const Scales scales = span_scales(type, block, 8);
    const Floats step = LOAD(Floats, scale), none = {0};
    const Floats16 factor =
        is_fine(type) ? scales.scale * twice_each(step) : joined(low_half(scales.scale) * step, none);
    if (is_fine(type)) {
        if (has_minimum(type)) total[0] -= scales.minimum * LOAD(Floats16, sums);
        else total[0] += factor * __builtin_convertvector(LOAD(Words16, sums), Floats16);
    } else if (has_minimum(type)) {
        total[0] -= joined(low_half(scales.minimum) * LOAD(Floats, sums), none);
    } else {
        total[0] += joined(low_half(factor) * __builtin_convertvector(LOAD(Words, sums), Floats), none);
    }
    for (int k = 0; k < 4; ++k) add_two_groups(type, block, codes, factor, k, total);
}
#endif

// Asks early for the block of a K type that lies a page further on: the processor's own prefetch ends with a page.
INLINE void fetch_ahead(Type type, const uint8_t *block) {
    if (block_weights(type) != SPAN) return;
    for (int line = 0; line < block_bytes(type); line += 64) __builtin_prefetch(block + PAGE_BYTES + line);
}

INLINE float times_row(Type type, const uint8_t *weight, const uint8_t *x, int64_t columns, Layout layout) {
    const float *scale = (const float *)(x + layout.scales);
    const uint8_t *sums = x + layout.sums;
    const int64_t whole = columns / SPAN;
    const int rest = (int)(columns % SPAN) / GROUP;
#if defined(__AVX512VNNI__)
    if (block_weights(type) == SPAN) {
        Floats16 sum[2] = {0};
        for (int64_t s = 0; s < whole; ++s) {
            const uint8_t *block = weight + s * span_bytes(type);
            fetch_ahead(type, block);
            add_block(type, block, x + s * SPAN, scale + 8 * s, sums + 32 * parts(type) * s, sum);
        }
        return _mm512_reduce_add_ps((__m512)(sum[0] + sum[1]));
    }
#endif
    Floats total[2] = {0};
    for (int64_t s = 0; s < whole; ++s) {
        const uint8_t *span = weight + s * span_bytes(type);
        fetch_ahead(type, span);
        add_span(type, span, x + s * SPAN, scale + 8 * s, sums + 32 * parts(type) * s, 8, total);
    }
    if (block_weights(type) == GROUP && rest) {
        add_span(type, weight + whole * span_bytes(type), x + whole * SPAN, scale + 8 * whole,
                 sums + 32 * parts(type) * whole, rest, total);
    }
    return sum_of(total[0] + total[1]);
}

// 8 x 8 words turned about their diagonal.
INLINE void turn(Words rows[8]) {
    Words pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {
        pairs[i] = __builtin_shufflevector(rows[i], rows[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        pairs[i + 1] = __builtin_shufflevector(rows[i], rows[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4) {
        fours[i] = __builtin_shufflevector(pairs[i], pairs[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        fours[i + 1] = __builtin_shufflevector(pairs[i], pairs[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        fours[i + 2] = __builtin_shufflevector(pairs[i + 1], pairs[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        fours[i + 3] = __builtin_shufflevector(pairs[i + 1], pairs[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < 4; ++i) {
        rows[i] = __builtin_shufflevector(fours[i], fours[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        rows[i + 4] = __builtin_shufflevector(fours[i], fours[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

// A panel has, for each group of columns: eight vectors of codes, four neighbouring columns of every row; a vector of
// scales, or two; and as many of minimums where the type has them.
INLINE int64_t panel_group_bytes(Type type) {
    return 4 * ROWS * (8 + parts(type) * (has_minimum(type) ? 2 : 1));
}

INLINE void put_group(Type type, const uint8_t *const row[8], Words scale[2][8], Words minimum[2][8], int g,
                      uint8_t *into) {
    Words codes[8];
    for (int r = 0; r < 8; ++r) codes[r] = (Words)stored_codes(type, row[r], g);
    turn(codes);
    for (int k = 0; k < 8; ++k) STORE(into + 4 * ROWS * k, codes[k]);
    for (int part = 0; part < parts(type); ++part) {
        const int from = parts(type) * g + part;
        STORE(into + 4 * ROWS * (8 + part), scale[from >> 3][from & 7]);
        if (has_minimum(type)) STORE(into + 4 * ROWS * (8 + parts(type) + part), minimum[from >> 3][from & 7]);
    }
}

// Turns `columns` of up to ROWS rows of W, of which `rows` are there, into a panel.
INLINE void make_panel(Type type, const uint8_t *weight, int64_t row_bytes, int rows, int64_t columns, uint8_t *panel) {
    for (int64_t first = 0; first < columns; first += SPAN) {
        const int whole = block_weights(type) == SPAN || columns - first >= SPAN;
        const int groups = whole ? 8 : (int)(columns - first) / GROUP;
        const int64_t offset = first / SPAN * span_bytes(type);
        uint8_t *into = panel + first / GROUP * panel_group_bytes(type);
        for (int eight = 0; eight < ROWS; eight += 8) {
            const uint8_t *row[8];
            Words scale[2][8], minimum[2][8];
            for (int r = 0; r < 8; ++r) {
                row[r] = weight + (eight + r < rows ? eight + r : rows - 1) * row_bytes + offset;
                const Scales scales = span_scales(type, row[r], groups);
                scale[0][r] = (Words)low_half(scales.scale), scale[1][r] = (Words)high_half(scales.scale);
                minimum[0][r] = (Words)low_half(scales.minimum), minimum[1][r] = (Words)high_half(scales.minimum);
            }
            for (int part = 0; part < parts(type); ++part) {
                turn(scale[part]);
                if (has_minimum(type)) turn(minimum[part]);
            }
#define PUT(g) \
    if (g < groups) put_group(type, row, scale, minimum, g, into + g * panel_group_bytes(type) + 4 * eight);
            EACH_GROUP(PUT)
#undef PUT
        }
    }
}

// sum[c] = the products of `steps` vectors of codes with 4 * steps codes of each row of x.
INLINE void products(Type type, const uint8_t *codes, const uint8_t *x[COLUMNS], int64_t offset, int steps,
                     Lanes sum[COLUMNS]) {
    (void)type;
#if defined(__AVX512VNNI__)
    for (int c = 0; c < COLUMNS; ++c) sum[c] = (Lanes){0};
    for (int k = 0; k < steps; ++k) {
        const __m512i each = _mm512_loadu_si512(codes + 4 * ROWS * k);
        for (int c = 0; c < COLUMNS; ++c) {
            const __m512i four = _mm512_set1_epi32(LOAD(int32_t, x[c] + offset + 4 * k));
            sum[c] = (Lanes)_mm512_dpbusd_epi32((__m512i)sum[c], each, four);
        }
    }
#elif defined(__AVX2__)
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i narrow[COLUMNS];
    const int fitting = is_signed(type) ? 1 : 1 << (7 - code_bits(type));  // sums of two products in 16 bits
    const int run = fitting < steps ? fitting : steps;
    for (int k = 0; k < steps; ++k) {
        const __m256i each = (__m256i)LOAD(Bytes, codes + 4 * ROWS * k);
        const __m256i magnitude = is_signed(type) ? _mm256_abs_epi8(each) : each;
        for (int c = 0; c < COLUMNS; ++c) {
            __m256i four = _mm256_set1_epi32(LOAD(int32_t, x[c] + offset + 4 * k));
            if (is_signed(type)) four = _mm256_sign_epi8(four, each);
            const __m256i two = _mm256_maddubs_epi16(magnitude, four);
            narrow[c] = k % run ? _mm256_add_epi16(narrow[c], two) : two;
            if (k % run == run - 1) {
                const __m256i wide = _mm256_madd_epi16(narrow[c], ones);
                sum[c] = k < run ? (Lanes)wide : sum[c] + (Lanes)wide;
            }
        }
    }
#else
    for (int c = 0; c < COLUMNS; ++c) sum[c] = (Lanes){0};
    for (int k = 0; k < steps; ++k) {
        const Bytes each = LOAD(Bytes, codes + 4 * ROWS * k);
        for (int c = 0; c < COLUMNS; ++c) {
            const Words four = (Words){0} + LOAD(int32_t, x[c] + offset + 4 * k);
            sum[c] += (Lanes)dot(type, each, (Bytes)four);
        }
    }
#endif
}

INLINE FloatLanes all_lanes(float value) { return (FloatLanes){0} + value; }

// The product of a panel with COLUMNS rows of x.
INLINE void times_panel(Type type, const uint8_t *panel, int64_t columns, Layout layout, const uint8_t *x[COLUMNS],
                        FloatLanes total[COLUMNS]) {
    for (int c = 0; c < COLUMNS; ++c) total[c] = all_lanes(0);
    for (int64_t g = 0; g < columns / GROUP; ++g, panel += panel_group_bytes(type)) {
        for (int part = 0; part < parts(type); ++part) {
            const int steps = 8 / parts(type);
            const int64_t entry = layout.sums + 4 * (parts(type) * g + part);
            Lanes sum[COLUMNS];
            products(type, panel + 4 * ROWS * steps * part, x, GROUP * place(type, g) + 4 * steps * part, steps, sum);
            const FloatLanes scale = LOAD(FloatLanes, panel + 4 * ROWS * (8 + part));
            for (int c = 0; c < COLUMNS; ++c) {
                if (!has_minimum(type) && stored_offset(type)) sum[c] += LOAD(int32_t, x[c] + entry);
                const FloatLanes product = __builtin_convertvector(sum[c], FloatLanes) * scale;
                total[c] += product * LOAD(float, x[c] + layout.scales + 4 * g);
            }
            if (!has_minimum(type)) continue;
            const FloatLanes minimum = LOAD(FloatLanes, panel + 4 * ROWS * (8 + parts(type) + part));
            for (int c = 0; c < COLUMNS; ++c) total[c] -= minimum * LOAD(float, x[c] + entry);
        }
    }
}

typedef struct {
    Type dtype;  // of x, y and bias: F32, F16 or BF16
    const uint8_t *x, *weight, *bias;
    uint8_t *y;
    int64_t count, columns, outputs, row_bytes;
    Layout layout;
    uint8_t *rounded;  // x in 8 bits
    uint8_t *panels;   // of each thread
    int64_t panel_bytes, tile_panels;
} Product;

INLINE void store(const Product *p, int64_t row, int64_t output, const float *values, int count) {
    for (int i = 0; i < count; ++i) {
        const float bias = p->bias ? float_at(p->dtype, p->bias, output + i) : 0;
        store_float(p->dtype, p->y, row * p->outputs + output + i, values[i] + bias);
    }
}

// Work on rows of x.
INLINE void round_rows(Type type, const Product *p, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t row = first; row < last; ++row) {
        uint8_t *into = p->rounded + row * p->layout.bytes;
        const uint8_t *x = p->x + row * p->columns * float_bytes(p->dtype);
        if (p->dtype == F32) round_row(type, F32, x, p->columns, into);
        else if (p->dtype == F16) round_row(type, F16, x, p->columns, into);
        else round_row(type, BF16, x, p->columns, into);
    }
}

// Work on rows of W.
INLINE void one_row(Type type, const Product *p, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t output = first; output < last; ++output) {
        const float value = times_row(type, p->weight + output * p->row_bytes, p->rounded, p->columns, p->layout);
        store(p, 0, output, &value, 1);
    }
}

// Work on panels.
INLINE void many_rows(Type type, const Product *p, int64_t first, int64_t last, int thread) {
    uint8_t *panels = p->panels + thread * p->tile_panels * p->panel_bytes;
    for (int64_t tile = first; tile < last; tile += p->tile_panels) {
        const int64_t end = tile + p->tile_panels < last ? tile + p->tile_panels : last;
        for (int64_t panel = tile; panel < end; ++panel) {
            const int64_t output = panel * ROWS, left = p->outputs - output;
            make_panel(type, p->weight + output * p->row_bytes, p->row_bytes, left < ROWS ? (int)left : ROWS,
                       p->columns, panels + (panel - tile) * p->panel_bytes);
        }
        for (int64_t row = 0; row < p->count; row += COLUMNS) {
            const uint8_t *x[COLUMNS];
            for (int c = 0; c < COLUMNS; ++c) {
                x[c] = p->rounded + (row + c < p->count ? row + c : p->count - 1) * p->layout.bytes;
            }
            for (int64_t panel = tile; panel < end; ++panel) {
                const int64_t output = panel * ROWS, left = p->outputs - output;
                FloatLanes total[COLUMNS];
                times_panel(type, panels + (panel - tile) * p->panel_bytes, p->columns, p->layout, x, total);
                for (int c = 0; c < COLUMNS && row + c < p->count; ++c) {
                    store(p, row + c, output, (const float *)&total[c], left < ROWS ? (int)left : ROWS);
                }
            }
        }
    }
}

#define WORK(TYPE, NAME)                                                                 \
    static void NAME##_##TYPE(void *product, int64_t first, int64_t last, int thread) {  \
        NAME(TYPE, product, first, last, thread);                                        \
    }
#define WORKS(TYPE) WORK(TYPE, round_rows) WORK(TYPE, one_row) WORK(TYPE, many_rows)
EACH_BLOCK_TYPE(WORKS)

// y [count, outputs] = x [count, columns] W^T + bias, W `outputs` rows of blocks of `type`. x, y and bias (or NULL) are
// of `dtype` F32, F16 or BF16; columns are a multiple of 32 and of the type's block.
EXPORT int quantized_linear(const void *x, const void *weight, const void *bias, void *y, int64_t count,
                            int64_t columns, int64_t outputs, int32_t type, int32_t dtype, int32_t threads) {
    Product p = {.dtype = (Type)dtype, .x = x, .weight = weight, .bias = bias, .y = y};
    p.count = count, p.columns = columns, p.outputs = outputs;
    Work rounding, one, many;
    switch (type) {
#define CHOOSE(TYPE)                                                                        \
    case TYPE:                                                                              \
        rounding = round_rows_##TYPE, one = one_row_##TYPE, many = many_rows_##TYPE;        \
        p.layout = layout_of(TYPE, columns);                                                \
        p.row_bytes = columns / block_weights(TYPE) * block_bytes(TYPE);                    \
        p.panel_bytes = columns / GROUP * panel_group_bytes(TYPE);                          \
        break;
        EACH_BLOCK_TYPE(CHOOSE)
        default: return DONE;
    }
    if (!count || !outputs) return DONE;
    const int64_t panel_count = (outputs + ROWS - 1) / ROWS, fair = panel_count / (2 * threads);
    p.tile_panels = TILE_BYTES / p.panel_bytes < fair ? TILE_BYTES / p.panel_bytes : fair;
    if (p.tile_panels < 1) p.tile_panels = 1;
    const int64_t panels = count > 1 ? threads * p.tile_panels * p.panel_bytes : 0;
    p.rounded = allocate((size_t)(count * p.layout.bytes + panels));
    if (!p.rounded) return NO_MEMORY;
    p.panels = p.rounded + count * p.layout.bytes;
    int result = parallel(rounding, &p, count, 16, threads);
    if (result == DONE) {
        result = count == 1 ? parallel(one, &p, outputs, outputs / (8 * threads) + 1, threads)
                            : parallel(many, &p, panel_count, p.tile_panels, threads);
    }
    release(p.rounded);
    return result;
}

// One row of x in float32 (p->rounded) with rows of floats.
INLINE void float_rows(Type type, const Product *p, int64_t first, int64_t last, int thread) {
    (void)thread;
    const float *x = (const float *)p->rounded;
    for (int64_t output = first; output < last; ++output) {
        const uint8_t *weight = p->weight + output * p->row_bytes;
        Floats totals[4] = {0};
        int64_t i = 0;
        for (; i + 32 <= p->columns; i += 32) {
            for (int j = 0; j < 4; ++j) totals[j] += floats_at(type, weight, i + 8 * j) * LOAD(Floats, x + i + 8 * j);
        }
        float value = sum_of((totals[0] + totals[1]) + (totals[2] + totals[3]));
        for (; i < p->columns; ++i) value += float_at(type, weight, i) * x[i];
        store(p, 0, output, &value, 1);
    }
}
WORK(F32, float_rows)
WORK(F16, float_rows)
WORK(BF16, float_rows)
INLINE Work float_work(Type type) { return type == F32 ? float_rows_F32 : type == F16 ? float_rows_F16 : float_rows_BF16; }

// y [outputs] = x [columns] W^T + bias, W `outputs` rows of floats of `type`, multiplied in float32. x, y and bias (or
// NULL) are of `dtype`.
EXPORT int float_row(const void *x, const void *weight, const void *bias, void *y, int64_t columns, int64_t outputs,
                     int32_t type, int32_t dtype, int32_t threads) {
    Product p = {.dtype = (Type)dtype, .x = x, .weight = weight, .bias = bias, .y = y};
    p.count = 1, p.columns = columns, p.outputs = outputs, p.row_bytes = columns * float_bytes((Type)type);
    p.rounded = allocate((size_t)columns * 4);
    if (!p.rounded) return NO_MEMORY;
    for (int64_t i = 0; i < columns; ++i) store_float(F32, p.rounded, i, float_at(p.dtype, p.x, i));
    const int result = parallel(float_work((Type)type), &p, outputs, outputs / (8 * threads) + 1, threads);
    release(p.rounded);
    return result;
}

int64_t rounded_bytes(Type type, int64_t columns) {
    return block_bytes(type) ? layout_of(type, columns).bytes : 4 * columns;
}

void round_floats(Type type, const float *x, int64_t columns, uint8_t *rounded) {
    switch (type) {
#define ROUND(TYPE) \
    case TYPE: round_row(TYPE, F32, (const uint8_t *)x, columns, rounded); break;
        EACH_BLOCK_TYPE(ROUND)
        default: memcpy(rounded, x, (size_t)columns * 4);
    }
}

void multiply_rows(Type type, const uint8_t *weight, const uint8_t *rounded, int64_t columns, int64_t first,
                   int64_t last, float *y) {
    Product p = {.dtype = F32, .weight = weight, .y = (uint8_t *)y, .count = 1, .columns = columns};
    p.rounded = (uint8_t *)rounded;
    switch (type) {
#define MULTIPLY(TYPE)                                                   \
    case TYPE:                                                           \
        p.layout = layout_of(TYPE, columns);                             \
        p.row_bytes = columns / block_weights(TYPE) * block_bytes(TYPE); \
        one_row_##TYPE(&p, first, last, 0);                              \
        break;
        EACH_BLOCK_TYPE(MULTIPLY)
        default:
            p.row_bytes = columns * float_bytes(type);
            float_work(type)(&p, first, last, 0);
    }
}
