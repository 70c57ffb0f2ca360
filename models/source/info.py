"""What every kind of source says about itself before and after it is decoded."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a source says about itself.

    Attributes:
        name: the file's name, or another one for messages.
        codec: FFmpeg's name of the codec ('h264', 'vp9', ...), 'gif', 'webp', 'png', or 'images'.
        width, height: pixels as displayed, after rotation and with square pixels.
        fps: average frames per second.
        frame_count: frames by the header, None where it does not say.
        duration: seconds by the header, None where it does not say.
        rotation: degrees counter-clockwise that the file asks a player to turn the coded picture.
        sample_aspect_ratio: width of a coded pixel over its height.
        bit_depth: bits of a colour component.
        hdr: True for a PQ (SMPTE ST 2084) or HLG (ARIB STD-B67) transfer curve.
        coded_size: (height, width) of the coded picture, before rotation and with its own pixels.
        interlaced: True when the first frame is coded as two fields.
        stream: index of the stream in its container; 0 outside containers.
    """

    name: str
    codec: str
    width: int
    height: int
    fps: float
    frame_count: int | None
    duration: float | None
    rotation: int = 0
    sample_aspect_ratio: float = 1.0
    bit_depth: int = 8
    hdr: bool = False
    coded_size: tuple[int, int] = (0, 0)
    stream: int = 0
    interlaced: bool = False


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every frame that a source should show.

    Attributes:
        pts: float64 [N] seconds, strictly ascending; position n is frame number n.
        missing: frames after the last one that the header promises and the data does not hold.
        missing_exactly: False where ``missing`` is the least that it can be.
        frame_duration: seconds that a frame lasts on average.
        end: seconds at which the last frame leaves the screen.
        holes: (second, frames) for each gap where the container lost frames between others; they have no number.
        mistimed: seconds of the first frame whose time stamps were damaged and were mended, None where none were.
    """

    pts: np.ndarray
    missing: int
    missing_exactly: bool
    frame_duration: float
    end: float
    holes: tuple[tuple[float, int], ...] = ()
    mistimed: float | None = None


@dataclass(slots=True)
class Losses:
    """Frames that should have come and did not, or not at their times, gathered while reading.

    Attributes:
        count: how many.
        first: presentation time in seconds of the first.
        damaged: True when one of them lies before the last frame of the file.
        truncated: True when one of them is after it.
        exact: False where ``count`` is the least that it can be.
        mistimed: seconds of the first frame whose time is made from those around it, None where all are the file's.
    """

    count: int = 0
    first: float = float("inf")
    damaged: bool = False
    truncated: bool = False
    exact: bool = True
    mistimed: float | None = None

    def add(self, time: float, count: int = 1):
        """``count`` frames from ``time`` on, with others that decode after them or not."""
        self.count += count
        self.first = min(self.first, time)
        self.damaged = True

    def add_missing(self, time: float, count: int, exact: bool):
        """``count`` frames after the end of the data at ``time``."""
        self.count += count
        self.first = min(self.first, time)
        self.truncated, self.exact = True, exact

    @property
    def extent(self) -> tuple[int, bool]:
        """Grows with all that there is to report."""
        return self.count, self.mistimed is not None

    def sentence(self, name: str) -> str:
        """The one warning a user reads about all of this."""
        damaged = self.damaged or self.mistimed is not None
        cause = " and ".join(["damaged"] * damaged + ["truncated"] * self.truncated)
        facts = []
        if self.count:
            number = f"{self.count} frame{'s' * (self.count != 1)}"
            facts.append(f"{'' if self.exact else 'at least '}{number} lost, the first at {self.first:.3f} s")
        if self.mistimed is not None:
            facts.append(f"its time stamps are wrong at {self.mistimed:.3f} s and are made from those around them")
        rest = "the frames that decode are used, and some may show the damage"
        return f"{name} is {cause}: {'; '.join([*facts, rest])}"
