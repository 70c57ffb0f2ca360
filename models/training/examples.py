"""Training examples: a rendered clip as some mode shows it, questions about it, and auxiliary targets."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..code.modes import STAMPS, Group, group_frames
from ..code.modes.groups import stamp_groups
from ..code.modes.pictures import shrink
from ..code.modes.selection import describe_cells, send_changes
from ..code.visual_code import grid_positions
from ..qwen.prompt import Picture
from ..source.sampling import CELL
from ..synthetic.frame_truth import FrameState
from ..synthetic.ground_truth import Truth, truth_of
from ..synthetic.questions import Question, write_caption, write_questions
from ..synthetic.rendering import render_frame
from ..synthetic.scenes import CONTENTS, SPLITS, Clip, Figure, sample_clip, weighted
from ..video.gop import GopPlan
from ..video.planning import plan_from_costs
from .targets import event_times, picture_targets, unknown_targets

DESCRIBE = (
    "Describe the video.",
    "What happens in the video?",
    "Describe this video in one paragraph: who or what is seen, where, what happens from beginning to end, and how the "
    "camera moves. Say only what is visible.",
)
CAPTION = "caption"
STILL = "still"
"""A mode beside those of a visual code: a single picture without a time stamp."""

CELL_CHANGES = (2.0, 40.0)
"""Grey levels between which the threshold of the mode "cells" is drawn; a budget would find it for each clip."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What examples are drawn from. Dicts hold relative weights.

    Attributes:
        sizes: (H, W) of whole pictures, multiples of 32.
        modes: modes of a visual code, and ``STILL``.
        contents: kinds of clip, of ``scenes.CONTENTS``.
        frames: fewest and most frames sampled from a clip; sample_fps: how many a second.
        questions: at most so many of a clip, none for 0; a clip about which nothing can be asked is skipped otherwise.
        kinds: kinds of question, ``CAPTION`` among them; those not named have the weight ``other_kinds``.
        required: by kind of question, the probability that a clip without faults and without such a question is
            skipped.
        figures: fewest and most figures of a shot.
        unnamed_colours: fraction of figures painted in a colour that has no name; only where nothing is asked.
        i_frames: fractions of the frames that mode "keyframes" keeps; one of them is drawn for each clip.
        motions, faults: what figures do and what is wrong; all alike where empty.
    """

    sizes: dict[tuple[int, int], float] = field(
        default_factory=lambda: {(128, 128): 6, (96, 96): 1, (128, 160): 1, (160, 128): 1, (256, 256): 0.5}
    )
    modes: dict[str, float] = field(default_factory=lambda: {"rgb": 3, "thumbnail": 4, "keyframes": 2, STILL: 1})
    contents: dict[str, float] = field(default_factory=lambda: dict(zip(CONTENTS, (1, 4, 2, 2, 4), strict=True)))
    frames: tuple[int, int] = (4, 16)
    sample_fps: tuple[float, ...] = (2, 3, 4, 4, 6, 8)
    questions: int = 6
    kinds: dict[str, float] = field(default_factory=dict)
    other_kinds: float = 1.0
    required: dict[str, float] = field(default_factory=dict)
    figures: tuple[int, int] = (1, 4)
    unnamed_colours: float = 0.0
    i_frames: tuple[float, ...] = (0.15, 0.4, 1.0)
    motions: dict[str, float] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One clip as it is shown, and what is asked.

    Attributes:
        mode, content: what was drawn.
        parts: the pictures' grids, times and, where not all of their tokens are shown, positions, in order.
        pictures: uint8 [f, H, W, 3] for each part; f = 1 for stills and 2 for pairs.
        kept: bool [tokens] for each part, which of its tokens are shown.
        questions: each asked on its own after the same pictures.
        targets: by site, see :func:`.targets.picture_targets`; "cell" only of the tokens that are shown.
        events: "event" targets [n] by the words of an event (:func:`.targets.event_times`).
    """

    seed: int
    mode: str
    content: str
    parts: list[Picture]
    pictures: list[np.ndarray]
    kept: list[np.ndarray]
    questions: list[Question]
    targets: dict[str, np.ndarray]
    events: dict[str, np.ndarray] = field(default_factory=dict)


def make_example(seed: int, mixture: Mixture, mode: str | None = None) -> Example | None:
    """The example of a seed, or None for a clip that is skipped; ``mode`` overrules the mixture's."""
    draw = random.Random(f"example {seed}")
    content, size, fps = (
        weighted(draw, mixture.contents),
        weighted(draw, mixture.sizes),
        draw.choice(mixture.sample_fps),
    )
    mode, count = mode or weighted(draw, mixture.modes), draw.randint(*mixture.frames)
    # Duplicated frames only show where no frame is left out.
    native = fps if content == "fault" and draw.random() < 0.4 else draw.choice((1, 2, 3)) * fps
    clip = sample_clip(
        seed, content, seconds=count / fps, fps=native, aspect=(size[1] / min(size), size[0] / min(size)),
        fewest_figures=mixture.figures[0], most_figures=mixture.figures[1], motions=mixture.motions,
        fault=weighted(draw, mixture.faults) if mixture.faults else None,
    )  # fmt: skip
    clip = _repaint(draw, clip, mixture.unnamed_colours)
    sampled = [round(number * native / fps) for number in range(count)]
    sampled = [frame for frame in sampled if frame < clip.frames]
    if mode == STILL:
        sampled, groups = [draw.choice(sampled)], []
    else:
        plan = _random_plan(draw, clip, sampled, size, mode, mixture.i_frames)
        stamps = "every" if draw.random() < 0.8 else draw.choice(STAMPS[1:])
        paired = mode == "thumbnail" and draw.random() < 0.3
        groups = group_frames(plan, mode, stamps=stamps, pair_thumbnails=paired)
    seen = sorted({sampled[at] for group in groups for at in group.frames}) or sampled
    truth = truth_of(clip, seen)
    questions = draw_questions(draw, clip, truth, mixture)
    if mixture.questions and not questions:
        return None
    rgb = {at: render_frame(clip, size, sampled[at]) for at in {at for group in groups for at in group.frames} or {0}}
    if mode == STILL:
        still = Picture(size[0] // CELL, size[1] // CELL)
        unlabelled = unknown_targets(still.rows * still.columns, 1)
        kept = [np.ones(still.tokens, bool)]
        return Example(seed, mode, content, [still], [rgb[0][None]], kept, questions, unlabelled)
    pictures = [shrink(np.stack([rgb[at] for at in group.frames]), group.size) for group in groups]
    kept = _kept_tokens(draw, mode, groups, pictures)
    shown = [number for number, tokens in enumerate(kept) if tokens.any()]
    groups, pictures, kept = ([column[number] for number in shown] for column in (groups, pictures, kept))
    groups = stamp_groups(groups, plan, stamps)
    states = {at: FrameState(clip, sampled[at], rgb[at]) for at in rgb}
    ends = [(group.frames[0], group.frames[-1]) for group in groups]
    frames = [(states[first], states[last] if last != first else None) for first, last in ends]
    targets = picture_targets(clip, frames, pictures)
    targets["cell"] = targets["cell"][np.concatenate(kept)]
    parts = [_part(group, tokens) for group, tokens in zip(groups, kept, strict=True)]
    return Example(seed, mode, content, parts, pictures, kept, questions, targets, event_times(truth, clip.fps))


def _kept_tokens(draw, mode: str, groups: Sequence[Group], pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Which tokens of each picture are shown, bool [tokens]: all, or in mode "cells" those that changed."""
    if mode != "cells":
        return [np.ones(group.grid[0] * group.grid[1], bool) for group in groups]
    threshold = math.exp(draw.uniform(*map(math.log, CELL_CHANGES)))
    whole = [group.kind == "pair" for group in groups]
    return list(send_changes([describe_cells(picture) for picture in pictures], whole, threshold).kept)


def _part(group: Group, kept: np.ndarray) -> Picture:
    positions = None if kept.all() else grid_positions(group.grid)[:, torch.from_numpy(kept)]
    return Picture(*group.grid, group.time if group.stamped else None, positions)


def _repaint(draw, clip: Clip, fraction: float) -> Clip:
    """The clip with a fraction of its figures in colours that have no name but are distinct from every background."""

    def repainted(figure: Figure) -> Figure:
        while draw.random() < fraction:
            colour = tuple(draw.randrange(256) for _ in range(3))
            if max(abs(channel - 122) for channel in colour) > 70:
                return replace(figure, colour="#{:02x}{:02x}{:02x}".format(*colour))
        return figure

    shots = (
        [replace(shot, figures=tuple(map(repainted, shot.figures))) for shot in clip.shots] if fraction else clip.shots
    )
    return replace(clip, shots=tuple(shots))


def _random_plan(draw, clip: Clip, frames: list[int], size, mode: str, fractions: tuple[float, ...]) -> GopPlan:
    """A plan with I frames at most shots' openings and at random."""
    openings = {next(at for at, frame in enumerate(frames) if frame >= shot.first) for shot in clip.shots
                if shot.first <= frames[-1]}  # fmt: skip
    fraction = draw.choice(fractions) if mode == "keyframes" else 0.15
    chosen = {at for at in sorted(openings) if draw.random() < 0.9}
    chosen |= {at for at in range(len(frames)) if draw.random() < fraction}
    index = np.array(frames)
    return plan_from_costs(
        np.zeros(len(frames)), "frames", index=index, pts=index / clip.fps, size=size, frames=chosen
    )  # fmt: skip


def draw_questions(draw, clip: Clip, truth: Truth, mixture: Mixture) -> list[Question]:
    """At most ``mixture.questions`` questions, each of a kind drawn by its weight; none of a clip to be skipped."""
    if not mixture.questions:
        return []
    asked: dict[str, list[Question]] = {}
    for question in write_questions(clip, truth, draw.randrange(1 << 30)):
        asked.setdefault(question.kind, []).append(question)
    missing = [chance for kind, chance in mixture.required.items() if kind not in asked]
    if not clip.faults and any(draw.random() < chance for chance in missing):
        return []
    asked[CAPTION] = [Question(CAPTION, "open", draw.choice(DESCRIBE), write_caption(clip, truth), ())]
    weights = {kind: mixture.kinds.get(kind, mixture.other_kinds) for kind in asked}
    weights = {kind: weight for kind, weight in weights.items() if weight}
    chosen = []
    while weights and len(chosen) < mixture.questions:
        kind = weighted(draw, weights)
        chosen.append(asked[kind].pop())
        if not asked[kind]:
            del weights[kind]
    return chosen


def corpus(clips: int) -> Iterator[str]:
    """Texts of the first clips of the training split, from which a tokenizer is learned."""
    yield from ("user\n", "assistant\n", "system\n", *DESCRIBE)
    for seed in range(SPLITS["train"][0], SPLITS["train"][0] + clips):
        clip = sample_clip(seed)
        frames = list(range(0, clip.frames, max(1, round(clip.fps / 4))))
        truth = truth_of(clip, frames)
        yield write_caption(clip, truth)
        for question in write_questions(clip, truth):
            yield question.question
            yield question.answer
        yield "".join(f"<{frame / clip.fps:.1f} seconds>" for frame in frames)
