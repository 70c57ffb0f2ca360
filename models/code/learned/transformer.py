"""A small pre-norm transformer in float32, for the delta encoder and for what helps to train a code."""

import math

import torch
import torch.nn.functional as F
from torch.nn import LayerNorm, Linear


class PreNormLayer(torch.nn.Module):
    """Attention, then an MLP four times as wide, each of what is normalised before it (arXiv 2002.04745)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.attention_output = Linear(width, width)
        self.feed_forward_norm = LayerNorm(width)
        self.up = Linear(width, 4 * width)
        self.down = Linear(4 * width, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """``states`` [n, m, C]."""
        packed = self.query_key_value(self.attention_norm(states)).unflatten(-1, (3, self.heads, -1))
        attended = F.scaled_dot_product_attention(*packed.permute(2, 0, 3, 1, 4))
        states = states + self.attention_output(attended.transpose(1, 2).flatten(2))
        return states + self.down(F.gelu(self.up(self.feed_forward_norm(states))))


def make_layers(width: int, heads: int, count: int) -> torch.nn.ModuleList:
    """``count`` layers of ``heads`` heads."""
    return torch.nn.ModuleList(PreNormLayer(width, heads) for _ in range(count))


def run(layers: torch.nn.ModuleList, states: torch.Tensor) -> torch.Tensor:
    """``states`` after all layers."""
    for layer in layers:
        states = layer(states)
    return states


def waves(rows: int, columns: int, width: int, device=None) -> torch.Tensor:
    """float32 [rows * columns, width]: where each place of a grid is on the frame, row by row.

    Sines and cosines (Vaswani et al. 2017, section 3.5) of the place's middle as a fraction of the frame, a quarter of
    the channels each for rows and columns; so a grid of another size says the same of the same place.
    """
    speeds = math.pi * torch.logspace(0, math.log10(64), width // 4, device=device)
    found = []
    for count in (rows, columns):
        angles = ((torch.arange(count, device=device) + 0.5) / count)[:, None] * speeds
        found.append(torch.cat([angles.sin(), angles.cos()], 1))
    along = found[0][:, None].expand(-1, columns, -1), found[1][None].expand(rows, -1, -1)
    table = torch.cat(along, 2).flatten(0, 1)
    return F.pad(table, (0, width - table.shape[1]))
