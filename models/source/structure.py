"""Whether the parts of a container follow each other without a break, from its own bytes.

FFmpeg continues after damage in silence. A recording that pauses is the same from its times alone, so holes
are only searched in files whose structure is broken.
"""

import io

import numpy as np

EBML, SEGMENT, CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675

MATROSKA_TOP = (0x114D9B74, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1254C367, 0x1941A469, 0x1043A770, 0xEC, 0xBF)
"""Elements beside the clusters of a segment (RFC 9559, section 5.1): SeekHead to Chapters, Void and CRC-32."""

MATROSKA_INNER = (0xE7, 0xA3, 0xA0, 0xAB, 0xA7, 0xAF, 0x5854, 0xEC, 0xBF)
"""Elements of a cluster."""

TRANSPORT_CHUNK = 1 << 15
"""Packets of MPEG-TS read together."""


def is_continuous(kind: str, file, pid: int = 0) -> bool:
    """False where the structure of a file breaks off; True also for containers that are not read into.

    Args:
        kind: FFmpeg's name of the container.
        file: open for reading in binary mode.
        pid: of MPEG-TS, the stream whose packets are counted.
    """
    if kind == "mpegts":
        return _transport_stream(file, pid)
    if kind == "mpeg":
        return program_stream_end(file) == file.seek(0, io.SEEK_END)
    walk = {"matroska,webm": _matroska, "flv": _flv}.get(kind)
    return walk is None or walk(file)


def _matroska(file) -> bool:
    size, at, inside = file.seek(0, io.SEEK_END), 0, False
    while at < size:
        name, length, at = _element(file, at)
        if name in (EBML, SEGMENT, CLUSTER):
            # A new file may begin after the end of another; only the header of EBML has no parts of interest.
            inside = name == CLUSTER
            at += length or 0 if name == EBML else 0
        elif name in MATROSKA_TOP or inside and name in MATROSKA_INNER:
            if length is None:
                return False
            at += length
        else:
            return False
    return at == size


def _element(file, at: int) -> tuple[int, int | None, int]:
    """(name, length or None where unknown, where the content begins) of an EBML element (RFC 8794); name 0 for none."""
    file.seek(at)
    head = file.read(12)
    name_width = 9 - head[0].bit_length()
    if name_width > 4 or len(head) <= name_width or not head[name_width]:
        return 0, None, at
    width = 9 - head[name_width].bit_length()
    unknown = (1 << 7 * width) - 1
    length = int.from_bytes(head[name_width : name_width + width], "big") & unknown
    name = int.from_bytes(head[:name_width], "big")
    return name, None if length == unknown else length, at + name_width + width


def _flv(file) -> bool:
    """Adobe Flash Video File Format 10.1, annex E: tags of 11 bytes and their data, each followed by its size."""
    size, at = file.seek(0, io.SEEK_END), 9
    file.seek(at)
    previous = 0
    while at < size:
        head = file.read(15)
        if int.from_bytes(head[:4], "big") != previous:
            return False
        if len(head) == 4:
            return True
        length = int.from_bytes(head[5:8], "big")
        if len(head) < 15 or head[4] & 31 not in (8, 9, 18):
            return False
        previous = 11 + length
        at = file.seek(at + 4 + previous)
    return False


def program_stream_end(file) -> int:
    """Where the last part of an MPEG program stream should end, or the byte at which its structure breaks off.

    ISO/IEC 13818-1, 2.5.3, and 11172-1: packs, system headers and PES packets, zeros between them allowed.
    """
    size, at = file.seek(0, io.SEEK_END), 0
    while at < size:
        file.seek(at)
        head = file.read(14)
        if head[:4] in (b"\0\0\1\xb9", b"\0" * 4) or not head.strip(b"\0"):
            at += 4 if head[3:4] == b"\xb9" else 1
        elif head[:4] == b"\0\0\1\xba":
            at += 14 + (head[13] & 7) if len(head) == 14 and head[4] >> 6 == 1 else 12
        elif head[:3] == b"\0\0\1" and head[3:4] >= b"\xbb" and len(head) >= 6:
            at += 6 + int.from_bytes(head[4:6], "big")
        else:
            return at
    return at


def _transport_stream(file, pid: int) -> bool:
    """ISO/IEC 13818-1, 2.4.3: sync bytes, and the counter of packets with payload; a loss of just 16 escapes it."""
    length, before = transport_packet_length(file), None
    file.seek(0)
    sync = 4 if length == 192 else 0
    while data := file.read(length * TRANSPORT_CHUNK):
        packets = np.frombuffer(data, np.uint8)[: len(data) // length * length].reshape(-1, length)[:, sync : sync + 6]
        if (packets[:, 0] != 0x47).any():
            return False
        own = packets[(packets[:, 1] & 31).astype(int) << 8 | packets[:, 2] == pid]
        own = own[(own[:, 3] & 0x10) > 0]
        counts = own[:, 3] & 15
        announced = ((own[:, 3] & 0x20) > 0) & (own[:, 4] > 0) & ((own[:, 5] & 0x80) > 0)
        steps = np.diff(counts, prepend=counts[:1] if before is None else before) & 15
        if ((steps > 1) & ~announced).any():
            return False
        before = counts[-1:] if len(counts) else before
    return True


def transport_packet_length(file) -> int:
    """188 bytes, or 192 (time stamp first), or 204 (parity at the end)."""
    file.seek(0)
    head = file.read(256)
    if head[4:5] == head[196:197] == b"G":
        return 192
    return 204 if head[204:205] == b"G" and head[188:189] != b"G" else 188
