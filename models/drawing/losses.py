"""The losses of a training run, stage by stage."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .canvas import GRID, I_COLOUR, MUTED, P_COLOUR, PANEL, Canvas, short_number, shortened

MARGIN, TOP, GAP = 28, 84, 40
COLOURS = (P_COLOUR, I_COLOUR)


def draw_losses(rows: Sequence[dict], title: str, width: int = 1000, height: int = 420) -> Image.Image:
    """Draw a log's rows ("step", "stage", "loss"), a panel for each stage: every loss, and its running mean."""
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    canvas = Canvas(width, height)
    canvas.text(MARGIN, 18, shortened(title, 24, width - 2 * MARGIN), 24)
    canvas.text(MARGIN, 52, "loss by step; the bright line is the mean of a tenth of the steps", 13, MUTED)
    panel = (width - 2 * MARGIN - GAP * (len(stages) - 1)) / max(1, len(stages))
    for number, stage in enumerate(stages):
        own = [(row["step"], row["loss"]) for row in rows if row["stage"] == stage and math.isfinite(row["loss"])]
        if own:
            left = MARGIN + number * (panel + GAP)
            _panel(canvas, np.array(own), stage, left, panel, COLOURS[number % len(COLOURS)])
    return canvas.finish()


def _panel(canvas: Canvas, points: np.ndarray, stage: str, left: float, width: float, colour) -> None:
    steps, losses = points[:, 0], points[:, 1]
    top, bottom = TOP + 24, canvas.height - 48
    low, high = float(losses.min()), float(losses.max())
    high = high if high > low else low + 1
    first, last = float(steps[0]), max(float(steps[-1]), float(steps[0]) + 1)

    def position(step, loss):
        return left + (step - first) / (last - first) * width, bottom - (loss - low) / (high - low) * (bottom - top)

    canvas.rectangle(left, top, left + width, bottom, fill=PANEL)
    for part in range(5):
        loss = low + (high - low) * part / 4
        y = position(first, loss)[1]
        canvas.line([(left, y), (left + width, y)], GRID)
        canvas.text(left + 4, y - 15 if part < 4 else y + 2, short_number(loss), 11, MUTED)
    faint = tuple((channel + 2 * ground) // 3 for channel, ground in zip(colour, PANEL, strict=True))
    every = [position(step, loss) for step, loss in points]
    canvas.line(every if len(every) > 1 else every * 2, faint, 1)
    span = max(1, len(losses) // 10)
    means = np.convolve(losses, np.ones(span) / span, "valid")
    smooth = [position(step, loss) for step, loss in zip(steps[span - 1 :], means, strict=True)]
    canvas.line(smooth if len(smooth) > 1 else smooth * 2, colour, 2.5)
    canvas.text(left, TOP, f"{stage}: {short_number(float(means[0]))} to {short_number(float(means[-1]))}", 14, colour)
    canvas.text(left, bottom + 8, f"step {first:g}", 12, MUTED)
    canvas.text(left + width, bottom + 8, f"{float(steps[-1]):g}", 12, MUTED, anchor="ra")
