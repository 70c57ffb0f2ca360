"""Fused ops, each with an eager twin that defines its result. This module is the whole public surface."""

from .eager.blocks import block_shape, dequantize
from .eager.linear import quantized_linear

__all__ = ["block_shape", "dequantize", "quantized_linear"]
