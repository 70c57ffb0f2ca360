"""A visual code as one picture: when its tokens are spent, and what the model sees, in the order in which it reads."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..code.modes.pictures import shrink
from ..code.visual_code import Segment, VisualCode
from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import Frames, FrameSampling, VideoSource
from ..source.sampling import CELL
from ..video.gop import I
from ..video.tokens import MODES
from .canvas import (
    BACKGROUND,
    DROPPED,
    GAMMA,
    GRID,
    I_COLOUR,
    MUTED,
    P_COLOUR,
    PANEL,
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
from .timeline import TimeScale

PAIR_COLOUR = (104, 190, 156)
COLOURS = {"I": I_COLOUR, "P": P_COLOUR, "pair": PAIR_COLOUR}

MARGIN = 28
BARS_LEFT = 76
TOP_BARS = 112
BARS_HEIGHT = 78
TOP_PANELS = TOP_BARS + BARS_HEIGHT + 56
BOTTOM = 58
PADDING, GAP = 9, 9
HEADER, STRIP = 19, 3
SMALL_TEXT, SMALL_LINE = 10, 13
LARGEST_CELL, SMALLEST_CELL = 1 / 100, 2
"""Sides at which a token is drawn: at most this fraction of the picture's width, at least so many pixels."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a segment is drawn: left and top of its picture."""

    segment: Segment
    left: float
    top: float
    whole: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """A whole picture and the small ones after it: left, top and width; as high as its row."""

    slots: tuple[Slot, ...]
    left: float
    top: float
    width: float
    height: float


class Layout:
    """Panels in rows, in the order of reading, with tokens of ``cell`` x ``cell`` pixels."""

    def __init__(self, code: VisualCode, width: int, cell: int):
        self.code, self.width, self.cell = code, width, cell
        self.whole = max(segment.grid for segment in code)
        self.small = min(segment.grid for segment in code)
        # Labels much wider than their pictures would space them by themselves.
        self.labelled = self.small[1] * cell > 0.7 * text_width("100.0 s", SMALL_TEXT)
        self.panels: list[Panel] = []
        left, row, row_height, top = MARGIN, [], 0.0, float(TOP_PANELS)
        for group in groups_of(code, self.whole):
            wide, high = self.extent(group)
            if row and left + wide > width - MARGIN:
                self.add_row(row, top, row_height)
                top += row_height + GAP
                left, row, row_height = MARGIN, [], 0.0
            row.append((group, left, wide))
            left, row_height = left + wide + GAP, max(row_height, high)
        self.add_row(row, top, row_height)
        self.height = round(top + row_height + BOTTOM)

    @property
    def filled(self) -> float:
        """Fraction of the area below the bars that panels cover."""
        area = sum(panel.width * panel.height for panel in self.panels)
        return area / ((self.width - 2 * MARGIN) * (self.height - TOP_PANELS - BOTTOM))

    def extent(self, group: list[Segment]) -> tuple[float, float]:
        """Width and height of the panel of ``group``."""
        columns, rows = self.columns_and_rows(group)
        small = columns * (self.slot_width + GAP / 2) + GAP / 2 if columns else 0.0
        height = max(self.whole[0] * self.cell + STRIP, rows * self.slot_height - GAP / 2)
        return 2 * PADDING + self.whole[1] * self.cell + small, HEADER + height + 2 * PADDING

    def columns_and_rows(self, group: list[Segment]) -> tuple[int, int]:
        """The small pictures of ``group`` beside its whole one: as high as that, or as wide as the page."""
        count = len(group) - 1
        if not count:
            return 0, 0
        rows = max(1, round((self.whole[0] * self.cell + STRIP) / self.slot_height))
        room = self.width - 2 * (MARGIN + PADDING) - self.whole[1] * self.cell - GAP / 2
        columns = min(-(-count // rows), max(1, int(room // (self.slot_width + GAP / 2))))
        return columns, -(-count // columns)

    @property
    def slot_width(self) -> float:
        label = text_width(f"{self.code.plan.pts[-1]:.1f} s", SMALL_TEXT) if self.labelled else 0.0
        return max(self.small[1] * self.cell, label)

    @property
    def slot_height(self) -> float:
        return (SMALL_LINE if self.labelled else 0) + self.small[0] * self.cell + STRIP + GAP / 2

    def add_row(self, row, top: float, height: float) -> None:
        for group, left, wide in row:
            columns, _ = self.columns_and_rows(group)
            x, y = left + PADDING, top + PADDING + HEADER
            slots = [Slot(group[0], x, y, True)]
            x += self.whole[1] * self.cell + GAP
            above = SMALL_LINE if self.labelled else 0
            for number, segment in enumerate(group[1:]):
                down, across = divmod(number, columns)
                slot_left = x + across * (self.slot_width + GAP / 2)
                slots.append(Slot(segment, slot_left, y + down * self.slot_height + above, False))
            self.panels.append(Panel(tuple(slots), left, top, wide, height))


def groups_of(code: VisualCode, whole: tuple[int, int]) -> list[list[Segment]]:
    """Segments in order, a new group at each one of the size ``whole`` (rows, columns)."""
    groups: list[list[Segment]] = []
    for segment in code:
        if not groups or segment.grid == whole:
            groups.append([])
        groups[-1].append(segment)
    return groups


def fitting_layout(code: VisualCode, width: int) -> Layout:
    """The layout that fills its page best, of those no higher than wide with large tokens; the smallest where none is.

    Large is at least three fifths of the largest that make such a page.
    """
    largest = int(width * LARGEST_CELL)
    pages = (Layout(code, width, cell) for cell in range(largest, SMALLEST_CELL, -1))
    first = next((page for page in pages if page.height <= width), None)
    if first is None:
        return Layout(code, width, SMALLEST_CELL)
    smaller = [Layout(code, width, cell) for cell in range(first.cell - 1, round(0.6 * first.cell) - 1, -1)]
    return max(first, *smaller, key=lambda page: page.filled) if smaller else first


def code_view(
    code: VisualCode, source: VideoSource, width: int = 1600, progress: Progress = no_progress
) -> Image.Image:
    """Draw ``code`` with the frames of ``source``, which it was made from; see :func:`draw_code`.

    Frames are read forwards and one chunk at a time. Raises InputError where a frame of the code is not there.
    """
    times = [seconds for segment in code for seconds in segment.pts]
    return draw_code(code, source.frames(FrameSampling.at_times(times), code.plan.size, progress=progress), width)


def draw_code(code: VisualCode, frames: Iterable[Frames], width: int = 1600) -> Image.Image:
    """Draw the tokens of a code over time, and below what the model sees, as it reads it: from left to right.

    Each panel is a whole picture and the small ones that follow it, to one scale, with the time that the model reads
    above and the tokens below. A pair of frames with common tokens is cut along its diagonal, the earlier frame on
    the left; tokens that pruning dropped are grey.

    Args:
        code: what is drawn.
        frames: chunks that hold the frames of the code, at the size of its plan.
        width: of the picture in pixels; 900 or more.
    Returns:
        An RGB picture, as high as it takes.
    Raises:
        InputError: a frame of the code is not among ``frames``.
    """
    layout = fitting_layout(code, width)
    canvas = Canvas(width, layout.height)
    draw_heading(canvas, code)
    draw_bars(canvas, code)
    for panel in layout.panels:
        canvas.rectangle(
            panel.left, panel.top, panel.left + panel.width, panel.top + panel.height, fill=PANEL, radius=6
        )
        draw_panel_labels(canvas, layout, panel)
    draw_pictures(canvas, layout, frames)
    draw_legend(canvas, code)
    return canvas.finish()


def draw_heading(canvas: Canvas, code: VisualCode) -> None:
    totals, spent = code.plan.totals, code.token_count
    every, pairs = totals["rgb_per_frame"], totals["rgb_paired"]
    caption = (
        f"{100 * spent / every:.0f} % of {grouped(every)} (every frame whole), "
        f"{100 * spent / pairs:.0f} % of {grouped(pairs)} (native frame pairs)"
    )
    right = canvas.width - MARGIN
    headline = f"{grouped(spent)} visual tokens, {grouped(code.prompt_tokens)} in the prompt"
    canvas.text(right, 22, headline, 26, anchor="ra")
    canvas.text(right, 58, caption, 14, MUTED, anchor="ra")
    room = right - MARGIN - text_width(caption, 14) - 30
    kinds = [segment.kind for segment in code]
    counts = [(kinds.count("I"), "I"), (kinds.count("P"), "P"), (kinds.count("pair"), "pairs")]
    facts = " + ".join(f"{count} {kind}" for count, kind in counts if count)
    facts += f"   {code.mode}, {code.plan.size[1]} x {code.plan.size[0]} pixels"
    if pruned := sum(segment.grid[0] * segment.grid[1] for segment in code) - spent:
        facts += f", {grouped(pruned)} tokens {'pruned' if MODES[code.mode].prunable else 'not repeated'}"
    canvas.text(MARGIN, 22, shortened(code.name, 26, room), 26)
    canvas.text(MARGIN, 58, shortened(facts, 14, room), 14, MUTED)


def draw_bars(canvas: Canvas, code: VisualCode) -> None:
    """The tokens of each segment over the time that it covers; what a budget dropped lies grey on the axis."""
    plan, bottom = code.plan, TOP_BARS + BARS_HEIGHT
    scale = TimeScale(plan.pts, BARS_LEFT, canvas.width - MARGIN)
    edges = scale.x(scale.edges)
    highest = 1.08 * max(len(segment) for segment in code)
    canvas.rectangle(BARS_LEFT, TOP_BARS, canvas.width - MARGIN, bottom, fill=PANEL)
    canvas.text(BARS_LEFT - 10, TOP_BARS - 12, "tokens", 13, MUTED, anchor="rm")
    canvas.text(BARS_LEFT, TOP_BARS - 12, "spent on each moment", 13, MUTED, anchor="lm")
    step = round_step(highest, 3)
    for tick in np.arange(step, highest, step):
        y = bottom - tick / highest * BARS_HEIGHT
        canvas.line([(BARS_LEFT, y), (canvas.width - MARGIN, y)], GRID)
        canvas.text(BARS_LEFT - 10, y, short_number(tick), 12, MUTED, anchor="rm")
    for position in np.flatnonzero(~plan.keep).tolist():
        canvas.rectangle(edges[position], bottom - 6, edges[position + 1], bottom, fill=DROPPED)
    for segment in code:
        first, last = np.searchsorted(plan.index, (segment.index[0], segment.index[-1]))
        left, right = edges[first], edges[last + 1]
        gap = 1.0 if right - left >= 4 else 0.0
        top = bottom - max(len(segment) / highest * BARS_HEIGHT, 1.5)
        canvas.rectangle(left, top, max(right - gap, left + 1.0), bottom, fill=COLOURS[segment.kind])
    step = time_step(scale.end - scale.start, int((scale.right - scale.left) // 90))
    for tick in np.arange(np.ceil(scale.start / step) * step, scale.end + step * 1e-6, step):
        x = float(scale.x(tick))
        canvas.line([(x, bottom), (x, bottom + 5)], MUTED)
        anchor = "ra" if x > scale.right - 24 else "ma"
        canvas.text(x, bottom + 8, clock_text(float(tick), step), 13, MUTED, anchor=anchor)


def draw_panel_labels(canvas: Canvas, layout: Layout, panel: Panel) -> None:
    """Above each picture its stamp, where the model reads the time, and its tokens; below, the colour of its kind.

    What does not fit above a small picture is left out.
    """
    for slot in panel.slots:
        segment, cell = slot.segment, layout.cell
        right, bottom = slot.left + segment.grid[1] * cell, slot.top + segment.grid[0] * cell
        canvas.rectangle(slot.left, bottom, right, bottom + STRIP, fill=COLOURS[segment.kind])
        if slot.whole:
            draw_whole_labels(canvas, layout.code, slot, right)
        elif layout.labelled:
            time, count = f"{segment.time:.1f} s" if segment.stamped else "", str(len(segment))
            canvas.text(slot.left, slot.top - 3, time, SMALL_TEXT, MUTED, anchor="ls")
            if text_width(f"{time}  {count}", SMALL_TEXT) <= right - slot.left:
                canvas.text(right, slot.top - 3, count, SMALL_TEXT, COLOURS[segment.kind], anchor="rs")


def draw_whole_labels(canvas: Canvas, code: VisualCode, slot: Slot, right: float) -> None:
    """Stamp, reason and tokens of a whole picture that ends at ``right``, as much as fits above it."""
    segment, x, y = slot.segment, slot.left, slot.top - 6
    cells, kept = segment.grid[0] * segment.grid[1], len(segment)
    if segment.stamped:
        stamp = next(fitting((f"<{segment.time:.1f} seconds>", f"{segment.time:.1f} s"), 12, right - x), "")
        canvas.text(x, y, stamp, 12, TEXT, anchor="ls")
        x += text_width(stamp, 12) + 8
    words = (f"{kept} tokens", f"{kept}") if kept == cells else (f"{kept} of {cells} tokens", f"{kept} / {cells}")
    tokens = next(fitting(words, 12, right - x), "")
    canvas.text(right, y, tokens, 12, COLOURS[segment.kind], anchor="rs")
    position = int(np.searchsorted(code.plan.index, segment.index[0]))
    if segment.kind == "I" and code.plan.kind[position] == I:
        room = right - x - text_width(tokens, 12) - 8
        canvas.text(x, y, next(fitting((code.plan.why[position],), 12, room), ""), 12, MUTED, anchor="ls")


def fitting(words: Iterable[str], size: float, width: float):
    """Those of ``words`` that are no wider than ``width`` pixels."""
    return (word for word in words if text_width(word, size) <= width)


def draw_pictures(canvas: Canvas, layout: Layout, frames: Iterable[Frames]) -> None:
    waiting = {index: slot for panel in layout.panels for slot in panel.slots for index in slot.segment.index}
    first_of_pair: dict[int, np.ndarray] = {}
    for chunk in frames:
        for index, rgb in zip(chunk.index.tolist(), chunk.rgb, strict=True):
            slot = waiting.pop(index, None)
            if slot is None:
                continue
            segment = slot.segment
            seen = shrink(rgb[None], (CELL * segment.grid[0], CELL * segment.grid[1]))[0]
            if index != segment.index[-1]:
                first_of_pair[segment.index[-1]] = seen
                continue
            draw_picture(canvas, layout.cell, slot, seen, first_of_pair.pop(index, None))
    if waiting:
        name = layout.code.name
        raise InputError(
            f"frame {min(waiting)} of the code of {name} is not in this video; connect the one that was encoded"
        )


def draw_picture(canvas: Canvas, cell: int, slot: Slot, seen: np.ndarray, before: np.ndarray | None) -> None:
    """One segment's picture ``seen`` [H, W, 3], with ``before`` in its upper left half."""
    segment = slot.segment
    wide, high = segment.grid[1] * cell, segment.grid[0] * cell
    if before is not None:
        down, across = np.ogrid[: seen.shape[0], : seen.shape[1]]
        earlier = down / seen.shape[0] + across / seen.shape[1] < 1
        seen = np.where(earlier[..., None], before, seen)
    canvas.image(Image.fromarray(with_pruned_cells(seen, segment)), slot.left, slot.top, wide, high)
    if before is not None:
        canvas.line([(slot.left, slot.top + high), (slot.left + wide, slot.top)], BACKGROUND, 1.5)


def with_pruned_cells(seen: np.ndarray, segment: Segment) -> np.ndarray:
    """``seen`` uint8 [H, W, 3] with the cells that hold no token any more in dark grey."""
    pruned = np.ones(segment.grid, bool)
    pruned.flat[segment.cell.cpu().numpy()] = False
    pruned = pruned.repeat(CELL, 0).repeat(CELL, 1)
    shade = 0.22 * seen.mean(-1, keepdims=True) + 0.78 * np.array(PANEL)
    return np.where(pruned[..., None], shade, seen).astype(np.uint8)


def draw_legend(canvas: Canvas, code: VisualCode) -> None:
    x, y = MARGIN, canvas.height - 34
    kinds = {segment.kind for segment in code}
    entries = [(COLOURS["I"], "I: a whole picture")] if "I" in kinds else []
    if "P" in kinds:
        entries.append((COLOURS["P"], f"P: {MODES[code.mode].predicted}"))
    if "pair" in kinds:
        entries.append((COLOURS["pair"], "two frames with common tokens"))
    if any(len(segment) < segment.grid[0] * segment.grid[1] for segment in code):
        left_out = "pruned" if MODES[code.mode].prunable else "as it was sent before"
        entries.append((tuple((78 * channel + 22 * 128) // 100 for channel in PANEL), left_out))
    if not code.plan.keep.all():
        entries.append((DROPPED, "dropped for the budget"))
    for colour, label in entries:
        canvas.rectangle(x, y, x + 14, y + 14, fill=colour, radius=3)
        canvas.text(x + 22, y + 7, label, 13, TEXT, anchor="lm")
        x += 22 + text_width(label, 13) + 30
    note = "above a picture: the time that the model reads before it, and its tokens"
    canvas.text(x, y + 7, note, 13, MUTED, anchor="lm")
    x += text_width(note, 13) + 30
    if code.warnings:
        room = canvas.width - MARGIN - x
        canvas.text(canvas.width - MARGIN, y + 7, shortened("; ".join(code.warnings), 13, room), 13, GAMMA, anchor="rm")
