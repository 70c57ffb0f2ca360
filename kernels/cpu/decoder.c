// Decoder layers for one row, as every written token needs them: RMSNorm (arXiv 1910.07467), grouped
// attention with normalised, rotated queries and keys (Qwen3, arXiv 2505.09388), and SwiGLU (arXiv 2002.05202), each
// added to the row. Computed in float32; products have 8-bit activations (linear.c).
#include "linear.h"

#pragma STDC FP_CONTRACT ON

typedef struct {
    Type type;
    const uint8_t *weight;
    float *y;
    int64_t outputs;
} Matrix;

typedef struct {
    Matrix matrix[3];
    int matrices;
    int64_t columns;
    uint8_t *rounded[3];  // the activations, for the type of each matrix
} Products;

INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// exp(x): 2^n times a polynomial over half an octave on either side (Cephes, expf.c). From 88 on it is that of 88,
// below -87 it is 0.
INLINE Floats exponential(Floats x) {
    const Words low = x < -87.0f, high = x > 88.0f;
    x = (Floats)(((Words)x & ~(low | high)) | ((Words)(Floats){88, 88, 88, 88, 88, 88, 88, 88} & high));
    const Floats whole = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const Floats r = (x - whole * 0.693359375f) - whole * -2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f, y = y * r + 4.1665795894e-2f, y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f, y = y * (r * r) + r + 1.0f;
    const Words power = (__builtin_convertvector(whole, Words) + 127) << 23;
    return (Floats)((Words)(y * (Floats)power) & ~low);
}

// Rows of several matrices with one row of activations, as if they were one matrix.
static void multiply(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Products *p = context;
    for (int m = 0; m < p->matrices; ++m) {
        const Matrix *matrix = &p->matrix[m];
        const int64_t end = smaller(last, matrix->outputs);
        if (first < end) {
            multiply_rows(matrix->type, matrix->weight, p->rounded[m], p->columns, first, end, matrix->y);
        }
        first = larger(first - matrix->outputs, 0), last -= matrix->outputs;
        if (last <= 0) return;
    }
}

// Rounds x for each matrix of `p` into `space` and does `work` on `items` rows.
static int run(Products *p, Work work, int64_t items, const float *x, uint8_t *space, int threads) {
    for (int m = 0; m < p->matrices; ++m) {
        const Type type = p->matrix[m].type;
        p->rounded[m] = space;
        for (int earlier = 0; earlier < m; ++earlier) {
            if (p->matrix[earlier].type == type) p->rounded[m] = p->rounded[earlier];
        }
        if (p->rounded[m] == space) {
            round_floats(type, x, p->columns, space);
            space += (rounded_bytes(type, p->columns) + 63) / 64 * 64;
        }
    }
    return parallel(work, p, items, (items / (8 * threads) + 8) / 8 * 8, threads);
}

static void normalise(float *x, const float *weight, int64_t count, float epsilon) {
    Floats squares = {0};
    for (int64_t i = 0; i + 8 <= count; i += 8) squares += LOAD(Floats, x + i) * LOAD(Floats, x + i);
    float sum = sum_of(squares);
    for (int64_t i = count / 8 * 8; i < count; ++i) sum += x[i] * x[i];
    const float factor = 1 / __builtin_sqrtf(sum / (float)count + epsilon);
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
    const float *query;
    const uint8_t *keys, *values;
    float *scores, *attended;
    int64_t length, score_stride, head_bytes, size, group;
} Attention;

INLINE void attend_head(Type dtype, const Attention *a, int64_t head) {
    const int64_t size = a->size, length = a->length;
    const uint8_t *keys = a->keys + head / a->group * a->head_bytes;
    const uint8_t *values = a->values + head / a->group * a->head_bytes;
    const float *query = a->query + head * size, scale = 1 / __builtin_sqrtf((float)size);
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
        for (int j = 0; j < 4; ++j) STORE(attended + i + 8 * j, sums[j] * share);
    }
}

static void attend_heads(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Attention *a = context;
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

// One layer: a half whose norm is NULL is left out. Norm weights are float32, keys and values [key_heads, capacity,
// size].
typedef struct {
    const float *norm, *query_norm, *key_norm;
    const void *query, *key, *value, *output;
    void *keys, *values;
    int64_t capacity;
    const float *feed_norm;
    const void *gate, *up, *down;
    int64_t query_type, key_type, value_type, output_type, gate_type, up_type, down_type;
} Layer;

typedef struct {
    Type dtype;  // of states, keys and values
    int64_t width, inner, heads, key_heads, size, turned, length;
    const float *cosine, *sine;
    float epsilon;
    int threads;
    float *space;
} Row;

static int64_t score_stride(const Row *r) { return (r->length + 7) / 8 * 8; }

static size_t row_space(const Row *r) {
    const int64_t query_width = r->heads * r->size, widest = larger(r->width, larger(query_width, r->inner));
    const int64_t attention = 2 * query_width + 2 * r->key_heads * r->size + r->heads * score_stride(r);
    return (size_t)(4 * (2 * r->width + larger(attention, 2 * r->inner)) + 4 * (rounded_bytes(Q6_K, widest) + 64));
}

// y = x + output(attention(norm(x))). Writes the row's key and value as row `length` - 1 and attends to all `length`.
static int attention_row(const Row *r, const Layer *layer, const uint8_t *x, uint8_t *y) {
    const int64_t width = r->width, size = r->size, query_width = r->heads * size, key_width = r->key_heads * size;
    float *row = r->space, *q = row + 2 * width, *k = q + query_width, *v = k + key_width, *attended = v + key_width;
    float *scores = attended + query_width;
    uint8_t *rounded = (uint8_t *)(scores + r->heads * score_stride(r));
    load_row(r->dtype, x, width, row);
    normalise(row, layer->norm, width, r->epsilon);
    Products products = {{{(Type)layer->query_type, layer->query, q, query_width},
                          {(Type)layer->key_type, layer->key, k, key_width},
                          {(Type)layer->value_type, layer->value, v, key_width}}, 3, width, {0}};
    int result = run(&products, multiply, query_width + 2 * key_width, row, rounded, r->threads);
    if (result != DONE) return result;
    for (int64_t head = 0; head < r->heads; ++head) {
        normalise(q + head * size, layer->query_norm, size, r->epsilon);
        rotate(q + head * size, r->cosine, r->sine, r->turned);
    }
    for (int64_t head = 0; head < r->key_heads; ++head) {
        const int64_t at = (head * layer->capacity + r->length - 1) * size;
        normalise(k + head * size, layer->key_norm, size, r->epsilon);
        rotate(k + head * size, r->cosine, r->sine, r->turned);
        for (int64_t i = 0; i < size; ++i) {
            store_float(r->dtype, layer->keys, at + i, k[head * size + i]);
            store_float(r->dtype, layer->values, at + i, v[head * size + i]);
        }
    }
    const int64_t group = r->heads / r->key_heads;
    Attention attention = {r->dtype, q, layer->keys, layer->values, scores, attended, r->length, score_stride(r),
                           layer->capacity * size * float_bytes(r->dtype), size, group};
    result = parallel(attend_heads, &attention, r->heads, group, r->threads);
    if (result != DONE) return result;
    Products last = {{{(Type)layer->output_type, layer->output, row + width, width}}, 1, query_width, {0}};
    result = run(&last, multiply, width, attended, rounded, r->threads);
    store_sum(r->dtype, x, row + width, width, y);
    return result;
}

static void gate_rows(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Products *p = context;
    float *gate = p->matrix[0].y, *up = p->matrix[1].y;
    for (int m = 0; m < 2; ++m) {
        const Matrix *matrix = &p->matrix[m];
        multiply_rows(matrix->type, matrix->weight, p->rounded[m], p->columns, first, last, matrix->y);
    }
    for (int64_t i = first; i < last; i += 8) {
        Floats x = {0}, y = {0};
        const size_t bytes = (size_t)smaller(last - i, 8) * 4;
        memcpy(&x, gate + i, bytes), memcpy(&y, up + i, bytes);
        x = x / (exponential(-x) + 1.0f) * y;
        memcpy(gate + i, &x, bytes);
    }
}

// y = x + down(silu(gate(norm(x))) * up(norm(x))).
static int feed_forward_row(const Row *r, const Layer *layer, const uint8_t *x, uint8_t *y) {
    const int64_t width = r->width, inner = r->inner;
    float *row = r->space, *gated = row + 2 * width;
    uint8_t *rounded = (uint8_t *)(gated + 2 * inner);
    load_row(r->dtype, x, width, row);
    normalise(row, layer->feed_norm, width, r->epsilon);
    Products products = {{{(Type)layer->gate_type, layer->gate, gated, inner},
                          {(Type)layer->up_type, layer->up, gated + inner, inner}}, 2, width, {0}};
    int result = run(&products, gate_rows, inner, row, rounded, r->threads);
    if (result != DONE) return result;
    Products last = {{{(Type)layer->down_type, layer->down, row + width, width}}, 1, inner, {0}};
    result = run(&last, multiply, width, gated, rounded, r->threads);
    store_sum(r->dtype, x, row + width, width, y);
    return result;
}

// y = one row x of `width` numbers of `dtype` after `count` layers. `size` is a multiple of 32, `heads` of `key_heads`;
// `cosine` and `sine` [turned / 2] are float32.
EXPORT int decoder_row(const void *x, void *y, const void *layers, const float *cosine, const float *sine,
                       int64_t count, int64_t width, int64_t inner, int64_t heads, int64_t key_heads, int64_t size,
                       int64_t turned, int64_t length, int32_t dtype, float epsilon, int32_t threads) {
    Row row = {(Type)dtype, width, inner, heads, key_heads, size, turned, length, cosine, sine, epsilon, threads, NULL};
    row.space = allocate(row_space(&row));
    if (!row.space) return NO_MEMORY;
    int result = DONE;
    for (const Layer *layer = layers; result == DONE && count > 0; ++layer, --count) {
        if (layer->norm) result = attention_row(&row, layer, x, y), x = y;
        if (layer->feed_norm && result == DONE) result = feed_forward_row(&row, layer, x, y), x = y;
    }
    release(row.space);
    return result;
}

typedef struct {
    const float *query, *key, *value, *decay, *strength, *state;
    float *output, *after;
    int64_t keys, values;
} Delta;

// `count` columns of a head's state, which are independent of each other.
INLINE void delta_columns(const Delta *d, int64_t head, int64_t first, int count) {
    const float *key = d->key + head * d->keys, *query = d->query + head * d->keys;
    const float fade = exponential((Floats){0} + d->decay[head])[0];
    const int64_t column = head * d->values + first, corner = head * d->keys * d->values + first;
    float error[64] = {0}, read[64] = {0};
    for (int64_t k = 0; k < d->keys; ++k) {
        const float *state = d->state + corner + k * d->values;
        for (int j = 0; j < count; ++j) error[j] += key[k] * state[j];
    }
    for (int j = 0; j < count; ++j) error[j] = d->strength[head] * (d->value[column + j] - fade * error[j]);
    for (int64_t k = 0; k < d->keys; ++k) {
        const float *state = d->state + corner + k * d->values;
        float *after = d->after + corner + k * d->values;
        for (int j = 0; j < count; ++j) {
            const float now = fade * state[j] + key[k] * error[j];
            after[j] = now, read[j] += query[k] * now;
        }
    }
    memcpy(d->output + column, read, (size_t)count * 4);
}

static void delta_heads(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Delta *d = context;
    for (int64_t head = first; head < last; ++head) {
        int64_t column = 0;
        for (; column + 64 <= d->values; column += 64) delta_columns(d, head, column, 64);
        for (; column + 8 <= d->values; column += 8) delta_columns(d, head, column, 8);
        for (; column < d->values; ++column) delta_columns(d, head, column, 1);
    }
}

// One row of the gated delta rule (arXiv 2412.06464, eq. 10): S = exp(decay) S; S = S + k (strength (v - S^T k))^T;
// o = S^T q. query and key [heads, keys], value and output [heads, values], state and after [heads, keys, values].
EXPORT int delta_step(const float *query, const float *key, const float *value, const float *decay,
                      const float *strength, const float *state, float *output, float *after, int64_t heads,
                      int64_t keys, int64_t values, int32_t threads) {
    Delta delta = {query, key, value, decay, strength, state, output, after, keys, values};
    return parallel(delta_heads, &delta, heads, 1, threads);
}
