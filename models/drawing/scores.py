"""Scores as a picture: a bar for each question, and the score over time beside the frame where it is lowest."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from .canvas import GAMMA, GRID, I_COLOUR, MUTED, P_COLOUR, PANEL, Canvas, clock_text, shortened

MARGIN, NAME, BAR, WORDS, ROW = 28, 300, 420, 230, 30
TOP, STRIP, PICTURE = 96, 96, 220


class Bar(NamedTuple):
    """A question with its score 0..1 and what stands beside the bar."""

    name: str
    value: float
    words: str


class Span(NamedTuple):
    """A stretch of time with its score 0..1."""

    first: float
    last: float
    value: float


def draw_scores(
    title: str, words: str, bars: Sequence[Bar], spans: Sequence[Span] = (), worst: np.ndarray | None = None
) -> Image.Image:
    """Draw the scores of one clip; the lowest bar and the lowest span are red.

    Args:
        words: drawn below the title.
        spans: the score over time, in order.
        worst: uint8 [H, W, 3], a frame of the lowest span, shown at the right.
    """
    side = 0 if worst is None else round(PICTURE * worst.shape[1] / worst.shape[0]) + MARGIN
    below = TOP + ROW * len(bars) + (STRIP + 56 if spans else 0)
    canvas = Canvas(MARGIN + NAME + BAR + WORDS + side, max(below, TOP + PICTURE + 36 if side else 0) + MARGIN)
    room = canvas.width - 2 * MARGIN
    canvas.text(MARGIN, 20, shortened(title, 24, room), 24)
    canvas.text(MARGIN, 56, shortened(words, 14, room), 14, MUTED)
    lowest = min(bars, key=lambda bar: bar.value) if len(bars) > 1 else None
    for number, bar in enumerate(bars):
        _draw_bar(canvas, bar, TOP + ROW * number, GAMMA if bar is lowest else P_COLOUR)
    if spans:
        _draw_spans(canvas, spans, TOP + ROW * len(bars) + 30)
    if worst is not None:
        left = canvas.width - side
        canvas.image(Image.fromarray(worst), left, TOP, side - MARGIN, PICTURE)
        span = min(spans, key=lambda span: span.value)
        when = f"lowest: {clock_text(span.first, 0.01)}, {span.value:.3f}"
        canvas.text(left, TOP + PICTURE + 8, shortened(when, 13, side - MARGIN), 13, GAMMA)
    return canvas.finish()


def _draw_bar(canvas: Canvas, bar: Bar, top: float, colour) -> None:
    left, bottom = MARGIN + NAME, top + ROW - 10
    canvas.text(MARGIN, top + 3, shortened(bar.name, 14, NAME - 12), 14)
    canvas.rectangle(left, top, left + BAR, bottom, fill=PANEL, radius=3)
    canvas.rectangle(left, top, left + max(2.0, BAR * bar.value), bottom, fill=colour, radius=3)
    canvas.line([(left + BAR / 2, top), (left + BAR / 2, bottom)], GRID)
    canvas.text(left + BAR + 12, top + 3, shortened(f"{bar.value:.3f}   {bar.words}", 13, WORDS - 24), 13, MUTED)


def _draw_spans(canvas: Canvas, spans: Sequence[Span], top: float) -> None:
    """The score of each span; one lasts until the next begins."""
    left, right = MARGIN, MARGIN + NAME + BAR
    starts = [span.first for span in spans]
    end = max(spans[-1].last, starts[-1] + 1e-3)
    lowest = min(spans, key=lambda span: span.value) if len(spans) > 1 else None
    canvas.text(left, top - 20, "score of each group of pictures over time", 13, MUTED)
    canvas.rectangle(left, top, right, top + STRIP, fill=PANEL)
    for span, begin, stop in zip(spans, starts, [*starts[1:], end], strict=True):
        a, b = ((x - starts[0]) / (end - starts[0]) * (right - left) + left for x in (begin, stop))
        height = max(2.0, span.value * (STRIP - 6))
        colour = GAMMA if span is lowest else I_COLOUR
        canvas.rectangle(a + 1, top + STRIP - height, max(b - 1, a + 2), top + STRIP, fill=colour)
    canvas.text(left, top + STRIP + 6, clock_text(starts[0], 0.1), 11, MUTED)
    canvas.text(right, top + STRIP + 6, clock_text(end, 0.1), 11, MUTED, anchor="ra")
