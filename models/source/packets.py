"""What the packets of a container tell before anything is decoded: every frame's number and time, and what lacks."""

from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from ..progress import Progress
from .clocks import Clock, Stamps, read_clock
from .damaged_times import mend_times
from .frame_headers import FrameHeader, header_reader
from .info import Timeline
from .structure import is_continuous
from .truncation import FROM_ZERO, holes, missing_frames

MAX_READ_FAILURES = 16
"""Failed reads in a row after which a damaged container is taken to be at its end."""

SCAN_REPORT = 256
"""Packets between two reports of progress."""

LARGEST_STAMP = 10**15
"""Time stamps beyond this are damage; they would not fit into a float64 to the tick."""

DTS_ONLY = ("avi", "asf")
"""Containers without presentation times: what FFmpeg gives as such is guessed for some codecs."""

B_LAST = ("mpeg1video", "mpeg2video", "mpeg4")
"""Codecs in which only B frames are shown before what is stored before them."""


@dataclass(frozen=True, slots=True)
class PacketTable:
    """The P video packets of a file in the order in which they are stored (decoding order).

    Attributes:
        number: int64 [P], the frame that the packet decodes to, -1 where it shows nothing.
        entry: bool [P], True where decoding can begin and gives what decoding from the beginning gives.
        reference: bool [P], False where no other frame is predicted from this one; True where that is not known.
        size: int64 [P], bytes.
        pts: float64 [P], presentation times in units of the time base, NaN where there is none.
        counted: True when the packets do not tell in which order frames are shown: frame n is the n-th decoded, and of
            ``number`` only the sign counts.
        torn: True when the container marks a packet as incomplete.
    """

    number: np.ndarray
    entry: np.ndarray
    reference: np.ndarray
    size: np.ndarray
    pts: np.ndarray
    counted: bool
    torn: bool

    def __len__(self) -> int:
        return len(self.number)

    def needed(self, wanted: np.ndarray) -> np.ndarray:
        """bool [P]: the packets to decode for the frames numbered ``wanted``: what each may be predicted from.

        These are the references from the last entry on that is not shown after the frame: one that is belongs to
        the next group. All packets where frames are only identified by counting.
        """
        needed = np.full(len(self), self.counted)
        if self.counted:
            return needed
        shown = np.flatnonzero(self.number >= 0)
        position = shown[np.argsort(self.number[shown])]
        entries = shown[self.entry[shown]]
        for frame in wanted:
            at = position[frame]
            before = entries[: np.searchsorted(entries, at, side="right")]
            before = before[self.number[before] <= frame]
            begin = before[-1] if len(before) else 0
            needed[begin:at] |= self.reference[begin:at]
            needed[at] = True
        return needed

    def from_frame(self, first: int) -> np.ndarray:
        """bool [P]: all packets from the last entry on that gives frame ``first`` and those after it."""
        later = np.flatnonzero(self.number >= first)
        entries = np.flatnonzero(self.entry[: later[0] + 1] & (self.number[: later[0] + 1] >= 0))
        entries = entries[self.number[entries] <= first]
        begin = entries[-1] if len(entries) and not self.counted else 0
        return np.arange(len(self)) >= begin


def read_packets(container, streams) -> Iterator[av.Packet]:
    """The packets of ``streams`` up to the end of the file, continuing after damage."""
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
    """Read all packets of ``stream`` without decoding. None where none of them shows anything.

    Args:
        container, stream: opened by PyAV.
        file: the same bytes, open for reading, in which the container may say how long it should be.
    """
    headers: list[FrameHeader] = []
    pts, dts, key, size, duration, discarded = [], [], [], [], [], []
    read_header = header_reader(stream)
    last_end, torn = 0.0, False
    for packet in read_packets(container, None):
        if packet.pts is not None:
            last_end = max(last_end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index:
            continue
        headers.append(read_header(bytes(packet), packet.is_keyframe))
        pts.append(_stamp(packet.pts))
        dts.append(_stamp(packet.dts))
        key.append(packet.is_keyframe)
        size.append(packet.size)
        discarded.append(packet.is_discard)
        torn |= packet.is_corrupt
        duration.append(packet.duration or 0)
        if len(pts) % SCAN_REPORT == 1:
            progress(0, max(stream.frames, len(pts)))
    shown = np.array([header.shown for header in headers], bool) & ~np.array(discarded, bool)
    if not shown.any():
        return None

    kind = container.format.name
    stamps = Stamps(
        pts=np.array(pts),
        dts=np.array(dts),
        shown=shown,
        key=np.array(key, bool),
        reorders=any(header.bidirectional for header in headers),
        b_last=_b_frames(headers, stream),
        dts_only=kind in DTS_ONLY,
    )
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    stated = container.duration / av.time_base if kind in FROM_ZERO and container.duration else None

    def breaks_off() -> bool:
        return not is_continuous(kind, file, stream.id)

    clean, mended = mend_times(stamps, stream.time_base, stated, breaks_off)
    clock = read_clock(clean, stream.time_base, rate, breaks_off)
    table = _table(headers, stamps, clock, np.array(size), torn)
    seconds = clock.seconds
    end = float(seconds[-1]) + (float(duration[int(np.argmax(clock.number))] * stream.time_base) or 1 / rate)
    missing, exactly = missing_frames(container, stream, clean, max(last_end, end), file)
    lost = tuple(holes(container, stream, clean, clock, file))
    mistimed = None if mended is None else float(seconds[max(0, clock.number[mended])])
    return table, Timeline(seconds, missing, exactly, 1 / rate, end, lost, mistimed)


def _stamp(ticks: int | None) -> float:
    return float("nan") if ticks is None or abs(ticks) > LARGEST_STAMP else float(ticks)


def _b_frames(headers: list[FrameHeader], stream) -> np.ndarray | None:
    b_frame = np.array([header.bidirectional for header in headers], bool)
    referenced = np.array([header.reference for header in headers], bool)
    simple = stream.codec_context.codec.canonical_name in B_LAST and not (b_frame & referenced).any()
    return b_frame if simple else None


def _table(headers: list[FrameHeader], stamps: Stamps, clock: Clock, size: np.ndarray, torn: bool) -> PacketTable:
    """The table, with entries only where the decoder begins with the setup that holds throughout the file."""
    setups = {header.setup for header in headers} - {b""}
    entry = np.array([header.entry and len(setups) < 2 and bool(header.setup) == bool(setups) for header in headers])
    reference = np.array([header.reference or len(setups) > 1 for header in headers])
    return PacketTable(clock.number, entry, reference, size, stamps.pts, clock.counted, torn)
