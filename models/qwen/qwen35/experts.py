"""The feed-forward part of Qwen3.5's mixtures of experts: a few of many experts for each row, and one for all rows.

Source: the sparse block of Hugging Face's ``Qwen3_5Moe``; its routing is that of Qwen3 (arXiv 2505.09388).
"""

import torch
import torch.nn.functional as F

from ..blocks import FeedForward
from .layers import StoredFloats
from .metadata import HybridConfig


class MixtureOfExperts(torch.nn.Module):
    """SwiGLU of the experts that a router gives the largest probabilities, weighted by these, and of a shared expert.

    The probabilities of the chosen experts are scaled to a sum of 1. The shared expert's part has a gate of its own.
    """

    def __init__(self, config: HybridConfig, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        width, inner = config.hidden_size, config.expert_size
        self.used = config.experts_used
        self.router = operations.Linear(width, config.experts, bias=False, **made)
        self.gate = operations.Experts(config.experts, width, inner, **made)
        self.up = operations.Experts(config.experts, width, inner, **made)
        self.down = operations.Experts(config.experts, inner, width, **made)
        self.shared = FeedForward(config, operations, size=config.shared_expert_size, **made)
        self.shared_gate = SharedGate(width, **made)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """``states`` [n, D], already normalised. Each chosen expert is read once, for all rows that take it."""
        weights, chosen = self.router(states).float().softmax(-1).topk(self.used)
        weights = (weights / weights.sum(-1, keepdim=True)).to(states.dtype)
        result = self.shared_gate(states) * self.shared(states)
        for expert in chosen.unique().tolist():
            rows, ranks = torch.where(chosen == expert)
            inner = F.silu(self.gate(states[rows], expert)) * self.up(states[rows], expert)
            result.index_add_(0, rows, self.down(inner, expert) * weights[rows, ranks, None])
        return result


class SharedGate(StoredFloats):
    """How much of the shared expert each row takes: the sigmoid of one product."""

    def __init__(self, width: int, device=None, dtype=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.empty(width, device=device, dtype=dtype))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[n, D] to [n, 1]."""
        gate = states.float() @ self.weight.to(states.device, torch.float32)
        return gate.sigmoid().to(states.dtype)[:, None]
