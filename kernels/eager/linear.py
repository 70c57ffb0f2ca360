"""A linear layer whose weight stays in GGUF blocks: dequantise a tile of rows, multiply, forget the tile."""

import torch
from torch import Tensor
from torch.nn import functional

from .blocks import block_shape, check_blocks, dequantize

TILE_WEIGHTS = 1 << 22
"""Weights held in floating point at a time: 16 MB of float32, small beside any matrix worth quantising."""


def quantized_linear(x: Tensor, blocks: Tensor, qtype: str, bias: Tensor | None = None, int8: bool = False) -> Tensor:
    """`x @ dequantize(blocks).T + bias`, exact in `x`'s floating dtype, with one tile of the weight in memory.

    Args:
        x: floating [..., in].
        blocks: uint8 [out, row_bytes], rows of `qtype` blocks of `in` weights each, on the device of `x`.
        qtype: ggml's name of the type, such as "Q4_K".
        bias: [out], or None.
        int8: round `x` to 8 bits in groups of 32 first (:func:`rounded_to_int8`).

    Returns [..., out] in the dtype of `x`. Raises ValueError when shapes, devices or the type do not fit.
    """
    check_linear("quantized_linear", x, blocks, qtype, bias)
    if int8:
        x = rounded_to_int8(x)
    rows = max(1, TILE_WEIGHTS // x.shape[-1])
    tiles = [functional.linear(x, dequantize(tile, qtype, x.dtype)) for tile in blocks.split(rows)]
    y = tiles[0] if len(tiles) == 1 else torch.cat(tiles, -1)
    return y if bias is None else y + bias.to(y.dtype)


def rounded_to_int8(x: Tensor) -> Tensor:
    """`x` with each group of 32 rounded to multiples of its largest magnitude / 127, as ggml's q8_1 activations are."""
    groups = x.float().unflatten(-1, (-1, 32))
    step = groups.abs().amax(-1, keepdim=True) / 127
    return (torch.where(step > 0, groups / step, 0).round() * step).flatten(-2).to(x.dtype)


def check_linear(op: str, x: Tensor, blocks: Tensor, qtype: str, bias: Tensor | None = None) -> None:
    """Raise ValueError, in one sentence, unless `x` [..., in] can be multiplied by `blocks` [out, row_bytes]."""
    check_blocks(op, blocks, qtype)
    weights, size = block_shape(qtype)
    if blocks.dim() != 2:
        raise ValueError(f"{op}: blocks has {blocks.dim()} dimensions; wanted two, [out, row_bytes].")
    if not x.is_floating_point():
        raise ValueError(f"{op}: x is {x.dtype}; wanted a floating dtype.")
    columns = blocks.shape[1] // size * weights
    if x.dim() == 0 or x.shape[-1] != columns:
        raise ValueError(f"{op}: x is {tuple(x.shape)}; wanted {columns} in its last dimension, the columns of blocks.")
    if x.device != blocks.device:
        raise ValueError(f"{op}: x is on {x.device} and blocks on {blocks.device}; wanted both on one device.")
    if bias is not None and (bias.shape != blocks.shape[:1] or bias.device != x.device):
        raise ValueError(
            f"{op}: bias is {tuple(bias.shape)} on {bias.device}; wanted [{blocks.shape[0]}] on {x.device}, where x is."
        )
