"""Which cells of a video to send again: those that differ from what was last sent of the same cell.

The memory that differences are taken against is what the reader of the code has seen, not the frame before: a slow
change adds up until it is sent, and what moves away and comes back is not sent twice.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ...source.sampling import CELL

DETAIL = 8
"""Samples on a side by which a cell is compared: each is the mean of 4 x 4 pixels."""

SMALLEST = 1.0
"""Grey levels of mean difference below which a cell counts as unchanged, whatever the budget: it is noise."""

BISECTIONS = 24


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen.

    Attributes:
        kept: bool [G, cells], True where a cell of a group is sent.
        threshold: grey levels of mean difference above which a cell was sent.
        shown: float32 [cells, values], what was last sent of each cell.
    """

    kept: np.ndarray
    threshold: float
    shown: np.ndarray


def describe_cells(rgb: np.ndarray) -> np.ndarray:
    """Pictures uint8 [f, H, W, 3] as float32 [cells, values]: each cell's pixels, averaged over 4 x 4."""
    frames, height, width, _ = rgb.shape
    rows, columns, step = height // CELL, width // CELL, CELL // DETAIL
    small = rgb.reshape(frames, height // step, step, width // step, step, 3).mean((2, 4), dtype=np.float32)
    cells = small.reshape(frames, rows, DETAIL, columns, DETAIL, 3).transpose(1, 3, 0, 2, 4, 5)
    return cells.reshape(rows * columns, -1)


def send_changes(described: Sequence[np.ndarray], whole: Sequence[bool], threshold: float, shown=None) -> Selection:
    """Send each cell that differs from what was last sent of it by more than ``threshold``.

    Args:
        described: float32 [cells, values] of each group, in order of time.
        whole: which groups are sent whole.
        threshold: grey levels of mean absolute difference.
        shown: what was sent before the first group; None where that is nothing, and then the first is sent whole.
    """
    kept = np.zeros((len(described), len(described[0])), bool)
    shown = None if shown is None else shown.copy()
    for number, cells in enumerate(described):
        if shown is None or whole[number]:
            kept[number] = True
            shown = cells.copy()
            continue
        kept[number] = np.abs(cells - shown).mean(1) > threshold
        shown[kept[number]] = cells[kept[number]]
    return Selection(kept, threshold, shown)


def meet_budget(
    described: Sequence[np.ndarray],
    whole: Sequence[bool],
    budget: int,
    tokens: Callable[[np.ndarray], int],
    shown: np.ndarray | None = None,
) -> Selection:
    """The changes that fit a budget, the greatest first.

    The threshold is the lowest, down to :data:`SMALLEST`, that stays within the budget. What is left is spent on the
    cells that missed it by least, in groups that send something anyway. So the budget is met exactly, unless less has
    changed or the whole groups alone exceed it.

    Args:
        described, whole, shown: as in :func:`send_changes`.
        budget: tokens at most.
        tokens: what bool [G, cells] costs, with what groups cost beside their cells.
    """
    least = send_changes(described, whole, SMALLEST, shown)
    if tokens(least.kept) <= budget:
        return least
    low, high = SMALLEST, 256.0
    found = send_changes(described, whole, high, shown)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        tried = send_changes(described, whole, middle, shown)
        if tokens(tried.kept) <= budget:
            high, found = middle, tried
        else:
            low = middle
    return _spend_rest(found, described, budget - tokens(found.kept), shown)


def _spend_rest(found: Selection, described: Sequence[np.ndarray], rest: int, shown: np.ndarray | None) -> Selection:
    """Add the ``rest`` most changed of the cells that were not sent, in groups that send something."""
    missed = np.zeros(found.kept.shape, np.float32)
    memory = shown.copy() if shown is not None else np.zeros_like(described[0])
    for number, cells in enumerate(described):
        kept = found.kept[number]
        if kept.any():
            missed[number, ~kept] = np.abs(cells[~kept] - memory[~kept]).mean(1)
        memory[kept] = cells[kept]
    order = np.argsort(-missed, axis=None, kind="stable")[: max(0, rest)]
    kept = found.kept.copy()
    kept.flat[order[missed.flat[order] > SMALLEST]] = True
    return Selection(kept, found.threshold, found.shown)


def groups_with(kept: np.ndarray) -> Iterable[int]:
    """The groups that send something."""
    return np.flatnonzero(kept.any(1)).tolist()
