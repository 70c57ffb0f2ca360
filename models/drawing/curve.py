"""The curve of an evaluation: right answers against prompt tokens, a line for each mode that was held to budgets."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 440
LEFT, TOP, RIGHT, BOTTOM = 62, 20, 600, 388
LEGEND, LINE = 624, 19
COLOURS = ("#1c6fb5", "#c2571a", "#2a8c4a", "#8a4bb3", "#b8304f", "#7a6a1f", "#2d8f98", "#6b6f76", "#d0841c", "#4450c4")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One mode at one number of tokens.

    Attributes:
        tokens: prompt tokens a clip.
        right: fraction of answers that are right.
        interval: of ``right``, both ends; twice ``right`` where it is not known.
    """

    tokens: float
    right: float
    interval: tuple[float, float]


def accuracy_curve(curves: Mapping[str, list[CurvePoint]]) -> str:
    """SVG text of the curves by their names: tokens on a logarithmic axis, percent on a linear one.

    A mode with one point is a dot. The best point of each mode is in the legend, the best mode first.
    """
    points = [point for curve in curves.values() for point in curve]
    low = 5 * math.floor(20 * min(bound for point in points for bound in point.interval))
    high = 5 * math.ceil(20 * max(bound for point in points for bound in point.interval))
    fewest, most = (math.log(max(1, pick(point.tokens for point in points))) for pick in (min, max))
    margin = 0.05 * (most - fewest) or 0.5

    def x(tokens: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log(max(1, tokens)) - fewest + margin) / (most - fewest + 2 * margin)

    def y(right: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (100 * right - low) / max(high - low, 5)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui,sans-serif" font-size="13" fill="#333">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    ]
    for percent in range(low, high + 1, 5):
        level = f"{y(percent / 100):.1f}"
        parts.append(f'<line x1="{LEFT}" y1="{level}" x2="{RIGHT}" y2="{level}" stroke="#e2e2e2"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{float(level) + 4:.1f}" text-anchor="end">{percent}</text>')
    for tokens in _ticks(math.exp(fewest - margin), math.exp(most + margin)):
        parts.append(f'<line x1="{x(tokens):.1f}" y1="{TOP}" x2="{x(tokens):.1f}" y2="{BOTTOM}" stroke="#f0f0f0"/>')
        parts.append(f'<text x="{x(tokens):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tokens:g}</text>')
    parts.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{HEIGHT - 12}" text-anchor="middle">prompt tokens a clip</text>')
    middle = (TOP + BOTTOM) / 2
    parts.append(
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">right answers, %</text>'
    )
    best_first = sorted(curves.items(), key=lambda item: -max(point.right for point in item[1]))
    for number, (name, curve) in enumerate(best_first):
        colour = COLOURS[number % len(COLOURS)]
        parts += _curve(curve, colour, x, y)
        best = max(curve, key=lambda point: point.right)
        height = TOP + 12 + LINE * number
        parts.append(f'<circle cx="{LEGEND}" cy="{height - 4}" r="5" fill="{colour}"/>')
        parts.append(
            f'<text x="{LEGEND + 12}" y="{height}">{escape(name)}: {100 * best.right:.1f} at {best.tokens:.0f}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _curve(curve: list[CurvePoint], colour: str, x, y) -> list[str]:
    ordered = sorted(curve, key=lambda point: point.tokens)
    parts = []
    if len(ordered) > 1:
        path = " ".join(f"{x(point.tokens):.1f},{y(point.right):.1f}" for point in ordered)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    for point in ordered:
        at, (bottom, top) = f"{x(point.tokens):.1f}", point.interval
        span = f'x1="{at}" y1="{y(bottom):.1f}" x2="{at}" y2="{y(top):.1f}"'
        parts.append(f'<line {span} stroke="{colour}" stroke-opacity="0.35"/>')
        parts.append(f'<circle cx="{at}" cy="{y(point.right):.1f}" r="4" fill="{colour}"/>')
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every power of ten between both ends."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**power for power in powers for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
