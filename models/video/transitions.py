"""Gradual changes of shot: fades, dissolves and wipes.

A **fade or dissolve** is a stretch in which every frame is a mixture (1 - a) A + a B of the pictures at its two ends,
with a growing from 0 to 1, and B is not explained by A in the sense of (2), nor by more or less light. Motion does not
mix pictures: half-way through a pan the picture is not half the first and half the last. Where A and B themselves move
the mixture only holds coarsely; then the detail must also fade half-way, as it does in the mean of two pictures. With a
plain A or B it is a fade in or out.

A **wipe** is a stretch in which nearly every part of the picture shows either A or B, and the fraction of B grows
evenly from nothing to all, whatever the shape of the edge between them. Its ends are found to a few frames, and it is
missed where A or B moves by more than a few pixels meanwhile.
"""

from dataclasses import dataclass

import numpy as np

from .resemblance import EXPLAINED, LUMA, Pictures, band_pass

LONGEST_SPAN = 192
"""Frames of the longest fade or dissolve that is searched for."""

STILL_ERROR, MOVING_ERROR = 0.15, 0.3
"""Distance of a frame from the line between both ends of a dissolve, as a fraction of that line's length: in pictures
of 32 x 18, and of 8 x 4 where moving shots are searched."""

FADED = 0.7
"""Power of the detail half-way through a dissolve, as a fraction of that at its ends: one half for pictures that have
nothing in common, one for any movement that does not blur."""

STILL_GOING = 0.25
"""Fraction of a dissolve's typical step from which a step still belongs to it."""

PLAIN = 6.0
"""Standard deviation of a picture up to which a fade begins or ends there, if a quarter of the other end's at most."""


WIPE_LENGTHS = (6, 8, 10, 12, 16, 20, 24, 32, 40, 48)
"""Frames between two pictures of which one may be wiped over the other."""

WIPED = 24.0
"""Difference of colour, 0..255, from which a part of the picture shows whether it is A or B."""

LIKE = 0.3
"""Distance from A or from B, as a fraction of that between them, up to which a part shows that one."""

EITHER = 0.75
"""Fraction of these parts that must show one of the two in every frame of a wipe."""


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


def find_spans(pictures: Pictures) -> list[Span]:
    """Fades, dissolves and wipes among ``pictures``, first and last as positions, in order."""
    small = pictures.small
    power = (band_pass(small @ LUMA) ** 2).mean(axis=(1, 2))
    found: list[Span] = []
    for rows, columns, error, fading in ((18, 32, STILL_ERROR, None), (4, 8, MOVING_ERROR, power)):
        blocks = small.reshape(-1, rows, 36 // rows, columns, 64 // columns, 3).mean(axis=(2, 4))
        vectors = blocks.reshape(len(blocks), -1)
        mixtures = _Mixtures(vectors - vectors.mean(axis=0), error, fading)
        for a, b in mixtures.candidates():
            if any(a < span.last and b > span.first for span in found):
                continue
            kind = _kind(pictures, a, b)
            if kind:
                found.append(Span(kind, *mixtures.ends(a, b)))
    found += [span for span in _wipes(pictures) if not any(_overlap(span, other) for other in found)]
    return sorted(found, key=lambda span: span.first)


def _kind(pictures: Pictures, a: int, b: int) -> str | None:
    contrast_a, contrast_b = (pictures.small[at].std(axis=(0, 1)).max() for at in (a, b))
    if contrast_a <= min(PLAIN, contrast_b / 4):
        return "fade_in"
    if contrast_b <= min(PLAIN, contrast_a / 4):
        return "fade_out"
    return None if pictures.explained(a, b, any_light=True) >= EXPLAINED else "dissolve"


def _overlap(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def _wipes(pictures: Pictures) -> list[Span]:
    parts = pictures.small.reshape(-1, 9, 4, 16, 4, 3).mean(axis=(2, 4)).reshape(len(pictures.small), -1, 3)
    candidates = []
    for length in WIPE_LENGTHS:
        a = np.arange(len(parts) - length)
        fractions = [_wiped(parts[a + quarter * length // 4], parts[a], parts[a + length]) for quarter in (1, 2, 3)]
        possible = np.all([either >= EITHER for _, either, _ in fractions], axis=0) & (fractions[0][2] > 0.5)
        one, two, three = (fraction for fraction, _, _ in fractions)
        possible &= (one > 0.04) & (one < two) & (two < three) & (three < 0.96)
        candidates += [(fractions[0][2][at], length, int(at)) for at in np.flatnonzero(possible)]
    found: list[Span] = []
    for _, length, a in sorted(candidates, key=lambda candidate: (-round(candidate[0], 2), candidate[1])):
        if any(a < span.last and a + length > span.first for span in found):
            continue
        fraction, either, _ = _wiped(parts[a : a + length + 1], parts[a][None], parts[a + length][None])
        steps = np.diff(fraction)
        even = either.min() >= EITHER and steps.min() > -0.03 and steps.max() < 0.35
        if even and _stays(pictures, a, a + length):
            first, last = int(np.argmax(fraction > 0.01)), int(np.argmax(fraction > 0.985 * fraction[-1]))
            found.append(Span("wipe", a + first, a + last))
    return found


def _stays(pictures: Pictures, a: int, b: int) -> bool:
    """True when frame ``b`` is another shot than frame ``a``, and neither shot is there on the other side as well."""
    before, after = max(0, 2 * a - b), min(len(pictures.frames) - 1, 2 * b - a)
    return all(pictures.explained(*pair, any_light=True) < EXPLAINED for pair in ((a, b), (a, after), (before, b)))


def _wiped(now: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For pictures [n, parts, 3] between ``a`` and ``b``: the fraction that shows ``b``, the fraction that shows
    either, and the fraction of parts that can tell; the first two of these parts."""
    between = np.abs(a - b).max(axis=2)
    tells = between > WIPED
    near_a, near_b = (np.abs(now - end).max(axis=2) < LIKE * between for end in (a, b))
    count = np.maximum(tells.sum(axis=1), 1)
    either = (tells & (near_a | near_b)).sum(axis=1) / count
    return (tells & near_b).sum(axis=1) / count, either, tells.mean(axis=1)


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
                fraction, error = self.position(a + quarter * length // 4, a, b)
                possible &= (error < self.tolerance) & (fraction > 0.02) & (fraction < 0.98)
            if self.fading is not None:
                possible &= self.fading[a + length // 2] < FADED * (self.fading[a] + self.fading[b]) / 2
            found += [(change[at], int(a[at]), int(b[at])) for at in np.flatnonzero(possible)]
        return [(a, b) for _, a, b in sorted(found, reverse=True) if self.even(a, b)]

    def position(self, t, a, b):
        """How far frame ``t`` is on the way from ``a`` to ``b`` (0..1), and how far off the line (in its length)."""
        change = np.maximum(self.distance(a, b), 1e-6)
        fraction = (self.gram[t, b] - self.gram[t, a] - self.gram[a, b] + self.power[a]) / change
        error = np.sqrt(np.maximum(self.distance(t, a) / change - fraction**2, 0))
        return fraction, error

    def even(self, a: int, b: int) -> bool:
        """True when all frames lie on the line, in order, and no step jumps over a third of it."""
        fraction, error = self.position(np.arange(a, b + 1), a, b)
        steps = np.diff(fraction)
        return bool(error.max() < self.tolerance and steps.min() > -0.02 and steps.max() < 0.35)

    def ends(self, a: int, b: int) -> tuple[int, int]:
        """First and last frame of the change that goes on between ``a`` and ``b``."""
        low, high = max(0, 2 * a - b), min(len(self.power) - 1, 2 * b - a)
        fraction, _ = self.position(np.arange(low, high + 1), a, b)
        steps = np.diff(fraction)
        inner = steps[a - low : b - low]
        going = np.flatnonzero(steps > STILL_GOING * (inner**2).sum() / np.abs(inner).sum())
        middle = a - low + int(np.argmin(np.abs(fraction[a - low : b - low + 1] - 0.5)))
        # A doubled frame may stand still within a change.
        runs = np.split(going, np.flatnonzero(np.diff(going) > 2) + 1)
        run = min(runs, key=lambda run: np.abs(run - middle).min())
        return low + int(run[0]) + 1, low + int(run[-1]) + 1
