"""What a codec sees between two sampled frames: motion vectors and the cost of predicting one from the other."""

from dataclasses import dataclass

import numpy as np

BLOCK = 16
"""Side of a macroblock in pixels: one patch of the vision encoder (AdaCodec, arXiv 2606.02569, section 3.1)."""


@dataclass(frozen=True, slots=True)
class Primitives:
    """Motion and prediction cost of T sampled frames of H x W pixels, on macroblocks of 16 x 16.

    Attributes:
        mv: int16 [T, H/16, W/16, 2], pixels (dx, dy): the block at (x, y) matches (x + dx, y + dy) in its reference.
        ref: int64 [T], position in this sequence of the reference frame; -1 where there is none (the first frame).
        cost: float32 [T, H/16, W/16], SAD over the block's 768 colour samples + lambda * (|dx| + |dy|).
        sad: float32 [T, H/16, W/16], the SAD part of ``cost``.
        valid: bool [T, H/16, W/16], False where the source says nothing about the block ('unknown', not 'zero').
        index: int64 [T], frame numbers in the source.
        pts: float64 [T], presentation times in seconds.
        size: (H, W) in pixels.
        source: 'search' or 'bitstream'.
    """

    mv: np.ndarray
    ref: np.ndarray
    cost: np.ndarray
    sad: np.ndarray
    valid: np.ndarray
    index: np.ndarray
    pts: np.ndarray
    size: tuple[int, int]
    source: str = "search"

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def pcost(self) -> np.ndarray:
        """float64 [T]: summed block cost of each frame (AdaCodec, equation 3); NaN for a frame without reference."""
        total = self.cost.reshape(len(self), -1).sum(axis=1, dtype=np.float64)
        return np.where(self.ref < 0, np.nan, total)
