"""What is true of a synthetic clip, as far as the frames that are sampled show it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from .rendering import camera_view, local_coordinates, poses, signed_distance, what_is_shown
from .scenes import SHAPES, Clip, Figure, Shot

SIDE = 40
"""Pixels of the shorter side at which visibility is measured."""

CLEAR_DIRECTION = 2.5
"""A path has a direction if it is so many times as long along one axis as along the other."""

FAST, SLOW = 0.4, 0.17
"""Speeds, in shorter sides a second, from which on a movement is fast, and up to which it is slow."""


LEAST_STEP = 0.01
"""Least visible movement from frame to frame, in shorter sides."""


@dataclass(frozen=True, slots=True)
class FigureTruth:
    """One object of one shot.

    Attributes:
        shot, index: of the shot in the clip, and of the figure in the shot.
        direction: 'left', 'right', 'up' or 'down' of its first movement, None where it has none that is clear.
        travelled: length of its path in shorter sides; ``speed`` in shorter sides a second while it moves.
        speed_class: 'fast', 'slow' or None for what lies between.
        rotates: None where it cannot be seen.
        visible: for each sampled frame, the fraction of it that is in the picture and not covered; 0 in other shots.
    """

    shot: int
    index: int
    name: str
    colour: str
    shape: str
    size: str
    pattern: str
    motion: str
    moment: float | None
    direction: str | None
    travelled: float
    speed: float
    speed_class: str | None
    rotates: bool | None
    visible: tuple[float, ...]

    @property
    def seen(self) -> int:
        """The number of frames in which it is clearly visible."""
        return sum(fraction >= 0.7 for fraction in self.visible)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at ``seconds``: ``text`` says what, as a clause."""

    seconds: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Truth:
    """A clip as ``frames`` (frame numbers) show it: objects, events in order of time, cuts, camera and faults.

    ``cuts`` and ``fades`` are the first frames of the shots after them, ``cameras`` one word a shot. ``faults`` are
    those that the frames show; ``hidden_faults`` those that they are too few to show.
    """

    frames: tuple[int, ...]
    figures: tuple[FigureTruth, ...]
    events: tuple[Event, ...]
    cuts: tuple[int, ...]
    fades: tuple[int, ...]
    cameras: tuple[str, ...]
    faults: tuple[str, ...]
    hidden_faults: tuple[str, ...]

    def to_json(self) -> dict:
        """The same as JSON values."""
        return asdict(self)


def truth_of(clip: Clip, frames: Sequence[int] | None = None) -> Truth:
    """What ``frames`` show to be true of ``clip`` (ascending frame numbers; all where None)."""
    frames = tuple(range(clip.frames) if frames is None else frames)
    fractions = [visible_fractions(clip, frame) for frame in frames]
    figures = []
    for number, shot in enumerate(clip.shots):
        for index, figure in enumerate(shot.figures):
            seen = tuple(round(visible.get((number, index), 0.0), 3) for visible in fractions)
            figures.append(_figure_truth(clip, shot, number, index, figure, seen))
    shown = [fault for fault in clip.faults if fault_shows(clip, fault, frames)]
    return Truth(
        frames=frames,
        figures=tuple(figures),
        events=_events(clip),
        cuts=tuple(shot.first for shot in clip.shots if shot.opening == "cut"),
        fades=tuple(shot.first for shot in clip.shots if shot.opening == "fade"),
        cameras=tuple(shot.camera.kind for shot in clip.shots),
        faults=tuple(fault.kind for fault in shown),
        hidden_faults=tuple(fault.kind for fault in clip.faults if fault not in shown),
    )


def visible_fractions(clip: Clip, frame: int) -> dict[tuple[int, int], float]:
    """The visible fraction of each figure in a frame, by (shot, figure)."""
    number = clip.shots.index(clip.shot_at(what_is_shown(clip, frame)[0]))
    size = round(SIDE * clip.aspect[1]), round(SIDE * clip.aspect[0])
    areas: dict[int, int] = {}
    picture = figure_map(clip, frame, size, areas)
    return {(number, index): float((picture == index).sum() / max(area, 1)) for index, area in areas.items()}


def figure_map(clip: Clip, frame: int, size: tuple[int, int], areas: dict[int, int] | None = None) -> np.ndarray:
    """Index of the figure at each point of a frame of ``size`` (H, W): int8 [H, W], -1 for none.

    ``areas``, where given, gets the points of each whole figure, covered or beside the picture as they may be.
    """
    shown, faults = what_is_shown(clip, frame)
    shot = clip.shot_at(shown)
    # Figures may be beside the picture by as much as its own size.
    canvas = np.full((3 * size[0], 3 * size[1]), -1, np.int8)
    view = camera_view(clip, shot, shown / clip.fps)
    for index, (x, y, radius, angle), becomes in poses(clip, shot, size, shown, view, faults):
        if radius < 1:
            continue
        shape = becomes if becomes in SHAPES else shot.figures[index].shape
        x, y = x + size[1], y + size[0]
        reach = int(radius * 1.25) + 2
        box = max(0, int(y) - reach), int(y) + reach, max(0, int(x) - reach), int(x) + reach
        inside = signed_distance(shape, *local_coordinates(box, x, y, radius, angle)) < 0
        if areas is not None:
            areas[index] = int(inside.sum())
        part = canvas[box[0] : box[1], box[2] : box[3]]
        part[inside[: part.shape[0], : part.shape[1]]] = index
    return canvas[size[0] : 2 * size[0], size[1] : 2 * size[1]]


def _figure_truth(clip: Clip, shot: Shot, number: int, index: int, figure: Figure, visible) -> FigureTruth:
    first = figure.legs[0]
    dx, dy = first.end[0] - first.begin[0], first.end[1] - first.begin[1]
    travelled = (dx * dx + dy * dy) ** 0.5
    speed = travelled / (first.stop - first.start)
    speed_class = "fast" if speed >= FAST else "slow" if 0 < speed <= SLOW else None
    seconds = (shot.stop - shot.first) / clip.fps
    return FigureTruth(
        shot=number,
        index=index,
        name=figure.name,
        colour=figure.colour,
        shape=figure.shape,
        size=figure.size,
        pattern=figure.pattern,
        motion=figure.motion,
        moment=None if figure.moment is None else round(figure.moment, 3),
        direction=direction_of(dx, dy) if travelled >= 0.2 else None,
        travelled=round(travelled, 4),
        speed=round(speed, 4),
        speed_class=speed_class if travelled >= 0.15 else None,
        rotates=_rotates(figure, seconds),
        visible=visible,
    )


def direction_of(dx: float, dy: float) -> str | None:
    """The direction of a movement, y downwards; None near a diagonal."""
    if abs(dx) >= CLEAR_DIRECTION * abs(dy):
        return "right" if dx > 0 else "left"
    if abs(dy) >= CLEAR_DIRECTION * abs(dx):
        return "down" if dy > 0 else "up"
    return None


def _rotates(figure: Figure, seconds: float) -> bool | None:
    """Whether it rotates; None for a round one, or one that turned too little to be seen."""
    if figure.shape in ("circle", "ring"):
        return None
    if figure.spin == 0:
        return False
    return True if abs(figure.spin) * seconds >= 0.4 else None


CLAUSES = {
    "stops": "the {} stops",
    "starts": "the {} starts to move",
    "bounces": "the {} bounces",
    "appears": "the {} appears",
    "disappears": "the {} disappears",
}


def _events(clip: Clip) -> tuple[Event, ...]:
    """Everything with a moment: what figures do, cuts and fades."""
    events = [
        Event(round(figure.moment, 3), figure.motion, CLAUSES[figure.motion].format(figure.name))
        for shot in clip.shots
        for figure in shot.figures
        if figure.moment is not None
    ]
    events += [
        Event(round(shot.first / clip.fps, 3), shot.opening, f"the {shot.opening}")
        for shot in clip.shots
        if shot.opening != "start"
    ]
    return tuple(sorted(events, key=lambda event: event.seconds))


def fault_shows(clip: Clip, fault, frames: Sequence[int]) -> bool:
    """Whether ``frames`` are enough to see the fault."""
    inside = [frame for frame in frames if fault.first <= frame < fault.stop]
    before = sum(frame < fault.first for frame in frames)
    if fault.kind in ("vanish", "morph"):
        if before < 2 or len(inside) < 2:
            return False
        last = [frame for frame in frames if frame < fault.first][-2:]
        return all(visible_fractions(clip, frame).get((0, fault.figure), 0.0) >= 0.8 for frame in last)
    leg = clip.shots[0].figures[0].legs[0]
    speed = ((leg.end[0] - leg.begin[0]) ** 2 + (leg.end[1] - leg.begin[1]) ** 2) ** 0.5 / (leg.stop - leg.start)
    if fault.kind == "duplicate":
        # Only neighbouring frames are the same, and only where the next would differ.
        neighbours = sum(frame + 1 in inside for frame in inside[:-1]) == len(inside) - 1
        return neighbours and len(inside) >= 4 and speed / clip.fps >= LEAST_STEP
    if fault.kind == "freeze":
        return len(inside) >= 3 and speed * (fault.stop - fault.first) / clip.fps >= 6 * LEAST_STEP
    return len(inside) >= 3
