// A CUDA device in plain C++: enough of one to run the kernels of kernels/cuda on the CPU and compare their results.
// One fiber per thread, blocks one after another. A thread runs until it waits at a barrier or a shuffle, so a missing
// barrier shows as a wrong result; `shim_reversed` turns the order round to show the other half of them. Dynamic shared
// memory is allocated at exactly the size of the launch and poisoned, so the address sanitizer sees every overrun.
#pragma once
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define DYNAMIC_SHARED(name) uint4* name = (uint4*)shim::shared_memory

struct alignas(8) uint2 { uint32_t x, y; };
struct alignas(16) uint4 { uint32_t x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
struct dim3 { uint32_t x = 1, y = 1, z = 1; };
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

// Not CUDA's types (those are uint3), but they read the same. blockIdx and threadIdx follow the running fiber.
inline dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace shim {

inline char* shared_memory = nullptr;
inline bool reversed = false;
const size_t STACK = 64 * 1024;

[[noreturn]] inline void fail(const char* why) {
    std::fprintf(stderr, "shim: %s\n", why);
    std::abort();
}

enum State { RUNNING, AT_BARRIER, AT_SHUFFLE, DONE };

struct Thread {
    ucontext_t context;
    char* stack = nullptr;
    void* fake_stack = nullptr;
    State state = DONE;
    uint64_t sent = 0, received = 0;
    uint32_t lane_mask = 0;
};

inline Thread* threads = nullptr;
inline int capacity = 0, thread_count = 0, running = 0;
inline ucontext_t scheduler;
inline void* scheduler_fake_stack = nullptr;
inline const void* scheduler_stack = nullptr;
inline size_t scheduler_stack_size = 0;
inline void (*body)(void**) = nullptr;
inline void** arguments = nullptr;

inline void to_thread(Thread& thread) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, thread.stack, STACK);
#endif
    swapcontext(&scheduler, &thread.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

inline void to_scheduler(State state) {
    Thread& thread = threads[running];
    thread.state = state;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&thread.fake_stack, scheduler_stack, scheduler_stack_size);
#endif
    swapcontext(&thread.context, &scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(thread.fake_stack, nullptr, nullptr);
#endif
}

// A fiber lives for the process: it runs the kernel once per block that it is woken for.
inline void fiber() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_size);
#endif
    for (;;) {
        body(arguments);
        to_scheduler(DONE);
    }
}

inline void reserve(int count) {
    if (count <= capacity) return;
    threads = (Thread*)std::realloc((void*)threads, count * sizeof(Thread));
    for (int i = 0; i < count; ++i) {  // a context holds pointers into itself, so all of them are made anew
        if (i >= capacity) threads[i].stack = (char*)std::malloc(STACK);
        threads[i].fake_stack = nullptr;
        getcontext(&threads[i].context);
        threads[i].context.uc_stack.ss_sp = threads[i].stack;
        threads[i].context.uc_stack.ss_size = STACK;
        threads[i].context.uc_link = nullptr;
        makecontext(&threads[i].context, fiber, 0);
    }
    capacity = count;
}

// Complete the shuffles of a warp once every lane that one of them names has arrived.
inline bool release_warp(int first) {
    const int end = first + 32 < thread_count ? first + 32 : thread_count;
    bool waiting = false;
    for (int i = first; i < end; ++i) {
        if (threads[i].state != AT_SHUFFLE) continue;
        waiting = true;
        for (int lane = 0; lane < 32; ++lane) {
            if (!(threads[i].lane_mask >> lane & 1)) continue;
            if (first + lane >= end || threads[first + lane].state != AT_SHUFFLE) return false;
            if (threads[first + lane].lane_mask != threads[i].lane_mask) fail("lanes shuffle with different masks");
        }
    }
    if (!waiting) return false;
    for (int i = first; i < end; ++i) {
        if (threads[i].state == AT_SHUFFLE) threads[i].state = RUNNING;
    }
    return true;
}

inline void run_block() {
    for (int i = 0; i < thread_count; ++i) threads[i].state = RUNNING;
    for (;;) {
        bool progress = false;
        for (int step = 0; step < thread_count; ++step) {
            const int i = reversed ? thread_count - 1 - step : step;
            if (threads[i].state != RUNNING) continue;
            progress = true;
            running = i;
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
            to_thread(threads[i]);
        }
        for (int first = 0; first < thread_count; first += 32) progress |= release_warp(first);
        if (progress) continue;
        int done = 0, at_barrier = 0;
        for (int i = 0; i < thread_count; ++i) {
            done += threads[i].state == DONE;
            at_barrier += threads[i].state == AT_BARRIER;
        }
        if (done == thread_count) return;
        if (at_barrier != thread_count) fail("threads of one block wait at different places");
        for (int i = 0; i < thread_count; ++i) threads[i].state = RUNNING;
    }
}

inline void launch(void (*kernel)(void**), void** parameters, dim3 grid, dim3 block, size_t shared_bytes) {
    thread_count = block.x * block.y * block.z;
    if (thread_count < 1 || thread_count > 1024) fail("a block has 1 to 1024 threads");
    if (shared_bytes > 47 * 1024) fail("a launch has at most 48 KiB of shared memory, 1 of it static");
    if (grid.y > 65535 || grid.z > 65535) fail("a grid has at most 65535 blocks in y and z");
    reserve(thread_count);
    body = kernel, arguments = parameters;
    gridDim = grid, blockDim = block;
    for (uint32_t z = 0; z < grid.z; ++z) {
        for (uint32_t y = 0; y < grid.y; ++y) {
            for (uint32_t x = 0; x < grid.x; ++x) {
                shared_memory = (char*)std::aligned_alloc(16, (shared_bytes + 15) / 16 * 16);
                std::memset(shared_memory, 0xa5, (shared_bytes + 15) / 16 * 16);
                blockIdx = {x, y, z};
                run_block();
                std::free(shared_memory);
            }
        }
    }
}

template <class Value>
Value exchange(uint32_t mask, Value value, int source_lane) {
    Thread& thread = threads[running];
    std::memcpy(&thread.sent, &value, sizeof value);
    thread.lane_mask = mask;
    const int first = running / 32 * 32, self = running;
    to_scheduler(AT_SHUFFLE);
    Value received;
    std::memcpy(&received, &threads[first + source_lane].sent, sizeof received);
    // The senders must not overwrite `sent` before everyone has read it.
    threads[self].lane_mask = mask;
    to_scheduler(AT_SHUFFLE);
    return received;
}

template <class... Arguments, size_t... I>
void unpack(void (*kernel)(Arguments...), void** parameters, std::index_sequence<I...>) {
    kernel(*(std::decay_t<Arguments>*)parameters[I]...);
}

// The driver's view of a kernel: pointers to its arguments. One instance per kernel, made by REGISTER.
template <auto kernel>
struct Unpacked;
template <class... Arguments, void (*kernel)(Arguments...)>
struct Unpacked<kernel> {
    static void call(void** parameters) { unpack(kernel, parameters, std::index_sequence_for<Arguments...>{}); }
};

struct Entry {
    const char* name;
    void (*call)(void**);
};

}  // namespace shim

inline void __syncthreads() { shim::to_scheduler(shim::AT_BARRIER); }

template <class Value>
Value __shfl_xor_sync(uint32_t mask, Value value, int lanes) {
    return shim::exchange(mask, value, (shim::running % 32) ^ lanes);
}

template <class Value, class Added>
Value atomicAdd(Value* address, Added value) {
    const Value before = *address;
    *address = before + value;
    return before;
}

inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float __uint_as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}

inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline int __float2int_rn(float value) { return (int)std::nearbyint(value); }

inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 4; ++i) sum += (int)(int8_t)(a >> 8 * i) * (int)(int8_t)(b >> 8 * i);
    return sum;
}

inline uint32_t add_byte_differences(uint32_t a, uint32_t b, uint32_t total) {
    for (int i = 0; i < 32; i += 8) total += std::abs((int)(a >> i & 255) - (int)(b >> i & 255));
    return total;
}

inline uint32_t __byte_perm(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    uint32_t result = 0;
    for (int i = 0; i < 4; ++i) result |= (uint32_t)(bytes >> 8 * (selector >> 4 * i & 7) & 255) << 8 * i;
    return result;
}

inline uint32_t __funnelshift_r(uint32_t low, uint32_t high, uint32_t shift) {
    return (uint32_t)(((uint64_t)high << 32 | low) >> (shift & 31));
}

// IEEE 754 binary16 in integers; what cvt.f32.f16 and cvt.rn.f16.f32 compute.
inline float half_to_float(uint16_t bits) {
    const uint32_t sign = (uint32_t)(bits >> 15) << 31, exponent = bits >> 10 & 31, fraction = bits & 1023;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    if (exponent == 0) return __uint_as_float(sign | __float_as_uint(std::ldexp((float)fraction, -24)));
    return __uint_as_float(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t float_to_half(float value) {
    const uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7fffu);
    if (magnitude >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) {  // subnormal: a whole number of 2^-24, ties to even
        return (uint16_t)(sign | (uint32_t)std::nearbyint(std::ldexp(__uint_as_float(magnitude), 24)));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

using std::abs;
inline int min(int a, int b) { return a < b ? a : b; }
inline uint32_t min(uint32_t a, uint32_t b) { return a < b ? a : b; }
