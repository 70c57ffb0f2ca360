// One row of the gated delta rule (arXiv 2412.06464): a state of keys x values for each head fades, is corrected by a
// part of the error of what it says of the row's key, and is read with the row's query.
#include "common.cuh"

// One thread per head and column of its state. Neighbouring threads touch neighbouring columns; a key or a query is the
// same for all of a block. Blocks are a warp wide: heads are few, and each column is a chain of two sums.
KERNEL delta_step(const float* query, const float* key, const float* value, const float* decay, const float* strength,
                  const float* state, float* output, float* after, int keys, int values) {
    const int head = blockIdx.x, column = blockIdx.y * blockDim.x + threadIdx.x;
    if (column >= values) return;
    const int64 corner = (int64)head * keys * values + column;
    const float* before = state + corner;
    float* next = after + corner;
    const float left = expf(decay[head]);
    query += head * keys, key += head * keys;
    float known = 0;
#pragma unroll 8
    for (int i = 0; i < keys; ++i) known += key[i] * (before[(int64)i * values] * left);
    const float correction = (value[head * values + column] - known) * strength[head];
    float read = 0;
#pragma unroll 8
    for (int i = 0; i < keys; ++i) {
        const float cell = before[(int64)i * values] * left + key[i] * correction;
        next[(int64)i * values] = cell;
        read += query[i] * cell;
    }
    output[head * values + column] = read;
}
