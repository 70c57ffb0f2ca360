"""Frames of animated GIF, WebP, AVIF and PNG files, and still pictures as clips of one frame, through Pillow."""

import contextlib
import os
from functools import partial

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from .colour import resize_rgb
from .info import Losses, Timeline, VideoInfo
from .pictures import DECODER_ERRORS, Picture, decoding, open_picture, read_file, require_memory, to_rgb
from .truncation import gif_ends_well

TOO_SHORT_DELAY = 10
DEFAULT_DELAY = 100
"""Milliseconds. Browsers show a frame that asks for the first or less for the second; so do we."""

ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
"""Formats whose further pictures follow the first in time; those of other formats are pages or previews."""


class AnimationReader:
    """The frames of an animated picture. A still picture is an animation of one frame.

    Reading stops at the first frame that does not decode, because later ones are painted over it; the file's length and
    frame count tell how many were lost. Raises InputError when not even the first frame decodes.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str):
        data = source if isinstance(source, bytes) else read_file(source)
        self.data, missing = whole_frames(data)
        self.name = name
        picture = self._open()
        image, (height, width), coded_size = picture.image, picture.size, picture.image.size[::-1]
        with decoding(name):
            animated = getattr(image, "is_animated", False)
        require_memory(image, name, animated)
        delays, damaged = [], 0
        try:
            with decoding(name), contextlib.suppress(EOFError):
                while not delays or image.format in ANIMATED:
                    image.seek(len(delays))
                    image.load()
                    delays.append(image.info.get("duration", 0))
        except InputError:
            if not delays:
                raise
            damaged = 1
        lost = max(damaged, self._announced() - len(delays)) if image.format in ANIMATED else 0
        if not delays:
            raise InputError(f"no frame of {name} can be decoded: it ends before its first picture")
        delays = np.array([delay if delay > TOO_SHORT_DELAY else DEFAULT_DELAY for delay in delays])
        starts = np.concatenate([[0.0], np.cumsum(delays)]) / 1000
        self._timeline = Timeline(
            starts[:-1], max(missing, lost), False, float(delays.mean()) / 1000, float(starts[-1])
        )
        self.info = VideoInfo(
            name=name,
            codec=image.format.lower(),
            width=width,
            height=height,
            fps=1000 / float(delays.mean()),
            frame_count=len(delays),
            duration=float(starts[-1]),
            coded_size=coded_size,
        )

    def timeline(self, progress: Progress = no_progress) -> Timeline:
        """Numbers and times of the frames that decode."""
        return self._timeline

    def decode(self, wanted: np.ndarray, window: tuple[int, int], losses: Losses, progress: Progress = no_progress):
        """Yield (frame number, callable that gives RGB for a size) for the frames ``wanted``."""
        picture = self._open()
        for number in wanted.tolist():
            progress(number - window[0], window[1] - window[0] + 1)
            with decoding(self.name):
                picture.image.seek(number)
                picture.image.load()
            yield number, partial(self._shown, picture)

    def _shown(self, picture: Picture, size: tuple[int, int]) -> np.ndarray:
        with decoding(self.name):
            return resize_rgb(to_rgb(picture.image, picture.orientation, size), size)

    def _open(self) -> Picture:
        return open_picture(self.data, self.name)

    def _announced(self) -> int:
        """Frames in the file by its own structure; 0 where that is damaged too."""
        try:
            return max(getattr(self._open().image, "n_frames", 1), _webp_frames(self.data)[1])
        except DECODER_ERRORS:
            return 0


def whole_frames(data: bytes) -> tuple[bytes, int]:
    """``data`` without what follows its last whole frame, and how many frames are missing, at least.

    WebP is cut to its whole chunks and its RIFF length set right, without which libwebp refuses the file. A GIF whose
    blocks do not lead to its trailer lost at least one frame; Pillow finds the others itself.
    """
    if data[:4] == b"GIF8":
        return data, int(len(data) > 13 and not gif_ends_well(data))
    if data[:4] != b"RIFF":
        return data, 0
    at, frames = _webp_frames(data)
    promised = 8 + int.from_bytes(data[4:8], "little")
    if at >= promised or not frames:
        return data, 0
    missing = max(1, int((promised - at) / (at / frames)))
    return b"RIFF" + (at - 8).to_bytes(4, "little") + data[8:at], missing


def _webp_frames(data: bytes) -> tuple[int, int]:
    """Where the last whole chunk of a WebP file ends, and how many frames there are up to it (WebP container, 2.5)."""
    at, frames = 12, 0
    while data[:4] == b"RIFF" and at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length + length % 2 > len(data):
            break
        frames += data[at : at + 4] == b"ANMF"
        at += 8 + length + length % 2
    return at, frames
