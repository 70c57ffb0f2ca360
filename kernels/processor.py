"""The ops on the processor: check the input, ask the registry, call the native library; else run the eager twin."""

import torch
from torch import Tensor

from . import eager
from .eager.blocks import PLAIN, block_shape
from .eager.motion import BLOCK
from .registry import TYPE_NUMBERS, current

__all__ = ["block_match", "delta_step", "dequantize", "quantized_linear"]

NUMBERS = {dtype: TYPE_NUMBERS[name] for name, dtype in PLAIN.items()}
"""ggml's number of a floating dtype."""


def block_match(
    current_frames: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`codeclens.kernels.block_match`."""
    eager.check_frames("block_match", current_frames, reference, radius, penalty)
    registry = current()
    facts = {"current": current_frames, "radius": radius, "penalty": penalty}
    if registry.native_refusal("block_match", facts):
        return eager.block_match(current_frames, reference, radius, penalty, energy)
    pairs, height, width, _ = current_frames.shape
    shape = (pairs, height // BLOCK, width // BLOCK)
    vectors = torch.empty((*shape, 2), dtype=torch.int16)
    cost = torch.empty(shape, dtype=torch.float32)
    sad = torch.empty(shape, dtype=torch.int32)
    energies = torch.empty(shape if energy else 0, dtype=torch.int32)
    results = (vectors, cost, sad, energies if energy else None)
    arguments = (current_frames, reference, *results, pairs, height, width, radius, penalty)
    registry.processor.run("block_match", arguments)
    return vectors, cost, sad, energies


def delta_step(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See :func:`codeclens.kernels.delta_step`."""
    eager.check_delta("delta_step", query, key, value, decay, strength, state)
    registry = current()
    if registry.native_refusal("delta_step", {"state": state}):
        return eager.delta_step(query, key, value, decay, strength, state)
    row = [part.contiguous() for part in (query, key, value, decay, strength, state)]
    output, after = torch.empty_like(row[2]), torch.empty_like(row[5])
    registry.processor.run("delta_step", (*row, output, after, *state.shape))
    return output, after


def dequantize(blocks: Tensor, qtype: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """See :func:`codeclens.kernels.dequantize`."""
    eager.check_blocks("dequantize", blocks, qtype)
    registry = current()
    if registry.native_refusal("dequantize", {"qtype": qtype, "dtype": dtype}):
        return eager.dequantize(blocks, qtype, dtype)
    weights, size = block_shape(qtype)
    count = blocks.numel() // size
    values = torch.empty((*blocks.shape[:-1], blocks.shape[-1] // size * weights), dtype=dtype)
    registry.processor.run("dequantize", (blocks, values, TYPE_NUMBERS[qtype], NUMBERS[dtype], count))
    return values


def quantized_linear(x: Tensor, blocks: Tensor, qtype: str, bias: Tensor | None = None, int8: bool = False) -> Tensor:
    """See :func:`codeclens.kernels.quantized_linear`.

    Native are products of blocks with 8-bit activations, and of one row with floats.
    """
    eager.check_linear("quantized_linear", x, blocks, qtype, bias)
    columns = x.shape[-1]
    count = x.numel() // max(columns, 1)
    if qtype in PLAIN:
        product, sizes = "float_row" if count == 1 and not int8 else "float rows", (columns, len(blocks))
    else:
        product, sizes = "quantized_linear" if int8 else "exact", (count, columns, len(blocks))
    registry = current()
    if registry.native_refusal("quantized_linear", {"x": x, "qtype": qtype, "product": product}):
        return eager.quantized_linear(x, blocks, qtype, bias, int8, dequantize)
    y = torch.empty((*x.shape[:-1], len(blocks)), dtype=x.dtype)
    bias = None if bias is None else bias.to(x.dtype).contiguous()
    registry.processor.run(product, (x.contiguous(), blocks, bias, y, *sizes, TYPE_NUMBERS[qtype], NUMBERS[x.dtype]))
    return y
