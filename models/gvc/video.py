"""Whole videos, GOP by GOP, in the three variants of GVCC (arXiv 2603.26571).

T2V: GOPs are independent. I2V: a GOP starts from the decoded last picture of the one before, a shot from a coded still;
the residual of a GOP's last latent frame mends the picture that the next one starts from. FLF2V: stills at both ends of
every GOP, each shared by its two GOPs. The model is behind a protocol, so that the host's models, and any other, fit.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from .codec import DecodingTrajectory, EncodingTrajectory, Trajectory
from .flow import SIGMA_ONE, shifted_sigmas, snap_sigmas
from .gops import Span, pad_clip
from .rate import plan_schedule
from .stills import FIRST, LAST, decode_image, encode_image
from .stream import CorruptStream, Gop, Header, ReferenceImage, Stream, write_gop


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
        bits_per_pixel: for the codebook; stills and tail come on top.
        steps, shift: of the sampler, where no sigmas are given.
        sigmas: T+1 levels from 1 to 0, or None.
        deterministic: steps at the end without bits.
        refresh: fresh noise as a share of the next level, 0 to 1.
        seed: of all noise.
        adapt: measure how many atoms each latent frame deserves.
        tail_share: bytes of the tail residual as a share of the codebook's; used by I2V.
        image_codec, image_quality: of stills.
        switch_sigma: where the second expert takes over; 0 for one expert.
        texts: prompt, negative and note for the stream.
    """

    variant: str = "T2V"
    bits_per_pixel: float = 0.005
    steps: int = 20
    shift: float = 5.0
    sigmas: Sequence[float] | None = None
    deterministic: int = 1
    refresh: float = 0.5
    seed: int = 42
    adapt: bool = True
    tail_share: float = 0.25
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
        clip: uint8 [source_frames, height, width, 3], what was coded, the frame that GOPs share included.
        seconds: that it took.
    """

    gop: Gop
    record: bytes
    latent: torch.Tensor
    pictures: np.ndarray
    clip: np.ndarray
    seconds: float

    @property
    def squared_error(self) -> float:
        """Sum over all values of ``pictures`` of the squared difference from what was coded."""
        original = self.clip[self.gop.continues :].astype(np.float32)
        return float(np.square(original - self.pictures).sum(dtype=np.float64))


def make_header(
    model: VideoModel, settings: Settings, spans: Sequence[Span], size: tuple[int, int], rate: Fraction
) -> Header:
    """The stream's header for a video of ``size`` (height, width) in pixels.

    Raises:
        InputError: for settings that no stream can hold, by name.
    """
    height, width = size
    if settings.sigmas is not None:
        sigmas = snap_sigmas(settings.sigmas)
    else:
        sigmas = shifted_sigmas(settings.steps, round(100 * settings.shift))
    if not 1 <= settings.deterministic < len(sigmas):
        raise InputError(
            f"{settings.deterministic} deterministic steps of {len(sigmas)}: at least 1 step must carry bits and the "
            "last cannot"
        )
    longest = max(span.latent_frames for span in spans)
    latent_size = [-(-side // model.grid) * model.grid // model.spatial for side in size]
    length = model.channels * latent_size[0] * latent_size[1]
    clip_frames = (longest - 1) * model.temporal + 1
    frame_bits = settings.bits_per_pixel * height * width * clip_frames / longest
    switch = round(settings.switch_sigma * SIGMA_ONE)
    return Header(
        settings.variant, model.channels, longest + model.guide_frames(settings.variant), *latent_size,
        sum(span.frames for span in spans), height, width, rate,
        plan_schedule(sigmas, settings.deterministic, length, frame_bits, settings.refresh),
        len(sigmas), settings.deterministic, settings.seed, model.cfg, switch,
        has_images=settings.variant != "T2V", has_tail=settings.variant == "I2V" and settings.tail_share > 0,
        texts={"model": model.name, **model.fingerprints, **dict(settings.texts)},
    )  # fmt: skip


def encode_video(
    model: VideoModel,
    header: Header,
    settings: Settings,
    spans: Sequence[Span],
    clips: Iterable[np.ndarray],
    finished=None,
    progress: Progress = no_progress,
) -> Iterator[CodedGop]:
    """Code GOP after GOP.

    Args:
        model, header, settings, spans: see :func:`make_header`.
        clips: uint8 [source_frames, H, W, 3] for each span, as :func:`.gops.cut_clips` yields them.
        finished: a function of (number, clip) that gives (Gop, latent) of a GOP coded earlier, or None; see
            :class:`.resume.PartialEncoding`.
        progress: called after every step of every GOP, with steps in all.
    """
    coder = _Coder(model, header, len(spans), progress)
    previous = None
    for number, (span, clip) in enumerate(zip(spans, clips, strict=True)):
        started = time.monotonic()
        done = finished(number, clip) if finished else None
        if done is None:
            gop, latent = _encode_gop(coder, settings, number, span, clip, previous)
        else:
            gop, latent = done
            progress((number + 1) * header.step_count, len(spans) * header.step_count)
        pictures = model.to_pixels(latent)
        previous = coder.carried(gop, pictures)
        record = write_gop(header, number, gop)
        yield CodedGop(gop, record, latent, coder.shown(gop, pictures), clip, time.monotonic() - started)


def decode_video(
    model: VideoModel, stream: Stream, progress: Progress = no_progress
) -> Iterator[tuple[np.ndarray, torch.Tensor, float]]:
    """Yield, GOP after GOP, uint8 [frames, height, width, 3], the latent [C, F, H, W] and the drift.

    Raises:
        InputError: if the model's latents are not the stream's, or it runs at another cfg.
    """
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
    coder = _Coder(model, header, len(stream.gops), progress)
    previous = None
    for number, gop in enumerate(stream.gops):
        latent_frames = len(gop.weights) - model.guide_frames(header.variant)
        conditioned, _ = coder.condition(latent_frames, *coder.stills(gop, previous))
        trajectory = DecodingTrajectory(header, number, gop)
        coder.walk(trajectory, conditioned)
        latent, drift = trajectory.finish()
        latent = latent[:, :latent_frames]
        pictures = model.to_pixels(latent)
        previous = coder.carried(gop, pictures)
        yield coder.shown(gop, pictures), latent, drift


class _Coder:
    """What encoder and decoder do alike."""

    def __init__(self, model: VideoModel, header: Header, gops: int, progress: Progress):
        self.model, self.header, self.gops, self.progress = model, header, gops, progress

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
        picture = decode_image(image)
        if picture.shape[:2] != (self.header.height, self.header.width):
            raise CorruptStream(
                f"a reference image is {picture.shape[1]}x{picture.shape[0]}; the stream's video is "
                f"{self.header.width}x{self.header.height}"
            )
        return pad_clip(picture[None], 1, self.model.grid)[0]

    def shown(self, gop: Gop, pictures: np.ndarray) -> np.ndarray:
        """The pictures that this GOP adds, padding left out."""
        return pictures[gop.continues : gop.continues + gop.frames, : self.header.height, : self.header.width]

    def condition(self, latent_frames: int, first: np.ndarray | None, last: np.ndarray | None):
        """The model's conditioning and mask for a clip of ``latent_frames``."""
        height, width = (side * self.model.spatial for side in (self.header.latent_height, self.header.latent_width))
        return self.model.condition(((latent_frames - 1) * self.model.temporal + 1, height, width), first, last)

    def walk(self, trajectory: Trajectory, conditioned) -> None:
        before, total = trajectory.number * self.header.step_count, self.gops * self.header.step_count
        self.model.walk(trajectory, conditioned, lambda done, _: self.progress(before + done, total))


def _encode_gop(coder: _Coder, settings: Settings, number: int, span: Span, clip: np.ndarray, previous):
    """The record and the decoded latent of one clip."""
    model, header = coder.model, coder.header
    images = tuple(_code_stills(settings, span, clip))
    planned = Gop(span.frames, span.continues, np.zeros(0, np.uint8), b"", images)
    conditioned, mask = coder.condition(span.latent_frames, *coder.stills(planned, previous))
    target = model.to_latent(pad_clip(clip, (span.latent_frames - 1) * model.temporal + 1, model.grid))
    guides = model.guide_frames(header.variant)
    target = torch.cat([target, torch.zeros_like(target[:, :guides])], 1)
    trajectory = EncodingTrajectory(header, number, target, mask, settings.adapt)
    coder.walk(trajectory, conditioned)
    gop, latent = trajectory.finish(span.frames, span.continues, images, settings.tail_share)
    return gop, latent[:, : span.latent_frames]


def _code_stills(settings: Settings, span: Span, clip: np.ndarray) -> Iterator[ReferenceImage]:
    """The stills that a GOP has to carry: the last for FLF2V, the first where it differs and is not known yet."""
    only_picture = settings.variant == "FLF2V" and len(clip) == 1
    if settings.variant != "T2V" and not span.continues and not only_picture:
        yield encode_image(clip[0], settings.image_codec, settings.image_quality, FIRST)
    if settings.variant == "FLF2V":
        yield encode_image(clip[-1], settings.image_codec, settings.image_quality, LAST)
