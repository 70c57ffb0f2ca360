"""Conditions on a clip's metrics and scores: 'flicker <= 3', one a line."""

import json
import math
import operator
import re
from dataclasses import dataclass

from ..errors import InputError
from ..video.metrics import METRICS

OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
LINE = re.compile(r"^(?P<name>[^<>=]+?)\s*(?P<sign><=|>=|<|>|=)\s*(?P<limit>\S+)$")


@dataclass(frozen=True, slots=True)
class Condition:
    """``name`` compared with ``limit`` by one of ``OPERATORS``."""

    name: str
    sign: str
    limit: float

    def holds(self, value: float) -> bool:
        return OPERATORS[self.sign](value, self.limit)

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.limit:g}"


def parse_conditions(text: str) -> list[Condition]:
    """The conditions in ``text``, empty lines left out. Raises InputError naming the line that is none."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.match(line.strip())
        try:
            limit = float(match["limit"]) if match else math.nan
        except ValueError:
            limit = math.nan
        if not math.isfinite(limit):
            raise InputError(f"condition {number} is {line.strip()[:60]!r}; it must be like 'flicker <= 3'")
        found.append(Condition(match["name"].strip(), match["sign"], limit))
    return found


def failing(conditions: list[Condition], values: dict[str, float | None]) -> list[str]:
    """A phrase for each condition that ``values`` do not meet; one whose value is not there is not met.

    Raises InputError where a condition names something that was neither measured nor asked.
    """
    phrases = []
    for condition in conditions:
        name = condition.name if condition.name in values else condition.name.replace(" ", "_")
        if name not in values:
            known = ", ".join(values) or "nothing: connect the JSON of Measure Video or Judge Video"
            raise InputError(f"condition '{condition}' names {condition.name!r}; there is {known}")
        value = values[name]
        if value is None or not condition.holds(value):
            shown = "no value" if value is None else f"{value:.4g}"
            phrases.append(f"{condition.name} is {shown}, not {condition.sign} {condition.limit:g}")
    return phrases


def values_in(*texts: str) -> dict[str, float | None]:
    """Metrics, questions, 'score' and 'pass_fraction' by name, from the JSON of Measure Video and of Judge Video.

    Raises InputError where a text is neither.
    """
    names, values = {metric.name for metric in METRICS}, {}
    for text in texts:
        try:
            data = json.loads(text)
            metrics = data.get("values", data.get("metrics", {}))
            values |= {name: value for name, value in metrics.items() if name in names}
            values |= {question["name"]: question["score"] for question in data.get("questions", ())}
            values |= {name: data[name] for name in ("score", "pass_fraction") if name in data}
        except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
            raise InputError(
                f"the values begin with {text[:40]!r}; give the JSON of Measure Video or Judge Video"
            ) from None
    return values
