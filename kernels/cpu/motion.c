// Exhaustive block matching on 16 x 16 macroblocks of 8-bit RGB (the cost of AdaCodec, arXiv 2606.02569, equation 1):
// cost(d) = SAD over the 768 samples + penalty * (|dx| + |dy|), the smallest wins, then the smallest |dx| + |dy|, then
// raster order (dy, dx). Displacements keep the block inside the frame.
//
// Successive elimination (Li and Salari, IEEE Transactions on Image Processing 4(1), 1995): the difference of the sums
// of two boxes is never above their SAD. So the sums of a block's four 8 x 8 quarters bound the cost of a displacement
// from below, first over the three channels together, then for each; then those of its sixteen 4 x 4 parts do. Only
// what the bounds leave in question is compared sample by sample, from the top down, and given up as soon as the lines
// seen and the bound of the others are too much. Nothing is lost: a displacement is dropped when a bound is above the
// cost of one already known.
#include "simd.h"

enum { BLOCK = 16, QUARTER = 8, PART = 4, BANDS = BLOCK / PART };
enum { PART_SUMS = 0, QUARTER_SUMS = 3, GREY_SUMS = 6, TABLES = 7 };  // of a pair: three channels, three, all together
enum { MOST = 65535, GROUP_BYTES = 1 << 23 };

typedef struct {
    const uint8_t *current, *reference;
    int16_t *vectors;
    float *costs;
    int32_t *sads, *energies;
    int32_t height, width, radius;
    float penalty;
    int64_t first_pair;  // of the pairs that have tables now
    uint16_t *tables;    // TABLES of each such pair: sums of the boxes at every pixel of the reference
    int32_t stride;      // of a row of a table: the width rounded up to whole vectors
    size_t table;        // entries of a table
    uint8_t *scratch;    // of each thread
    size_t scratch_bytes;
} Search;

typedef struct {
    float cost;
    int32_t sad, distance, dx, dy;
} Match;

INLINE int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }
INLINE int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }
INLINE int32_t magnitude(int32_t a) { return a < 0 ? -a : a; }
INLINE uint16_t *table_of(const Search *s, int64_t pair, int which) {
    return s->tables + ((size_t)pair * TABLES + (size_t)which) * s->table;
}
INLINE size_t frame_start(const Search *s, int64_t pair) {
    return (size_t)(s->first_pair + pair) * 3 * (size_t)s->height * (size_t)s->width;
}

// Sums of the 4 x 4 boxes of each channel. An item is 16 rows. Where a box leaves the frame there is rubbish.
static void sum_parts(void *context, int64_t first, int64_t last, int thread) {
    const Search *s = context;
    const int32_t strips = s->height / BLOCK, samples = 3 * s->width;
    uint16_t *tall = (uint16_t *)(s->scratch + (size_t)thread * s->scratch_bytes), *sums = tall + samples;
    for (int64_t item = first; item < last; ++item) {
        const int64_t pair = item / strips;
        const int32_t top = (int32_t)(item % strips) * BLOCK;
        for (int32_t y = top; y < smaller(top + BLOCK, s->height - PART + 1); ++y) {
            const uint8_t *a = s->reference + frame_start(s, pair) + (size_t)y * (size_t)samples;
            const uint8_t *b = a + samples, *c = b + samples, *d = c + samples;
            for (int32_t i = 0; i < samples; ++i) tall[i] = (uint16_t)(a[i] + b[i] + c[i] + d[i]);
            for (int32_t i = 0; i < samples - 9; ++i) {
                sums[i] = (uint16_t)(tall[i] + tall[i + 3] + tall[i + 6] + tall[i + 9]);
            }
            const size_t line = (size_t)y * (size_t)s->stride;
            uint16_t *red = table_of(s, pair, PART_SUMS) + line;
            uint16_t *green = red + s->table, *blue = green + s->table;
            for (int32_t x = 0; x < s->width - PART + 1; ++x) {
                red[x] = sums[3 * x], green[x] = sums[3 * x + 1], blue[x] = sums[3 * x + 2];
            }
        }
    }
}

// Sums of the 8 x 8 boxes, of each channel and of all, from those of the 4 x 4 boxes. An item is 16 rows.
static void sum_quarters(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Search *s = context;
    const int32_t strips = s->height / BLOCK, stride = s->stride;
    for (int64_t item = first; item < last; ++item) {
        const int32_t top = (int32_t)(item % strips) * BLOCK;
        for (int32_t y = top; y < smaller(top + BLOCK, s->height - QUARTER + 1); ++y) {
            const uint16_t *part[3], *below[3];
            uint16_t *quarter[3], *restrict grey = table_of(s, item / strips, GREY_SUMS) + (size_t)y * (size_t)stride;
            for (int channel = 0; channel < 3; ++channel) {
                part[channel] = table_of(s, item / strips, PART_SUMS + channel) + (size_t)y * (size_t)stride;
                below[channel] = part[channel] + PART * stride;
                quarter[channel] = table_of(s, item / strips, QUARTER_SUMS + channel) + (size_t)y * (size_t)stride;
            }
            for (int32_t x = 0; x < stride; x += LANES) {
                Words all = same_words(0);
                for (int channel = 0; channel < 3; ++channel) {
                    const Words upper = sum(load_words(part[channel] + x), load_words(part[channel] + x + PART));
                    const Words lower = sum(load_words(below[channel] + x), load_words(below[channel] + x + PART));
                    store_words(quarter[channel] + x, sum(upper, lower));
                    all = sum(all, sum(upper, lower));
                }
                store_words(grey + x, all);
            }
        }
    }
}

// One block, its sums, and the best match so far.
typedef struct {
    const uint8_t *here, *there;  // there: where it would be in the reference without motion
    size_t pitch;
    float penalty;
    Match best;
    int32_t first_dx, last_dx, first_dy, last_dy;
    int32_t side;  // of a row of bounds: the displacements of a row rounded up to whole vectors
    uint16_t parts[3][16], quarters[3][4], grey[4];
} Block;

static void sum_block(Block *block) {
    for (int band = 0; band < BANDS; ++band) {
        uint16_t tall[3 * BLOCK] = {0};
        for (int y = PART * band; y < PART * (band + 1); ++y) {
            for (int i = 0; i < 3 * BLOCK; ++i) tall[i] += block->here[(size_t)y * block->pitch + (size_t)i];
        }
        for (int i = 0; i < 12; ++i) {
            const uint16_t *first = tall + i / 3 * 3 * PART + i % 3;
            block->parts[i % 3][BANDS * band + i / 3] = (uint16_t)(first[0] + first[3] + first[6] + first[9]);
        }
    }
    for (int i = 0; i < 4; ++i) {
        block->grey[i] = 0;
        for (int channel = 0; channel < 3; ++channel) {
            const uint16_t *corner = block->parts[channel] + i / 2 * 8 + i % 2 * 2;
            block->quarters[channel][i] = (uint16_t)(corner[0] + corner[1] + corner[4] + corner[5]);
            block->grey[i] = (uint16_t)(block->grey[i] + block->quarters[channel][i]);
        }
    }
}

// The whole number above which a bound is above the best cost, however that was rounded; MOST lets everything pass.
INLINE uint32_t limit_of(const Block *block) {
    return block->best.cost < MOST - 1 ? (uint32_t)block->best.cost + 1 : MOST;
}

// Least cost of a displacement by itself, in whole numbers. MOST stands for that and more.
INLINE uint32_t price_of(const Block *block, int32_t distance) {
    const float price = block->penalty * (float)distance;
    return price < MOST ? (uint32_t)price : MOST;
}

// Takes the match at (dx, dy) when it is the better one.
INLINE void take(Block *block, int32_t dx, int32_t dy, uint32_t sad) {
    const Match found = {0, (int32_t)sad, magnitude(dx) + magnitude(dy), dx, dy}, *best = &block->best;
    const float cost = (float)sad + block->penalty * (float)found.distance;
    if (cost > best->cost) return;
    if (cost == best->cost) {
        if (found.distance > best->distance) return;
        if (found.distance == best->distance && (dy > best->dy || (dy == best->dy && dx >= best->dx))) return;
    }
    block->best = found, block->best.cost = cost;
}

// SAD of the upper (0) or lower (1) half of the block.
INLINE uint32_t sad_of_half(const Block *block, int32_t dx, int32_t dy, int half) {
    const size_t pitch = block->pitch, start = (size_t)(half * BLOCK / 2) * pitch;
    const uint8_t *here = block->here + start;
    const uint8_t *there = block->there + start + (ptrdiff_t)dy * (ptrdiff_t)pitch + 3 * dx;
    Sads sads = no_sads();
    for (int y = 0; y < BLOCK / 2; y += 2, here += 2 * pitch, there += 2 * pitch) {
        sads = add_sads(sads, here, there, pitch);
    }
    return total_sads(sads);
}

INLINE void compare(Block *block, int32_t dx, int32_t dy) {
    take(block, dx, dy, sad_of_half(block, dx, dy, 0) + sad_of_half(block, dx, dy, 1));
}

INLINE Words bounded(Words bound, const uint16_t *sums, uint16_t here) {
    return saturated_sum(bound, difference(load_words(sums), same_words(here)));
}

// Bounds of all displacements from the quarters' grey sums, row after row of block->side; returns the least.
static uint32_t bound_all(const Block *block, const uint16_t *sums, int32_t stride, const uint16_t *prices,
                          uint16_t *bounds) {
    Words lowest = same_words(MOST);
    for (int32_t dy = block->first_dy; dy <= block->last_dy; ++dy, sums += stride, bounds += block->side) {
        const Words price = same_words(price_of(block, magnitude(dy)));
        for (int32_t i = 0; i < block->side; i += LANES) {
            Words bound = saturated_sum(price, load_words(prices + i));
            bound = bounded(bound, sums + i, block->grey[0]);
            bound = bounded(bound, sums + i + QUARTER, block->grey[1]);
            bound = bounded(bound, sums + i + QUARTER * stride, block->grey[2]);
            bound = bounded(bound, sums + i + QUARTER * stride + QUARTER, block->grey[3]);
            store_words(bounds + i, bound);
            lowest = least(lowest, bound);
        }
    }
    uint16_t lanes[LANES];
    uint32_t minimum = MOST;
    store_words(lanes, lowest);
    for (int i = 0; i < LANES; ++i) minimum = lanes[i] < minimum ? lanes[i] : minimum;
    return minimum;
}

// LANES displacements side by side: those in question (bits), the first one's dx and their dy.
typedef struct {
    uint32_t open;
    int32_t dx, dy;
    Words price;         // least cost of each by itself
    Words upper, lower;  // and from the upper two quarters; and from the lower half's parts
} Group;

// Drops what the quarters of each channel leave no chance; `sums` is the first displacement's.
static void try_quarters(const Block *block, Group *group, const uint16_t *sums, size_t table, int32_t stride) {
    Words bound = group->price;
    for (int i = 0; i < 4; ++i) {
        for (int channel = 0; channel < 3; ++channel) {
            const uint16_t *line = sums + (size_t)channel * table + i / 2 * QUARTER * stride + i % 2 * QUARTER;
            bound = bounded(bound, line, block->quarters[channel][i]);
        }
        if (i == 1) group->upper = bound;
    }
    group->open &= at_most(bound, same_words(limit_of(block)));
}

// Drops what the parts of each channel leave no chance, once after the lower half and once in the end.
static void try_parts(const Block *block, Group *group, const uint16_t *sums, size_t table, int32_t stride) {
    const Words limit = same_words(limit_of(block));
    Words bound = same_words(0);
    for (int band = BANDS - 1; band >= 0; --band) {
        for (int channel = 0; channel < 3; ++channel) {
            const uint16_t *line = sums + (size_t)channel * table + PART * band * stride;
            const uint16_t *here = block->parts[channel] + BANDS * band;
            for (int i = 0; i < 4; ++i) bound = bounded(bound, line + PART * i, here[i]);
        }
        if (band != BANDS / 2) continue;
        group->open &= at_most(saturated_sum(bound, group->upper), limit);
        if (!group->open) return;
        group->lower = saturated_sum(bound, group->price);
    }
    group->open &= at_most(saturated_sum(bound, group->price), limit);
}

// Compares sample by sample, the upper half of all displacements in question before the lower one of any.
static void compare_group(Block *block, const Group *group) {
    uint32_t sads[LANES], open = group->open;
    uint16_t seen[LANES] = {0};
    for (uint32_t left = open; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        const uint32_t sad = sad_of_half(block, group->dx + lane, group->dy, 0);
        sads[lane] = sad, seen[lane] = (uint16_t)(sad < MOST ? sad : MOST);
    }
    open &= at_most(saturated_sum(load_words(seen), group->lower), same_words(limit_of(block)));
    for (; open; open &= open - 1) {
        const int lane = __builtin_ctz(open);
        const int32_t dx = group->dx + lane;
        take(block, dx, group->dy, sads[lane] + sad_of_half(block, dx, group->dy, 1));
    }
}

// The displacement with the least bound: mostly the best or near it, so that the others go at once.
static void try_least(Block *block, const uint16_t *bounds, uint32_t minimum) {
    for (int32_t dy = block->first_dy; dy <= block->last_dy; ++dy, bounds += block->side) {
        for (int32_t i = 0; i < block->side; i += LANES) {
            const uint32_t found = at_most(load_words(bounds + i), same_words(minimum));
            const int32_t dx = block->first_dx + i + (found ? __builtin_ctz(found) : 0);
            if (!found || dx > block->last_dx) continue;
            compare(block, dx, dy);
            return;
        }
    }
}

// Finds what is better than the best so far among the displacements of one dy. `tables` starts at the first of all.
static void search_line(const Search *s, Block *block, const uint16_t *tables, int32_t dy, const uint16_t *prices) {
    const int32_t row = dy - block->first_dy, count = block->last_dx - block->first_dx + 1;
    const uint16_t *bounds = prices + (size_t)(row + 1) * (size_t)block->side;
    const uint16_t *parts = tables + (ptrdiff_t)row * s->stride, *quarters = parts + QUARTER_SUMS * s->table;
    const Words across = same_words(price_of(block, magnitude(dy)));
    Group group;
    group.dy = dy;
    for (int32_t i = 0; i < block->side; i += LANES) {
        group.open = at_most(load_words(bounds + i), same_words(limit_of(block)));
        if (count - i < LANES) group.open &= (1u << (count - i)) - 1;
        if (!group.open) continue;
        group.dx = block->first_dx + i;
        group.price = saturated_sum(across, load_words(prices + i));
        try_quarters(block, &group, quarters + i, s->table, s->stride);
        if (group.open) try_parts(block, &group, parts + i, s->table, s->stride);
        if (group.open) compare_group(block, &group);
    }
}

// The best match of a block whose best so far is a start. `prices` holds a row, and then the bounds a row for each dy.
static void search_block(const Search *s, int64_t pair, int32_t left, int32_t top, Block *block, uint16_t *prices) {
    const int32_t count = block->last_dx - block->first_dx + 1;
    uint16_t *bounds = prices + block->side;
    for (int32_t i = 0; i < block->side; ++i) {
        prices[i] = (uint16_t)(i < count ? price_of(block, magnitude(block->first_dx + i)) : MOST);
    }
    const ptrdiff_t origin = (ptrdiff_t)(top + block->first_dy) * s->stride + left + block->first_dx;
    const uint16_t *tables = table_of(s, pair, 0) + origin;
    const uint32_t minimum = bound_all(block, tables + GREY_SUMS * s->table, s->stride, prices, bounds);
    if (minimum > limit_of(block)) return;
    try_least(block, bounds, minimum);
    const int32_t centre = block->best.dy, reach = block->last_dy - block->first_dy;
    for (int32_t step = 0; step <= 2 * reach; ++step) {  // from the best row outwards
        const int32_t dy = centre + (step % 2 ? -(step + 1) / 2 : step / 2);
        if (dy >= block->first_dy && dy <= block->last_dy) search_line(s, block, tables, dy, prices);
    }
}

static int32_t energy_of(const uint8_t *here, const uint8_t *there, size_t pitch) {
    int32_t energy = 0;
    for (int y = 0; y < BLOCK; ++y, here += pitch, there += pitch) {
        for (int x = 0; x < 3 * BLOCK; ++x) energy += (here[x] - there[x]) * (here[x] - there[x]);
    }
    return energy;
}

// An item is a row of blocks: each starts from no motion and from the vector of its left neighbour.
static void search_rows(void *context, int64_t first, int64_t last, int thread) {
    const Search *s = context;
    const int32_t rows = s->height / BLOCK, columns = s->width / BLOCK;
    uint16_t *scratch = (uint16_t *)(s->scratch + (size_t)thread * s->scratch_bytes);
    for (int64_t item = first; item < last; ++item) {
        const int32_t top = (int32_t)(item % rows) * BLOCK;
        Match before = {0};
        for (int32_t column = 0; column < columns; ++column) {
            const int32_t left = column * BLOCK;
            const size_t corner = frame_start(s, item / rows) + ((size_t)top * (size_t)s->width + (size_t)left) * 3;
            Block block = {
                .here = s->current + corner, .there = s->reference + corner, .pitch = (size_t)s->width * 3,
                .penalty = s->penalty, .best = {.cost = 3e38f},
                .first_dx = -smaller(s->radius, left), .last_dx = smaller(s->radius, s->width - BLOCK - left),
                .first_dy = -smaller(s->radius, top), .last_dy = smaller(s->radius, s->height - BLOCK - top),
            };
            block.side = (block.last_dx - block.first_dx + LANES) / LANES * LANES;
            sum_block(&block);
            compare(&block, 0, 0);
            compare(&block, larger(block.first_dx, smaller(block.last_dx, before.dx)), before.dy);
            search_block(s, item / rows, left, top, &block, scratch);
            const int64_t index = (s->first_pair * rows + item) * columns + column;
            const Match *match = &block.best;
            s->vectors[2 * index] = (int16_t)match->dx, s->vectors[2 * index + 1] = (int16_t)match->dy;
            s->costs[index] = match->cost, s->sads[index] = match->sad;
            if (s->energies) {
                const uint8_t *there = block.there + (ptrdiff_t)match->dy * (ptrdiff_t)block.pitch + 3 * match->dx;
                s->energies[index] = energy_of(block.here, there, block.pitch);
            }
            before = *match;
        }
    }
}

// energies (squared differences at the winner) may be null. Tables are made for as many pairs at once as fit into
// GROUP_BYTES, so that memory does not grow with the number of pairs.
EXPORT int block_match(const uint8_t *current, const uint8_t *reference, int16_t *vectors, float *costs, int32_t *sads,
                       int32_t *energies, int64_t pairs, int32_t height, int32_t width, int32_t radius, float penalty,
                       int32_t threads) {
    Search s = {
        .current = current, .reference = reference, .vectors = vectors, .costs = costs, .sads = sads,
        .energies = energies, .height = height, .width = width, .radius = radius, .penalty = penalty,
        .stride = (width + LANES - 1) / LANES * LANES,
    };
    s.table = (size_t)height * (size_t)s.stride;
    const size_t for_sums = (size_t)width * 6 * sizeof(uint16_t);
    const size_t for_bounds = (size_t)(2 * radius + LANES) * (size_t)(2 * radius + 2) * sizeof(uint16_t);
    s.scratch_bytes = ((for_sums > for_bounds ? for_sums : for_bounds) + 63) / 64 * 64;
    const int64_t fit = (int64_t)(GROUP_BYTES / (TABLES * sizeof(uint16_t) * s.table));
    const int64_t group = fit < 1 ? 1 : fit < pairs ? fit : pairs;
    const size_t for_tables = ((size_t)group * TABLES * s.table + 2 * LANES) * sizeof(uint16_t);  // read past the end
    s.scratch = borrow((size_t)larger(threads, 1) * s.scratch_bytes + for_tables);
    s.tables = (uint16_t *)(s.scratch + (size_t)larger(threads, 1) * s.scratch_bytes);
    int result = s.scratch ? DONE : NO_MEMORY;
    for (; s.first_pair < pairs && result == DONE; s.first_pair += group) {
        const int64_t items = (pairs - s.first_pair < group ? pairs - s.first_pair : group) * (height / BLOCK);
        result = parallel(sum_parts, &s, items, 1, threads);
        if (result == DONE) result = parallel(sum_quarters, &s, items, 1, threads);
        if (result == DONE) result = parallel(search_rows, &s, items, 1, threads);
    }
    give_back(s.scratch);
    return result;
}
