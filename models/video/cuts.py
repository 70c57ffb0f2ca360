"""Where one shot ends and the next begins: hard cuts at their exact frame, fades and dissolves as spans.

A **hard cut** is a step that (1) stands out: it is larger than most steps around it, so that fast camera work, which
has many large steps, has none that does; (2) is not explained: in most of the picture the new frame is neither the old
one moved as a whole (correlation of band-passed brightness, which a change of light leaves alone) nor of the same
colour where there is nothing to correlate; and (3) stays: no picture from before the step comes back within a third of
a second, as it does after a flash, in a strobe, or when a damaged frame is past.

A **fade or dissolve** is a stretch in which every frame is a mixture (1 - a) A + a B of the pictures at its two ends,
with a growing from 0 to 1, and B is not explained by A in the sense of (2), nor by more or less light. Motion does not
mix pictures: half-way through a pan the picture is not half the first and half the last. Where A and B themselves move
the mixture only holds coarsely; then the detail must also fade half-way, as it does in the mean of two pictures. With a
plain A or B it is a fade in or out.

All of this happens on thumbnails of 64 x 36, at the native frame rate, in a window of bounded length. Missed are shots
shorter than a third of a second between two takes of another, and dissolves during which the camera moves by more than
about a sixth of the picture.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import numpy as np

from ..progress import Progress, no_progress
from ..source.reading import FrameSampling, VideoSource

THUMBNAIL = (36, 64)
"""Height and width at which pictures are compared."""

STANDS_OUT = 1.5
"""A step counts when it is this many times the third largest of its neighbours..."""

NEIGHBOURS = 4
"""...among so many steps on each side."""

SMALLEST_STEP = 2.5
"""Mean change of a colour value (0..255) below which nothing is a cut: the noise of dark footage, averaged."""

RETURNS_WITHIN = 1 / 3
"""Seconds in which a picture from before a flash comes back. A shot shorter than this between two others is missed."""

EXPLAINED = 0.5
"""Share of the picture that has to be explained by an earlier one for both to be the same shot."""

CELL = (6, 8)
"""Height and width of the cells for which it is asked whether they are explained."""

TEXTURE = 2.5
"""Standard deviation of band-passed brightness from which a cell has something to correlate."""

SAME_STRUCTURE = 0.5
"""Correlation from which two textured cells show the same."""

SAME_COLOUR = 10.0
"""Difference of mean colour, in the channel where it is largest, up to which two plain cells show the same."""

LONGEST_SPAN = 192
"""Frames of the longest fade or dissolve that is looked for."""

STILL_ERROR, MOVING_ERROR = 0.15, 0.3
"""Distance of a frame from the line between both ends of a dissolve, as a share of that line's length: in pictures of
32 x 18, and of 8 x 4 where moving shots are looked for."""

FADED = 0.7
"""Power of the detail half-way through a dissolve, as a share of that at its ends: one half for pictures that have
nothing in common, one for any movement that does not blur."""

STILL_GOING = 0.25
"""Share of a dissolve's typical step from which a step still belongs to it."""

PLAIN = 6.0
"""Standard deviation of a picture up to which a fade begins or ends there, if a quarter of the other end's at most."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Rec. ITU-R BT.601."""

WINDOW = 1024
OVERLAP = 2 * (LONGEST_SPAN + 64)
"""Frames that are looked at together, and frames that two such windows share."""


@dataclass(frozen=True, slots=True)
class Span:
    """A gradual change of shot.

    Attributes:
        kind: 'fade_in', 'fade_out' or 'dissolve'.
        first: frame number of the first picture that differs from the old shot (or the plain picture).
        last: frame number of the first picture that is only the new one.
    """

    kind: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Cuts:
    """All changes of shot of a source, in frame numbers of the source.

    Attributes:
        cuts: the frames that start a new shot after a hard cut.
        spans: fades and dissolves.
    """

    cuts: tuple[int, ...]
    spans: tuple[Span, ...]

    def to_json(self) -> dict:
        """{'cuts': [...], 'spans': [{'kind', 'first', 'last'}, ...]}."""
        return {"cuts": list(self.cuts), "spans": [asdict(span) for span in self.spans]}


_FOUND: WeakKeyDictionary[VideoSource, Cuts] = WeakKeyDictionary()


def cuts_of(source: VideoSource, progress: Progress = no_progress) -> Cuts:
    """The cuts of ``source`` as :func:`find_cuts` finds them, looked for once for as long as somebody holds it."""
    if source not in _FOUND:
        _FOUND[source] = find_cuts(source, progress)
    return _FOUND[source]


def find_cuts(source: VideoSource, progress: Progress = no_progress) -> Cuts:
    """Cuts, fades and dissolves in the trim window of ``source``. Raises InputError as reading does."""
    cuts, spans = [], []
    patience = max(2, round(RETURNS_WITHIN * source.info.fps))
    for numbers, thumbnails, decided in _windows(source, progress):
        window = _Window(thumbnails, patience)
        found = [span for span in window.spans() if decided[0] <= (span.first + span.last) // 2 < decided[1]]
        for at in window.cuts():
            if decided[0] <= at < decided[1] and not any(span.first <= at <= span.last for span in found):
                cuts.append(int(numbers[at]))
        spans += [Span(span.kind, int(numbers[span.first]), int(numbers[span.last])) for span in found]
    return Cuts(tuple(cuts), tuple(spans))


def _windows(source, progress) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    """Yield (frame numbers, thumbnails, the part in which to decide); these parts cover each frame once."""
    numbers, thumbnails = np.empty(0, np.int64), np.empty((0, *THUMBNAIL, 3), np.uint8)
    begin = 0
    for part in source.frames(FrameSampling.all(), THUMBNAIL, chunk=OVERLAP, progress=progress):
        numbers = np.concatenate([numbers, part.index])
        thumbnails = np.concatenate([thumbnails, part.rgb])
        if len(numbers) >= WINDOW:
            end = len(numbers) - OVERLAP // 2
            yield numbers, thumbnails, (begin, end)
            numbers, thumbnails = numbers[-OVERLAP:], thumbnails[-OVERLAP:]
            begin = OVERLAP // 2
    yield numbers, thumbnails, (begin, len(numbers))


class _Window:
    """The changes of shot among consecutive thumbnails, uint8 [N, 36, 64, 3]; positions count from its first."""

    def __init__(self, thumbnails: np.ndarray, patience: int):
        self.pictures = thumbnails.astype(np.float32)
        self.patience = patience
        self.views: dict[int, _View] = {}

    def view(self, at: int) -> "_View":
        if at not in self.views:
            self.views[at] = _View(self.pictures[at])
        return self.views[at]

    def cuts(self) -> list[int]:
        """Positions of the frames that start a new shot."""
        steps = np.abs(np.diff(self.pictures, axis=0)).mean(axis=(1, 2, 3))
        found: list[int] = []
        for at in np.flatnonzero(_stands_out(steps)) + 1:
            if found and at - found[-1] <= 2 and steps[at - 1] <= steps[found[-1] - 1]:
                continue
            if not self.same(at - 1, at) and not self.returns(at):
                if found and at - found[-1] <= 2:
                    found.pop()
                found.append(int(at))
        return found

    def same(self, a: int, b: int) -> bool:
        return explained(self.view(a), self.view(b)) >= EXPLAINED

    def returns(self, at: int) -> bool:
        """True when what ends before ``at`` comes back soon, or what begins at ``at`` was there shortly before."""
        last = len(self.pictures) - 1
        later = range(at + 1, min(at + self.patience, last) + 1)
        before = range(at - 2, max(at - 2 - self.patience, -1), -1)
        return any(self.same(at - 1, b) for b in later) or any(self.same(a, at) for a in before)

    def spans(self) -> list[Span]:
        """Fades and dissolves, first and last as positions."""
        power = (_band_pass(self.pictures @ LUMA) ** 2).mean(axis=(1, 2))
        found: list[Span] = []
        for rows, columns, error, fading in ((18, 32, STILL_ERROR, None), (4, 8, MOVING_ERROR, power)):
            blocks = self.pictures.reshape(-1, rows, 36 // rows, columns, 64 // columns, 3).mean(axis=(2, 4))
            vectors = blocks.reshape(len(blocks), -1)
            mixtures = _Mixtures(vectors - vectors.mean(axis=0), error, fading)
            for a, b in mixtures.candidates():
                if any(a < span.last and b > span.first for span in found):
                    continue
                kind = self.kind(a, b)
                if kind:
                    found.append(Span(kind, *mixtures.ends(a, b)))
        return sorted(found, key=lambda span: span.first)

    def kind(self, a: int, b: int) -> str | None:
        contrast_a, contrast_b = (self.pictures[at].std(axis=(0, 1)).max() for at in (a, b))
        if contrast_a <= min(PLAIN, contrast_b / 4):
            return "fade_in"
        if contrast_b <= min(PLAIN, contrast_a / 4):
            return "fade_out"
        same = explained(self.view(a), self.view(b), any_light=True) >= EXPLAINED
        return None if same else "dissolve"


def _stands_out(steps: np.ndarray) -> np.ndarray:
    """bool [N - 1]: steps that are large, and larger than all but two of their neighbours by a factor."""
    padded = np.pad(steps, NEIGHBOURS)
    around = np.stack([padded[i : i + len(steps)] for i in range(2 * NEIGHBOURS + 1) if i != NEIGHBOURS])
    third = np.sort(around, axis=0)[-3]
    return (steps >= SMALLEST_STEP) & (steps > STANDS_OUT * third)


class _View:
    """A thumbnail prepared for comparison."""

    def __init__(self, rgb: np.ndarray):
        self.rgb = rgb
        self.detail = _band_pass(rgb @ LUMA)
        self.spectrum = np.fft.rfft2(self.detail, (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))


def explained(a: _View, b: _View, any_light: bool = False) -> float:
    """Share of the cells of ``b`` that ``a`` explains, standing still or moved as a whole.

    A change of light never matters where there is texture; with ``any_light`` plain cells may have become brighter or
    darker too, all by the same factor and without a change of hue.
    """
    surface = np.fft.irfft2(np.conj(a.spectrum) * b.spectrum, (2 * THUMBNAIL[0], 2 * THUMBNAIL[1]))
    down, right = np.unravel_index(int(surface.argmax()), surface.shape)
    down -= 2 * THUMBNAIL[0] * (down >= THUMBNAIL[0])
    right -= 2 * THUMBNAIL[1] * (right >= THUMBNAIL[1])
    still = _explained_at(a, b, 0, 0, any_light)
    if abs(down) > THUMBNAIL[0] // 2 or abs(right) > THUMBNAIL[1] // 2:
        return still
    return max(still, _explained_at(a, b, int(down), int(right), any_light))


def _explained_at(a: _View, b: _View, down: int, right: int, any_light: bool) -> float:
    rows, columns = THUMBNAIL
    inside_b = slice(max(0, down), rows + min(0, down)), slice(max(0, right), columns + min(0, right))
    inside_a = slice(max(0, -down), rows - max(0, down)), slice(max(0, -right), columns - max(0, right))
    detail_a, detail_b = _cells(a.detail[inside_a]), _cells(b.detail[inside_b])
    colour_a, colour_b = _cells(a.rgb[inside_a]).mean(axis=2), _cells(b.rgb[inside_b]).mean(axis=2)
    if any_light:
        colour_a = colour_a * np.median((colour_b.mean(axis=2) + 1) / (colour_a.mean(axis=2) + 1))
    difference = np.abs(colour_a - colour_b).max(axis=2)
    power_a, power_b = (detail_a**2).mean(axis=2), (detail_b**2).mean(axis=2)
    correlation = (detail_a * detail_b).mean(axis=2) / np.sqrt(power_a * power_b + 1e-6)
    textured = np.maximum(power_a, power_b) > TEXTURE**2
    return float(np.where(textured, correlation > SAME_STRUCTURE, difference < SAME_COLOUR).mean())


def _cells(picture: np.ndarray) -> np.ndarray:
    """[rows, columns, pixels, ...] of the whole cells of ``picture`` [H, W, ...]."""
    rows, columns = picture.shape[0] // CELL[0], picture.shape[1] // CELL[1]
    cut = picture[: rows * CELL[0], : columns * CELL[1]]
    cells = cut.reshape(rows, CELL[0], columns, CELL[1], *picture.shape[2:]).swapaxes(1, 2)
    return cells.reshape(rows, columns, CELL[0] * CELL[1], *picture.shape[2:])


def _band_pass(brightness: np.ndarray, radius: int = 4) -> np.ndarray:
    """``brightness`` [..., H, W] less its mean over (2 * radius + 1) squared pixels."""
    mean = np.pad(brightness, [(0, 0)] * (brightness.ndim - 2) + [(radius, radius)] * 2, mode="reflect")
    for axis in (-2, -1):
        windows = np.lib.stride_tricks.sliding_window_view(mean, 2 * radius + 1, axis=axis)
        mean = windows.mean(axis=-1)
    return brightness - mean


class _Mixtures:
    """Stretches of ``vectors`` float32 [N, D] that lie on a straight line, by their inner products.

    ``tolerance`` is the distance from the line allowed; ``fading``, if given, the power of detail, float32 [N], which
    has to be less half-way.
    """

    LENGTHS = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 160, LONGEST_SPAN)
    SMALLEST_CHANGE = 8.0
    """Root mean square change from end to end below which nothing is a change of shot."""

    def __init__(self, vectors: np.ndarray, tolerance: float, fading: np.ndarray | None):
        self.tolerance, self.fading = tolerance, fading
        self.gram = (vectors @ vectors.T).astype(np.float64) / vectors.shape[1]
        self.power = np.diag(self.gram)

    def distance(self, a, b):
        """Squared distance of frames ``a`` and ``b``."""
        return self.power[a] + self.power[b] - 2 * self.gram[a, b]

    def candidates(self) -> list[tuple[int, int]]:
        """(a, b) of all stretches that go evenly from one picture to another, the largest change first."""
        count = len(self.power)
        found = []
        for length in self.LENGTHS:
            a = np.arange(count - length)
            b = a + length
            change = self.distance(a, b)
            possible = change > self.SMALLEST_CHANGE**2
            for quarter in (1, 2, 3):
                share, error = self.position(a + quarter * length // 4, a, b)
                possible &= (error < self.tolerance) & (share > 0.02) & (share < 0.98)
            if self.fading is not None:
                possible &= self.fading[a + length // 2] < FADED * (self.fading[a] + self.fading[b]) / 2
            found += [(change[at], int(a[at]), int(b[at])) for at in np.flatnonzero(possible)]
        return [(a, b) for _, a, b in sorted(found, reverse=True) if self.even(a, b)]

    def position(self, t, a, b):
        """How far frame ``t`` is on the way from ``a`` to ``b`` (0..1), and how far off the line (in its length)."""
        change = np.maximum(self.distance(a, b), 1e-6)
        share = (self.gram[t, b] - self.gram[t, a] - self.gram[a, b] + self.power[a]) / change
        error = np.sqrt(np.maximum(self.distance(t, a) / change - share**2, 0))
        return share, error

    def even(self, a: int, b: int) -> bool:
        """True when all frames lie on the line, in order, and no step jumps over a third of it."""
        share, error = self.position(np.arange(a, b + 1), a, b)
        steps = np.diff(share)
        return bool(error.max() < self.tolerance and steps.min() > -0.02 and steps.max() < 0.35)

    def ends(self, a: int, b: int) -> tuple[int, int]:
        """First and last frame of the change that goes on between ``a`` and ``b``."""
        low, high = max(0, 2 * a - b), min(len(self.power) - 1, 2 * b - a)
        share, _ = self.position(np.arange(low, high + 1), a, b)
        steps = np.diff(share)
        inner = steps[a - low : b - low]
        going = np.flatnonzero(steps > STILL_GOING * (inner**2).sum() / np.abs(inner).sum())
        middle = a - low + int(np.argmin(np.abs(share[a - low : b - low + 1] - 0.5)))
        # A doubled frame may stand still within a change.
        runs = np.split(going, np.flatnonzero(np.diff(going) > 2) + 1)
        run = min(runs, key=lambda run: np.abs(run - middle).min())
        return low + int(run[0]) + 1, low + int(run[-1]) + 1
