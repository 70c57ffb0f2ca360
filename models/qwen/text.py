"""The language model of every family: embedding, decoder layers, head.

Source: Qwen3-VL (arXiv 2511.21631: interleaved M-RoPE; DeepStack features added to the first layers' outputs). The
layers are those of the configuration's family.
"""

import torch

from .attention import Attention, attention
from .blocks import DecoderLayer
from .config import TextConfig
from .families import FAMILIES
from .one_row import layers_row
from .rope import mrope_angles


class TextModel(torch.nn.Module):
    """The decoder, its token embedding and its head.

    ``operations`` supplies ``Linear``, ``RMSNorm`` and ``Embedding``; ``attend`` the attention (see
    ``attention.Attention``). In a tied model head and embedding are one parameter.
    """

    def __init__(self, config: TextConfig, operations=torch.nn, device=None, dtype=None, attend: Attention = attention):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        family = FAMILIES[config.family]
        self.config = config
        self.token_embedding = operations.Embedding(config.vocabulary, config.hidden_size, **made)
        self.layers = torch.nn.ModuleList(
            DecoderLayer(family.mixer(config, index), family.feed_forward, config, index, attend, operations, **made)
            for index in range(config.layers)
        )
        self.norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.head = operations.Linear(config.hidden_size, config.vocabulary, bias=False, **made)
        if config.tied:
            self.tie()

    def tie(self) -> None:
        """Make the head's weight the embedding's, one parameter in two modules."""
        self.head.weight = self.token_embedding.weight
        if hasattr(self.token_embedding, "weight_type"):
            self.head.weight_type, self.head.scale = self.token_embedding.weight_type, self.token_embedding.scale

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
        """Run ``embeds`` [n, D] after what ``cache`` holds and return the hidden states [n, D], before the last norm.

        ``positions`` int64 [3, n]; ``deepstack`` one [k, D] for each of the first layers, added to the rows
        ``visual_index`` int64 [k] of that layer's output. ``cache`` is a :class:`.cache.Cache`, or anything with
        its methods; without one the sequence stands alone.
        """
        config = self.config
        rotary_dim = config.rotary_dim or config.head_dim
        angles = mrope_angles(
            positions.to(embeds.device), config.rope_base, rotary_dim, config.rope_sections, config.rope_scaling
        )
        cos, sin = angles.cos(), angles.sin()
        if config.rope_scaling is not None:
            cos, sin = cos * config.rope_scaling.attention_factor, sin * config.rope_scaling.attention_factor
        if len(embeds) == 1 and deepstack is None:
            states = layers_row(self.layers, embeds, cos, sin, cache)
            if states is not None:
                cache.advance(1)
                return states
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
