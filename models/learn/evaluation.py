"""Modes side by side on the same model, questions and scoring, at matched budgets of visual tokens.

Every clip is first read as adaptive thumbnails; what that takes is the budget that sparse, random and pruned frames are
held to. Differences are paired: the same question in two modes, resampled by clip (Efron and Tibshirani 1993, chapter
13), because the questions of one clip are not independent.
"""

import json
import os
import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..code.conversation import Conversation, converse
from ..code.visual_code import VisualCode
from ..code.watching import Watching, watch
from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen3vl.generate import GREEDY
from ..video.reading import VideoSource
from ..video.tokens import image_tokens

BASELINE = "rgb"
MODES = {
    "rgb": "native pairs of all frames",
    "frames": "every frame whole",
    "thumbnail": "adaptive I frames, thumbnails between",
    "paired": "adaptive I frames, pairs of thumbnails between",
    "fixed": "as many I frames evenly spaced, thumbnails between",
    "keyframes": "adaptive I frames alone",
    "sparse": "evenly spaced frames at the thumbnails' tokens",
    "random": "randomly kept frames at the thumbnails' tokens",
    "evs": "native pairs pruned to the thumbnails' tokens",
}
RESAMPLES = 2000
FEW_CLIPS = 20
WRITTEN_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Task:
    """A question about a clip. ``choices`` hold the answer, or are empty where it is to be written."""

    clip: str
    question: str
    answer: str
    choices: tuple[str, ...]
    kind: str = ""
    content: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One task in one mode: what was chosen or written, from how many visual tokens, and the seconds to read them."""

    task: Task
    mode: str
    chosen: str
    tokens: int
    seconds: float

    @property
    def right(self) -> bool:
        return self.chosen == self.task.answer if self.task.choices else plain(self.chosen) == plain(self.task.answer)


def plain(text: str) -> str:
    """``text`` for an exact match: small letters, single spaces, nothing but words and numbers' points."""
    return " ".join(re.sub(r"[^\w.]|\.(?!\d)", " ", text.casefold()).split())


def read_tasks(path: str | os.PathLike) -> list[Task]:
    """Tasks of a JSONL file: one object a line with "clip" (a path beside the file) and either "questions" or one.

    A question has "question", "answer", may have "choices" with the answer among them, and "kind". Raises InputError
    naming the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
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
            for question in asked:
                choices = tuple(str(choice) for choice in question.get("choices", ()))
                kind, content = str(question.get("kind", "")), str(row.get("content", ""))
                tasks.append(Task(clip, str(question["question"]), str(question["answer"]), choices, kind, content))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = 'an object with "clip", "question" and "answer" is needed'
            raise InputError(f"{path}, line {number}: {wanted} ({type(error).__name__}: {error})") from None
        for task in tasks[-len(asked) :] if asked else ():
            if task.choices and task.answer not in task.choices:
                raise InputError(f"{path}, line {number}: the answer {task.answer!r} is not among its choices")
    if not tasks:
        raise InputError(f"{path} holds no question")
    return tasks


def evaluate(
    tasks: Sequence[Task],
    model,
    modes: Sequence[str],
    how: Watching,
    progress: Progress = no_progress,
) -> list[Outcome]:
    """Choose the likeliest choice of every task in every mode; write the answer, for an exact match, without choices.

    Args:
        modes: names of ``MODES``.
        how: sampling and area of all modes; its policy and mode are each mode's own.
        progress: told clips times modes.
    """
    check_modes(modes)
    clips: dict[str, list[Task]] = {}
    for task in tasks:
        clips.setdefault(task.clip, []).append(task)
    outcomes = []
    for number, (clip, asked) in enumerate(clips.items()):
        source = VideoSource.open(clip)
        reference = watch(source, model, replace(how, mode="thumbnail", policy="adaptive"))
        for place, mode in enumerate(modes):
            progress(number * len(modes) + place, len(clips) * len(modes))
            code = reference if mode == "thumbnail" else watch(source, model, watching(mode, how, reference))
            reading = converse(model, code)
            began = time.perf_counter()
            reading.read()
            seconds = code.seconds["vision"] + time.perf_counter() - began
            for task in asked:
                chosen = _answer(reading, task)
                outcomes.append(Outcome(task, mode, chosen, code.token_count, seconds))
    progress(len(clips) * len(modes), len(clips) * len(modes))
    return outcomes


def _answer(reading: Conversation, task: Task) -> str:
    """The likeliest choice, or what the model writes where there are none."""
    if task.choices:
        return task.choices[int(np.argmax(reading.score(task.question, task.choices)))]
    return reading.fork().ask(task.question, sampling=GREEDY, max_tokens=WRITTEN_TOKENS, thinking=False).text


def check_modes(modes: Sequence[str]) -> None:
    """Raise InputError for a mode that there is not, or that is named twice."""
    for place, mode in enumerate(modes):
        if mode not in MODES or mode in modes[:place]:
            raise InputError(f"the mode {mode!r} is unknown or named twice; choose each once among {', '.join(MODES)}")


def watching(mode: str, how: Watching, reference: VisualCode) -> Watching:
    """How a clip is watched in ``mode`` where adaptive thumbnails made ``reference`` of it."""
    plan = reference.plan
    count, budget = len(plan), reference.token_count
    whole = image_tokens(plan.size)
    affordable = max(1, min(count, round(budget / whole)))
    if mode == "rgb":
        return replace(how, mode="rgb", policy="fixed", rule={"cap": 0})
    if mode == "frames":
        return replace(how, mode="keyframes", policy="fixed", rule={"cap": 0})
    if mode == "paired":
        return replace(how, mode="thumbnail", policy="adaptive", pair_thumbnails=True)
    if mode == "keyframes":
        return replace(how, mode="keyframes", policy="adaptive")
    if mode == "evs":
        drop = max(0.0, 1 - budget / (whole * ((count + 1) // 2)))
        return replace(how, mode="rgb", policy="fixed", rule={"cap": 0}, drop=drop)
    if mode == "fixed":
        frames = _evenly(int((plan.kind == 1).sum()), count)
        return replace(how, mode="thumbnail", policy="frames", rule={"frames": frames})
    frames = _evenly(affordable, count)
    if mode == "random":
        # Frame 0 is always whole, in every plan.
        draw = random.Random(f"{reference.fingerprint}")
        frames = [0, *sorted(draw.sample(range(1, count), affordable - 1))]
    return replace(how, mode="keyframes", policy="frames", rule={"frames": frames})


def _evenly(chosen: int, count: int) -> list[int]:
    return [number * count // chosen for number in range(chosen)]


def summarise(outcomes: Sequence[Outcome], seed: int = 0) -> dict:
    """The evaluation as JSON values.

    For each mode accuracy, tokens a clip, seconds to the first answer and, against ``rgb`` where it was evaluated, the
    difference in accuracy with its 95 % interval, the share of answers that differ, and the questions that it loses.
    """
    modes = list(dict.fromkeys(outcome.mode for outcome in outcomes))
    by_mode = {mode: [outcome for outcome in outcomes if outcome.mode == mode] for mode in modes}
    rows = {}
    for mode, found in by_mode.items():
        clips = {outcome.task.clip: outcome for outcome in found}
        tokens = [outcome.tokens for outcome in clips.values()]
        rows[mode] = {
            "what": MODES[mode],
            "accuracy": _share(found),
            "tokens": {"mean": float(np.mean(tokens)), "min": min(tokens), "max": max(tokens)},
            "seconds": float(np.mean([outcome.seconds for outcome in clips.values()])),
            "by_kind": _shares(found, lambda outcome: outcome.task.kind),
            "by_content": _shares(found, lambda outcome: outcome.task.content),
        }
        if BASELINE in by_mode and mode != BASELINE:
            rows[mode]["against_rgb"] = compare(by_mode[BASELINE], found, seed)
    tasks = by_mode[modes[0]]
    chance = float(np.mean([1 / len(o.task.choices) if o.task.choices else 0.0 for o in tasks]))
    return {
        "clips": len({outcome.task.clip for outcome in tasks}),
        "questions": len(tasks),
        "chance": chance,
        "modes": rows,
    }


def compare(baseline: Sequence[Outcome], other: Sequence[Outcome], seed: int = 0) -> dict:
    """Paired comparison of two modes on the same tasks: difference, bootstrap interval over clips, drift, losses."""
    clips: dict[str, list[int]] = {}
    for one, two in zip(baseline, other, strict=True):
        clips.setdefault(one.task.clip, []).append(int(two.right) - int(one.right))
    sums = np.array([sum(differences) for differences in clips.values()])
    counts = np.array([len(differences) for differences in clips.values()])
    drawn = np.random.default_rng(seed).integers(0, len(sums), (RESAMPLES, len(sums)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return {
        "difference": float(sums.sum() / counts.sum()),
        "interval": [float(low), float(high)],
        "drift": float(np.mean([one.chosen != two.chosen for one, two in zip(baseline, other, strict=True)])),
        "lost": [
            {
                "clip": Path(two.task.clip).name,
                "kind": two.task.kind,
                "question": two.task.question,
                "answer": two.task.answer,
                "chosen": two.chosen,
            }
            for one, two in zip(baseline, other, strict=True)
            if one.right and not two.right
        ],
    }


def _share(outcomes: Sequence[Outcome]) -> float:
    return float(np.mean([outcome.right for outcome in outcomes]))


def _shares(outcomes: Sequence[Outcome], group) -> dict[str, dict]:
    """Accuracy and number of questions of each group that has a name."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(group(outcome), []).append(outcome)
    return {
        name: {"accuracy": _share(found), "questions": len(found)} for name, found in sorted(groups.items()) if name
    }


def table(summary: dict) -> str:
    """The summary for a reader: one line a mode."""
    lines = [
        f"{summary['questions']} questions on {summary['clips']} clips; a guesser has {100 * summary['chance']:.1f} %",
        f"{'mode':<11}{'right':>8}{'tokens a clip':>18}{'seconds':>9}   against rgb (95 %)        drift  lost",
    ]
    for mode, row in summary["modes"].items():
        tokens = row["tokens"]
        spread = f"{tokens['mean']:.0f} ({tokens['min']}-{tokens['max']})"
        line = f"{mode:<11}{100 * row['accuracy']:>6.1f} %{spread:>18}{row['seconds']:>9.2f}"
        if "against_rgb" in row:
            pair = row["against_rgb"]
            low, high = (100 * bound for bound in pair["interval"])
            against = f"{100 * pair['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            line += f"   {against:<24}{100 * pair['drift']:>5.1f} %{len(pair['lost']):>6}"
        lines.append(line)
    if summary["clips"] < FEW_CLIPS:
        lines.append(f"intervals come from resampling {summary['clips']} clips; below {FEW_CLIPS} they are too narrow")
    return "\n".join(lines)
