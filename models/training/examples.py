"""Training examples: a clip as some mode shows it, and questions about what it shows."""

import random
from dataclasses import dataclass, field

import numpy as np

from ..code.modes import STAMPS, group_frames
from ..code.modes.pictures import shrink
from ..qwen.prompt import Picture
from ..source.sampling import CELL
from ..synthetic.ground_truth import Truth, truth_of
from ..synthetic.questions import Question, write_caption, write_questions
from ..synthetic.rendering import render_frame
from ..synthetic.scenes import CONTENTS, SPLITS, Clip, sample_clip, weighted
from ..video.planning import plan_from_costs
from .text_targets import changes, moments, untold

DESCRIBE = (
    "Describe the video.",
    "What happens in the video?",
    "Describe this video in one paragraph: who or what is seen, where, what happens from beginning to end, and how the "
    "camera moves. Say only what is visible.",
)
FORMS = ("rgb", "thumbnail", "keyframes", "still")
CAPTION = "caption"


@dataclass(frozen=True, slots=True)
class Course:
    """What examples are drawn from.

    Attributes:
        sizes: (H, W) of whole pictures, with weights; multiples of 32.
        forms: weight of each of ``FORMS``: the modes of a visual code, and a single picture outside time.
        contents: weight of each of ``scenes.CONTENTS``.
        frames: fewest and most frames of a clip that are looked at.
        look_fps: how often a second a clip is looked at.
        kinds: kinds of question, all where empty; "caption" is one of them.
        often: weight of a kind among those that a clip has, 1 where it is not named.
        questions: at most so many of one clip.
        whole: shares of the frames that "keyframes" shows whole, one of them drawn for each clip.
        needs: by kind of question, how likely a clip without faults is passed over of which none can be asked.
        motions, faults: weights of what figures do and of what is wrong; all the same where empty.
    """

    sizes: dict[tuple[int, int], float] = field(
        default_factory=lambda: {(128, 128): 6, (96, 96): 1, (128, 160): 1, (160, 128): 1, (256, 256): 0.5}
    )
    forms: dict[str, float] = field(default_factory=lambda: {"rgb": 3, "thumbnail": 4, "keyframes": 2, "still": 1})
    contents: dict[str, float] = field(default_factory=lambda: dict(zip(CONTENTS, (1, 4, 2, 2, 4), strict=True)))
    frames: tuple[int, int] = (4, 16)
    look_fps: tuple[float, ...] = (2, 3, 4, 4, 6, 8)
    kinds: tuple[str, ...] = ()
    often: dict[str, float] = field(default_factory=dict)
    questions: int = 6
    most_figures: int = 4
    fewest_figures: int = 1
    whole: tuple[float, ...] = (0.15, 0.4, 1.0)
    needs: dict[str, float] = field(default_factory=dict)
    motions: dict[str, float] = field(default_factory=dict)
    faults: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One clip as it is shown, and what is asked.

    ``pictures`` uint8 [f, H, W, 3] each, f = 1 for stills and 2 for pairs, stand for the ``Picture`` parts in order;
    other parts are text. Every question is asked on its own behind the same pictures. ``cells`` and ``wholes`` are what
    :mod:`.changes` tells of the tokens and of the pictures, ``moments`` what it tells of events, by their words.
    """

    seed: int
    form: str
    content: str
    parts: list[str | Picture]
    pictures: list[np.ndarray]
    questions: list[Question]
    cells: np.ndarray
    wholes: np.ndarray
    moments: dict[str, np.ndarray] = field(default_factory=dict)


def make_example(seed: int, course: Course, form: str | None = None) -> Example:
    """The example of a seed, empty where nothing is asked of its clip.

    ``form`` overrules the course: evaluation shows the same clip in several.
    """
    draw = random.Random(f"lesson {seed}")
    content = weighted(draw, course.contents)
    form, drawn = form or weighted(draw, course.forms), draw.random()
    size = weighted(draw, course.sizes)
    fps = draw.choice(course.look_fps)
    count = draw.randint(*course.frames)
    aspect = (size[1] / min(size), size[0] / min(size))
    # Duplicated frames only show where none is left out.
    native = fps if content == "fault" and drawn < 0.4 else draw.choice((1, 2, 3)) * fps
    clip = sample_clip(
        seed, content, seconds=count / fps, fps=native, aspect=aspect,
        most_figures=course.most_figures, fewest_figures=course.fewest_figures,
        fault=weighted(draw, course.faults) if course.faults else None, motions=course.motions,
    )  # fmt: skip
    every = [round(number * native / fps) for number in range(count)]
    every = [frame for frame in every if frame < clip.frames]
    groups = [] if form == "still" else _grouped(draw, clip, every, size, form, course.whole)
    seen = sorted({every[at] for group in groups for at in group.frames}) or [draw.choice(every)]
    truth = truth_of(clip, seen)
    questions = draw_questions(draw, clip, truth, course)
    if not questions:
        return Example(seed, form, content, [], [], [], *untold(0, 0))
    parts, pictures, told = _video(clip, every, size, groups) if groups else _still(clip, seen[0], size)
    return Example(seed, form, content, parts, pictures, questions, *told, moments(truth, clip.fps))


def _grouped(draw, clip: Clip, frames: list[int], size, form: str, shares: tuple[float, ...]):
    """How a mode shows ``frames``, under a plan drawn at random."""
    opening = [next(at for at, frame in enumerate(frames) if frame >= shot.first) for shot in clip.shots
               if shot.first <= frames[-1]]  # fmt: skip
    # Key frames stand for every way to show whole pictures alone: sparse, dense, or all there are.
    share = draw.choice(shares) if form == "keyframes" else 0.15
    whole = {at for at in opening if draw.random() < 0.9} | {at for at in range(len(frames)) if draw.random() < share}
    pts = np.array(frames) / clip.fps
    plan = plan_from_costs(np.zeros(len(frames)), "frames", index=np.array(frames), pts=pts, size=size, frames=whole)
    stamps = "every" if draw.random() < 0.8 else draw.choice(STAMPS[1:])
    return group_frames(plan, form, stamps=stamps, pair_thumbnails=form == "thumbnail" and draw.random() < 0.3)


def _still(clip: Clip, frame: int, size):
    """Parts, pictures and what they tell of one frame outside time."""
    rows, columns = size[0] // CELL, size[1] // CELL
    return [Picture(rows, columns)], [render_frame(clip, size, frame)[None]], untold(rows * columns, 1)


def _video(clip: Clip, frames: list[int], size, groups):
    """Parts, pictures and what they tell of ``frames`` as ``groups`` show them."""
    rendered = {at: render_frame(clip, size, frames[at]) for at in sorted({at for g in groups for at in g.frames})}
    parts, pictures = [], []
    for group in groups:
        seconds = (frames[group.frames[0]] / clip.fps + frames[group.frames[-1]] / clip.fps) / 2
        parts.append(Picture(*group.grid, seconds if group.stamped else None))
        pictures.append(shrink(np.stack([rendered[at] for at in group.frames]), group.size))
    first = [group.frames[0] for group in groups]
    told = changes(
        clip, [frames[at] for at in first], [(part.rows, part.columns) for part in parts],
        [rendered[at] for at in first],
    )  # fmt: skip
    return parts, pictures, told


def draw_questions(draw, clip: Clip, truth: Truth, course: Course) -> list[Question]:
    """At most as many questions as the course asks, each of a kind drawn by its weight; none of a clip passed over."""
    asked: dict[str, list[Question]] = {}
    for question in write_questions(clip, truth, draw.randrange(1 << 30)):
        asked.setdefault(question.kind, []).append(question)
    if not clip.faults and any(draw.random() < chance for kind, chance in course.needs.items() if kind not in asked):
        return []
    asked[CAPTION] = [Question(CAPTION, "open", draw.choice(DESCRIBE), write_caption(clip, truth), ())]
    weights = {kind: course.often.get(kind, 1.0) for kind in asked if not course.kinds or kind in course.kinds}
    chosen = []
    while weights and len(chosen) < course.questions:
        kind = weighted(draw, weights)
        chosen.append(asked[kind].pop())
        if not asked[kind]:
            del weights[kind]
    return chosen


def corpus(count: int = 800, course: Course | None = None):
    """Texts of the first ``count`` clips of the training split, for a tokenizer to learn from."""
    course = course or Course()
    yield from ("user\n", "assistant\n", "system\n", *DESCRIBE)
    for seed in range(SPLITS["train"][0], SPLITS["train"][0] + count):
        clip = sample_clip(seed, most_figures=course.most_figures)
        frames = list(range(0, clip.frames, max(1, round(clip.fps / 4))))
        truth = truth_of(clip, frames)
        yield write_caption(clip, truth)
        for question in write_questions(clip, truth):
            yield question.question
            yield question.answer
        yield "".join(f"<{frame / clip.fps:.1f} seconds>" for frame in frames)
