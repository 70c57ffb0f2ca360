"""A judge fitted to its user's verdicts: a temperature and a bias for each question.

The calibrated probability is sigmoid(z / temperature + bias) of the log-odds z of a question's score (Platt 1999, with
a weak prior at temperature 1 and bias 0). What it is worth is measured by cross-validation: every verdict is predicted
by a fit that has not seen it. Reported are the area under the ROC curve and the expected calibration error (Guo et al.
2017, arXiv 1706.04599, equal-mass bins) before and after.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files import write_text
from .rubric import Rubric
from .scoring import Score, Verdict, sigmoid

FEWEST, FEWEST_OF_A_KIND = 20, 5
"""Verdicts that a question needs: in all, and of each kind."""

FOLDS = 5
BINS = 5
PRIOR = 0.05
"""Precision of the prior: a standard deviation of about 4 around slope 1 and bias 0."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The calibration of one question.

    Attributes:
        temperature, bias: see the module; the slope 1 / temperature is never negative.
        verdicts: how many it was fitted to.
        auc: area under the ROC curve of the uncalibrated score.
        error_before, error_after: expected calibration error, the latter cross-validated.
    """

    temperature: float
    bias: float
    verdicts: int
    auc: float
    error_before: float
    error_after: float

    def apply(self, value: float) -> float:
        """The calibrated probability of a score 0..1."""
        return sigmoid(log_odds(value) / self.temperature + self.bias)


def log_odds(value: float) -> float:
    """Of a score 0..1, within +-13.8."""
    value = min(max(value, 1e-6), 1 - 1e-6)
    return math.log(value / (1 - value))


def read_labels(path: Path) -> list[dict]:
    """The user's verdicts: a JSONL file of objects with 'clip', 'question' and 'good' (true or false).

    Raises InputError naming file, line and key.
    """
    rows = []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"{path}, line {number}: this is not JSON; each line must be one object") from None
        wanted = {"clip": str, "question": str, "good": bool}
        for key, kind in wanted.items():
            if not isinstance(row, dict) or not isinstance(row.get(key), kind):
                found = row.get(key) if isinstance(row, dict) else row
                raise InputError(f"{path}, line {number}: '{key}' is {found!r}; it must be a {kind.__name__}")
        rows.append(row)
    return rows


def fit_question(name: str, values: Sequence[float], good: Sequence[bool]) -> Fit:
    """Fit one question. ``values`` are scores 0..1, ``good`` the user's verdicts on the same clips.

    Raises InputError where the verdicts are too few to tell.
    """
    z, y = np.array([log_odds(value) for value in values]), np.asarray(good, np.float64)
    kinds = (int(y.sum()), int(len(y) - y.sum()))
    if len(y) < FEWEST or min(kinds) < FEWEST_OF_A_KIND:
        raise InputError(
            f"question {name!r} has {kinds[0]} good and {kinds[1]} bad verdicts; to calibrate it takes {FEWEST} in all "
            f"and {FEWEST_OF_A_KIND} of each kind"
        )
    held_out = np.empty(len(y))
    # Folds take both kinds in turn, so that none is without one.
    order = np.argsort(y, kind="stable")
    for fold in range(FOLDS):
        test = order[fold::FOLDS]
        train = np.setdiff1d(order, test)
        slope, bias = platt(z[train], y[train])
        held_out[test] = 1 / (1 + np.exp(-(slope * z[test] + bias)))
    slope, bias = platt(z, y)
    before = 1 / (1 + np.exp(-z))
    return Fit(
        1 / max(slope, 1e-6), bias, len(y), area_under_curve(z, y), calibration_error(before, y),
        calibration_error(held_out, y),
    )  # fmt: skip


def platt(z: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope (not negative) and bias of the logistic regression of ``y`` (0 or 1) on ``z``, by Newton's method."""
    design = np.stack([z, np.ones_like(z)], 1)

    def loss(weights):
        margin = design @ weights
        return float(np.logaddexp(0, margin).sum() - y @ margin + PRIOR / 2 * np.square(weights - [1.0, 0.0]).sum())

    weights = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-(design @ weights)))
        gradient = design.T @ (y - p) - PRIOR * (weights - [1.0, 0.0])
        curvature = (design * (p * (1 - p))[:, None]).T @ design + PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while loss(weights + step) > loss(weights) and np.abs(step).max() > 1e-9:
            step /= 2
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    if weights[0] < 0:
        # A score that runs against the verdicts says nothing: the mean verdict is all that is left.
        mean = (y.sum() + 1) / (len(y) + 2)
        return 0.0, float(np.log(mean / (1 - mean)))
    return float(weights[0]), float(weights[1])


def area_under_curve(score: np.ndarray, y: np.ndarray) -> float:
    """Probability that a good clip scores higher than a bad one, ties counting half."""
    difference = score[y == 1][:, None] - score[y == 0][None]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def calibration_error(probability: np.ndarray, y: np.ndarray) -> float:
    """Expected calibration error over ``BINS`` bins of equal mass."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return float(sum(len(part) * abs(probability[part].mean() - y[part].mean()) for part in parts) / len(y))


def calibrate(rubric: Rubric, verdicts: dict[str, Verdict], labels: Sequence[dict]) -> dict[str, Fit]:
    """Fit every question of a rubric that has labels; ``verdicts`` are those of the labelled clips, by clip.

    Raises InputError where a label names a question that the rubric does not have, or one has too few labels.
    """
    names = [question.name for question in rubric.questions]
    fits = {}
    for label in labels:
        if label["question"] not in names:
            raise InputError(
                f"question {label['question']!r} is not in rubric {rubric.name}; it has {', '.join(names)}"
            )
    for name in names:
        rows = [label for label in labels if label["question"] == name]
        if rows:
            values = [verdicts[row["clip"]].scores[names.index(name)].value for row in rows]
            fits[name] = fit_question(name, values, [row["good"] for row in rows])
    if not fits:
        raise InputError("there are no labels to calibrate by; give at least 20 verdicts on one question")
    return fits


def calibrated(verdict: Verdict, fits: dict[str, Fit]) -> Verdict:
    """The verdict with every fitted question's score replaced by its calibrated probability."""

    def corrected(score: Score) -> Score:
        fit = fits.get(score.question.name)
        return score if fit is None else replace(score, value=fit.apply(score.value))

    return Verdict(verdict.rubric, tuple(corrected(score) for score in verdict.scores))


def calibration_file(rubric: Path) -> Path:
    """Where the calibration of a rubric file is kept: beside it."""
    return rubric.with_name(f"{rubric.stem}.calibration.json")


def write_calibration(path: Path, model: str, fits: dict[str, Fit]) -> None:
    """Keep the fits of ``model`` (its name) in a file, beside those of other models that it holds."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    keys = Fit.__slots__
    known[model] = {name: {key: getattr(fit, key) for key in keys} for name, fit in fits.items()}
    write_text(path, json.dumps(known, indent=1) + "\n")


def read_calibration(path: Path, model: str) -> dict[str, Fit]:
    """The fits of ``model`` in a file; none where there is no file or it does not hold the model's.

    Raises InputError where the file is not one of :func:`write_calibration`.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get(model, {})
        return {name: Fit(**values) for name, values in found.items()}
    except (ValueError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise InputError(f"{path} is not a calibration of CodecLens ({error}); remove it or calibrate again") from None
