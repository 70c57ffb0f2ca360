"""What a GVCB stream holds: a header and its GOPs, and the rules that they keep. :mod:`.stream` makes bytes of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from ..errors import InputError
from .codebook import MAX_ATOMS, check_codebook, padded_length
from .flow import SIGMA_ONE, check_sigmas, shifted_sigmas

VERSION = 2
VARIANTS = ("T2V", "I2V", "FLF2V")
FIRST, LAST = 0, 1
"""Roles of stills: the picture a GOP starts from, the picture it ends on."""
STILL_CODECS = ("PNG", "WEBP", "AVIF")
FULL_WEIGHT = 16
TICKS = 360_000
"""Presentation times count in 1/360000 s, which divides 1/1000, 1/90000 and the usual frame rates."""
SKETCH_SIZE = 16
NOMINAL_GREY_LEVELS = 64.0
"""Grey levels of a latent unit where a stream does not say it: latents have about unit variance."""

MOST_FRAME_VALUES = 1 << 24
MOST_GOP_VALUES = 1 << 26
MOST_GOP_SAMPLES = 1 << 32
MOST_TEXT = 1 << 22
MOST_TEMPORAL, MOST_PADDING = 8, 4
SPATIAL_CANDIDATES = (1, 2, 4, 8, 16, 32)


class StreamError(InputError):
    """A GVCB stream that cannot be read as it is."""


class TruncatedStream(StreamError):
    """The stream ends early; ``whole`` holds what was read up to the last whole GOP, or None before the first."""

    def __init__(self, message: str, whole: "Stream | None" = None):
        super().__init__(message)
        self.whole = whole


class CorruptStream(StreamError):
    """A checksum does not match, or fields contradict each other."""


class UnsupportedStream(StreamError):
    """Not a GVCB stream, or one of another version or family."""


@dataclass(frozen=True, slots=True)
class StepCode:
    """What one sampler step codes; sigma and refresh in units of 1/65535, zeros on deterministic steps."""

    sigma: int
    refresh: int
    atoms: int
    bits: int


@dataclass(frozen=True, slots=True)
class Preset:
    """A flat schedule in 7 bytes: shift in hundredths, refresh in 1/65535, atoms, bits."""

    shift: int
    refresh: int
    atoms: int
    bits: int

    def expand(self, steps: int, deterministic: int) -> tuple[StepCode, ...]:
        sigmas = shifted_sigmas(steps, self.shift)
        coded = steps - deterministic
        return tuple(
            StepCode(sigma, *((self.refresh, self.atoms, self.bits) if step < coded else (0, 0, 0)))
            for step, sigma in enumerate(sigmas)
        )


@dataclass(frozen=True, slots=True)
class Header:
    """The part of a stream that holds for all GOPs.

    Attributes:
        variant: 'T2V', 'I2V' or 'FLF2V'.
        channels, latent_height, latent_width: C, H, W of a latent frame.
        latent_frames: most latent frames of any GOP.
        frames, height, width: of the whole video, in pixels, before padding to the latent grid.
        rate: frames per second, the average where the stream has presentation times.
        schedule: Preset, or T StepCodes.
        step_count: T.
        deterministic: N, steps at the end that carry no bits; 1 or more, because the last lands on the picture.
        seed: of every pseudo-random number and of the host's guider.
        cfg: guidance in hundredths.
        switch_sigma: where the second expert takes over, in 1/65535; 0 for one expert.
        has_images, has_tail, has_sketch: which parts the GOP records have.
        texts: values by the names of the format's texts; str, or 8 bytes for the fingerprints.
        spatial, temporal: pixels of a latent position and pixel frames of a latent frame after the first; 0 where the
            stream does not say it (version 1).
        rotation: degrees counter-clockwise by which the source's file asked a player to turn its coded picture. The
            pictures of a stream are upright already.
        has_times: whether the GOP records have presentation times; without them frames are 1 / rate apart.
        has_sound: whether a sound track follows the header.
        version: of the format, 1 or 2.
    """

    variant: str
    channels: int
    latent_frames: int
    latent_height: int
    latent_width: int
    frames: int
    height: int
    width: int
    rate: Fraction
    schedule: Preset | tuple[StepCode, ...]
    step_count: int
    deterministic: int = 1
    seed: int = 42
    cfg: int = 100
    switch_sigma: int = 0
    has_images: bool = False
    has_tail: bool = False
    has_sketch: bool = True
    texts: dict = field(default_factory=dict)
    spatial: int = 0
    temporal: int = 0
    rotation: int = 0
    has_times: bool = False
    has_sound: bool = False
    version: int = VERSION

    @property
    def steps(self) -> tuple[StepCode, ...]:
        """The T steps, a preset written out."""
        if isinstance(self.schedule, Preset):
            return self.schedule.expand(self.step_count, self.deterministic)
        return self.schedule

    @property
    def coded_steps(self) -> tuple[StepCode, ...]:
        """The first T - N steps."""
        return self.steps[: self.step_count - self.deterministic]

    @property
    def frame_length(self) -> int:
        """D, values of one latent frame."""
        return self.channels * self.latent_height * self.latent_width

    @property
    def sketch_size(self) -> int:
        """Projections in a GOP's sketch: one a step in version 1, SKETCH_SIZE of the final latent in version 2."""
        return self.step_count if self.version == 1 else SKETCH_SIZE


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """A coded still of a GOP: codec by its number in STILL_CODECS, role FIRST or LAST."""

    codec: int
    role: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Gop:
    """One coded group of pictures.

    Attributes:
        frames: pixel frames that this GOP adds to the video.
        continues: whether its first picture is the last one of the GOP before (and not shown twice).
        weights: uint8 [F], see :func:`atoms_of`.
        payload: the codebook's bits.
        images: stills that the model is conditioned on.
        tail: the coded residual of the last latent frame.
        sketch: float16 [S], see :mod:`.codec`; None where the stream has none.
        grey_levels: of a latent unit in this GOP's pictures, for drift; NOMINAL_GREY_LEVELS in version 1.
        ticks: uint32 [frames], from the frame before to each frame in units of 1/TICKS s (the video's first frame: 0);
            None where the stream has no presentation times.
    """

    frames: int
    continues: bool
    weights: np.ndarray
    payload: bytes
    images: tuple[ReferenceImage, ...] = ()
    tail: bytes = b""
    sketch: np.ndarray | None = None
    grey_levels: float = NOMINAL_GREY_LEVELS
    ticks: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A header, its GOPs and its sound (a complete Ogg Opus file, or empty).

    ``size``: bytes of the file up to the end of the last GOP, where the stream was read; else 0.
    """

    header: Header
    gops: tuple[Gop, ...]
    sound: bytes = b""
    size: int = 0

    @property
    def whole(self) -> bool:
        """False when GOPs are missing at the end."""
        return sum(gop.frames for gop in self.gops) == self.header.frames

    @property
    def pts(self) -> np.ndarray:
        """float64 [frames], seconds from the first frame to each."""
        if self.header.has_times:
            return np.cumsum(np.concatenate([gop.ticks for gop in self.gops]).astype(np.int64)) / TICKS
        return np.arange(sum(gop.frames for gop in self.gops)) / float(self.header.rate)


def atoms_of(atoms: int, weight: int) -> int:
    """Atoms of a frame of ``weight`` at a step of ``atoms``: max(1, round(atoms * weight / 16)), 0 for weight 0."""
    return max(1, (2 * atoms * weight + FULL_WEIGHT) // (2 * FULL_WEIGHT)) if weight else 0


class FrameBits:
    """Codebook bits of a latent frame by its weight, computed once for a header.

    Attributes:
        of_weight: int64 [256].
        heaviest: the largest weight that the codebook has atoms for.
    """

    def __init__(self, header: Header):
        steps = header.coded_steps
        atoms = np.array([step.atoms for step in steps], np.int64)
        width = np.array([step.bits + 1 for step in steps], np.int64)
        weight = np.arange(256)[:, None]
        counts = np.maximum(1, (2 * atoms * weight + FULL_WEIGHT) // (2 * FULL_WEIGHT)) * (weight > 0)
        self.of_weight = counts @ width
        most = min(MAX_ATOMS, ((1 << 31) - 1) // padded_length(header.frame_length))
        self.heaviest = int(np.flatnonzero((counts <= most).all(1))[-1])

    def payload(self, weights: np.ndarray) -> int:
        """Bits of a GOP with these weights."""
        return int(self.of_weight[weights].sum())


def payload_bits(header: Header, weights: Iterable[int]) -> int:
    """Codebook bits of a GOP."""
    return FrameBits(header).payload(np.asarray(weights, np.uint8))


def check_header(header: Header) -> None:
    """Raise InputError for the first field that is out of range, or that contradicts another."""
    for label, value, low, high in (
        ("latent channels", header.channels, 1, 255),
        ("latent frames", header.latent_frames, 1, 65535),
        ("latent height", header.latent_height, 1, 65535),
        ("latent width", header.latent_width, 1, 65535),
        ("values of a latent frame", header.frame_length, 1, MOST_FRAME_VALUES),
        ("values of a GOP's latent", header.frame_length * header.latent_frames, 1, MOST_GOP_VALUES),
        ("frames", header.frames, 1, 0xFFFFFFFF),
        ("height", header.height, 1, 65535),
        ("width", header.width, 1, 65535),
        ("frame rate numerator", header.rate.numerator, 1, 0xFFFFFFFF),
        ("frame rate denominator", header.rate.denominator, 1, 0xFFFFFFFF if header.version > 1 else 65535),
        ("steps", header.step_count, 2, 255),
        ("deterministic steps", header.deterministic, 1, header.step_count - 1),
        ("seed", header.seed, 0, (1 << 64) - 1),
        ("cfg in hundredths", header.cfg, 0, 65535),
        ("switch sigma", header.switch_sigma, 0, SIGMA_ONE),
        ("pixels of a latent position", header.spatial, 0, 255),
        ("frames of a latent frame", header.temporal, 0, 255),
    ):
        if not low <= value <= high:
            raise InputError(f"the stream's {label} is {value}; it must be {low} to {high}")
    if header.rotation not in (0, 90, 180, 270):
        raise InputError(f"the stream's rotation is {header.rotation} degrees; it must be 0, 90, 180 or 270")
    _check_geometry(header)
    _check_schedule(header)
    if (header.variant == "T2V") == header.has_images:
        raise InputError(
            f"the stream is {header.variant} and says that it has {'' if header.has_images else 'no '}stills; "
            "I2V and FLF2V streams have them and T2V streams do not"
        )


def _check_geometry(header: Header) -> None:
    """The latent grid must be the video's size, padded by less than MOST_PADDING positions."""
    sizes = ((header.latent_height, header.height), (header.latent_width, header.width))
    candidates = (header.spatial,) if header.spatial else SPATIAL_CANDIDATES
    if not any(all(-(-px // s) <= latent < -(-px // s) + MOST_PADDING for latent, px in sizes) for s in candidates):
        known = header.spatial or "up to 32"
        raise InputError(
            f"the stream's latent frames are {header.latent_width}x{header.latent_height} and its video is "
            f"{header.width}x{header.height}; a latent position stands for {known} pixels a side"
        )
    samples = 3 * header.height * header.width * clip_frames(header, header.latent_frames)
    if samples > MOST_GOP_SAMPLES:
        raise InputError(
            f"a GOP of {header.latent_frames} latent frames has {samples} values of {header.width}x{header.height} "
            f"pixels; it must be {MOST_GOP_SAMPLES} or fewer"
        )


def _check_schedule(header: Header) -> None:
    if isinstance(header.schedule, Preset) and not 1 <= header.schedule.shift <= 65535:
        raise InputError(f"the stream's shift is {header.schedule.shift / 100:g}; it must be 0.01 to 655.35")
    steps, coded = header.steps, header.step_count - header.deterministic
    check_sigmas([step.sigma for step in steps])
    for number, step in enumerate(steps[:coded]):
        if not 0 <= step.refresh <= SIGMA_ONE:
            raise InputError(f"step {number}: refresh is {step.refresh / SIGMA_ONE:g}; it must be 0 to 1")
        try:
            check_codebook(header.frame_length, step.atoms, step.bits)
        except InputError as error:
            raise InputError(f"step {number}: {error}") from None
    for number, step in enumerate(steps[coded:], coded):
        if step.refresh or step.atoms or step.bits:
            raise InputError(
                f"step {number} is deterministic but has {step.atoms} atoms of {step.bits} bits and refresh "
                f"{step.refresh}; it must have none"
            )


def clip_frames(header: Header, latent_frames: int) -> int:
    """Most pixel frames that ``latent_frames`` show."""
    return (latent_frames - 1) * (header.temporal or MOST_TEMPORAL) + 1


def check_gop(header: Header, number: int, gop: Gop, cost: FrameBits) -> None:
    """Raise InputError where GOP ``number`` contradicts itself or the header.

    Args:
        header: one that :func:`check_header` passed.
        number: from 0.
        gop: what a writer is about to write, or a reader has read.
        cost: of the header.
    """
    latent_frames = len(gop.weights)
    if not 1 <= latent_frames <= header.latent_frames:
        raise InputError(f"it has {latent_frames} latent frames; the header allows 1 to {header.latent_frames}")
    most = clip_frames(header, latent_frames) - gop.continues
    if not 1 <= gop.frames <= most:
        raise InputError(f"it adds {gop.frames} frames; its {latent_frames} latent frames show 1 to {most} new ones")
    if gop.continues and (number == 0 or header.variant == "T2V"):
        reason = "it is the first" if number == 0 else "GOPs of a T2V stream are independent"
        raise InputError(f"it goes on from the GOP before, but {reason}")
    if int(gop.weights.max()) > cost.heaviest:
        raise InputError(f"a weight is {int(gop.weights.max())}; the codebook has atoms up to {cost.heaviest}")
    bits = cost.payload(gop.weights)
    if len(gop.payload) != -(-bits // 8) or (bits % 8 and gop.payload[-1] >> bits % 8):
        raise InputError(f"it has {len(gop.payload)} bytes of codes; its weights ask for {bits} bits and zeros after")
    if gop.sketch is not None and not (np.isfinite(gop.sketch).all() and 0 < gop.grey_levels < float("inf")):
        raise InputError("its sketch has values that are not finite")
    if gop.ticks is not None and not gop.ticks[number == 0 :].all():
        raise InputError("two of its frames have the same presentation time; each must be later than the one before")
    _check_stills(header, gop)


def _check_stills(header: Header, gop: Gop) -> None:
    """A chain of I2V starts on a FIRST still. A GOP of FLF2V ends on a LAST one, and starts on one or goes on."""
    for image in gop.images:
        if image.role not in (FIRST, LAST) or image.codec >= len(STILL_CODECS) or not image.data:
            raise InputError(
                f"it has a still of role {image.role}, codec {image.codec} and {len(image.data)} bytes; roles are 0 "
                f"and 1, codecs 0 to {len(STILL_CODECS) - 1}, and a still has bytes"
            )
    roles = [image.role for image in gop.images]
    allowed = {
        "T2V": ([],),
        "I2V": ([],) if gop.continues else ([FIRST],),
        "FLF2V": ([LAST],) if gop.continues else ([FIRST, LAST],) if gop.frames > 1 else ([LAST], [FIRST, LAST]),
    }[header.variant]
    if roles not in allowed:
        names = [" and ".join(["first", "last"][role] for role in roles) or "none" for roles in (roles, allowed[0])]
        raise InputError(f"it has the stills {names[0]}; a GOP of this kind of {header.variant} has {names[1]}")
