// Decoder layers for one row, as every written token needs them: RMSNorm (arXiv 1910.07467), then grouped attention
// with normalised, rotated queries and keys (Qwen3, arXiv 2505.09388), perhaps with an output gate (arXiv 2505.06708),
// a gated delta net (delta.c) or SwiGLU (arXiv 2002.05202), each added to the row. Computed in float32; products with
// blocks have 8-bit activations (linear.c).
#include "decoder.h"

#pragma STDC FP_CONTRACT ON

void multiply(const Products *p, int64_t first, int64_t last) {
    for (int64_t m = 0; m < p->matrices && last > 0; ++m) {
        const int64_t outputs = p->outputs[m], end = smaller(last, outputs);
        if (first < end) {
            const Stored matrix = p->matrix[m];
            multiply_rows((Type)matrix.type, matrix.weight, p->rounded[m], p->columns, first, end, p->y[m]);
        }
        first = larger(first - outputs, 0), last -= outputs;
    }
}

static void multiply_all(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    multiply(context, first, last);
}

int64_t rounding_space(int64_t columns) { return MATRICES * (columns + SPAN); }

int run(Products *p, Work work, void *context, const float *x, float *space, int threads) {
    uint8_t *free_space = (uint8_t *)space;
    int64_t items = 0;
    for (int64_t m = 0; m < p->matrices; ++m) {
        const Type type = (Type)p->matrix[m].type;
        p->rounded[m] = free_space;
        for (int64_t earlier = 0; earlier < m; ++earlier) {
            if (p->matrix[earlier].type == type) p->rounded[m] = p->rounded[earlier];
        }
        if (p->rounded[m] == free_space) {
            round_floats(type, x, p->columns, free_space);
            free_space += (rounded_bytes(type, p->columns) + 63) / 64 * 64;
        }
        items += p->outputs[m];
    }
    return parallel(work, context, items, (items / (8 * threads) + 8) / 8 * 8, threads);
}

int multiply_last(const Row *r, Stored matrix, const float *x, int64_t columns, float *space) {
    Products last = {.columns = columns, .matrices = 1, .matrix = {matrix}, .y = {r->added}, .outputs = {r->width}};
    return run(&last, multiply_all, &last, x, space, r->threads);
}

void normalise(float *x, const float *weight, int64_t count, float epsilon) {
    const float factor = 1 / __builtin_sqrtf(sum_of_squares(x, count) / (float)count + epsilon);
    for (int64_t i = 0; i < count; ++i) x[i] = x[i] * factor * weight[i];
}

static void load_row(Type dtype, const uint8_t *x, int64_t count, float *row) {
    for (int64_t i = 0; i < count; ++i) row[i] = float_at(dtype, x, i);
}
// y = x + row, in `dtype`.
static void store_sum(Type dtype, const uint8_t *x, const float *row, int64_t count, uint8_t *y) {
    for (int64_t i = 0; i < count; ++i) store_float(dtype, y, i, float_at(dtype, x, i) + row[i]);
}

typedef struct {
    Type dtype;  // of keys and values
    const float *query;  // of each head, followed by its gate where they are gated
    const uint8_t *keys, *values;
    float *scores, *attended;
    int64_t length, score_stride, head_bytes, size, group, gated;
} Heads;

INLINE void attend_head(Type dtype, const Heads *a, int64_t head) {
    const int64_t size = a->size, length = a->length;
    const uint8_t *keys = a->keys + head / a->group * a->head_bytes;
    const uint8_t *values = a->values + head / a->group * a->head_bytes;
    const float *query = a->query + head * (size << a->gated), scale = 1 / __builtin_sqrtf((float)size);
    float *scores = a->scores + head * a->score_stride, *attended = a->attended + head * size;
    float largest = -__builtin_inff();
    for (int64_t t = 0; t < length; ++t) {
        Floats sum = {0};
        for (int64_t i = 0; i < size; i += 8) sum += floats_at(dtype, keys, t * size + i) * LOAD(Floats, query + i);
        const float score = sum_of(sum) * scale;
        scores[t] = score, largest = score > largest ? score : largest;
    }
    for (int64_t t = length; t % 8; ++t) scores[t] = -__builtin_inff();
    Floats total = {0};
    for (int64_t t = 0; t < length; t += 8) {
        const Floats each = exponential(LOAD(Floats, scores + t) - largest);
        STORE(scores + t, each);
        total += each;
    }
    const float share = 1 / sum_of(total);
    for (int64_t i = 0; i < size; i += 32) {
        Floats sums[4] = {0};
        for (int64_t t = 0; t < length; ++t) {
            for (int j = 0; j < 4; ++j) sums[j] += floats_at(dtype, values, t * size + i + 8 * j) * scores[t];
        }
        for (int j = 0; j < 4; ++j) {
            Floats value = sums[j] * share;
            if (a->gated) value = value / (exponential(-LOAD(Floats, query + size + i + 8 * j)) + 1.0f);
            STORE(attended + i + 8 * j, value);
        }
    }
}

static void attend_heads(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Heads *a = context;
    for (int64_t head = first; head < last; ++head) {
        if (a->dtype == F32) attend_head(F32, a, head);
        else if (a->dtype == F16) attend_head(F16, a, head);
        else attend_head(BF16, a, head);
    }
}

// Channel i turned with channel i + turned / 2, by the angle whose cosine and sine are entry i of the tables.
static void rotate(float *head, const float *cosine, const float *sine, int64_t turned) {
    for (int64_t i = 0; i < turned / 2; ++i) {
        const float first = head[i], second = head[i + turned / 2];
        head[i] = first * cosine[i] - second * sine[i];
        head[i + turned / 2] = second * cosine[i] + first * sine[i];
    }
}

// Norm weights are float32, keys and values [key_heads, capacity, size].
typedef struct {
    Stored query, key, value, output;
    const float *query_norm, *key_norm;
    uint8_t *keys, *values;
    int64_t heads, key_heads, size, capacity, gated;
} Attention;

static int64_t score_stride(const Row *r) { return (r->length + 7) / 8 * 8; }

static int64_t attention_space(const Row *r, const Attention *a) {
    const int64_t attended = a->heads * a->size, widest = larger(r->width, attended);
    return 3 * attended + 2 * a->key_heads * a->size + a->heads * score_stride(r) + rounding_space(widest);
}

// Writes the row's key and value as row `length` - 1 and attends to all `length`.
static int attention(const Row *r, const Attention *a) {
    const int64_t size = a->size, step = size << a->gated, query_width = a->heads * step, key_width = a->key_heads * size;
    float *q = r->space, *k = q + query_width, *v = k + key_width, *attended = v + key_width;
    float *scores = attended + a->heads * size, *rounded = scores + a->heads * score_stride(r);
    Products products = {.columns = r->width, .matrices = 3, .matrix = {a->query, a->key, a->value}, .y = {q, k, v},
                         .outputs = {query_width, key_width, key_width}};
    int result = run(&products, multiply_all, &products, r->states, rounded, r->threads);
    if (result != DONE) return result;
    for (int64_t head = 0; head < a->heads; ++head) {
        normalise(q + head * step, a->query_norm, size, r->epsilon);
        rotate(q + head * step, r->cosine, r->sine, r->turned);
    }
    for (int64_t head = 0; head < a->key_heads; ++head) {
        const int64_t at = (head * a->capacity + r->length - 1) * size;
        normalise(k + head * size, a->key_norm, size, r->epsilon);
        rotate(k + head * size, r->cosine, r->sine, r->turned);
        for (int64_t i = 0; i < size; ++i) {
            store_float(r->dtype, a->keys, at + i, k[head * size + i]);
            store_float(r->dtype, a->values, at + i, v[head * size + i]);
        }
    }
    const int64_t group = a->heads / a->key_heads;
    Heads heads = {r->dtype, q, a->keys, a->values, scores, attended, r->length, score_stride(r),
                   a->capacity * size * float_bytes(r->dtype), size, group, a->gated};
    result = parallel(attend_heads, &heads, a->heads, group, r->threads);
    return result != DONE ? result : multiply_last(r, a->output, attended, a->heads * size, rounded);
}

typedef struct {
    Stored gate, up, down;
    int64_t inner;
} FeedForward;

static void gate_rows(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Products *p = context;
    float *gate = p->y[0], *up = p->y[1];
    for (int m = 0; m < 2; ++m) {
        const Stored matrix = p->matrix[m];
        multiply_rows((Type)matrix.type, matrix.weight, p->rounded[m], p->columns, first, last, p->y[m]);
    }
    for (int64_t i = first; i < last; i += 8) {
        Floats x = {0}, y = {0};
        const size_t bytes = (size_t)smaller(last - i, 8) * 4;
        memcpy(&x, gate + i, bytes), memcpy(&y, up + i, bytes);
        x = silu(x) * y;
        memcpy(gate + i, &x, bytes);
    }
}

static int64_t feed_forward_space(const Row *r, const FeedForward *f) {
    return 2 * f->inner + rounding_space(larger(r->width, f->inner));
}

// down(silu(gate(x)) * up(x)).
static int feed_forward(const Row *r, const FeedForward *f) {
    float *gated = r->space, *rounded = gated + 2 * f->inner;
    Products products = {.columns = r->width, .matrices = 2, .matrix = {f->gate, f->up}, .y = {gated, gated + f->inner},
                         .outputs = {f->inner}};
    const int result = run(&products, gate_rows, &products, r->states, rounded, r->threads);
    return result != DONE ? result : multiply_last(r, f->down, gated, f->inner, rounded);
}

enum { ATTENTION, DELTA_NET, FEED_FORWARD };

// A half of a layer. `norm` is that of the stream, float32.
typedef struct {
    int64_t kind;
    const float *norm;
    union {
        Attention attention;
        DeltaNet delta_net;
        FeedForward feed_forward;
    };
} Half;

static int64_t half_space(const Row *r, const Half *half) {
    switch (half->kind) {
        case ATTENTION: return attention_space(r, &half->attention);
        case DELTA_NET: return delta_net_space(r, &half->delta_net);
        default: return feed_forward_space(r, &half->feed_forward);
    }
}

static int compute(const Row *r, const Half *half) {
    switch (half->kind) {
        case ATTENTION: return attention(r, &half->attention);
        case DELTA_NET: return delta_net(r, &half->delta_net);
        default: return feed_forward(r, &half->feed_forward);
    }
}

// y = one row x of `width` numbers of `dtype` after `count` halves of layers. The size of attention's heads is a multiple
// of 32, that of a delta net's of 8, heads are a multiple of key heads; `cosine` and `sine` [turned / 2] are float32.
EXPORT int decoder_row(const void *x, void *y, const void *halves, const float *cosine, const float *sine,
                       int64_t count, int64_t width, int64_t turned, int64_t length, int32_t dtype, float epsilon,
                       int32_t threads) {
    Row row = {.dtype = (Type)dtype, .width = width, .turned = turned, .length = length, .cosine = cosine,
               .sine = sine, .epsilon = epsilon, .threads = threads};
    int64_t space = 0;
    for (int64_t i = 0; i < count; ++i) space = larger(space, half_space(&row, (const Half *)halves + i));
    row.states = allocate((size_t)(4 * (2 * width + space)));
    if (!row.states) return NO_MEMORY;
    row.added = row.states + width, row.space = row.added + width;
    int result = DONE;
    for (const Half *half = halves; result == DONE && count > 0; ++half, --count, x = y) {
        load_row(row.dtype, x, width, row.states);
        normalise(row.states, half->norm, width, epsilon);
        result = compute(&row, half);
        store_sum(row.dtype, x, row.added, width, y);
    }
    release(row.states);
    return result;
}
