// The gated delta rule (Gated DeltaNet, arXiv 2412.06464) for one row, and the linear attention around it: Qwen3.5's
// layers that keep a state instead of keys and values.
#include "decoder.h"

#pragma STDC FP_CONTRACT ON

// One head: query and key [keys], value and output [values], state and after [keys, values].
typedef struct {
    const float *query, *key, *value, *state;
    float *output, *after;
    float fade, strength;
    int64_t keys, values;
} Head;

INLINE Floats some_floats(const float *p, int64_t count) {
    Floats x = {0};
    memcpy(&x, p, (size_t)count * 4);
    return x;
}

// A state is next read when all weights have passed the caches, so it need not displace them.
INLINE void store_past_caches(float *p, Floats x, int64_t count) {
#if __has_builtin(__builtin_nontemporal_store)
    if (count == 8 && (uintptr_t)p % sizeof x == 0) {
        __builtin_nontemporal_store(x, (Floats *)p);
        return;
    }
#endif
    memcpy(p, &x, (size_t)count * 4);
}

// Columns of the state, which are independent of each other: `vectors` times 8, the last `count` of 8.
INLINE void delta_columns(const Head *h, int64_t first, int vectors, int64_t count) {
    const float *state = h->state + first;
    float *after = h->after + first;
    Floats error[16] = {0}, read[16] = {0};
    for (int64_t k = 0; k < h->keys; ++k) {
        for (int j = 0; j < vectors; ++j) error[j] += h->key[k] * some_floats(state + k * h->values + 8 * j, count);
    }
    for (int j = 0; j < vectors; ++j) {
        error[j] = h->strength * (some_floats(h->value + first + 8 * j, count) - h->fade * error[j]);
    }
    for (int64_t k = 0; k < h->keys; ++k) {
        for (int j = 0; j < vectors; ++j) {
            const Floats before = some_floats(state + k * h->values + 8 * j, count);
            const Floats now = h->fade * before + h->key[k] * error[j];
            store_past_caches(after + k * h->values + 8 * j, now, count);
            read[j] += h->query[k] * now;
        }
    }
    for (int j = 0; j < vectors; ++j) memcpy(h->output + first + 8 * j, &read[j], (size_t)count * 4);
}

static void delta_head(const Head *h) {
    int64_t column = 0;
    for (; column + 128 <= h->values; column += 128) delta_columns(h, column, 16, 8);
    for (; column + 32 <= h->values; column += 32) delta_columns(h, column, 4, 8);
    for (; column + 8 <= h->values; column += 8) delta_columns(h, column, 1, 8);
    if (column < h->values) delta_columns(h, column, 1, h->values - column);
}

typedef struct {
    const float *query, *key, *value, *decay, *strength, *state;
    float *output, *after;
    int64_t keys, values;
} Step;

static void delta_heads(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Step *s = context;
    for (int64_t i = first; i < last; ++i) {
        const int64_t row = i * s->keys, column = i * s->values, corner = row * s->values;
        const float fade = exponential((Floats){0} + s->decay[i])[0];
        delta_head(&(Head){s->query + row, s->key + row, s->value + column, s->state + corner, s->output + column,
                           s->after + corner, fade, s->strength[i], s->keys, s->values});
    }
}

// One row of the rule (eq. 10): S = exp(decay) S; S = S + k (strength (v - S^T k))^T; o = S^T q. query and key
// [heads, keys], value and output [heads, values], state and after [heads, keys, values].
EXPORT int delta_step(const float *query, const float *key, const float *value, const float *decay,
                      const float *strength, const float *state, float *output, float *after, int64_t heads,
                      int64_t keys, int64_t values, int32_t threads) {
    Step step = {query, key, value, decay, strength, state, output, after, keys, values};
    return parallel(delta_heads, &step, heads, 1, threads);
}

// log(1 + exp(x)). With y = exp(-|x|), log(1 + y) is twice the inverse hyperbolic tangent of y / (2 + y), at most 1/3.
INLINE Floats softplus(Floats x) {
    const Words negative = x < 0.0f;
    const Floats y = exponential((Floats)((Words)x | (int32_t)0x80000000));
    const Floats z = y / (y + 2.0f), square = z * z;
    Floats sum = square * (1 / 13.0f) + 1 / 11.0f;
    sum = sum * square + 1 / 9.0f, sum = sum * square + 1 / 7.0f, sum = sum * square + 1 / 5.0f;
    sum = sum * square + 1 / 3.0f, sum = sum * square + 1.0f;
    return 2.0f * z * sum + (Floats)((Words)x & ~negative);
}

typedef struct {
    const Row *row;
    const DeltaNet *net;
    int64_t channels;
    float *mixed, *gate, *decay, *strength, *read;
    Products products;
} Mixed;

// The causal convolution and SiLU of the channels first..last - 1, eight at a time; their inputs move up by a row.
INLINE void convolve(Type dtype, int64_t kernel, const Mixed *m, int64_t first, int64_t last) {
    const DeltaNet *net = m->net;
    for (int64_t i = first; i < last; i += 8) {
        Floats sum = {0};
        for (int64_t t = 0; t < kernel; ++t) {
            const int64_t at = t * m->channels + i, above = at - m->channels;
            const Floats input = t < kernel - 1 ? floats_at(dtype, net->inputs, at) : LOAD(Floats, m->mixed + i);
            Floats taps;
            for (int j = 0; j < 8; ++j) taps[j] = net->taps[(i + j) * kernel + t];
            sum += taps * input;
            for (int j = 0; t && j < 8; ++j) store_float(dtype, net->inputs_after, above + j, input[j]);
        }
        STORE(m->mixed + i, silu(sum));
    }
}

INLINE void convolve_any(Type dtype, const Mixed *m, int64_t first, int64_t last) {
    if (m->net->kernel == 4) convolve(dtype, 4, m, first, last);  // that of all published models
    else convolve(dtype, m->net->kernel, m, first, last);
}

static void mix_rows(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Mixed *m = context;
    multiply(&m->products, first, last);
    last = smaller(last, m->channels);
    if (m->row->dtype == F32) convolve_any(F32, m, first, last);
    else if (m->row->dtype == F16) convolve_any(F16, m, first, last);
    else convolve_any(BF16, m, first, last);
}

// x of unit length, times `scale`.
static void make_unit(float *x, int64_t count, float scale) {
    const float factor = scale / __builtin_sqrtf(sum_of_squares(x, count) + 1e-6f);
    for (int64_t i = 0; i < count; ++i) x[i] *= factor;
}

static void read_heads(void *context, int64_t first, int64_t last, int thread) {
    (void)thread;
    const Mixed *m = context;
    const DeltaNet *net = m->net;
    const int64_t size = net->size, keys = net->key_heads * size;
    for (int64_t i = first; i < last; ++i) {
        const int64_t group = net->value_heads / net->key_heads, key_head = net->grouped ? i / group : i % net->key_heads;
        const Floats fade = exponential(net->rate[i] * softplus((Floats){0} + m->decay[i] + net->bias[i]));
        const Floats strength = 1.0f / (exponential((Floats){0} - m->strength[i]) + 1.0f);
        const float *query = m->mixed + key_head * size, *gate = m->gate + i * size;
        float *read = m->read + i * size;
        delta_head(&(Head){query, query + keys, m->mixed + 2 * keys + i * size, net->state + i * size * size, read,
                           net->state_after + i * size * size, fade[0], strength[0], size, size});
        normalise(read, net->norm, size, m->row->epsilon);
        for (int64_t j = 0; j < size; j += 8) STORE(read + j, LOAD(Floats, read + j) * silu(LOAD(Floats, gate + j)));
    }
}

int64_t delta_net_space(const Row *r, const DeltaNet *net) {
    const int64_t values = net->value_heads * net->size;
    return 2 * net->key_heads * net->size + 3 * values + 2 * net->value_heads + rounding_space(larger(r->width, values));
}

// Writes the state after the row and the last inputs of the convolution.
int delta_net(const Row *r, const DeltaNet *net) {
    const int64_t size = net->size, keys = net->key_heads * size, values = net->value_heads * size;
    Mixed m = {.row = r, .net = net, .channels = 2 * keys + values, .mixed = r->space};
    m.gate = m.mixed + m.channels, m.read = m.gate + values, m.decay = m.read + values;
    m.strength = m.decay + net->value_heads;
    float *rounded = m.strength + net->value_heads;
    m.products = (Products){.columns = r->width, .matrices = 4,
                            .matrix = {net->mixed, net->gate, net->decay, net->strength},
                            .y = {m.mixed, m.gate, m.decay, m.strength},
                            .outputs = {m.channels, values, net->value_heads, net->value_heads}};
    int result = run(&m.products, mix_rows, &m, r->states, rounded, r->threads);
    if (result != DONE) return result;
    for (int64_t head = 0; head < 2 * net->key_heads; ++head) {
        make_unit(m.mixed + head * size, size, head < net->key_heads ? 1 / __builtin_sqrtf((float)size) : 1);
    }
    result = parallel(read_heads, &m, net->value_heads, 1, r->threads);
    return result != DONE ? result : multiply_last(r, net->output, m.read, values, rounded);
}
