// Keep the k patches with the most residual energy and pack their rows, most energy first, ties by lower index.
#include "common.cuh"

// A key that sorts like the energy; negative floats are mirrored, -0 equals 0.
INLINE uint32 energy_key(const void* energy, int64 index, int is_float) {
    if (!is_float) return ((const uint32*)energy)[index] ^ 0x80000000u;
    const uint32 bits = __float_as_uint(((const float*)energy)[index] + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

template <class Unit>
INLINE void copy_row(const void* source, void* target, int64 units, int lane) {
    for (int64 i = lane; i < units; i += WARP) ((Unit*)target)[i] = ((const Unit*)source)[i];
}

// One warp per patch: its rank is the number of patches that come before it. row_bytes is a multiple of unit (16, 4 or
// 1).
KERNEL gather_patches(const uint8* patches, const void* energy, uint8* packed, int64* indices, int patch_count,
                      int keep, int64 row_bytes, int unit, int is_float) {
    const int patch = (blockIdx.x * blockDim.x + threadIdx.x) / WARP, lane = threadIdx.x % WARP;
    if (patch >= patch_count) return;
    const uint32 mine = energy_key(energy, patch, is_float);
    int rank = 0;
    for (int other = lane; other < patch_count; other += WARP) {
        const uint32 key = energy_key(energy, other, is_float);
        rank += key > mine || (key == mine && other < patch);
    }
    for (int distance = WARP / 2; distance > 0; distance /= 2) rank += __shfl_xor_sync(FULL_WARP, rank, distance);
    if (rank >= keep) return;
    if (lane == 0) indices[rank] = patch;
    const uint8* source = patches + patch * row_bytes;
    uint8* target = packed + rank * row_bytes;
    if (unit == 16) copy_row<uint4>(source, target, row_bytes / 16, lane);
    else if (unit == 4) copy_row<uint32>(source, target, row_bytes / 4, lane);
    else copy_row<uint8>(source, target, row_bytes, lane);
}
