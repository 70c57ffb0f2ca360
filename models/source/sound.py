"""The sound of a video: read from a file or a waveform, and packed as an Ogg Opus file of a few kilobits a second."""

import io
import os
from collections.abc import Iterable, Iterator

import av
import numpy as np

from ..errors import InputError

RATE = 48_000
"""Opus always plays at 48 kHz."""
CHUNK = RATE


def read_sound(source: str | os.PathLike | bytes, start: float = 0.0, duration: float = 0.0) -> Iterator[np.ndarray]:
    """Yield float32 [samples, channels] at 48 kHz, mono or stereo, of a file's first sound track; nothing without one.

    Args:
        source: a media file or its bytes.
        start: seconds of the source's clock at which the sound begins; silence is put where the track begins later.
        duration: seconds that it lasts, 0 for all.

    Raises:
        av.error.FFmpegError: for a file that does not decode.
    """
    wanted = round(duration * RATE) if duration else None
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)) as container:
        if not container.streams.audio:
            return
        stream = container.streams.audio[0]
        layout = "mono" if stream.codec_context.channels == 1 else "stereo"
        resampler = av.AudioResampler(format="flt", layout=layout, rate=RATE)
        position = None
        for frame in container.decode(stream):
            position = round(((frame.time or 0.0) - start) * RATE) if position is None else position
            for part in resampler.resample(frame):
                samples = part.to_ndarray().reshape(-1, len(part.layout.channels))
                if position > 0 and wanted != 0:
                    silence = position if wanted is None else min(position, wanted)
                    yield from (np.zeros((min(CHUNK, silence - at), samples.shape[1]), np.float32)
                                for at in range(0, silence, CHUNK))  # fmt: skip
                    wanted, position = None if wanted is None else wanted - silence, 0
                samples = samples[-position:] if position < 0 else samples
                position = min(position + part.samples, 0)
                samples = samples if wanted is None else samples[:wanted]
                if len(samples):
                    wanted = None if wanted is None else wanted - len(samples)
                    yield samples
            if wanted == 0:
                return


def sound_of(waveform: np.ndarray, rate: int) -> Iterator[np.ndarray]:
    """Yield float32 [samples, channels] at 48 kHz of a waveform, float [channels, samples] at ``rate``."""
    waveform = np.asarray(waveform[:2], np.float32)
    layout = "mono" if len(waveform) == 1 else "stereo"
    resampler = av.AudioResampler(format="flt", layout=layout, rate=RATE)
    for at in [*range(0, waveform.shape[1], rate), None]:
        frame = None
        if at is not None:
            part = np.ascontiguousarray(waveform[:, at : at + rate].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            frame.sample_rate, frame.pts = rate, at
        for part in resampler.resample(frame):
            yield part.to_ndarray().reshape(-1, len(waveform))


def encode_sound(samples: Iterable[np.ndarray], kilobits: float) -> bytes:
    """An Ogg Opus file of float32 [samples, channels] parts at 48 kHz; empty where there are none.

    Args:
        samples: parts of one track, mono or stereo.
        kilobits: a second, 6 to 510.

    Raises:
        InputError: if this FFmpeg cannot write Opus.
    """
    if "libopus" not in av.codecs_available:
        raise InputError("this FFmpeg cannot write Opus sound; install PyAV's own wheel, or set the sound to 0 kbit/s")
    packed, stream, at = io.BytesIO(), None, 0
    # Without the flag Ogg numbers its stream at random, and equal inputs would make other files.
    with av.open(packed, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
        for part in samples:
            layout = "mono" if part.shape[1] == 1 else "stereo"
            if stream is None:
                stream = container.add_stream("libopus", rate=RATE, layout=layout, options={"vbr": "constrained"})
                stream.bit_rate = round(1000 * kilobits)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part.reshape(1, -1)), format="flt", layout=layout)
            frame.sample_rate, frame.pts, at = RATE, at, at + len(part)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return packed.getvalue() if at else b""
