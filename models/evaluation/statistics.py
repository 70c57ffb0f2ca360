"""What the outcomes of an evaluation say: accuracy, paired differences with their intervals, drift, losses.

Differences are paired: the same question in two modes, resampled by clip (Efron and Tibshirani 1993, chapter 13),
because the questions of one clip are not independent.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

import numpy as np

from .controls import ABLATIONS, CONTROLS
from .paired import BASELINE, LEARNED, MODES, Outcome
from .router import ROUTER, Routed

RESAMPLES = 2000
FEW_CLIPS = 20
FEW_ANSWERS = 5
"""Fewer answers of either kind than this say nothing about how well a model separates them."""


def summarise(outcomes: Sequence[Outcome], routed: Routed | None = None, seed: int = 0) -> dict:
    """The evaluation as JSON values.

    For each mode, and the router where there is one: accuracy, by kind of question and by content; prompt tokens and
    visual tokens a clip; seconds to the first token; how well it separates yes from no, by topic; and, where ``rgb``
    was evaluated, the difference in accuracy with its 95 % interval, the fraction of answers that differ, and the
    questions it loses.
    """
    modes = list(dict.fromkeys(outcome.mode for outcome in outcomes))
    by_mode = {mode: [outcome for outcome in outcomes if outcome.mode == mode] for mode in modes}
    tasks = by_mode[modes[0]]
    if routed is not None:
        by_mode[ROUTER] = routed.outcomes
    rows = {}
    for mode, found in by_mode.items():
        rows[mode] = {"what": routed.rule if mode == ROUTER else _what(mode), **_row(found)}
        if BASELINE in by_mode and mode != BASELINE:
            rows[mode]["against_rgb"] = compare(by_mode[BASELINE], found, seed)
    chance = float(np.mean([1 / len(o.task.choices) if o.task.choices else 0.0 for o in tasks]))
    return {
        "clips": len({outcome.task.clip for outcome in tasks}),
        "questions": len(tasks),
        "chance": chance,
        "modes": rows,
    }


def _what(way: str) -> str:
    """What a way shows, in words."""
    name, *details = way.split(" ")
    words = CONTROLS | {name: said for name, (said, _) in ABLATIONS.items()}
    return "; ".join([(MODES | LEARNED)[name], *(words[detail] for detail in details if detail in words)])


def _row(found: Sequence[Outcome]) -> dict:
    clips = {outcome.task.clip: outcome for outcome in found}
    return {
        "accuracy": _fraction_right(found),
        "tokens": _spread([outcome.tokens for outcome in clips.values()]),
        "prompt_tokens": _spread([outcome.prompt_tokens for outcome in clips.values()]),
        "seconds": float(np.mean([outcome.seconds for outcome in clips.values()])),
        "by_kind": _fractions_right(found, lambda outcome: outcome.task.kind),
        "by_content": _fractions_right(found, lambda outcome: outcome.task.content),
        "by_topic": discrimination(found),
    }


def _spread(values: Sequence[int]) -> dict[str, float]:
    return {
        "mean": float(np.mean(values)),
        "deviation": float(np.std(values)),
        "min": min(values),
        "max": max(values),
    }


def compare(baseline: Sequence[Outcome], other: Sequence[Outcome], seed: int = 0) -> dict:
    """Paired comparison of two modes on the same tasks: difference, bootstrap interval over clips, drift, losses."""
    clips: dict[str, list[int]] = {}
    names = clip_names(two.task.clip for two in other)
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
                "clip": names[two.task.clip],
                "kind": two.task.kind,
                "question": two.task.question,
                "answer": two.task.answer,
                "chosen": two.chosen,
                "whole_at": list(two.whole_at),
            }
            for one, two in zip(baseline, other, strict=True)
            if one.right and not two.right
        ],
    }


def clip_names(paths: Iterable[str]) -> dict[str, str]:
    """A name for each path: its last part, and as many folders before it as tell it from the others."""
    parts = {path: PurePath(path).parts for path in paths}
    depth = 1
    while len({own[-depth:] for own in parts.values()}) < len(set(parts.values())):
        depth += 1
    return {path: PurePath(*own[-depth:]).as_posix() for path, own in parts.items()}


def discrimination(outcomes: Sequence[Outcome]) -> dict[str, dict]:
    """Area under the ROC curve of yes against no, for each topic of yes/no questions, and the number of answers."""
    topics: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.task.topic and set(outcome.task.choices) == {"yes", "no"}:
            topics.setdefault(outcome.task.topic, []).append(outcome)
    found = {}
    for topic, asked in sorted(topics.items()):
        margins = {answer: [o.margin for o in asked if o.task.answer == answer] for answer in ("yes", "no")}
        if min(map(len, margins.values())) >= FEW_ANSWERS:
            found[topic] = {"auc": area_under_curve(margins["yes"], margins["no"]), "questions": len(asked)}
    return found


def area_under_curve(positive: Sequence[float], negative: Sequence[float]) -> float:
    """Probability that a positive lies above a negative, ties counting half (Mann and Whitney 1947)."""
    above = np.asarray(positive)[:, None] - np.asarray(negative)[None]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def _fraction_right(outcomes: Sequence[Outcome]) -> float:
    return float(np.mean([outcome.right for outcome in outcomes]))


def _fractions_right(outcomes: Sequence[Outcome], group: Callable[[Outcome], str]) -> dict[str, dict]:
    """Accuracy and number of questions of each group that has a name."""
    groups: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault(group(outcome), []).append(outcome)
    return {
        name: {"accuracy": _fraction_right(found), "questions": len(found)}
        for name, found in sorted(groups.items())
        if name
    }


def table(summary: dict) -> str:
    """The summary for a reader: one line a mode."""
    lines = [
        f"{summary['questions']} questions on {summary['clips']} clips; a guesser has {100 * summary['chance']:.1f} %",
        f"{'mode':<21}{'right':>8}{'prompt tokens':>18}{'visual':>8}{'seconds':>9}   against rgb (95 %)"
        f"{'drift':>13}{'lost':>6}",
    ]
    for mode, row in summary["modes"].items():
        tokens, visual = row["prompt_tokens"], row["tokens"]["mean"]
        spread = f"{tokens['mean']:.0f} ({tokens['min']}-{tokens['max']})"
        line = f"{mode:<21}{100 * row['accuracy']:>6.1f} %{spread:>18}{visual:>8.0f}{row['seconds']:>9.2f}"
        if "against_rgb" in row:
            pair = row["against_rgb"]
            low, high = (100 * bound for bound in pair["interval"])
            against = f"{100 * pair['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            line += f"   {against:<24}{100 * pair['drift']:>5.1f} %{len(pair['lost']):>6}"
        lines.append(line)
    if ROUTER in summary["modes"]:
        lines.append(f"router: {summary['modes'][ROUTER]['what']}")
    if summary["clips"] < FEW_CLIPS:
        lines.append(f"intervals come from resampling {summary['clips']} clips; below {FEW_CLIPS} they are too narrow")
    return "\n".join(lines)
