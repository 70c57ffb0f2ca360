"""Where one shot ends and the next begins: hard cuts at their exact frame, fades, dissolves and wipes as spans.

A **hard cut** is a step that (1) stands out: it is larger than most steps around it, so that fast camera work, which
has many large steps, has none that does; (2) is not explained: in most of the picture the new frame is neither the old
one moved as a whole (correlation of band-passed brightness, which a change of light leaves alone) nor of the same
colour where there is nothing to correlate; and (3) stays: no picture from before the step comes back within a third of
a second, with nothing but a single frame, plain ones or other light in between, as it does after a flash, in a strobe,
or when a damaged frame is past.

Fades, dissolves and wipes are found by :mod:`.transitions`; a hard cut within one is part of it.

All of this happens on thumbnails of 64 x 36 of the active picture, bars left out, at the native frame rate, in a window
of bounded length. Dark pictures are raised to the contrast of others, as far as noise allows. Where frames come less
than four times a second nothing can stand out and everything may have moved: a cut there explains hardly anything and
shares few colours. So slides of one such frame each, on the same paper, may be missed.

The shortest shot that is found is one of two frames, or of a single frame that lasts longer than a third of a second
(:func:`shortest_shot`). Missed are shorter ones, plain ones within another shot, and dissolves during which the camera
moves by more than about a sixth of the picture.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from weakref import WeakKeyDictionary

import numpy as np

from ..progress import Progress, no_progress
from ..source.reading import FrameSampling, VideoSource
from .resemblance import EXPLAINED, READ, Pictures
from .transitions import LONGEST_SPAN, PLAIN, Span, find_spans

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

FAR_EXPLAINED = 0.15
"""What is asked in place of EXPLAINED of frames so far apart that everything may have moved."""

FAR_PALETTE, HARDLY_EXPLAINED = 0.78, 0.05
"""Colours in common of such frames from which so small a fraction will do."""

RELIT, OTHER_LIGHT = 0.65, 1.1
"""Fraction of such a frame that is explained in any light, where its brightness is by this factor another one."""

SAME_PALETTE, LITTLE_EXPLAINED = 0.92, 0.2
"""Colours in common from which so small a fraction will do where something moves: a face that turns, a crowd."""

MIXED = 0.15
"""Distance of a frame from the mean of both next to it, as a fraction of theirs, up to which it is a mixture."""

CLEARLY_EXPLAINED, ALIKE_PALETTE = 0.65, 0.7
"""Fraction from which a picture has come back after a flash, and colours in common from which EXPLAINED will do."""

STILL = 20
"""A step so many times those before it, or those after it, is seen from a picture in which nothing moves."""

WINDOW = 1024
OVERLAP = 2 * (LONGEST_SPAN + 64)
"""Frames that are compared together, and frames that two such windows have in common."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """All changes of shot of a source, in frame numbers of the source.

    Attributes:
        cuts: the frames that start a new shot after a hard cut.
        spans: fades, dissolves and wipes.
    """

    cuts: tuple[int, ...]
    spans: tuple[Span, ...]

    def to_json(self) -> dict:
        """{'cuts': [...], 'spans': [{'kind', 'first', 'last'}, ...]}."""
        return {"cuts": list(self.cuts), "spans": [asdict(span) for span in self.spans]}


_FOUND: WeakKeyDictionary[VideoSource, Cuts] = WeakKeyDictionary()


def cuts_of(source: VideoSource, progress: Progress = no_progress) -> Cuts:
    """The cuts of ``source`` as :func:`find_cuts` finds them, searched once for as long as somebody holds it."""
    if source not in _FOUND:
        _FOUND[source] = find_cuts(source, progress)
    return _FOUND[source]


def known_cuts(source: VideoSource) -> Cuts | None:
    """What :func:`cuts_of` has found in ``source``; None where nobody has asked."""
    return _FOUND.get(source)


def find_cuts(source: VideoSource, progress: Progress = no_progress) -> Cuts:
    """Cuts, fades, dissolves and wipes in the trim window of ``source``. Raises InputError as reading does."""
    cuts, spans = [], []
    for numbers, pts, thumbnails, decided in _windows(source, progress):
        window = _Window(thumbnails, pts)
        found = [
            span for span in find_spans(window.pictures) if decided[0] <= (span.first + span.last) // 2 < decided[1]
        ]
        for at in window.cuts():
            if decided[0] <= at < decided[1] and not any(span.first <= at <= span.last for span in found):
                cuts.append(int(numbers[at]))
        spans += [Span(span.kind, int(numbers[span.first]), int(numbers[span.last])) for span in found]
    return Cuts(tuple(cuts), tuple(spans))


def shortest_shot(fps: float) -> float:
    """Seconds of the shortest shot that is found in a video of ``fps`` frames a second."""
    return 1 / fps if 1 / fps > RETURNS_WITHIN else 2 / fps


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
            if self.begins(at):
                if doubled:
                    found.pop()
                found.append(int(at))
        return found

    def begins(self, at: int) -> bool:
        """True when frame ``at`` is the first of another shot, or the mean of the last of one and the first of it."""
        if self.mixed(at):
            return not self.comes_back(at)
        return not self.goes_on(at) and not self.comes_back(at) and not self.was_there(at)

    def goes_on(self, at: int) -> bool:
        """True when the shot of the frame before ``at`` goes on there."""
        steps, near = self.pictures.steps, max(1, self.reach)
        before, after = steps[max(0, at - 1 - near) : at - 1], steps[at : at + near]
        still = any(STILL * max(some) < steps[at - 1] for some in (before, after) if len(some))
        explained = self.pictures.explained(at - 1, at, still)
        if explained >= (EXPLAINED if still or self.reach else FAR_EXPLAINED) or not self.reach and self.relit(at):
            return True
        least, palette = (LITTLE_EXPLAINED, SAME_PALETTE) if self.reach else (HARDLY_EXPLAINED, FAR_PALETTE)
        return not still and explained >= least and self.pictures.palette(at - 1, at) >= palette

    def relit(self, at: int) -> bool:
        """True when frame ``at`` is the one before it in another light, as a slow fade shows in frames far apart."""
        before, now = (view.rgb.mean() + 1 for view in self.pictures.pair(at - 1, at))
        if max(before, now) < OTHER_LIGHT * min(before, now):
            return False
        return self.pictures.explained(at - 1, at, any_light=True) >= RELIT

    def mixed(self, at: int) -> bool:
        """True when frame ``at`` is the mean of two shots, as where frame rates were converted."""
        small = self.pictures.small
        if at + 1 >= len(small):
            return False
        off = np.abs(small[at] - (small[at - 1] + small[at + 1]) / 2).mean()
        return off < MIXED * np.abs(small[at + 1] - small[at - 1]).mean() and not self.same(at - 1, at + 1)

    def same(self, a: int, b: int, rather_than: int | None = None) -> bool:
        """True when frame ``b`` shows what frame ``a`` does: clearly, or in about the same colours; or, where another
        frame is given, in the same colours and rather than that one."""
        explained, palette = self.pictures.explained(a, b), self.pictures.palette(a, b)
        if explained >= CLEARLY_EXPLAINED or explained >= EXPLAINED and palette >= ALIKE_PALETTE:
            return True
        if rather_than is None or explained < LITTLE_EXPLAINED or palette < SAME_PALETTE:
            return False
        return self.pictures.explained(rather_than, b) < explained

    def comes_back(self, at: int) -> bool:
        """True when what ends before ``at`` comes back soon.

        In between are single frames, plain ones, or the same in another light; anything else is a short shot.
        """
        for after in range(at + 1, len(self.pts)):
            if self.pts[after] - self.pts[at] > RETURNS_WITHIN or not self.passing(at - 1, at, after):
                return False
            if self.same(at - 1, after, rather_than=at):
                return True
        return False

    def was_there(self, at: int) -> bool:
        """True when what begins at ``at`` was there shortly before, with such frames in between."""
        for before in range(at - 2, -1, -1):
            if self.pts[at] - self.pts[before + 1] > RETURNS_WITHIN or not self.passing(at, before + 1, at):
                return False
            if self.same(before, at, rather_than=at - 1):
                return True
        return False

    def passing(self, lasting: int, first: int, end: int) -> bool:
        """True when the frames first..end - 1 may come and go within the shot of frame ``lasting``."""
        return end - first == 1 or all(self.fades(lasting, each) for each in range(first, end))

    def fades(self, lasting: int, other: int) -> bool:
        shot, passing = self.pictures.pair(lasting, other)
        plain = passing.contrast <= max(PLAIN / self.pictures.gain(lasting, other), shot.contrast / 4)
        return plain or self.pictures.explained(lasting, other, any_light=True) >= EXPLAINED


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
