// Types, conversions, loads and reductions that the kernel families share. Includes nothing: NVRTC needs no headers.
#pragma once

typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;

#define KERNEL extern "C" __global__ void
#define INLINE __device__ __forceinline__

const uint32 FULL_WARP = 0xffffffffu;
const int WARP = 32;

enum Dtype { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

#ifdef __CUDACC_RTC__

#define DYNAMIC_SHARED(name) extern __shared__ uint4 name[]

INLINE float half_to_float(uint16 bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

INLINE uint16 float_to_half(float value) {
    uint16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

// total + the four absolute byte differences; one instruction up to sm_100, emulated by sm_120.
INLINE uint32 add_byte_differences(uint32 a, uint32 b, uint32 total) {
    uint32 sum;
    asm("vabsdiff4.u32.u32.u32.add %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(total));
    return sum;
}

#endif

// Round to nearest even as torch does, NaN to the quiet NaN. In integers, because sm_75 has no such conversion.
INLINE uint16 float_to_bfloat(float value) {
    const uint32 bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (uint16)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

INLINE float bfloat_to_float(uint16 bits) {
    return __uint_as_float((uint32)bits << 16);
}

INLINE float low_half(uint32 word) {
    return half_to_float((uint16)(word & 0xffffu));
}

INLINE float high_half(uint32 word) {
    return half_to_float((uint16)(word >> 16));
}

// Four float16 or bfloat16 numbers as float32.
INLINE float4 widen(uint2 bits, int dtype) {
    if (dtype == FLOAT16) return make_float4(low_half(bits.x), high_half(bits.x), low_half(bits.y), high_half(bits.y));
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}

INLINE uint16 to_sixteen_bits(float value, int dtype) {
    return dtype == FLOAT16 ? float_to_half(value) : float_to_bfloat(value);
}

INLINE void store_one(void* values, int64 position, float value, int dtype) {
    if (dtype == FLOAT32) ((float*)values)[position] = value;
    else ((uint16*)values)[position] = to_sixteen_bits(value, dtype);
}

// Four consecutive numbers in the given dtype, at a position that is a multiple of four.
INLINE void store_four(void* values, int64 position, float4 four, int dtype) {
    if (dtype == FLOAT32) {
        *(float4*)((float*)values + position) = four;
    } else {
        const uint32 low = to_sixteen_bits(four.x, dtype) | (uint32)to_sixteen_bits(four.y, dtype) << 16;
        const uint32 high = to_sixteen_bits(four.z, dtype) | (uint32)to_sixteen_bits(four.w, dtype) << 16;
        *(uint2*)((uint16*)values + position) = make_uint2(low, high);
    }
}

INLINE float warp_sum(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(FULL_WARP, value, distance);
    return value;
}

// The smallest key of the block, in every thread. The block must be whole warps, at most 32 of them.
INLINE uint64 block_minimum(uint64 key) {
    __shared__ uint64 smallest[WARP];
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const uint64 other = __shfl_xor_sync(FULL_WARP, key, distance);
        if (other < key) key = other;
    }
    if (threadIdx.x % WARP == 0) smallest[threadIdx.x / WARP] = key;
    __syncthreads();
    for (int warp = 0; warp < blockDim.x / WARP; ++warp) {
        if (smallest[warp] < key) key = smallest[warp];
    }
    return key;
}
