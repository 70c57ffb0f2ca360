"""Mistakes in the CUDA sources that the shim must notice, each as (family, file, text, replacement)."""

MUTATIONS = {
    "dequantise streams the tile out before all threads have filled it": (
        "dequantize", "dequantize.cu", "    __syncthreads();\n", "",
    ),
    "scales of Q4_K's third chunk read from the first bytes": (
        "dequantize", "quants.cuh", "chunk < 2 ? first", "chunk < 3 ? first",
    ),
    "Q8_0 loaded as whole words although its blocks are only even": (
        "dequantize", "quants.cuh", "Words<2, 4>::load(block + 2 + 16 * index",
        "Words<4, 4>::load(block + 2 + 16 * index",
    ),
    "a word too many past the last block": (
        "dequantize", "quants.cuh", "next[WORDS] = *(const uint16*)(p + 4 * WORDS - 2)", "next[WORDS] = aligned[WORDS]",
    ),
    "sign bit of Q6_K's codes borrows from the next byte": (
        "dequantize", "quants.cuh", "((bytes | 0x80808080u) - each * 0x01010101u) ^ 0x80808080u",
        "bytes - each * 0x01010101u",
    ),
    "warps are summed before they have written their parts": (
        "linear", "linear.cu", "    __syncthreads();\n", "",
    ),
    "the row after the last one is read": (
        "linear", "linear.cu", "(output < outputs ? output : outputs - 1)", "output",
    ),
    "activation steps of every 64 columns": (
        "linear", "linear.cu", "local, run * Q::RUN)) / 32]", "local, run * Q::RUN)) / 64]",
    ),
    "matching starts before the window is loaded": (
        "motion", "motion.cu", "        __syncthreads();\n        for (int task", "        for (int task",
    ),
    "the next strip overwrites a window still in use": (
        "motion", "motion.cu", "        }\n        __syncthreads();\n    }\n", "        }\n    }\n",
    ),
    "one candidate past the frame's edge": (
        "motion", "motion.cu", "if (dx > last_dx) break", "if (dx > last_dx + 1) break",
    ),
    "ties go to raster order alone": (
        "motion", "motion.cu", "distance << 20 | raster", "(uint64)raster",
    ),
    "four candidates are given up for the cost of the first": (
        "motion", "motion.cu", "min(min(sad[0], sad[1]), min(sad[2], sad[3]))", "sad[0]",
    ),
    "the cost of no motion read before all threads have added to it": (
        "motion", "motion.cu", "    __syncthreads();\n    float bound", "    float bound",
    ),
    "a window row four words short": (
        "motion", "motion.cu", "(BLOCK + 2 * radius + 4) / 4 * 4", "(BLOCK + 2 * radius) / 4 * 4",
    ),
    "block minimum read before all warps have written theirs": (
        "motion", "common.cuh", "    __syncthreads();\n    for (int warp = 0", "    for (int warp = 0",
    ),
    "the error is that of a state that has not faded": (
        "delta", "delta.cu", "(before[(int64)i * values] * left);", "before[(int64)i * values];",
    ),
    "a state is read before its correction": (
        "delta", "delta.cu", "read += query[i] * cell", "read += query[i] * before[(int64)i * values] * left",
    ),
    "butterflies of a span start before the last span ends": (
        "codebook", "codebook.cu", "        __syncthreads();\n        for (int i = threadIdx.x; i < pairs",
        "        for (int i = threadIdx.x; i < pairs",
    ),
    "atoms are placed while others still clear": (
        "codebook", "codebook.cu", "    __syncthreads();\n    const int64 first", "    const int64 first",
    ),
    "ties go to the highest index": (
        "codebook", "codebook.cu", "<< 32 | (uint32)i;", "<< 32 | (uint32)~i;",
    ),
}  # fmt: skip
