"""The first stage, without labels: from an I frame and learned tokens to what the frozen tower makes of a later frame.

What helps to predict is dropped afterwards; the network is kept.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn import LayerNorm, Linear

from ...code.learned.changes import Change, as_tensors, change_of
from ...code.learned.transformer import make_layers, run, waves
from ...qwen.vision import VisionModel

STEPS = 64
"""Steps in time that a predictor tells apart."""


class Predictor(torch.nn.Module):
    """From features of one frame, and tokens of what changed since, to features of another.

    It begins by predicting that nothing changed.

    Args:
        values: channels of features and tokens, all levels together.
        width, heads, layers: of the transformer.
    """

    def __init__(self, values: int, width: int, heads: int, layers: int):
        super().__init__()
        self.enter, self.added = Linear(values, width), Linear(values, width)
        self.time = torch.nn.Parameter(torch.randn(STEPS, width) * 0.02)
        self.layers = make_layers(width, heads, layers)
        self.norm, self.leave = LayerNorm(width), Linear(width, values)
        torch.nn.init.zeros_(self.leave.weight)
        torch.nn.init.zeros_(self.leave.bias)

    def forward(
        self,
        features: torch.Tensor,
        grid: tuple[int, int],
        tokens: torch.Tensor,
        token_grid: tuple[int, int],
        step: torch.Tensor,
    ) -> torch.Tensor:
        """Predicted features [n, M, V].

        Args:
            features: [n, M, V] on ``grid``, row by row.
            tokens: [n, s, N, V] of s changes, on ``token_grid``.
            step: int64 [s], frames since that of ``features``.
        """
        width = self.time.shape[1]
        states = self.enter(features) + waves(*grid, width, features.device)
        added = self.added(normed(tokens, 1)) + waves(*token_grid, width, tokens.device)
        added = added + self.time[step.clamp(0, STEPS - 1)][:, None]
        after = run(self.layers, torch.cat([states, added.flatten(1, 2)], 1))[:, : features.shape[1]]
        return features + self.leave(self.norm(after))


def normed(values: torch.Tensor, levels: int) -> torch.Tensor:
    """``values`` [..., V], each of the ``levels`` parts of its channels with mean 0 and variance 1."""
    parts = values.float().chunk(levels, -1)
    return torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], -1)


def make_predictors(mode: str, tower: VisionModel, seed: int = 0) -> torch.nn.ModuleList:
    """What aligns a mode's network: one predictor (AdaCodec), or two in a row (CoPE: by motion, then by residual)."""
    config = tower.config
    values = (1 + len(config.deepstack_indexes)) * config.output_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        count, layers = (1, 4) if mode == "ptoken" else (2, 2)
        return torch.nn.ModuleList(Predictor(values, config.hidden_size, config.heads, layers) for _ in range(count))


@torch.no_grad()
def features_of(tower: VisionModel, rgb: np.ndarray, device) -> torch.Tensor:
    """What the frozen tower makes of pictures uint8 [n, H, W, 3]: float32 [n, M, V], normed level by level."""
    tokens, deepstack = tower.encode(torch.from_numpy(np.ascontiguousarray(rgb)).to(device)[:, None])
    return normed(torch.cat([tokens, *deepstack], -1), 1 + len(deepstack))


def changes_of(rgb: np.ndarray, radius: int, window: int, reference: str = "previous") -> list[Change]:
    """The changes between every ``window``-th of the frames uint8 [T, H, W, 3]."""
    found = []
    for at in range(window, len(rgb), window):
        start = 0 if reference == "whole" else at - window
        after = rgb[at + 1] if reference == "both" and at + 1 < len(rgb) else None
        found.append(change_of(rgb[at], rgb[start], at, radius, after=after, span=window))
    return found


def alignment_loss(
    mode: str,
    network: torch.nn.Module,
    predictors: torch.nn.ModuleList,
    tower: VisionModel,
    clips: Sequence[np.ndarray],
    radius: int,
    window: int,
    device,
    reference: str = "previous",
) -> torch.Tensor:
    """The loss of stretches of clips, uint8 [T, H, W, 3] each; the first frame of a stretch is whole, the rest changes.

    AdaCodec predicts the last frame from the first and all tokens between: the L1 distance of each channel and one
    minus the cosine of each token (arXiv 2606.02569, section 3.2). CoPE predicts each frame from the one before it and
    its own tokens, motion first and then the residual: the squared distance (arXiv 2602.13191, section 3.3).
    """
    losses = []
    levels = 1 + len(tower.config.deepstack_indexes)
    for rgb in clips:
        shown, changes = rgb[::window], changes_of(rgb, radius, window, reference)
        size = rgb.shape[1:3]
        grid, token_grid = (size[0] // 32, size[1] // 32), network.grid(size)
        inputs = as_tensors(changes, radius, device)
        tokens, deepstack = network(tower, *inputs)
        tokens = torch.cat([tokens, *deepstack], -1).float()
        if mode == "ptoken":
            known, wanted = features_of(tower, shown[[0, -1]], device).split(1)
            found = predictors[0](known, grid, tokens[None], token_grid, inputs[2])
            losses.append(F.l1_loss(found, wanted) + 1 - _cosine(found, wanted, levels))
        else:
            features = features_of(tower, shown, device)
            motion, step = network.counts[0], torch.ones(1, dtype=torch.int64, device=device)
            parts = tokens[:, None, :motion], tokens[:, None, motion:]
            before = features[:1].expand(len(features) - 1, -1, -1) if reference == "whole" else features[:-1]
            found = predictors[0](before, grid, parts[0], (1, motion), step)
            found = predictors[1](found, grid, parts[1], (1, parts[1].shape[2]), step)
            losses.append(F.mse_loss(found, features[1:]))
    return torch.stack(losses).mean()


def _cosine(found: torch.Tensor, wanted: torch.Tensor, levels: int) -> torch.Tensor:
    """Mean cosine of tokens, level by level."""
    pairs = zip(found.chunk(levels, -1), wanted.chunk(levels, -1), strict=True)
    return torch.stack([F.cosine_similarity(one, other, dim=-1).mean() for one, other in pairs]).mean()
