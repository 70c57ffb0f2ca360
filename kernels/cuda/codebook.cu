// The generative codec's codebook: atom k = d1 o H(d2 o H e_k), H the unnormalised Sylvester-Hadamard matrix of n
// values, d1 and d2 signs (int8, [blocks, n]). Composing is exact in int32. Selecting is float32 with the butterflies
// in the same order as the eager twin (spans 1, 2, 4, ...), hence the same bits: sums and differences only, each
// rounded once.
#include "common.cuh"

// A transform takes passes over memory: first blocks of up to 2^11 neighbours, then up to 2^6 values that lie a power
// of two apart, for so many neighbouring columns at a time (fused.py plans them).
const int COLUMNS = 32;

// Butterflies of spans 1, 2, ... 2^(stages - 1) over rows of `columns` values, each column for itself.
template <class T>
INLINE void butterflies(T* values, int stages, int columns) {
    const int pairs = (1 << stages) / 2 * columns;
    for (int stage = 0; stage < stages; ++stage) {
        __syncthreads();
        for (int i = threadIdx.x; i < pairs; i += blockDim.x) {
            const int pair = i / columns, inside = pair & ((1 << stage) - 1);
            const int even = ((pair >> stage << (stage + 1)) + inside) * columns + i % columns;
            const int odd = even + (columns << stage);
            const T a = values[even], b = values[odd];
            values[even] = a + b;
            values[odd] = a - b;
        }
    }
    __syncthreads();
}

// First spans of one chunk of 2^stages neighbours, already in shared memory, then out to memory.
template <class T>
INLINE void finish_low(T* tile, T* values, int64 start, int stages) {
    butterflies(tile, stages, 1);
    for (int i = threadIdx.x; i < 1 << stages; i += blockDim.x) values[start + i] = tile[i];
}

// The following `stages` spans, from 2^base upwards.
template <class T>
INLINE void high(T* values, int base, int stages) {
    DYNAMIC_SHARED(shared);
    T* tile = (T*)shared;
    const int across = (1 << base) / COLUMNS;
    const int64 start = ((int64)(blockIdx.x / across) << (base + stages)) + blockIdx.x % across * COLUMNS;
    const int count = COLUMNS << stages;
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        tile[i] = values[start + ((int64)(i / COLUMNS) << base) + i % COLUMNS];
    }
    butterflies(tile, stages, COLUMNS);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        values[start + ((int64)(i / COLUMNS) << base) + i % COLUMNS] = tile[i];
    }
}

KERNEL codebook_high_int(int* values, int base, int stages) {
    high(values, base, stages);
}

KERNEL codebook_high_float(float* values, int base, int stages) {
    high(values, base, stages);
}

// values = first spans of signs o values, in place.
template <class T>
INLINE void low_signed(T* values, const int8* signs, int stages) {
    DYNAMIC_SHARED(shared);
    T* tile = (T*)shared;
    const int64 start = (int64)blockIdx.x << stages;
    for (int i = threadIdx.x; i < 1 << stages; i += blockDim.x) {
        const T value = values[start + i];
        tile[i] = signs[start + i] < 0 ? -value : value;
    }
    finish_low(tile, values, start, stages);
}

KERNEL codebook_low_int(int* values, const int8* signs, int stages) {
    low_signed(values, signs, stages);
}

KERNEL codebook_low_float(float* values, const int8* signs, int stages) {
    low_signed(values, signs, stages);
}

// values [blocks, n] = first spans of d1 o residual, the residual [length] padded with zeros to n = 2^size and repeated
// per block.
KERNEL codebook_low_residual(float* values, const float* residual, const int8* signs, int64 length, int size,
                             int stages) {
    DYNAMIC_SHARED(shared);
    float* tile = (float*)shared;
    const int64 start = (int64)blockIdx.x << stages, position = start & (((int64)1 << size) - 1);
    for (int i = threadIdx.x; i < 1 << stages; i += blockDim.x) {
        const float value = position + i < length ? residual[position + i] : 0.0f;
        tile[i] = signs[start + i] < 0 ? -value : value;
    }
    finish_low(tile, values, start, stages);
}

// values = first spans of the sparse vector that has +-1 at each chosen index, one in each group of 2^bits.
KERNEL codebook_low_atoms(int* values, const int64* index, const int8* sign, int atoms, int bits, int stages) {
    DYNAMIC_SHARED(shared);
    int* tile = (int*)shared;
    const int64 start = (int64)blockIdx.x << stages;
    for (int i = threadIdx.x; i < 1 << stages; i += blockDim.x) tile[i] = 0;
    __syncthreads();
    const int64 first = start >> bits, last = (start + (1 << stages) - 1) >> bits;
    for (int64 atom = first + threadIdx.x; atom <= last && atom < atoms; atom += blockDim.x) {
        const int64 place = (atom << bits) + index[atom] - start;
        if (place >= 0 && place < 1 << stages) tile[place] = sign[atom];
    }
    finish_low(tile, values, start, stages);
}

// Per group of 2^bits inner products: the largest magnitude (ties: lowest index) and its sign, +1 for zero.
KERNEL codebook_pick(const float* products, int64* index, int8* sign, int bits) {
    const float* group = products + ((int64)blockIdx.x << bits);
    uint64 best = ~0ull;
    for (int i = threadIdx.x; i < 1 << bits; i += blockDim.x) {
        const uint64 key = (uint64)(0x7fffffffu - (__float_as_uint(group[i]) & 0x7fffffffu)) << 32 | (uint32)i;
        if (key < best) best = key;
    }
    const int chosen = (int)(block_minimum(best) & 0xffffffffu);
    if (threadIdx.x == 0) {
        index[blockIdx.x] = chosen;
        sign[blockIdx.x] = group[chosen] >= 0.0f ? 1 : -1;
    }
}

// summed [length] = sum over blocks of d1 o values.
KERNEL codebook_sum(const int* values, const int8* signs, int* summed, int64 length, int blocks, int size) {
    const int64 i = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= length) return;
    int total = 0;
    for (int block = 0; block < blocks; ++block) {
        const int64 place = ((int64)block << size) + i;
        total += signs[place] < 0 ? -values[place] : values[place];
    }
    summed[i] = total;
}
