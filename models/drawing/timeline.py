"""The plan as one picture over time: thumbnails, I and P, cost against gamma, cuts, tokens spent."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..source.reading import Frames
from ..video.gop import GopPlan, I
from .canvas import (
    BACKGROUND,
    CUT,
    DROPPED,
    GAMMA,
    GRID,
    I_COLOUR,
    MUTED,
    P_COLOUR,
    PANEL,
    SPAN,
    TEXT,
    Canvas,
    clock_text,
    grouped,
    round_step,
    short_number,
    shortened,
    text_width,
    time_step,
)

LEFT, RIGHT = 86, 28
THUMBNAIL_HEIGHT = 104
THUMBNAIL_GAP = 4
TOP_THUMBNAILS = 96
TOP_STRIP = TOP_THUMBNAILS + THUMBNAIL_HEIGHT + 26
STRIP_HEIGHT = 30
TOP_COST = TOP_STRIP + STRIP_HEIGHT + 50
COST_HEIGHT = 190
TOP_TOKENS = TOP_COST + COST_HEIGHT + 34
TOKENS_HEIGHT = 110
HEIGHT = TOP_TOKENS + TOKENS_HEIGHT + 74


class TimeScale:
    """Where each sampled frame lies on the horizontal axis; a frame lasts until the next one."""

    def __init__(self, pts: np.ndarray, left: float, right: float):
        step = float(np.median(np.diff(pts))) if len(pts) > 1 else 1.0
        self.edges = np.append(pts, pts[-1] + step)
        self.start, self.end = float(self.edges[0]), float(self.edges[-1])
        self.left, self.right = left, right

    def x(self, seconds):
        return self.left + (np.asarray(seconds) - self.start) / (self.end - self.start) * (self.right - self.left)


def timeline_thumbnails(plan: GopPlan, width: int = 1600) -> np.ndarray:
    """int64 [n]: positions among the sampled frames whose pictures :func:`draw_timeline` wants, in order of time.

    I frames come first, at their own times and as many as fit side by side; P frames fill the gaps that remain.
    """
    left = thumbnail_left(plan, TimeScale(plan.pts, LEFT, width - RIGHT))
    wide = thumbnail_width(plan) + THUMBNAIL_GAP
    whole = plan.keep & (plan.kind == I)
    chosen: list[int] = []
    for position in [*np.flatnonzero(whole).tolist(), *np.flatnonzero(~whole).tolist()]:
        if all(abs(left[position] - left[other]) >= wide for other in chosen):
            chosen.append(position)
    return np.array(sorted(chosen), np.int64)


def thumbnail_left(plan: GopPlan, scale: "TimeScale") -> np.ndarray:
    """Left edges of the thumbnails of all sampled frames: their own time, moved left where the picture ends."""
    return np.minimum(scale.x(plan.pts), scale.right - thumbnail_width(plan))


def thumbnail_width(plan: GopPlan) -> float:
    return max(24.0, THUMBNAIL_HEIGHT * plan.size[1] / plan.size[0])


def draw_timeline(
    plan: GopPlan,
    thumbnails: Frames | None = None,
    cuts: Sequence[float] = (),
    spans: Sequence[tuple[str, float, float]] = (),
    title: str = "",
    width: int = 1600,
) -> Image.Image:
    """Draw the plan.

    Args:
        plan: T decisions.
        thumbnails: the frames that :func:`timeline_thumbnails` named (any size); none are drawn without it.
        cuts: times in seconds of hard cuts.
        spans: (kind, first, last) of fades and dissolves, in seconds.
        title: what the clip is called.
        width: of the picture in pixels; 900 or more.
    Returns:
        An RGB picture of ``width`` x 714 pixels.
    """
    canvas = Canvas(width, HEIGHT)
    scale = TimeScale(plan.pts, LEFT, width - RIGHT)
    draw_heading(canvas, plan, title)
    draw_thumbnails(canvas, scale, plan, thumbnails)
    for top, height in ((TOP_COST, COST_HEIGHT), (TOP_TOKENS, TOKENS_HEIGHT)):
        canvas.rectangle(LEFT, top, width - RIGHT, top + height, fill=PANEL)
    draw_spans(canvas, scale, spans)
    draw_time_axis(canvas, scale)
    draw_strip(canvas, scale, plan)
    draw_costs(canvas, scale, plan)
    draw_tokens(canvas, scale, plan)
    draw_cuts(canvas, scale, cuts)
    draw_legend(canvas, plan, bool(len(cuts)), bool(len(spans)))
    return canvas.finish()


def draw_heading(canvas: Canvas, plan: GopPlan, title: str) -> None:
    spent, every, pairs = token_totals(plan)
    caption = (
        f"{100 * spent / every:.0f} % of {grouped(every)} (every frame whole), "
        f"{100 * spent / pairs:.0f} % of {grouped(pairs)} (native frame pairs)"
    )
    headline = f"{grouped(spent)} visual tokens, {grouped(plan.prompt_tokens)} in the prompt"
    canvas.text(canvas.width - RIGHT, 22, headline, 26, anchor="ra")
    canvas.text(canvas.width - RIGHT, 58, caption, 14, MUTED, anchor="ra")
    room = canvas.width - RIGHT - LEFT - max(text_width(caption, 14), text_width(headline, 26)) - 30
    whole = int(np.sum((plan.kind == I) & plan.keep))
    kept = int(np.sum(plan.keep))
    facts = f"{len(plan.kind)} frames sampled: {whole} I + {kept - whole} P"
    if kept < len(plan.kind):
        facts += f", {len(plan.kind) - kept} dropped"
    facts += f"   {plan.policy}, {plan.mode}"
    if np.isfinite(plan.gamma):
        facts += f", gamma {short_number(plan.gamma)}"
    canvas.text(LEFT, 22, shortened(title or "GOP plan", 26, room), 26)
    canvas.text(LEFT, 58, shortened(facts, 14, room), 14, MUTED)


def token_totals(plan: GopPlan) -> tuple[int, int, int]:
    """Tokens of the plan, of every sampled frame whole, and of native frame pairs (one frame's tokens per pair)."""
    totals = plan.totals
    return int(plan.tokens.sum()), totals["rgb_per_frame"], totals["rgb_paired"]


def draw_thumbnails(canvas: Canvas, scale: TimeScale, plan: GopPlan, thumbnails: Frames | None) -> None:
    if thumbnails is None:
        return
    wide, left = thumbnail_width(plan), thumbnail_left(plan, scale)
    for rgb, index in zip(thumbnails.rgb, thumbnails.index, strict=True):
        position = int(np.searchsorted(plan.index, index))
        x, time = left[position], float(scale.x(plan.pts[position]))
        whole = plan.kind[position] == I and plan.keep[position]
        picture = Image.fromarray(rgb)
        if not whole:
            picture = Image.blend(picture, Image.new("RGB", picture.size, BACKGROUND), 0.35)
        canvas.image(picture, x, TOP_THUMBNAILS, wide, THUMBNAIL_HEIGHT)
        if whole:
            canvas.rectangle(x, TOP_THUMBNAILS, x + wide, TOP_THUMBNAILS + THUMBNAIL_HEIGHT, outline=I_COLOUR)
            canvas.rectangle(time, TOP_THUMBNAILS + THUMBNAIL_HEIGHT, time + 2, TOP_STRIP, fill=I_COLOUR)


def draw_strip(canvas: Canvas, scale: TimeScale, plan: GopPlan) -> None:
    bottom = TOP_STRIP + STRIP_HEIGHT
    canvas.text(LEFT - 12, TOP_STRIP + STRIP_HEIGHT / 2, "frames", 13, MUTED, anchor="rm")
    edges = scale.x(scale.edges)
    order = np.argsort(plan.kind, kind="stable")
    for position in order.tolist():
        left, right = edges[position], edges[position + 1]
        gap = 1.0 if right - left >= 4 else 0.0
        if not plan.keep[position]:
            canvas.rectangle(left, TOP_STRIP + 12, right - gap, bottom, fill=DROPPED)
        elif plan.kind[position] == I:
            canvas.rectangle(left, TOP_STRIP, max(right - gap, left + 1.5), bottom, fill=I_COLOUR)
        else:
            canvas.rectangle(left, TOP_STRIP + 12, right - gap, bottom, fill=P_COLOUR)
        if right - left >= 14:
            whole = plan.kind[position] == I and plan.keep[position]
            middle = (TOP_STRIP if whole else TOP_STRIP + 12) / 2 + bottom / 2
            canvas.text((left + right) / 2 - gap, middle, "I" if whole else "P", 12, BACKGROUND, anchor="mm")
    draw_reasons(canvas, scale, plan, edges)


def draw_reasons(canvas: Canvas, scale: TimeScale, plan: GopPlan, edges: np.ndarray) -> None:
    """Below each I frame why it is one; nothing where most reasons would not fit."""
    free_from, placed = 0.0, []
    whole = np.flatnonzero((plan.kind == I) & plan.keep).tolist()
    for position in whole:
        x, wide = edges[position], text_width(plan.why[position], 12)
        if x >= free_from and x + wide <= scale.right:
            placed.append((x + 3, plan.why[position]))
            free_from = x + wide + 8
    if 2 * len(placed) >= len(whole):
        for x, why in placed:
            canvas.text(x, TOP_STRIP + STRIP_HEIGHT + 4, why, 12, I_COLOUR)


def draw_costs(canvas: Canvas, scale: TimeScale, plan: GopPlan) -> None:
    bottom = TOP_COST + COST_HEIGHT
    gamma = plan.gamma if np.isfinite(plan.gamma) else 0.0
    known = plan.pcost[np.isfinite(plan.pcost)]
    highest = max(1.08 * float(known.max(initial=0.0)), 1.25 * gamma, 1.0)

    def y(cost):
        return bottom - np.sqrt(cost / highest) * (COST_HEIGHT - 4)

    canvas.text(LEFT - 12, TOP_COST - 12, "cost", 13, MUTED, anchor="rm")
    canvas.text(
        LEFT,
        TOP_COST - 12,
        "of predicting the frame from the one before (pcost, square-root axis)",
        13,
        MUTED,
        anchor="lm",
    )
    step = round_step(highest, 4)
    for tick in [step / 4, *np.arange(step, highest, step)]:
        canvas.line([(LEFT, y(tick)), (canvas.width - RIGHT, y(tick))], GRID)
        canvas.text(LEFT - 12, y(tick), short_number(tick), 12, MUTED, anchor="rm")
    edges = scale.x(scale.edges)
    for position, cost in enumerate(plan.pcost.tolist()):
        if np.isfinite(cost):
            gap = 1.0 if edges[position + 1] - edges[position] >= 4 else 0.0
            colour = I_COLOUR if plan.kind[position] == I else P_COLOUR
            colour = colour if plan.keep[position] else DROPPED
            canvas.rectangle(edges[position], y(cost), edges[position + 1] - gap, bottom, fill=colour)
    if gamma:
        canvas.dashes((LEFT, y(gamma)), (canvas.width - RIGHT, y(gamma)), GAMMA, 1.6)
        label = f"gamma {short_number(gamma)}"
        half = text_width(label, 12)
        canvas.rectangle(
            canvas.width - RIGHT - half - 14,
            y(gamma) - 19,
            canvas.width - RIGHT - 2,
            y(gamma) - 3,
            fill=BACKGROUND,
            radius=3,
        )
        canvas.text(canvas.width - RIGHT - 8, y(gamma) - 11, label, 12, GAMMA, anchor="rm")


def draw_tokens(canvas: Canvas, scale: TimeScale, plan: GopPlan) -> None:
    spent, every, pairs = token_totals(plan)
    bottom = TOP_TOKENS + TOKENS_HEIGHT
    highest = 1.05 * max(every, spent, 1)
    edges = scale.x(scale.edges)

    def y(tokens):
        return bottom - tokens / highest * TOKENS_HEIGHT

    canvas.text(LEFT - 12, TOP_TOKENS - 12, "tokens", 13, MUTED, anchor="rm")
    canvas.text(LEFT, TOP_TOKENS - 12, "spent so far", 13, MUTED, anchor="lm")
    step = round_step(highest, 3)
    for tick in np.arange(step, highest, step):
        canvas.line([(LEFT, y(tick)), (canvas.width - RIGHT, y(tick))], GRID)
        canvas.text(LEFT - 12, y(tick), short_number(tick), 12, MUTED, anchor="rm")
    staircase = [(edges[0], bottom)]
    for position, total in enumerate(np.cumsum(plan.tokens).tolist()):
        staircase += [(edges[position], y(total)), (edges[position + 1], y(total))]
    canvas.polygon(
        [*staircase, (edges[-1], bottom)], tuple((3 * a + 2 * b) // 5 for a, b in zip(PANEL, I_COLOUR, strict=True))
    )
    canvas.line(staircase, I_COLOUR, 1.6)
    fraction = np.arange(len(edges)) / len(plan.kind)
    for total, label in ((every, "every frame whole"), (pairs, "native frame pairs")):
        canvas.line(list(zip(edges.tolist(), y(fraction * total).tolist(), strict=True)), MUTED, 0.8)
        at = LEFT + 0.62 * (scale.right - LEFT)
        canvas.text(at - 8, np.interp(at, edges, y(fraction * total)) - 5, label, 12, MUTED, anchor="rs")


def draw_time_axis(canvas: Canvas, scale: TimeScale) -> None:
    bottom = TOP_TOKENS + TOKENS_HEIGHT
    step = time_step(scale.end - scale.start, int((scale.right - scale.left) // 90))
    for tick in np.arange(np.ceil(scale.start / step) * step, scale.end + step * 1e-6, step):
        x = float(scale.x(tick))
        for top, height in ((TOP_COST, COST_HEIGHT), (TOP_TOKENS, TOKENS_HEIGHT)):
            canvas.line([(x, top), (x, top + height)], GRID)
        canvas.line([(x, bottom), (x, bottom + 5)], MUTED)
        anchor = "ra" if x > scale.right - 24 else "ma"
        canvas.text(x, bottom + 8, clock_text(float(tick), step), 13, MUTED, anchor=anchor)


def draw_spans(canvas: Canvas, scale: TimeScale, spans) -> None:
    tint = tuple((3 * a + b) // 4 for a, b in zip(PANEL, SPAN, strict=True))
    for kind, first, last in spans:
        left, right = max(float(scale.x(first)), LEFT), min(float(scale.x(last)), scale.right)
        for top, height in ((TOP_COST, COST_HEIGHT), (TOP_TOKENS, TOKENS_HEIGHT)):
            canvas.rectangle(left, top, right, top + height, fill=tint)
        if right - left > text_width(kind, 12) + 6:
            canvas.text((left + right) / 2, TOP_COST + 4, kind, 12, SPAN, anchor="ma")


def draw_cuts(canvas: Canvas, scale: TimeScale, cuts: Sequence[float]) -> None:
    for seconds in cuts:
        x = float(scale.x(seconds))
        canvas.dashes((x, TOP_STRIP - 6), (x, TOP_TOKENS + TOKENS_HEIGHT), CUT, 1.2, 4, 4)
        canvas.polygon([(x - 6, TOP_STRIP - 16), (x + 6, TOP_STRIP - 16), (x, TOP_STRIP - 5)], CUT)


def draw_legend(canvas: Canvas, plan: GopPlan, with_cuts: bool, with_spans: bool) -> None:
    x, y = LEFT, HEIGHT - 28
    entries = [(I_COLOUR, "I: a whole picture"), (P_COLOUR, "P: predicted from the frame before")]
    if not plan.keep.all():
        entries.append((DROPPED, "dropped for the budget"))
    if with_cuts:
        entries.append((CUT, "cut"))
    if with_spans:
        entries.append((SPAN, "fade, dissolve or wipe"))
    for colour, label in entries:
        canvas.rectangle(x, y, x + 14, y + 14, fill=colour, radius=3)
        canvas.text(x + 22, y + 7, label, 13, TEXT, anchor="lm")
        x += 22 + text_width(label, 13) + 30
    if plan.warnings:
        room = canvas.width - RIGHT - x
        canvas.text(canvas.width - RIGHT, y + 7, shortened("; ".join(plan.warnings), 13, room), 13, GAMMA, anchor="rm")
