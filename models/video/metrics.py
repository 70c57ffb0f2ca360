"""Technical metrics of a video: one function each, in one table.

A metric has a value for every frame, made from the frame and the one before it (a :class:`Step`), or is made of the
whole clip at once. The frame that starts a new shot has no value (NaN) of a metric that compares it with the frame
before it. Pictures are taken at full size where a definition says so, and at about 256 x 256 where motion is searched;
lengths are given in shorter sides of the picture, so that clips of different sizes compare. Nothing depends on how
many frames are read at once, on the device or on the number of threads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .flow import BlockFlow, Camera, block_flow, camera_motion, luma_of
from .motion import BLOCK, search

RADIUS = 32
"""Search window in pixels of the small picture: an eighth of its side from frame to frame."""

FROZEN = 0.001 * 255
"""Mean change in grey levels up to which a frame repeats the one before it (-60 dB, FFmpeg's freezedetect)."""

BLACK, BLACK_PICTURE = 0.1 * 255, 0.98
"""Luma of a black pixel at most, and the fraction of them that makes a black frame (FFmpeg's blackdetect)."""

BAR = 24.0
"""Mean luma of a row or column that belongs to a bar, at most (FFmpeg's cropdetect)."""

FASTEST = 0.05
"""Fraction of the blocks that ``dynamic degree`` counts: the fastest (VBench)."""

SMALL_PART = 0.02
"""Fraction of the blocks that a sudden change of one object fills."""

DYNAMIC_SPEED = 6 / 256 * 8
"""Shorter sides per second: VBench asks for 6 pixels of 256 between frames an eighth of a second apart."""

DYNAMIC_FRAMES = 4 / 16
"""Fraction of the frames that has to be that fast (VBench)."""

PAIRS = 8
"""Pairs of anchors compared at each lag, evenly spread."""

GRID = 8
"""Pixels between the edges of a codec's transform blocks."""


class Step:
    """A frame and the one before it, with what several metrics need of both computed once.

    Attributes:
        rgb: uint8 [H, W, 3] at full size.
        small: uint8 [h, w, 3] of about 256 x 256 pixels, sides multiples of 16.
        seconds: since the frame before it; NaN for a frame that starts a shot.
        before: the step of the frame before it, None where this one starts a shot.
    """

    def __init__(self, rgb: np.ndarray, small: np.ndarray, seconds: float, before: "Step | None"):
        self.rgb, self.small, self.seconds, self.before = rgb, small, seconds, before

    @cached_property
    def luma(self) -> np.ndarray:
        """float32 [H, W], 0..255."""
        return luma_of(self.rgb)

    @cached_property
    def colour(self) -> np.ndarray:
        """float64 [3]: CIE 1976 L*a*b* (D65) of the small picture, averaged."""
        return lab_of(self.small).reshape(-1, 3).mean(0)

    @cached_property
    def flow(self) -> BlockFlow | None:
        """Motion since the frame before it; None for a frame that starts a shot."""
        return None if self.before is None else flow_between(self.before.small, self.small)

    @cached_property
    def flow_back(self) -> BlockFlow | None:
        """Motion from this frame to the one before it: what of that one is to be found here."""
        return None if self.before is None else flow_between(self.small, self.before.small)

    @cached_property
    def camera(self) -> Camera | None:
        """Motion of the whole picture since the frame before it; None for a frame that starts a shot."""
        return None if self.flow is None else camera_motion(self.flow)

    @property
    def side(self) -> int:
        """Shorter side of the small picture, in pixels."""
        return min(self.small.shape[:2])

    @cached_property
    def change(self) -> float:
        """Mean absolute difference of all colour values from the frame before it, 0..255; NaN where there is none."""
        if self.before is None:
            return np.nan
        return float(np.abs(self.rgb.astype(np.int16) - self.before.rgb).mean())

    def forget(self) -> None:
        """Drop the frame before, so that a clip's steps do not keep one another alive."""
        self.before = None


@dataclass(slots=True)
class ClipFacts:
    """What metrics of a whole clip are made of, besides the values of its frames.

    Attributes:
        values: float64 [T] of each metric with values for frames, by name.
        pts: float64 [T], seconds.
        first, last: uint8 [h, w, 3], the small pictures at both ends.
        anchors: uint8 [n, h, w, 3], small pictures evenly spaced over the clip.
        anchor_seconds: float64 [n].
        anchor_pans: float64 [n, 2], how far (dx, dy) the camera had moved the content by then, in small pixels.
        shot_starts: positions of the frames that start a shot, 0 included.
    """

    pts: np.ndarray
    first: np.ndarray
    last: np.ndarray
    anchors: np.ndarray
    anchor_seconds: np.ndarray
    anchor_pans: np.ndarray
    shot_starts: Sequence[int]
    values: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: what it is called, in JSON, CSV and pictures.
        unit: of its values.
        better: 'lower', 'higher', or None where neither is.
        clip: the value of a clip.
        frame: the value of a frame, None where only a clip has one.
    """

    name: str
    unit: str
    better: str | None
    clip: Callable[[ClipFacts], float]
    frame: Callable[[Step], float] | None = None

    @property
    def words(self) -> str:
        return self.name.replace("_", " ")


def flow_between(reference: np.ndarray, picture: np.ndarray) -> BlockFlow:
    """Motion from ``reference`` to ``picture``, uint8 [h, w, 3] both.

    The search sees ``picture`` as bright as its reference on average: a change of light is not taken for motion.
    """
    gain = (reference.mean(dtype=np.float64) + 1) / (picture.mean(dtype=np.float64) + 1)
    levels = (np.arange(256) * gain).round().clip(0, 255).astype(np.uint8)
    mv, _, _ = search(levels[picture][None], RADIUS, previous=reference)
    return block_flow(picture, reference, mv[0])


def spatial_information(step: Step) -> float:
    """SI (Rec. ITU-T P.910, 7.7): population standard deviation of the Sobel magnitude of the luma, edges left out."""
    y = step.luma.astype(np.float64)
    smooth = y[:-2] + 2 * y[1:-1] + y[2:]
    across = smooth[:, 2:] - smooth[:, :-2]
    smooth = y[:, :-2] + 2 * y[:, 1:-1] + y[:, 2:]
    down = smooth[2:] - smooth[:-2]
    return float(np.hypot(across, down).std())


def temporal_information(step: Step) -> float:
    """TI (Rec. ITU-T P.910, 7.8): population standard deviation of the difference of luma from the frame before."""
    if step.before is None:
        return np.nan
    return float((step.luma.astype(np.float64) - step.before.luma).std())


def brightness(step: Step) -> float:
    """Mean luma."""
    return float(step.luma.mean(dtype=np.float64))


def contrast(step: Step) -> float:
    """Standard deviation of the luma (root mean square contrast; Peli 1990)."""
    return float(step.luma.std(dtype=np.float64))


def sharpness(step: Step) -> float:
    """Standard deviation of the luma's 4-neighbour Laplacian (Pertuz et al. 2013, LAPV, as its root)."""
    y = step.luma
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return float(laplacian.std(dtype=np.float64))


def sharpness_loss(clip: ClipFacts) -> float:
    """Sharpness lost from the first quarter of the clip to the last, as a fraction of the first's; medians of both."""
    early, late = quarters(clip.values["sharpness"])
    return float(1 - np.median(late) / max(np.median(early), 1e-9))


def colour_drift(clip: ClipFacts) -> float:
    """CIE 1976 colour difference between the mean colours of the first and the last eighth of the clip."""
    colours = lab_of(clip.anchors).reshape(len(clip.anchors), -1, 3).mean(1)
    part = max(1, len(colours) // 8)
    return float(np.linalg.norm(colours[-part:].mean(0) - colours[:part].mean(0)))


def black(step: Step) -> float:
    """Fraction of black pixels (FFmpeg's blackdetect: luma at most a tenth of its range)."""
    return float((step.luma <= BLACK).mean())


def black_frames(clip: ClipFacts) -> float:
    """Fraction of the frames that are black in at least 98 % of their pixels."""
    return float((clip.values["black"] >= BLACK_PICTURE).mean())


def bars(step: Step) -> float:
    """Fraction of the picture in dark bars along its edges (rows and columns of mean luma at most 24, cropdetect's)."""
    y = step.luma
    rows, columns = (np.flatnonzero(y.mean(axis) > BAR) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 1.0
    return 1 - float((rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)) / y.size


def letterbox(clip: ClipFacts) -> float:
    """Fraction of the picture in bars in every frame that is not black throughout."""
    lit = clip.values["bars"][clip.values["bars"] < 1]
    return float(lit.min()) if len(lit) else 0.0


def blockiness(step: Step) -> float:
    """Steps of luma across the edges of a codec's 8 x 8 blocks, over those elsewhere; 1 where there is no such grid.

    The idea is Muijs and Kirenko's (2005): what differs from its neighbours only at multiples of the grid. The second
    difference leaves slopes out; the phase of the grid that shows most counts; geometric mean of both directions.
    """
    ratios = []
    for y in (step.luma, step.luma.T):
        jump = np.abs(y[:, 1:-2] - y[:, 2:-1]) - (np.abs(y[:, :-3] - y[:, 1:-2]) + np.abs(y[:, 2:-1] - y[:, 3:])) / 2
        column = np.maximum(jump, 0).mean(0)
        if len(column) < 2 * GRID:
            return 1.0
        # A median over the grid's lines: a few edges of what the picture shows do not make a grid.
        phases = np.median(column[: len(column) // GRID * GRID].reshape(-1, GRID), axis=0)
        ratios.append((phases.max() + 0.1) / (np.median(phases) + 0.1))
    return float(np.sqrt(ratios[0] * ratios[1]))


def motion(step: Step) -> float:
    """Mean speed of the textured blocks."""
    if step.flow is None:
        return np.nan
    return speed(step, step.flow.motion)


def fastest(step: Step) -> float:
    """Mean speed of the fastest twentieth of the blocks: what VBench's dynamic degree asks for."""
    return np.nan if step.flow is None else speed(step, step.flow.motion, FASTEST)


def subject_motion(step: Step) -> float:
    """Mean speed of the fastest twentieth of the blocks relative to the camera's motion."""
    return np.nan if step.flow is None else speed(step, step.flow.motion - step.camera.field, FASTEST)


def pan(step: Step) -> float:
    """Speed at which the camera pans and tilts."""
    return np.nan if step.camera is None else float(np.hypot(*step.camera.pan)) / step.side / step.seconds


def zoom(step: Step) -> float:
    """Growth of the picture by the camera's zoom or dolly; negative where it shrinks."""
    return np.nan if step.camera is None else 100 * step.camera.zoom / step.seconds


def roll(step: Step) -> float:
    """Turn of the picture, clockwise positive."""
    return np.nan if step.camera is None else float(np.degrees(step.camera.roll)) / step.seconds


def dynamic_degree(clip: ClipFacts) -> float:
    """1 where a quarter of the frames is fast enough, else 0 (VBench's rule, on block vectors instead of RAFT's)."""
    return _dynamic(clip.values["fastest"])


def subject_dynamic_degree(clip: ClipFacts) -> float:
    """The dynamic degree after the camera's motion is taken away: a mere orbit or pan gives 0."""
    return _dynamic(clip.values["subject_motion"])


def frozen(step: Step) -> float:
    """1 for a frame that repeats the one before it (mean change at most 0.001 of the range, freezedetect's -60 dB)."""
    return np.nan if step.before is None else float(step.change <= FROZEN)


def longest_freeze(clip: ClipFacts) -> float:
    """Seconds of the longest run of frames that repeat the one before them, the repeated frame's own time included."""
    repeats = np.flatnonzero(clip.values["frozen"] == 1)
    runs = np.split(repeats, np.flatnonzero(np.diff(repeats) > 1) + 1) if len(repeats) else []
    end = np.append(clip.pts[1:], clip.pts[-1] + (np.median(np.diff(clip.pts)) if len(clip.pts) > 1 else 0))
    return float(max((end[run[-1]] - clip.pts[run[0] - 1] for run in runs), default=0.0))


def steadiness(step: Step) -> float:
    """VBench's temporal flickering: (255 - mean absolute difference from the frame before) / 255."""
    return np.nan if step.before is None else (255 - step.change) / 255


def light_change(step: Step) -> float:
    """Mean of what motion leaves unexplained, signed: how much brighter the picture became."""
    return np.nan if step.flow is None else float(step.flow.unexplained.mean(dtype=np.float64))


def flicker(clip: ClipFacts) -> float:
    """Mean absolute change of the unexplained change of light from frame to frame, halved: a steady fade has none."""
    return average(flicker_curve(clip.values["light_change"]))


def flicker_curve(light: np.ndarray) -> np.ndarray:
    """float64 [T]: half the absolute second difference of the light, NaN where a neighbour is missing."""
    return np.abs(np.diff(light, prepend=np.nan)) / 2


def warping_error(step: Step) -> float:
    """Root mean square of the luma that motion from the frame before leaves unexplained (Lai et al. 2018, without the
    occlusion mask, which a block search does not give)."""
    return np.nan if step.flow is None else float(np.sqrt(np.mean(np.square(step.flow.unexplained, dtype=np.float64))))


def sudden_change(step: Step) -> float:
    """Root mean square of the unexplained luma in the fiftieth of the blocks where it is largest, the change of light
    left out: what pops up or turns into something else. The frame before is explained by this one, too, so that what
    vanishes counts as well; the larger of both."""
    if step.flow is None:
        return np.nan
    return max(worst_blocks(step.flow), worst_blocks(step.flow_back))


def worst_blocks(flow: BlockFlow) -> float:
    """Root mean square of the unexplained luma, less its mean, in the fiftieth of the blocks where it is largest."""
    rest = flow.unexplained - flow.unexplained.mean(dtype=np.float64)
    rows, columns = flow.known.shape
    power = np.square(rest).reshape(rows, BLOCK, columns, BLOCK).mean((1, 3), dtype=np.float64)
    return float(np.sqrt(top_mean(power, SMALL_PART)))


def most_sudden_change(clip: ClipFacts) -> float:
    """The largest sudden change of any frame, over the median of the clip."""
    values = clip.values["sudden_change"]
    return float(np.nanmax(values) - np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def jitter(step: Step) -> float:
    """Acceleration of the motion field: mean change of the motion of blocks with texture in both frames, the fastest
    twentieth of them, from one frame to the next."""
    if step.flow is None or step.before.flow is None:
        return np.nan
    both = step.flow.known & step.before.flow.known
    change = np.linalg.norm(step.flow.motion - step.before.flow.motion, axis=-1)
    return top_mean(np.where(both, change, 0.0), FASTEST) / step.side * 100


def loop_error(clip: ClipFacts) -> float:
    """Mean absolute difference of the last frame from the first, less the clip's median step: what a loop shows."""
    gap = np.abs(clip.last.astype(np.int16) - clip.first).mean()
    step = 255 * (1 - clip.values["steadiness"])
    return float(max(0.0, gap - (np.nanmedian(step) if np.isfinite(step).any() else 0.0)))


def drift(clip: ClipFacts) -> float:
    """Compensated difference at the longest lag less that at the shortest: slow change that no two neighbours show."""
    _, difference = drift_curve(clip)
    return float(max(0.0, difference[-1] - difference[0])) if len(difference) > 1 else 0.0


def drift_curve(clip: ClipFacts) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of lag, and root mean square luma that a block search over that lag leaves unexplained, both float64 [k].

    Lags are 1, 2, 4, ... of the spaces between the anchors; at each of them up to ``PAIRS`` pairs of anchors within one
    shot are compared. The curve of a steady scene is flat, that of a scene that slowly becomes another one rises.
    """
    starts = clip.pts[np.asarray(clip.shot_starts, np.int64)]
    shot = np.searchsorted(starts, clip.anchor_seconds, side="right")
    lags, values, seconds = 2 ** np.arange(0, max(1, len(clip.anchors)).bit_length()), [], []
    for lag in lags[lags < len(clip.anchors)]:
        errors = []
        pairs = np.unique(np.linspace(lag, len(clip.anchors) - 1, PAIRS).round().astype(int))
        for late, early in zip(pairs, pairs - lag, strict=True):
            if shot[early] != shot[late]:
                continue
            overlap = overlapping(
                clip.anchors[early], clip.anchors[late], clip.anchor_pans[late] - clip.anchor_pans[early]
            )
            if overlap is not None:
                rest = flow_between(*overlap).unexplained
                errors.append(float(np.sqrt(np.mean(np.square(rest, dtype=np.float64)))))
        if errors:
            values.append(float(np.mean(errors)))
            seconds.append(float(np.mean(clip.anchor_seconds[lag:] - clip.anchor_seconds[:-lag])))
    return np.array(seconds), np.array(values)


def overlapping(early: np.ndarray, late: np.ndarray, pan: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """What both pictures, uint8 [h, w, 3], show where the content moved by ``pan`` (dx, dy) pixels from early to late.

    None where that is less than a quarter of the picture.
    """
    dx, dy = np.rint(pan).astype(int)
    height, width = ((side - abs(d)) // BLOCK * BLOCK for side, d in zip(early.shape[:2], (dy, dx), strict=True))
    if min(height, width) <= 0 or height * width < early.shape[0] * early.shape[1] / 4:
        return None
    y, x = max(0, -dy), max(0, -dx)
    return early[y : y + height, x : x + width], late[y + dy : y + dy + height, x + dx : x + dx + width]


def cuts(clip: ClipFacts) -> float:
    """Shots that start after the first."""
    return float(len(clip.shot_starts) - 1)


def average(values: np.ndarray) -> float:
    """Mean of the frames that have a value; NaN where none has."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else np.nan


def quarters(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last quarter of ``values``, one value at least."""
    part = max(1, len(values) // 4)
    return values[:part], values[-part:]


def speed(step: Step, motion: np.ndarray, fraction: float = 1.0) -> float:
    """Shorter sides per second: mean over the fastest ``fraction`` of all blocks, those without texture at rest.

    With ``fraction`` 1 the blocks without texture do not count.
    """
    length = np.linalg.norm(motion, axis=-1)
    known = step.flow.known
    if fraction == 1:
        pixels = float(length[known].mean()) if known.any() else 0.0
    else:
        pixels = top_mean(np.where(known, length, 0.0), fraction)
    return pixels / step.side / step.seconds


def top_mean(values: np.ndarray, fraction: float) -> float:
    """Mean of the largest ``fraction`` of the values, one at least."""
    count = max(1, round(fraction * values.size))
    return float(np.partition(values, -count, axis=None)[-count:].mean())


def lab_of(rgb: np.ndarray) -> np.ndarray:
    """float64 [..., 3]: CIE 1976 L*a*b* of sRGB uint8 [..., 3], white point D65 (IEC 61966-2-1, CIE 15)."""
    scaled = np.arange(256) / 255
    linear = np.where(scaled <= 0.04045, scaled / 12.92, ((scaled + 0.055) / 1.055) ** 2.4)[rgb]
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ (to_xyz / to_xyz.sum(1, keepdims=True)).T
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def _dynamic(speeds: np.ndarray) -> float:
    known = speeds[np.isfinite(speeds)]
    return float(len(known) > 0 and (known > DYNAMIC_SPEED).sum() >= max(1, round(DYNAMIC_FRAMES * len(known))))


def _mean(name: str) -> Callable[[ClipFacts], float]:
    return lambda clip: average(clip.values[name])


def _size(name: str) -> Callable[[ClipFacts], float]:
    return lambda clip: average(np.abs(clip.values[name]))


def _largest(name: str) -> Callable[[ClipFacts], float]:
    return lambda clip: float(np.nanmax(clip.values[name])) if np.isfinite(clip.values[name]).any() else np.nan


SPEED = "shorter sides/s"

METRICS = (
    Metric("spatial_information", "grey levels", None, _largest("spatial_information"), spatial_information),
    Metric("temporal_information", "grey levels", None, _largest("temporal_information"), temporal_information),
    Metric("brightness", "grey levels", None, _mean("brightness"), brightness),
    Metric("contrast", "grey levels", None, _mean("contrast"), contrast),
    Metric("sharpness", "grey levels", "higher", _mean("sharpness"), sharpness),
    Metric("sharpness_loss", "fraction", "lower", sharpness_loss),
    Metric("colour_drift", "CIE76", "lower", colour_drift),
    Metric("black", "fraction of pixels", None, _mean("black"), black),
    Metric("black_frames", "fraction of frames", "lower", black_frames),
    Metric("bars", "fraction of picture", None, _mean("bars"), bars),
    Metric("letterbox", "fraction of picture", "lower", letterbox),
    Metric("blockiness", "times", "lower", _mean("blockiness"), blockiness),
    Metric("motion", SPEED, None, _mean("motion"), motion),
    Metric("fastest", SPEED, None, _mean("fastest"), fastest),
    Metric("subject_motion", SPEED, None, _mean("subject_motion"), subject_motion),
    Metric("pan", SPEED, None, _mean("pan"), pan),
    Metric("zoom", "%/s", None, _size("zoom"), zoom),
    Metric("roll", "degrees/s", None, _size("roll"), roll),
    Metric("dynamic_degree", "(0 or 1)", None, dynamic_degree),
    Metric("subject_dynamic_degree", "(0 or 1)", None, subject_dynamic_degree),
    Metric("frozen", "fraction of frames", "lower", _mean("frozen"), frozen),
    Metric("longest_freeze", "s", "lower", longest_freeze),
    Metric("steadiness", "of 1", "higher", _mean("steadiness"), steadiness),
    Metric("light_change", "grey levels", None, _size("light_change"), light_change),
    Metric("flicker", "grey levels", "lower", flicker),
    Metric("warping_error", "grey levels", "lower", _mean("warping_error"), warping_error),
    Metric("sudden_change", "grey levels", "lower", most_sudden_change, sudden_change),
    Metric("jitter", "% of the side/frame^2", "lower", _mean("jitter"), jitter),
    Metric("loop_error", "grey levels", None, loop_error),
    Metric("drift", "grey levels", "lower", drift),
    Metric("cuts", "cuts", None, cuts),
)
