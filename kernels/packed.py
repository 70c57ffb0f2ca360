"""Linear layers on the CPU, laid out once for torch's int4 weight kernel: quick for one row and for many.

Codes are kept exactly, as one or two base-16 digits. A two-digit weight becomes two columns of the kernel, the second
multiplied by sixteen times the input, so one kernel serves every type, at 5 bits a weight for Q4_0, Q4_1 and Q4_K and
at 10 for the others. What is rounded is each group's scale and zero, and the activations, to bfloat16: a relative 2^-9,
as in any product of bfloat16 matrices. Results carry no gradient.
"""

import functools
import platform
from dataclasses import dataclass

import torch
from torch import Tensor

from .eager.blocks import FORMATS, PLAIN, block_shape, check_blocks, dequantize
from .int8_linear import Int8Linear, int8_kernel, pack_int8

GROUP = 32
"""Columns of the kernel that share a scale and a zero."""

DIGITS_GROUP = 16
"""Weights whose low digits, then high digits, fill a group: Q6_K, Q3_K and Q2_K change their scale that often."""

ONE_DIGIT = {"Q4_0": 8, "Q4_1": 0, "Q4_K": 0}
"""Types whose codes are single digits, and what is added to a code to make it one."""

FINE = (*ONE_DIGIT, "Q8_0")
"""Types that 8-bit products would not make quicker (one digit), or would harm more than their own rounding (Q8_0)."""

CENTRES = {"Q5_1": 120, "Q5_K": 120, "Q8_0": 128}
"""What is added to a code to make it two digits, where not MIDDLE. The zero makes up for the rest and stays small."""

MIDDLE = 8 * 16 + 8
"""The kernel reads digits as -8 to 7, so two digits stand for their number less this."""

FEW_ROWS = {1: 64, 2: 40}
"""By number of digits: up to so many rows of activations the kernel beats unpacking and multiplying (measured)."""

TILE_WEIGHTS = 1 << 19
"""Weights unpacked at a time: 2 MB of float32, about what stays in cache."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the int4 kernel stores `rows` rows of codes: column by column, two codes in a byte."""

    rows: int
    paired: bool
    """Byte i holds rows 2i and 2i + 1, not rows i and i + rows / 2."""

    def pack(self, codes: Tensor) -> Tensor:
        """uint8 [out, n] below 16 -> [out / rows, n, rows / 2]."""
        blocks = codes.unflatten(0, (-1, self.rows))
        low, high = (blocks[:, ::2], blocks[:, 1::2]) if self.paired else blocks.chunk(2, 1)
        return (low | high << 4).transpose(1, 2)

    def unpack(self, packed: Tensor, halves: Tensor, codes: Tensor) -> None:
        """uint8 [t, n, rows / 2] -> `codes` [t, n, rows], through `halves` [2, t, n, rows / 2]."""
        torch.bitwise_and(packed, 15, out=halves[0])
        torch.bitwise_right_shift(packed, 4, out=halves[1])
        shape = (*packed.shape, 2) if self.paired else (*packed.shape[:2], 2, packed.shape[2])
        torch.stack((halves[0], halves[1]), 3 if self.paired else 2, out=codes.view(shape))


@functools.cache
def kernel_layout() -> Layout | None:
    """The layout that torch's int4 kernel has on this CPU, found by letting torch pack a matrix.

    None without the kernel and where it is not vectorised: torch for Windows, and x86 without AVX2.
    """
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return None
    arm = platform.machine() in ("arm64", "aarch64")
    vectorised = [Layout(16, paired=True)] if arm else [Layout(64, paired=False), Layout(32, paired=False)]
    codes = torch.arange(64 * GROUP).mul(7919).remainder(251).remainder(16).view(64, GROUP)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1).flatten()
    return next((layout for layout in vectorised if torch.equal(layout.pack(codes.byte()).flatten(), packed)), None)


@functools.cache
def product_dtype() -> torch.dtype:
    """What this CPU multiplies large matrices in fastest: bfloat16 with instructions for it, else float32."""
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if native else torch.float32


class PackedLinear:
    """`x @ W.T + bias` with W in the kernel's layout; made by :func:`pack_linear`.

    Attributes:
        codes: uint8 [out / rows, digits * in, rows / 2].
        scales: bfloat16 [digits * in / 32, out, 2], scale and zero of each group: `(digit - 8) * scale + zero`.
        digits: 1 or 2.
        layout: the order of the codes.
    """

    def __init__(self, codes: Tensor, scales: Tensor, digits: int, layout: Layout):
        self.codes, self.scales, self.digits, self.layout = codes, scales, digits, layout
        self.in_features, self.out_features = codes.shape[1] // digits, codes.shape[0] * layout.rows

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the weight takes."""
        return self.codes.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Floating [..., in] -> [..., out] in the dtype of `x`. Raises ValueError for another width."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"packed linear: x is {tuple(x.shape)}; wanted {self.in_features} in its last dimension.")
        rows = x.reshape(-1, self.in_features).bfloat16()
        y = self._few(rows) if len(rows) <= FEW_ROWS[self.digits] else self._many(rows)
        y = y.to(x.dtype).view(*x.shape[:-1], self.out_features)
        return y if bias is None else y + bias.to(y.dtype)

    def _few(self, x: Tensor) -> Tensor:
        if self.digits == 2:
            x = x.unflatten(1, (-1, 1, DIGITS_GROUP))
            x = torch.cat((x, 16 * x), 2).flatten(1)
        codes = self.codes.view(self.out_features, -1)
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x.contiguous(), codes, GROUP, self.scales)

    def _many(self, x: Tensor) -> Tensor:
        x = x.to(product_dtype())
        tile = Tile(self, max(2, TILE_WEIGHTS // (self.in_features * self.layout.rows)), x.dtype)
        y = x.new_empty(len(x), self.out_features)
        for start in range(0, len(self.codes), tile.blocks):
            stop = min(start + tile.blocks, len(self.codes))
            y[:, start * self.layout.rows : stop * self.layout.rows] = x @ tile.transposed(start, stop)
        return y


class Tile:
    """Buffers in which a few blocks of rows of a packed weight become numbers.

    They serve tile after tile: fresh memory would cost more in page faults than the arithmetic does.
    """

    def __init__(self, weight: PackedLinear, blocks: int, dtype: torch.dtype):
        rows, columns = weight.layout.rows, weight.codes.shape[1]
        self.weight, self.blocks = weight, blocks
        self.halves = torch.empty(2, blocks, columns, rows // 2, dtype=torch.uint8)
        self.codes = torch.empty(blocks, columns, rows, dtype=torch.uint8)
        self.values = torch.empty(blocks, weight.in_features, rows)
        self.matrix = torch.empty(weight.in_features * blocks * rows, dtype=dtype)

    def transposed(self, start: int, stop: int) -> Tensor:
        """Blocks `start` to `stop` as numbers, [in, (stop - start) * rows]. The next call overwrites them."""
        weight, count = self.weight, stop - start
        rows, groups = weight.layout.rows, len(weight.scales)
        codes, values = self.codes[:count], self.values[:count]
        weight.layout.unpack(weight.codes[start:stop], self.halves[:, :count], codes)
        parts = weight.scales[:, start * rows : stop * rows].float().view(groups, count, rows, 2)
        scale, zero = parts.permute(3, 1, 0, 2).unsqueeze(3).contiguous()
        codes = codes.view(count, groups, -1, rows)
        if weight.digits == 2:
            low, high = codes.unflatten(2, (2, DIGITS_GROUP)).unbind(2)
            codes = low.bitwise_or_(high.bitwise_left_shift_(4))
            offset = (17 * zero).sub_(scale, alpha=MIDDLE)
        else:
            offset = zero.sub_(scale, alpha=8)
        values = values.view(codes.shape)
        torch.addcmul(offset, values.copy_(codes), scale, out=values)
        matrix = self.matrix[: values.numel()].view(weight.in_features, count, rows)
        matrix.transpose(0, 1).copy_(values.view(count, -1, rows))
        return matrix.flatten(1)


def pack_linear(blocks: Tensor, qtype: str, int8: bool = False) -> PackedLinear | Int8Linear | None:
    """Lay out a weight for products on the CPU; None where that cannot be done and the blocks must serve as they are.

    Args:
        blocks: uint8 [out, row_bytes] of `qtype` blocks.
        qtype: ggml's name of a block type.
        int8: types of two digits whose own rounding is coarser than 8 bits become :class:`Int8Linear`, 1 to 2 % off
            but smaller and, on few cores, quicker. Without an int4 kernel that fits, every type does, asked or not.

    Codes are kept otherwise, but for types that only the gguf library reads: those get 240 even levels per 16 weights.
    None for F32, F16 and BF16, for a width that is not a multiple of 32, and where torch has neither kernel. Raises
    ValueError for an unknown type or bytes that are not whole rows of it.
    """
    check_blocks("pack_linear", blocks, qtype)
    layout = kernel_layout()
    weights, size = block_shape(qtype)
    out, columns = len(blocks), blocks.shape[1] // size * weights
    if qtype in PLAIN or columns % GROUP:
        return None
    fits = layout is not None and out % layout.rows == 0
    if int8_kernel() and (not fits or (int8 and qtype not in FINE)):
        return pack_int8(blocks, qtype)
    if not fits:
        return None
    digits = 1 if qtype in ONE_DIGIT else 2
    codes = torch.empty(out // layout.rows, digits * columns, layout.rows // 2, dtype=torch.uint8)
    scales = torch.empty(digits * columns // GROUP, out, 2, dtype=torch.bfloat16)
    rows = max(1, TILE_WEIGHTS // (columns * layout.rows)) * layout.rows
    for start in range(0, out, rows):
        digit, scale, zero = digit_columns(blocks[start : start + rows], qtype)
        codes[start // layout.rows : (start + rows) // layout.rows] = layout.pack(digit)
        scales[:, start : start + rows] = torch.stack((scale, zero), -1).transpose(0, 1)
    return PackedLinear(codes, scales, digits, layout)


def digit_columns(blocks: Tensor, qtype: str) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel's matrix of rows of blocks: digits uint8 [rows, n], scale and zero float32 [rows, n / 32]."""
    codes, scale, minimum = parts(blocks, qtype)
    minimum = 0 if minimum is None else minimum
    if qtype in ONE_DIGIT:
        centre = ONE_DIGIT[qtype]
        return codes.view(torch.uint8) + centre, scale, (8 - centre) * scale - minimum
    centre = CENTRES.get(qtype, MIDDLE)
    zero = ((MIDDLE - centre) * scale - minimum) / 17
    codes = (codes.view(torch.uint8) + centre).unflatten(1, (-1, 1, DIGITS_GROUP))
    repeats = codes.shape[1] // scale.shape[1]
    digits = torch.cat((codes & 15, codes >> 4), 2).flatten(1)
    return digits, scale.repeat_interleave(repeats, 1), zero.repeat_interleave(repeats, 1)


def parts(blocks: Tensor, qtype: str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Codes [rows, columns] of 8 bits, and scales and minimums [rows, groups] of rows of blocks."""
    if qtype in FORMATS:
        found = FORMATS[qtype].parts(blocks.reshape(-1, FORMATS[qtype].size))
        return tuple(None if part is None else part.reshape(len(blocks), -1) for part in found)
    groups = dequantize(blocks, qtype).unflatten(1, (-1, DIGITS_GROUP))
    lowest, highest = groups.aminmax(dim=2)
    scale = (highest - lowest) / 239
    codes = ((groups - lowest[..., None]) / scale.clamp_min(1e-30)[..., None]).round_().sub_(120).to(torch.int8)
    return codes.flatten(1), scale, -lowest - 120 * scale
