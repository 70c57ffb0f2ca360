"""What a container promises to hold, so that a file that ends early or has a hole is not read as a shorter video."""

import io

import av
import numpy as np

REGULAR = 0.8
"""Share of equal steps from which a longer step counts as a hole and not as a variable frame rate."""


def missing_frames(container, stream, packets: int, end: float, file) -> tuple[int, bool]:
    """Frames that should follow the last one, and whether that is their number (True) or the least it can be.

    MP4: against the sample table, or at least one when a fragment is not whole. Matroska and FLV: the duration in the
    header against ``end``, the second at which the last packet of any stream ends. AVI: the header's count, when the
    file is shorter than it says. MPEG-TS: at least one when the last transport packet is not whole.
    """
    kind = container.format.name
    file.seek(0)
    cut_short = promised_bytes(file) > file.seek(0, io.SEEK_END)
    if "mp4" in kind:
        # The sample table, after edit lists. PyAV before 16 does not show it: the header's count is then the best.
        promised = len(stream.index_entries) if hasattr(stream, "index_entries") else stream.frames
        return max(int(cut_short), promised - packets), promised > packets
    if kind in ("avi", "mpegts"):
        torn = kind == "mpegts" and torn_transport_packet(file)
        return max(int(torn), (stream.frames - packets) * cut_short), not torn
    if "matroska" in kind or kind == "flv":
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        short_by = 0.0
        if container.duration:
            short_by = container.duration / av.time_base - end
        frames = round(short_by * rate) if short_by * rate > 1.5 else 0
        return max(int(cut_short), frames), False
    return 0, True


def holes(container, seconds: np.ndarray) -> list[tuple[float, int]]:
    """(second, frames) for each place where frames are missing between others.

    Only for containers without a sample table, which skip damage in silence, and only where at least four steps in five
    are alike: among irregular steps a long one says nothing.
    """
    if len(seconds) < 4 or container.format.name not in ("matroska,webm", "mpegts", "mpeg", "flv"):
        return []
    steps = np.diff(seconds)
    step = float(np.median(steps))
    long = steps > 1.5 * step
    if np.mean(np.abs(steps - step) < 0.1 * step + 0.001) < REGULAR:
        return []
    return [(float(seconds[at] + step), round(float(steps[at] / step)) - 1) for at in np.flatnonzero(long)]


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


def torn_transport_packet(file) -> bool:
    """True when an MPEG-TS file ends within a packet of 188 bytes, 192 (time stamp first) or 204 (parity behind)."""
    file.seek(0)
    head = file.read(256)
    length = 188
    if head[4:5] == head[196:197] == b"G":
        length = 192
    elif head[204:205] == b"G" and head[188:189] != b"G":
        length = 204
    return file.seek(0, io.SEEK_END) % length > 0


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
