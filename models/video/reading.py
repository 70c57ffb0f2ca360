"""Frames of any video with the source's own times and frame numbers, read forwards and in chunks."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Frames:
    """T decoded frames.

    Attributes:
        rgb: uint8 [T, H, W, 3].
        pts: float64 [T], presentation times in seconds, as the source gives them.
        index: int64 [T], frame numbers in the source, counted from 0 in presentation order.
    """

    rgb: np.ndarray
    pts: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)
