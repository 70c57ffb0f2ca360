"""Pictures straight from a source: read the few frames that a picture needs, then draw it."""

import numpy as np
from PIL import Image

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import Frames, FrameSampling, VideoSource
from ..video.clearness import unclear_frames
from ..video.cuts import Cuts
from ..video.gop import GopPlan
from ..video.measurement import Measurement
from ..video.motion import predict
from ..video.planning import scaled_gamma
from ..video.primitives import Primitives
from ..video.shots import cut_times
from .metrics import draw_metrics, metric_thumbnails
from .motion import draw_motion_field, draw_motion_sheet, draw_prediction, draw_residual
from .timeline import THUMBNAIL_HEIGHT, draw_timeline, timeline_thumbnails

PICTURES = ("all", "motion", "prediction", "residual")


def timeline_view(
    plan: GopPlan,
    source: VideoSource,
    cuts: Cuts | None = None,
    width: int = 1600,
    progress: Progress = no_progress,
) -> Image.Image:
    """The plan over time (:func:`draw_timeline`) with thumbnails from ``source``, which it was made from."""
    at, spans = cut_times(source, cuts) if cuts else ((), ())
    wanted = timeline_thumbnails(plan, width)
    height = 2 * THUMBNAIL_HEIGHT
    size = (height, max(1, round(height * source.info.width / source.info.height)))
    thumbnails = read_again(source, plan.pts[wanted], plan.index[wanted], size, progress)
    return draw_timeline(plan, thumbnails, at, spans, title=source.info.name, width=width)


def metrics_view(measurement: Measurement, source: VideoSource, progress: Progress = no_progress) -> Image.Image:
    """All metrics over time (:func:`draw_metrics`) with thumbnails from ``source``, which was measured."""
    wanted = metric_thumbnails(measurement, source.info.width / source.info.height)
    height = 2 * THUMBNAIL_HEIGHT
    size = (height, max(1, round(height * source.info.width / source.info.height)))
    thumbnails = read_again(source, measurement.pts[wanted], measurement.index[wanted], size, progress)
    return draw_metrics(measurement, thumbnails)


def read_again(source: VideoSource, pts, index, size: tuple[int, int], progress: Progress) -> Frames:
    """The frames at times ``pts`` of ``source``; InputError where they are not those numbered ``index``."""
    frames = source.read(FrameSampling.at_times(pts), size, progress)
    if not np.array_equal(frames.index, index):
        raise InputError(f"{source.info.name} is not the video of these primitives; connect the same one, or run again")
    return frames


def most_moving(primitives: Primitives) -> int:
    """Position of the sampled frame in which neighbouring blocks together move furthest, in sum.

    Vectors of noise point anywhere, so the mean over 3 x 3 blocks leaves little of them. Frames that cost more than
    half of AdaCodec's gamma, and plain and mixed ones, are left out where others remain: across a cut and within a
    fade, motion means nothing.
    """
    usual = primitives.pcost <= scaled_gamma(primitives.size, primitives.source) / 2
    if primitives.small is not None:
        usual[unclear_frames(primitives.small)] = False
    moved = primitives.mv.astype(np.float32) * primitives.valid[..., None]
    padded = np.pad(moved, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = moved.shape[1:3]
    together = sum(padded[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)) / 9
    total = np.linalg.norm(together, axis=3).sum(axis=(1, 2))
    return int(np.argmax(np.where(primitives.ref < 0, -2, np.where(usual, total, -1))))


def motion_view(
    primitives: Primitives,
    source: VideoSource,
    position: int,
    picture: str = "all",
    progress: Progress = no_progress,
) -> Image.Image:
    """What the codec sees in the sampled frame at ``position``: one of ``PICTURES``.

    Raises InputError where there is no such frame or nothing to predict it from.
    """
    if len(primitives) == 1:
        count = len(source.timeline().pts)
        raise InputError(
            f"one frame of {source.info.name} is sampled, and motion takes two: "
            + (
                f"its {count} frames come at {source.info.fps:.3g} a second, sample it at that rate or take all of them"
                if count > 1
                else "give a clip of more than one frame"
            )
        )
    if not 0 <= position < len(primitives) or primitives.ref[position] < 0:
        raise InputError(
            f"frame {position} has no reference to show motion from; give a position from 1 to {len(primitives) - 1}"
        )
    pair = [primitives.ref[position], position]
    frames = read_again(source, primitives.pts[pair], primitives.index[pair], primitives.size, progress)
    mv, valid = primitives.mv[position], primitives.valid[position]
    before, now = frames.rgb
    prediction = predict(before, mv)
    residual = now.astype(np.int16) - prediction
    old, new = (f"frame {number} at {seconds:.2f} s" for number, seconds in zip(frames.index, frames.pts, strict=True))
    captions = (new, f"predicted from {old}")
    title = f"{source.info.name}, {captions[0]}"
    if picture == "motion":
        return draw_motion_field(now, mv, valid, title)
    if picture == "residual":
        return draw_residual(residual, title)
    if picture == "prediction":
        return draw_prediction(now, prediction, residual, title, captions)
    return draw_motion_sheet(now, prediction, residual, mv, valid, title, captions)
