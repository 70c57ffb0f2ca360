"""What the packets of a container tell before anything is decoded: every frame's number and time, and what lacks."""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from ..progress import Progress
from .frame_headers import h264_length_bytes, is_entry, is_reference, is_shown
from .info import Timeline
from .truncation import holes, missing_frames

MAX_READ_FAILURES = 16
"""Failed reads in a row after which a damaged container is taken to be at its end."""

SCAN_REPORT = 256
"""Packets between two reports of progress."""


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The video packets of a file in the order in which they are stored (decoding order).

    Attributes:
        number: int64 [P], the frame that the packet decodes to, -1 where it shows nothing.
        key: bool [P], True where decoding can begin.
        pts: int64 [N] ascending, the frames' times in units of the stream's time base; None where the file has no
            usable times and frames are told apart by counting.
        size: int64 [P], bytes.
        reference: bool [P], False where no other frame is predicted from this one; True where that is not known.
        torn: True when the container marks a packet as incomplete.
    """

    number: np.ndarray
    key: np.ndarray
    pts: np.ndarray | None
    size: np.ndarray
    reference: np.ndarray
    torn: bool

    def number_of(self, pts: int | None) -> int | None:
        """The number of the frame shown at ``pts``, None where no packet announced one."""
        if pts is None:
            return None
        at = int(np.searchsorted(self.pts, pts))
        return at if at < len(self.pts) and self.pts[at] == pts else None

    def needed(self, wanted: np.ndarray) -> np.ndarray:
        """bool [N]: the frames to decode for those numbered ``wanted``: what each of them may be predicted from.

        These are the reference frames from the last key frame on, pictures shown before the key frame aside: they
        belong to the group before it. All frames where they are only told apart by counting.
        """
        shown = self.number >= 0
        number, reference = self.number[shown], self.reference[shown]
        needed = np.full(len(number), self.pts is None)
        position = np.argsort(number)
        keys = np.flatnonzero(self.key[shown])
        for frame in wanted:
            at = position[frame]
            before = keys[: np.searchsorted(keys, at, side="right")]
            before = before[number[before] <= frame]
            begin = before[-1] if len(before) else 0
            group = number[begin : at + 1][reference[begin : at + 1]]
            needed[group[group >= number[begin]] if len(before) else group] = True
            needed[frame] = True
        return needed


def read_packets(container, streams) -> Iterator[av.Packet]:
    """The packets of ``streams`` up to the end of the file, going on behind damaged places."""
    failures = 0
    while failures < MAX_READ_FAILURES:
        try:
            for packet in container.demux(streams):
                failures = 0
                if packet.size:
                    yield packet
            return
        except (av.error.FFmpegError, IndexError):
            # IndexError is PyAV's answer to the packet of a stream that a damaged MPEG-TS announces half-way.
            failures += 1


def scan(container, stream, file, progress: Progress) -> tuple[PacketTable, Timeline] | None:
    """Read all packets of ``stream`` without decoding. None where there are none.

    Times are usable when every packet has one and no two are equal. Otherwise (AVI with B frames, raw streams) frame n
    has the n-th smallest decoding time, or n / rate where even those are missing, both counted from zero.

    Args:
        container, stream: opened by PyAV.
        file: the same bytes, open for reading, in which the container may say how long it should be.
    """
    pts, dts, key, shown, lasts, size, reference = [], [], [], [], [], [], []
    codec = stream.codec_context.codec.canonical_name
    length_bytes = h264_length_bytes(stream.codec_context.extradata)
    last_end, torn = 0.0, False
    for packet in read_packets(container, None):
        if packet.pts is not None:
            last_end = max(last_end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        pts.append(packet.pts)
        dts.append(packet.dts)
        torn |= packet.is_corrupt
        key.append(packet.is_keyframe and is_entry(codec, packet, length_bytes))
        lasts.append(packet.duration or 0)
        size.append(packet.size)
        reference.append(is_reference(codec, packet, length_bytes))
        shown.append(not packet.is_discard and is_shown(codec, packet))
        if len(pts) % SCAN_REPORT == 1:
            progress(0, max(stream.frames, len(pts)))
    shown = np.array(shown, bool)
    if not shown.any():
        return None

    rate = float(stream.average_rate or stream.guessed_rate or 25)
    number, shown_pts, seconds = _number(pts, dts, shown, stream.time_base, rate)
    table = PacketTable(number, np.array(key, bool), shown_pts, np.array(size), np.array(reference), torn)
    end = float(seconds[-1]) + (float(lasts[int(np.argmax(number))] * stream.time_base) or 1 / rate)
    missing, exactly = missing_frames(container, stream, len(pts), max(last_end, end), file)
    timeline = Timeline(seconds, missing, exactly, 1 / rate, end, tuple(holes(container, seconds)))
    return table, timeline


def _number(pts, dts, shown, tick, rate):
    number = np.full(len(shown), -1, np.int64)
    known = [t for t, s in zip(pts, shown, strict=True) if s]
    if None not in known and len(set(known)) == len(known):
        known = np.array(known, np.int64)
        order = np.argsort(known)
        number[np.flatnonzero(shown)[order]] = np.arange(len(known))
        return number, known[order], _seconds(known[order], tick)
    count = int(shown.sum())
    number[shown] = np.arange(count)
    slots = [t for t, s in zip(dts, shown, strict=True) if s]
    if None not in slots and len(set(slots)) == count:
        slots = np.sort(np.array(slots, np.int64))
        return number, None, _seconds(slots - slots[0], tick)
    return number, None, np.arange(count) / rate


def _seconds(ticks: np.ndarray, time_base) -> np.ndarray:
    # Multiplied before dividing: 19 / 10 and not 19 * 0.1.
    return ticks * float(time_base.numerator) / time_base.denominator
