"""Lessons for the vision tower alone: what the cell of every token shows, told by the clip that was rendered.

An answer of a word teaches a tower of random weights next to nothing about outlines. Told what stands in each cell, it
knows shapes and patterns within minutes, and the text model has something to look up from the first step on.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F

from ..code.modes.pictures import shrink
from ..qwen.vision import patches_of
from ..source.sampling import CELL
from ..synthetic.ground_truth import place_map
from ..synthetic.rendering import brightness, look, poses, render_frame, what_is_shown
from ..synthetic.scenes import COLOURS, CONTENTS, GROUNDS, PATTERNS, SHAPES, SIZES, Clip, Figure, sample_clip
from ..video.tokens import thumbnail_size

DETAIL = 16
"""Points along a side at which a cell is looked at for figures."""

LEAST_SHARE = 1 / 32
"""Share of a cell that a figure covers at least to stand in it."""

DARKEST = 0.4
"""Brightness of a fading frame below which nothing in it is told."""

KINDS = {
    "colour": (*COLOURS, "none"),
    "shape": SHAPES,
    "pattern": PATTERNS,
    "size": tuple(SIZES),
    "ground": GROUNDS,
}
"""What is told in words; the colour says, too, whether there is a figure."""

LENGTHS = 8
"""What is told in numbers. (x, y) each: in cells, where the figure's centre is and how far the figure, or the ground,
moves; and, in shorter sides from the middle of the picture, where the figure stands in it. Then how bright the cell is
in the first and in the last picture, from -1 to 1."""

OUTPUTS = sum(len(words) for words in KINDS.values()) + LENGTHS


@dataclass(frozen=True, slots=True)
class CellCourse:
    """What the tower's pictures are drawn from.

    Attributes:
        sizes: (H, W) of whole pictures, with weights; multiples of 32. Thumbnails of them are shown, too.
        contents: weight of each of ``scenes.CONTENTS``.
        look_fps: how often a second a pair of frames is looked at.
        off_palette: share of the figures whose colour has no name. Of these everything else is told, so that what is
            known of a shape does not lean on the colours that it was shown in.
    """

    sizes: dict[tuple[int, int], float] = field(
        default_factory=lambda: {(128, 128): 6, (96, 96): 1, (128, 160): 0.5, (160, 128): 0.5, (256, 256): 0.25}
    )
    contents: dict[str, float] = field(default_factory=lambda: dict(zip(CONTENTS, (1, 4, 3, 1, 1), strict=True)))
    look_fps: tuple[float, ...] = (2, 3, 4, 4, 6, 8)
    most_figures: int = 4
    off_palette: float = 0.25


@dataclass(slots=True)
class CellBatch:
    """Pictures of one shape and what their cells show.

    Attributes:
        pictures: uint8 [n, f, H, W, 3], f = 1 for stills and 2 for pairs.
        words: int64 [cells, len(KINDS)], the place of each word among ``KINDS``; -1 where nothing is told.
        lengths: float32 [cells, LENGTHS]; NaN where nothing is told.
    """

    pictures: torch.Tensor
    words: torch.Tensor
    lengths: torch.Tensor

    @property
    def count(self) -> int:
        """Cells."""
        return len(self.words)

    def to(self, device) -> "CellBatch":
        """The same on another device."""
        return CellBatch(self.pictures.to(device), self.words.to(device), self.lengths.to(device))


def cell_batches(seeds: Sequence[int], course: CellCourse) -> list[CellBatch]:
    """The pictures of ``seeds`` in batches of one shape each: of every clip a pair, a still, and a thumbnail."""
    groups: dict[tuple, list] = {}
    for seed in seeds:
        for picture, words, lengths in _pictures(seed, course):
            groups.setdefault(picture.shape, []).append((picture, words, lengths))
    batches = []
    for group in groups.values():
        pictures, words, lengths = zip(*group, strict=True)
        words, lengths = np.concatenate(words), np.concatenate(lengths)
        batches.append(
            CellBatch(torch.from_numpy(np.stack(pictures)), torch.from_numpy(words), torch.from_numpy(lengths))
        )
    return batches


def _pictures(seed: int, course: CellCourse):
    """Yield (picture uint8 [f, H, W, 3], words, lengths) of one clip."""
    draw = random.Random(f"cells {seed}")
    content = draw.choices(list(course.contents), list(course.contents.values()))[0]
    size = draw.choices(list(course.sizes), list(course.sizes.values()))[0]
    fps = draw.choice(course.look_fps)
    aspect = (size[1] / min(size), size[0] / min(size))
    clip = sample_clip(seed, content, seconds=8 / fps, fps=fps, aspect=aspect, most_figures=course.most_figures)
    clip = _repainted(clip, draw, course.off_palette)
    first, third = draw.randrange(clip.frames - 1), draw.randrange(clip.frames)
    pair = np.stack([render_frame(clip, size, frame) for frame in (first, first + 1)])
    small = thumbnail_size(size)
    yield _told(pair, *cell_truth(clip, size, first, first + 1))
    if draw.random() < 0.3:
        yield _told(shrink(pair, small), *cell_truth(clip, small, first, first + 1))
    else:
        yield _told(shrink(pair[:1], small), *cell_truth(clip, small, first))
    yield _told(render_frame(clip, size, third)[None], *cell_truth(clip, size, third))


def _repainted(clip: Clip, draw, share: float) -> Clip:
    """The clip with a share of its figures in colours that have no name but stand out from every ground."""

    def repainted(figure: Figure) -> Figure:
        while draw.random() < share:
            colour = tuple(draw.randrange(256) for _ in range(3))
            if max(abs(channel - 122) for channel in colour) > 70:
                return replace(figure, colour="#{:02x}{:02x}{:02x}".format(*colour))
        return figure

    shots = (replace(shot, figures=tuple(map(repainted, shot.figures))) for shot in clip.shots)
    return replace(clip, shots=tuple(shots))


def _told(picture: np.ndarray, words: np.ndarray, lengths: np.ndarray):
    """The same with how bright each cell is in the first and in the last of the picture's frames."""
    frames, height, width, _ = picture.shape
    bright = picture.reshape(frames, height // CELL, CELL, width // CELL, CELL, 3).mean((2, 4, 5)) / 127.5 - 1
    lengths[:, 6], lengths[:, 7] = bright[0].ravel(), bright[-1].ravel()
    return picture, words, lengths


def cell_truth(clip: Clip, size: tuple[int, int], frame: int, following: int | None = None):
    """What each cell of a frame of ``size`` (H, W) shows, row by row, and how it moves until ``following``.

    Returns (words int64 [cells, len(KINDS)], lengths float32 [cells, LENGTHS]), see ``CellBatch``. How bright it is
    must be read from the pictures, and is left open.
    """
    rows, columns = size[0] // CELL, size[1] // CELL
    words = np.full((rows, columns, len(KINDS)), -1)
    lengths = np.full((rows, columns, LENGTHS), np.nan, np.float32)
    shown, faults = what_is_shown(clip, frame)
    shot = clip.shot_at(shown)
    cut = following is not None and clip.shot_at(following) is not shot
    if not cut and brightness(clip, frame, faults) >= DARKEST:
        words[..., 0], words[..., 4] = len(COLOURS), GROUNDS.index(shot.ground.kind)
        before = _poses(clip, frame, (rows, columns))
        after = None if following is None else _poses(clip, following, (rows, columns))
        if after is not None:
            lengths[..., 2:4] = _ground_step(clip, frame, following, (rows, columns))
        for place, inside in figures_in_cells(clip, frame, (rows, columns)).items():
            x, y, becomes = before[place]
            words[inside, :4] = _named(shot.figures[place], becomes)
            for row, column in zip(*inside.nonzero(), strict=True):
                lengths[row, column, :2] = x - column - 0.5, y - row - 0.5
            lengths[inside, 4:6] = (x - columns / 2) / min(rows, columns), (y - rows / 2) / min(rows, columns)
            if after is not None:
                step = (after[place][0] - x, after[place][1] - y) if place in after else np.nan
                lengths[inside, 2:4] = step
    return words.reshape(-1, len(KINDS)), lengths.reshape(-1, LENGTHS)


def figures_in_cells(clip: Clip, frame: int, cells: tuple[int, int]) -> dict[int, np.ndarray]:
    """Where each figure of a frame's shot stands, by its place: bool [rows, columns].

    It stands in the cells of which it covers more than others do, and enough.
    """
    rows, columns = cells
    areas: dict[int, int] = {}
    canvas = place_map(clip, frame, (rows * DETAIL, columns * DETAIL), areas)
    covered = {place: (canvas == place).reshape(rows, DETAIL, columns, DETAIL).mean((1, 3)) for place in areas}
    most = np.max(list(covered.values()), axis=0, initial=LEAST_SHARE)
    return {place: share >= most for place, share in covered.items()}


def _poses(clip: Clip, frame: int, cells: tuple[int, int]) -> dict[int, tuple]:
    """(x, y, what it morphed into) of each figure in a frame, in cells."""
    shown, faults = what_is_shown(clip, frame)
    shot = clip.shot_at(shown)
    view = look(clip, shot, shown / clip.fps)
    return {place: (x, y, becomes) for place, (x, y, _, _), becomes in poses(clip, shot, cells, shown, view, faults)}


def _ground_step(clip: Clip, frame: int, following: int, cells: tuple[int, int]) -> np.ndarray:
    """How far the ground in the middle of each cell moves, in cells: [rows, columns, 2]."""
    (x, y, zoom), (u, v, later) = (
        look(clip, clip.shot_at(shown), shown / clip.fps)
        for shown in (what_is_shown(clip, number)[0] for number in (frame, following))
    )
    scale = min(cells)
    down, along = (np.arange(count) + 0.5 - count / 2 for count in cells)
    dx = along * (later / zoom - 1) + (x - u) * scale * later
    dy = down * (later / zoom - 1) + (y - v) * scale * later
    return np.stack(np.broadcast_arrays(dx[None, :], dy[:, None]), -1)


def _named(figure, becomes: str | None) -> tuple[int, int, int, int]:
    colour = becomes if becomes in COLOURS else figure.colour
    shape = becomes if becomes in SHAPES else figure.shape
    named = KINDS["colour"].index(colour) if colour in COLOURS else -1
    told = figure.size == "large" and shape in ("circle", "square", "ring")
    pattern = PATTERNS.index(figure.pattern) if told else -1
    return named, SHAPES.index(shape), pattern, KINDS["size"].index(figure.size)


def cell_loss(vision, head: torch.nn.Linear, batch: CellBatch) -> torch.Tensor:
    """Mean cross entropy of the words plus mean error of the lengths, over the cells where each is told.

    ``vision`` is a vision tower, ``head`` a layer from its output width to ``OUTPUTS``.
    """
    still = batch.pictures.shape[1] == 1
    patches, grid = patches_of(batch.pictures.flatten(0, 1), vision.config, still=still)
    tokens, deepstack = vision(patches, grid)
    logits = head(tokens).float()
    total = logits.new_zeros(())
    for number, group in enumerate(logits[:, :-LENGTHS].split([len(words) for words in KINDS.values()], dim=1)):
        if (batch.words[:, number] >= 0).any():
            total = total + F.cross_entropy(group, batch.words[:, number], ignore_index=-1)
    told = batch.lengths.isfinite()
    errors = F.smooth_l1_loss(logits[:, -LENGTHS:], batch.lengths.nan_to_num(), reduction="none", beta=0.25)
    return total + 2 * (errors * told).sum() / told.sum().clamp(min=1)
