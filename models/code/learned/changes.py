"""What the tokens of a P frame are made from: motion and residual against a reference frame (AdaCodec, equation 2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...video.motion import BLOCK, PENALTY, residual, search

INPUTS = ("both", "motion", "residual", "none")
"""What of a change is shown to the network; the rest is zero."""

REFERENCES = ("previous", "whole", "both")
"""What a change is taken against: the sampled frame before it (of a window, before its first), its GOP's I frame, or
each macroblock against the better of the sampled frames before and after."""

RESIDUAL_SCALE = 127.5
"""Grey levels of a residual of 1: a patch of pixels, normalised as the tower wants it, has the same scale."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a frame differs from its reference.

    Attributes:
        mv: int16 [H/16, W/16, 2], pixels (dx, dy) from each macroblock to its match in the reference.
        residual: int16 [H, W, 3], what the match leaves of the frame.
        step: sampled frames since the GOP's I frame, from 1.
    """

    mv: np.ndarray
    residual: np.ndarray
    step: int


def change_of(
    current: np.ndarray,
    reference: np.ndarray,
    step: int,
    radius: int,
    mv: np.ndarray | None = None,
    after: np.ndarray | None = None,
    span: int = 1,
) -> Change:
    """The change from ``reference`` to ``current``, both uint8 [H, W, 3], by the motion ``mv`` or one searched here.

    A search covers ``radius`` pixels to each side. The reference may be several samples back: the change is the whole
    one (CoPE-VideoLM fuses a window of frames so; how it adds up vectors the paper does not say).

    Args:
        after: the sampled frame after, uint8 [H, W, 3]: each macroblock is predicted from whichever of both fits
            better, as in a B frame. The motion of one that is predicted from there is turned around and made as long as
            from ``reference``, so that a network reads it like any other.
        span: sampled frames from ``reference`` to ``current``.
    """
    if after is None:
        if mv is None:
            mv = search(current[None], radius, PENALTY, reference)[0][0]
        return Change(mv, residual(current, reference, mv), step)
    (mv, cost, _), (back, back_cost, _) = (search(current[None], radius, PENALTY, one) for one in (reference, after))
    later = (back_cost < cost)[0]
    pixels = np.kron(later, np.ones((BLOCK, BLOCK), bool))[..., None]
    left = np.where(pixels, residual(current, after, back[0]), residual(current, reference, mv[0]))
    return Change(np.where(later[..., None], -span * back[0], mv[0]).astype(np.int16), left, step)


def as_tensors(
    changes: Sequence[Change], radius: int, device: torch.device | str = "cpu", inputs: str = "both"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Changes of one size as a network reads them.

    Returns:
        residual float32 [n, H, W, 3], -2..2; motion float32 [n, H/16, W/16, 2] in search radii, -1..1; step int64 [n].
        The motion of a macroblock is said once, where the papers repeat it for each of its pixels. The range is fixed:
        scaled by its own frame's extremes, motion would lose its speed.
    """
    pixels = torch.from_numpy(np.stack([change.residual for change in changes])).to(device).float() / RESIDUAL_SCALE
    vectors = torch.from_numpy(np.stack([change.mv for change in changes])).to(device).float().div(radius).clamp(-1, 1)
    if inputs in ("motion", "none"):
        pixels.zero_()
    if inputs in ("residual", "none"):
        vectors.zero_()
    return pixels, vectors, torch.tensor([change.step for change in changes], device=device)
