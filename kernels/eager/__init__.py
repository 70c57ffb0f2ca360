"""The eager twins: every op in plain torch, on any device. They define what the fused kernels must compute."""

from .blocks import block_shape, check_blocks, dequantize
from .codebook import check_codebook, codebook_compose, codebook_select, hadamard
from .delta import check_delta, delta_step
from .linear import TILE_WEIGHTS, check_linear, quantized_linear, rounded_to_int8
from .motion import block_match, check_frames

__all__ = [
    "TILE_WEIGHTS",
    "block_match",
    "block_shape",
    "check_blocks",
    "check_codebook",
    "check_delta",
    "check_frames",
    "check_linear",
    "codebook_compose",
    "codebook_select",
    "delta_step",
    "dequantize",
    "hadamard",
    "quantized_linear",
    "rounded_to_int8",
]
