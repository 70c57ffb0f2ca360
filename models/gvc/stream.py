"""The GVCB file: everything a decoder needs besides the model, checksummed, little-endian.

Version 2, which is written; fields that differ in version 1, which is read, are noted below::

    header
      4s "GVCB"   u8 version = 2   u16 flags   u8 variant (0 T2V, 1 I2V, 2 FLF2V)   u8 family (0 rectified flow)
      u8 latent channels C   u16 most latent frames of a GOP   u16 latent height   u16 latent width
      u8 pixels of a latent position   u8 pixel frames of a latent frame   u8 rotation of the source / 90 degrees
      u32 frames   u16 height   u16 width   u32 / u32 frame rate
      u8 T steps   u8 N of them deterministic, at the end   u64 seed   u16 cfg * 100   u16 switch sigma * 65535
      preset schedule : u16 shift * 100, u16 refresh * 65535, u16 atoms, u8 bits
      explicit        : T x {u16 sigma * 65535, u16 refresh * 65535, u16 atoms, u8 bits}
      u8 count of texts, each {u8 kind, u16 bytes, UTF-8 compressed by zlib, or 8 raw bytes for a fingerprint}
      u32 CRC-32 of everything before
    sound, if flag 64: u32 bytes, an Ogg Opus file, u32 CRC-32 started from the header's
    per GOP
      u32 payload bytes   u16 frames   u16 latent frames F   u8 flags (1: goes on from the GOP before)
      F x u8 weight (16 = the schedule's atoms, 0 = no bits)
      if flag 2: u8 count of images, each {u8 codec, u8 role, u32 bytes, data}
      if flag 4: u32 bytes of tail residual, data
      if flag 8: 16 x float16 sketch of the final latent, float16 grey levels of a latent unit
      if flag 128: u32 bytes of presentation times: frames x u32 ticks since the frame before, compressed by zlib
      payload: one bit string, least significant bit first, in the order step, frame, group: b bits index, 1 bit sign
      u32 CRC-32 of the record, started from the header's CRC and the GOP's number

Version 1 has u8 flags, no pixels of a latent position, frames of a latent frame and rotation, u16 frames, a frame rate
of u32 / u16, no sound and no times; its sketch is T x float16, one projection after each step.

A step's refresh is the fraction of the next noise level that is fresh (c = refresh * n in :mod:`.flow`). The atoms of a
frame are max(1, round(atoms * weight / 16)). Payload bytes = ceil(sum of atoms * (b + 1) / 8), so ``len(file)`` is a
formula: :func:`header_size` + the sum of :func:`gop_size`.

Reading takes time and memory in proportion to the file's own length: every count is compared with the bytes that are
left before anything is made of it, and what a header claims is checked before a decoder allocates it.
"""

import struct
import zlib
from fractions import Fraction

import numpy as np

from ..errors import InputError
from .flow import SIGMA_ONE
from .records import (
    MOST_TEXT,
    VARIANTS,
    VERSION,
    CorruptStream,
    FrameBits,
    Gop,
    Header,
    Preset,
    ReferenceImage,
    StepCode,
    Stream,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
    check_gop,
    check_header,
    payload_bits,
)

__all__ = [
    "CorruptStream", "Gop", "Header", "Preset", "ReferenceImage", "StepCode", "Stream", "StreamError",
    "TruncatedStream", "UnsupportedStream", "describe", "gop_size", "header_size", "pack_codes", "payload_bits",
    "read_header", "read_stream", "unpack_codes", "write_gop", "write_header", "write_sound", "write_stream",
]  # fmt: skip

MAGIC = b"GVCB"
PROMPT, IMAGES, TAIL, SKETCH, TWO_EXPERTS, PRESET, SOUND, TIMES = (1 << bit for bit in range(8))
KNOWN_FLAGS = {1: 0x3F, 2: 0xFF}
CONTINUES = 1
TEXTS = {1: "prompt", 2: "negative", 3: "model", 4: "conditioning_fingerprint", 5: "note", 6: "model_fingerprint"}
FINGERPRINTS = ("conditioning_fingerprint", "model_fingerprint")

START = struct.Struct("<4sB")
HEADER = {1: struct.Struct("<BBBBHHHHHHIHBBQHH"), 2: struct.Struct("<HBBBHHHBBBIHHIIBBQHH")}
PRESET_FIELDS = struct.Struct("<HHHB")
STEP_FIELDS = struct.Struct("<HHHB")
RECORD = struct.Struct("<IHHB")
IMAGE = struct.Struct("<BBI")
LENGTH = struct.Struct("<I")


def header_size(header: Header) -> int:
    """Bytes of the header, its sound left out."""
    schedule = PRESET_FIELDS.size if isinstance(header.schedule, Preset) else STEP_FIELDS.size * header.step_count
    texts = 1 + sum(3 + len(_packed_text(name, text)) for name, text in header.texts.items())
    return START.size + HEADER[header.version].size + schedule + texts + 4


def gop_size(header: Header, gop: Gop) -> int:
    """Bytes of a GOP's record."""
    size = RECORD.size + len(gop.weights) + len(gop.payload) + 4
    if header.has_images:
        size += 1 + sum(IMAGE.size + len(image.data) for image in gop.images)
    if header.has_tail:
        size += 4 + len(gop.tail)
    if header.has_sketch:
        size += 2 * header.sketch_size + 2 * (header.version > 1)
    if header.has_times:
        size += 4 + len(_packed_ticks(gop))
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
    try:
        text = value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"the {name} holds half of a character at position {error.start}; remove it") from None
    packed = zlib.compress(text, 9)
    if len(text) > MOST_TEXT or len(packed) > 65535:
        raise InputError(
            f"the {name} takes {len(text)} bytes, {len(packed)} compressed; a stream stores at most {MOST_TEXT}, and "
            "65535 compressed"
        )
    return packed


def _packed_ticks(gop: Gop) -> bytes:
    return zlib.compress(gop.ticks.astype("<u4").tobytes(), 9)


def write_header(header: Header) -> bytes:
    """The header's bytes, after checking it. Version 2 is written.

    Raises:
        InputError: for the first field out of range, by name.
    """
    if header.version != VERSION:
        raise InputError(f"streams of version {header.version} are read, not written; version {VERSION} is written")
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
            (SOUND, header.has_sound),
            (TIMES, header.has_times),
        )
        if present
    )
    parts = [
        START.pack(MAGIC, VERSION),
        HEADER[VERSION].pack(
            flags, VARIANTS.index(header.variant), 0, header.channels, header.latent_frames, header.latent_height,
            header.latent_width, header.spatial, header.temporal, header.rotation // 90, header.frames, header.height,
            header.width, header.rate.numerator, header.rate.denominator, header.step_count, header.deterministic,
            header.seed, header.cfg, header.switch_sigma,
        ),
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
    return content + LENGTH.pack(zlib.crc32(content))


def write_sound(header: bytes, sound: bytes) -> bytes:
    """The section of a sound track, an Ogg Opus file; ``header`` from :func:`write_header`."""
    content = LENGTH.pack(len(sound)) + sound
    return content + LENGTH.pack(zlib.crc32(content, zlib.crc32(header[:-4])))


def write_gop(header: Header, number: int, gop: Gop, written: bytes | None = None) -> bytes:
    """The record of GOP ``number`` (from 0) of a stream that starts with ``header``.

    Args:
        header, number, gop: what to write.
        written: the header's bytes, where they are at hand.

    Raises:
        InputError: where the GOP contradicts itself or the header.
    """
    written = written or write_header(header)
    try:
        check_gop(header, number, gop, FrameBits(header))
    except InputError as error:
        raise InputError(f"GOP {number}: {error}") from None
    parts = [RECORD.pack(len(gop.payload), gop.frames, len(gop.weights), CONTINUES if gop.continues else 0)]
    parts.append(gop.weights.astype(np.uint8).tobytes())
    if header.has_images:
        parts.append(bytes([len(gop.images)]))
        parts += [IMAGE.pack(image.codec, image.role, len(image.data)) + image.data for image in gop.images]
    if header.has_tail:
        parts.append(LENGTH.pack(len(gop.tail)) + gop.tail)
    if header.has_sketch:
        parts.append(np.append(gop.sketch, gop.grey_levels).astype("<f2").tobytes())
    if header.has_times:
        packed = _packed_ticks(gop)
        parts.append(LENGTH.pack(len(packed)) + packed)
    parts.append(gop.payload)
    content = b"".join(parts)
    return content + LENGTH.pack(zlib.crc32(content, _record_seed(written, number)))


def write_stream(stream: Stream) -> bytes:
    """The whole file."""
    header = write_header(stream.header)
    sound = write_sound(header, stream.sound) if stream.header.has_sound else b""
    records = [write_gop(stream.header, number, gop, header) for number, gop in enumerate(stream.gops)]
    return header + sound + b"".join(records)


def _record_seed(header: bytes, number: int) -> int:
    """Ties a record to its header and number, so that a record moved or taken from another file is found.

    The header's own CRC is left out: a CRC over data and its CRC is the same for all data.
    """
    return zlib.crc32(LENGTH.pack(number), zlib.crc32(header[:-4]))


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

    def sized(self, what: str) -> bytes:
        """u32 bytes and as many."""
        return self.take(self.unpack(LENGTH, what)[0], what)

    def check(self, start: int, seed: int, what: str) -> None:
        """Compare the CRC-32 that stands at the cursor with that of the bytes from ``start``."""
        found = zlib.crc32(memoryview(self.data)[start : self.at], seed)
        (stored,) = self.unpack(LENGTH, what)
        if found != stored:
            raise CorruptStream(
                f"{self.name}: the checksum of {what} is {found:08x}, stored is {stored:08x}; the file was damaged"
            )

    def unzip(self, packed: bytes, most: int, what: str) -> bytes:
        """What zlib packed, at most ``most`` bytes."""
        unpacker = zlib.decompressobj()
        try:
            found = unpacker.decompress(packed, most + 1)
        except zlib.error as error:
            raise CorruptStream(f"{self.name}: {what} cannot be unpacked ({error})") from None
        if len(found) > most:
            raise CorruptStream(f"{self.name}: {what} is longer than {most} bytes when it is unpacked")
        if not unpacker.eof or unpacker.unused_data:
            raise CorruptStream(f"{self.name}: {what} cannot be unpacked (its packed bytes end early or go on)")
        return found


def read_header(data: bytes, name: str = "stream") -> tuple[Header, int]:
    """The header and its length in bytes.

    Raises:
        StreamError: UnsupportedStream, TruncatedStream or CorruptStream.
    """
    reader = _Reader(data, name)
    magic, version = reader.unpack(START, "the header")
    if magic != MAGIC:
        raise UnsupportedStream(f"{name}: starts with {magic!r}, not with {MAGIC!r}; it is not a GVCB stream")
    if version not in HEADER:
        raise UnsupportedStream(f"{name}: version {version}; this reader knows versions 1 and 2")
    flags, variant, family, channels, latent_frames, latent_height, latent_width, *rest = reader.unpack(
        HEADER[version], "the header"
    )
    spatial, temporal, quarter_turns = (rest.pop(0), rest.pop(0), rest.pop(0)) if version > 1 else (0, 0, 0)
    frames, height, width, rate_over, rate_under, step_count, deterministic, seed, cfg, switch_sigma = rest
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
    texts = _read_texts(reader, texts)
    implied = ("prompt" in texts) * PROMPT + (switch_sigma > 0) * TWO_EXPERTS
    if (
        variant >= len(VARIANTS)
        or flags & ~KNOWN_FLAGS[version]
        or flags & (PROMPT | TWO_EXPERTS) != implied
        or not rate_under
    ):
        raise CorruptStream(
            f"{name}: the header says variant {variant}, flags {flags:#x}, rate {rate_over}/{rate_under}, which no "
            "writer of this version makes"
        )
    header = Header(
        VARIANTS[variant], channels, latent_frames, latent_height, latent_width, frames, height, width,
        Fraction(rate_over, rate_under), Preset(*schedule) if flags & PRESET else tuple(StepCode(*s) for s in schedule),
        step_count, deterministic, seed, cfg, switch_sigma, bool(flags & IMAGES), bool(flags & TAIL),
        bool(flags & SKETCH), texts, spatial, temporal, 90 * quarter_turns,
        bool(flags & TIMES), bool(flags & SOUND), version,
    )  # fmt: skip
    try:
        check_header(header)
    except InputError as error:
        raise CorruptStream(f"{name}: {error}") from None
    return header, reader.at


def _read_texts(reader: _Reader, texts: list[tuple[int, bytes]]) -> dict:
    values = {}
    for kind, packed in texts:
        key = TEXTS.get(kind)
        if key is None or key in values or (key in FINGERPRINTS and len(packed) != 8):
            raise CorruptStream(f"{reader.name}: the header holds a text of kind {kind} that it cannot hold")
        if key in FINGERPRINTS:
            values[key] = packed
            continue
        try:
            values[key] = reader.unzip(packed, MOST_TEXT, f"the {key}").decode()
        except UnicodeDecodeError as error:
            raise CorruptStream(f"{reader.name}: the {key} cannot be unpacked ({error})") from None
    return values


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
    reader, cost = _Reader(data, name), FrameBits(header)
    reader.at = at
    sound, gops, shown, end = b"", [], 0, at
    try:
        if header.has_sound:
            sound = reader.sized("the sound")
            reader.check(at, zlib.crc32(data[: at - 4]), "the sound")
        while shown < header.frames:
            gops.append(_read_gop(reader, header, len(gops), data[:at], cost))
            shown, end = shown + gops[-1].frames, reader.at
    except TruncatedStream as error:
        error.whole = Stream(header, tuple(gops), sound, end) if gops else None
        if partial and gops:
            return error.whole
        raise
    if shown != header.frames or reader.at != len(data):
        raise CorruptStream(
            f"{name}: the GOPs hold {shown} frames in {reader.at} bytes; the header says {header.frames} frames and "
            f"the file has {len(data)} bytes"
        )
    return Stream(header, tuple(gops), sound, end)


def _read_gop(reader: _Reader, header: Header, number: int, written: bytes, cost: FrameBits) -> Gop:
    start, what = reader.at, f"GOP {number}"
    payload_size, frames, latent_frames, flags = reader.unpack(RECORD, what)
    weights = np.frombuffer(reader.take(latent_frames, what), np.uint8)
    images, sketch, grey, packed = [], None, {}, None
    if header.has_images:
        for _ in range(reader.take(1, what)[0]):
            codec, role, size = reader.unpack(IMAGE, what)
            images.append(ReferenceImage(codec, role, reader.take(size, what)))
    tail = reader.sized(what) if header.has_tail else b""
    if header.has_sketch:
        sketch = np.frombuffer(reader.take(2 * header.sketch_size, what), "<f2")
        if header.version > 1:
            grey = {"grey_levels": float(np.frombuffer(reader.take(2, what), "<f2")[0])}
    if header.has_times:
        packed = reader.sized(what)
    payload = reader.take(payload_size, what)
    reader.check(start, _record_seed(written, number), what)
    if flags & ~CONTINUES:
        raise CorruptStream(f"{reader.name}: {what} has flags {flags:#x}; this reader knows {CONTINUES:#x}")
    ticks = None
    if packed is not None:
        ticks = reader.unzip(packed, 4 * frames, f"the times of {what}")
        if len(ticks) != 4 * frames:
            raise CorruptStream(f"{reader.name}: {what} has {len(ticks) // 4} times for {frames} frames")
        ticks = np.frombuffer(ticks, "<u4")
    gop = Gop(frames, bool(flags), weights, payload, tuple(images), tail, sketch, ticks=ticks, **grey)
    try:
        check_gop(header, number, gop, cost)
    except InputError as error:
        raise CorruptStream(f"{reader.name}: {what}: {error}") from None
    return gop


def stream_in_words(facts: dict) -> str:
    """What :func:`describe` found, in a few lines."""
    parts = {"codebook": "codebook", "stills": "images", "mending of GOP ends": "tail", "sound": "sound"}
    bytes_of = [f"{name} {facts[f'bytes_{key}']}" for name, key in parts.items() if facts[f"bytes_{key}"]]
    bytes_of.append(f"the rest {facts['bytes_other']}")
    lines = [
        f"{facts['format']}, {facts['variant']}, {facts['width']}x{facts['height']}, {facts['seconds']:.2f} s: "
        f"{facts['frames']} frames at {facts['frames_per_second']:g} a second, {facts['gops']} GOPs",
        f"{facts['bytes']} bytes, {facts['kilobits_per_second']:g} kilobits a second, "
        f"{facts['bits_per_pixel']:g} bits per pixel ({', '.join(bytes_of)})",
        f"{facts['steps']} steps, cfg {facts['cfg']:g}, model {facts['model'] or 'not named'}",
    ]
    if facts["prompt"]:
        lines.append(f"prompt: {facts['prompt']}")
    if not facts["whole"]:
        lines.append(f"not whole: {facts['frames_present']} of {facts['frames']} frames are there")
    return "\n".join(lines)


def describe(stream: Stream, size: int | None = None) -> dict:
    """Facts about a stream for people: strings, numbers and lists that JSON can hold.

    Args:
        stream: any stream.
        size: bytes of its file; computed from the formula when left out.
    """
    header = stream.header
    size = size or stream.size
    if not size:
        size = header_size(header) + sum(gop_size(header, gop) for gop in stream.gops)
        size += (8 + len(stream.sound)) * header.has_sound
    shown = sum(gop.frames for gop in stream.gops)
    codebook = sum(len(gop.payload) for gop in stream.gops)
    images = sum(len(image.data) for gop in stream.gops for image in gop.images)
    tail = sum(len(gop.tail) for gop in stream.gops)
    seconds = float(stream.pts[-1] + 1 / float(header.rate))
    return {
        "format": f"GVCB {header.version}",
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
        "variable_rate": header.has_times,
        "seconds": round(seconds, 3),
        "sound": header.has_sound,
        "rotation_of_source": header.rotation,
        "latent": [header.channels, header.latent_frames, header.latent_height, header.latent_width],
        "gops": len(stream.gops),
        "gop_frames": [gop.frames for gop in stream.gops],
        "steps": header.step_count,
        "deterministic_steps": header.deterministic,
        "atoms": [step.atoms for step in header.coded_steps],
        "index_bits": sorted({step.bits for step in header.coded_steps}),
        "cfg": header.cfg / 100,
        "switch_sigma": round(header.switch_sigma / SIGMA_ONE, 4),
        "seed": header.seed,
        "bytes": size,
        "bytes_codebook": codebook,
        "bytes_images": images,
        "bytes_tail": tail,
        "bytes_sound": len(stream.sound),
        "bytes_other": size - codebook - images - tail - len(stream.sound),
        "bits_per_pixel": round(8 * size / (shown * header.height * header.width), 6),
        "kilobits_per_second": round(8 * size / 1000 / seconds, 3),
    }
