"""The ops as torch sees them, torch.ops.codeclens.*: eager, fused on CUDA, native on processors, and their shapes.

Registered with torch.library.Library rather than custom_op, whose call costs about twice as much.
"""

import torch
from torch import Tensor
from torch.library import Library, register_autograd, register_fake

from . import eager, fused, processor

SCHEMAS = {
    "block_match": "(Tensor current, Tensor reference, int radius, float penalty, bool energy=False)"
    " -> (Tensor mv, Tensor cost, Tensor sad, Tensor energy)",
    "dequantize": "(Tensor blocks, str qtype, ScalarType dtype=float) -> Tensor",
    "quantized_linear": "(Tensor x, Tensor blocks, str qtype, Tensor? bias=None, bool int8=False) -> Tensor",
    "delta_step": "(Tensor query, Tensor key, Tensor value, Tensor decay, Tensor strength, Tensor state)"
    " -> (Tensor output, Tensor after)",
    "codebook_select": "(Tensor residual, Tensor first, Tensor second, int atoms, int bits)"
    " -> (Tensor index, Tensor sign)",
    "codebook_compose": "(Tensor index, Tensor sign, Tensor first, Tensor second, int bits, int length) -> Tensor",
}


def block_match_shapes(current, reference, radius, penalty, energy=False):
    """What block_match returns, without values."""
    eager.check_frames("block_match", current, reference, radius, penalty)
    pairs, height, width, _ = current.shape
    shape = (pairs, height // fused.BLOCK, width // fused.BLOCK)
    return (
        current.new_empty((*shape, 2), dtype=torch.int16),
        current.new_empty(shape, dtype=torch.float32),
        current.new_empty(shape, dtype=torch.int32),
        current.new_empty(shape if energy else (0,), dtype=torch.int32),
    )


def dequantize_shapes(blocks, qtype, dtype=torch.float32):
    """What dequantize returns, without values."""
    eager.check_blocks("dequantize", blocks, qtype)
    weights, size = eager.block_shape(qtype)
    return blocks.new_empty((*blocks.shape[:-1], blocks.shape[-1] // size * weights), dtype=dtype)


def quantized_linear_shapes(x, blocks, qtype, bias=None, int8=False):
    """What quantized_linear returns, without values."""
    eager.check_linear("quantized_linear", x, blocks, qtype, bias)
    return x.new_empty((*x.shape[:-1], blocks.shape[0]))


def delta_step_shapes(query, key, value, decay, strength, state):
    """What delta_step returns, without values."""
    eager.check_delta("delta_step", query, key, value, decay, strength, state)
    return torch.empty_like(value), torch.empty_like(state)


def codebook_select_shapes(residual, first, second, atoms, bits):
    """What codebook_select returns, without values."""
    eager.check_codebook("codebook_select", first, second, atoms, bits, residual)
    return residual.new_empty((atoms,), dtype=torch.int64), residual.new_empty((atoms,), dtype=torch.int8)


def codebook_compose_shapes(index, sign, first, second, bits, length):
    """What codebook_compose returns, without values."""
    eager.check_codebook("codebook_compose", first, second, index.shape[0], bits, index, sign, length=length)
    return index.new_empty((length,), dtype=torch.int32)


def remember_weight(ctx, inputs, output):
    """Keep what the gradient of quantized_linear needs: the blocks, not the weight."""
    x, blocks, qtype, bias, _ = inputs
    ctx.save_for_backward(blocks)
    ctx.qtype = qtype
    ctx.bias_dtype = None if bias is None else bias.dtype


def linear_gradient(context, gradient: Tensor):
    """Gradients of quantized_linear for x and bias; the weight has none and is dequantised tile by tile."""
    (blocks,) = context.saved_tensors
    weights, size = eager.block_shape(context.qtype)
    rows = max(1, eager.TILE_WEIGHTS // (blocks.shape[1] // size * weights))
    for_x = None
    if context.needs_input_grad[0]:
        tiles = zip(gradient.split(rows, -1), blocks.split(rows), strict=True)
        for_x = sum(part @ torch.ops.codeclens.dequantize(tile, context.qtype, part.dtype) for part, tile in tiles)
    for_bias = None
    if context.bias_dtype is not None and context.needs_input_grad[3]:
        for_bias = gradient.flatten(0, -2).sum(0).to(context.bias_dtype)
    return for_x, None, None, for_bias, None


SHAPES = {
    "block_match": block_match_shapes,
    "dequantize": dequantize_shapes,
    "quantized_linear": quantized_linear_shapes,
    "delta_step": delta_step_shapes,
    "codebook_select": codebook_select_shapes,
    "codebook_compose": codebook_compose_shapes,
}


def register() -> Library:
    """Define and implement every op; the returned object keeps them alive."""
    library = Library("codeclens", "DEF")
    for name, schema in SCHEMAS.items():
        library.define(name + schema)
        library.impl(name, getattr(eager, name), "CompositeExplicitAutograd")
        library.impl(name, getattr(fused, name), "CUDA")
        if name in processor.__all__:
            library.impl(name, getattr(processor, name), "CPU")
        register_fake(f"codeclens::{name}", SHAPES[name], lib=library)
    register_autograd("codeclens::quantized_linear", linear_gradient, setup_context=remember_weight, lib=library)
    return library


# Two copies of the pack in one process (installed, and inside the host's custom_nodes) have one set of ops.
LIBRARY = None if hasattr(torch.ops.codeclens, "codebook_compose") else register()
