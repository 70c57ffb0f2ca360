"""Whole videos, GOP by GOP, in the three variants of GVCC (arXiv 2603.26571).

T2V: GOPs are independent. I2V: a GOP starts from the decoded last picture of the one before, a shot from a coded still;
the residual of a GOP's last latent frame mends the picture that the next one starts from. FLF2V: stills at both ends of
every GOP, each shared by its two GOPs. The model has a protocol, so that the host's models, and any other, fit.
"""

import hashlib
import struct
import time
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from .budget import still_frames
from .codec import DecodingTrajectory, EncodingTrajectory, Trajectory
from .flow import SIGMA_ONE, shifted_sigmas, snap_sigmas
from .gops import Span, pad_clip
from .rate import best_shift, plan_schedule
from .records import (
    FIRST,
    FULL_WEIGHT,
    LAST,
    NOMINAL_GREY_LEVELS,
    CorruptStream,
    Gop,
    Header,
    ReferenceImage,
    StepCode,
    Stream,
)
from .stills import decode_image, encode_image
from .stores import GopStore
from .stream import write_gop, write_header


class VideoModel(Protocol):
    """What the codec needs of a rectified-flow video model and its VAE.

    Attributes:
        name: for people.
        channels: of a latent frame.
        spatial, temporal: pixels of a latent position, pixel frames of a latent frame after the first.
        grid: pictures are padded to multiples of this.
        fingerprints: 8 bytes each by the names of the stream's texts.
        cfg: guidance in hundredths.
    """

    name: str
    channels: int
    spatial: int
    temporal: int
    grid: int
    fingerprints: dict[str, bytes]
    cfg: int

    def guide_frames(self, variant: str) -> int:
        """Latent frames that conditioning appends to a clip; they are never shown and cost no bits."""

    def to_latent(self, rgb: np.ndarray) -> torch.Tensor:
        """uint8 [T, H, W, 3] -> float32 [C, F, H', W'] in the space that the model samples in."""

    def to_pixels(self, latent: torch.Tensor) -> np.ndarray:
        """The inverse: uint8 [T, H, W, 3]."""

    def condition(
        self, shape: tuple[int, int, int], first: np.ndarray | None, last: np.ndarray | None
    ) -> tuple[Any, torch.Tensor | None]:
        """Condition on stills, uint8 [H, W, 3], for a clip of ``shape`` (T, H, W) in pixels.

        Returns:
            what :meth:`walk` wants back, and a mask that broadcasts to [C, F, H', W'] and is 0 where the model keeps
            its latent image, or None.
        """

    def walk(self, trajectory: Trajectory, conditioned: Any, progress: Progress) -> None:
        """Take the trajectory from noise to its end."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to code. Defaults are those of the nodes.

    Attributes:
        variant: 'T2V', 'I2V' or 'FLF2V'.
        frame_bits: codebook bits of a latent frame, from :func:`.budget.plan_budget`; stills and tail come on top.
        steps, shift: of the sampler, where no sigmas are given; a shift of 0 is chosen by the rate.
        sigmas: T+1 levels from 1 to 0, or None.
        deterministic: steps at the end without bits.
        refresh: fresh noise as a fraction of the next level, 0 to 1.
        seed: of all noise.
        adapt: measure how many atoms each latent frame deserves.
        tail_fraction: bytes of the tail residual as a fraction of the codebook's; used by I2V.
        tail_weight: atoms of the last two latent frames of a GOP, times what they would get; used by I2V.
        image_codec, image_quality: of stills.
        switch_sigma: where the second expert takes over; 0 for one expert.
        texts: prompt, negative and note for the stream.
    """

    variant: str = "T2V"
    frame_bits: float = 16000.0
    steps: int = 20
    shift: float = 0.0
    sigmas: Sequence[float] | None = None
    deterministic: int = 1
    refresh: float = 0.5
    seed: int = 42
    adapt: bool = True
    tail_fraction: float = 0.25
    tail_weight: float = 1.0
    image_codec: str = "WEBP"
    image_quality: int = 80
    switch_sigma: float = 0.0
    texts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class CodedGop:
    """What the encoder made of one GOP.

    Attributes:
        gop: the record; ``record`` its bytes in the stream.
        latent: float32 [C, F, H, W] that the decoder will have, guide frames left out.
        pictures: uint8 [frames, height, width, 3], what the decoder will show.
        excess: see :func:`.codec.excess_energy`; NaN for a GOP that was coded in an earlier run.
        seconds: that it took.
    """

    gop: Gop
    record: bytes
    latent: torch.Tensor
    pictures: np.ndarray
    excess: float
    seconds: float


def make_header(
    model: VideoModel, settings: Settings, spans: Sequence[Span], size: tuple[int, int], rate: Fraction, *,
    rotation: int = 0, has_times: bool = False, has_sound: bool = False,
) -> Header:  # fmt: skip
    """The stream's header for a video of ``size`` (height, width) in pixels. The rest as in :class:`.records.Header`.

    Raises:
        InputError: for settings that no stream can hold, by name.
    """
    grid = latent_size(model, size)
    length = model.channels * grid[0] * grid[1]
    if settings.sigmas is not None:
        sigmas = snap_sigmas(settings.sigmas)
    else:
        shift = settings.shift or best_shift(settings.frame_bits / length, settings.steps)
        sigmas = shifted_sigmas(settings.steps, round(100 * shift))
    if not 1 <= settings.deterministic < len(sigmas):
        raise InputError(
            f"{settings.deterministic} deterministic steps of {len(sigmas)}: at least 1 step must carry bits and the "
            "last cannot"
        )
    longest = max(span.latent_frames for span in spans)
    switch = round(settings.switch_sigma * SIGMA_ONE)
    return Header(
        settings.variant, model.channels, longest + model.guide_frames(settings.variant), *grid,
        sum(span.frames for span in spans), *size, rate,
        plan_schedule(sigmas, settings.deterministic, length, settings.frame_bits, settings.refresh),
        len(sigmas), settings.deterministic, settings.seed, model.cfg, switch,
        has_images=settings.variant != "T2V", has_tail=settings.variant == "I2V" and settings.tail_fraction > 0,
        texts={"model": model.name, **model.fingerprints, **dict(settings.texts)}, spatial=model.spatial,
        temporal=model.temporal, rotation=rotation, has_times=has_times, has_sound=has_sound,
    )  # fmt: skip


def encode_video(
    model: VideoModel,
    header: Header,
    settings: Settings,
    spans: Sequence[Span],
    clips: Iterable[np.ndarray],
    store: GopStore | None = None,
    progress: Progress = no_progress,
    ticks: np.ndarray | None = None,
) -> Iterator[CodedGop]:
    """Code a video and yield its GOPs in order.

    GOPs of T2V do not depend on each other's pictures: all latents are made first, then all GOPs are coded, then all
    are decoded to pictures, so that the VAE and the model are exchanged in memory twice and not for every GOP.

    Args:
        model, header, settings, spans: see :func:`make_header`.
        clips: uint8 [source_frames, H, W, 3] for each span, as :func:`.gops.cut_clips` yields them; read once.
        store: where latents are kept; in memory if not given. See :class:`.resume.PartialEncoding`.
        progress: called after every step of every GOP, with steps in all.
        ticks: uint32, presentation times of all frames as in :class:`.records.Gop`, for streams that have them.
    """
    encoder = _Encoder(model, header, settings, spans, store or GopStore(), progress, ticks)
    numbers = range(len(spans))
    if header.variant != "T2V":
        for number, clip in zip(numbers, clips, strict=True):
            encoder.prepare(number, clip)
            encoder.code(number)
            yield encoder.show(number)
    else:
        for number, clip in zip(numbers, clips, strict=True):
            encoder.prepare(number, clip)
        encoder.allocate()
        for number in numbers:
            encoder.code(number)
        for number in numbers:
            yield encoder.show(number)
    encoder.store.close()


def decode_video(
    model: VideoModel,
    stream: Stream,
    progress: Progress = no_progress,
    latents: MutableMapping[int, torch.Tensor] | None = None,
) -> Iterator[tuple[np.ndarray, torch.Tensor, float]]:
    """Yield, GOP after GOP, uint8 [frames, height, width, 3], the latent [C, F, H, W] and the drift in grey levels.

    GOPs of T2V are sampled first and decoded to pictures last; their latents wait in ``latents``, in memory if not
    given.

    Raises:
        InputError: if the model's latents are not the stream's, or it runs at another cfg.
    """
    header = stream.header
    check_model(model, stream)
    coder = _Coder(model, header, len(stream.gops), progress)
    latents = {} if latents is None else latents
    independent, previous, drifts = header.variant == "T2V", None, []

    def sample(number: int) -> None:
        gop = stream.gops[number]
        latent_frames = len(gop.weights) - model.guide_frames(header.variant)
        conditioned, _ = coder.condition(latent_frames, *coder.stills(gop, previous))
        trajectory = DecodingTrajectory(header, number, gop)
        coder.walk(trajectory, conditioned)
        latent, drift = trajectory.finish()
        latents[number] = latent[:, :latent_frames]
        drifts.append(drift)

    for number in range(len(stream.gops)) if independent else ():
        sample(number)
    for number, gop in enumerate(stream.gops):
        if not independent:
            sample(number)
        latent = latents.pop(number)
        pictures = model.to_pixels(latent)
        previous = coder.carried(gop, pictures)
        yield coder.shown(gop, pictures), latent, drifts[number]


DISTILLED_EXCESS = 0.8
"""Of :func:`.codec.excess_energy`: a posterior mean has about 0, guidance of 3 about 0.6, a distilled model about 1."""


def model_warnings(excess: Sequence[float], cfg: int) -> list[str]:
    """What in the model costs quality or time, one sentence each.

    Args:
        excess: of the GOPs coded, see :class:`CodedGop`.
        cfg: guidance in hundredths.
    """
    warnings, known = [], [value for value in excess if not np.isnan(value)]
    if cfg != 100:
        warnings.append(
            f"cfg is {cfg / 100:g}: every step calls the model twice, for the encoder and for every decoder, and its"
            " estimate is no longer the mean that the method is made for; cfg 1 takes half the time"
        )
    elif known and np.median(known) > DISTILLED_EXCESS:
        warnings.append(
            "the model's first estimate from pure noise already is a picture of its own, as with distilled few-step"
            " models and LoRAs; such a model costs 1 to 1.5 dB at equal bytes on the flow of tests/bench/gvc_rate.py,"
            " so load the model that was not distilled"
        )
    return warnings


def check_model(model: VideoModel, stream: Stream) -> None:
    """Raise InputError where the stream cannot have been made with ``model``."""
    header = stream.header
    if model.channels != header.channels:
        raise InputError(
            f"the stream holds latents of {header.channels} channels ({header.texts.get('model', 'unnamed model')}); "
            f"{model.name} has {model.channels}"
        )
    if model.cfg != header.cfg:
        raise InputError(
            f"the stream was encoded with cfg {header.cfg / 100:g}; the guider has cfg {model.cfg / 100:g}"
        )
    grid = latent_size(model, (header.height, header.width))
    if (header.latent_height, header.latent_width) != grid:
        raise InputError(
            f"the stream's latent frames are {header.latent_width}x{header.latent_height}; {model.name} makes "
            f"{grid[1]}x{grid[0]} of {header.width}x{header.height} pixels"
        )
    guides = model.guide_frames(header.variant)
    for number, gop in enumerate(stream.gops):
        most = (len(gop.weights) - guides - 1) * model.temporal + 1 - gop.continues
        if gop.frames > most:
            raise CorruptStream(
                f"GOP {number} of the stream adds {gop.frames} frames; {model.name} shows {max(most, 0)} new ones of "
                f"its {len(gop.weights)} latent frames, {guides} of them guides"
            )


def latent_size(model: VideoModel, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the latent frames of pictures of ``size`` (height, width), padded to the model's grid."""
    height, width = (-(-side // model.grid) * model.grid // model.spatial for side in size)
    return height, width


class _Coder:
    """What encoder and decoder do alike."""

    def __init__(self, model: VideoModel, header: Header, gops: int, progress: Progress):
        self.model, self.header, self.progress = model, header, progress
        self.steps = gops * header.step_count

    def stills(self, gop: Gop, previous: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The pictures a GOP is conditioned on, padded; ``previous`` is what the GOP before carried over."""
        if self.header.variant == "T2V":
            return None, None
        found = {image.role: self._still(image) for image in gop.images}
        first = previous if gop.continues else found.get(FIRST, found.get(LAST))
        if first is None:
            raise CorruptStream(f"a GOP of this {self.header.variant} stream has no picture to start from")
        return first, found.get(LAST)

    def carried(self, gop: Gop, pictures: np.ndarray) -> np.ndarray | None:
        """The picture that the next GOP of the shot starts from."""
        if self.header.variant == "FLF2V":
            return self._still(gop.images[-1])
        return pictures[gop.frames + gop.continues - 1] if self.header.variant == "I2V" else None

    def _still(self, image: ReferenceImage) -> np.ndarray:
        picture = decode_image(image, (self.header.height, self.header.width))
        return pad_clip(picture[None], 1, self.model.grid)[0]

    def shown(self, gop: Gop, pictures: np.ndarray) -> np.ndarray:
        """The pictures that this GOP adds, padding left out."""
        return pictures[gop.continues : gop.continues + gop.frames, : self.header.height, : self.header.width]

    def condition(self, latent_frames: int, first: np.ndarray | None, last: np.ndarray | None):
        """The model's conditioning and mask for a clip of ``latent_frames``."""
        height, width = (side * self.model.spatial for side in (self.header.latent_height, self.header.latent_width))
        return self.model.condition(((latent_frames - 1) * self.model.temporal + 1, height, width), first, last)

    def walk(self, trajectory: Trajectory, conditioned) -> None:
        before = trajectory.number * self.header.step_count
        self.model.walk(trajectory, conditioned, lambda done, _: self.progress(before + done, self.steps))


class _Encoder(_Coder):
    """The passes of an encoder over a GOP: :meth:`prepare`, :meth:`code`, :meth:`show`."""

    def __init__(self, model, header, settings: Settings, spans: Sequence[Span], store: GopStore, progress, ticks):
        super().__init__(model, header, len(spans), progress)
        self.settings, self.spans, self.store = settings, spans, store
        self.written = write_header(header)
        ends = np.cumsum([span.frames for span in spans])
        self.ticks = None if ticks is None else np.split(np.asarray(ticks, np.uint32), ends[:-1])
        self.planned: dict[int, dict] = {}
        self.mean_weights = np.full(len(spans), float(FULL_WEIGHT))
        self.previous: np.ndarray | None = None
        self.coded: dict[int, tuple[Gop, bytes, float, float]] = {}

    def prepare(self, number: int, clip: np.ndarray) -> None:
        """Keep what coding needs of a clip: its latent, its stills, and a hash of its pixels."""
        started, span = time.monotonic(), self.spans[number]
        self.progress(number * self.header.step_count * (self.header.variant != "T2V"), self.steps)
        padded = pad_clip(clip, (span.latent_frames - 1) * self.model.temporal + 1, self.model.grid)
        target = self.model.to_latent(padded)
        self.store.targets[number] = target
        parts = {
            "continues": span.continues,
            "images": tuple(_code_stills(self.settings, span, clip)),
            "grey_levels": grey_levels(padded, target),
            "ticks": None if self.ticks is None else self.ticks[number],
        }
        self.planned[number] = {"digest": clip_digest(clip), "parts": parts, "seconds": time.monotonic() - started}

    def allocate(self) -> None:
        """Give GOPs of T2V bits by what the model's first estimate misses of each, at the same total.

        From pure noise the estimate hardly depends on the noise, so that of the longest GOP serves for all.
        """
        if not self.settings.adapt or len(self.spans) == 1:
            return
        longest = int(np.argmax([span.latent_frames for span in self.spans]))
        first = replace(self.header, schedule=(StepCode(self.header.steps[0].sigma, 0, 0, 0),), step_count=1)
        trajectory = EncodingTrajectory(first, longest, self.store.targets[longest])
        conditioned, _ = self.condition(self.spans[longest].latent_frames, None, None)
        self.model.walk(trajectory, conditioned, no_progress)
        estimate = trajectory.x.cpu()
        counts = np.array([span.latent_frames for span in self.spans])
        roots = np.array([
            float((self.store.targets[number].cpu() - estimate[:, :count]).square().mean((0, 2, 3)).sqrt().mean())
            for number, count in enumerate(counts)
        ])  # fmt: skip
        parts = np.clip(roots / max(np.average(roots, weights=counts), 1e-9), 0.25, 4.0)
        self.mean_weights = FULL_WEIGHT * parts / np.average(parts, weights=counts)

    def code(self, number: int) -> None:
        """Find the GOP among those coded earlier, or code it."""
        started, span, planned = time.monotonic(), self.spans[number], self.planned.pop(number)
        target = self.store.targets.pop(number)
        fingerprint = f"{planned['digest']} {self.mean_weights[number]:.6f}"
        gop = self.store.finished(number, fingerprint)
        excess = float("nan")
        if gop is None:
            gop, latent, excess = self._sample(number, target, planned["parts"])
            record = write_gop(self.header, number, gop, self.written)
            self.store.append(number, fingerprint, gop, record, latent[:, : span.latent_frames])
        else:
            record = write_gop(self.header, number, gop, self.written)
            self.progress((number + 1) * self.header.step_count, self.steps)
        self.coded[number] = gop, record, excess, planned["seconds"] + time.monotonic() - started

    def _sample(self, number: int, target: torch.Tensor, parts: dict) -> tuple[Gop, torch.Tensor, float]:
        span, settings = self.spans[number], self.settings
        planned = Gop(span.frames, span.continues, np.zeros(0, np.uint8), b"", parts["images"])
        conditioned, mask = self.condition(span.latent_frames, *self.stills(planned, self.previous))
        guides = self.model.guide_frames(self.header.variant)
        target = torch.cat([target, torch.zeros_like(target[:, :guides])], 1)
        tail_weight = settings.tail_weight if self.header.variant == "I2V" else 1.0
        trajectory = EncodingTrajectory(
            self.header, number, target, mask, settings.adapt,
            mean_weight=self.mean_weights[number], tail_weight=tail_weight,
        )  # fmt: skip
        self.walk(trajectory, conditioned)
        return *trajectory.finish(span.frames, settings.tail_fraction, **parts), trajectory.excess

    def show(self, number: int) -> CodedGop:
        """Decode a coded GOP to pictures, and carry its end to the next."""
        started = time.monotonic()
        gop, record, excess, seconds = self.coded.pop(number)
        latent = self.store.latents[number]
        pictures = self.model.to_pixels(latent)
        self.previous = self.carried(gop, pictures)
        seconds += time.monotonic() - started
        return CodedGop(gop, record, latent, self.shown(gop, pictures), excess, seconds)


def grey_levels(clip: np.ndarray, latent: torch.Tensor) -> float:
    """How many of the 255 grey levels a unit of latent stands for: the ratio of the standard deviations of the two."""
    spread = float(latent.float().std())
    found = float(clip.std(dtype=np.float64)) / spread if spread > 1e-3 else 0.0
    return min(found, 1000.0) if found > 0 else NOMINAL_GREY_LEVELS


def _code_stills(settings: Settings, span: Span, clip: np.ndarray) -> Iterator[ReferenceImage]:
    """The stills that a GOP has to carry, as :func:`.budget.still_frames` counts them."""
    for number in still_frames([span], settings.variant):
        last = settings.variant == "FLF2V" and number == span.first + len(clip) - 1
        picture = clip[number - span.first]
        yield encode_image(picture, settings.image_codec, settings.image_quality, LAST if last else FIRST)


def clip_digest(clip: np.ndarray) -> str:
    """SHA-256 of a clip's shape and pixels."""
    return hashlib.sha256(struct.pack("<4I", *clip.shape) + np.ascontiguousarray(clip).tobytes()).hexdigest()
