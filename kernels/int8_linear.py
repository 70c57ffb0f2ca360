"""Linear layers on the CPU in 8 bits, weights and activations, through torch's FBGEMM: what is left where torch has no
vectorised int4 kernel (Windows), and on request a quicker answer for types of more than 4 bits elsewhere.

Weights get a scale per row and 1024 columns, activations one per call and 1024 columns after every token is brought to
the same range. Products are 1 to 2 % off the exact ones, of which the activations are 0.7, and up to 3 % on CPUs
without VNNI, where activations keep to 7 bits; ggml's own 8-bit activations cost 0.4 to 0.8. Memory is 8 bits a weight.
Results carry no gradient.
"""

import functools
import warnings

import torch
from torch import Tensor

from .eager.blocks import block_shape, dequantize

COLUMNS = 1024
"""Columns of the weight that share a scale: fewer would cost a call each, more let an outlier spoil its whole row."""

TILE_ROWS = 2048


@functools.cache
def int8_kernel() -> bool:
    """Whether this torch has FBGEMM's dynamic 8-bit product."""
    return (
        "fbgemm" in torch.backends.quantized.supported_engines
        and hasattr(torch, "_make_per_channel_quantized_tensor")
        and hasattr(torch.ops.quantized, "linear_dynamic")
    )


@functools.cache
def narrow_activations() -> bool:
    """Whether activations must keep to 7 bits: without VNNI, FBGEMM adds pairs of products in 16 bits."""
    return not torch.cpu._is_vnni_supported()


class Int8Linear:
    """`x @ W.T + bias` with W as 8-bit slices of 1024 columns; made by :func:`pack_int8`."""

    def __init__(self, slices: list, in_features: int, out_features: int):
        self.slices, self.in_features, self.out_features = slices, in_features, out_features

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the codes take; FBGEMM's own tables add about 3 %."""
        return self.in_features * self.out_features

    def __call__(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Floating [..., in] -> [..., out] in the dtype of `x`. Raises ValueError for another width."""
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"8-bit linear: x is {tuple(x.shape)}; wanted {self.in_features} in its last dimension.")
        rows = x.reshape(-1, self.in_features).float()
        y = rows.new_zeros(len(rows), self.out_features)
        if len(rows):
            largest = rows.abs().amax(1, keepdim=True).clamp_min_(1e-30)
            for part, weight in zip((rows / largest).split(COLUMNS, 1), self.slices, strict=True):
                y += torch.ops.quantized.linear_dynamic(part.contiguous(), weight, narrow_activations())
            y *= largest
        y = y.to(x.dtype).view(*x.shape[:-1], self.out_features)
        return y if bias is None else y + bias.to(y.dtype)


def pack_int8(blocks: Tensor, qtype: str) -> Int8Linear:
    """Round a weight, uint8 [out, row_bytes] of `qtype` blocks, to 8 bits per row and 1024 columns."""
    weights, size = block_shape(qtype)
    columns = blocks.shape[1] // size * weights
    slices = []
    for part in blocks.split(COLUMNS // weights * size, 1):
        codes = torch.empty(len(blocks), part.shape[1] // size * weights, dtype=torch.int8)
        scales = torch.empty(len(blocks), dtype=torch.float64)
        for start in range(0, len(blocks), TILE_ROWS):
            values = dequantize(part[start : start + TILE_ROWS].contiguous(), qtype)
            step = values.abs().amax(1).clamp_min_(1e-30) / 127
            codes[start : start + TILE_ROWS] = (values / step[:, None]).round_()
            scales[start : start + TILE_ROWS] = step
        zeros = torch.zeros(len(blocks), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch announces that quantised tensors will go; int8_kernel() is ready
            weight = torch._make_per_channel_quantized_tensor(codes, scales, zeros, 0)
            slices.append(torch.ops.quantized.linear_prepack(weight, None))
    return Int8Linear(slices, columns, len(blocks))
