// Exhaustive block matching on 16 x 16 macroblocks of 8-bit RGB (the cost of AdaCodec, arXiv 2606.02569, equation 1):
// cost(d) = SAD over the 768 samples + penalty * (|dx| + |dy|), the smallest wins, then the smallest |dx| + |dy|, then
// raster order (dy, dx). Displacements keep the block inside the frame.
#include "common.cuh"

const int BLOCK = 16;

INLINE uint32 pixel(const uint8* rgb) {
    return rgb[0] | (uint32)rgb[1] << 8 | (uint32)rgb[2] << 16;
}

INLINE void load_pixels(const uint4* four, int count, uint32* pixels) {
    for (int i = 0; i < count; ++i) {
        pixels[4 * i] = four[i].x, pixels[4 * i + 1] = four[i].y;
        pixels[4 * i + 2] = four[i].z, pixels[4 * i + 3] = four[i].w;
    }
}

// One thread block per macroblock; grid (columns, rows, frame pairs) of macroblocks. Pixels are widened to words in
// shared memory, so every displacement is word-aligned and one byte-difference instruction covers a pixel. A thread
// takes four neighbouring dx at a time: 20 reference words and 16 current words feed 64 instructions. The window is
// loaded in strips of `strip` values of dy. A candidate is given up once its first lines alone cost more than one
// already known, (0, 0) to begin with: no winner and no tie is lost, for the rest can only add. energies (squared
// differences at the winner) may be null.
KERNEL block_match(const uint8* current, const uint8* reference, int16* vectors, float* costs, int* sads, int* energies,
                   int height, int width, int radius, int strip, float penalty) {
    DYNAMIC_SHARED(shared);
    const int pitch = (BLOCK + 2 * radius + 4) / 4 * 4;
    uint32* window = (uint32*)shared;
    uint32* block = window + (strip + BLOCK - 1) * pitch;

    const int left = blockIdx.x * BLOCK, top = blockIdx.y * BLOCK;
    const int64 frame = (int64)blockIdx.z * height * width * 3;
    current += frame, reference += frame;
    const int first_dx = -min(radius, left), last_dx = min(radius, width - BLOCK - left);
    const int first_dy = -min(radius, top), last_dy = min(radius, height - BLOCK - top);
    const int columns = last_dx - first_dx + BLOCK, groups = (last_dx - first_dx + 4) / 4;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;

    __shared__ uint32 unmoved;
    if (threadIdx.x == 0) unmoved = 0;
    __syncthreads();
    uint32 part = 0;
    for (int i = threadIdx.x; i < BLOCK * BLOCK; i += blockDim.x) {
        const int64 place = ((int64)(top + i / BLOCK) * width + left + i % BLOCK) * 3;
        block[i] = pixel(current + place);
        part = add_byte_differences(block[i], pixel(reference + place), part);
    }
    atomicAdd(&unmoved, part);
    __syncthreads();
    float bound = (float)unmoved;
    uint64 best = ~0ull;
    uint32 best_sad = 0;
    for (int strip_dy = first_dy; strip_dy <= last_dy; strip_dy += strip) {
        const int candidates = min(strip, last_dy - strip_dy + 1);
        for (int row = warp; row < candidates + BLOCK - 1; row += warps) {
            const uint8* source = reference + ((int64)(top + strip_dy + row) * width + left + first_dx) * 3;
            for (int column = lane; column < pitch; column += WARP) {
                window[row * pitch + column] = column < columns ? pixel(source + 3 * column) : 0;
            }
        }
        __syncthreads();
        for (int task = threadIdx.x; task < groups * candidates; task += blockDim.x) {
            const int row = task / groups, group = task % groups;
            uint32 sad[4] = {};
            for (int line = 0; line < BLOCK; ++line) {
                uint32 there[20], here[16];
                load_pixels((const uint4*)(window + (row + line) * pitch + 4 * group), 5, there);
                load_pixels((const uint4*)(block + BLOCK * line), 4, here);
#pragma unroll
                for (int x = 0; x < BLOCK; ++x) {
#pragma unroll
                    for (int i = 0; i < 4; ++i) sad[i] = add_byte_differences(here[x], there[x + i], sad[i]);
                }
                if (line % 4 == 3 && (float)min(min(sad[0], sad[1]), min(sad[2], sad[3])) > bound) break;
            }
            for (int i = 0; i < 4; ++i) {
                const int dx = first_dx + 4 * group + i, dy = strip_dy + row;
                if (dx > last_dx) break;
                const uint32 distance = abs(dx) + abs(dy), raster = (dy + radius) * (2 * radius + 1) + dx + radius;
                const float cost = (float)sad[i] + penalty * (float)distance;
                const uint64 key = (uint64)__float_as_uint(cost) << 32 | distance << 20 | raster;
                if (key < best) best = key, best_sad = sad[i];
                bound = fminf(bound, cost);
            }
        }
        __syncthreads();
    }

    const uint64 winner = block_minimum(best);
    const int raster = (int)(winner & 0xfffff), side = 2 * radius + 1;
    const int dx = raster % side - radius, dy = raster / side - radius;
    const int64 target = ((int64)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    if (best == winner) {
        vectors[2 * target] = (int16)dx, vectors[2 * target + 1] = (int16)dy;
        costs[target] = __uint_as_float((uint32)(winner >> 32));
        sads[target] = (int)best_sad;
    }
    if (!energies) return;
    int squares = 0;
    for (int i = threadIdx.x; i < BLOCK * BLOCK; i += blockDim.x) {
        const int64 row = top + dy + i / BLOCK, column = left + dx + i % BLOCK;
        const uint32 there = pixel(reference + (row * width + column) * 3);
        for (int shift = 0; shift < 24; shift += 8) {
            const int difference = (int)(block[i] >> shift & 255u) - (int)(there >> shift & 255u);
            squares += difference * difference;
        }
    }
    if (threadIdx.x == 0) energies[target] = 0;
    __syncthreads();
    atomicAdd(energies + target, squares);
}
