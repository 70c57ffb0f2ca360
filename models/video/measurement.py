"""All technical metrics of a clip, from one reading of its frames."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.colour import resize_rgb
from ..source.reading import FrameSampling, VideoSource, fit_size
from .cuts import cuts_of
from .metrics import METRICS, ClipFacts, Metric, Step, drift_curve, flicker_curve

SMALL_AREA = 256 * 256
"""Pixels of the pictures on which motion is searched, at most."""

ANCHORS = 33
"""Pictures kept for what only a long time shows: lags of 1, 2, 4, ... 32 of their spaces."""

CHUNK = 8
"""Frames read at once."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a clip of T frames.

    Attributes:
        name: what messages call the clip.
        index: int64 [T], frame numbers in the source.
        pts: float64 [T], seconds.
        frames: float64 [T] for each metric with values for frames, NaN where a frame has none.
        clip: the value of each metric for the whole clip, NaN where it has none.
        drift: seconds of lag and the compensated difference at that lag in grey levels, float64 [k] each.
        warnings: sentences that the user should read.
    """

    name: str
    index: np.ndarray
    pts: np.ndarray
    frames: dict[str, np.ndarray]
    clip: dict[str, float]
    drift: tuple[np.ndarray, np.ndarray]
    warnings: tuple[str, ...] = ()

    def worst(self, metric: Metric) -> int | None:
        """Position of the frame with the worst value; None where no frame is worse than the others."""
        values = self.frames.get(metric.name)
        if metric.better is None or values is None or not np.isfinite(values).any():
            return None
        if np.nanmax(values) == np.nanmin(values):
            return None
        return int(np.nanargmax(values) if metric.better == "lower" else np.nanargmin(values))

    def to_json(self) -> dict:
        """Values of the clip and of every frame with their units, and the worst moment of each metric."""
        worst = {metric.name: at for metric in METRICS if (at := self.worst(metric)) is not None}
        lags, differences = self.drift
        return {
            "clip": self.name,
            "frames": self.index.tolist(),
            "seconds": [round(float(t), 6) for t in self.pts],
            "units": {metric.name: metric.unit for metric in METRICS},
            "better": {metric.name: metric.better for metric in METRICS if metric.better},
            "values": {name: number(value) for name, value in self.clip.items()},
            "per_frame": {name: [number(value) for value in values] for name, values in self.frames.items()},
            "worst": {
                name: {"frame": int(self.index[at]), "seconds": round(float(self.pts[at]), 6)}
                for name, at in worst.items()
            },
            "drift_curve": {"seconds": [number(v) for v in lags], "grey_levels": [number(v) for v in differences]},
            "warnings": list(self.warnings),
        }


def measure(
    source: VideoSource, sampling: FrameSampling | None = None, progress: Progress = no_progress
) -> Measurement:
    """Measure the frames of ``source`` in its trim window; peak memory does not grow with its length.

    Args:
        sampling: which frames; all of them if not given. Values that compare neighbours hold for that rate.
        progress: called for every decoded frame of the second reading; the first finds cuts.

    Raises:
        InputError: the source cannot be read, or no frame of it lies in the trim window.
    """
    sampling = sampling or FrameSampling.all()
    positions = source.sampled(sampling)
    shots = _shot_starts(source, positions, progress)
    kept = set(positions[np.unique(np.linspace(0, len(positions) - 1, ANCHORS).round().astype(int))].tolist())
    width, height = source.info.width, source.info.height
    size = fit_size(width, height, min(SMALL_AREA, width * height), 16)
    columns = {metric.name: [] for metric in METRICS if metric.frame}
    index, pts, anchors, step = [], [], [], None
    ends, pan = [None, None], np.zeros(2)
    for chunk in source.frames(sampling, chunk=CHUNK, progress=progress):
        for rgb, seconds, position in zip(chunk.rgb, chunk.pts.tolist(), chunk.index.tolist(), strict=True):
            starts = step is None or position in shots
            small = resize_rgb(rgb, size)
            following = Step(rgb, small, np.nan if starts else seconds - pts[-1], None if starts else step)
            for metric in METRICS:
                if metric.frame:
                    columns[metric.name].append(metric.frame(following))
            if step is not None:
                step.forget()
            step = following
            index.append(position)
            pts.append(seconds)
            ends = [small if ends[0] is None else ends[0], small]
            pan = np.zeros(2) if starts else pan + following.camera.pan
            if position in kept:
                anchors.append((small, seconds, pan))
    starts = [at for at, position in enumerate(index) if at == 0 or position in shots]
    facts = ClipFacts(
        pts=np.array(pts),
        first=ends[0],
        last=ends[1],
        anchors=np.stack([picture for picture, _, _ in anchors]),
        anchor_seconds=np.array([seconds for _, seconds, _ in anchors]),
        anchor_pans=np.stack([pan for _, _, pan in anchors]),
        shot_starts=starts,
        values={name: np.array(values, np.float64) for name, values in columns.items()},
    )
    facts.values["flicker"] = flicker_curve(facts.values["light_change"])
    return Measurement(
        name=source.info.name,
        index=np.array(index, np.int64),
        pts=facts.pts,
        frames=facts.values,
        clip={metric.name: float(metric.clip(facts)) for metric in METRICS},
        drift=drift_curve(facts),
        warnings=tuple(source.warnings),
    )


def measurement_in_words(measurement: Measurement) -> str:
    """One line for each metric: its value, its unit and its worst moment."""
    lines = [f"{measurement.name}: {len(measurement.pts)} frames"]
    for metric in METRICS:
        value = measurement.clip[metric.name]
        line = f"  {metric.words:<24}{f'{value:.4g}' if np.isfinite(value) else '-':>10} {metric.unit}"
        worst = measurement.worst(metric)
        if worst is not None:
            line = f"{line:<58}  worst at {measurement.pts[worst]:.2f} s, frame {measurement.index[worst]}"
        lines.append(line)
    return "\n".join(lines)


def measurements_csv(measurements: Sequence[Measurement]) -> str:
    """One line for each clip, one column for each metric, the units in the header."""
    return values_csv([(one.name, {name: number(value) for name, value in one.clip.items()}) for one in measurements])


def values_csv(rows: Sequence[tuple[str, dict]]) -> str:
    """What :func:`measurements_csv` gives, from names and values of clips; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", *(f"{metric.name} ({metric.unit})" for metric in METRICS)])
    for name, values in rows:
        cells = [values.get(metric.name) for metric in METRICS]
        writer.writerow([name, *("" if value is None else value for value in cells)])
    return text.getvalue()


def number(value: float) -> float | None:
    """``value`` with six significant digits; None where there is none, as JSON knows no NaN."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _shot_starts(source: VideoSource, positions: np.ndarray, progress: Progress) -> set[int]:
    """Frame numbers among ``positions`` that are the first of a new shot: hard cuts and the ends of transitions."""
    found = cuts_of(source, progress)
    wanted = [*found.cuts, *(span.last for span in found.spans if span.kind != "fade_out")]
    at = np.searchsorted(positions, wanted)
    if not len(positions):
        raise InputError(f"{source.info.name} has no frame to measure in its trim window")
    return {int(positions[i]) for i in at if 0 < i < len(positions)}
