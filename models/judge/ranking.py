"""Videos in order: by their scores, by their metrics, or by pairwise comparisons through a Bradley-Terry model.

Bradley and Terry 1952: the log-odds that i beats j are s_i - s_j. The strengths s maximise the likelihood of the
comparisons' probabilities under a wide normal prior, which keeps them finite where a video wins every time; their
standard errors come from the curvature at the maximum.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..video.metrics import METRICS
from .comparison import Comparison

PRIOR = 3.0
"""Standard deviation of the prior of a strength, in log-odds."""

RANKED = ("flicker", "longest_freeze", "sudden_change", "jitter")
"""The metrics of what goes wrong in generated videos whatever they show; the others are a matter of taste."""

INTERVAL = 1.959964
"""Standard errors to each side of a 95 % interval."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """n videos in order.

    Attributes:
        order: positions of the videos, the best first.
        strength: float64 [n], in the order given: the score, or the Bradley-Terry strength in log-odds (mean 0).
        low, high: float64 [n], the 95 % interval of the strengths; equal to them for scores.
        inconsistency: mean disagreement of the two orders of the pairs, 0..1; 0 for scores.
    """

    order: tuple[int, ...]
    strength: np.ndarray
    low: np.ndarray
    high: np.ndarray
    inconsistency: float = 0.0

    def to_json(self, names) -> list[dict]:
        """One row a video, the best first."""
        return [
            {
                "rank": rank,
                "video": names[at],
                "strength": round(float(self.strength[at]), 6),
                "low": round(float(self.low[at]), 6),
                "high": round(float(self.high[at]), 6),
            }
            for rank, at in enumerate(self.order, 1)
        ]


def rank_by_score(scores) -> Ranking:
    """Rank videos by their scores, the highest first; equal ones stay in the order given."""
    strength = np.asarray(scores, np.float64)
    order = tuple(int(at) for at in np.argsort(-strength, kind="stable"))
    return Ranking(order, strength, strength, strength)


def rank_by_metrics(clips: Sequence[Mapping[str, float | None]], names: Sequence[str] = RANKED) -> Ranking:
    """Rank videos by technical metrics, without a model.

    The strength of a video, 0..1, is the fraction of the others that it beats, ties counting half, averaged over the
    metrics: so no unit weighs more than another. A metric that has no value for a video counts as the worst.

    Args:
        clips: each video's metrics by name (:attr:`..video.measurement.Measurement.clip`).
        names: metrics that have a better direction.
    """
    better = {metric.name: metric.better for metric in METRICS}
    columns = []
    for name in names:
        sign = 1 if better[name] == "higher" else -1
        values = [clip.get(name) for clip in clips]
        columns.append(beaten([-np.inf if v is None or not np.isfinite(v) else sign * v for v in values]))
    return rank_by_score(np.mean(columns, axis=0))


def rank_by_both(scores: Sequence[float], clips: Sequence[Mapping[str, float | None]]) -> Ranking:
    """Rank videos by the mean of what they beat by score and by :func:`rank_by_metrics`."""
    by_metrics = beaten(rank_by_metrics(clips).strength)
    return rank_by_score((beaten(scores) + by_metrics) / 2)


def beaten(values: Sequence[float]) -> np.ndarray:
    """float64 [n]: the fraction of the other values that each is above, ties counting half; 1 for a single one."""
    values = np.asarray(values, np.float64)
    if len(values) == 1:
        return np.ones(1)
    above = (values[:, None] > values[None]).sum(1) + ((values[:, None] == values[None]).sum(1) - 1) / 2
    return above / (len(values) - 1)


def rank_by_pairs(count: int, compare: Callable[[int, int], Comparison]) -> Ranking:
    """Rank ``count`` videos by comparing all pairs (i < j) with ``compare``."""
    return bradley_terry(count, {pair: compare(*pair) for pair in itertools.combinations(range(count), 2)})


def knock_out(count: int, compare: Callable[[int, int], Comparison]) -> Ranking:
    """Rank ``count`` videos by a tournament: winners meet winners, ``count`` - 1 comparisons in all.

    Only the winner is sure to be compared with its runner-up; the strengths of the others rest on fewer pairs.
    """
    left, found = list(range(count)), {}
    while len(left) > 1:
        following = []
        for a, b in itertools.zip_longest(left[::2], left[1::2]):
            if b is None:
                following.append(a)
                continue
            found[a, b] = compare(a, b)
            following.append(a if found[a, b].probability >= 0.5 else b)
        left = following
    ranking = bradley_terry(count, found)
    order = (*left, *(at for at in ranking.order if at not in left))
    return Ranking(order, ranking.strength, ranking.low, ranking.high, ranking.inconsistency)


def bradley_terry(count: int, comparisons: Mapping[tuple[int, int], Comparison]) -> Ranking:
    """Strengths of ``count`` videos from comparisons of pairs (a, b)."""
    if count < 1:
        raise InputError("there are 0 videos to rank; give at least one")
    pairs = np.array(list(comparisons), np.int64).reshape(-1, 2)
    won = np.array([one.probability for one in comparisons.values()], np.float64)
    strength, curvature = np.zeros(count), np.eye(count)
    for _ in range(100):
        p = 1 / (1 + np.exp(-(strength[pairs[:, 0]] - strength[pairs[:, 1]])))
        slope, weight = won - p, p * (1 - p)
        gradient, curvature = -strength / PRIOR**2, np.eye(count) / PRIOR**2
        np.add.at(gradient, pairs[:, 0], slope)
        np.add.at(gradient, pairs[:, 1], -slope)
        for (a, b), w in zip(pairs, weight, strict=True):
            curvature[[a, b], [a, b]] += w
            curvature[[a, b], [b, a]] -= w
        step = np.linalg.solve(curvature, gradient)
        strength = strength + step
        if np.abs(step).max() < 1e-10:
            break
    error = INTERVAL * np.sqrt(np.diag(np.linalg.inv(curvature)))
    inconsistency = float(np.mean([one.inconsistency for one in comparisons.values()])) if comparisons else 0.0
    order = tuple(int(at) for at in np.argsort(-strength, kind="stable"))
    return Ranking(order, strength, strength - error, strength + error, inconsistency)
