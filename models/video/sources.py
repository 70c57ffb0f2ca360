"""What every kind of source says about itself before and after it is decoded."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a source says about itself.

    Attributes:
        name: the file's name, or what stands for it in messages.
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


@dataclass(frozen=True, slots=True)
class Timeline:
    """Every frame that a source should show.

    Attributes:
        pts: float64 [N] seconds, strictly ascending; position n is frame number n.
        missing: frames after the last one that the header promises and the data does not hold.
        missing_exactly: False where ``missing`` is the least that it can be.
        frame_duration: seconds that a frame lasts on average.
        end: seconds at which the last frame leaves the screen.
    """

    pts: np.ndarray
    missing: int
    missing_exactly: bool
    frame_duration: float
    end: float


@dataclass(slots=True)
class Losses:
    """Frames that should have come and did not, gathered while reading.

    Attributes:
        times: presentation time in seconds of each lost frame, by frame number.
        missing: lost frames behind the last one in the file, which have no number.
        missing_from: seconds at which those would begin.
        exact: False where ``missing`` is the least that it can be.
    """

    times: dict[int, float] = field(default_factory=dict)
    missing: int = 0
    missing_from: float = 0.0
    exact: bool = True

    @property
    def count(self) -> int:
        return len(self.times) + self.missing

    def sentence(self, name: str) -> str:
        """The one warning a user reads about all of this."""
        first = min(list(self.times.values()) + [self.missing_from] * (self.missing > 0))
        number = f"{self.count}" if self.exact else f"at least {self.count}"
        plural = "frame was" if self.count == 1 else "frames were"
        cause = "truncated" if not self.times else "damaged" if not self.missing else "damaged and truncated"
        rest = "the frames that decode are used" + (", and some may show the damage" if self.times else "")
        return f"{name} is {cause}: {number} {plural} lost, the first at {first:.3f} s; {rest}"
