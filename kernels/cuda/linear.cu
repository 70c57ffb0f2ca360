// A linear layer of one to eight rows straight from GGUF blocks. Every weight byte is read once; each thread block owns
// two weight rows, its threads stride over the slices of both, so one read of the activations serves two rows.
#include "quants.cuh"

const int FANOUT = 2;
const int MOST_WARPS = 4;

INLINE void multiply_add(float4 weight, float4 x, float& sum) {
    sum = __fmaf_rn(weight.x, x.x, sum);
    sum = __fmaf_rn(weight.y, x.y, sum);
    sum = __fmaf_rn(weight.z, x.z, sum);
    sum = __fmaf_rn(weight.w, x.w, sum);
}

INLINE float4 scale_add(float scale, float4 four, float offset) {
    return make_float4(__fmaf_rn(scale, four.x, offset), __fmaf_rn(scale, four.y, offset),
                       __fmaf_rn(scale, four.z, offset), __fmaf_rn(scale, four.w, offset));
}

// Sum every thread's partial products over the block, add the bias, write y [rows, outputs].
template <int ROWS>
INLINE void finish(float (&sum)[FANOUT][ROWS], const void* bias, void* y, int rows, int outputs, int dtype) {
    __shared__ float partial[MOST_WARPS][FANOUT * ROWS];
    for (int i = 0; i < FANOUT * ROWS; ++i) {
        const float total = warp_sum(sum[i / ROWS][i % ROWS]);
        if (threadIdx.x % WARP == 0) partial[threadIdx.x / WARP][i] = total;
    }
    __syncthreads();
    const int output = blockIdx.x * FANOUT + threadIdx.x / ROWS, row = threadIdx.x % ROWS;
    if (threadIdx.x >= FANOUT * ROWS || row >= rows || output >= outputs) return;
    float total = partial[0][threadIdx.x];
    for (int warp = 1; warp < blockDim.x / WARP; ++warp) total += partial[warp][threadIdx.x];
    if (bias) {
        const uint16 bits = dtype == FLOAT32 ? 0 : ((const uint16*)bias)[output];
        total += dtype == FLOAT32 ? ((const float*)bias)[output]
                                  : dtype == FLOAT16 ? half_to_float(bits) : bfloat_to_float(bits);
    }
    store_one(y, (int64)row * outputs + output, total, dtype);
}

// The two weight rows of this block; past the last row, the last one again.
INLINE void weight_rows(const uint8* blocks, int outputs, int64 row_bytes, const uint8* (&weight)[FANOUT]) {
    for (int i = 0; i < FANOUT; ++i) {
        const int output = blockIdx.x * FANOUT + i;
        weight[i] = blocks + (output < outputs ? output : outputs - 1) * row_bytes;
    }
}

// The activations that meet one run of quads, all loads before the first use.
template <class Q>
INLINE void load_run(const void* x, int64 start, int local, int run, int dtype, float4 (&four)[Q::RUN]) {
    if (dtype == FLOAT32) {
        for (int i = 0; i < Q::RUN; ++i) {
            four[i] = *(const float4*)((const float*)x + start + Q::position(local, run * Q::RUN + i));
        }
        return;
    }
    uint2 bits[Q::RUN];
    for (int i = 0; i < Q::RUN; ++i) {
        bits[i] = *(const uint2*)((const uint16*)x + start + Q::position(local, run * Q::RUN + i));
    }
    for (int i = 0; i < Q::RUN; ++i) four[i] = widen(bits[i], dtype);
}

// Products in float32 of the weights with the activations as they are. Scale and offset are common to a run of quads,
// so they multiply the run's sums where that is less work. A single row of activations is read in the dtype of y;
// several rows are float32, so that the conversion is not repeated by every block.
template <class Q, int ROWS>
INLINE void linear(const void* x, const uint8* blocks, const void* bias, void* y, int rows, int columns, int outputs,
                   int dtype) {
    const bool FACTORED = ROWS == 1 || !Q::HAS_OFFSET;
    const int slices = columns / (4 * Q::QUADS);
    const uint8* weight[FANOUT];
    weight_rows(blocks, outputs, (int64)(columns / Q::ELEMENTS) * Q::BYTES, weight);
    float sum[FANOUT][ROWS] = {};
    for (int index = threadIdx.x; index < slices; index += blockDim.x) {
        const int block = index / Q::SLICES, local = index % Q::SLICES;
        typename Q::Slice_ slice[FANOUT];
        for (int i = 0; i < FANOUT; ++i) Q::decode(weight[i] + (int64)block * Q::BYTES, local, slice[i]);
#pragma unroll
        for (int run = 0; run < Q::QUADS / Q::RUN; ++run) {
            float dot[FANOUT][ROWS] = {}, total[ROWS] = {};
            const int64 start = (int64)block * Q::ELEMENTS;
            float4 single[Q::RUN];
            if (ROWS == 1) load_run<Q>(x, start, local, run, dtype, single);
#pragma unroll
            for (int quad = run * Q::RUN; quad < (run + 1) * Q::RUN; ++quad) {
                const float* column = (const float*)x + start + Q::position(local, quad);
                float4 w[FANOUT];
                for (int i = 0; i < FANOUT; ++i) {
                    w[i] = quad_values(slice[i].quad[quad]);
                    if (!FACTORED) w[i] = scale_add(slice[i].scale[run], w[i], slice[i].offset[run]);
                }
#pragma unroll
                for (int row = 0; row < ROWS; ++row) {
                    const float4 four = ROWS == 1 ? single[quad % Q::RUN]
                                                  : *(const float4*)(column + (row < rows ? row : 0) * (int64)columns);
                    if (FACTORED && Q::HAS_OFFSET) total[row] += (four.x + four.y) + (four.z + four.w);
                    for (int i = 0; i < FANOUT; ++i) multiply_add(w[i], four, FACTORED ? dot[i][row] : sum[i][row]);
                }
            }
            for (int i = 0; FACTORED && i < FANOUT * ROWS; ++i) {
                float& to = sum[i / ROWS][i % ROWS];
                to = __fmaf_rn(slice[i / ROWS].scale[run], dot[i / ROWS][i % ROWS], to);
                if (Q::HAS_OFFSET) to = __fmaf_rn(slice[i / ROWS].offset[run], total[i % ROWS], to);
            }
        }
    }
    finish(sum, bias, y, rows, outputs, dtype);
}

// The same with activations rounded to 8 bits in groups of 32 (quantize_rows below): integer products by dp4a.
template <class Q, int ROWS>
INLINE void linear_int8(const int8* codes, const float* steps, const uint8* blocks, const void* bias, void* y, int rows,
                        int columns, int outputs, int dtype) {
    const int slices = columns / (4 * Q::QUADS);
    const uint8* weight[FANOUT];
    weight_rows(blocks, outputs, (int64)(columns / Q::ELEMENTS) * Q::BYTES, weight);
    float sum[FANOUT][ROWS] = {};
    for (int index = threadIdx.x; index < slices; index += blockDim.x) {
        const int block = index / Q::SLICES, local = index % Q::SLICES;
        typename Q::Slice_ slice[FANOUT];
        for (int i = 0; i < FANOUT; ++i) Q::decode(weight[i] + (int64)block * Q::BYTES, local, slice[i]);
#pragma unroll
        for (int run = 0; run < Q::QUADS / Q::RUN; ++run) {
#pragma unroll
            for (int row = 0; row < ROWS; ++row) {
                const int64 start = (int64)(row < rows ? row : 0) * columns + (int64)block * Q::ELEMENTS;
                int product[FANOUT] = {}, total = 0;
                for (int quad = run * Q::RUN; quad < (run + 1) * Q::RUN; ++quad) {
                    const int four = *(const int*)(codes + start + Q::position(local, quad));
                    for (int i = 0; i < FANOUT; ++i) product[i] = __dp4a((int)slice[i].quad[quad], four, product[i]);
                    if (Q::HAS_OFFSET) total = __dp4a(0x01010101, four, total);
                }
                const float step = steps[(start + Q::position(local, run * Q::RUN)) / 32];
                for (int i = 0; i < FANOUT; ++i) {
                    float part = slice[i].scale[run] * (float)product[i];
                    if (Q::HAS_OFFSET) part = __fmaf_rn(slice[i].offset[run], (float)total, part);
                    sum[i][row] = __fmaf_rn(step, part, sum[i][row]);
                }
            }
        }
    }
    finish(sum, bias, y, rows, outputs, dtype);
}

// Activations to 8 bits: per group of 32, step = largest magnitude / 127 and code = x / step to the nearest even
// integer. One warp per group.
KERNEL quantize_rows(const void* x, int8* codes, float* steps, int64 group_count, int dtype) {
    const int64 group = ((int64)blockIdx.x * blockDim.x + threadIdx.x) / WARP;
    const int64 position = group * WARP + threadIdx.x % WARP;
    if (group >= group_count) return;
    const uint16 bits = dtype == FLOAT32 ? 0 : ((const uint16*)x)[position];
    const float value = dtype == FLOAT32 ? ((const float*)x)[position]
                                         : dtype == FLOAT16 ? half_to_float(bits) : bfloat_to_float(bits);
    float largest = fabsf(value);
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, distance));
    }
    const float step = __fdiv_rn(largest, 127.0f);
    codes[position] = step > 0.0f ? (int8)__float2int_rn(__fdiv_rn(value, step)) : 0;
    if (threadIdx.x % WARP == 0) steps[group] = step;
}

#define LINEAR(TYPE, ROWS)                                                                                           \
    KERNEL linear_##TYPE##_##ROWS(const void* x, const uint8* blocks, const void* bias, void* y, int rows,            \
                                  int columns, int outputs, int dtype) {                                             \
        linear<TYPE, ROWS>(x, blocks, bias, y, rows, columns, outputs, dtype);                                       \
    }                                                                                                                \
    KERNEL linear_int8_##TYPE##_##ROWS(const int8* codes, const float* steps, const uint8* blocks, const void* bias, \
                                       void* y, int rows, int columns, int outputs, int dtype) {                     \
        linear_int8<TYPE, ROWS>(codes, steps, blocks, bias, y, rows, columns, outputs, dtype);                       \
    }
#define LINEARS(TYPE) LINEAR(TYPE, 1) LINEAR(TYPE, 4) LINEAR(TYPE, 8)

LINEARS(Q4_0)
LINEARS(Q4_1)
LINEARS(Q5_0)
LINEARS(Q5_1)
LINEARS(Q8_0)
LINEARS(Q2_K)
LINEARS(Q3_K)
LINEARS(Q4_K)
LINEARS(Q5_K)
LINEARS(Q6_K)
LINEARS(IQ4_NL)
LINEARS(IQ4_XS)
