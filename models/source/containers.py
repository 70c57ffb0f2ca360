"""Frames out of video containers (MP4, Matroska, WebM, AVI, MPEG-TS, ...) with FFmpeg, through PyAV."""

import io
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import av
import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from .colour import Orientation, to_rgb
from .info import Losses, Timeline, VideoInfo
from .packets import read_packets, scan

DEFAULT, ATTACHED_PICTURE = 0x1, 0x400
"""AV_DISPOSITION_DEFAULT and AV_DISPOSITION_ATTACHED_PIC, libavformat/avformat.h."""

HDR_TRANSFERS = (16, 18)
"""AVCOL_TRC_SMPTE2084 (PQ) and AVCOL_TRC_ARIB_STD_B67 (HLG), libavutil/pixfmt.h."""

WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read opacities."""


class ContainerReader:
    """One video stream of a file or of bytes, decoded forwards.

    The stream is the first one that the container marks as default, cover art aside (FFmpeg's own choice would depend
    on bit rates), or ``stream`` by its index. Raises InputError when there is none or no frame of it decodes.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str, stream: int | None = None):
        self.source, self.name = source, name
        with self.open() as container:
            chosen = self._choose(container, stream)
            self.stream = chosen.index
            first = self._first_frame(container, chosen)
            self.orientation = Orientation.of(first)
            # The fourth byte of uncompressed pixels in AVI is undefined.
            self.alpha = (container.format.name, chosen.codec_context.name) != ("avi", "rawvideo")
            self.info = self._describe(container, chosen, first)
        self.table = self._timeline = None

    @contextmanager
    def open(self):
        """The container, opened anew; closed on leaving."""
        try:
            # With its protocol in front, no name of a file is taken for an address.
            file = self._bytes() if isinstance(self.source, bytes) else f"file:{os.fspath(self.source)}"
            container = av.open(file, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            raise InputError(f"{self.name} cannot be opened as a video: {_reason(error)}") from error
        with container:
            yield container

    def _bytes(self):
        return io.BytesIO(self.source) if isinstance(self.source, bytes) else open(self.source, "rb")

    def timeline(self, progress: Progress = no_progress) -> Timeline:
        """All frame numbers and times, from the packets alone, without decoding; read once and kept."""
        if self._timeline is None:
            with self.open() as container, self._bytes() as file:
                scanned = scan(container, container.streams[self.stream], file, progress)
            if scanned is None:
                raise InputError(f"{self.name} holds no frame in its video stream; give a file that is not empty")
            self.table, self._timeline = scanned
        return self._timeline

    def decode(self, wanted: np.ndarray, window: tuple[int, int], losses: Losses, progress: Progress = no_progress):
        """Yield (frame number, callable that gives upright RGB for a size) for those that decode among ``wanted``.

        Only what those need is decoded. Frames that fail, or that the decoder marks as damaged, go to ``losses``. At
        the first sign of damage everything in ``window`` (first and last frame number) is decoded and given, on one
        thread, so that what is concealed and what is reported depends neither on timing nor on the sampling.
        """
        first, last = window
        for number, frame in self.decode_frames(first, last, losses, wanted=wanted):
            progress(number - first, last - first + 1)
            yield number, partial(to_rgb, frame, orientation=self.orientation, alpha=self.alpha)

    def decode_frames(
        self, first: int, last: int, losses: Losses, options: dict | None = None, wanted: np.ndarray | None = None
    ) -> Iterator[tuple]:
        """Yield (frame number, av.VideoFrame) of what decodes among first..last; ``options`` go to the decoder.

        With ``wanted``, frames that those do not need are left out and are not lost, unless the packets alone show that
        the file is torn.
        """
        timeline = self.timeline()
        decodes = np.zeros(len(timeline.pts), bool)
        done, quick = first - 1, True
        while True:
            everything = not quick or wanted is None or self.table.torn or timeline.missing or timeline.holes
            feed = self.table.from_frame(first) if everything else self.table.needed(wanted)
            run = _Pass(self, feed, last, quick, options)
            for number, frame in run:
                decodes[number] = True
                if number > done:
                    done = number
                    yield number, frame
            if run.misplaced:
                # Its presentation times are none: frames are counted, in this reading and in all later ones.
                self.table = replace(self.table, counted=True)
                decodes[:] = False
                continue
            expected = self.table.number[feed]
            expected = expected[(expected >= first) & (expected <= last)]
            if quick and decodes[expected].all():
                return
            if not quick:
                break
            quick = False
        for number in first + np.flatnonzero(~decodes[first : last + 1]):
            losses.add(float(timeline.pts[number]))

    def _choose(self, container, index):
        streams = [s for s in container.streams.video if s.codec_context is not None]
        pictures = [s for s in streams if not s.disposition.value & ATTACHED_PICTURE]
        if index is not None:
            chosen = [s for s in streams if s.index == index]
        else:
            chosen = [s for s in pictures if s.disposition.value & DEFAULT] or pictures
        if not chosen:
            kinds = ", ".join(f"{s.index} {s.type}" for s in container.streams) or "none"
            wanted = "no video stream" if index is None else f"no video stream {index}"
            raise InputError(f"{self.name} has {wanted}: its streams are {kinds}")
        return chosen[0]

    def _first_frame(self, container, stream):
        decoder = decoder_of(stream)
        decoder.thread_type = "SLICE"
        last_error = None
        for frames in decoded(decoder, itertools.chain(read_packets(container, stream), [None])):
            if isinstance(frames, Exception):
                last_error = frames
            elif frames:
                return frames[0]
        reason = _reason(last_error) if last_error else "its video stream is empty"
        raise InputError(f"no frame of {self.name} can be decoded: {reason}")

    def _describe(self, container, stream, frame) -> VideoInfo:
        aspect = float(stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio or 1)
        width, height = max(1, round(frame.width * aspect)), frame.height
        if self.orientation.transpose:
            width, height = height, width
        duration = float(stream.duration * stream.time_base) if stream.duration else None
        if duration is None and container.duration:
            duration = container.duration / av.time_base
        return VideoInfo(
            name=self.name,
            codec=stream.codec_context.codec.canonical_name,
            width=width,
            height=height,
            fps=float(stream.average_rate or stream.guessed_rate or 25),
            frame_count=stream.frames or None,
            duration=duration,
            rotation=frame.rotation,
            sample_aspect_ratio=aspect,
            bit_depth=max(component.bits for component in frame.format.components),
            hdr=stream.codec_context.color_trc in HDR_TRANSFERS,
            coded_size=(frame.height, frame.width),
            stream=stream.index,
            interlaced=frame.interlaced_frame,
        )


class _Pass:
    """One run of the decoder, over the packets marked in ``feed`` and up to the frame numbered ``last``.

    Quick: on several threads and up to the first sign of damage. Otherwise everything on one thread.

    Attributes:
        misplaced: True where the decoder gives frames in another order than their times say; the run ends there.
    """

    def __init__(self, reader: "ContainerReader", feed: np.ndarray, last: int, quick: bool, options: dict | None):
        self.reader, self.table, self.feed, self.last, self.quick = reader, reader.table, feed, last, quick
        self.options = options or {}
        self.misplaced = False

    def __iter__(self) -> Iterator[tuple]:
        """Yield (frame number, av.VideoFrame), ascending."""
        with self.reader.open() as container:
            stream = container.streams[self.reader.stream]
            begin = self._seek(container, stream)
            if begin is not None:
                yield from self._frames(container, stream, begin)
                return
        with self.reader.open() as container:
            yield from self._frames(container, container.streams[self.reader.stream], 0)

    def _seek(self, container, stream) -> int | None:
        """Go near the first packet to feed and return the position of the packet read next, None where that failed.

        MPEG-TS and damaged files have no index to go by: where it landed is known by time and size of the packet.
        """
        wanted = int(np.argmax(self.feed))
        if wanted == 0:
            return 0
        if np.isnan(self.table.pts[wanted]):
            return None
        target = int(self.table.pts[wanted])
        try:
            container.seek(target, stream=stream)
            landed = next(read_packets(container, stream), None)
            container.seek(target, stream=stream)
        except av.error.FFmpegError:
            return None
        if landed is None or landed.pts is None:
            return None
        found = np.flatnonzero((self.table.pts == landed.pts) & (self.table.size == landed.size))
        return int(found[0]) if len(found) == 1 and found[0] <= wanted else None

    def _packets(self, container, stream, position: int) -> Iterator[av.Packet | None]:
        """The packets to decode, each with its position for a time, and None where the decoder has to begin anew."""
        begun = gap = False
        for packet in read_packets(container, stream):
            if position == len(self.table) or packet.size != self.table.size[position]:
                break
            if self.feed[position]:
                if begun and gap:
                    yield None
                begun, gap = True, False
                # Every decoder hands the time of a packet on to its frame, whatever it means.
                packet.pts = position
                yield packet
            else:
                gap |= bool(self.table.reference[position])
            position += 1
        yield None

    def _frames(self, container, stream, begin: int) -> Iterator[tuple]:
        decoder = decoder_of(stream)
        decoder.thread_type = "AUTO" if self.quick else "SLICE"
        if not self.quick:
            decoder.thread_count = 1
        decoder.options = self.options
        count, previous = 0, -1
        for frames in decoded(decoder, self._packets(container, stream, begin)):
            if isinstance(frames, Exception):
                if self.quick:
                    return
                count += 1
                continue
            for frame in frames:
                number = count if self.table.counted or frame.pts is None else int(self.table.number[frame.pts])
                count += 1
                if number < 0 or number == previous:
                    continue
                if number < previous:
                    self.misplaced = True
                    return
                previous = number
                if number > self.last:
                    return
                if frame.is_corrupt and self.quick:
                    return
                yield number, frame


def decoder_of(stream):
    """The codec context that decodes ``stream``: FFmpeg's own choice, but for VP8 and VP9 with opacities.

    These come as a second picture beside each packet (WebM, alpha_mode), which only libvpx reads.
    """
    alone = WITH_ALPHA.get(stream.codec_context.name)
    if alone is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        return av.CodecContext.create(alone, "r")
    except av.codec.codec.UnknownCodecError:
        return stream.codec_context


def decoded(decoder, packets) -> Iterator[list | Exception]:
    """For each of ``packets`` its list of frames or the error that it raised; None empties the decoder."""
    for packet in packets:
        try:
            yield decoder.decode(packet)
        except av.error.FFmpegError as error:
            yield error
        if packet is None:
            decoder.flush_buffers()


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[0].lower() + text[1:] if text else type(error).__name__
