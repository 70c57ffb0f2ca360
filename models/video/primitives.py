"""What a codec sees between two sampled frames: motion vectors and the cost of predicting one from the other."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.ahead import read_ahead
from ..source.reading import Frames
from ..source.sampled import SampledVideo
from .clearness import small_pictures
from .motion import BLOCK, PENALTY, search, search_widening

__all__ = ["BLOCK", "Primitives", "primitives"]


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
        video: the frames that they are of, where that is known.
        small: uint8 [T, 18, 32], the brightness of each frame (:mod:`.clearness`), where that is known.
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
    video: SampledVideo | None = None
    small: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ref)

    @property
    def pcost(self) -> np.ndarray:
        """float64 [T]: summed block cost of each frame (AdaCodec, equation 3); NaN for a frame without reference."""
        total = self.cost.reshape(len(self), -1).sum(axis=1, dtype=np.float64)
        return np.where(self.ref < 0, np.nan, total)


def primitives(
    chunks: Iterable[Frames],
    radius: int | None = None,
    penalty: float = PENALTY,
    progress: Progress = no_progress,
    total: int = 0,
) -> Primitives:
    """Motion search over sampled frames that arrive in chunks; each frame's reference is the sample before it.

    The next chunks are read while one is searched. A few are held, so peak memory follows the chunk, not the video.

    Args:
        chunks: consecutive ``Frames`` of one clip, all of one size with sides multiples of 16.
        radius: search window in pixels to each side, 1 to ``motion.MAX_RADIUS``; by default it follows what moves
            (:func:`.motion.search_widening`).
        penalty: cost of one pixel of |dx| + |dy| (``motion.search``).
        progress: called with (frames done, frames in all) after every chunk.
        total: how many frames to expect, when known.

    Raises InputError when there is no frame or the size changes.
    """
    parts, previous, done = [], None, 0
    for chunk in read_ahead(chunks):
        if not len(chunk):
            continue
        if previous is not None and chunk.rgb.shape[1:] != previous.shape:
            raise InputError(
                f"frame {chunk.index[0]} is {chunk.rgb.shape[2]}x{chunk.rgb.shape[1]} after frames of "
                f"{previous.shape[1]}x{previous.shape[0]}; all frames must have one size"
            )
        if radius is None:
            found = search_widening(chunk.rgb, penalty, previous)
        else:
            found = search(chunk.rgb, radius, penalty, previous)
        parts.append((*found, chunk.index, chunk.pts, small_pictures(chunk.rgb)))
        previous = chunk.rgb[-1].copy()
        done += len(chunk)
        progress(done, max(done, total))
    if previous is None:
        raise InputError("there are no frames to search; give at least one")
    mv, cost, sad, index, pts, small = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Primitives(
        mv=mv,
        ref=np.arange(-1, done - 1, dtype=np.int64),
        cost=cost,
        sad=sad,
        valid=np.ones(cost.shape, bool),
        index=np.asarray(index, np.int64),
        pts=np.asarray(pts, np.float64),
        size=previous.shape[:2],
        small=small,
    )
