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
from .resemblance import LUMA, READ, Pictures, band_pass

STANDS_OUT = 1.5
"""A step counts when it is this many times the larger ones around it, single ones aside..."""

NEIGHBOURHOOD, MOST_NEIGHBOURS = 1 / 6, 4
"""...among those within so many seconds on each side, so many at most."""

ISOLATED = 2.5
"""A step also counts when it is this many times both of those next to it, as in shots of two frames."""

SMALLEST_STEP = 2.5
"""Mean change of a colour value (0..255) below which nothing is a cut: the noise of dark footage, averaged."""

RETURNS_WITHIN = 1 / 3
"""Seconds in which a picture from before a flash comes back."""

EXPLAINED, FAR_EXPLAINED = 0.5, 0.18
"""Share of the picture that has to be explained by an earlier one for both to be the same shot, and that for frames so
far apart that everything may have moved."""

SAME_PALETTE, LITTLE_EXPLAINED = 0.92, 0.2
"""Colours in common from which so small a share will do where something moves: a face that turns, a crowd."""

STILL = 20
"""A step so many times those before it, or those behind it, is seen from a picture in which nothing moves."""

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
    for numbers, pts, thumbnails, decided in _windows(source, progress):
        window = _Window(thumbnails, pts)
        found = [span for span in window.spans() if decided[0] <= (span.first + span.last) // 2 < decided[1]]
        for at in window.cuts():
            if decided[0] <= at < decided[1] and not any(span.first <= at <= span.last for span in found):
                cuts.append(int(numbers[at]))
        spans += [Span(span.kind, int(numbers[span.first]), int(numbers[span.last])) for span in found]
    return Cuts(tuple(cuts), tuple(spans))


def _windows(source, progress) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, tuple[int, int]]]:
    """Yield (frame numbers, times, thumbnails, the part in which to decide); these parts cover each frame once."""
    numbers, pts, thumbnails = np.empty(0, np.int64), np.empty(0), np.empty((0, *READ, 3), np.uint8)
    begin = 0
    for part in source.frames(FrameSampling.all(), READ, chunk=OVERLAP, progress=progress):
        numbers, pts = np.concatenate([numbers, part.index]), np.concatenate([pts, part.pts])
        thumbnails = np.concatenate([thumbnails, part.rgb])
        if len(numbers) >= WINDOW:
            end = len(numbers) - OVERLAP // 2
            yield numbers, pts, thumbnails, (begin, end)
            numbers, pts, thumbnails = numbers[-OVERLAP:], pts[-OVERLAP:], thumbnails[-OVERLAP:]
            begin = OVERLAP // 2
    yield numbers, pts, thumbnails, (begin, len(numbers))


class _Window:
    """The changes of shot among consecutive frames, uint8 [N, 72, 128, 3], at ``pts`` seconds; positions from 0."""

    def __init__(self, thumbnails: np.ndarray, pts: np.ndarray):
        self.pictures = Pictures(thumbnails)
        self.pts = pts
        interval = max(float(np.median(np.diff(pts))), 1e-6) if len(pts) > 1 else 1.0
        self.reach = min(MOST_NEIGHBOURS, int(NEIGHBOURHOOD / interval + 0.25))

    def cuts(self) -> list[int]:
        """Positions of the frames that start a new shot."""
        steps = self.pictures.steps
        found: list[int] = []
        for at in np.flatnonzero(_stands_out(steps, self.reach)) + 1:
            doubled = found and at - found[-1] == 1 and self.pts[at] - self.pts[found[-1]] < NEIGHBOURHOOD
            if doubled and steps[at - 1] <= steps[found[-1] - 1]:
                continue
            if steps[at - 1] * self.pictures.gain(at - 1, at) < SMALLEST_STEP:
                continue
            if not self.goes_on(at) and not self.returns(at):
                if doubled:
                    found.pop()
                found.append(int(at))
        return found

    def goes_on(self, at: int) -> bool:
        """True when the shot of the frame before ``at`` goes on there."""
        steps, near = self.pictures.steps, max(1, self.reach)
        before, behind = steps[max(0, at - 1 - near) : at - 1], steps[at : at + near]
        still = any(STILL * max(some) < steps[at - 1] for some in (before, behind) if len(some))
        share = self.pictures.explained(at - 1, at, still)
        if share >= (EXPLAINED if still or self.reach else FAR_EXPLAINED):
            return True
        return not still and share >= LITTLE_EXPLAINED and self.pictures.palette(at - 1, at) >= SAME_PALETTE

    def same(self, a: int, b: int) -> bool:
        return self.pictures.explained(a, b) >= EXPLAINED

    def returns(self, at: int) -> bool:
        """True when what ends before ``at`` comes back soon, or what begins at ``at`` was there shortly before.

        In between are single frames, plain ones, or the same in another light; anything else is a short shot.
        """
        for after in range(at + 1, len(self.pts)):
            if self.pts[after] - self.pts[at] > RETURNS_WITHIN or not self.passing(at - 1, at, after):
                break
            if self.same(at - 1, after):
                return True
        for before in range(at - 2, -1, -1):
            if self.pts[at] - self.pts[before + 1] > RETURNS_WITHIN or not self.passing(at, before + 1, at):
                break
            if self.same(before, at):
                return True
        return False

    def passing(self, lasting: int, first: int, end: int) -> bool:
        """True when the frames first..end - 1 may come and go within the shot of frame ``lasting``."""
        return end - first == 1 or all(self.fades(lasting, each) for each in range(first, end))

    def fades(self, lasting: int, other: int) -> bool:
        shot, passing = self.pictures.pair(lasting, other)
        plain = passing.contrast <= max(PLAIN / self.pictures.gain(lasting, other), shot.contrast / 4)
        return plain or self.pictures.explained(lasting, other, any_light=True) >= EXPLAINED

    def spans(self) -> list[Span]:
        """Fades and dissolves, first and last as positions."""
        small = self.pictures.small
        power = (band_pass(small @ LUMA) ** 2).mean(axis=(1, 2))
        found: list[Span] = []
        for rows, columns, error, fading in ((18, 32, STILL_ERROR, None), (4, 8, MOVING_ERROR, power)):
            blocks = small.reshape(-1, rows, 36 // rows, columns, 64 // columns, 3).mean(axis=(2, 4))
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
        contrast_a, contrast_b = (self.pictures.small[at].std(axis=(0, 1)).max() for at in (a, b))
        if contrast_a <= min(PLAIN, contrast_b / 4):
            return "fade_in"
        if contrast_b <= min(PLAIN, contrast_a / 4):
            return "fade_out"
        return None if self.pictures.explained(a, b, any_light=True) >= EXPLAINED else "dissolve"


def _stands_out(steps: np.ndarray, reach: int) -> np.ndarray:
    """bool [N - 1]: steps larger by a factor than most of the ``reach`` on each side, or than both next to them.

    With a reach of 0, where frames are far apart, every step counts.
    """
    count = len(steps)
    padded = np.pad(steps, reach)
    around = np.stack([np.zeros(count), *(padded[i : i + count] for i in range(2 * reach + 1) if i != reach)])
    larger = np.sort(around, axis=0)[-min(3, max(1, reach))]
    beside = np.maximum(np.pad(steps, 1)[:-2], np.pad(steps, 1)[2:])
    return (steps > STANDS_OUT * larger) | (steps > ISOLATED * beside)


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
