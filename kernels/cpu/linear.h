// One row of x times rows of W, for what computes more than a product with it (linear.c).
#pragma once
#include "blocks.h"

// Bytes of a row of `columns` activations as products with W take it, and the rounding itself: to 8 bits in a form that
// depends on the type of W, or to float32 where W is floats.
int64_t rounded_bytes(Type type, int64_t columns);
void round_floats(Type type, const float *x, int64_t columns, uint8_t *rounded);

// y[i] = the product of row i of W with a rounded row of x, for i from first to last - 1.
void multiply_rows(Type type, const uint8_t *weight, const uint8_t *rounded, int64_t columns, int64_t first,
                   int64_t last, float *y);
