"""Decoder layers' pass over one row, which is that of every written token, by native code where it can serve.

The modules of the layers do the same in steps. They serve where somebody listens to them (hooks), moves their weights,
or wants exact products or gradients.
"""

import torch

from ...kernels import decoder
from .cache import Cache
from .operations import GGUFOperations
from .qwen3vl.layers import SelfAttention
from .qwen35.layers import GatedAttention, GatedDeltaNet


def layers_row(layers, states: torch.Tensor, cos, sin, cache) -> torch.Tensor | None:
    """``states`` [1, D] after all ``layers``, the cache written; None where their modules must serve."""
    if torch.is_grad_enabled() or not layers or not decoder.served(states):
        return None
    halves = []
    for layer in layers:
        attention, feed_forward = attention_half(layer, states, cache), feed_forward_half(layer)
        if attention is None or feed_forward is None or not undisturbed(layer):
            return None
        halves += attention, feed_forward
    return decoder.decoder_row(states, halves, layers[0].attention_norm.eps, (cos, sin), cache.length)


def attention_row(layer, states: torch.Tensor, cos, sin, cache) -> torch.Tensor | None:
    """``states`` [1, D] with the attention of ``layer`` added, the cache written; None where its modules must serve."""
    if torch.is_grad_enabled() or not decoder.served(states):
        return None
    half = attention_half(layer, states, cache)
    if half is None:
        return None
    return decoder.decoder_row(states, [half], layer.attention_norm.eps, (cos, sin), cache.length)


def feed_forward_row(layer, states: torch.Tensor) -> torch.Tensor | None:
    """``states`` [1, D] with the feed-forward part of ``layer`` added; None where its modules must serve."""
    if torch.is_grad_enabled() or not decoder.served(states):
        return None
    half = feed_forward_half(layer)
    return None if half is None else decoder.decoder_row(states, [half], layer.feed_forward_norm.eps)


def attention_half(layer, states: torch.Tensor, cache) -> list[int] | None:
    """The attention of ``layer`` for native code, with room in the cache; None where it cannot serve."""
    if not isinstance(cache, Cache):
        return None
    if isinstance(layer.attention, GatedDeltaNet):
        return delta_net_half(layer, states, cache)
    if isinstance(layer.attention, SelfAttention | GatedAttention) and not cache.int8:
        return softmax_attention_half(layer, states, cache)
    return None


def softmax_attention_half(layer, states: torch.Tensor, cache: Cache) -> list[int] | None:
    """The same where ``layer`` keeps keys and values."""
    attention = layer.attention
    norms = (layer.attention_norm, attention.query_norm, attention.key_norm)
    matrices = native(attention.query, attention.key, attention.value, attention.output)
    if matrices is None or not undisturbed(attention, *norms):
        return None
    size = attention.head_dim
    rows = cache.reserve(attention.index, states.new_empty((len(matrices[1][0]) // size, 1, size)))
    if rows.dtype != states.dtype:
        return None
    gated = isinstance(attention, GatedAttention)
    return decoder.attention_half([norm.weight for norm in norms], matrices, rows, gated)


def delta_net_half(layer, states: torch.Tensor, cache: Cache) -> list[int] | None:
    """The same where ``layer`` keeps a state. The cache gets that after the row before it is computed.

    It counts from the cache's next :meth:`advance` on, so that a pass may still be left.
    """
    net = layer.attention
    before = cache.state(net.index)
    matrices = native(net.query_key_value, net.gate, net.decay, net.strength, net.read_out)
    parts = (layer.attention_norm, net, net.convolution, net.rate, net.norm)
    if before is None or before[1].dtype != states.dtype or matrices is None or not undisturbed(*parts):
        return None
    after = (torch.empty_like(before[0]), torch.empty_like(before[1]))
    vectors = (net.convolution.weight, net.rate.weight, net.rate.bias, net.norm.weight)
    half = decoder.delta_net_half(layer.attention_norm.weight, matrices, vectors, before, after, net.config.grouped)
    if half is not None:
        cache.keep(net.index, after)
    return half


def feed_forward_half(layer) -> list[int] | None:
    """The feed-forward part of ``layer`` for native code; None where it cannot serve."""
    parts, norm = layer.feed_forward, layer.feed_forward_norm
    matrices = native(parts.gate, parts.up, parts.down)
    if matrices is None or not undisturbed(parts, norm):
        return None
    return decoder.feed_forward_half(norm.weight, matrices, parts.down.in_features)


def native(*layers) -> list[tuple[torch.Tensor, str]] | None:
    """Weights and types of linear layers, or None unless all are to be multiplied with 8-bit activations."""
    if not undisturbed(*layers):
        return None
    if not all(isinstance(layer, GGUFOperations.Linear) and layer.int8 and layer.bias is None for layer in layers):
        return None
    return [(layer.weight, layer.weight_type) for layer in layers]


def undisturbed(*modules) -> bool:
    """Whether nobody listens to the modules and nobody moves their weights."""
    for module in modules:
        fields = vars(module)  # quicker than a module's own attributes
        cast = fields.get("comfy_cast_weights", getattr(type(module), "comfy_cast_weights", False))
        if fields["_forward_hooks"] or fields["_forward_pre_hooks"] or cast:
            return False
    return True
