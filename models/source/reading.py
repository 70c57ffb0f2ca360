"""Frames of any video with the source's own times and frame numbers, read forwards and in chunks."""

import io
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from .animations import AnimationReader
from .colour import resize_rgb
from .containers import ContainerReader
from .info import Losses, Timeline, VideoInfo
from .pictures import JPEG, is_picture
from .sampling import FrameSampling, fit_size

__all__ = ["Frames", "FrameSampling", "VideoInfo", "VideoSource", "fit_size"]

MOST_OF_A_JPEG = 1 << 26
CHUNK_BYTES = 1 << 28
"""A chunk of large pictures holds fewer than asked, so that it stays below this."""


@dataclass(frozen=True, slots=True)
class Frames:
    """T decoded frames.

    Attributes:
        rgb: uint8 [T, H, W, 3].
        pts: float64 [T], presentation times in seconds, as the source gives them.
        index: int64 [T], frame numbers in the source, counted from 0 in presentation order.
    """

    rgb: np.ndarray
    pts: np.ndarray
    index: np.ndarray

    def __len__(self) -> int:
        return len(self.index)


def join_frames(chunks: Iterable[Frames]) -> Frames:
    """All frames of ``chunks`` in one."""
    parts = list(chunks)
    return Frames(*(np.concatenate([getattr(part, name) for part in parts]) for name in Frames.__slots__))


class VideoSource:
    """Where frames come from. Build it with ``open`` or ``from_images``; read it as often as needed.

    Attributes:
        info: what the source says about itself.
        warnings: sentences the user should read, at most one of each kind. The one about damage is there once a
            reading has come to its end.
    """

    def __init__(self, reader, start: float = 0.0, duration: float = 0.0):
        self.reader = reader
        self.start, self.duration = start, duration
        self.info: VideoInfo = reader.info
        self.warnings: list[str] = []
        self._losses = Losses()
        if self.info.interlaced:
            self.warnings.append(
                f"{self.info.name} is interlaced: the two fields of each frame are shown together, and what moves has "
                "combed edges; deinterlace it for clean pictures"
            )
        if self.info.hdr:
            self.warnings.append(
                f"{self.info.name} is HDR: its pictures are taken as they are, without tone mapping, and seem flat"
            )

    @classmethod
    def open(
        cls,
        source: str | os.PathLike | bytes | io.BytesIO,
        *,
        start: float = 0.0,
        duration: float = 0.0,
        name: str | None = None,
        stream: int | None = None,
    ) -> "VideoSource":
        """A video file, or the bytes of one.

        Args:
            source: a path, bytes or BytesIO. Pictures, still or animated, are read by Pillow, all else by FFmpeg.
            start: seconds of the source's own clock at which the trim window begins.
            duration: seconds that the window lasts, 0 for up to the end. A frame belongs to the window when its
                presentation time is in [start, start + duration).
            name: what messages call the source; the file's name if not given.
            stream: index of the video stream; the first that the container marks as default if not given.

        Raises:
            InputError: the file is not there, has no video stream, or no frame of it decodes.
        """
        if not (0 <= start < np.inf and 0 <= duration < np.inf):
            raise InputError(f"the trim window starts at {start:g} s and lasts {duration:g} s; give 0 or more for both")
        if isinstance(source, io.BytesIO):
            source = source.getvalue()
        if isinstance(source, bytes):
            name, head = name or "video in memory", source
        else:
            name = name or Path(source).name
            head = _head(source, name)
        if is_picture(head):
            return cls(AnimationReader(source, name), start, duration)
        return cls(ContainerReader(source, name, stream), start, duration)

    @classmethod
    def from_images(cls, rgb, fps: float, *, name: str = "images") -> "VideoSource":
        """A sequence of pictures: [T, H, W, 3] as uint8 0..255 or floats 0..1, a numpy array or a torch tensor.

        Frame n is shown at n / fps seconds.
        """
        return cls(ImageReader(rgb, fps, name))

    def timeline(self, progress: Progress = no_progress) -> Timeline:
        """Numbers and times of all frames of the source, the trim window aside; the first call reads the file once."""
        return self.reader.timeline(progress)

    def window(self, progress: Progress = no_progress) -> tuple[int, int]:
        """Numbers of the first and the last frame in the trim window. Raises InputError when there is none."""
        timeline = self.timeline(progress)
        end = self.start + self.duration if self.duration else float("inf")
        begin = self.start - 1e-6 if self.start else -np.inf  # a clock may begin below zero
        inside = np.flatnonzero((timeline.pts >= begin) & (timeline.pts < end - 1e-6))
        if not len(inside):
            raise InputError(
                f"no frame of {self.info.name} lies in the trim window from {self.start:g} s to {end:g} s: "
                f"its frames last from {timeline.pts[0]:.3f} s to {timeline.end:.3f} s"
            )
        return int(inside[0]), int(inside[-1])

    def sampled(self, sampling: FrameSampling) -> np.ndarray:
        """The numbers int64 [n] of the frames of the trim window that ``sampling`` selects."""
        first, last = self.window()
        return first + sampling.select(self.timeline().pts[first : last + 1])

    def frames(
        self,
        sampling: FrameSampling | None = None,
        size: tuple[int, int] | None = None,
        chunk: int = 32,
        progress: Progress = no_progress,
    ) -> Iterator[Frames]:
        """Yield the sampled frames of the trim window forwards, at most ``chunk`` at a time.

        Args:
            sampling: which frames; two a second if not given.
            size: (H, W) of the pictures; as displayed if not given.
            chunk: frames held at once, fewer for pictures so large that they would take more than 256 MiB.
            progress: called for every decoded frame, with the frames of the window as the total.

        A sampled frame that is lost to damage is replaced by the next one that decodes before the following sample.

        Raises:
            InputError: nothing lies in the trim window, or none of it decodes.
        """
        timeline = self.timeline(progress)
        first, last = self.window()
        wanted = self.sampled(sampling or FrameSampling())
        size = tuple(size or (self.info.height, self.info.width))
        chunk = max(1, min(chunk, CHUNK_BYTES // (size[0] * size[1] * 3)))
        losses = Losses()
        rgb, numbers, position, total = [], [], 0, 0
        for number, picture in self.reader.decode(wanted, (first, last), losses, progress):
            if position == len(wanted) or number < wanted[position]:
                continue
            rgb.append(picture(size))
            numbers.append(number)
            position = int(np.searchsorted(wanted, number, side="right"))
            if len(rgb) == chunk:
                total += chunk
                yield _frames(rgb, numbers, timeline)
                rgb, numbers = [], []
        if rgb:
            yield _frames(rgb, numbers, timeline)
        if not total + len(rgb):
            raise InputError(f"no frame of {self.info.name} in the trim window can be decoded: all are damaged")
        self._report(losses, timeline, first, last)
        progress(last - first + 1, last - first + 1)

    def read(
        self,
        sampling: FrameSampling | None = None,
        size: tuple[int, int] | None = None,
        progress: Progress = no_progress,
    ) -> Frames:
        """All sampled frames at once; arguments and errors as in ``frames``."""
        return join_frames(self.frames(sampling, size, progress=progress))

    def _report(self, losses: Losses, timeline: Timeline, first: int, last: int):
        """Leave the one warning about what was lost in the trim window."""
        window_end = self.start + self.duration if self.duration else float("inf")
        if last == len(timeline.pts) - 1 and timeline.missing and window_end > timeline.end:
            room = (window_end - timeline.end) / timeline.frame_duration
            losses.add_missing(timeline.end, int(max(1, min(timeline.missing, room))), timeline.missing_exactly)
        for time, count in timeline.holes:
            if (first == 0 or timeline.pts[first] < time) and time < timeline.pts[last]:
                losses.add(time, count)
        if timeline.mistimed is not None and timeline.pts[first] <= timeline.mistimed <= timeline.pts[last]:
            losses.mistimed = timeline.mistimed
        # A reading that decodes more may find more; the fullest account is kept.
        if losses.extent > self._losses.extent:
            self.warnings[:] = [w for w in self.warnings if w != self._losses.sentence(self.info.name)]
            self.warnings.append(losses.sentence(self.info.name))
            self._losses = losses


class ImageReader:
    """Pictures that are already in memory."""

    def __init__(self, rgb, fps: float, name: str):
        shape = tuple(rgb.shape)
        if len(shape) != 4 or shape[3] != 3 or 0 in shape:
            raise InputError(f"{name} have the shape {list(shape)}; give pictures as [frames, height, width, 3]")
        if not 0 < fps < float("inf"):
            raise InputError(f"{name} are given at {fps:g} frames per second; give a rate above 0")
        self.rgb = rgb
        count, height, width = shape[:3]
        self._timeline = Timeline(np.arange(count) / fps, 0, True, 1 / fps, count / fps)
        self.info = VideoInfo(name, "images", width, height, fps, count, count / fps, coded_size=(height, width))

    def timeline(self, progress: Progress = no_progress) -> Timeline:
        return self._timeline

    def decode(self, wanted: np.ndarray, window: tuple[int, int], losses: Losses, progress: Progress = no_progress):
        for number in wanted.tolist():
            progress(number - window[0], window[1] - window[0] + 1)
            yield number, partial(self._picture, number)

    def _picture(self, number: int, size: tuple[int, int]) -> np.ndarray:
        picture = np.asarray(self.rgb[number])
        if picture.dtype != np.uint8:
            picture = (picture.astype(np.float32).clip(0, 1) * 255 + 0.5).astype(np.uint8)
        return resize_rgb(picture, size)


def _frames(rgb: list, numbers: list, timeline: Timeline) -> Frames:
    index = np.array(numbers, np.int64)
    return Frames(np.stack(rgb), timeline.pts[index].astype(np.float64), index)


def _head(path: str | os.PathLike, name: str) -> bytes:
    """The first 16 bytes of a file; of a JPEG so many that the next picture of a Motion JPEG would be among them."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            return head + file.read(MOST_OF_A_JPEG) if head.startswith(JPEG) else head
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from error
