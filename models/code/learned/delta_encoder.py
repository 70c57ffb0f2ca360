"""CoPE-VideoLM's delta encoder (arXiv 2602.13191, section 3): motion tokens and residual tokens of a P frame.

Where the paper contradicts itself or is silent:

* "Less than 15 million parameters" cannot hold with two 4-layer transformers as wide as SigLIP (1152): the width here
  is 288 by default, nine heads of 32, projected to the language model's width.
* A whole ResNet-18 has a stride of 32, not the 16 of the motion grid: it is cut after its third stage (256 channels,
  stride 16). Batch normalisation, which depends on what else is in a batch, is group normalisation here.
* Motion is divided by the search radius, not by its own frame's extremes, which would erase its speed.
* The vectors of a patch are equal, so its 512 numbers are the two that differ.
* Positions are given by sines and cosines; DeepStack levels, which LLaVA-Video lacks, get projections of their own.
"""

import torch
import torch.nn.functional as F
from torch.nn import LayerNorm, Linear

from ...qwen.config import VisionConfig
from .transformer import make_layers, run, waves

GROUP = 16
"""Channels that are normalised together."""


class DeltaEncoder(torch.nn.Module):
    """Both branches; the tower that every network is handed is not used.

    Args:
        config: that of the tower whose tokens these stand beside.
        motion, residual: tokens of each branch; the paper's four and four were best.
        width, heads, layers: of each branch's transformer.
        channels: of the three stages of the residual branch.
        seed: of the first weights.
    """

    def __init__(
        self,
        config: VisionConfig,
        motion: int = 4,
        residual: int = 4,
        width: int = 288,
        heads: int = 9,
        layers: int = 4,
        channels: tuple[int, int, int] = (64, 128, 256),
        seed: int = 0,
    ):
        super().__init__()
        self.levels = 1 + len(config.deepstack_indexes)
        self.counts = (motion, residual)
        self.checkpointed = False
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.vectors = torch.nn.ModuleList([Linear(2, width), Linear(width, width)])
            self.pixels = ResidualStages(channels)
            self.enter = Linear(channels[-1], width)
            output = self.levels * config.output_size
            self.motion = Branch(motion, width, heads, layers, output)
            self.residual = Branch(residual, width, heads, layers, output)

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the tokens, whatever the frame's size: motion above, residual below."""
        motion, residual = self.counts
        return (2, motion) if motion == residual else (1, motion + residual)

    def forward(
        self, tower, residual: torch.Tensor, motion: torch.Tensor, step: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of n changes (:func:`.changes.as_tensors`): [n, N, D], and DeepStack features [K, n, N, D]."""
        states = torch.cat([self.motion(self.read_motion(motion)), self.residual(self.read_residual(residual))], 1)
        tokens, *levels = states.to(tower.dtype).chunk(self.levels, -1)
        return tokens, torch.stack(levels) if levels else tokens.new_empty(0, *tokens.shape)

    def read_motion(self, motion: torch.Tensor) -> torch.Tensor:
        """Motion [n, h, w, 2] to states [n, h * w, C]."""
        first, second = self.vectors
        states = second(F.gelu(first(motion.float()))).flatten(1, 2)
        return states + waves(*motion.shape[1:3], states.shape[-1], motion.device)

    def read_residual(self, residual: torch.Tensor) -> torch.Tensor:
        """A residual [n, H, W, 3] to states [n, h * w, C]."""
        found = self.pixels(residual.float().movedim(-1, 1))
        states = self.enter(found.flatten(2).mT)
        return states + waves(*found.shape[2:], states.shape[-1], residual.device)


class Branch(torch.nn.Module):
    """Learned queries among the states of a frame; what becomes of the queries is kept."""

    def __init__(self, count: int, width: int, heads: int, layers: int, output: int):
        super().__init__()
        self.queries = torch.nn.Parameter(torch.randn(count, width) * 0.02)
        self.layers = make_layers(width, heads, layers)
        self.norm = LayerNorm(width)
        self.leave = Linear(width, output)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States [n, m, C] to tokens [n, count, output]."""
        queries = self.queries.expand(len(states), -1, -1)
        after = run(self.layers, torch.cat([states, queries], 1))[:, states.shape[1] :]
        return self.leave(self.norm(after))


class ResidualStages(torch.nn.Module):
    """ResNet-18 (arXiv 1512.03385) up to its third stage: [n, 3, H, W] to [n, C, H / 16, W / 16]."""

    def __init__(self, channels: tuple[int, int, int]):
        super().__init__()
        self.stem = Convolution(3, channels[0], 7, 2)
        before, blocks = channels[0], []
        for number, width in enumerate(channels):
            blocks += [ResidualBlock(before, width, 1 if number == 0 else 2), ResidualBlock(width, width, 1)]
            before = width
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        states = F.max_pool2d(F.relu(self.stem(pixels)), 3, 2, 1)
        for block in self.blocks:
            states = block(states)
        return states


class ResidualBlock(torch.nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.first = Convolution(before, width, 3, stride)
        self.second = Convolution(width, width, 3, 1)
        self.shortcut = Convolution(before, width, 1, stride) if stride > 1 or before != width else None

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        beside = states if self.shortcut is None else self.shortcut(states)
        return F.relu(self.second(F.relu(self.first(states))) + beside)


class Convolution(torch.nn.Module):
    """A convolution and the group normalisation after it."""

    def __init__(self, before: int, width: int, side: int, stride: int):
        super().__init__()
        self.stride, self.padding = stride, side // 2
        self.groups = max(1, width // GROUP)
        deviation = (2 / (before * side * side)) ** 0.5
        self.weight = torch.nn.Parameter(torch.randn(width, before, side, side) * deviation)
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.shift = torch.nn.Parameter(torch.zeros(width))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        states = F.conv2d(states, self.weight, stride=self.stride, padding=self.padding)
        return F.group_norm(states, self.groups, self.scale, self.shift)
