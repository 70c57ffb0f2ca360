"""Which frames each GOP codes, and how clips of pixels are cut from a video that is read once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError


@dataclass(frozen=True, slots=True)
class Span:
    """The frames of one GOP.

    Attributes:
        first: number of its clip's first frame, counted from the start of the video that is coded.
        frames: frames that it adds to the decoded video.
        continues: whether the clip's first frame is the last one of the GOP before, coded again as context.
        latent_frames: F; the clip has (F - 1) * ratio + 1 frames, its last one repeated where the shot ends earlier.
    """

    first: int
    frames: int
    continues: bool
    latent_frames: int

    @property
    def source_frames(self) -> int:
        """Frames of the video that the clip shows."""
        return self.frames + self.continues


def plan_gops(
    frames: int, gop_frames: int, ratio: int, chained: bool, cuts: Iterable[int] = (), still_every: int = 0
) -> tuple[Span, ...]:
    """Cut a video into GOPs. A cut starts a GOP, and a chain never runs across one.

    Args:
        frames: of the video.
        gop_frames: most frames of a clip; ratio * k + 1.
        ratio: pixel frames of a latent frame after the first (4 for Wan and HunyuanVideo, 8 for LTX).
        chained: each GOP of a shot starts on the last frame of the one before (I2V, FLF2V). GVCC lets
            an I2V GOP start one frame after the picture it is conditioned on, which skews time by a frame a GOP.
        cuts: numbers of frames that start a shot.
        still_every: GOPs after which a chain starts afresh, from a still of its own; 0 for shots that never do.

    Raises:
        InputError: for a GOP length that the latent grid does not have.
    """
    if gop_frames < 1 + ratio or (gop_frames - 1) % ratio:
        raise InputError(
            f"a GOP of {gop_frames} frames does not fit this model's latents; use {ratio} * k + 1 frames, such as "
            f"{4 * ratio + 1} or {8 * ratio + 1}"
        )
    starts = sorted({0, *(cut for cut in cuts if 0 < cut < frames)})
    spans = []
    for start, end in zip(starts, [*starts[1:], frames], strict=True):
        at, length = start, 0
        while at < end:
            continues = chained and at > start and (not still_every or length % still_every > 0)
            added = min(gop_frames - continues, end - at)
            latent_frames = -(-(added + continues - 1) // ratio) + 1
            spans.append(Span(at - continues, added, continues, latent_frames))
            at, length = at + added, length + 1
    return tuple(spans)


def cut_clips(chunks: Iterable[np.ndarray], spans: Iterable[Span]) -> Iterator[np.ndarray]:
    """Yield each span's frames, uint8 [source_frames, H, W, 3], from chunks of a video that is read forwards once.

    Raises:
        InputError: if the video ends before the spans do.
    """
    chunks = iter(chunks)
    held, first = np.zeros((0, 0, 0, 3), np.uint8), 0
    for span in spans:
        held, first = held[span.first - first :], span.first
        while len(held) < span.source_frames:
            chunk = next(chunks, None)
            if chunk is None:
                raise InputError(
                    f"the video ended after {first + len(held)} frames; its plan says {span.first + span.source_frames}"
                )
            held = np.concatenate([held, chunk]) if len(held) else chunk
        yield held[: span.source_frames]


def pad_clip(clip: np.ndarray, frames: int, grid: int) -> np.ndarray:
    """Repeat the last frame up to ``frames`` and the edges up to multiples of ``grid``: uint8 [frames, H', W', 3]."""
    _, height, width, _ = clip.shape
    return np.pad(clip, ((0, frames - len(clip)), (0, -height % grid), (0, -width % grid), (0, 0)), mode="edge")
