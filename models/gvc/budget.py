"""One knob for a whole stream: from kilobytes, kilobits a second or quality to bits of codebook and stills."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .gops import Span
from .stills import encode_image

TARGETS = ("quality", "kilobytes", "kilobits per second", "bits per pixel")
PAPER_VALUE_BITS = 0.07
"""Bits per latent value of GVCC's rate at 720p, which quality 50 stands for."""
QUALITIES = (10, 95)
RECORD_BYTES = 64
"""Of a GOP's record beside codes, stills and tail: its fields, weights and sketch."""
MOST_SAMPLED = 8


@dataclass(frozen=True, slots=True)
class Target:
    """What the user asks of a stream.

    Attributes:
        kind: one of TARGETS. Kilobytes (1000 bytes) and kilobits per second count the whole file, sound and stills
            included. Quality is 1 to 100: each 12.5 doubles the codebook's bits, 50 is the paper's rate, and stills
            follow. Bits per pixel count the codebook alone.
        value: of that kind.
        still_fraction: the part for stills of the bytes of stills and codebook; where the target is a size.
        still_quality: of stills where the target is bits per pixel.
    """

    kind: str
    value: float
    still_fraction: float = 0.5
    still_quality: int = 80


@dataclass(frozen=True, slots=True)
class Budget:
    """What a target comes to.

    Attributes:
        frame_bits: codebook bits of a latent frame.
        still_quality: 1 to 100, for the stills' codec.
        stills, codebook, tail, sound, other: bytes expected of each part.
    """

    frame_bits: float
    still_quality: int
    stills: int
    codebook: int
    tail: int
    sound: int
    other: int

    @property
    def total(self) -> int:
        """Bytes expected of the file."""
        return self.stills + self.codebook + self.tail + self.sound + self.other

    def sentence(self) -> str:
        """For people."""
        parts = {"stills": self.stills, "codebook": self.codebook, "tails": self.tail, "sound": self.sound}
        named = [f"{name} {size / 1000:.1f}" for name, size in parts.items() if size]
        return f"about {self.total / 1000:.1f} kB: {', '.join([*named, f'other {self.other / 1000:.1f}'])}"


def still_frames(spans: Sequence[Span], variant: str) -> list[int]:
    """Numbers of the frames that a stream of ``variant`` carries as stills, in order."""
    numbers = []
    for span in spans:
        only_picture = variant == "FLF2V" and span.source_frames == 1
        if variant != "T2V" and not span.continues and not only_picture:
            numbers.append(span.first)
        if variant == "FLF2V":
            numbers.append(span.first + span.source_frames - 1)
    return numbers


def sampled_stills(numbers: Sequence[int]) -> list[int]:
    """At most MOST_SAMPLED of the stills, evenly spread: their sizes stand for all."""
    at = np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_SAMPLED)).round().astype(int)
    return [numbers[index] for index in at]


def plan_budget(
    target: Target,
    spans: Sequence[Span],
    size: tuple[int, int],
    seconds: float,
    frame_length: int,
    coded_steps: int,
    pictures: Sequence[np.ndarray],
    still_count: int,
    codec: str,
    tail_fraction: float = 0.0,
    sound: int = 0,
) -> Budget:
    """Divide a target's bytes.

    Args:
        target: what was asked.
        spans: of the GOPs.
        size: (height, width) of the video.
        seconds: that it lasts.
        frame_length: values of a latent frame.
        coded_steps: steps that carry bits.
        pictures: uint8 [H, W, 3], stills whose sizes stand for all ``still_count``; coded here with ``codec``.
        tail_fraction: bytes of tails as a fraction of the codebook's.
        sound: bytes of the sound track.

    Raises:
        InputError: for a target that is out of range or too small for the rest.
    """
    latent_frames = sum(span.latent_frames for span in spans)
    other = 120 + 8 * coded_steps + sum(RECORD_BYTES + span.latent_frames for span in spans)

    def stills_of(quality: int) -> int:
        if not still_count:
            return 0
        return round(still_count * np.mean([len(encode_image(one, codec, quality, 0).data) for one in pictures]))

    def budget(frame_bits: float, quality: int, stills: int) -> Budget:
        codebook = round(frame_bits * latent_frames / 8)
        return Budget(frame_bits, quality, stills, codebook, round(tail_fraction * codebook), sound, other)

    if not 0 < target.value < float("inf"):
        raise InputError(f"the target is {target.value:g} {target.kind}; it must be above 0")
    if target.kind == "quality":
        if target.value > 100:
            raise InputError(f"the quality is {target.value:g}; it must be 1 to 100")
        quality = round(min(95, 55 + target.value / 2))
        frame_bits = PAPER_VALUE_BITS * 2 ** ((target.value - 50) / 12.5) * frame_length
        return budget(max(frame_bits, 3.0 * coded_steps), quality, stills_of(quality))
    if target.kind == "bits per pixel":
        pixels = size[0] * size[1] * sum(span.source_frames for span in spans)
        return budget(target.value * pixels / latent_frames, target.still_quality, stills_of(target.still_quality))
    if target.kind not in TARGETS:
        raise InputError(f"the target is {target.kind!r}; it must be one of {', '.join(TARGETS)}")
    asked = 1000 * target.value * (seconds / 8 if target.kind == "kilobits per second" else 1)
    left = asked - sound - other
    quality, stills = _best_quality(stills_of, target.still_fraction * left) if still_count else (QUALITIES[0], 0)
    frame_bits = (left - stills) * 8 / (latent_frames * (1 + tail_fraction))
    if frame_bits < 3 * coded_steps:
        needed = sound + other + stills + 3 * coded_steps * latent_frames * (1 + tail_fraction) / 8
        needed_rate = f" ({8 * needed / 1000 / seconds:.1f} kbit/s)" if target.kind == "kilobits per second" else ""
        raise InputError(
            f"{asked / 1000:.1f} kB are too few: stills, sound and the least codebook of {len(spans)} GOPs take "
            f"{needed / 1000:.1f} kB{needed_rate}; raise the target, or take fewer stills, less sound or longer GOPs"
        )
    return budget(frame_bits, quality, stills)


def _best_quality(size_of: Callable[[int], int], budget: float) -> tuple[int, int]:
    """The highest quality whose size fits, and the size; the lowest quality where none does."""
    low, high = QUALITIES
    best = low, size_of(low)
    while low < high:
        middle = (low + high + 1) // 2
        size = size_of(middle)
        if size <= budget:
            low, best = middle, (middle, size)
        else:
            high = middle - 1
    return best
