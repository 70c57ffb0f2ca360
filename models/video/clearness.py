"""Which frames a person would not choose as the picture of a shot: plain ones, and mixtures of their neighbours.

A frame is plain when its brightness hardly varies: black, white, one colour, or nearly so within a fade. It is mixed
when it lies on the line (1 - a) A + a B between the frames sampled before and after it, as in a fade or a dissolve;
motion does not mix pictures. Both are seen in small pictures of each sampled frame.
"""

import numpy as np

SMALL = (18, 32)
"""(rows, columns) of the small picture of a frame."""

PLAIN = 6.0
"""Standard deviation of the brightness, 0..255, up to which a frame is plain."""

CHANGE = 10.0
"""Least root mean square between the frames around a mixture, 0..255: less is neither fade nor dissolve."""

MIXED = 0.15
"""Distance of a mixture from the line between its neighbours, as a fraction of that line's length at most."""

INSIDE = 0.1
"""A mixture lies at least so far from both ends of the line, as a fraction of its length."""


def small_pictures(rgb: np.ndarray) -> np.ndarray:
    """uint8 [T, 18, 32]: the brightness of frames uint8 [T, H, W, 3], as means over parts of each."""
    grey = rgb[:, ::4, ::4].mean(axis=3, dtype=np.float32)
    for axis, parts in ((1, SMALL[0]), (2, SMALL[1])):
        edges = np.linspace(0, grey.shape[axis], parts + 1).astype(int)
        pieces = [
            grey.take(range(a, max(b, a + 1)), axis, mode="clip").mean(axis)
            for a, b in zip(edges[:-1], edges[1:], strict=True)
        ]
        grey = np.stack(pieces, axis)
    return grey.round().astype(np.uint8)


def unclear_frames(small: np.ndarray) -> list[int]:
    """Positions of plain and mixed frames among T consecutive ones, given their small pictures uint8 [T, 18, 32]."""
    vectors = small.reshape(len(small), -1).astype(np.float32)
    unclear = vectors.std(axis=1) <= PLAIN
    before, now, after = vectors[:-2], vectors[1:-1], vectors[2:]
    line = after - before
    length = (line**2).mean(axis=1)
    at = ((now - before) * line).mean(axis=1) / np.maximum(length, 1e-6)
    away = (((now - before) - at[:, None] * line) ** 2).mean(axis=1)
    mixed = (length >= CHANGE**2) & (away <= MIXED**2 * length) & (at >= INSIDE) & (at <= 1 - INSIDE)
    unclear[1:-1] |= mixed
    return np.flatnonzero(unclear).tolist()
