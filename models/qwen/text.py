"""Qwen3-VL's language model: a Qwen3 decoder with interleaved M-RoPE and DeepStack injection.

Sources: Qwen3 (arXiv 2505.09388: RMSNorm, QK-norm, grouped-query attention, SwiGLU) and Qwen3-VL (arXiv 2511.21631:
interleaved M-RoPE; DeepStack features added to the first layers' outputs).
"""

import torch
import torch.nn.functional as F

from .attention import Attention, attention
from .config import TextConfig
from .rope import mrope_angles, rotate


class TextModel(torch.nn.Module):
    """The decoder, its token embedding and its head.

    ``operations`` supplies ``Linear``, ``RMSNorm`` and ``Embedding``; ``attend`` the attention (see
    ``attention.Attention``). In a tied model head and embedding share one parameter.
    """

    def __init__(self, config: TextConfig, operations=torch.nn, device=None, dtype=None, attend: Attention = attention):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.config = config
        self.token_embedding = operations.Embedding(config.vocabulary, config.hidden_size, **made)
        self.layers = torch.nn.ModuleList(
            DecoderLayer(config, index, attend, operations, **made) for index in range(config.layers)
        )
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.head = operations.Linear(config.hidden_size, config.vocabulary, bias=False, **made)
        if config.tied:
            self.tie()

    def tie(self) -> None:
        """Make the head's weight the embedding's, one parameter in two modules."""
        self.head.weight = self.token_embedding.weight
        if hasattr(self.token_embedding, "weight_type"):
            self.head.weight_type = self.token_embedding.weight_type

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Token ids int64 [n], on any device, to embeddings [n, D]."""
        return self.token_embedding(ids.to(self.token_embedding.weight.device))

    def forward(
        self,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        cache=None,
        deepstack: list[torch.Tensor] | None = None,
        visual_index: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run ``embeds`` [n, D] behind what ``cache`` holds and return the hidden states [n, D], before the last norm.

        ``positions`` int64 [3, n]; ``deepstack`` one [k, D] for each of the first layers, added to the rows
        ``visual_index`` int64 [k] of that layer's output. ``cache`` has ``append(layer, key, value)``, which returns
        all keys and values [kv_heads, length, head_dim], and ``advance(n)``; without one the sequence stands alone.
        """
        config = self.config
        angles = mrope_angles(positions.to(embeds.device), config.rope_base, config.head_dim, config.rope_sections)
        cos, sin = angles.cos(), angles.sin()
        states = embeds
        for index, layer in enumerate(self.layers):
            states = layer(states, cos, sin, cache)
            if deepstack is not None and index < len(deepstack):
                states = states.index_add(0, visual_index.to(states.device), deepstack[index].to(states))
        if cache is not None:
            cache.advance(embeds.shape[0])
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """The last norm and the head: hidden states [m, D] to logits [m, vocabulary]."""
        return self.head(self.norm(hidden))


class DecoderLayer(torch.nn.Module):
    """Pre-norm attention and SwiGLU, each added to the stream."""

    def __init__(self, config: TextConfig, index: int, attend: Attention, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.attention_norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.attention = SelfAttention(config, index, attend, operations, **made)
        self.feed_forward_norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.feed_forward = FeedForward(config, operations, **made)

    def forward(self, states, cos, sin, cache) -> torch.Tensor:
        """``states`` [n, D]; ``cos``, ``sin`` float32 [n, head_dim / 2]."""
        states = states + self.attention(self.attention_norm(states), cos, sin, cache)
        return states + self.feed_forward(self.feed_forward_norm(states))


class SelfAttention(torch.nn.Module):
    """Grouped-query attention with RMS-normalised queries and keys."""

    def __init__(self, config: TextConfig, index: int, attend: Attention, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        query_width, key_width = config.heads * config.head_dim, config.kv_heads * config.head_dim
        self.index = index
        self.head_dim = config.head_dim
        self.attend = attend
        self.query = operations.Linear(config.hidden_size, query_width, bias=False, **made)
        self.key = operations.Linear(config.hidden_size, key_width, bias=False, **made)
        self.value = operations.Linear(config.hidden_size, key_width, bias=False, **made)
        self.output = operations.Linear(query_width, config.hidden_size, bias=False, **made)
        self.query_norm = operations.RMSNorm(config.head_dim, eps=config.rms_epsilon, **made)
        self.key_norm = operations.RMSNorm(config.head_dim, eps=config.rms_epsilon, **made)

    def forward(self, states, cos, sin, cache) -> torch.Tensor:
        """``states`` [n, D], already normalised; the cache receives rotated keys."""
        count = states.shape[0]
        query = self.query_norm(self.query(states).view(count, -1, self.head_dim)).transpose(0, 1)
        key = self.key_norm(self.key(states).view(count, -1, self.head_dim)).transpose(0, 1)
        value = self.value(states).view(count, -1, self.head_dim).transpose(0, 1)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is not None:
            key, value = cache.append(self.index, key, value)
        attended = self.attend(query[None], key[None], value[None], causal=True)[0]
        return self.output(attended.transpose(0, 1).reshape(count, -1))


class FeedForward(torch.nn.Module):
    """SwiGLU (arXiv 2002.05202): ``down(silu(gate(x)) * up(x))``."""

    def __init__(self, config: TextConfig, operations, device, dtype):
        super().__init__()
        made = {"bias": False, "device": device, "dtype": dtype}
        self.gate = operations.Linear(config.hidden_size, config.intermediate_size, **made)
        self.up = operations.Linear(config.hidden_size, config.intermediate_size, **made)
        self.down = operations.Linear(config.intermediate_size, config.hidden_size, **made)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(states)) * self.up(states))
