"""Motion search on macroblocks: where in the previous sampled frame does each block come from, and at what cost.

Cost of a displacement d of a block (AdaCodec, arXiv 2606.02569, equation 1): ``SAD + penalty * (|dx| + |dy|)``, the SAD
summed over the block's 16 x 16 x 3 colour samples. Only displacements that keep the block wholly inside the reference
frame are candidates: no pixel is made up. Among equal costs the shortest vector wins, then the first in raster order.

The search is exhaustive: the result is the best of all displacements in the window (``kernels.block_match``).
"""

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view

from ... import kernels
from ..errors import InputError

BLOCK = 16
"""Side of a macroblock in pixels: one patch of the vision encoder (AdaCodec, section 3.1)."""

MAX_RADIUS = 128
"""Largest search window, in pixels to each side."""

PENALTY = 4.0
"""Cost of one pixel of motion, in 8-bit SAD units: a tie-break, as 64 pixels add a third of a grey level per sample."""


START_RADIUS = 32
"""Window that a search begins with, in pixels to each side: AdaCodec's (section 3.1)."""

EDGE_FRACTION = 0.05
"""Blocks of a frame whose match lies on the edge of the window, above which the window was too small."""


def widest_radius(size: tuple[int, int]) -> int:
    """The largest window that :func:`search_widening` tries on frames of (H, W): an eighth of the longer side."""
    return max(START_RADIUS, min(MAX_RADIUS, max(size) // 8))


def search_widening(
    frames: np.ndarray,
    penalty: float = PENALTY,
    previous: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """:func:`search` with a window that follows what moves: the longer the interval, the farther that is.

    A frame of which more than :data:`EDGE_FRACTION` of the blocks have their match on the edge of the window is
    searched again in one twice as large, up to :func:`widest_radius`. Every frame begins with :data:`START_RADIUS`, so
    the result does not depend on the chunks that frames arrive in.
    """
    mv, cost, sad = search(frames, START_RADIUS, penalty, previous, device)
    radius, widest = START_RADIUS, widest_radius(frames.shape[1:3])
    while 2 * radius <= widest:
        short = np.flatnonzero(on_edge(mv, radius) > EDGE_FRACTION)
        radius *= 2
        for t in short:
            before = frames[t - 1] if t else previous
            found = search(frames[t : t + 1], radius, penalty, before, device)
            mv[t], cost[t], sad[t] = (part[0] for part in found)
    return mv, cost, sad


def searched_again(mv: np.ndarray, size: tuple[int, int]) -> float:
    """Further searches that :func:`search_widening` made on frames of (H, W), for ``mv`` int16 [T, H/16, W/16, 2].

    One in a window of twice :data:`START_RADIUS` counts 2, as native code takes twice as long there, and the next 4.
    What moved beyond a window lies on or outside its edge in the vectors that a larger one gave.
    """
    radius, found = START_RADIUS, 0.0
    while 2 * radius <= widest_radius(size):
        found += 2 * radius / START_RADIUS * float((on_edge(mv, radius) > EDGE_FRACTION).sum())
        radius *= 2
    return found


def on_edge(mv: np.ndarray, radius: int) -> np.ndarray:
    """float64 [T]: fraction of the blocks of each frame whose match lies on the edge of the window, or a pixel off."""
    return (np.abs(mv.astype(np.int64)).max(-1) >= radius - 1).mean((1, 2))


def search(
    frames: np.ndarray,
    radius: int = 32,
    penalty: float = PENALTY,
    previous: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Motion of each frame against the one before it.

    Args:
        frames: uint8 [T, H, W, 3] RGB, sides multiples of 16.
        radius: largest |dx| and |dy| in pixels, 1 to 128.
        penalty: cost of one pixel of |dx| + |dy|.
        previous: uint8 [H, W, 3], the frame before the first; None leaves the first frame without reference, all zeros.
        device: where to search. All devices give the same result.

    Returns:
        mv int16 [T, H/16, W/16, 2] (dx, dy), cost float32 [T, H/16, W/16] and sad float32 [T, H/16, W/16].
        The block at (x, y) matches (x + dx, y + dy) in the reference.

    Raises InputError for another shape, dtype or radius.
    """
    _check(frames, radius, penalty, previous)
    here = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
    found = [kernels.block_match(here[1:], here[:-1], radius, penalty)[:3]]
    if previous is not None:
        before = torch.from_numpy(np.ascontiguousarray(previous)).to(device)
        found.insert(0, kernels.block_match(here[:1], before[None], radius, penalty)[:3])
    else:
        found.insert(0, [part.new_zeros(1, *part.shape[1:]) for part in found[0]])
    mv, cost, sad = (torch.cat(parts).cpu().numpy() for parts in zip(*found, strict=True))
    return mv, cost, sad.astype(np.float32)


def predict(reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """Motion-compensated prediction: uint8 [H, W, 3], each block copied from its match in ``reference``.

    Args:
        reference: uint8 [H, W, 3].
        mv: int16 [H/16, W/16, 2], every match wholly inside the reference.
    """
    height, width, _ = reference.shape
    y, x = np.mgrid[0:height:BLOCK, 0:width:BLOCK]
    y, x = y + mv[..., 1], x + mv[..., 0]
    if y.min() < 0 or x.min() < 0 or y.max() > height - BLOCK or x.max() > width - BLOCK:
        raise InputError(f"a motion vector points outside the {width}x{height} reference frame")
    windows = sliding_window_view(reference.reshape(height, width * 3), (BLOCK, BLOCK * 3))[:, ::3]
    matches = windows[y, x]
    return matches.reshape(*mv.shape[:2], BLOCK, BLOCK, 3).transpose(0, 2, 1, 3, 4).reshape(reference.shape)


def residual(current: np.ndarray, reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """int16 [H, W, 3], -255..255: what the prediction leaves, ``current - predict(reference, mv)``."""
    return current.astype(np.int16) - predict(reference, mv)


def _check(frames, radius, penalty, previous):
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise InputError(f"frames are {frames.dtype} {list(frames.shape)}; motion search needs uint8 [T, H, W, 3]")
    if frames.shape[1] % BLOCK or frames.shape[2] % BLOCK or not frames.size:
        raise InputError(f"frames are {frames.shape[2]}x{frames.shape[1]}; both sides must be multiples of {BLOCK}")
    if previous is not None and (previous.dtype, previous.shape) != (frames.dtype, frames.shape[1:]):
        raise InputError(
            f"the previous frame is {previous.dtype} {list(previous.shape)}; "
            f"it must be like the frames, uint8 {list(frames.shape[1:])}"
        )
    if not 1 <= radius <= MAX_RADIUS:
        raise InputError(f"search radius is {radius!r}; it must be 1 to {MAX_RADIUS} pixels")
    if not 0 <= penalty < 1024:
        raise InputError(f"motion penalty is {penalty!r}; it must be at least 0 and below 1024")
