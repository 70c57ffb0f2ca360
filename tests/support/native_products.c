// Products of every block type against sums in double of dequantised weights and rounded activations: a program, for
// instruction sets and systems that only an emulator runs here. Prints the relative errors and returns 0 where all are
// small. On Windows it takes the functions from the library that its argument names, elsewhere it is linked with them.
#include "common.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef int Linear(const void *, const void *, const void *, void *, int64_t, int64_t, int64_t, int32_t, int32_t,
                   int32_t);
typedef int Dequantize(const void *, void *, int32_t, int32_t, int64_t, int32_t);

#if defined(_WIN32)
#include <windows.h>
static Linear *quantized_linear;
static Dequantize *dequantize;
static int found(const char *name) {
    HMODULE library = LoadLibraryA(name);
    if (!library) return 0;
    quantized_linear = (Linear *)(void *)GetProcAddress(library, "quantized_linear");
    dequantize = (Dequantize *)(void *)GetProcAddress(library, "dequantize");
    int (*level)(void) = (int (*)(void))(void *)GetProcAddress(library, "processor_level");
    if (level) printf("level %d\n", level());
    return level && quantized_linear && dequantize;
}
#else
Linear quantized_linear;
Dequantize dequantize;
static int found(const char *name) { return !name; }
#endif

enum { COLUMNS = 768, OUTPUTS = 37, ROWS = 7 };

typedef struct {
    int number, weights, bytes, scale, minimum;  // offsets of the halves in a block, -1 for none
} BlockType;

static const BlockType types[] = {{2, 32, 18, 0, -1},     {3, 32, 20, 0, 2},      {6, 32, 22, 0, -1},
                                  {7, 32, 24, 0, 2},      {8, 32, 34, 0, -1},     {10, 256, 84, 80, 82},
                                  {11, 256, 110, 108, -1}, {12, 256, 144, 0, 2},  {13, 256, 176, 0, 2},
                                  {14, 256, 210, 208, -1}, {20, 32, 18, 0, -1},   {23, 256, 136, 0, -1}};

static uint8_t weight[COLUMNS / 32 * OUTPUTS * 34];
static float values[COLUMNS * OUTPUTS], x[COLUMNS * ROWS], y[OUTPUTS * ROWS];

static void put_half(uint8_t *p) {
    const uint16_t small = (uint16_t)(0x0c00 + rand() % 512);
    memcpy(p, &small, 2);
}

static double wanted(int row, int output) {
    double sum = 0;
    for (int g = 0; g < COLUMNS; g += 32) {
        const float *group = x + row * COLUMNS + g;
        float largest = 0;
        for (int i = 0; i < 32; ++i) largest = fmaxf(largest, fabsf(group[i]));
        const float step = largest / 127;
        for (int i = 0; i < 32; ++i) sum += (double)rintf(group[i] / step) * step * values[output * COLUMNS + g + i];
    }
    return sum;
}

static double error_of(const BlockType *type, int rows) {
    double error = 0, norm = 0;
    quantized_linear(x, weight, NULL, y, rows, COLUMNS, OUTPUTS, type->number, 0, 2);
    for (int row = 0; row < rows; ++row) {
        for (int output = 0; output < OUTPUTS; ++output) {
            const double right = wanted(row, output), difference = y[row * OUTPUTS + output] - right;
            error += difference * difference, norm += right * right;
        }
    }
    return sqrt(error / norm);
}

int main(int count, char **names) {
    int wrong = 0;
    if (!found(count > 1 ? names[1] : NULL)) return 2;
    for (int i = 0; i < COLUMNS * ROWS; ++i) x[i] = (float)(rand() % 2001 - 1000) / 300;
    for (size_t t = 0; t < sizeof types / sizeof *types; ++t) {
        const BlockType *type = &types[t];
        const int blocks = COLUMNS / type->weights * OUTPUTS;
        for (int i = 0; i < blocks * type->bytes; ++i) weight[i] = (uint8_t)(rand() >> 3);
        for (int b = 0; b < blocks; ++b) {
            put_half(weight + b * type->bytes + type->scale);
            if (type->minimum >= 0) put_half(weight + b * type->bytes + type->minimum);
        }
        dequantize(weight, values, type->number, 0, blocks, 2);
        const double one = error_of(type, 1), many = error_of(type, ROWS);
        printf("type %d: one row %.1e, %d rows %.1e\n", type->number, one, ROWS, many);
        wrong |= !(one < 2e-6 && many < 2e-6);
    }
    return wrong;
}
