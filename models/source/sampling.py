"""Which frames of a source to sample, and at what size."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError

CELL = 32
"""Side in pixels of the square that one visual token covers: a 2 x 2 window of 16 x 16 patches (Qwen3-VL)."""

CLOCK_SLACK = 1e-3
"""Seconds a frame may come late and still count for its moment: Matroska and WebM round times to milliseconds."""


@dataclass(frozen=True, slots=True)
class FrameSampling:
    """A rule that picks frames by their presentation times. Build it with one of the class methods.

    Attributes:
        rule: 'fps', 'count', 'every', 'all' or 'times'.
        value: frames a second, number of frames, step or seconds; unused for 'all'.
    """

    rule: str = "fps"
    value: float | tuple[float, ...] = 2.0

    @classmethod
    def by_fps(cls, fps: float = 2.0) -> "FrameSampling":
        """The frame on screen at every 1/fps seconds from the first frame on; each frame at most once.

        A source that holds one picture for longer than 1/fps gives it once, with its own time: with variable frame rate
        the samples are then further apart.
        """
        if not 0 < fps < float("inf"):
            raise InputError(f"sampling at {fps:g} frames per second is not possible; give a rate above 0")
        return cls("fps", float(fps))

    @classmethod
    def by_count(cls, count: int) -> "FrameSampling":
        """``count`` frames spread evenly over the frame numbers, first and last included; all if there are fewer."""
        if count < 1:
            raise InputError(f"sampling {count} frames is not possible; give a count of at least 1")
        return cls("count", int(count))

    @classmethod
    def every(cls, step: int) -> "FrameSampling":
        """Frames 0, step, 2 * step, ..."""
        if step < 1:
            raise InputError(f"sampling every {step} frames is not possible; give a step of at least 1")
        return cls("every", int(step))

    @classmethod
    def all(cls) -> "FrameSampling":
        """Every frame."""
        return cls("all", 0)

    @classmethod
    def at_times(cls, seconds: Iterable[float]) -> "FrameSampling":
        """The frames on screen at ``seconds`` of the source's clock, each at most once; the first before its start."""
        return cls("times", tuple(float(moment) for moment in seconds))

    def select(self, pts: np.ndarray) -> np.ndarray:
        """Positions (int64, ascending) of the sampled frames among ``pts`` (float64 [N] ascending seconds, N >= 1)."""
        if self.rule == "fps":
            return _on_screen_at_rate(pts, self.value)
        if self.rule == "times":
            return np.unique(np.searchsorted(pts, self.value, side="right").clip(1) - 1)
        if self.rule == "count":
            return np.unique(np.linspace(0, len(pts) - 1, min(int(self.value), len(pts))).round().astype(np.int64))
        return np.arange(0, len(pts), int(self.value) if self.rule == "every" else 1, dtype=np.int64)


def _on_screen_at_rate(pts: np.ndarray, fps: float) -> np.ndarray:
    # Frame i is on screen for the moments k / fps in [start_i, start_i+1): it is sampled when an integer k falls there.
    # Asked per frame, not per moment, so that a damaged time stamp years ahead costs nothing.
    start = (pts - pts[0] - CLOCK_SLACK) * fps
    end = np.append(start[1:], start[-1] + 2 * CLOCK_SLACK * fps)
    moment = np.maximum(np.ceil(start), 0)
    on_screen = moment < end
    on_screen[0] = True
    return np.flatnonzero(on_screen)


def fit_size(width: int, height: int, area: int = 512 * 512, multiple: int = CELL) -> tuple[int, int]:
    """(H, W), both multiples of ``multiple``, of about ``area`` pixels and about the aspect of ``width`` x ``height``.

    Of the sizes around the exact one, the one that errs least in aspect and area together (as factors). Raises
    InputError for an area below 1.
    """
    if area < 1:
        raise InputError(f"frames of {area} pixels are not possible; give an area of at least 1, such as 512 x 512")
    scale = (area / (width * height)) ** 0.5
    columns, rows = width * scale / multiple, height * scale / multiple
    around = [(max(1, int(rows) + i), max(1, int(columns) + j)) for i in (0, 1) for j in (0, 1)]

    def error(size):
        h, w = size
        return abs(np.log(w * height / (h * width))) + abs(np.log(h * w / (rows * columns)))

    h, w = min(around, key=error)
    return h * multiple, w * multiple
