"""Lessons for the text model on what it reads: at every picture, what has changed since the one before.

What a thing is stands in its token already; where it went, whether the picture froze, how many shots there were, only
comes of comparing tokens, and answers of a word teach that very slowly. So the hidden states halfway through the text
model are told it directly: those of a cell's token about the figure in it, those of the token behind a picture about
the picture. The layers behind find there what questions ask for.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from .cells import DARKEST, figures_in_cells
from .rendering import brightness, look, poses, what_is_shown
from .scenes import CAMERAS, FAULTS, MOTIONS, Clip
from .tiny import TrainingOperations
from .truth import LEAST_STEP

LEAST_RADIUS = 0.03
"""Radius in shorter sides below which a growing or shrinking figure is not there."""

STEPS, PATHS, ZOOMS, LIGHTS = 8.0, 2.0, 8.0, 8.0
"""What lengths in shorter sides, logarithms of zoom and differences of brightness are told times, to be near 1."""

CELL_VALUES = (
    "motion", "turns", "jitters", "morphed", "new", "rests", "moved", "step x", "step y", "path x", "path y", "speed",
)  # fmt: skip
"""What a cell's token is told about the figure in it: what it does as far as can be seen by then, as a place among
``MOTIONS``; six yes or no, of which the last two are whether it stands where it stood in the picture before, and
whether it ever did not; how far it went since the picture before and since it was first seen; shorter sides a
second."""

PICTURE_VALUES = (
    "camera", *FAULTS, "cut", "repeats", "change", "light", "pan x", "pan y", "zoom", "figures", "shots",
)  # fmt: skip
"""What the token behind a picture is told: what the camera does, as a place among ``CAMERAS``; yes or no for each fault
seen by then, for a new shot and for the same picture again; how different and how much brighter it is than the one
before; how far the ground moved; how many figures there are, and how many shots there were."""

CELL_OUTPUTS = len(MOTIONS) + len(CELL_VALUES) - 1
PICTURE_OUTPUTS = len(CAMERAS) + len(PICTURE_VALUES) - 1
CELL_ANSWERS, PICTURE_ANSWERS = 6, len(FAULTS) + 2
"""How many of the values are yes or no; they follow the first, and the rest are numbers."""


def untold(tokens: int, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """What :func:`changes` returns where there is nothing to tell."""
    return (
        np.full((tokens, len(CELL_VALUES)), np.nan, np.float32),
        np.full((pictures, len(PICTURE_VALUES)), np.nan, np.float32),
    )


def changes(clip: Clip, frames: Sequence[int], grids: Sequence[tuple[int, int]], pictures: Sequence[np.ndarray]):
    """What the tokens of pictures shown in order can be told.

    Args:
        frames: the first frame of each picture; grids: its (rows, columns) in tokens.
        pictures: uint8 [H, W, 3], those frames, all of one size.

    Returns:
        (cells float32 [tokens, len(CELL_VALUES)], pictures float32 [n, len(PICTURE_VALUES)]); NaN where nothing is
        told.
    """
    cells, wholes = [], []
    origins: dict[tuple[int, int], np.ndarray] = {}
    moved: set[tuple[int, int]] = set()
    before = None
    for frame, grid, picture in zip(frames, grids, pictures, strict=True):
        now = _Seen(clip, frame, picture)
        for key, place in now.places.items():
            origins.setdefault(key, place)
        cells.append(_of_cells(clip, now, before, origins, moved, grid))
        wholes.append(_of_picture(clip, now, before, frames))
        before = now
    return np.concatenate(cells), np.stack(wholes)


class _Seen:
    """A frame as it is shown, and where its figures stand: ``places`` (x, y) in shorter sides by (shot, place)."""

    def __init__(self, clip: Clip, frame: int, picture: np.ndarray):
        self.frame, self.picture = frame, picture.astype(np.float32)
        self.shown, self.faults = what_is_shown(clip, frame)
        self.shot = clip.shot_at(self.shown)
        self.number = clip.shots.index(self.shot)
        self.view = look(clip, self.shot, self.shown / clip.fps)
        self.dark = brightness(clip, frame, self.faults) < DARKEST
        size = clip.aspect[1], clip.aspect[0]
        standing = list(poses(clip, self.shot, size, self.shown, self.view, self.faults))
        self.places = {
            (self.number, place): np.array((x, y))
            for place, (x, y, radius, _), _ in standing
            if radius >= LEAST_RADIUS and 0 <= x <= size[1] and 0 <= y <= size[0]
        }
        self.morphed = {place for place, _, becomes in standing if becomes}


def _of_cells(clip: Clip, now: _Seen, before: _Seen | None, origins, moved: set, grid: tuple[int, int]) -> np.ndarray:
    values = np.full((*grid, len(CELL_VALUES)), np.nan, np.float32)
    if before is None or now.dark:
        return values.reshape(-1, len(CELL_VALUES))
    same_shot = now.number == before.number and not before.dark
    for place, inside in figures_in_cells(clip, now.frame, grid).items():
        key = now.number, place
        if key not in now.places:
            continue
        told = np.full(len(CELL_VALUES), np.nan, np.float32)
        path = now.places[key] - origins[key]
        told[9:11] = PATHS * path
        if same_shot:
            told[:4] = _figure(clip, now, place)
            told[4] = key not in before.places
        if same_shot and key in before.places:
            step = now.places[key] - before.places[key]
            length = np.hypot(*step)
            told[5] = length < LEAST_STEP
            told[6] = key in moved or length >= LEAST_STEP
            told[7:9] = STEPS * step
            told[11] = PATHS * length * clip.fps / (now.frame - before.frame)
            if length >= LEAST_STEP:
                moved.add(key)
        values[inside] = told
    return values.reshape(-1, len(CELL_VALUES))


def _figure(clip: Clip, now: _Seen, place: int) -> tuple:
    """Motion, turns, jitters and morphed of a figure."""
    figure, seconds = now.shot.figures[place], now.shown / clip.fps
    motion = figure.motion
    if figure.moment is not None and seconds < figure.moment:
        motion = {"starts": "still", "appears": "still"}.get(motion, "moves")
    elif motion in ("speeds up", "slows down") and seconds - figure.legs[0].start < 0.5 * clip.seconds:
        motion = None
    if motion is None or now.shot.camera.kind not in ("still", "shake") or figure.motion == "disappears":
        motion = np.nan
    else:
        motion = MOTIONS.index(motion)
    turns = np.nan if figure.shape in ("circle", "ring") else figure.spin != 0
    jitters = any(fault.kind == "jitter" and fault.figure == place and fault.first < now.frame for fault in clip.faults)
    return motion, turns, jitters, place in now.morphed


def _of_picture(clip: Clip, now: _Seen, before: _Seen | None, frames: Sequence[int]) -> np.ndarray:
    told = np.full(len(PICTURE_VALUES), np.nan, np.float32)
    told[-2:] = len(now.places) / 2, now.number
    if before is None:
        return told
    difference = (now.picture - before.picture) / 255
    told[1:7] = [_seen_by_now(clip, kind, now.frame, frames) for kind in FAULTS]
    told[7] = now.number != before.number
    told[8] = not difference.any()
    told[9] = 4 * np.abs(difference).mean() ** 0.5
    told[10] = LIGHTS * difference.mean()
    if now.number == before.number and not now.dark and not before.dark:
        told[0] = CAMERAS.index(now.shot.camera.kind)
        (x, y, zoom), (u, v, later) = before.view, now.view
        told[11:14] = STEPS * (x - u), STEPS * (y - v), ZOOMS * np.log(later / zoom)
    return told


def _seen_by_now(clip: Clip, kind: str, frame: int, frames: Sequence[int]) -> bool:
    """Whether the frames up to this one show a fault of a kind: two of a state that lasts, one of a jump."""
    enough = 1 if kind in ("flicker", "vanish", "morph") else 2
    return any(
        sum(fault.first <= other < fault.stop for other in frames if other <= frame) >= enough
        for fault in clip.faults
        if fault.kind == kind
    )


def make_heads(width: int) -> torch.nn.ModuleDict:
    """Layers from hidden states of ``width`` to what the tokens of cells and those behind pictures are told."""
    outputs = {"cells": CELL_OUTPUTS, "wholes": PICTURE_OUTPUTS}
    return torch.nn.ModuleDict({name: TrainingOperations.Linear(width, count) for name, count in outputs.items()})


def change_loss(heads: torch.nn.ModuleDict, states: torch.Tensor, batch) -> torch.Tensor:
    """The mean error of what ``heads`` read from hidden states [n, D] of a ``batches.Batch``."""
    cells = _loss(heads["cells"](states[batch.visual_rows]), batch.cells, len(MOTIONS), CELL_ANSWERS)
    return cells + _loss(heads["wholes"](states[batch.behind_rows]), batch.wholes, len(CAMERAS), PICTURE_ANSWERS)


def _loss(outputs: torch.Tensor, told: torch.Tensor, words: int, answers: int) -> torch.Tensor:
    """Sum over the values of the mean error where they are told.

    Cross entropies of the word and of each yes or no, then errors of the numbers. What seldom is a yes weighs as much
    in its yes as in its no.

    ``outputs`` [n, words + answers + numbers]; ``told`` float32 [n, 1 + answers + numbers], NaN where nothing is.
    """
    outputs = outputs.float()
    known, values = told.isfinite(), told.nan_to_num()
    share = known / known.sum(0).clamp(min=1)
    word = F.cross_entropy(outputs[:, :words], values[:, 0].long(), reduction="none")
    asked = slice(1, 1 + answers)
    yes = F.binary_cross_entropy_with_logits(outputs[:, words : words + answers], values[:, asked], reduction="none")
    for said in (0, 1):
        same = known[:, asked] & (values[:, asked] == said)
        share[:, asked] = torch.where(same, 0.5 / same.sum(0).clamp(min=1), share[:, asked])
    error = F.smooth_l1_loss(outputs[:, words + answers :], values[:, 1 + answers :], reduction="none", beta=0.25)
    return (torch.cat([word[:, None], yes, error], 1) * share).sum()
