// GGUF's blocks as numbers, in float32 in the order in which ggml computes them, then cast: equal to gguf-py's in all
// bits (but NaN's payload). Built without contraction to fused products (kernels/build.py).
#include "blocks.h"

typedef struct {
    const uint8_t *blocks;
    uint8_t *values;
    Type dtype;
    int64_t count;
} Numbers;

typedef int8_t Signed __attribute__((vector_size(32)));

INLINE void span_values(Type type, const uint8_t *span, int groups, float values[SPAN]) {
    const Scales scales = span_scales(type, span, groups);
    const int run = is_fine(type) ? GROUP / 2 : GROUP;
    for (int g = 0; g < groups; ++g) {
        const Signed codes = (Signed)(span_codes(type, span, g) - (uint8_t)code_offset(type));
        for (int i = 0; i < GROUP; ++i) {
            const int at = (g * GROUP + i) / run;
            const float product = scales.scale[at] * (float)codes[i];
            values[g * GROUP + i] = has_minimum(type) ? product - scales.minimum[at] : product;
        }
    }
}

INLINE void spans_values(Type type, const Numbers *n, int64_t first, int64_t last) {
    const int blocks = SPAN / block_weights(type);
    for (int64_t s = first; s < last; ++s) {
        const int64_t left = n->count - s * blocks;
        const int groups = left < blocks ? (int)left : 8;
        float values[SPAN];
        if (groups == 8) span_values(type, n->blocks + s * span_bytes(type), 8, values);
        else span_values(type, n->blocks + s * span_bytes(type), groups, values);
        uint8_t *into = n->values + s * SPAN * float_bytes(n->dtype);
        if (n->dtype == F32) memcpy(into, values, (size_t)groups * GROUP * 4);
        else if (n->dtype == F16) for (int i = 0; i < groups * GROUP; ++i) store_float(F16, into, i, values[i]);
        else for (int i = 0; i < groups * GROUP; ++i) store_float(BF16, into, i, values[i]);
    }
}

#define KERNEL(TYPE)                                                                       \
    static void values_##TYPE(void *numbers, int64_t first, int64_t last, int thread) {    \
        (void)thread;                                                                      \
        spans_values(TYPE, numbers, first, last);                                          \
    }
EACH_BLOCK_TYPE(KERNEL)

// `count` blocks of `type` as numbers of `dtype`, F32, F16 or BF16.
EXPORT int dequantize(const void *blocks, void *values, int32_t type, int32_t dtype, int64_t count, int32_t threads) {
    Numbers numbers = {blocks, values, (Type)dtype, count};
    switch (type) {
#define CHOOSE(TYPE)                                                                                              \
    case TYPE: {                                                                                                  \
        const int each = SPAN / block_weights(TYPE);                                                              \
        return parallel(values_##TYPE, &numbers, (count + each - 1) / each, 64, threads);                         \
    }
        EACH_BLOCK_TYPE(CHOOSE)
        default: return DONE;
    }
}
