"""What all pictures have in common: a canvas that smooths its edges, the colours, axes that pick round numbers."""

import colorsys
import functools
import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

BACKGROUND = (18, 20, 25)
PANEL = (27, 30, 37)
GRID = (48, 53, 63)
TEXT = (226, 229, 235)
MUTED = (148, 155, 168)
I_COLOUR = (255, 183, 77)
P_COLOUR = (79, 151, 199)
DROPPED = (74, 79, 90)
GAMMA = (240, 98, 110)
CUT = (235, 235, 240)
SPAN = (150, 120, 220)
OVERSAMPLING = 2

HEAT = np.array(
    [
        (0, 0, 4),
        (40, 11, 84),
        (101, 21, 110),
        (159, 42, 99),
        (212, 72, 66),
        (245, 125, 21),
        (250, 193, 39),
        (252, 255, 164),
    ]
)
"""A ramp from black through violet and orange to pale yellow whose lightness rises evenly."""


class Canvas:
    """A picture drawn at twice its size and shrunk at the end. Coordinates are those of the final picture."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.picture = Image.new("RGB", (OVERSAMPLING * width, OVERSAMPLING * height), BACKGROUND)
        self.pen = ImageDraw.Draw(self.picture)

    def rectangle(self, left, top, right, bottom, fill=None, outline=None, radius=0.0) -> None:
        box = [round(OVERSAMPLING * value) for value in (left, top, right, bottom)]
        box[2], box[3] = max(box[2] - 1, box[0]), max(box[3] - 1, box[1])
        self.pen.rounded_rectangle(box, OVERSAMPLING * radius, fill=fill, outline=outline, width=OVERSAMPLING)

    def line(self, points, fill, width=1.0) -> None:
        scaled = [(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in points]
        self.pen.line(scaled, fill=fill, width=max(1, round(OVERSAMPLING * width)), joint="curve")

    def dashes(self, start, end, fill, width=1.0, dash=6.0, gap=4.0) -> None:
        length = math.dist(start, end)
        along = np.array([end[0] - start[0], end[1] - start[1]]) / max(length, 1e-9)
        for begin in np.arange(0, length, dash + gap):
            first, last = start + along * begin, start + along * min(begin + dash, length)
            self.line([tuple(first), tuple(last)], fill, width)

    def polygon(self, points, fill) -> None:
        self.pen.polygon([(OVERSAMPLING * x, OVERSAMPLING * y) for x, y in points], fill=fill)

    def text(self, x, y, words, size=13, fill=TEXT, anchor="la") -> None:
        self.pen.text((OVERSAMPLING * x, OVERSAMPLING * y), words, fill, font(OVERSAMPLING * size), anchor=anchor)

    def image(self, picture: Image.Image, left, top, width, height) -> None:
        """Place ``picture``, resized to ``width`` x ``height``."""
        size = (max(1, round(OVERSAMPLING * width)), max(1, round(OVERSAMPLING * height)))
        resized = picture.resize(size, Image.Resampling.BICUBIC)
        self.picture.paste(resized, (round(OVERSAMPLING * left), round(OVERSAMPLING * top)))

    def finish(self) -> Image.Image:
        return self.picture.resize((self.width, self.height), Image.Resampling.BOX)


@functools.lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface (Aileron, part of Pillow since 10.1) at ``size`` pixels."""
    return ImageFont.load_default(size)


def text_width(words: str, size: float) -> float:
    """Width of ``words`` in pixels of the final picture."""
    return font(round(OVERSAMPLING * size)).getlength(words) / OVERSAMPLING


def shortened(words: str, size: float, width: float) -> str:
    """``words``, cut in the middle where they are wider than ``width`` pixels."""
    kept = len(words)
    while kept > 3 and text_width(words, size) > width:
        kept -= 1
        words = words[: kept // 2] + "..." + words[-(kept - kept // 2 - 3) or len(words) :]
    return words


def round_step(span: float, at_most: int, steps=(1, 2, 5)) -> float:
    """The smallest round number (1, 2, 5 times a power of ten) that divides ``span`` into at most ``at_most`` parts."""
    least = max(span, 1e-12) / at_most
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * step for step in (*steps, 10 * steps[0]) if power * step >= least * (1 - 1e-9))


def time_step(span: float, at_most: int) -> float:
    """Like :func:`round_step`, for seconds: above one second it keeps to the divisions of a clock."""
    clock = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
    if span / at_most <= 0.5:
        return round_step(span, at_most)
    return next((step for step in clock if span / step <= at_most), round_step(span / 3600, at_most) * 3600)


def clock_text(seconds: float, step: float = 1.0) -> str:
    """``seconds`` as '7 s', '0.25 s', '1:05' or '1:02:05', with the decimals that a grid of ``step`` needs."""
    if abs(seconds) < 60:
        decimals = max(0, -math.floor(math.log10(step) + 1e-9)) if step < 1 else 0
        return f"{seconds:.{decimals}f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def short_number(value: float) -> str:
    """12345678 as '12.3 M', 1234 as '1.23 k', 0 as '0'."""
    for limit, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def grouped(value: int) -> str:
    """1234567 as '1 234 567'."""
    return f"{value:,}".replace(",", " ")


def direction_colour(dx: float, dy: float, longest: float) -> tuple[int, int, int]:
    """Hue from the direction (dx to the right, dy down), saturation from the length relative to ``longest``."""
    length = min(math.hypot(dx, dy) / max(longest, 1e-9), 1.0)
    hue = (math.atan2(-dy, dx) / (2 * math.pi)) % 1.0
    return tuple(round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, 0.25 + 0.75 * length, 1.0))


def heat_colours(values: np.ndarray, highest: float) -> np.ndarray:
    """uint8 [..., 3]: ``values`` from 0 to ``highest`` on the heat ramp."""
    position = np.clip(values / max(highest, 1e-9), 0, 1) * (len(HEAT) - 1)
    steps = np.arange(len(HEAT))
    return np.stack([np.interp(position, steps, HEAT[:, channel]) for channel in range(3)], -1).round().astype(np.uint8)
