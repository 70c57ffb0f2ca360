"""Frames of animated GIF, WebP and PNG files, through Pillow."""

import io
import os
import struct
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..progress import Progress, no_progress
from .colour import resize_rgb
from .info import Losses, Timeline, VideoInfo
from .truncation import gif_ends_well

SHORTEST_DELAY = 20
DEFAULT_DELAY = 100
"""Milliseconds. Browsers show a frame that asks for less than the shortest delay for the default one; so do we."""

PILLOW_ERRORS = (OSError, EOFError, IndexError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError)
"""What Pillow's decoders raise on damaged files."""


def is_animation(head: bytes) -> bool:
    """True for the first bytes of a GIF, WebP or PNG file."""
    return head[:4] == b"GIF8" or head[:4] == b"RIFF" and head[8:12] == b"WEBP" or head[:8] == b"\x89PNG\r\n\x1a\n"


class AnimationReader:
    """The frames of an animated picture, transparent pixels black. A still picture is an animation of one frame.

    Reading stops at the first frame that does not decode, because later ones are painted over it; the file's length and
    frame count tell how many were lost. Raises InputError when not even the first frame decodes.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str):
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        self.data, missing = whole_frames(data)
        delays = []
        try:
            with Image.open(io.BytesIO(self.data)) as image:
                codec, (width, height) = image.format.lower(), image.size
                while True:
                    image.seek(len(delays))
                    image.load()
                    delays.append(image.info.get("duration", 0))
        except EOFError:
            lost = _announced(self.data) - len(delays)
        except PILLOW_ERRORS as error:
            if not delays:
                raise InputError(f"no frame of {name} can be decoded: {error}") from error
            lost = max(1, _announced(self.data) - len(delays))
        if not delays:
            raise InputError(f"no frame of {name} can be decoded: it ends before its first picture")
        delays = np.array([delay if delay >= SHORTEST_DELAY else DEFAULT_DELAY for delay in delays])
        starts = np.concatenate([[0.0], np.cumsum(delays)]) / 1000
        self._timeline = Timeline(
            starts[:-1], max(missing, lost), False, float(delays.mean()) / 1000, float(starts[-1])
        )
        self.info = VideoInfo(
            name=name,
            codec=codec,
            width=width,
            height=height,
            fps=1000 / float(delays.mean()),
            frame_count=len(delays),
            duration=float(starts[-1]),
            coded_size=(height, width),
        )

    def timeline(self, progress: Progress = no_progress) -> Timeline:
        """Numbers and times of the frames that decode."""
        return self._timeline

    def decode(self, wanted: np.ndarray, window: tuple[int, int], losses: Losses, progress: Progress = no_progress):
        """Yield (frame number, callable that gives RGB for a size) for the frames ``wanted``."""
        with Image.open(io.BytesIO(self.data)) as image:
            for number in wanted.tolist():
                image.seek(number)
                progress(number - window[0], window[1] - window[0] + 1)
                yield number, partial(resize_rgb, _on_black(image))


def _announced(data: bytes) -> int:
    """Frames in the file by its own structure; 0 where that is damaged too."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            return getattr(image, "n_frames", 1)
    except PILLOW_ERRORS:
        return 0


def _on_black(image: Image.Image) -> np.ndarray:
    rgba = image.convert("RGBA")
    black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, rgba).convert("RGB"))


def whole_frames(data: bytes) -> tuple[bytes, int]:
    """``data`` without what follows its last whole frame, and how many frames are missing, at least.

    WebP is cut to its whole chunks and its RIFF length set right, without which libwebp refuses the file. A GIF whose
    blocks do not lead to its trailer lost at least one frame; Pillow finds the others itself.
    """
    if data[:4] == b"GIF8":
        return data, int(len(data) > 13 and not gif_ends_well(data))
    if data[:4] != b"RIFF":
        return data, 0
    at, frames = 12, 0
    while at + 8 <= len(data):
        tag, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if end > len(data):
            break
        frames += tag == b"ANMF"
        at = end
    promised = 8 + int.from_bytes(data[4:8], "little")
    if at >= promised or not frames:
        return data, 0
    missing = max(1, int((promised - at) / (at / frames)))
    return b"RIFF" + (at - 8).to_bytes(4, "little") + data[8:at], missing
