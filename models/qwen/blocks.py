"""What the decoder layers of all families share."""

import torch
import torch.nn.functional as F

from .attention import Attention
from .config import TextConfig
from .one_row import attention_row, feed_forward_row


class DecoderLayer(torch.nn.Module):
    """Pre-norm attention, of the class ``mixer``, and a feed-forward part, each added to the stream."""

    def __init__(
        self, mixer, feed_forward, config: TextConfig, index: int, attend: Attention, operations, device, dtype
    ):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.attention_norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.attention = mixer(config, index, attend, operations, **made)
        self.feed_forward_norm = operations.RMSNorm(config.hidden_size, eps=config.rms_epsilon, **made)
        self.feed_forward = feed_forward(config, operations, **made)

    def forward(self, states, cos, sin, cache) -> torch.Tensor:
        """``states`` [n, D]; ``cos``, ``sin`` float32 [n, rotary_dim / 2]."""
        attended = attention_row(self, states, cos, sin, cache) if len(states) == 1 else None
        if attended is None:
            attended = states + self.attention(self.attention_norm(states), cos, sin, cache)
        result = feed_forward_row(self, attended) if len(states) == 1 else None
        return attended + self.feed_forward(self.feed_forward_norm(attended)) if result is None else result


class FeedForward(torch.nn.Module):
    """SwiGLU (arXiv 2002.05202): ``down(silu(gate(x)) * up(x))``; of ``size`` channels, or the configuration's."""

    def __init__(self, config: TextConfig, operations, device, dtype, size: int | None = None):
        super().__init__()
        made = {"bias": False, "device": device, "dtype": dtype}
        size = size or config.intermediate_size
        self.gate = operations.Linear(config.hidden_size, size, **made)
        self.up = operations.Linear(config.hidden_size, size, **made)
        self.down = operations.Linear(size, config.hidden_size, **made)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(states)) * self.up(states))
