"""A router: clips whose plan promises that it pays are read as native pairs, the others as adaptive thumbnails."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..video.gop import GopPlan, P
from .paired import BASELINE, Outcome

CODE = "thumbnail"
ROUTER = "router"
FRACTION = 0.5
"""The router may spend at most so much of what native pairs take beyond thumbnails."""


def _predicted_costs(plan: GopPlan) -> np.ndarray:
    """Grey levels of error per colour sample of the predicted frames; 0 where there are none."""
    costs = plan.pcost[plan.kind == P] / (3 * plan.size[0] * plan.size[1])
    return costs if len(costs) else np.zeros(1)


STATISTICS: dict[str, Callable[[GopPlan], float]] = {
    "fraction of whole frames": lambda plan: float(np.mean(plan.kind)),
    "mean cost of predicted frames": lambda plan: float(_predicted_costs(plan).mean()),
    "highest cost of a predicted frame": lambda plan: float(_predicted_costs(plan).max()),
    "number of frames": lambda plan: float(len(plan)),
}
"""What the router may depend on, each a number of a plan; all are known before anything is encoded."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Read a clip as native pairs where ``sign`` times the ``statistic`` of its plan is above ``threshold``."""

    statistic: str
    sign: int
    threshold: float

    def prefers_pairs(self, plan: GopPlan) -> bool:
        return self.sign * STATISTICS[self.statistic](plan) > self.threshold

    def __str__(self) -> str:
        if self.threshold == np.inf:
            return "always thumbnails: no statistic of the plans promised more from native pairs"
        side = "above" if self.sign > 0 else "below"
        return f"native pairs where the {self.statistic} is {side} {self.sign * self.threshold:.3g}, else thumbnails"


@dataclass(frozen=True, slots=True)
class Routed:
    """What the router answers, and its rule in words."""

    outcomes: list[Outcome]
    rule: str


@dataclass(frozen=True, slots=True)
class _Clip:
    plan: GopPlan
    gain: int
    extra: int


def route(outcomes: Sequence[Outcome], plans: Mapping[str, GopPlan], fraction: float = FRACTION) -> Routed | None:
    """Answer every clip by the mode that a rule learned from the other half of the clips chooses for it.

    Args:
        outcomes: of both ``rgb`` and ``thumbnail`` on the same tasks, in the same order; others are ignored.
        plans: the plan of each clip.

    Returns:
        None where one of the two modes was not evaluated, or there are too few clips to learn from.
    """
    pairs = [outcome for outcome in outcomes if outcome.mode == BASELINE]
    code = [outcome for outcome in outcomes if outcome.mode == CODE]
    clips = _clips(pairs, code, plans) if pairs and code else {}
    if len(clips) < 4:
        return None
    names = list(clips)
    halves = names[::2], names[1::2]
    to_pairs = set()
    for learned, applied in (halves, halves[::-1]):
        rule = learn_rule([clips[name] for name in learned], fraction)
        to_pairs |= {name for name in applied if rule.prefers_pairs(plans[name])}
    answered = [
        replace(one if one.task.clip in to_pairs else two, mode=ROUTER) for one, two in zip(pairs, code, strict=True)
    ]
    rule = learn_rule(list(clips.values()), fraction)
    return Routed(answered, f"{rule} (learned from all clips; each answered by the rule of the other half)")


def _clips(pairs: Sequence[Outcome], code: Sequence[Outcome], plans) -> dict[str, _Clip]:
    gains: dict[str, int] = {}
    extra: dict[str, int] = {}
    for one, two in zip(pairs, code, strict=True):
        gains[one.task.clip] = gains.get(one.task.clip, 0) + int(one.right) - int(two.right)
        extra[one.task.clip] = one.prompt_tokens - two.prompt_tokens
    return {name: _Clip(plans[name], gains[name], extra[name]) for name in gains}


def learn_rule(clips: Sequence[_Clip], fraction: float = FRACTION) -> Rule:
    """The rule that gains most right answers on ``clips`` within ``fraction`` of the extra tokens, or never.

    Every statistic is tried from above and from below at every threshold between two clips.
    """
    budget = fraction * sum(max(0, clip.extra) for clip in clips)
    best, most = Rule(next(iter(STATISTICS)), 1, np.inf), 0
    for name, statistic in STATISTICS.items():
        for sign in (1, -1):
            values = np.array([sign * statistic(clip.plan) for clip in clips])
            order = np.argsort(-values, kind="stable")
            gained = np.cumsum([clips[index].gain for index in order])
            spent = np.cumsum([clips[index].extra for index in order])
            for last in range(len(order) - 1):
                high, low = values[order[last]], values[order[last + 1]]
                if high > low and spent[last] <= budget and gained[last] > most:
                    best, most = Rule(name, sign, float((high + low) / 2)), int(gained[last])
    return best
