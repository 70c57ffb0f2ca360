// What the halves of a decoder layer share for one row (decoder.c, delta.c): products with it, norms, vector functions.
#pragma once
#include "linear.h"

#pragma STDC FP_CONTRACT ON

typedef struct {  // weights in blocks or floats, and ggml's number of their type
    const uint8_t *weight;
    int64_t type;
} Stored;

// One row of the stream on its way through the layers.
typedef struct {
    Type dtype;  // of the stream, of keys and values, and of the inputs of convolutions
    int64_t width, turned, length;
    const float *cosine, *sine;
    float epsilon;
    int threads;
    float *states, *added, *space;  // the normalised row, what a half adds to it [width], and scratch for the half
} Row;

// Linear attention by the gated delta rule. Vectors and states are float32; inputs [kernel - 1, channels] have the dtype
// of the stream. The channels of `mixed` are those of queries, keys and values.
typedef struct {
    Stored mixed, gate, decay, strength, output;
    const float *taps, *rate, *bias, *norm, *state;
    float *state_after;
    const uint8_t *inputs;
    uint8_t *inputs_after;
    int64_t key_heads, value_heads, size, kernel, grouped;
} DeltaNet;

int delta_net(const Row *r, const DeltaNet *net);
int64_t delta_net_space(const Row *r, const DeltaNet *net);

enum { MATRICES = 4 };

// Several matrices that are multiplied with one row of `columns` numbers.
typedef struct {
    int64_t columns, matrices;
    Stored matrix[MATRICES];
    float *y[MATRICES];
    int64_t outputs[MATRICES];
    uint8_t *rounded[MATRICES];  // the row, for the type of each matrix
} Products;

// Rounds x for each matrix of `p` into `space` and does `work` on the rows of all matrices.
int run(Products *p, Work work, void *context, const float *x, float *space, int threads);
// Floats that `run` needs.
int64_t rounding_space(int64_t columns);
// Rows of several matrices with the row, as if they were one matrix.
void multiply(const Products *p, int64_t first, int64_t last);
// The row that a half adds: x [columns] times its last matrix.
int multiply_last(const Row *r, Stored matrix, const float *x, int64_t columns, float *space);

void normalise(float *x, const float *weight, int64_t count, float epsilon);

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
INLINE Floats silu(Floats x) { return x / (exponential(-x) + 1.0f); }

INLINE float sum_of_squares(const float *x, int64_t count) {
    Floats squares = {0};
    int64_t i = 0;
    for (; i + 8 <= count; i += 8) squares += LOAD(Floats, x + i) * LOAD(Floats, x + i);
    float sum = sum_of(squares);
    for (; i < count; ++i) sum += x[i] * x[i];
    return sum;
}
