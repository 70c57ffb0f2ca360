"""A decoder layer's pass over one row, which is that of every written token, by native code where it can serve.

The modules of the layer do the same in steps. They serve where somebody listens to them (hooks), moves their weights,
or wants exact products or gradients.
"""

import torch

from ...kernels import decoder
from .cache import Cache
from .operations import GGUFOperations
from .qwen3vl.layers import SelfAttention


def attention_row(layer, states: torch.Tensor, cos, sin, cache) -> torch.Tensor | None:
    """``states`` [1, D] with the attention of ``layer`` added, the cache written; None where its modules must serve."""
    attention = layer.attention
    if not isinstance(attention, SelfAttention) or not isinstance(cache, Cache) or cache.int8:
        return None
    norms = (layer.attention_norm, attention.query_norm, attention.key_norm)
    matrices = native(attention.query, attention.key, attention.value, attention.output)
    if matrices is None or not undisturbed(attention, *norms):
        return None
    size = attention.head_dim
    if not decoder.served(states, matrices, size):
        return None
    rows = cache.reserve(attention.index, states.new_empty((len(matrices[1].blocks) // size, 1, size)))
    weights = tuple(norm.weight for norm in norms)
    return decoder.attention_row(states, weights, *matrices, (cos, sin), rows, cache.length, norms[0].eps)


def feed_forward_row(layer, states: torch.Tensor) -> torch.Tensor | None:
    """``states`` [1, D] with the feed-forward part of ``layer`` added; None where its modules must serve."""
    parts, norm = layer.feed_forward, layer.feed_forward_norm
    matrices = native(parts.gate, parts.up, parts.down)
    if matrices is None or not undisturbed(parts, norm):
        return None
    return decoder.feed_forward_row(states, norm.weight, *matrices, norm.eps)


def native(*layers) -> tuple[decoder.Matrix, ...] | None:
    """The weights of linear layers, or None unless all are to be multiplied with 8-bit activations, where they are."""
    if torch.is_grad_enabled() or not undisturbed(*layers):
        return None
    if not all(isinstance(layer, GGUFOperations.Linear) and layer.int8 and layer.bias is None for layer in layers):
        return None
    return tuple(decoder.Matrix(layer.weight, layer.weight_type) for layer in layers)


def undisturbed(*modules) -> bool:
    """Whether nobody listens to the modules and nobody moves their weights."""
    return not any(
        module._forward_hooks or module._forward_pre_hooks or getattr(module, "comfy_cast_weights", False)
        for module in modules
    )
