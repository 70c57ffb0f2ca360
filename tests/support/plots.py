"""Small line plots as SVG text."""

import math


def log_plot(curves: dict, across: str, up: str, linear_up: bool = False) -> str:
    """An SVG of named curves over a logarithmic axis.

    Args:
        curves: (colour, [(x, y), ...]) by title.
        across, up: what the axes are.
        linear_up: the y axis is linear, else logarithmic.
    """
    points = [point for _, line in curves.values() for point in line]
    left, right, x_ticks = _axis([x for x, _ in points], False)
    low, high, y_ticks = _axis([y for _, y in points], linear_up)
    scale = (lambda value: value) if linear_up else math.log

    def at(point):
        x = math.log(point[0] / left) / math.log(right / left)
        y = (scale(point[1]) - scale(low)) / (scale(high) - scale(low))
        return f"{70 + 560 * x:.1f},{340 - 310 * y:.1f}".split(",")

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="670" height="400" font-family="sans-serif"']
    parts[0] += ' font-size="12"><rect width="670" height="400" fill="white"/>'
    for tick in x_ticks:
        x = at((tick, high))[0]
        parts.append(f'<line x1="{x}" y1="30" x2="{x}" y2="340" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="357" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        y = at((right, tick))[1]
        parts.append(f'<line x1="70" y1="{y}" x2="630" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{float(y) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="350" y="385" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="16" y="190" text-anchor="middle" transform="rotate(-90 16 190)">{up}</text>')
    for number, (title, (colour, line)) in enumerate(curves.items()):
        points = [at(point) for point in line]
        path = " ".join(",".join(point) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in points]
        parts.append(f'<text x="{88 if linear_up else 480}" y="{50 + 18 * number}" fill="{colour}">{title}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axis(values: list[float], linear: bool) -> tuple[float, float, list[float]]:
    """Both ends and the ticks: fives, or 1, 2 and 5 of every decade."""
    if linear:
        low, high = 5 * math.floor(min(values) / 5), 5 * math.ceil(max(values) / 5)
        return low, high, list(range(low, high + 1, 5))
    low, high = min(values) * 0.8, max(values) * 1.25
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return low, high, [tick for tick in ticks if low <= tick <= high]


def scatter(points: dict, across: str, up: str) -> str:
    """An SVG of named points with intervals over a logarithmic axis, each with its name beside it.

    Args:
        points: (colour, x, y, (lowest y, highest y)) by name.
        across, up: what the axes are.
    """
    left, right, x_ticks = _axis([x for _, x, _, _ in points.values()], False)
    low, high, y_ticks = _axis([y for _, _, _, span in points.values() for y in span], True)

    def column(x):
        return 70 + 560 * math.log(x / left) / math.log(right / left)

    def row(y):
        return 340 - 310 * (y - low) / (high - low)

    parts = ['<svg xmlns="http://www.w3.org/2000/svg" width="720" height="400" font-family="sans-serif"']
    parts[0] += ' font-size="12"><rect width="720" height="400" fill="white"/>'
    for tick in x_ticks:
        parts.append(f'<text x="{column(tick):.1f}" y="357" text-anchor="middle">{tick:g}</text>')
    for tick in y_ticks:
        parts.append(f'<line x1="70" y1="{row(tick):.1f}" x2="630" y2="{row(tick):.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="62" y="{row(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts.append(f'<text x="350" y="385" text-anchor="middle">{across}</text>')
    parts.append(f'<text x="16" y="190" text-anchor="middle" transform="rotate(-90 16 190)">{up}</text>')
    taken: list[tuple[float, float]] = []
    for name, (colour, x, y, (bottom, top)) in sorted(points.items(), key=lambda item: -item[1][2]):
        at, height = column(x), row(y)
        parts.append(
            f'<line x1="{at:.1f}" y1="{row(bottom):.1f}" x2="{at:.1f}" y2="{row(top):.1f}" stroke="{colour}"/>'
        )
        parts.append(f'<circle cx="{at:.1f}" cy="{height:.1f}" r="5" fill="{colour}"/>')
        label = height + 4
        while any(abs(at - other) < 80 and abs(label - line) < 13 for other, line in taken):
            label += 3
        taken.append((at, label))
        close = any(
            0 < column(other) - at < 70 and abs(row(level) - height) < 12 for _, other, level, _ in points.values()
        )
        anchor = f'x="{at - 9:.1f}" text-anchor="end"' if close else f'x="{at + 9:.1f}"'
        parts.append(f'<text {anchor} y="{label:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
