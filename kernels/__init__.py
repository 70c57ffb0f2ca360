"""Fused ops, each with an eager twin that defines its result. This module is the whole public surface."""

from .eager import (
    block_match,
    block_shape,
    codebook_compose,
    codebook_select,
    dequantize,
    gather_patches,
    quantized_linear,
)

__all__ = [
    "block_match",
    "block_shape",
    "codebook_compose",
    "codebook_select",
    "dequantize",
    "gather_patches",
    "quantized_linear",
]
