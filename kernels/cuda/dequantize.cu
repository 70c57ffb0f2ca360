// GGUF blocks to float32, float16 or bfloat16, computed in float32 with each product and sum rounded once, as ggml
// does. Built without contraction of products and sums (-fmad=false), so the values equal gguf-py's bit for bit.
#include "quants.cuh"

// One thread decodes one slice into shared memory; the block then streams the tile out, 16 bytes a thread, so that
// writes to memory are whole lines whatever order the type keeps its weights in.
template <class Q>
INLINE void dequantize(const uint8* blocks, void* values, int64 slice_count, int dtype) {
    DYNAMIC_SHARED(tile);
    const int64 first = (int64)blockIdx.x * blockDim.x, index = first + threadIdx.x;
    if (index < slice_count) {
        const int local = (int)(index % Q::SLICES);
        typename Q::Slice_ slice;
        Q::decode(blocks + index / Q::SLICES * Q::BYTES, local, slice);
        const int base = threadIdx.x / Q::SLICES * Q::ELEMENTS;
        for (int quad = 0; quad < Q::QUADS; ++quad) {
            const float scale = slice.scale[quad / Q::RUN];
            float4 four = quad_values(slice.quad[quad]);
            four = make_float4(scale * four.x, scale * four.y, scale * four.z, scale * four.w);
            if (Q::HAS_OFFSET) {
                const float offset = slice.offset[quad / Q::RUN];
                four = make_float4(four.x + offset, four.y + offset, four.z + offset, four.w + offset);
            }
            store_four(tile, base + Q::position(local, quad), four, dtype);
        }
    }
    __syncthreads();
    const int width = dtype == FLOAT32 ? 4 : 2, weights = 4 * Q::QUADS;
    const int64 left = (slice_count - first) * weights * width / 16, most = (int64)blockDim.x * weights * width / 16;
    uint4* target = (uint4*)values + first * weights * width / 16;
    for (int i = threadIdx.x; i < (left < most ? left : most); i += blockDim.x) target[i] = tile[i];
}

#define DEQUANTIZE(TYPE)                                                                                          \
    KERNEL dequantize_##TYPE(const uint8* blocks, void* values, int64 slice_count, int dtype) {                    \
        dequantize<TYPE>(blocks, values, slice_count, dtype);                                                      \
    }

DEQUANTIZE(Q4_0)
DEQUANTIZE(Q4_1)
DEQUANTIZE(Q5_0)
DEQUANTIZE(Q5_1)
DEQUANTIZE(Q8_0)
DEQUANTIZE(Q2_K)
DEQUANTIZE(Q3_K)
DEQUANTIZE(Q4_K)
DEQUANTIZE(Q5_K)
DEQUANTIZE(Q6_K)
DEQUANTIZE(IQ4_NL)
DEQUANTIZE(IQ4_XS)
