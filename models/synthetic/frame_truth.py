"""What is true of single frames of a synthetic clip: of every cell of a grid, and compared with a frame before.

Lengths are in shorter sides of the frame unless they are said to be in cells. What cannot be known from the frames up
to then is NaN or left out.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from .ground_truth import LEAST_STEP, figure_map
from .rendering import brightness, camera_view, poses, what_is_shown
from .scenes import COLOURS, FAULTS, SHAPES, Clip, Figure

SAMPLES = 16
"""Points along a side of a cell at which figures are sampled."""

LEAST_COVER = 1 / 32
"""Least fraction of a cell that a figure must cover to be the cell's."""

LEAST_RADIUS = 0.03
"""Radius from which on a growing or shrinking figure counts as visible."""

DARKEST = 0.4
"""Brightness of a fading frame below which its figures are not labelled."""


class FrameState:
    """What a frame shows.

    Attributes:
        frame, rgb: its number, and its pixels uint8 [H, W, 3].
        seconds: time of the scene in it; a frozen frame shows an earlier one.
        shot, number: its shot, and the index of that.
        view: middle of the picture (x, y) in the scene, and zoom.
        dark: whether it is faded so far that figures are not labelled.
        figures: (x, y, radius, what it morphed into or None) of each figure of the shot, by its index.
        visible: indexes of the figures whose centre is in the picture.
    """

    def __init__(self, clip: Clip, frame: int, rgb: np.ndarray):
        self.frame, self.rgb = frame, rgb
        shown, faults = what_is_shown(clip, frame)
        self.seconds = shown / clip.fps
        self.shot = clip.shot_at(shown)
        self.number = clip.shots.index(self.shot)
        self.view = camera_view(clip, self.shot, self.seconds)
        self.dark = brightness(clip, frame, faults) < DARKEST
        width, height = clip.aspect
        found = poses(clip, self.shot, (height, width), shown, self.view, faults)
        self.figures = {index: (x, y, radius, becomes) for index, (x, y, radius, _), becomes in found}
        self.visible = {
            index
            for index, (x, y, radius, _) in self.figures.items()
            if radius >= LEAST_RADIUS and 0 <= x <= width and 0 <= y <= height
        }


def figures_in_cells(clip: Clip, frame: int, grid: tuple[int, int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """(rows, columns) of the cells of each figure of a frame's shot, by the figure's index.

    A cell belongs to the figure that covers most of it, if that is enough.
    """
    rows, columns = grid
    areas: dict[int, int] = {}
    canvas = figure_map(clip, frame, (rows * SAMPLES, columns * SAMPLES), areas)
    covered = {index: (canvas == index).reshape(rows, SAMPLES, columns, SAMPLES).mean((1, 3)) for index in areas}
    most = np.max(list(covered.values()), axis=0, initial=LEAST_COVER)
    return {index: (cover >= most).nonzero() for index, cover in covered.items()}


def cell_contents(
    clip: Clip, now: FrameState, following: FrameState | None, grid: tuple[int, int]
) -> Iterator[tuple[tuple, dict]]:
    """Yield (cells, values by name) of what each cell of a frame shows: first of all cells, then of each figure's.

    Offsets from the cell's middle, and steps until the frame ``following``, are in cells; positions are from the middle
    of the picture. Nothing is known of a dark frame, and of one before a cut.
    """
    if now.dark or (following and following.number != now.number):
        return
    (rows, columns), unit = grid, min(grid)
    yield (), {"colour": "none", "background": now.shot.ground.kind}
    if following:
        (x, y, zoom), (u, v, later) = now.view, following.view
        across = (np.arange(columns) + 0.5 - columns / 2) * (later / zoom - 1) + (x - u) * unit * later
        down = (np.arange(rows) + 0.5 - rows / 2) * (later / zoom - 1) + (y - v) * unit * later
        yield (), {"step x": across, "step y": down[:, None]}
    for index, cells in figures_in_cells(clip, now.frame, grid).items():
        x, y, _, becomes = now.figures[index]
        known = _appearance(now.shot.figures[index], becomes)
        known |= {"offset x": unit * x - cells[1] - 0.5, "offset y": unit * y - cells[0] - 0.5}
        known |= {"position x": x - clip.aspect[0] / 2, "position y": y - clip.aspect[1] / 2}
        if following:
            u, v, *_ = following.figures.get(index, (np.nan, np.nan))
            known |= {"step x": unit * (u - x), "step y": unit * (v - y)}
        yield cells, known


def _appearance(figure: Figure, becomes: str | None) -> dict[str, float | str]:
    """Colour, shape, size and pattern; unknown for colours without a name and patterns too small to be seen."""
    colour = becomes if becomes in COLOURS else figure.colour
    shape = becomes if becomes in SHAPES else figure.shape
    patterned = figure.size == "large" and shape in ("circle", "square", "ring")
    return {
        "colour": colour if colour in COLOURS else np.nan,
        "shape": shape,
        "size": figure.size,
        "pattern": figure.pattern if patterned else np.nan,
    }


class FigureHistory:
    """What figures have done in the frames seen so far; frames are to be added in order."""

    def __init__(self, clip: Clip):
        self.clip = clip
        self.now: FrameState | None = None
        self.before: FrameState | None = None
        self._origins: dict[tuple[int, int], np.ndarray] = {}
        self._moved: set[tuple[int, int]] = set()

    def add(self, state: FrameState) -> dict[int, dict]:
        """Values by name of each visible figure of a further frame, by its index.

        "path" is its way since it was first visible, "happens" whether its stop, start, bounce or appearance came since
        the frame before, "age" the seconds since then.
        """
        self.before, self.now = self.now, state
        for index in state.visible:
            self._origins.setdefault((state.number, index), np.array(state.figures[index][:2]))
        if self.before is None or state.dark:
            return {}
        return {index: self._values(index) for index in state.visible}

    def _values(self, index: int) -> dict[str, float | str]:
        clip, now, before, key = self.clip, self.now, self.before, (self.now.number, index)
        figure, centre = now.shot.figures[index], np.array(now.figures[index][:2])
        path = centre - self._origins[key]
        known = {"path x": path[0], "path y": path[1]}
        if now.number != before.number or before.dark:
            return known
        motion = _motion_so_far(clip, now, figure)
        faults = [fault for fault in clip.faults if fault.figure == index and fault.first < now.frame]
        known |= {
            "motion": motion,
            "rotates": np.nan if figure.shape in ("circle", "ring") else figure.spin != 0,
            "jitters": any(fault.kind == "jitter" for fault in faults),
            "morphed": now.figures[index][3] is not None,
            "new": index not in before.visible,
            "happens": _between(figure.moment, before, now),
            "age": _since(figure.moment, now) if isinstance(motion, str) else np.nan,
        }
        if index in before.visible:
            step = centre - before.figures[index][:2]
            length = np.hypot(*step)
            if length >= LEAST_STEP:
                self._moved.add(key)
            known |= {"rests": length < LEAST_STEP, "has moved": key in self._moved}
            speed = length * clip.fps / (now.frame - before.frame)
            known |= {"step x": step[0], "step y": step[1], "speed": speed}
        return known


def _motion_so_far(clip: Clip, now: FrameState, figure: Figure) -> str | float:
    """What a figure does as far as it shows by now; NaN under a moving camera and where it cannot be said yet."""
    if now.shot.camera.kind not in ("still", "shake") or figure.motion == "disappears":
        return np.nan
    if figure.moment is not None and now.seconds < figure.moment:
        return {"starts": "still", "appears": "still"}.get(figure.motion, "moves")
    early = now.seconds - figure.legs[0].start < 0.5 * clip.seconds
    return np.nan if early and figure.motion in ("speeds up", "slows down") else figure.motion


def _between(moment: float | None, before: FrameState, now: FrameState) -> bool:
    return moment is not None and before.seconds < moment <= now.seconds


def _since(moment: float | None, now: FrameState) -> float:
    return 0.0 if moment is None else max(0.0, now.seconds - moment)


def changes(clip: Clip, now: FrameState, before: FrameState | None, frames: Sequence[int]) -> dict[str, float | str]:
    """Values by name of a frame compared with the one before; ``frames`` are the numbers of all that are shown.

    Faults are those that the frames up to now show. "change" is the root of the mean absolute difference of the pixels,
    "gone age" the seconds since a figure last disappeared.
    """
    known = {"figures": len(now.visible), "shots": now.number}
    if before is None:
        return known
    difference = (now.rgb.astype(np.float32) - before.rgb) / 255
    gone = [figure.moment for figure in now.shot.figures if figure.motion == "disappears"]
    known |= {kind: _visible_fault(clip, kind, now.frame, frames) for kind in FAULTS}
    known |= {
        "cut": now.number != before.number,
        "repeats": not difference.any(),
        "change": np.abs(difference).mean() ** 0.5,
        "light": difference.mean(),
        "cut age": _since(now.shot.first / clip.fps if now.number else None, now),
        "gone age": _since(max((moment for moment in gone if moment < now.seconds), default=None), now),
    }
    if now.number == before.number and not now.dark and not before.dark:
        (x, y, zoom), (u, v, later) = before.view, now.view
        happens = any(_between(figure.moment, before, now) for figure in now.shot.figures)
        known |= {"camera": now.shot.camera.kind, "happens": happens}
        known |= {"pan x": x - u, "pan y": y - v, "zoom": np.log(later / zoom)}
    return known


def _visible_fault(clip: Clip, kind: str, frame: int, frames: Sequence[int]) -> bool:
    """Whether the frames up to ``frame`` show a fault: one frame of a jump, two of a state that lasts."""
    enough = 1 if kind in ("flicker", "vanish", "morph") else 2
    seen = [other for other in frames if other <= frame]
    faults = [fault for fault in clip.faults if fault.kind == kind]
    return any(sum(fault.first <= other < fault.stop for other in seen) >= enough for fault in faults)
