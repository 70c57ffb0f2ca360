"""What an encoding of a source will be, before the model runs: its GOPs, times, bytes and header."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ..source.reading import FrameSampling, VideoSource
from .budget import Budget, Target, plan_budget, sampled_stills, still_frames
from .gops import Span, plan_gops
from .records import TICKS, Header
from .stills import best_codec
from .video import Settings, VideoModel, latent_size, make_header

CONSTANT_WITHIN = 2e-3
"""Seconds by which frames may miss an even rate and still count as evenly spaced: containers round to milliseconds."""


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """Everything that is decided before the first model call.

    Attributes:
        spans: of the GOPs, frame 0 the first one that is coded.
        header: of the stream.
        settings: with the rate that the target came to.
        budget: bytes expected.
        ticks: uint32 [frames] as in :class:`.records.Gop`, None for an even rate.
        pts: float64 [frames], seconds from the first frame to each.
        size: (height, width) of the video.
        sound: an Ogg Opus file, or nothing.
    """

    spans: tuple[Span, ...]
    header: Header
    settings: Settings
    budget: Budget
    ticks: np.ndarray | None
    pts: np.ndarray
    size: tuple[int, int]
    sound: bytes

    @property
    def steps(self) -> int:
        """Model calls of the encoder, and of the decoder."""
        return len(self.spans) * self.header.step_count

    def sentence(self) -> str:
        """What the encoding will take, for people: bytes, model calls, and memory for one GOP's pictures as float32."""
        frames = max(span.source_frames for span in self.spans)
        pictures = 12 * frames * self.size[0] * self.size[1] / 1e9
        latent = 4 * self.header.frame_length * self.header.latent_frames / 1e6
        return (
            f"{self.budget.sentence()}; {len(self.spans)} GOPs x {self.header.step_count} steps; a GOP's pictures take "
            f"{pictures:.2f} GB of memory and its latent {latent:.1f} MB"
        )


def plan_encoding(
    model: VideoModel,
    source: VideoSource,
    target: Target,
    settings: Settings,
    *,
    gop_frames: int = 33,
    size: tuple[int, int] | None = None,
    cuts: Sequence[int] = (),
    still_every: int = 0,
    sound: bytes = b"",
) -> EncodingPlan:
    """Plan the encoding of a source's trim window.

    Args:
        model: its geometry is read; it is not run.
        source: read once for its times, and for the pictures of some stills.
        target: what the user asks of the whole file.
        settings: how to code; ``frame_bits`` and ``image_quality`` follow from the target, and an ``image_codec`` of
            'auto' becomes AVIF or WEBP.
        gop_frames: most frames of a GOP.
        size: (height, width) to code at; the source's where not given.
        cuts: numbers of the source's frames that start a shot.
        still_every: see :func:`.gops.plan_gops`; used by I2V.
        sound: of the stream, counted in the target.

    Raises:
        InputError: for a target or settings that no stream can have.
    """
    size = size or (source.info.height, source.info.width)
    first, last = source.window()
    pts = source.timeline().pts[first : last + 1]
    chained = settings.variant != "T2V"
    still_every = still_every if settings.variant == "I2V" else 0
    cuts = [cut - first for cut in cuts]
    spans = plan_gops(len(pts), gop_frames, model.temporal, chained, cuts, still_every)
    rate, ticks = frame_times(pts, source.info.fps)
    codec = best_codec() if settings.image_codec == "auto" else settings.image_codec
    settings = replace(settings, image_codec=codec)
    numbers = still_frames(spans, settings.variant)
    wanted = pts[sampled_stills(numbers)] if numbers else ()
    pictures = source.read(FrameSampling.at_times(wanted), size).rgb if numbers else ()
    steps = len(settings.sigmas) - 1 if settings.sigmas is not None else settings.steps
    seconds = float(pts[-1] - pts[0]) + 1 / float(rate)
    frame_length = model.channels * int(np.prod(latent_size(model, size)))
    budget = plan_budget(
        target, spans, size, seconds, frame_length, max(steps - settings.deterministic, 1),
        pictures, len(numbers), codec, settings.tail_fraction if settings.variant == "I2V" else 0.0, len(sound),
    )  # fmt: skip
    settings = replace(settings, frame_bits=budget.frame_bits, image_quality=budget.still_quality)
    header = make_header(
        model, settings, spans, size, rate,
        rotation=source.info.rotation % 360, has_times=ticks is not None, has_sound=bool(sound),
    )  # fmt: skip
    shown = np.arange(len(pts)) / float(rate) if ticks is None else pts - pts[0]
    return EncodingPlan(spans, header, settings, budget, ticks, shown, size, sound)


def frame_times(pts: np.ndarray, fps: float) -> tuple[Fraction, np.ndarray | None]:
    """The frame rate of ``pts`` (float64 [N] seconds), and ticks between them where no even rate fits."""
    rate = Fraction(fps).limit_denominator(1001)
    if len(pts) > 2 and np.abs(pts - pts[0] - np.arange(len(pts)) / float(rate)).max() > CONSTANT_WITHIN:
        average = Fraction((len(pts) - 1) / float(pts[-1] - pts[0])).limit_denominator(1001)
        at = np.rint((pts - pts[0]) * TICKS).astype(np.int64)
        if np.abs(pts - pts[0] - np.arange(len(pts)) / float(average)).max() <= CONSTANT_WITHIN:
            return average, None
        return average, np.diff(at, prepend=0).clip(0, 0xFFFFFFFF).astype(np.uint32)
    return rate, None
