"""The attention of Qwen3.5's language model: gated delta nets, and softmax attention with an output gate.

Sources: Gated DeltaNet (arXiv 2412.06464), gated attention (arXiv 2505.06708), and the layers of Hugging Face's
``Qwen3_5``.
"""

import torch
import torch.nn.functional as F

from ..attention import Attention
from ..branches import Branches
from ..rope import rotate
from .delta_rule import delta_rule
from .metadata import HybridConfig

NORM_EPSILON = 1e-6
"""Of the length of queries and keys in a delta net."""


def mixer(config: HybridConfig, index: int) -> type:
    """The class of the attention in layer ``index``."""
    return GatedDeltaNet if config.recurrent[index] else GatedAttention


class StoredFloats(torch.nn.Module):
    """A module of few weights, which stay float32 whatever the model computes in."""

    def load(self, stored, device=None) -> None:
        """Take ``stored``, a :class:`..gguf.StoredTensor` of floats, as the weight."""
        self.weight = torch.nn.Parameter(stored.data.float().to(device), requires_grad=False)


class GatedAttention(torch.nn.Module):
    """Grouped-query attention with normalised queries and keys, rotated in part, whose output is gated per channel."""

    def __init__(self, config: HybridConfig, index: int, attend: Attention, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.index = index
        self.head_dim = config.head_dim
        self.attend = attend
        self.query = operations.Linear(config.hidden_size, 2 * query_width, bias=False, **made)
        self.key = operations.Linear(config.hidden_size, key_width, bias=False, **made)
        self.value = operations.Linear(config.hidden_size, key_width, bias=False, **made)
        self.output = operations.Linear(query_width, config.hidden_size, bias=False, **made)
        self.query_norm = operations.RMSNorm(config.head_dim, eps=config.rms_epsilon, **made)
        self.key_norm = operations.RMSNorm(config.head_dim, eps=config.rms_epsilon, **made)

    def forward(self, states, cos, sin, cache) -> torch.Tensor:
        """``states`` [n, D], already normalised; the cache receives rotated keys."""
        count = states.shape[0]
        query, gate = self.query(states).view(count, -1, 2 * self.head_dim).chunk(2, dim=-1)
        query = self.query_norm(query).transpose(0, 1)
        key = self.key_norm(self.key(states).view(count, -1, self.head_dim)).transpose(0, 1)
        value = self.value(states).view(count, -1, self.head_dim).transpose(0, 1)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is None:
            attended = self.attend(query[None], key[None], value[None], causal=True)[0]
        else:
            attended = cache.attend(self.index, query, key, value, self.attend)
        return self.output((attended.transpose(0, 1) * gate.sigmoid()).reshape(count, -1))


class GatedDeltaNet(torch.nn.Module):
    """Linear attention by the gated delta rule; see :mod:`.delta_rule`.

    Order comes from the recurrence: there are no positions. Queries, keys and values pass a short causal convolution.
    """

    def __init__(self, config: HybridConfig, index: int, attend: Attention, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        key_width, value_width = config.key_heads * config.state_size, config.value_heads * config.state_size
        self.index = index
        self.config = config
        self.query_key_value = operations.Linear(config.hidden_size, 2 * key_width + value_width, bias=False, **made)
        self.convolution = CausalConvolution(2 * key_width + value_width, config.kernel_size, **made)
        self.gate = operations.Linear(config.hidden_size, value_width, bias=False, **made)
        self.decay = operations.Linear(config.hidden_size, config.value_heads, bias=False, **made)
        self.rate = DecayRate(config.value_heads, **made)
        self.strength = operations.Linear(config.hidden_size, config.value_heads, bias=False, **made)
        self.norm = operations.RMSNorm(config.state_size, eps=config.rms_epsilon, **made)
        self.read_out = operations.Linear(value_width, config.hidden_size, bias=False, **made)

    def forward(self, states, cos, sin, cache) -> torch.Tensor:
        """``states`` [n, D], already normalised. The cache keeps the state and the convolution's last inputs."""
        if isinstance(cache, Branches):
            return cache.each(self, states, cos, sin)
        config, count = self.config, states.shape[0]
        kept = None if cache is None else cache.state(self.index)
        state, inputs = kept or (None, None)
        mixed, inputs = self.convolution(self.query_key_value(states), inputs)
        query, key, value = self.heads(mixed)
        if state is None:
            state = value.new_zeros(config.value_heads, config.state_size, config.state_size)
        decay, strength = self.rate(self.decay(states)), self.strength(states).sigmoid().float()
        read, state = delta_rule(query, key, value, decay, strength, state)
        if cache is not None:
            cache.keep(self.index, (state, inputs))
        gated = self.norm(read) * F.silu(self.gate(states).float()).view_as(read)
        return self.read_out(gated.to(states.dtype).view(count, -1))

    def heads(self, mixed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Channels [n, C] to queries and keys of unit length and values, [n, value heads, state size] each."""
        config = self.config
        heads = mixed.unflatten(-1, (-1, config.state_size))
        query, key, value = heads.split([config.key_heads, config.key_heads, config.value_heads], dim=1)
        query, key = (part * (part.square().sum(-1, keepdim=True) + NORM_EPSILON).rsqrt() for part in (query, key))
        query, key = (self.for_values(part) for part in (query * config.state_size**-0.5, key))
        return query, key, value

    def for_values(self, keys: torch.Tensor) -> torch.Tensor:
        """Key heads [n, key heads, c] once for each value head that shares them, in the value heads' order."""
        groups = self.config.value_heads // self.config.key_heads
        if groups == 1:
            return keys
        return keys.repeat_interleave(groups, dim=1) if self.config.grouped else keys.repeat(1, groups, 1)


class CausalConvolution(StoredFloats):
    """A depthwise convolution over each row and those before it, then SiLU. The last tap is the row itself."""

    def __init__(self, channels: int, size: int, device=None, dtype=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(channels, size, device=device, dtype=dtype))

    def forward(self, rows: torch.Tensor, before: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """``rows`` [n, C] after the ``size - 1`` rows ``before``, zeros by default, to float32 [n, C].

        Also returns the last ``size - 1`` rows, for the next call.
        """
        count, (_, size) = rows.shape[0], self.weight.shape
        if before is None:
            before = rows.new_zeros(size - 1, rows.shape[1])
        taps, joined = self.weight.to(rows.device, torch.float32).T, torch.cat([before, rows])
        mixed = joined[:count] * taps[0]
        for tap in range(1, size):
            mixed.addcmul_(joined[tap : tap + count], taps[tap])
        return F.silu(mixed), joined[count:].clone()


class DecayRate(StoredFloats):
    """How fast each head's state fades: the logarithm of what is left of it, ``weight * softplus(x + bias)``."""

    def __init__(self, heads: int, device=None, dtype=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(heads, device=device, dtype=dtype))
        self.bias = torch.nn.Parameter(torch.empty(heads, device=device, dtype=dtype))

    def forward(self, decay: torch.Tensor) -> torch.Tensor:
        """[n, heads] to float32 of at most 0; the weight is negative."""
        weight, bias = (vector.to(decay.device, torch.float32) for vector in (self.weight, self.bias))
        return weight * F.softplus(decay.float() + bias)
