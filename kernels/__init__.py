"""Fused ops, each with an eager twin that defines its result. This module is the whole public surface.

Each function here calls an op of `torch.ops.codeclens`: a CUDA kernel or the processor's native code where machine and
arguments allow it (`codeclens kernels` says which and why not), else the eager twin, which documents arguments and
result in full.
"""

import torch
from torch import Tensor

from . import ops, registry
from .eager import block_shape

__all__ = [
    "block_match",
    "block_shape",
    "codebook_compose",
    "codebook_select",
    "delta_step",
    "dequantize",
    "ops",
    "quantized_linear",
    "warm",
]


def block_match(
    current: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Exhaustive motion search of 16 x 16 macroblocks, uint8 RGB [N, H, W, 3]: see :func:`.eager.motion.block_match`.

    Returns mv int16 [N, H/16, W/16, 2], cost float32, sad int32 and energy int32 (empty unless asked for).
    """
    return torch.ops.codeclens.block_match(current, reference, radius, penalty, energy)


def dequantize(blocks: Tensor, qtype: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """GGUF blocks, uint8 [..., row_bytes], as numbers [..., columns]: see :func:`.eager.blocks.dequantize`."""
    return torch.ops.codeclens.dequantize(blocks, qtype, dtype)


def quantized_linear(x: Tensor, blocks: Tensor, qtype: str, bias: Tensor | None = None, int8: bool = False) -> Tensor:
    """x [..., in] times GGUF blocks uint8 [out, row_bytes]: see :func:`.eager.linear.quantized_linear`.

    Differentiable in `x` and `bias`.
    """
    return torch.ops.codeclens.quantized_linear(x, blocks, qtype, bias, int8)


def codebook_select(residual: Tensor, first: Tensor, second: Tensor, atoms: int, bits: int) -> tuple[Tensor, Tensor]:
    """The atom of each group that fits a residual [D] best: see :func:`.eager.codebook.codebook_select`."""
    return torch.ops.codeclens.codebook_select(residual, first, second, atoms, bits)


def codebook_compose(index: Tensor, sign: Tensor, first: Tensor, second: Tensor, bits: int, length: int) -> Tensor:
    """The exact sum of signed atoms, int32 [length]: see :func:`.eager.codebook.codebook_compose`."""
    return torch.ops.codeclens.codebook_compose(index, sign, first, second, bits, length)


def delta_step(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One row of the gated delta rule: see :func:`.eager.delta.delta_step`. Returns o [H, V] and the state after it."""
    return torch.ops.codeclens.delta_step(query, key, value, decay, strength, state)


def warm(device: torch.device) -> None:
    """Load every kernel on a GPU now. Do it before a CUDA graph capture, during which nothing may load."""
    registry.current().warm(device)
