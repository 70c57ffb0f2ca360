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
    (attention,) = parts(layer, "attention")
    if isinstance(attention, GatedDeltaNet):
        return delta_net_half(layer, states, cache)
    if isinstance(attention, (SelfAttention, GatedAttention)) and not cache.int8:
        return softmax_attention_half(layer, states, cache)
    return None


def softmax_attention_half(layer, states: torch.Tensor, cache: Cache) -> list[int] | None:
    """The same where ``layer`` keeps keys and values."""
    attention, norm = parts(layer, "attention", "attention_norm")
    norms = (norm, *parts(attention, "query_norm", "key_norm"))
    matrices = native(*parts(attention, "query", "key", "value", "output"))
    if matrices is None or not undisturbed(attention, *norms):
        return None
    size = attention.head_dim
    rows = cache.reserve(attention.index, states.new_empty((len(matrices[1][0]) // size, 1, size)))
    if rows.dtype != states.dtype:
        return None
    gated = isinstance(attention, GatedAttention)
    return decoder.attention_half([weight(norm) for norm in norms], matrices, rows, gated)


def delta_net_half(layer, states: torch.Tensor, cache: Cache) -> list[int] | None:
    """The same where ``layer`` keeps a state. The cache gets that after the row before it is computed.

    It counts from the cache's next :meth:`advance` on, so that a pass may still be left.
    """
    net, norm = parts(layer, "attention", "attention_norm")
    before = cache.state(net.index)
    matrices = native(*parts(net, "query_key_value", "gate", "decay", "strength", "read_out"))
    convolution, rate, read_norm = parts(net, "convolution", "rate", "norm")
    disturbed = not undisturbed(norm, net, convolution, rate, read_norm)
    if before is None or before[1].dtype != states.dtype or matrices is None or disturbed:
        return None
    after = (torch.empty_like(before[0]), torch.empty_like(before[1]))
    vectors = (weight(convolution), weight(rate), rate.bias, weight(read_norm))
    half = decoder.delta_net_half(weight(norm), matrices, vectors, before, after, net.config.grouped)
    if half is not None:
        cache.keep(net.index, after)
    return half


def feed_forward_half(layer) -> list[int] | None:
    """The feed-forward part of ``layer`` for native code; None where it cannot serve."""
    feed_forward, norm = parts(layer, "feed_forward", "feed_forward_norm")
    gate, up, down = parts(feed_forward, "gate", "up", "down")
    matrices = native(gate, up, down)
    if matrices is None or not undisturbed(feed_forward, norm):
        return None
    return decoder.feed_forward_half(weight(norm), matrices, down.in_features)


def parts(module, *names: str) -> list:
    """Modules within ``module``, quicker than as its attributes: a token asks for hundreds."""
    modules = vars(module)["_modules"]
    return [modules[name] for name in names]


def weight(module) -> torch.Tensor:
    """The weight of ``module``, likewise."""
    return vars(module)["_parameters"]["weight"]


def native(*layers) -> list[tuple[torch.Tensor, str]] | None:
    """Weights and types of linear layers, or None unless all are to be multiplied with 8-bit activations."""
    if not undisturbed(*layers):
        return None
    matrices = []
    for layer in layers:
        if not isinstance(layer, GGUFOperations.Linear) or not layer.int8 or layer.bias is not None:
            return None
        matrices.append((weight(layer), layer.weight_type))
    return matrices


def undisturbed(*modules) -> bool:
    """Whether nobody listens to the modules and nobody moves their weights."""
    for module in modules:
        fields = vars(module)
        cast = fields.get("comfy_cast_weights", getattr(type(module), "comfy_cast_weights", False))
        if fields["_forward_hooks"] or fields["_forward_pre_hooks"] or cast:
            return False
    return True
