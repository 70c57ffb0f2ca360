"""The GVCB file, version 1: everything a decoder needs besides the model, checksummed, little-endian.

::

    header
      4s "GVCB"   u8 version = 1   u8 flags   u8 variant (0 T2V, 1 I2V, 2 FLF2V)   u8 family (0 rectified flow)
      u8 latent channels C   u16 most latent frames of a GOP   u16 latent height   u16 latent width
      u16 frames   u16 height   u16 width   u32 / u16 frame rate
      u8 T steps   u8 N of them deterministic, at the end   u64 seed   u16 cfg * 100   u16 switch sigma * 65535
      preset schedule : u16 shift * 100, u16 refresh * 65535, u16 atoms, u8 bits
      explicit        : T x {u16 sigma * 65535, u16 refresh * 65535, u16 atoms, u8 bits}
      u8 count of texts, each {u8 kind, u16 bytes, UTF-8 compressed by zlib, or 8 raw bytes for a fingerprint}
      u32 CRC-32 of everything before
    per GOP
      u32 payload bytes   u16 frames   u16 latent frames F   u8 flags (1: goes on from the GOP before)
      F x u8 weight (16 = the schedule's atoms, 0 = no bits)
      if flag 2: u8 count of images, each {u8 codec, u8 role, u32 bytes, data}
      if flag 4: u32 bytes of tail residual, data
      if flag 8: T x float16 trajectory sketch
      payload: one bit string, least significant bit first, in the order step, frame, group: b bits index, 1 bit sign
      u32 CRC-32 of the record, started from the header's CRC and the GOP's number

A step's refresh is the share of the next noise level that is fresh (c = refresh * n in :mod:`.flow`). The atoms of a
frame are max(1, round(atoms * weight / 16)). Payload bytes = ceil(sum of atoms * (b + 1) / 8), so ``len(file)`` is a
formula: :func:`header_size` + the sum of :func:`gop_size`.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from ..errors import InputError
from .codebook import check_codebook
from .flow import SIGMA_ONE, check_sigmas, shifted_sigmas

MAGIC = b"GVCB"
VERSION = 1
VARIANTS = ("T2V", "I2V", "FLF2V")
PROMPT, IMAGES, TAIL, SKETCH, TWO_EXPERTS, PRESET = (1 << bit for bit in range(6))
CONTINUES = 1
FULL_WEIGHT = 16
TEXTS = {1: "prompt", 2: "negative", 3: "model", 4: "conditioning_fingerprint", 5: "note", 6: "model_fingerprint"}
FINGERPRINTS = ("conditioning_fingerprint", "model_fingerprint")
MOST_TEXT = 1 << 20
MOST_VALUES = 1 << 24

HEADER = struct.Struct("<4sBBBBBHHHHHHIHBBQHH")
PRESET_FIELDS = struct.Struct("<HHHB")
STEP_FIELDS = struct.Struct("<HHHB")
RECORD = struct.Struct("<IHHB")


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
        rate: frames per second.
        schedule: Preset, or T StepCodes.
        step_count: T.
        deterministic: N, steps at the end that carry no bits; 1 or more, because the last lands on the picture.
        seed: of every pseudo-random number and of the host's guider.
        cfg: guidance in hundredths.
        switch_sigma: where the second expert takes over, in 1/65535; 0 for one expert.
        has_images, has_tail, has_sketch: which parts the GOP records have.
        texts: values by the names of ``TEXTS``; str, or 8 bytes for the fingerprints.
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

    @property
    def steps(self) -> tuple[StepCode, ...]:
        """The T steps, a preset written out."""
        if isinstance(self.schedule, Preset):
            return self.schedule.expand(self.step_count, self.deterministic)
        return self.schedule

    @property
    def frame_length(self) -> int:
        """D, values of one latent frame."""
        return self.channels * self.latent_height * self.latent_width


@dataclass(frozen=True, slots=True)
class ReferenceImage:
    """A coded still of a GOP: codec and role as :mod:`.images` numbers them."""

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
        sketch: float16 [T], see :mod:`.codec`.
    """

    frames: int
    continues: bool
    weights: np.ndarray
    payload: bytes
    images: tuple[ReferenceImage, ...] = ()
    tail: bytes = b""
    sketch: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """A header and its GOPs; ``whole`` is False when GOPs are missing at the end."""

    header: Header
    gops: tuple[Gop, ...]

    @property
    def whole(self) -> bool:
        return sum(gop.frames for gop in self.gops) == self.header.frames


def atoms_of(atoms: int, weight: int) -> int:
    """Atoms of a frame of ``weight`` at a step of ``atoms``: max(1, round(atoms * weight / 16)), 0 for weight 0."""
    return max(1, (2 * atoms * weight + FULL_WEIGHT) // (2 * FULL_WEIGHT)) if weight else 0


def check_weights(header: Header, weights: Iterable[int]) -> None:
    """Raise InputError where a weight asks for more atoms than the codebook has."""
    heaviest = int(max(weights))
    for step in header.steps[: header.step_count - header.deterministic] if heaviest else ():
        check_codebook(header.frame_length, atoms_of(step.atoms, heaviest), step.bits)


def payload_bits(header: Header, weights: Iterable[int]) -> int:
    """Codebook bits of a GOP."""
    weights = [int(weight) for weight in weights]
    coded = header.steps[: header.step_count - header.deterministic]
    return sum(atoms_of(step.atoms, weight) * (step.bits + 1) for step in coded for weight in weights)


def header_size(header: Header) -> int:
    """Bytes of the header."""
    schedule = PRESET_FIELDS.size if isinstance(header.schedule, Preset) else STEP_FIELDS.size * header.step_count
    texts = 1 + sum(3 + len(_packed_text(name, text)) for name, text in header.texts.items())
    return HEADER.size + schedule + texts + 4


def gop_size(header: Header, gop: Gop) -> int:
    """Bytes of a GOP's record."""
    size = RECORD.size + len(gop.weights) + -(-payload_bits(header, gop.weights) // 8) + 4
    if header.has_images:
        size += 1 + sum(6 + len(image.data) for image in gop.images)
    if header.has_tail:
        size += 4 + len(gop.tail)
    if header.has_sketch:
        size += 2 * header.step_count
    return size


def pack_codes(index: np.ndarray, sign: np.ndarray, bits: int) -> np.ndarray:
    """uint8 [M * (bits + 1)] of 0 and 1: each atom's index, lowest bit first, then 1 where the sign is -1."""
    columns = (index.astype(np.int64)[:, None] >> np.arange(bits)) & 1
    return np.concatenate([columns, (sign < 0)[:, None]], 1).astype(np.uint8).ravel()


def unpack_codes(codes: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of :func:`pack_codes`: index int64 [M] and sign int8 [M]."""
    rows = codes.reshape(-1, bits + 1).astype(np.int64)
    return rows[:, :bits] @ (1 << np.arange(bits, dtype=np.int64)), (1 - 2 * rows[:, bits]).astype(np.int8)


# ============================================================================================== writing


def _packed_text(name: str, value) -> bytes:
    if name in FINGERPRINTS:
        return bytes(value)
    packed = zlib.compress(value.encode(), 9)
    if len(packed) > 65535:
        raise InputError(f"the {name} takes {len(packed)} compressed bytes; a stream stores at most 65535")
    return packed


def write_header(header: Header) -> bytes:
    """The header's bytes, after checking it.

    Raises:
        InputError: for the first field out of range, by name.
    """
    check_header(header)
    preset = isinstance(header.schedule, Preset)
    flags = sum(
        flag
        for flag, present in (
            (PROMPT, "prompt" in header.texts),
            (IMAGES, header.has_images),
            (TAIL, header.has_tail),
            (SKETCH, header.has_sketch),
            (TWO_EXPERTS, header.switch_sigma > 0),
            (PRESET, preset),
        )
        if present
    )
    parts = [
        HEADER.pack(
            MAGIC, VERSION, flags, VARIANTS.index(header.variant), 0, header.channels, header.latent_frames,
            header.latent_height, header.latent_width, header.frames, header.height, header.width,
            header.rate.numerator, header.rate.denominator, header.step_count, header.deterministic, header.seed,
            header.cfg, header.switch_sigma,
        )
    ]  # fmt: skip
    if preset:
        schedule = header.schedule
        parts.append(PRESET_FIELDS.pack(schedule.shift, schedule.refresh, schedule.atoms, schedule.bits))
    else:
        parts += [STEP_FIELDS.pack(step.sigma, step.refresh, step.atoms, step.bits) for step in header.schedule]
    parts.append(bytes([len(header.texts)]))
    for kind, name in TEXTS.items():
        if name in header.texts:
            packed = _packed_text(name, header.texts[name])
            parts.append(struct.pack("<BH", kind, len(packed)) + packed)
    content = b"".join(parts)
    return content + struct.pack("<I", zlib.crc32(content))


def write_gop(header: Header, number: int, gop: Gop) -> bytes:
    """The record of GOP ``number`` (from 0) of a stream that starts with ``header``."""
    parts = [RECORD.pack(len(gop.payload), gop.frames, len(gop.weights), CONTINUES if gop.continues else 0)]
    parts.append(gop.weights.astype(np.uint8).tobytes())
    if header.has_images:
        parts.append(bytes([len(gop.images)]))
        parts += [struct.pack("<BBI", image.codec, image.role, len(image.data)) + image.data for image in gop.images]
    if header.has_tail:
        parts.append(struct.pack("<I", len(gop.tail)) + gop.tail)
    if header.has_sketch:
        parts.append(gop.sketch.astype("<f2").tobytes())
    parts.append(gop.payload)
    content = b"".join(parts)
    return content + struct.pack("<I", zlib.crc32(content, _record_seed(write_header(header), number)))


def write_stream(stream: Stream) -> bytes:
    """The whole file."""
    records = [write_gop(stream.header, number, gop) for number, gop in enumerate(stream.gops)]
    return write_header(stream.header) + b"".join(records)


def _record_seed(header: bytes, number: int) -> int:
    """Ties a record to its header and place, so that a record moved or taken from another file is found.

    The header's own CRC is left out: a CRC over data and its CRC is the same for all data.
    """
    return zlib.crc32(struct.pack("<I", number), zlib.crc32(header[:-4]))


# ============================================================================================== reading


class _Reader:
    """A cursor that knows the file's name and refuses to read past the end."""

    def __init__(self, data: bytes, name: str):
        self.data, self.name, self.at = data, name, 0

    def take(self, count: int, what: str) -> bytes:
        if self.at + count > len(self.data):
            raise TruncatedStream(
                f"{self.name}: the stream ends at byte {len(self.data)} inside {what}, which goes on to byte "
                f"{self.at + count}; the file was cut or damaged"
            )
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def unpack(self, fields: struct.Struct, what: str) -> tuple:
        return fields.unpack(self.take(fields.size, what))

    def check(self, start: int, seed: int, what: str) -> None:
        """Compare the CRC-32 that stands at the cursor with that of the bytes from ``start``."""
        content = self.data[start : self.at]
        (stored,) = struct.unpack("<I", self.take(4, what))
        if zlib.crc32(content, seed) != stored:
            raise CorruptStream(
                f"{self.name}: the checksum of {what} is {zlib.crc32(content, seed):08x}, stored is {stored:08x}; "
                "the file was damaged"
            )


def read_header(data: bytes, name: str = "stream") -> tuple[Header, int]:
    """The header and its length in bytes.

    Raises:
        StreamError: UnsupportedStream, TruncatedStream or CorruptStream.
    """
    reader = _Reader(data, name)
    magic, version, flags, variant, family, *rest = reader.unpack(HEADER, "the header")
    if magic != MAGIC:
        raise UnsupportedStream(f"{name}: starts with {magic!r}, not with {MAGIC!r}; it is not a GVCB stream")
    if version != VERSION:
        raise UnsupportedStream(f"{name}: version {version}; this reader knows version {VERSION}")
    (channels, latent_frames, latent_height, latent_width, frames, height, width, rate_over, rate_under,
     step_count, deterministic, seed, cfg, switch_sigma) = rest  # fmt: skip
    if flags & PRESET:
        schedule = reader.unpack(PRESET_FIELDS, "the schedule")
    else:
        schedule = [reader.unpack(STEP_FIELDS, "the schedule") for _ in range(step_count)]
    (count,) = reader.take(1, "the texts")
    texts = []
    for _ in range(count):
        kind, size = struct.unpack("<BH", reader.take(3, "the texts"))
        texts.append((kind, reader.take(size, "the texts")))
    reader.check(0, 0, "the header")
    if family != 0:
        raise UnsupportedStream(f"{name}: model family {family}; this reader knows family 0, rectified flow")
    if variant >= len(VARIANTS) or flags >> 6 or not rate_under:
        raise CorruptStream(
            f"{name}: the header says variant {variant}, flags {flags:#x}, rate {rate_over}/{rate_under}, which no "
            "writer of this version makes"
        )
    header = Header(
        VARIANTS[variant], channels, latent_frames, latent_height, latent_width, frames, height, width,
        Fraction(rate_over, rate_under), Preset(*schedule) if flags & PRESET else tuple(StepCode(*s) for s in schedule),
        step_count, deterministic, seed, cfg, switch_sigma, bool(flags & IMAGES), bool(flags & TAIL),
        bool(flags & SKETCH), _read_texts(texts, name),
    )  # fmt: skip
    try:
        check_header(header)
    except InputError as error:
        raise CorruptStream(f"{name}: {error}") from None
    return header, reader.at


def _read_texts(texts: list[tuple[int, bytes]], name: str) -> dict:
    values = {}
    for kind, packed in texts:
        key = TEXTS.get(kind)
        if key is None or key in values or (key in FINGERPRINTS and len(packed) != 8):
            raise CorruptStream(f"{name}: the header holds a text of kind {kind} that it cannot hold")
        if key in FINGERPRINTS:
            values[key] = packed
            continue
        unpacker = zlib.decompressobj()
        try:
            values[key] = unpacker.decompress(packed, MOST_TEXT).decode()
        except (zlib.error, UnicodeDecodeError) as error:
            raise CorruptStream(f"{name}: the {key} cannot be unpacked ({error})") from None
    return values


def check_header(header: Header) -> None:
    """Raise InputError for the first field that is out of range."""
    for label, value, low, high in (
        ("latent channels", header.channels, 1, 255),
        ("latent frames", header.latent_frames, 1, 65535),
        ("latent height", header.latent_height, 1, 65535),
        ("latent width", header.latent_width, 1, 65535),
        ("values of a latent frame", header.frame_length, 1, MOST_VALUES),
        ("frames", header.frames, 1, 65535),
        ("height", header.height, 1, 65535),
        ("width", header.width, 1, 65535),
        ("frame rate numerator", header.rate.numerator, 1, 0xFFFFFFFF),
        ("frame rate denominator", header.rate.denominator, 1, 65535),
        ("steps", header.step_count, 2, 255),
        ("deterministic steps", header.deterministic, 1, header.step_count - 1),
        ("seed", header.seed, 0, (1 << 64) - 1),
        ("cfg in hundredths", header.cfg, 0, 65535),
        ("switch sigma", header.switch_sigma, 0, SIGMA_ONE),
    ):
        if not low <= value <= high:
            raise InputError(f"the stream's {label} is {value}; it must be {low} to {high}")
    if isinstance(header.schedule, Preset) and not 1 <= header.schedule.shift <= 65535:
        raise InputError(f"the stream's shift is {header.schedule.shift / 100:g}; it must be 0.01 to 655.35")
    check_sigmas([step.sigma for step in header.steps])
    for number, step in enumerate(header.steps[: header.step_count - header.deterministic]):
        if not 0 <= step.refresh <= SIGMA_ONE:
            raise InputError(f"step {number}: refresh is {step.refresh / SIGMA_ONE:g}; it must be 0 to 1")
        try:
            check_codebook(header.frame_length, step.atoms, step.bits)
        except InputError as error:
            raise InputError(f"step {number}: {error}") from None
    for number, step in enumerate(header.steps[header.step_count - header.deterministic :]):
        if step.refresh or step.atoms or step.bits:
            raise InputError(
                f"step {header.step_count - header.deterministic + number} is deterministic but has {step.atoms} atoms "
                f"of {step.bits} bits and refresh {step.refresh}; it must have none"
            )


def read_stream(data: bytes, name: str = "stream", partial: bool = False) -> Stream:
    """Read a whole file.

    Args:
        data: the file's bytes.
        name: what the file is called in errors.
        partial: accept a stream that ends early and return its whole GOPs (at least one).

    Raises:
        StreamError: TruncatedStream (with ``whole``), CorruptStream or UnsupportedStream.
    """
    header, at = read_header(data, name)
    reader = _Reader(data, name)
    reader.at = at
    gops: list[Gop] = []
    shown = 0
    try:
        while shown < header.frames:
            gops.append(_read_gop(reader, header, len(gops), data[:at]))
            shown += gops[-1].frames
    except TruncatedStream as error:
        error.whole = Stream(header, tuple(gops)) if gops else None
        if partial and gops:
            return error.whole
        raise
    if shown != header.frames or reader.at != len(data):
        raise CorruptStream(
            f"{name}: the GOPs hold {shown} frames in {reader.at} bytes; the header says {header.frames} frames and "
            f"the file has {len(data)} bytes"
        )
    return Stream(header, tuple(gops))


def _read_gop(reader: _Reader, header: Header, number: int, header_bytes: bytes) -> Gop:
    start, what = reader.at, f"GOP {number}"
    payload_size, frames, latent_frames, flags = reader.unpack(RECORD, what)
    weights = np.frombuffer(reader.take(latent_frames, what), np.uint8)
    images = []
    if header.has_images:
        for _ in range(reader.take(1, what)[0]):
            codec, role, size = struct.unpack("<BBI", reader.take(6, what))
            images.append(ReferenceImage(codec, role, reader.take(size, what)))
    tail = reader.take(struct.unpack("<I", reader.take(4, what))[0], what) if header.has_tail else b""
    sketch = np.frombuffer(reader.take(2 * header.step_count, what), "<f2") if header.has_sketch else None
    payload = reader.take(payload_size, what)
    reader.check(start, _record_seed(header_bytes, number), what)
    if not 1 <= latent_frames <= header.latent_frames or not frames or flags > CONTINUES:
        raise CorruptStream(
            f"{reader.name}: {what} says {latent_frames} latent frames, {frames} frames, flags {flags}, which no "
            "writer of this version makes"
        )
    bits = payload_bits(header, weights)
    if payload_size != -(-bits // 8) or (bits % 8 and payload[-1] >> bits % 8):
        raise CorruptStream(f"{reader.name}: {what} has {payload_size} bytes of codes, its weights ask for {bits} bits")
    try:
        check_weights(header, weights)
    except InputError as error:
        raise CorruptStream(f"{reader.name}: {what}: {error}") from None
    return Gop(frames, bool(flags), weights, payload, tuple(images), tail, sketch)


def describe(stream: Stream, size: int | None = None) -> dict:
    """Facts about a stream for people: strings, numbers and lists that JSON can hold.

    Args:
        stream: any stream.
        size: bytes of its file; computed from the formula when left out.
    """
    header = stream.header
    size = size if size is not None else header_size(header) + sum(gop_size(header, gop) for gop in stream.gops)
    shown = sum(gop.frames for gop in stream.gops)
    codebook = sum(len(gop.payload) for gop in stream.gops)
    images = sum(len(image.data) for gop in stream.gops for image in gop.images)
    tail = sum(len(gop.tail) for gop in stream.gops)
    seconds = float(shown / header.rate)
    coded = header.steps[: header.step_count - header.deterministic]
    return {
        "format": f"GVCB {VERSION}",
        "variant": header.variant,
        "model": header.texts.get("model", ""),
        "model_fingerprint": header.texts.get("model_fingerprint", b"").hex(),
        "prompt": header.texts.get("prompt", ""),
        "negative": header.texts.get("negative", ""),
        "note": header.texts.get("note", ""),
        "width": header.width,
        "height": header.height,
        "frames": header.frames,
        "frames_present": shown,
        "whole": stream.whole,
        "frames_per_second": round(float(header.rate), 6),
        "seconds": round(seconds, 3),
        "latent": [header.channels, header.latent_frames, header.latent_height, header.latent_width],
        "gops": len(stream.gops),
        "gop_frames": [gop.frames for gop in stream.gops],
        "steps": header.step_count,
        "deterministic_steps": header.deterministic,
        "atoms": [step.atoms for step in coded],
        "index_bits": sorted({step.bits for step in coded}),
        "cfg": header.cfg / 100,
        "switch_sigma": round(header.switch_sigma / SIGMA_ONE, 4),
        "seed": header.seed,
        "bytes": size,
        "bytes_codebook": codebook,
        "bytes_images": images,
        "bytes_tail": tail,
        "bytes_other": size - codebook - images - tail,
        "bits_per_pixel": round(8 * size / (shown * header.height * header.width), 6),
        "kilobits_per_second": round(8 * size / 1000 / seconds, 3),
    }
