"""What a container promises to hold, so that a file that ends early or has a hole is not read as a shorter video."""

import io

import av
import numpy as np

from .clocks import Clock, Stamps
from .structure import is_continuous, program_stream_end, transport_packet_length

LOSSY = ("matroska,webm", "mpegts", "mpeg", "flv")
"""Containers without a sample table: FFmpeg skips what is damaged in them in silence."""

FROM_ZERO = ("matroska,webm", "flv")
"""Those of them whose clock begins at zero."""

LONGEST_DURATION = 86400.0
"""Seconds by which a file may fall short of its header's duration; if by more, that number is damaged."""

CHUNK_HEADER = 8
"""Bytes in front of each frame in an AVI."""


def missing_frames(container, stream, stamps: Stamps, end: float, file) -> tuple[int, bool]:
    """Frames that should follow the last one, and whether that is their number (True) or the least it can be.

    MP4: against the sample table; or against the header's count where the file is much shorter than it says, too; or at
    least one when a fragment is not whole. AVI: the header's count against the slot of the last frame. Matroska and
    FLV: the duration in the header against ``end``, the second at which the last packet of any stream ends; Matroska
    only if the file ends early, is broken or does not say where it ends. MPEG: at least one when the last packet is
    not whole. A promise that the rest of the header contradicts, or of more than a day, counts for nothing.
    """
    kind = container.format.name
    file.seek(0)
    promised = promised_bytes(file)
    size = file.seek(0, io.SEEK_END)
    cut_short = promised > size
    entries = getattr(stream, "index_entries", ())  # PyAV 16
    if "mp4" in kind:
        expected = len(entries) or stream.frames
        if stream.duration and stream.duration * stream.time_base > 2 * end:
            expected = max(expected, stream.frames)
        missing = expected - len(stamps.pts)
        return max(int(cut_short), missing), missing > 0
    if kind == "avi":
        slots = np.nanmax(stamps.dts, initial=-1) + 1
        if 0 < promised < stream.frames * CHUNK_HEADER:
            return int(cut_short), False
        empty = sum(entry.size == 0 and entry.timestamp >= slots for entry in entries)
        return max(0, stream.frames - int(slots) - empty), True
    if kind in ("mpegts", "mpeg"):
        torn = program_stream_end(file) > size if kind == "mpeg" else size % transport_packet_length(file) > 0
        return int(torn), not torn
    if kind in ("flv", "matroska,webm"):
        short_by = container.duration / av.time_base - end if container.duration else 0.0
        frames = short_by * float(stream.average_rate or stream.guessed_rate or 25)
        believed = frames > 1.5 and short_by < LONGEST_DURATION
        # The last picture may be shown for long: a Matroska file that is whole lacks nothing.
        lacks = believed and (kind == "flv" or cut_short or not promised or not is_continuous(kind, file))
        return max(int(cut_short), round(frames) if lacks else 0), False
    return 0, True


def holes(container, stream, stamps: Stamps, clock: Clock, file) -> list[tuple[float, int]]:
    """(second, frames) for each gap where frames are missing between others, or before the first.

    A longer step alone says nothing: recordings pause. It counts where the structure of the file is broken.
    """
    kind = container.format.name
    # Decoding begins before the first frame is shown where frames wait for others.
    late = float(np.nan_to_num(stamps.dts[0]) * stream.time_base) if kind in FROM_ZERO else 0.0
    steps = np.diff(clock.seconds, prepend=clock.seconds[0] - max(0.0, late))
    if len(steps) < 4 or kind not in LOSSY:
        return []
    step = float(np.median(steps[1:]))
    steps[clock.seams] = step
    long = np.flatnonzero(steps > 1.5 * step)
    if not len(long) or is_continuous(kind, file, stream.id):
        return []
    # The first frame has none before it whose own time would count.
    began = clock.seconds - steps + step * (np.arange(len(steps)) > 0)
    return [(float(began[at]), max(1, round(float((clock.seconds[at] - began[at]) / step)))) for at in long]


def promised_bytes(file) -> int:
    """Size that a file states for itself, 0 where it states none; ``file`` is open for reading at its beginning.

    RIFF (AVI, WebP): a little-endian length at byte 4. MP4: its boxes, each with its length. Matroska: see
    ``_matroska_bytes``.
    """
    head = file.read(64)
    if head[:4] == b"RIFF":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[4:8] in (b"ftyp", b"styp", b"moov"):
        return _mp4_bytes(file)
    return _matroska_bytes(head)


def _mp4_bytes(file) -> int:
    # ISO/IEC 14496-12, 4.2: length 1 means a 64-bit length follows, length 0 up to the end of the file. A torn box that
    # holds no media (an index at the end, padding) costs no frame.
    size, at = file.seek(0, io.SEEK_END), 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if len(head) < 8 or at + length > size and head[4:8] in (b"moof", b"mdat"):
            return at + max(length, 8)
        if length < 8:
            break
        at += length
    return 0


def _matroska_bytes(head: bytes) -> int:
    """RFC 8794: an EBML element, then the Segment element, each with its length; all length bits set means unknown."""
    at = 0
    for element in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[at : at + 4] != element or not head[at + 4 : at + 5].strip(b"\0"):
            return 0
        width = 9 - head[at + 4].bit_length()
        unknown = (1 << 7 * width) - 1
        length = int.from_bytes(head[at + 4 : at + 4 + width], "big") & unknown
        if length == unknown:
            return 0
        at += 4 + width + length
    return at


def gif_ends_well(data: bytes) -> bool:
    """True when the blocks of a GIF lead to its trailer (GIF89a, appendix A and B)."""
    at = 13 + _colour_table(data[10])
    while at < len(data):
        kind = data[at]
        if kind == 0x3B:
            return True
        if kind == 0x21:
            at += 2
        elif kind == 0x2C and at + 9 < len(data):
            at += 11 + _colour_table(data[at + 9])
        else:
            return False
        while at < len(data) and data[at]:
            at += data[at] + 1
        at += 1
    return False


def _colour_table(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
