"""The attention of Qwen3-VL's language model, which is Qwen3's (arXiv 2505.09388)."""

import torch

from ..attention import Attention
from ..config import TextConfig
from ..rope import rotate


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
        if cache is None:
            attended = self.attend(query[None], key[None], value[None], causal=True)[0]
        else:
            attended = cache.attend(self.index, query, key, value, self.attend)
        return self.output(attended.transpose(0, 1).reshape(count, -1))
