// Exhaustive block matching on 16 x 16 macroblocks of 8-bit RGB (the cost of AdaCodec, arXiv 2606.02569, equation 1):
// cost(d) = SAD over the 768 samples + penalty * (|dx| + |dy|), the smallest wins, then the smallest |dx| + |dy|, then
// raster order (dy, dx). Displacements keep the block inside the frame.
#include "common.h"

enum { BLOCK = 16, LINE = 3 * BLOCK };

typedef struct {
    const uint8_t *current, *reference;
    int16_t *vectors;
    float *costs;
    int32_t *sads, *energies;
    int32_t height, width, radius;
    float penalty;
} Search;

INLINE int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
INLINE int32_t magnitude(int32_t a) { return a < 0 ? -a : a; }

static int32_t sad_of(const uint8_t *here, const uint8_t *there, size_t pitch) {
    int32_t sum = 0;
    for (int y = 0; y < BLOCK; ++y, here += pitch, there += pitch) {
        for (int x = 0; x < LINE; ++x) sum += magnitude(here[x] - there[x]);
    }
    return sum;
}

static void search_block(const Search *s, int64_t index) {
    const int32_t columns = s->width / BLOCK, rows = s->height / BLOCK;
    const int32_t left = (int32_t)(index % columns) * BLOCK, top = (int32_t)(index / columns % rows) * BLOCK;
    const size_t pitch = (size_t)s->width * 3, corner = (size_t)top * pitch + (size_t)left * 3;
    const size_t frame = (size_t)(index / columns / rows) * pitch * (size_t)s->height;
    const uint8_t *here = s->current + frame + corner, *there = s->reference + frame + corner;
    float best = 0;
    int32_t best_sad = -1, best_distance = 0, best_dx = 0, best_dy = 0;
    for (int32_t dy = -smaller(s->radius, top); dy <= smaller(s->radius, s->height - BLOCK - top); ++dy) {
        for (int32_t dx = -smaller(s->radius, left); dx <= smaller(s->radius, s->width - BLOCK - left); ++dx) {
            const int32_t sad = sad_of(here, there + (ptrdiff_t)dy * (ptrdiff_t)pitch + 3 * dx, pitch);
            const int32_t distance = magnitude(dx) + magnitude(dy);
            const float cost = (float)sad + s->penalty * (float)distance;
            if (best_sad >= 0 && (cost > best || (cost == best && distance >= best_distance))) continue;
            best = cost, best_sad = sad, best_distance = distance, best_dx = dx, best_dy = dy;
        }
    }
    s->vectors[2 * index] = (int16_t)best_dx, s->vectors[2 * index + 1] = (int16_t)best_dy;
    s->costs[index] = best, s->sads[index] = best_sad;
    if (!s->energies) return;
    int32_t energy = 0;
    there += (ptrdiff_t)best_dy * (ptrdiff_t)pitch + 3 * best_dx;
    for (int y = 0; y < BLOCK; ++y, here += pitch, there += pitch) {
        for (int x = 0; x < LINE; ++x) energy += (here[x] - there[x]) * (here[x] - there[x]);
    }
    s->energies[index] = energy;
}

static void search_blocks(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    for (int64_t index = first; index < last; ++index) search_block(context, index);
}

// energies (squared differences at the winner) may be null.
EXPORT int block_match(const uint8_t *current, const uint8_t *reference, int16_t *vectors, float *costs, int32_t *sads,
                       int32_t *energies, int64_t pairs, int32_t height, int32_t width, int32_t radius, float penalty,
                       int32_t threads) {
    Search search = {current, reference, vectors, costs, sads, energies, height, width, radius, penalty};
    return parallel(search_blocks, &search, pairs * (height / BLOCK) * (width / BLOCK), 1, threads);
}
