"""A video file that holds exact RGB, written picture by picture: FFV1 in MP4, with times and Opus sound."""

import contextlib
import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import InputError
from ..files import refusals_of

TIME_BASE = Fraction(1, 360_000)
"""Divides milliseconds, 1/90000 s and the usual frame rates."""


class LosslessWriter:
    """Writes pictures as they come; memory holds one of them. Use it as a context manager.

    Where its block raises, the file is removed. Raises InputError where the operating system refuses the file, and for
    a sound that is no file of one.

    Args:
        path: of the file.
        size: (height, width) of the pictures.
        rate: frames per second that the file names.
        sound: an Ogg Opus file to copy into it, or nothing.
    """

    def __init__(self, path: Path, size: tuple[int, int], rate: Fraction, sound: bytes = b""):
        self.path = path
        self.sound = _opened(sound) if sound else None
        with refusals_of(path):
            self.container = av.open(str(path), "w", format="mp4")
        self.stream = self.container.add_stream("ffv1", rate=rate)
        self.stream.height, self.stream.width = size
        self.stream.pix_fmt = "bgr0"
        self.stream.time_base = self.stream.codec_context.time_base = TIME_BASE
        if self.sound is not None:
            self.track = self.container.add_stream_from_template(self.sound.streams.audio[0])

    def __enter__(self) -> "LosslessWriter":
        return self

    def __exit__(self, kind, *_) -> None:
        whole = False
        try:
            with refusals_of(self.path):
                if kind is None:
                    self.container.mux(self.stream.encode())
                    self._copy_sound()
                self.container.close()
            whole = kind is None
        finally:
            if self.sound is not None:
                self.sound.close()
            if not whole:
                with contextlib.suppress(OSError):
                    self.path.unlink()

    def write(self, pictures: np.ndarray, pts: np.ndarray) -> None:
        """Add uint8 [T, H, W, 3] pictures shown at ``pts`` seconds."""
        for picture, seconds in zip(pictures, pts, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = round(seconds / TIME_BASE), TIME_BASE
            with refusals_of(self.path):
                self.container.mux(self.stream.encode(frame))

    def _copy_sound(self) -> None:
        if self.sound is None:
            return
        for packet in self.sound.demux(self.sound.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = self.track
                self.container.mux(packet)


def _opened(sound: bytes) -> av.container.InputContainer:
    """An Ogg Opus file in memory. Raises InputError for bytes that are none."""
    try:
        container = av.open(io.BytesIO(sound))
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(f"the sound, {len(sound)} bytes, does not decode ({error}); encode the video again") from None
    if not container.streams.audio:
        raise InputError(f"the sound, {len(sound)} bytes, holds no sound track; encode the video again")
    return container
