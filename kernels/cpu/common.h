// What the sources share: exported functions, memory, and the pool of threads that work is split over (pool.c).
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// Results of the exported functions that compute.
enum { DONE = 0, CANCELLED = 1, NO_MEMORY = 2 };

// Items first..last - 1 of a job. `thread` counts from 0 (the caller) and is below the job's number of threads: the
// index of a thread's own scratch memory.
typedef void (*Work)(void *context, int64_t first, int64_t last, int thread);

// Runs `work` over 0..items - 1 in pieces of `chunk` items on up to `threads` threads, the caller among them, and
// returns when all is done. Pieces are handed out one by one, so uneven work balances. Returns CANCELLED when the
// caller's poll function (set_poll) asked for it, with some pieces not done; else DONE.
int parallel(Work work, void *context, int64_t items, int64_t chunk, int threads);

// Memory that starts at a multiple of 64 bytes, or NULL; `release` takes what `allocate` gave, or NULL.
void *allocate(size_t bytes);
void release(void *memory);

// The same, for working space: one piece is kept from call to call, for fresh memory costs as much as a search.
void *borrow(size_t bytes);
void give_back(void *memory);
