// What the processor and the system can execute. It is asked through the oldest library of an architecture, and runs
// before anything else of that library does.
#include "common.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t enabled_state(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

INLINE int all(uint32_t word, uint32_t bits) { return (word & bits) == bits; }

// 4: x86-64-v4 and VNNI, 3: x86-64-v3, 2: x86-64-v2, 0: less.
EXPORT int processor_level(void) {
    uint32_t a, b, c, d, b7, c7, extended;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const uint32_t first = c;
    if (!all(first, bit_SSE3 | bit_SSSE3 | bit_CMPXCHG16B | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT)) return 0;
    if (!all(first, bit_FMA | bit_MOVBE | bit_OSXSAVE | bit_AVX | bit_F16C)) return 2;
    const uint64_t state = enabled_state();
    if (!__get_cpuid(0x80000001, &a, &b, &extended, &d) || !all(extended, bit_LZCNT)) return 2;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d) || !all(b7, bit_BMI | bit_AVX2 | bit_BMI2)) return 2;
    if ((state & 0x6) != 0x6) return 2;
    if (!all(b7, bit_AVX512F | bit_AVX512DQ | bit_AVX512CD | bit_AVX512BW | bit_AVX512VL)) return 3;
    return all(c7, bit_AVX512VNNI) && (state & 0xe6) == 0xe6 ? 4 : 3;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

// 1: NEON with dot products, 0: without.
EXPORT int processor_level(void) { return (getauxval(AT_HWCAP) & 1ul << 20) != 0; }
#else
// Every Apple processor has dot products.
EXPORT int processor_level(void) { return 1; }
#endif
