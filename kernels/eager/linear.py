"""A linear layer whose weight stays in GGUF blocks: dequantise a tile of rows, multiply, forget the tile."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from .blocks import block_shape, check_blocks, dequantize

TILE_WEIGHTS = 1 << 20
"""Weights held in floating point at a time: 4 MB of float32 fit a CPU's cache; 2^22 took up to three times as long."""


INT8_GROUP = 32
"""Neighbouring activations with one scale when they are rounded to 8 bits."""


def quantized_linear(
    x: Tensor,
    blocks: Tensor,
    qtype: str,
    bias: Tensor | None = None,
    int8: bool = False,
    dequantize: Callable[[Tensor, str, torch.dtype], Tensor] = dequantize,
) -> Tensor:
    """`x @ dequantize(blocks).T + bias` in the floating dtype of `x`, with one tile of the weight in memory.

    Args:
        x: floating [..., in].
        blocks: uint8 [out, row_bytes], rows of `qtype` blocks of `in` weights each, on the device of `x`.
        qtype: ggml's name of the type, such as "Q4_K".
        bias: [out], or None.
        int8: round `x` to 8 bits first, in groups of 32, which fused and native kernels are faster with. A group adds
            at most its largest |x| / 254 times the sum of its |weights| to the error, whatever the type; products of
            normal numbers are 0.4 to 0.8 % off.
        dequantize: what turns a tile of blocks into numbers.

    Returns [..., out] in the dtype of `x`. Raises ValueError when shapes, devices or the type do not fit.
    """
    check_linear("quantized_linear", x, blocks, qtype, bias)
    source = rounded_to_int8(x) if int8 else x
    rows = max(1, TILE_WEIGHTS // max(1, x.shape[-1]))
    tiles = [functional.linear(source, dequantize(tile, qtype, source.dtype)) for tile in blocks.split(rows)]
    y = tiles[0] if len(tiles) == 1 else torch.cat(tiles, -1)
    return (y if bias is None else y + bias.to(y.dtype)).to(x.dtype)


def rounded_to_int8(x: Tensor) -> Tensor:
    """`x` at the precision of 8-bit codes, one scale per 32 neighbours (largest magnitude / 127), as float32."""
    groups = x.float().unflatten(-1, (-1, INT8_GROUP))
    step = groups.abs().amax(-1, keepdim=True) / 127
    return torch.where(step > 0, (groups / step).round() * step, 0).flatten(-2)


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
    if bias is not None and bias.shape != blocks.shape[:1]:
        raise ValueError(f"{op}: bias is {tuple(bias.shape)}; wanted ({blocks.shape[0]},), one per row of blocks.")
    for name, tensor in (("blocks", blocks), ("bias", x if bias is None else bias)):
        if tensor.device != x.device:
            raise ValueError(f"{op}: x is on {x.device} and {name} on {tensor.device}; wanted both on one device.")
