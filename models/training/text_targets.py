"""Lessons for the text model on what it reads: at every picture, what has changed since the one before.

What a thing is stands in its token already; where it went, whether the picture froze, how many shots there were, only
comes of comparing tokens, and answers of a word teach that very slowly. So the hidden states halfway through the text
model are told it directly: those of a cell's token about the figure in it, those of the token behind a picture about
the picture. The layers behind find there what questions ask for: the tokens that name an event in a question are told
when it is, and one layer later, where the question has named another, which of the two comes first; the token from
which an answer has to name one of the two, which one that is.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..synthetic.ground_truth import LEAST_STEP, Truth
from ..synthetic.rendering import brightness, look, poses, what_is_shown
from ..synthetic.scenes import CAMERAS, FAULTS, MOTIONS, Clip
from .architecture import TrainingOperations
from .vision_targets import DARKEST, figures_in_cells

LEAST_RADIUS = 0.03
"""Radius in shorter sides below which a growing or shrinking figure is not there."""

STEPS, PATHS, ZOOMS, LIGHTS, AGES = 8.0, 2.0, 8.0, 8.0, 0.5
"""What lengths in shorter sides, logarithms of zoom, differences of brightness and seconds are told times, to be near
1."""

CELL_VALUES = (
    "motion", "turns", "jitters", "morphed", "new", "rests", "moved", "happens", "step x", "step y", "path x", "path y",
    "speed", "age", "time",
)  # fmt: skip
"""What a cell's token is told about the figure in it: what it does as far as can be seen by then, as a place among
``MOTIONS``; seven yes or no, of which the last three are whether it stands where it stood in the picture before,
whether it ever did not, and whether what it does at a moment, such as stop, came just now; how far it went since the
picture before and since it was first seen; shorter sides a second; how long ago that moment was, 0 where it is to come.
Every cell's is told the time."""

PICTURE_VALUES = (
    "camera", *FAULTS, "cut", "repeats", "happens", "change", "light", "pan x", "pan y", "zoom", "figures", "shots",
    "cut age", "gone age",
)  # fmt: skip
"""What the token behind a picture is told: what the camera does, as a place among ``CAMERAS``; yes or no for each fault
seen by then, for a new shot, for the same picture again and for the moment of a figure; how different and how much
brighter it is than the one before; how far the ground moved; how many figures there are, and how many shots there were;
how long ago the shot began, 0 in the first, and how long ago a figure last disappeared in it, 0 where none has."""

MENTION_VALUES = ("moment", "age", "share")
"""What the last token of an event's words in a question is told: when it is, how long before the last frame, and which
share of the time between the first and the last lies before it, from -1 to 1. Behind them stands whether it is later
than the event that the question named before, NaN where that one is the first."""

MENTIONS, PAIRS = 12.0, 4.0
"""What the mean errors about the moments of events, and about which of two is later or is to be named, weigh beside
the mean errors of all that cells and pictures are told."""

CELL_OUTPUTS = len(MOTIONS) + len(CELL_VALUES) - 1
PICTURE_OUTPUTS = len(CAMERAS) + len(PICTURE_VALUES) - 1
CELL_ANSWERS, PICTURE_ANSWERS = 7, len(FAULTS) + 3
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


def moments(truth: Truth, fps: float) -> dict[str, np.ndarray]:
    """What the mention of each event can be told, by its words: float32 [len(MENTION_VALUES)]."""
    first, last = truth.frames[0] / fps, truth.frames[-1] / fps
    words = Counter(event.text for event in truth.events)
    return {
        event.text: np.array(
            [
                AGES * event.seconds,
                AGES * (last - event.seconds),
                2 * (event.seconds - first) / max(last - first, 1 / fps) - 1,
            ],
            np.float32,
        )
        for event in truth.events
        if words[event.text] == 1
    }


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


def _in_order(names: Sequence[str], told: dict[str, float]) -> np.ndarray:
    """The values of ``names``: float32, NaN where nothing is told."""
    return np.array([told.get(name, np.nan) for name in names], np.float32)


def _of_cells(clip: Clip, now: _Seen, before: _Seen | None, origins, moved: set, grid: tuple[int, int]) -> np.ndarray:
    time = {"time": AGES * now.frame / clip.fps}
    values = np.tile(_in_order(CELL_VALUES, time), (*grid, 1))
    if before is None or now.dark:
        return values.reshape(-1, len(CELL_VALUES))
    for place, inside in figures_in_cells(clip, now.frame, grid).items():
        if (now.number, place) in now.places:
            told = _of_figure(clip, now, before, origins, moved, place)
            values[inside] = _in_order(CELL_VALUES, time | told)
    return values.reshape(-1, len(CELL_VALUES))


def _of_figure(clip: Clip, now: _Seen, before: _Seen, origins, moved: set, place: int) -> dict[str, float]:
    key = now.number, place
    path = PATHS * (now.places[key] - origins[key])
    told = {"path x": path[0], "path y": path[1]}
    if now.number != before.number or before.dark:
        return told
    moment = now.shot.figures[place].moment
    told |= _figure(clip, now, place)
    told |= {"new": key not in before.places, "happens": _happens(clip, moment, before, now)}
    if not np.isnan(told["motion"]):
        told["age"] = _age(moment, now.shown / clip.fps)
    if key in before.places:
        step = now.places[key] - before.places[key]
        length = np.hypot(*step)
        if length >= LEAST_STEP:
            moved.add(key)
        told |= {"rests": length < LEAST_STEP, "moved": key in moved}
        told |= {"step x": STEPS * step[0], "step y": STEPS * step[1]}
        told["speed"] = PATHS * length * clip.fps / (now.frame - before.frame)
    return told


def _figure(clip: Clip, now: _Seen, place: int) -> dict[str, float]:
    """What can be told of a figure by the frame alone, knowing the clip."""
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
    return {"motion": motion, "turns": turns, "jitters": jitters, "morphed": place in now.morphed}


def _happens(clip: Clip, moment: float | None, before: _Seen, now: _Seen) -> bool:
    return moment is not None and before.shown / clip.fps < moment <= now.shown / clip.fps


def _age(moment: float | None, seconds: float) -> float:
    return 0.0 if moment is None else AGES * max(0.0, seconds - moment)


def _of_picture(clip: Clip, now: _Seen, before: _Seen | None, frames: Sequence[int]) -> np.ndarray:
    told = {"figures": len(now.places) / 2, "shots": now.number}
    if before is not None:
        told |= _since(clip, now, before) | {kind: _seen_by_now(clip, kind, now.frame, frames) for kind in FAULTS}
    return _in_order(PICTURE_VALUES, told)


def _since(clip: Clip, now: _Seen, before: _Seen) -> dict[str, float]:
    """What has changed since the picture before."""
    difference = (now.picture - before.picture) / 255
    seconds = now.shown / clip.fps
    gone = [figure.moment for figure in now.shot.figures if figure.motion == "disappears" and figure.moment < seconds]
    told = {
        "cut": now.number != before.number,
        "repeats": not difference.any(),
        "change": 4 * np.abs(difference).mean() ** 0.5,
        "light": LIGHTS * difference.mean(),
        "cut age": _age(now.shot.first / clip.fps, seconds) if now.number else 0.0,
        "gone age": _age(max(gone, default=None), seconds),
    }
    if now.number == before.number and not now.dark and not before.dark:
        (x, y, zoom), (u, v, later) = before.view, now.view
        told |= {
            "camera": CAMERAS.index(now.shot.camera.kind),
            "happens": any(_happens(clip, figure.moment, before, now) for figure in now.shot.figures),
            "pan x": STEPS * (x - u),
            "pan y": STEPS * (y - v),
            "zoom": ZOOMS * np.log(later / zoom),
        }
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
    """Layers from hidden states of ``width`` to what the tokens of cells, those behind pictures, those that name an
    event and those that choose one are told."""
    outputs = {
        "cells": CELL_OUTPUTS,
        "wholes": PICTURE_OUTPUTS,
        "mentions": len(MENTION_VALUES),
        "later": 1,
        "second": 1,
    }
    return torch.nn.ModuleDict({name: TrainingOperations.Linear(width, count) for name, count in outputs.items()})


def change_loss(
    heads: torch.nn.ModuleDict, halfway: torch.Tensor, found: torch.Tensor, late: torch.Tensor, batch
) -> torch.Tensor:
    """The mean error of what ``heads`` read from hidden states [n, D] of a ``batches.Batch``.

    ``halfway`` are those that the first half of the layers leaves, ``found`` those before the last two layers and
    ``late`` those before the last.
    """
    cells = _loss(heads["cells"](halfway[batch.visual_rows]), batch.cells, len(MOTIONS), CELL_ANSWERS)
    wholes = _loss(heads["wholes"](halfway[batch.behind_rows]), batch.wholes, len(CAMERAS), PICTURE_ANSWERS)
    if not len(batch.mentions):
        return cells + wholes
    told, later = batch.mentions[:, :-1], batch.mentions[:, -1]
    error = MENTIONS * F.smooth_l1_loss(heads["mentions"](found[batch.mention_rows]).float(), told, beta=0.25)
    second = later.isfinite()
    if second.any():
        ranked = heads["later"](late[batch.mention_rows[second]]).float()[:, 0]
        error = error + PAIRS * F.binary_cross_entropy_with_logits(ranked, later[second])
    if len(batch.second):
        chosen = heads["second"](late[batch.choosing_rows]).float()[:, 0]
        error = error + PAIRS * F.binary_cross_entropy_with_logits(chosen, batch.second)
    return cells + wholes + error


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
