"""Motion and what it cannot explain as pictures: vectors over the frame, residual as heat, frame beside prediction."""

import numpy as np
from PIL import Image

from ..video.primitives import BLOCK
from .canvas import BACKGROUND, MUTED, TEXT, Canvas, direction_colour, heat_colours, short_number, shortened, text_width

MARGIN = 28
LEGEND = 236
LARGEST = (1080, 760)


def draw_motion_field(rgb: np.ndarray, mv: np.ndarray, valid: np.ndarray | None = None, title: str = "") -> Image.Image:
    """The frame with one arrow for each macroblock that moved, from where its content was to where it is.

    Args:
        rgb: uint8 [H, W, 3], the frame.
        mv: [H/16, W/16, 2] pixels (dx, dy), from a block to its match in the reference; arrows point the other way.
        valid: bool [H/16, W/16], False where the motion is unknown (hatched in the picture).
        title: drawn above.
    """
    width, height = fitted(rgb.shape[1], rgb.shape[0], *LARGEST)
    canvas = Canvas(MARGIN + width + LEGEND + MARGIN, 64 + max(height, 420) + MARGIN)
    canvas.text(MARGIN, 22, shortened(title or "Motion", 22, canvas.width - 2 * MARGIN), 22)
    add_motion_field(canvas, MARGIN, 64, width, height, rgb, mv, valid)
    return canvas.finish()


def draw_residual(residual: np.ndarray, title: str = "") -> Image.Image:
    """What prediction leaves over as a heat map with its scale.

    Args:
        residual: signed [H, W, 3], frame minus prediction in grey levels.
        title: drawn above.
    """
    width, height = fitted(residual.shape[1], residual.shape[0], *LARGEST)
    canvas = Canvas(width + 2 * MARGIN, 64 + height + 60)
    canvas.text(MARGIN, 22, shortened(title or "Residual", 22, width), 22)
    add_residual(canvas, MARGIN, 64, width, height, residual)
    return canvas.finish()


def draw_prediction(rgb, prediction, residual, title: str = "", captions=("frame", "prediction")) -> Image.Image:
    """Frame, its motion-compensated prediction and the residual side by side.

    Args:
        rgb, prediction: uint8 [H, W, 3].
        residual: signed [H, W, 3], their difference in grey levels.
        title: drawn above.
        captions: drawn below the first two pictures.
    """
    width, height = fitted(rgb.shape[1], rgb.shape[0], 560, 560)
    canvas = Canvas(3 * width + 2 * 14 + 2 * MARGIN, 64 + height + 60)
    canvas.text(MARGIN, 22, shortened(title or "Prediction", 22, canvas.width - 2 * MARGIN), 22)
    add_prediction(canvas, MARGIN, 64, width, height, rgb, prediction, residual, captions)
    return canvas.finish()


def draw_motion_sheet(
    rgb, prediction, residual, mv, valid=None, title: str = "", captions=("frame", "prediction")
) -> Image.Image:
    """Everything about one frame: the motion field above, frame, prediction and residual below."""
    width, height = fitted(rgb.shape[1], rgb.shape[0], 1080, 620)
    across = max(width + LEGEND, 820)
    small, low = fitted(rgb.shape[1], rgb.shape[0], (across - 2 * 14) // 3, 420)
    field_height = max(height, 420)
    canvas = Canvas(across + 2 * MARGIN, 64 + field_height + 24 + low + 60)
    canvas.text(MARGIN, 22, shortened(title or "Motion", 22, across), 22)
    add_motion_field(canvas, MARGIN, 64, width, height, rgb, mv, valid)
    left = MARGIN + (across - 3 * small - 2 * 14) // 2
    add_prediction(canvas, left, 64 + field_height + 24, small, low, rgb, prediction, residual, captions)
    return canvas.finish()


def fitted(width: int, height: int, most_wide: int, most_high: int) -> tuple[int, int]:
    """(width, height) in the aspect given, as large as fits."""
    factor = min(most_wide / width, most_high / height)
    return round(width * factor), round(height * factor)


def add_motion_field(canvas: Canvas, left, top, width, height, rgb, mv, valid) -> None:
    grey = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
    canvas.image(Image.fromarray((0.18 * rgb + 0.4 * grey).astype(np.uint8)), left, top, width, height)
    valid = np.ones(mv.shape[:2], bool) if valid is None else valid
    moved = -mv.astype(np.float64) * valid[..., None]
    lengths = np.hypot(moved[..., 0], moved[..., 1])
    longest = float(lengths.max())
    cell = width * BLOCK / rgb.shape[1]
    stretch = 1.25 * cell / longest if longest else 0.0
    for row, column in np.ndindex(*mv.shape[:2]):
        x, y = left + (column + 0.5) * cell, top + (row + 0.5) * cell
        if not valid[row, column]:
            half = 0.22 * cell
            canvas.line([(x - half, y - half), (x + half, y + half)], MUTED)
            canvas.line([(x - half, y + half), (x + half, y - half)], MUTED)
        elif lengths[row, column] > 0:
            dx, dy = moved[row, column]
            arrow(canvas, x, y, stretch * dx, stretch * dy, direction_colour(dx, dy, longest))
    add_motion_legend(canvas, left + width + 34, top, lengths, valid, stretch * rgb.shape[1] / width)


def arrow(canvas: Canvas, x, y, dx, dy, colour) -> None:
    """An arrow through (x, y) that ends at half of (dx, dy) beyond it, on a dark ground so that it shows everywhere."""
    length = float(np.hypot(dx, dy))
    head = min(max(0.36 * length, 2.6), 7.0)
    along = np.array([dx, dy]) / length
    across = np.array([-along[1], along[0]])
    tip = np.array([x, y]) + along * max(length, 4.0) / 2
    tail = np.array([x, y]) - along * max(length, 4.0) / 2
    neck = tip - along * head
    wings = [tuple(tip), tuple(neck + across * head * 0.55), tuple(neck - across * head * 0.55)]
    canvas.line([tuple(tail), tuple(tip)], BACKGROUND, 3.2)
    canvas.line([tuple(tail), tuple(neck)], colour, 1.6)
    canvas.polygon(wings, colour)


def add_motion_legend(canvas: Canvas, left, top, lengths, valid, stretch) -> None:
    radius = 74
    longest = float(lengths.max())
    canvas.image(colour_wheel(4 * radius), left, top + 8, 2 * radius, 2 * radius)
    known = lengths[valid]
    fraction = float(np.mean(known > 0)) if known.size else 0.0
    rows = [
        ("longest", f"{longest:.1f} px"),
        ("mean", f"{known.mean() if known.size else 0:.1f} px"),
        ("blocks moving", f"{100 * fraction:.0f} %"),
    ]
    if not valid.all():
        rows.append(("unknown (x)", f"{100 * float(np.mean(~valid)):.0f} %"))
    y = top + 2 * radius + 34
    for label, value in rows:
        canvas.text(left, y, label, 14, MUTED)
        canvas.text(left + 2 * radius + 26, y, value, 14, TEXT, anchor="ra")
        y += 24
    note = ["hue: direction of the content", "saturation: distance", "rim of the wheel: the longest"]
    if longest:
        note.append(f"arrows drawn {stretch:.1f} times as long")
    for line, words in enumerate(note):
        canvas.text(left, y + 14 + 18 * line, words, 12, MUTED)


def colour_wheel(size: int) -> Image.Image:
    """The legend of directions: hue around, saturation outwards, on the background of the pictures."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    distance = np.hypot(rows, columns) / (size / 2)
    hue = np.arctan2(-rows, columns) / (2 * np.pi) % 1.0
    hsv = np.stack([hue, 0.25 + 0.75 * np.clip(distance, 0, 1), np.ones_like(hue)], -1)
    wheel = np.asarray(Image.fromarray((255 * hsv).round().astype(np.uint8), "HSV").convert("RGB"))
    inside = np.clip((1 - distance) * size / 4, 0, 1)[..., None]
    return Image.fromarray((wheel * inside + np.array(BACKGROUND) * (1 - inside)).astype(np.uint8))


def add_residual(canvas: Canvas, left, top, width, height, residual) -> None:
    amount = np.abs(residual.astype(np.int16)).mean(axis=-1)
    highest = max(16.0, float(np.ceil(np.percentile(amount, 99.5))))
    canvas.image(Image.fromarray(heat_colours(amount, highest)), left, top, width, height)
    y = top + height + 14
    bar = width // 3
    steps = heat_colours(np.linspace(0, 1, 256)[None], 1.0)
    words = f"residual, mean {amount.mean():.1f}"
    if text_width(words, 14) > width - bar - 100:
        words = words.partition(", ")[2]
    canvas.text(left, y, words, 14)
    canvas.text(left + width, y, f"{short_number(highest)} levels", 12, MUTED, anchor="ra")
    right = left + width - text_width(f"{short_number(highest)} levels", 12) - 8
    canvas.image(Image.fromarray(steps), right - bar, y + 2, bar, 11)
    canvas.text(right - bar - 8, y, "0", 12, MUTED, anchor="ra")


def add_prediction(canvas: Canvas, left, top, width, height, rgb, prediction, residual, captions) -> None:
    for picture, caption in zip((rgb, prediction), captions, strict=True):
        canvas.image(Image.fromarray(picture), left, top, width, height)
        canvas.text(left, top + height + 14, shortened(caption, 14, width), 14)
        left += width + 14
    add_residual(canvas, left, top, width, height, residual)
