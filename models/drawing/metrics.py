"""All metrics of a clip over time, one small panel each, the worst moment of each marked."""

import math

import numpy as np
from PIL import Image

from ..source.reading import Frames
from ..video.measurement import Measurement
from ..video.metrics import METRICS, Metric
from .canvas import (
    GAMMA,
    GRID,
    I_COLOUR,
    MUTED,
    P_COLOUR,
    PANEL,
    TEXT,
    Canvas,
    clock_text,
    short_number,
    shortened,
    text_width,
    time_step,
)
from .timeline import THUMBNAIL_GAP, THUMBNAIL_HEIGHT, TimeScale

MARGIN, GAP = 28, 22
TOP = 96
PANEL_HEIGHT, ROW = 62, 92
COLUMNS = 3


def metric_thumbnails(measurement: Measurement, aspect: float, width: int = 1600) -> np.ndarray:
    """int64 [n]: positions of the frames that :func:`draw_metrics` shows on top, evenly spaced.

    ``aspect`` is the picture's width over its height.
    """
    room = width - 2 * MARGIN
    count = max(1, int(room // (THUMBNAIL_HEIGHT * aspect + THUMBNAIL_GAP)))
    return np.unique(np.linspace(0, len(measurement.pts) - 1, count).round().astype(np.int64))


def draw_metrics(measurement: Measurement, thumbnails: Frames | None = None, width: int = 1600) -> Image.Image:
    """Draw every metric that has values for frames, and the curve of drift against lag.

    Args:
        thumbnails: the frames that :func:`metric_thumbnails` named (any size); none are drawn without it.
        width: of the picture in pixels; 1200 or more.
    """
    shown = [metric for metric in METRICS if metric.name in measurement.frames]
    rest = [metric for metric in METRICS if metric.name not in measurement.frames]
    top = TOP + (THUMBNAIL_HEIGHT + 24 if thumbnails is not None else 0)
    rows = math.ceil((len(shown) + 1) / COLUMNS)
    canvas = Canvas(width, top + rows * ROW + 40 + 22 * math.ceil(len(rest) / 4))
    first, last = measurement.pts[0], measurement.pts[-1]
    facts = f"{len(measurement.pts)} frames, {clock_text(first, 0.01)} to {clock_text(last, 0.01)}"
    canvas.text(MARGIN, 22, shortened(f"{measurement.name}: metrics", 26, width - 2 * MARGIN), 26)
    canvas.text(MARGIN, 58, f"{facts}; red: the worst frame of a metric that has a better side", 14, MUTED)
    if thumbnails is not None:
        _thumbnails(canvas, thumbnails)
    panel = (width - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    for number, metric in enumerate(shown):
        column, row = number % COLUMNS, number // COLUMNS
        left, panel_top = MARGIN + column * (panel + GAP), top + row * ROW + 22
        _panel(canvas, measurement, metric, left, panel_top, panel)
    column, row = len(shown) % COLUMNS, len(shown) // COLUMNS
    _drift(canvas, measurement, MARGIN + column * (panel + GAP), top + row * ROW + 22, panel)
    _clip_values(canvas, measurement, rest, top + rows * ROW + 26)
    return canvas.finish()


def _thumbnails(canvas: Canvas, thumbnails: Frames) -> None:
    height, wide = thumbnails.rgb.shape[1:3]
    wide = THUMBNAIL_HEIGHT * wide / height
    for number, (rgb, seconds) in enumerate(zip(thumbnails.rgb, thumbnails.pts, strict=True)):
        left = MARGIN + number * (wide + THUMBNAIL_GAP)
        canvas.image(Image.fromarray(rgb), left, TOP, wide, THUMBNAIL_HEIGHT)
        canvas.text(left, TOP + THUMBNAIL_HEIGHT + 4, clock_text(float(seconds), 0.1), 11, MUTED)


def _heading(canvas: Canvas, left: float, top: float, width: float, name: str, value: float, unit: str) -> None:
    figure = f"{short_number(value)} {unit}" if np.isfinite(value) else "no value"
    canvas.text(left, top - 18, shortened(name, 13, width - text_width(figure, 12) - 12), 13, TEXT)
    canvas.text(left + width, top - 17, figure, 12, MUTED, anchor="ra")
    canvas.rectangle(left, top, left + width, top + PANEL_HEIGHT, fill=PANEL)


def _panel(canvas: Canvas, measurement: Measurement, metric: Metric, left: float, top: float, width: float) -> None:
    values = measurement.frames[metric.name]
    _heading(canvas, left, top, width, metric.words, measurement.clip[metric.name], metric.unit)
    scale = TimeScale(measurement.pts, left, left + width)
    step = time_step(scale.end - scale.start, 6)
    for seconds in np.arange(math.ceil(scale.start / step) * step, scale.end, step):
        x = float(scale.x(seconds))
        canvas.line([(x, top), (x, top + PANEL_HEIGHT)], GRID)
    known = values[np.isfinite(values)]
    if not len(known):
        return
    low, high = min(0.0, float(known.min())), max(float(known.max()), 0.0)
    if high - low < 1e-6:
        high = low + 1

    def y(value):
        return top + PANEL_HEIGHT - 3 - (value - low) / (high - low) * (PANEL_HEIGHT - 6)

    if low < 0:
        canvas.dashes((left, y(0)), (left + width, y(0)), MUTED, 0.5)
    run = []
    for seconds, value in zip([*measurement.pts.tolist(), np.nan], [*values.tolist(), np.nan], strict=True):
        if np.isfinite(value):
            run.append((float(scale.x(seconds)), y(value)))
        elif run:
            canvas.line(run if len(run) > 1 else [run[0], (run[0][0] + 1, run[0][1])], P_COLOUR, 1.5)
            run = []
    canvas.text(left + 4, top + 3, short_number(high), 10, MUTED)
    worst = measurement.worst(metric)
    if worst is not None:
        x, at = float(scale.x(measurement.pts[worst])), y(values[worst])
        canvas.line([(x, top), (x, top + PANEL_HEIGHT)], GAMMA)
        canvas.rectangle(x - 3, at - 3, x + 3, at + 3, fill=GAMMA, radius=3)


def _drift(canvas: Canvas, measurement: Measurement, left: float, top: float, width: float) -> None:
    lags, differences = measurement.drift
    _heading(canvas, left, top, width, "drift against lag", measurement.clip["drift"], "grey levels")
    if len(lags) < 2:
        return
    position = np.log2(lags / lags[0]) / max(np.log2(lags[-1] / lags[0]), 1e-9)
    high = max(float(differences.max()), 1e-9)
    points = [
        (left + 8 + x * (width - 16), top + PANEL_HEIGHT - 14 - value / high * (PANEL_HEIGHT - 20))
        for x, value in zip(position, differences, strict=True)
    ]
    canvas.line(points, I_COLOUR, 1.5)
    for (x, y), lag in zip(points, lags, strict=True):
        canvas.rectangle(x - 2, y - 2, x + 2, y + 2, fill=I_COLOUR, radius=2)
        canvas.text(x, top + PANEL_HEIGHT - 12, clock_text(float(lag), 0.01), 9, MUTED, anchor="ma")
    canvas.text(left + 4, top + 3, short_number(high), 10, MUTED)


def _clip_values(canvas: Canvas, measurement: Measurement, metrics: list[Metric], top: float) -> None:
    width = (canvas.width - 2 * MARGIN) / 4
    for number, metric in enumerate(metrics):
        x, y = MARGIN + number % 4 * width, top + 22 * (number // 4)
        value = measurement.clip[metric.name]
        figure = f"{short_number(value)} {metric.unit}" if np.isfinite(value) else "no value"
        canvas.text(x, y, f"{metric.words}: {figure}", 13, MUTED)
