"""Groups: frames that are shown together, how large, and with what stamp."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import InputError
from ...source.sampling import CELL
from ...video.gop import GopPlan, I

STAMPS = ("every", "whole", "second")


@dataclass(frozen=True, slots=True)
class Group:
    """Frames with one set of visual tokens in common.

    Attributes:
        kind: 'I', 'P' or 'pair'.
        frames: positions in the plan: one for a still, two for a pair (twice the same where a pair lacks its second).
        size: (H, W) in pixels at which the vision tower sees them.
        time: seconds written before the tokens: the mean of the first and the last frame.
        stamped: whether it is written.
        tokens: visual tokens, before any pruning.
        cells: (rows, columns) of its tokens, where they are none of a picture's.
    """

    kind: str
    frames: tuple[int, ...]
    size: tuple[int, int]
    time: float
    stamped: bool
    tokens: int
    cells: tuple[int, int] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of its tokens: of a picture the merged tokens that the tower gives."""
        return self.cells or (self.size[0] // CELL, self.size[1] // CELL)

    @property
    def patches(self) -> int:
        """Patches of 16 x 16 pixels that are read for it."""
        return 4 * (self.size[0] // CELL) * (self.size[1] // CELL)


def make_groups(
    plan: GopPlan, shown: Iterable[tuple[str, tuple[int, ...], tuple[int, int], int]], stamps: str
) -> list[Group]:
    """The groups of ``shown``: (kind, frames, size, tokens) in order of time, stamped as :func:`stamp_groups` does."""
    groups = []
    for kind, frames, size, tokens in shown:
        time = float(plan.pts[frames[0]] + plan.pts[frames[-1]]) / 2
        groups.append(Group(kind, tuple(frames), tuple(size), time, False, tokens))
    return stamp_groups(groups, plan, stamps)


def stamp_groups(groups: Iterable[Group], plan: GopPlan, stamps: str) -> list[Group]:
    """The groups with times before 'every' one, before 'whole' pictures, or before the first of each 'second'.

    Raises:
        InputError: ``stamps`` is none of these.
    """
    if stamps not in STAMPS:
        raise InputError(f"the stamps are '{stamps}'; they must be one of {', '.join(STAMPS)}")
    stamped, last_second = [], None
    for group in groups:
        whole = group.size == tuple(plan.size) and group.kind != "P"
        written = {"every": True, "whole": whole, "second": int(group.time) != last_second}[stamps]
        last_second = int(group.time)
        stamped.append(replace(group, stamped=written))
    return stamped


def kept_frames(plan: GopPlan) -> np.ndarray:
    """Positions of the kept frames. Raises InputError where there is none."""
    kept = np.flatnonzero(plan.keep)
    if not len(kept):
        raise InputError("the plan keeps no frame; give it a larger budget")
    return kept


def kept_stretches(plan: GopPlan) -> list[list[int]]:
    """Kept frames, broken at every gap."""
    kept = kept_frames(plan)
    return [run.tolist() for run in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1)]


def kept_gops(plan: GopPlan) -> list[tuple[list[int], list[int]]]:
    """(I frame, P frames) of each stretch of kept frames, broken at every gap and before every I frame.

    Only the first stretch of a stream's continuation opens with a P frame: its I frame came before, so it has none.
    """
    kept = kept_frames(plan)
    breaks = (np.diff(kept) > 1) | (plan.kind[kept[1:]] == I)
    stretches = [run.tolist() for run in np.split(kept, np.flatnonzero(breaks) + 1)]
    opened = [int(plan.kind[run[0]] == I) for run in stretches]
    return [(run[:whole], run[whole:]) for run, whole in zip(stretches, opened, strict=True)]


def in_pairs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours two by two; an odd last one with itself."""
    return [(frames[i], frames[min(i + 1, len(frames) - 1)]) for i in range(0, len(frames), 2)]
