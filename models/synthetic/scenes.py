"""What a synthetic clip shows, as plain data: shots of textured figures, backgrounds, a camera, and faults on demand.

Everything is a closed form of time. Lengths are in units of the frame's shorter side and times in seconds, so one clip
can be rendered at any size, and any frame of it without those before.
"""

import random
from dataclasses import dataclass

from ..errors import InputError

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
COLOURS = {
    "red": (214, 44, 40),
    "orange": (242, 136, 24),
    "yellow": (246, 222, 52),
    "green": (44, 168, 62),
    "blue": (48, 84, 222),
    "purple": (150, 56, 186),
    "white": (244, 244, 240),
    "black": (24, 24, 28),
}
PATTERNS = ("plain", "striped", "dotted", "checked")
GROUNDS = ("smooth", "cloudy", "striped", "checked", "grainy")
MOTIONS = ("still", "moves", "stops", "starts", "speeds up", "slows down", "bounces", "appears", "disappears")
EVENTFUL = ("stops", "starts", "bounces", "appears", "disappears")
CAMERAS = ("still", "left", "right", "up", "down", "in", "out", "shake")
FAULTS = ("flicker", "freeze", "duplicate", "vanish", "morph", "jitter")
CONTENTS = ("static", "moving", "camera", "cuts", "fault")
SIZES = {"small": (0.1, 0.125), "large": (0.18, 0.225)}
"""Radius of a figure, in shorter sides of the frame."""

SPLITS = {
    "train": (0, 1 << 40),
    "validation": (1 << 40, (1 << 40) + (1 << 20)),
    "test": (1 << 41, (1 << 41) + (1 << 20)),
}
"""First seed of each split and the first after it."""

HELD_OUT = frozenset((colour, SHAPES[index % len(SHAPES)]) for index, colour in enumerate(COLOURS))
"""Pairs of colour and shape that only the test split shows, at least one of them in every clip of it."""


@dataclass(frozen=True, slots=True)
class Leg:
    """A straight stretch of a path: from ``begin`` to ``end`` (x, y) within start..stop seconds.

    ``easing`` is "even", "faster" (from rest) or "slower" (to rest).
    """

    start: float
    stop: float
    begin: tuple[float, float]
    end: tuple[float, float]
    easing: str = "even"


@dataclass(frozen=True, slots=True)
class Figure:
    """One object.

    Attributes:
        colour: one of ``COLOURS``, or one without a name as "#rrggbb".
        motion: what it does, one of ``MOTIONS``.
        legs: its path in order of time; it rests before, between and after them. Positions are centres.
        angle, spin: turns at the clip's beginning and turns a second, clockwise.
        moment: when it stops, starts, bounces, appears or disappears, else None.
    """

    shape: str
    colour: str
    pattern: str
    radius: float
    motion: str
    legs: tuple[Leg, ...]
    angle: float = 0.0
    spin: float = 0.0
    moment: float | None = None

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    @property
    def size(self) -> str:
        return "small" if self.radius < 0.15 else "large"

    def position(self, seconds: float) -> tuple[float, float]:
        """The centre (x, y) at a time."""
        now = self.legs[0]
        for leg in self.legs:
            if leg.start <= seconds:
                now = leg
        fraction = min(1.0, max(0.0, (seconds - now.start) / (now.stop - now.start)))
        fraction = {"even": fraction, "faster": fraction * fraction, "slower": fraction * (2 - fraction)}[now.easing]
        return tuple(begin + (end - begin) * fraction for begin, end in zip(now.begin, now.end, strict=True))

    def scale(self, seconds: float) -> float:
        """Its size now as a fraction of its full size: it grows from nothing within ``GROWTH`` seconds, or shrinks."""
        if self.motion == "appears":
            return min(1.0, max(0.0, (seconds - self.moment) / GROWTH))
        if self.motion == "disappears":
            return 1 - min(1.0, max(0.0, (seconds - self.moment) / GROWTH))
        return 1.0


GROWTH = 0.25


@dataclass(frozen=True, slots=True)
class Ground:
    """The background: one of ``GROUNDS`` in two muted colours."""

    kind: str
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    seed: int
    scale: float


@dataclass(frozen=True, slots=True)
class Camera:
    """One of ``CAMERAS``: panning by ``amount`` over the shot, zooming by the factor 1 + ``amount``, or shaking by it.

    The directions are the camera's: what it sees moves the other way.
    """

    kind: str = "still"
    amount: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Shot:
    """Frames ``first`` to ``stop`` (exclusive); ``opening`` is "start", "cut" or "fade" (through black)."""

    first: int
    stop: int
    opening: str
    ground: Ground
    figures: tuple[Figure, ...]
    camera: Camera


@dataclass(frozen=True, slots=True)
class Fault:
    """One of ``FAULTS`` in the frames ``first`` to ``stop`` (exclusive).

    ``figure`` is the index of the figure concerned in the shot of ``first``, None for the whole picture;
    ``becomes`` the shape or colour that a figure morphs into.
    """

    kind: str
    first: int
    stop: int
    figure: int | None = None
    becomes: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Clip:
    """A whole clip of ``frames`` frames; ``aspect`` is (width, height) in shorter sides."""

    seed: int
    content: str
    fps: float
    frames: int
    aspect: tuple[float, float]
    shots: tuple[Shot, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def seconds(self) -> float:
        return self.frames / self.fps

    def shot_at(self, frame: int) -> Shot:
        """The shot that ``frame`` belongs to."""
        return next(shot for shot in reversed(self.shots) if shot.first <= frame)


def split_of(seed: int) -> str:
    """The split that ``seed`` belongs to; raises InputError where it belongs to none."""
    for name, (first, stop) in SPLITS.items():
        if first <= seed < stop:
            return name
    ranges = ", ".join(f"{name} from {first} to {stop - 1}" for name, (first, stop) in SPLITS.items())
    raise InputError(f"the seed of a synthetic clip is {seed}; seeds are {ranges}")


def weighted(draw, weights: dict):
    """One of the keys, drawn by their weights."""
    return draw.choices(list(weights), list(weights.values()))[0]


def sample_clip(
    seed: int,
    content: str | None = None,
    *,
    seconds: float | None = None,
    fps: float | None = None,
    aspect: tuple[float, float] = (1.0, 1.0),
    fault: str | None = None,
    most_figures: int = 4,
    fewest_figures: int = 1,
    motions: dict[str, float] | None = None,
) -> Clip:
    """Draw the clip of a seed; the seed's split decides which pairs of colour and shape it may show.

    Args:
        content: one of ``CONTENTS``, drawn where None.
        seconds: length, drawn from 2 to 6 where None; fps: drawn from 8, 12 and 24.
        aspect: (width, height) in shorter sides, one of which is 1.
        fault: one of ``FAULTS`` for the content "fault", drawn where None.
        fewest_figures, most_figures: of a shot.
        motions: weight of each of ``MOTIONS`` wherever all of them may be drawn; the same for all where None.
    """
    split = split_of(seed)
    if content not in (None, *CONTENTS):
        raise InputError(f"the content of a synthetic clip is {content!r}; it must be one of {', '.join(CONTENTS)}")
    if fault not in (None, *FAULTS):
        raise InputError(f"the fault of a synthetic clip is {fault!r}; it must be one of {', '.join(FAULTS)}")
    draw = random.Random(seed)
    content = content or draw.choices(CONTENTS, (1, 4, 2, 2, 3))[0]
    fps = fps or draw.choice((8, 12, 24))
    frames = max(1, round((seconds or draw.uniform(2, 6)) * fps))
    figures, shots = (fewest_figures, most_figures), []
    for first, stop, opening in _draw_shots(draw, content, frames, fps):
        shots.append(_draw_shot(draw, split, content, (first, stop, opening), fps, aspect, figures, motions))
    if split == "test":
        shots[0] = _with_held_out(draw, shots[0])
    clip = Clip(seed, content, fps, frames, aspect, tuple(shots))
    if content != "fault":
        return clip
    return _with_fault(draw, clip, fault or draw.choice(FAULTS))


def _draw_shots(draw, content: str, frames: int, fps: float) -> list[tuple[int, int, str]]:
    """First frame, end and opening of each shot: one, or two to four of at least 0.7 s."""
    shortest = max(2, round(0.7 * fps))
    most = min(4, frames // shortest)
    if content != "cuts" or most < 2:
        return [(0, frames, "start")]
    count = draw.choice((2, 2, 3, 4)[: 2 if most == 2 else most])
    spare = frames - count * shortest
    marks = sorted(draw.randrange(spare + 1) for _ in range(count - 1))
    starts = [0, *(mark + shortest * (number + 1) for number, mark in enumerate(marks))]
    openings = ["start", *("fade" if draw.random() < 0.3 else "cut" for _ in marks)]
    return list(zip(starts, [*starts[1:], frames], openings, strict=True))


def _draw_shot(draw, split, content, extent, fps, aspect, counts, weights) -> Shot:
    first, stop, opening = extent
    span = first / fps, stop / fps
    camera = Camera()
    if content == "camera":
        kind = draw.choice(CAMERAS[1:])
        amount = {"in": (0.5, 0.9), "out": (0.35, 0.45), "shake": (0.025, 0.045)}.get(kind, (0.3, 0.6))
        camera = Camera(kind, draw.uniform(*amount), draw.randrange(1 << 30))
    motions = {"static": ("still",), "camera": ("still", "still", "moves")}.get(content, MOTIONS)
    if span[1] - span[0] < 1.4:
        motions = ("still", "moves") if content != "static" else motions
    count = draw.randint(*counts)
    names = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in HELD_OUT]
    figures = []
    for index, (colour, shape) in enumerate(draw.sample(names, count)):
        weighed = weights and motions is MOTIONS
        motion = weighted(draw, weights) if weighed else draw.choice(motions)
        if content == "fault" and index == 0:
            motion = "moves"
        crossing = motion not in ("still", "appears", "disappears") and draw.random() < 0.3
        for _ in range(24):
            figure = _draw_figure(draw, shape, colour, motion, span, aspect, 0.0 if content == "static" else 0.25)
            if crossing or all(apart(figure, other, span) for other in figures):
                figures.append(figure)
                break
    return Shot(first, stop, opening, _draw_ground(draw), tuple(figures), camera)


def _draw_ground(draw) -> Ground:
    """Two muted colours of middle brightness, against which every figure is distinct."""
    level = draw.randint(95, 150)
    first = tuple(level + draw.randint(-22, 22) for _ in range(3))
    change = draw.choice((-1, 1)) * draw.randint(18, 30)
    second = tuple(channel + change + draw.randint(-8, 8) for channel in first)
    return Ground(draw.choice(GROUNDS), (first, second), draw.randrange(1 << 30), draw.uniform(0.7, 1.4))


def _draw_figure(draw, shape, colour, motion, span, aspect, spinning) -> Figure:
    radius = draw.uniform(*SIZES[draw.choice(tuple(SIZES))])
    start, stop = span
    length = stop - start
    moment = start + length * draw.uniform(0.25, 0.75) if motion in EVENTFUL else None
    legs = _draw_legs(draw, motion, moment, radius, span, aspect)
    spins = draw.random() < spinning
    spin = draw.choice((-1, 1)) * draw.uniform(0.2, 0.5) if spins else 0.0
    pattern = draw.choice(PATTERNS)
    angle = 0.0 if spins else draw.uniform(-0.04, 0.04)
    return Figure(shape, colour, pattern, radius, motion, legs, angle, spin, moment)


def _draw_legs(draw, motion, moment, radius, span, aspect) -> tuple[Leg, ...]:
    """A path inside the frame: mostly along an axis, seldom along a diagonal."""
    start, stop = span
    low, high = (radius, radius), (aspect[0] - radius, aspect[1] - radius)
    point = tuple(draw.uniform(a, b) for a, b in zip(low, high, strict=True))
    resting = motion == "still" or (motion in ("appears", "disappears") and draw.random() < 0.6)
    if resting:
        return (Leg(start, stop, point, point),)
    axis = draw.randrange(2)
    lean = draw.uniform(-0.2, 0.2) if draw.random() < 0.85 else draw.choice((-1, 1)) * draw.uniform(0.7, 1.2)
    room = high[axis] - low[axis]
    distance = room * draw.uniform(0.55, 1.0)
    forward = draw.random() < 0.5
    edge = low[axis] + (room - distance) * draw.random()
    along = (edge, edge + distance) if forward else (edge + distance, edge)
    if motion == "bounces":
        along = (edge, high[axis]) if forward else (edge + distance, low[axis])
    across = point[1 - axis]
    shift = lean * abs(along[1] - along[0])
    across_end = min(high[1 - axis], max(low[1 - axis], across + shift))
    begin, end = zip(along, (across, across_end), strict=True)
    if axis == 1:
        begin, end = begin[::-1], end[::-1]
    if motion == "stops":
        return (Leg(start, moment, begin, end),)
    if motion == "starts":
        return (Leg(moment, stop, begin, end),)
    if motion == "bounces":
        fraction = (stop - moment) / (moment - start)
        back = list(end)
        back[axis] -= (end[axis] - begin[axis]) * min(1.0, fraction)
        return Leg(start, moment, begin, end), Leg(moment, stop, end, tuple(back))
    easing = {"speeds up": "faster", "slows down": "slower"}.get(motion, "even")
    return (Leg(start, stop, begin, end, easing),)


def apart(one: Figure, other: Figure, span: tuple[float, float]) -> bool:
    """Whether two figures keep clear of each other at nine times of ``span``."""
    for step in range(9):
        seconds = span[0] + (span[1] - span[0]) * step / 8
        (x, y), (u, v) = one.position(seconds), other.position(seconds)
        if (x - u) ** 2 + (y - v) ** 2 < (1.05 * (one.radius + other.radius)) ** 2:
            return False
    return True


def _with_held_out(draw, shot: Shot) -> Shot:
    """The shot with its first figure given a held-out pair of colour and shape."""
    colour, shape = draw.choice(sorted(HELD_OUT))
    first = shot.figures[0]
    values = {name: getattr(first, name) for name in Figure.__slots__}
    return _replaced(shot, figures=(Figure(**{**values, "colour": colour, "shape": shape}), *shot.figures[1:]))


def _replaced(shot: Shot, **changes) -> Shot:
    return Shot(**{**{name: getattr(shot, name) for name in Shot.__slots__}, **changes})


def _with_fault(draw, clip: Clip, kind: str) -> Clip:
    """The clip with a fault of at least 0.7 s (a third of a shorter clip) that begins in its middle half."""
    length = min(clip.frames - 1, max(3, round(draw.uniform(0.7, 1.4) * clip.fps)))
    first = max(1, min(clip.frames - length, round(clip.frames * draw.uniform(0.25, 0.6))))
    stop = clip.frames if kind in ("vanish", "morph") else min(clip.frames, first + length)
    figure = clip.shots[0].figures[0]
    becomes = None
    if kind == "morph":
        others = [shape for shape in SHAPES if shape != figure.shape and (figure.colour, shape) not in HELD_OUT]
        others += [colour for colour in COLOURS if colour != figure.colour and (colour, figure.shape) not in HELD_OUT]
        becomes = draw.choice(others)
    concerned = 0 if kind in ("vanish", "morph", "jitter") else None
    fault = Fault(kind, first, stop, concerned, becomes, draw.randrange(1 << 30))
    return Clip(clip.seed, clip.content, clip.fps, clip.frames, clip.aspect, clip.shots, (fault,))
