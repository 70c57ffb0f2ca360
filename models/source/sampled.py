"""A video with the frames of it that are sampled, which are decoded once where memory allows."""

import time
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from ..progress import Progress, no_progress
from .reading import Frames, VideoSource
from .sampling import FrameSampling

HELD_BYTES = 256 << 20
"""Decoded frames up to this much, of all videos together, are held to be read again."""


@dataclass(frozen=True, eq=False)
class SampledVideo:
    """Which frames of which video, at what size. Nothing is decoded until it is read.

    Attributes:
        source: where frames come from.
        sampling: which of them.
        size: (H, W) in pixels that they are resized to.
    """

    source: VideoSource
    sampling: FrameSampling
    size: tuple[int, int]

    @property
    def name(self) -> str:
        """What the video is called in messages."""
        return self.source.info.name

    def frames(self, chunk: int = 32, progress: Progress = no_progress) -> Iterator[Frames]:
        """Yield the sampled frames forwards, at most ``chunk`` at a time; see :meth:`.reading.VideoSource.frames`.

        The first reading to its end holds the frames, where they fit ``HELD_BYTES``; later ones do not decode again.
        """
        held = _HELD.get(self)
        if held is None:
            chunks = self.source.frames(self.sampling, self.size, chunk, progress)
            self.source.timeline(progress)
            most = len(self.source.sampled(self.sampling)) * self.size[0] * self.size[1] * 3
            yield from _holding(self, chunks) if most <= HELD_BYTES else chunks
            return
        for frames in held:
            for start in range(0, len(frames), chunk):
                span = slice(start, start + chunk)
                yield Frames(frames.rgb[span], frames.pts[span], frames.index[span])


class TimedFrames:
    """The frames of a video, to be read as often as needed, and the seconds that reading took in all."""

    def __init__(self, video: SampledVideo, chunk: int = 32, progress: Progress = no_progress):
        self.video, self.chunk, self.progress = video, chunk, progress
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Frames]:
        chunks = self.video.frames(self.chunk, self.progress)
        while True:
            began = time.perf_counter()
            chunk = next(chunks, None)
            self.seconds += time.perf_counter() - began
            if chunk is None:
                return
            yield chunk


class _Held:
    """Decoded frames by their video, the least recently read dropped first; forgotten with the video."""

    def __init__(self):
        self.chunks: OrderedDict[int, list[Frames]] = OrderedDict()

    def get(self, video: SampledVideo) -> list[Frames] | None:
        if id(video) in self.chunks:
            self.chunks.move_to_end(id(video))
        return self.chunks.get(id(video))

    def add(self, video: SampledVideo, chunks: list[Frames]) -> None:
        self.chunks[id(video)] = chunks
        weakref.finalize(video, self.chunks.pop, id(video), None)
        while sum(map(_bytes, self.chunks.values())) > HELD_BYTES:
            self.chunks.popitem(last=False)


_HELD = _Held()


def _holding(video: SampledVideo, chunks: Iterator[Frames]) -> Iterator[Frames]:
    """Pass ``chunks`` on and hold them when the last is read."""
    held = []
    for chunk in chunks:
        held.append(chunk)
        yield chunk
    _HELD.add(video, held)


def _bytes(chunks: list[Frames]) -> int:
    return sum(chunk.rgb.nbytes for chunk in chunks)
