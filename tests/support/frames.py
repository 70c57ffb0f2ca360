"""Frames and plans for tests that need no video file."""

import numpy as np
from codeclens.models.source.reading import Frames
from codeclens.models.video.gop import GopPlan
from codeclens.models.video.planning import plan_from_costs


def noise(count: int, height: int = 128, width: int = 192, seed: int = 0) -> np.ndarray:
    """uint8 [count, height, width, 3] of independent uniform noise."""
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def frames_of(rgb: np.ndarray, pts=None) -> Frames:
    """The pictures as frames 0, 1, 2... at two a second, or at ``pts``."""
    count = len(rgb)
    return Frames(rgb, np.arange(count) / 2 if pts is None else np.asarray(pts), np.arange(count))


def plan_for(frames: Frames, kinds: str) -> GopPlan:
    """The plan that ``kinds`` ('IPPI...') spells out."""
    i_frames = [i for i, kind in enumerate(kinds) if kind == "I"]
    size = frames.rgb.shape[1:3]
    return plan_from_costs([0.0] * len(frames), "frames", frames=i_frames, pts=frames.pts, size=size)
