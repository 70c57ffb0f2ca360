"""Codec primitives of a video, whichever way the user asks for."""

from ..progress import Progress, no_progress
from ..source.reading import Sampling, VideoSource
from .bitstream import bitstream_primitives, check_codec
from .primitives import Primitives, primitives

VECTORS = ("search", "bitstream")

CHUNK = 8
"""Frames searched between two calls of ``progress``: a fraction of a second."""


def extract(
    source: VideoSource,
    sampling: Sampling,
    size: tuple[int, int],
    vectors: str = "search",
    radius: int = 32,
    progress: Progress = no_progress,
) -> Primitives:
    """Motion and cost of the sampled frames of ``source`` at ``size`` (H, W), multiples of 16.

    Args:
        vectors: 'search' looks for motion in the pixels and holds ``CHUNK`` frames at a time; 'bitstream' takes the
            vectors that the encoder wrote and holds all sampled frames.
        radius: search window in pixels to each side (16, 32 or 64); not used by 'bitstream'.
        progress: called for every decoded frame.

    Raises InputError where the source cannot be read, or its codec's vectors cannot.
    """
    if vectors == "bitstream":
        check_codec(source)
        return bitstream_primitives(source, source.read(sampling, size, progress), progress=progress)
    return primitives(source.frames(sampling, size, CHUNK, progress), radius)
