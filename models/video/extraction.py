"""Codec primitives of a video, whichever way the user asks for."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from ..progress import Progress, no_progress
from ..source.reading import Frames, join_frames
from ..source.sampled import SampledVideo
from .bitstream import bitstream_primitives, check_codec
from .clearness import small_pictures
from .primitives import Primitives, primitives

VECTORS = ("search", "bitstream")

CHUNK = 8
"""Frames searched between two calls of ``progress``: a fraction of a second."""


def extract(
    video: SampledVideo,
    vectors: str = "search",
    radius: int | None = None,
    frames: Iterable[Frames] | None = None,
    progress: Progress = no_progress,
) -> Primitives:
    """Motion and cost of the frames of ``video``, whose sides are multiples of 16.

    Args:
        vectors: 'search' finds motion in the pixels and holds ``CHUNK`` frames at a time; 'bitstream' takes the
            vectors that the encoder wrote and holds all sampled frames.
        radius: search window in pixels to each side, 1 to 128; by default it follows what moves. Not used by
            'bitstream'.
        frames: the frames of ``video`` in chunks, where they are read elsewhere; read here if not given.
        progress: called for every decoded frame.

    Raises InputError where the source cannot be read, or its codec's vectors cannot.
    """
    if vectors == "bitstream":
        check_codec(video.source)
    chunks = video.frames(CHUNK, progress) if frames is None else frames
    if vectors == "bitstream":
        frames = join_frames(chunks)
        small = [small_pictures(frames.rgb[start : start + CHUNK]) for start in range(0, len(frames), CHUNK)]
        found = replace(bitstream_primitives(video.source, frames, progress=progress), small=np.concatenate(small))
    else:
        found = primitives(chunks, radius)
    return replace(found, video=video)
