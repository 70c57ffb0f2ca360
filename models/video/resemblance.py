"""How much of one picture another one explains: moved as a whole, in another light, the bars around both left out."""

import numpy as np
from PIL import Image

READ = (72, 128)
"""Height and width at which pictures are read."""

THUMBNAIL = (36, 64)
"""Height and width to which the active picture, the part between bars, is brought to be compared."""

EXPLAINED = 0.5
"""Fraction of the picture that has to be explained by an earlier one for both to be the same shot."""

CELL = (6, 8)
"""Height and width of the cells for which it is asked whether they are explained."""

TEXTURE = 2.5
"""Standard deviation of band-passed brightness from which a cell has something to correlate."""

PLAIN_WEIGHT, STILL_PLAIN_WEIGHT = 0.35, 0.15
"""Weight of a cell that is plain and of one colour in both pictures: the paper under text says little."""

SAME_STRUCTURE, STILL_STRUCTURE = 0.5, 0.8
"""Correlation from which two textured cells show the same, and that from which they do where nothing moves."""

SAME_COLOUR = 10.0
"""Difference of mean colour, in the channel where it is largest, up to which two plain cells show the same."""

CONTRAST, MOST_GAIN = 12.0, 6.0
"""Standard deviation of band-passed brightness to which darker pictures are raised, and by how much at most..."""

RAISED_NOISE = 2.5
"""...as long as the usual change from frame to frame stays below this."""

BAR, SHARPEST_BAR, COARSEST_BAR = 0.06, 0.5, 3.0
"""Mean deviation from one colour up to which a row or column at the edge belongs to a bar, as a fraction of the frame's
standard deviation, and the least and the most that this may be."""

BAR_EDGE = 2
"""Pixels at the edge of the active picture that a bar may blur."""

SMALLEST_PICTURE = 0.01
"""Fraction of the frame from which what is left between bars is a picture."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. ITU-R BT.601."""

Rectangle = tuple[int, int, int, int]
"""Top, bottom, left and right edge; bottom and right are not included."""

WHOLE: Rectangle = (0, READ[0], 0, READ[1])


class Pictures:
    """Consecutive frames, uint8 [N, 72, 128, 3], prepared for comparison; positions count from the first."""

    def __init__(self, frames: np.ndarray):
        self.frames = frames
        halves = frames.reshape(-1, THUMBNAIL[0], 2, THUMBNAIL[1], 2, 3)
        self.small = halves.mean(axis=(2, 4), dtype=np.float32)
        self.active = active_pictures(frames)
        self.steps = np.abs(np.diff(self.small, axis=0)).mean(axis=(1, 2, 3))
        for step in range(len(self.steps)):
            self.steps[step] /= max(0.2, *(_area(self.active[at]) for at in (step, step + 1)))
        self.views: dict[tuple, View] = {}

    def view(self, at: int, rectangle: Rectangle) -> "View":
        key = (at, *rectangle)
        if key not in self.views:
            self.views[key] = View(cropped(self.frames[at], rectangle))
        return self.views[key]

    def pair(self, a: int, b: int) -> tuple["View", "View"]:
        """Both frames in the part that is active in both; or, where that is little of either, in one of them.

        Whole where the bars differ: they are no bars then, but paper or light.
        """
        one, other = self.active[a], self.active[b]
        inner = max(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), min(one[3], other[3])
        outer = min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])
        little = inner[0] >= inner[1] or inner[2] >= inner[3] or _area(inner) < 0.5 * min(_area(one), _area(other))
        rectangle = outer if little else inner
        if outer != WHOLE and self.bars_differ(a, b, outer):
            rectangle = WHOLE
        return self.view(a, rectangle), self.view(b, rectangle)

    def bars_differ(self, a: int, b: int, outer: Rectangle) -> bool:
        """True when what lies around ``outer`` has another colour in frame ``a`` than in frame ``b``."""
        around = np.ones(READ, bool)
        around[outer[0] : outer[1], outer[2] : outer[3]] = False
        colours = [self.frames[at][around].mean(axis=0) for at in (a, b)]
        return bool(np.abs(colours[0] - colours[1]).max() > SAME_COLOUR)

    def usual_step(self, at: int, around: int = 12) -> float:
        """Median change from frame to frame around position ``at``."""
        return float(np.median(self.steps[max(0, at - around) : at + around])) if len(self.steps) else 0.0

    def gain(self, a: int, b: int) -> float:
        """Factor that brings dark pictures to the contrast of others, as far as noise allows."""
        contrast = max(view.contrast for view in self.pair(a, b))
        noise = max(self.usual_step(b), 1e-3)
        return float(np.clip(CONTRAST / max(contrast, 1e-3), 1.0, max(1.0, min(MOST_GAIN, RAISED_NOISE / noise))))

    def explained(self, a: int, b: int, still: bool = False, any_light: bool = False) -> float:
        """Fraction of frame ``b`` that frame ``a`` explains; see :func:`explained`."""
        return explained(*self.pair(a, b), self.gain(a, b), still, any_light)

    def palette(self, a: int, b: int) -> float:
        """Fraction of the colours that both frames have in common, 0 to 1 (intersection of smoothed histograms)."""
        gain = self.gain(a, b)
        return float(np.minimum(*(_histogram(view.rgb * gain) for view in self.pair(a, b))).sum())


class View:
    """A picture of 36 x 64 prepared for comparison."""

    def __init__(self, rgb: np.ndarray):
        self.rgb = rgb
        self.detail = band_pass(rgb @ LUMA)
        self.contrast = float(self.detail.std())
        self.spectrum = np.fft.rfft2(self.detail, (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))


def active_pictures(frames: np.ndarray) -> np.ndarray:
    """int64 [N, 4]: the :data:`Rectangle` of each frame, uint8 [N, H, W, 3], that is left between bars of one colour.

    The whole frame where hardly anything is left.
    """
    count, height, width = frames.shape[:3]
    rectangles = np.empty((count, 4), np.int64)
    for number, frame in enumerate(frames.astype(np.int16)):
        deviation = float(np.clip(BAR * frame[::4, ::4].std(), SHARPEST_BAR, COARSEST_BAR))
        top, bottom = _bars(frame, deviation)
        inner = frame[top : height - bottom].swapaxes(0, 1)
        left, right = _bars(inner, deviation) if top + bottom < height else (0, 0)
        edges = [side + BAR_EDGE * (side > 0) for side in (top, bottom, left, right)]
        rectangle = edges[0], height - edges[1], edges[2], width - edges[3]
        small = rectangle[0] >= rectangle[1] or rectangle[2] >= rectangle[3] or _area(rectangle) < SMALLEST_PICTURE
        rectangles[number] = (0, height, 0, width) if small else rectangle
    return rectangles


def _bars(frame: np.ndarray, deviation: float) -> tuple[int, int]:
    """Rows of one colour at the beginning and at the end of ``frame``, int16 [H, W, 3]."""
    found = []
    for rows in (frame, frame[::-1]):
        colour = rows[0].mean(axis=0)
        if np.abs(rows[0] - colour).mean(axis=0).max() >= deviation:
            found.append(0)
            continue
        plain = np.abs(rows - colour).mean(axis=1).max(axis=1) < deviation
        found.append(len(plain) if plain.all() else int(np.argmin(plain)))
    return found[0], found[1]


def _area(rectangle) -> float:
    top, bottom, left, right = rectangle
    return (bottom - top) * (right - left) / (READ[0] * READ[1])


def cropped(frame: np.ndarray, rectangle: Rectangle) -> np.ndarray:
    """float32 [36, 64, 3]: the part of ``frame`` within ``rectangle``."""
    top, bottom, left, right = (int(edge) for edge in rectangle)
    image = Image.fromarray(frame).resize(THUMBNAIL[::-1], Image.Resampling.BOX, box=(left, top, right, bottom))
    return np.asarray(image, np.float32)


def explained(a: View, b: View, gain: float = 1.0, still: bool = False, any_light: bool = False) -> float:
    """Fraction of the cells of ``b`` that ``a`` explains, standing still or moved as a whole.

    A change of light never matters where there is texture; with ``any_light`` plain cells may have become brighter or
    darker too, all by the same factor and without a change of hue, and count in full. ``still`` asks more of them, as
    befits pictures between which nothing moves. Both are taken ``gain`` times as bright.
    """
    surface = np.fft.irfft2(np.conj(a.spectrum) * b.spectrum, (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))
    down, right = np.unravel_index(int(surface.argmax()), surface.shape)
    down -= 2 * THUMBNAIL[0] * (down >= THUMBNAIL[0])
    right -= 2 * THUMBNAIL[1] * (right >= THUMBNAIL[1])
    still = _explained_at(a, b, 0, 0, gain, still, any_light)
    if abs(down) > THUMBNAIL[0] // 2 or abs(right) > THUMBNAIL[1] // 2:
        return still
    return max(still, _explained_at(a, b, int(down), int(right), gain, still, any_light))


def _explained_at(a: View, b: View, down: int, right: int, gain: float, still: bool, any_light: bool) -> float:
    rows, columns = THUMBNAIL
    inside_b = slice(max(0, down), rows + min(0, down)), slice(max(0, right), columns + min(0, right))
    inside_a = slice(max(0, -down), rows - max(0, down)), slice(max(0, -right), columns - max(0, right))
    detail_a, detail_b = _cells(a.detail[inside_a]), _cells(b.detail[inside_b])
    colour_a, colour_b = _cells(a.rgb[inside_a]).mean(axis=2), _cells(b.rgb[inside_b]).mean(axis=2)
    if any_light:
        colour_a = colour_a * np.median((colour_b.mean(axis=2) + 1) / (colour_a.mean(axis=2) + 1))
    difference = gain * np.abs(colour_a - colour_b).max(axis=2)
    power_a, power_b = (detail_a**2).mean(axis=2), (detail_b**2).mean(axis=2)
    correlation = (detail_a * detail_b).mean(axis=2) / np.sqrt(power_a * power_b + 1e-6)
    textured = gain**2 * np.maximum(power_a, power_b) > TEXTURE**2
    same = np.where(textured, correlation > (STILL_STRUCTURE if still else SAME_STRUCTURE), difference < SAME_COLOUR)
    plain_weight = 1.0 if any_light else STILL_PLAIN_WEIGHT if still else PLAIN_WEIGHT
    weight = np.where(~textured & same, plain_weight, 1.0)
    # What has come into the picture since is not explained by what was in it.
    overlap = (rows - abs(down)) * (columns - abs(right)) / (rows * columns)
    return float(overlap * (weight * same).sum() / weight.sum())


def _histogram(rgb: np.ndarray, bins: int = 8) -> np.ndarray:
    """float64 [bins, bins, bins], sum 1: how often each colour of ``rgb`` (0..255) occurs, bins next to it included."""
    levels = (rgb.reshape(-1, 3).clip(0, 255) * (bins / 256)).astype(np.int64)
    counts = np.zeros((bins + 2,) * 3)
    np.add.at(counts, tuple(levels.T + 1), 1.0)
    for axis in range(3):
        counts = 0.25 * np.roll(counts, 1, axis) + 0.5 * counts + 0.25 * np.roll(counts, -1, axis)
    return counts / counts.sum()


def _cells(picture: np.ndarray) -> np.ndarray:
    """[rows, columns, pixels, ...] of the whole cells of ``picture`` [H, W, ...]."""
    rows, columns = picture.shape[0] // CELL[0], picture.shape[1] // CELL[1]
    cut = picture[: rows * CELL[0], : columns * CELL[1]]
    cells = cut.reshape(rows, CELL[0], columns, CELL[1], *picture.shape[2:]).swapaxes(1, 2)
    return cells.reshape(rows, columns, CELL[0] * CELL[1], *picture.shape[2:])


def band_pass(brightness: np.ndarray, radius: int = 4) -> np.ndarray:
    """``brightness`` [..., H, W] less its mean over (2 * radius + 1) squared pixels."""
    mean = np.pad(brightness, [(0, 0)] * (brightness.ndim - 2) + [(radius, radius)] * 2, mode="reflect")
    for axis in (-2, -1):
        windows = np.lib.stride_tricks.sliding_window_view(mean, 2 * radius + 1, axis=axis)
        mean = windows.mean(axis=-1)
    return brightness - mean
