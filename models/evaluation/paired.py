"""Modes side by side on the same model, questions and scoring, at matched budgets of prompt tokens.

A budget is a fraction of the prompt tokens that native pairs of the same frames take: visual tokens, time stamps and
markers. Modes that can spend any number of tokens are held to it; the others spend what they spend.
"""

import json
import os
import random
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..code.choice import choose
from ..code.conversation import Conversation, converse
from ..code.layout import shown_tokens
from ..code.learned.learned_code import LearnedCode
from ..code.modes import Group, group_frames
from ..code.pipeline import CodeConfig, encode_planned, plan_source, watch
from ..code.visual_code import VisualCode
from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen.generate import GREEDY
from ..source.reading import VideoSource
from ..video.content import content_of
from ..video.gop import GopPlan
from .controls import ABLATIONS, CONTROLS, falsify
from .remembered import with_memory

BASELINE = "rgb"
MODES = {
    "rgb": "native pairs of all frames",
    "frames": "every frame whole",
    "thumbnail": "adaptive I frames, thumbnails between",
    "paired": "adaptive I frames, pairs of thumbnails between",
    "stamps": "adaptive thumbnails, times before I frames alone",
    "fixed": "as many I frames evenly spaced, thumbnails between",
    "keyframes": "adaptive I frames alone",
    "sparse": "evenly spaced frames",
    "random": "randomly kept frames",
    "evs": "native pairs pruned by what changed least",
    "cells": "a native pair, then the cells that changed since they were shown",
}
LEARNED = {
    "ptoken": "adaptive I frames, tokens of a learned code between",
    "delta": "adaptive I frames, 4 motion and 4 residual tokens of a learned code between",
}
"""Modes that need a code trained for the model."""

BUDGETED = ("sparse", "random", "evs", "cells")
"""Modes that are held to each budget."""

PREDICTING = ("cells",)
"""Modes whose predicted frames, no pictures of their own, the controls falsify; those of ``LEARNED`` are others."""

BUDGETS = (0.2, 0.3, 0.4)
"""Fractions of the prompt tokens of native pairs."""

WRITTEN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a clip. ``choices`` hold the answer, or are empty where it is to be written.

    ``kind`` and ``content`` are groups to report on; yes/no questions of one ``topic`` are also judged by how well yes
    is separated from no.
    """

    clip: str
    question: str
    answer: str
    choices: tuple[str, ...]
    kind: str = ""
    content: str = ""
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task in one mode.

    Attributes:
        chosen: what was chosen or written.
        tokens: visual tokens of the clip.
        prompt_tokens: these, with time stamps and markers.
        seconds: from the clip's file to the first token of an answer.
        margin: log-odds of yes against no, where these are the choices.
        whole_at: times in seconds of the whole pictures in the adaptive plan.
    """

    task: Task
    mode: str
    chosen: str
    tokens: int
    seconds: float
    margin: float = 0.0
    whole_at: tuple[float, ...] = ()
    prompt_tokens: int = 0

    @property
    def right(self) -> bool:
        return self.chosen == self.task.answer if self.task.choices else plain(self.chosen) == plain(self.task.answer)


@dataclass(frozen=True, slots=True)
class Way:
    """A mode, what it is held to, and what is done to its predicted frames.

    Attributes:
        budget: fraction of the native pairs' prompt tokens; None where the mode is held to none.
        control: one of :data:`.controls.CONTROLS` or, for learned codes, of :data:`.controls.ABLATIONS`; none where
            empty.
    """

    mode: str
    budget: float | None = None
    control: str = ""

    def __str__(self) -> str:
        held = "" if self.budget is None else f"{100 * self.budget:g}%"
        return " ".join(filter(None, (self.mode, held, self.control)))


def ways_of(modes: Sequence[str], budgets: Sequence[float], controls: Sequence[str] = ()) -> list[Way]:
    """Every mode, those of ``BUDGETED`` once for each budget; then the controls of those that predict frames.

    Controls are at the middle one of the budgets.
    """
    held = {mode: budgets if mode in BUDGETED else (None,) for mode in modes}
    ways = [Way(mode, budget) for mode, own in held.items() for budget in own]
    middle = {mode: sorted(own, key=lambda budget: budget or 0)[len(own) // 2] for mode, own in held.items()}
    fitting = {mode: [*CONTROLS, *(ABLATIONS if mode in LEARNED else ())] for mode in (*PREDICTING, *LEARNED)}
    return ways + [
        Way(mode, middle[mode], control) for mode in modes for control in controls if control in fitting.get(mode, ())
    ]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Outcomes in the order of modes within clips, and the adaptive plan of each clip by its path."""

    outcomes: list[Outcome]
    plans: dict[str, GopPlan]


def plain(text: str) -> str:
    """``text`` for an exact match: small letters, single spaces, nothing but words and numbers' points."""
    return " ".join(re.sub(r"[^\w.]|\.(?!\d)", " ", text.casefold()).split())


def read_tasks(path: str | os.PathLike, limit: int | None = None) -> list[Task]:
    """Tasks of the first ``limit`` clips, or of all, of a JSONL file: one object a line.

    An object has "clip" (a path beside the file) and either "questions" or one of its own. A question has "question",
    "answer", may have "choices" with the answer among them, "kind" and "topic"; a line may have "content". Raises
    InputError naming the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    tasks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            asked = row.get("questions", [row])
            clip = str(path.parent / row["clip"])
            if "\0" in clip:
                raise ValueError("a path holds no NUL")
            for question in asked:
                choices = tuple(str(choice) for choice in question.get("choices", ()))
                kind, topic = (str(question.get(name, "")) for name in ("kind", "topic"))
                content = str(row.get("content", ""))
                text, answer = str(question["question"]), str(question["answer"])
                "".join(
                    [row["clip"], text, answer, *choices, kind, content, topic]
                ).encode()  # half a surrogate pair raises
                tasks.append(Task(clip, text, answer, choices, kind, content, topic))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            wanted = 'an object with "clip", "question" and "answer" is needed'
            raise InputError(f"{path}, line {number}: {wanted} ({type(error).__name__}: {str(error)[:120]})") from None
        for task in tasks[-len(asked) :] if asked else ():
            if task.choices and task.answer not in task.choices:
                raise InputError(f"{path}, line {number}: the answer {task.answer!r} is not among its choices")
    if not tasks:
        raise InputError(f"{path} holds no question")
    clips = list(dict.fromkeys(task.clip for task in tasks))[:limit]
    return [task for task in tasks if task.clip in clips]


def evaluate(
    tasks: Sequence[Task],
    model,
    modes: Sequence[str],
    config: CodeConfig,
    progress: Progress = no_progress,
    budgets: Sequence[float] = BUDGETS,
    controls: Sequence[str] = (),
    codes: Mapping[str, LearnedCode] | None = None,
) -> Evaluation:
    """All of :func:`evaluate_clips` together."""
    found = list(evaluate_clips(tasks, model, modes, config, progress, budgets, controls, codes=codes))
    return Evaluation(
        [outcome for _, _, outcomes in found for outcome in outcomes], {clip: plan for clip, plan, _ in found}
    )


def evaluate_clips(
    tasks: Sequence[Task],
    model,
    modes: Sequence[str],
    config: CodeConfig,
    progress: Progress = no_progress,
    budgets: Sequence[float] = BUDGETS,
    controls: Sequence[str] = (),
    done: Collection[str] = (),
    codes: Mapping[str, LearnedCode] | None = None,
) -> Iterator[tuple[str, GopPlan, list[Outcome]]]:
    """Yield each clip with its adaptive plan and its outcomes in every way, as soon as they are known.

    Choices are judged by the likeliest; without choices the answer is written, for an exact match. A clip whose tasks
    name no content is grouped by what its plan says (:func:`..video.content.content_of`).

    Args:
        modes: names of ``MODES`` and ``LEARNED``.
        config: sampling and area of all modes; its policy and mode are each mode's own.
        progress: called with clips times ways.
        budgets: fractions of the native pairs' prompt tokens, for the modes of ``BUDGETED``.
        controls: names of :data:`.controls.CONTROLS`, for the modes of ``PREDICTING``. What is foreign is taken from
            the clip before, and for the first from the last.
        done: clips that are known already and are left out.
        codes: the learned codes by their mode, for the modes of ``LEARNED``.
    """
    codes = codes or {}
    check_modes(modes, codes)
    if not all(0 < budget <= 1 for budget in budgets):
        raise InputError(f"the budgets are {list(budgets)}; each must be above 0 and at most 1, the tokens of rgb")
    check_controls(controls)
    ways = ways_of(modes, budgets, controls)
    clips: dict[str, list[Task]] = {}
    for task in tasks:
        clips.setdefault(task.clip, []).append(task)
    names, before = list(clips), None
    for number, (clip, asked) in enumerate(clips.items()):
        if clip in done:
            before = None
            continue
        other = before or _Encodings(names[number - 1], model, config, codes)
        shown = _Encodings(clip, model, config, codes)
        content = content_of(shown.plan)
        asked = [task if task.content else replace(task, content=content) for task in asked]
        outcomes = []
        for index, way in enumerate(ways):
            progress(number * len(ways) + index, len(clips) * len(ways))
            code, seconds = shown.code(way)
            if way.control in CONTROLS:
                code = falsify(code, way.control, other.code(replace(way, control=""))[0], model)
            outcomes += _outcomes(asked, model, str(way), code, shown.plan, seconds)
        yield clip, shown.plan, outcomes
        before = shown
    progress(len(clips) * len(ways), len(clips) * len(ways))


class _Encodings:
    """A clip's codes, each made once, from a tower that encodes each picture once.

    Attributes:
        plan: the clip's adaptive plan.
    """

    def __init__(self, clip: str, model, config: CodeConfig, learned: Mapping[str, LearnedCode]):
        self.source, self.config, self.learned = VideoSource.open(clip), config, learned
        self.model = with_memory(model)
        self.planned = plan_source(self.source, replace(config, mode="thumbnail", policy="adaptive"))
        self.reading = self.planned.frames.seconds
        self.codes: dict[Way, tuple[VisualCode, float]] = {}

    @property
    def plan(self) -> GopPlan:
        return self.planned.plan

    def code(self, way: Way) -> tuple[VisualCode, float]:
        """The code of a way without its control, and the seconds that it takes to make from the file."""
        way = replace(way, control=way.control if way.control in ABLATIONS else "")
        if way not in self.codes:
            config = config_of(way, self.config, self.plan, self.model.tokenizer)
            options = ABLATIONS[way.control][1] if way.control else {}
            config = replace(config, learned=self.learned.get(config.mode), **options)
            saved = self.model.vision.saved
            if config.policy == "adaptive":
                # Every way counts the reading that the plan took, and what it reads again itself.
                self.planned.frames.seconds = self.reading
                code = encode_planned(self.planned, self.model, config)
            else:
                code = watch(self.source, self.model, config)
            self.codes[way] = code, sum(code.seconds.values()) + self.model.vision.saved - saved
        return self.codes[way]


def _outcomes(asked: list[Task], model, mode: str, code: VisualCode, plan: GopPlan, seconds: float) -> list[Outcome]:
    """Every question about a clip, answered from one reading of its code, which took ``seconds`` to make."""
    reading = converse(model, code)
    began = time.perf_counter()
    reading.read()
    reading.fork().ask(asked[0].question, sampling=GREEDY, max_tokens=1, thinking=False)
    seconds += time.perf_counter() - began
    whole_at = tuple(round(float(time), 2) for time in plan.pts[plan.i_frames])
    prompt = code.prompt_tokens
    outcomes = []
    for task in asked:
        chosen, margin = _answer(reading, task)
        outcomes.append(Outcome(task, mode, chosen, code.token_count, seconds, margin, whole_at, prompt))
    return outcomes


def _answer(reading: Conversation, task: Task) -> tuple[str, float]:
    """The likeliest choice and, for yes and no, the log-odds; or what the model writes where there are no choices."""
    if not task.choices:
        answer = reading.fork().ask(task.question, sampling=GREEDY, max_tokens=WRITTEN_TOKENS, thinking=False)
        return answer.text, 0.0
    choice = choose(reading, task.question, task.choices)
    margin = choice.log_odds("yes", "no") if set(task.choices) == {"yes", "no"} else 0.0
    return choice.best, margin


def check_modes(modes: Sequence[str], codes: Collection[str] | None = None) -> None:
    """Raise InputError for a mode that there is not, or that is named twice, and where there is none.

    ``codes`` are the modes for which there is a learned code; None where that is not known yet.
    """
    known = ", ".join([*MODES, *LEARNED])
    if not modes:
        raise InputError(f"0 modes are chosen; choose one or more of {known}")
    for index, mode in enumerate(modes):
        if mode not in (*MODES, *LEARNED) or mode in modes[:index]:
            raise InputError(f"the mode {mode!r} is unknown or named twice; choose each once among {known}")
        if mode in LEARNED and codes is not None and mode not in codes:
            raise InputError(f"the mode {mode!r} needs a learned code; give the file that train-code wrote")


def check_controls(controls: Sequence[str]) -> None:
    """Raise InputError for a control that there is not, or that is named twice."""
    for index, control in enumerate(controls):
        if control not in (*CONTROLS, *ABLATIONS) or control in controls[:index]:
            known = ", ".join([*CONTROLS, *ABLATIONS])
            raise InputError(f"the control {control!r} is unknown or named twice; choose among {known}")


def config_of(way: Way, config: CodeConfig, plan: GopPlan, tokenizer) -> CodeConfig:
    """How a clip is encoded in one way; ``plan`` is its adaptive plan."""
    every = {"policy": "fixed", "rule": {"cap": 0}}
    count = len(plan)
    if way.mode in ("keyframes", "thumbnail", *LEARNED):
        return replace(config, mode=way.mode, policy="adaptive")
    if way.mode == "rgb":
        return replace(config, mode="rgb", **every)
    if way.mode == "frames":
        return replace(config, mode="keyframes", **every)
    if way.mode == "paired":
        return replace(config, mode="thumbnail", policy="adaptive", pair_thumbnails=True)
    if way.mode == "stamps":
        return replace(config, mode="thumbnail", policy="adaptive", stamps="whole")
    if way.mode == "fixed":
        frames = _evenly(int((plan.kind == 1).sum()), count)
        return replace(config, mode="thumbnail", policy="frames", rule={"frames": frames})
    native = group_frames(plan, "rgb", stamps="second" if way.mode == "evs" else "every")
    budget = round(way.budget * shown_tokens(group_frames(plan, "rgb"), tokenizer))
    if way.mode == "cells":
        return replace(config, mode="cells", policy="adaptive", budget=budget)
    if way.mode == "evs":
        return replace(config, mode="rgb", stamps="second", drop=_drop_to(budget, native, tokenizer), **every)
    affordable = max(1, min(count, budget // shown_tokens(native[-1:], tokenizer)))
    frames = _evenly(affordable, count)
    if way.mode == "random":
        # Frame 0 is always whole, in every plan.
        draw = random.Random(f"{plan.index.tolist()} {affordable}")
        frames = [0, *sorted(draw.sample(range(1, count), affordable - 1))]
    return replace(config, mode="keyframes", policy="frames", rule={"frames": frames})


def _drop_to(budget: int, native: Sequence[Group], tokenizer) -> float:
    """The fraction of the tokens of ``native`` pairs to drop, so that the rest, stamps and markers fit the budget."""
    visual = sum(group.tokens for group in native)
    words = shown_tokens(native, tokenizer) - visual
    # The pruner keeps int(visual * (1 - drop)): half a token more is safe from rounding.
    return min(0.99, max(0.0, 1 - (max(budget - words, 0) + 0.5) / visual))


def _evenly(chosen: int, count: int) -> list[int]:
    return [number * count // chosen for number in range(chosen)]
