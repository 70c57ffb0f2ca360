"""How each mode turns a plan into groups of tokens: which frames are shown together, how large, and with what stamp."""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..video.gop import GopPlan, I
from ..video.tokens import thumbnail_size

MODES = ("rgb", "keyframes", "thumbnail")
STAMPS = ("every", "whole", "second")


@dataclass(frozen=True, slots=True)
class Group:
    """Frames that share one set of visual tokens.

    Attributes:
        kind: 'I', 'P' or 'pair'.
        frames: positions in the plan: one for a still, two for a pair (twice the same where a pair lacks its second).
        size: (H, W) in pixels at which the vision encoder sees them.
        stamped: whether the time is written before the tokens.
    """

    kind: str
    frames: tuple[int, ...]
    size: tuple[int, int]
    stamped: bool

    @property
    def tokens(self) -> int:
        return (self.size[0] // 32) * (self.size[1] // 32)


def group_frames(plan: GopPlan, mode: str, *, stamps: str = "every", pair_thumbnails: bool = False) -> list[Group]:
    """Return the groups of a plan's kept frames in order of time.

    ``rgb`` is Qwen3-VL's own video path: neighbouring frames in pairs, an odd last one paired with itself.
    ``keyframes`` shows the I frames as stills. ``thumbnail`` adds each P frame as a small still (AdaCodec, table 5),
    or, with ``pair_thumbnails``, neighbouring P frames of a GOP as one small pair.

    ``stamps`` says where times are written: before 'every' group, before 'whole' pictures only (I frames and full-size
    pairs), or before the first group of each 'second'.

    Raises:
        InputError: the mode or the stamps are none of these, or the plan keeps no frame.
    """
    if mode not in MODES:
        raise InputError(f"The mode is '{mode}'; it must be one of {', '.join(MODES)}.")
    if stamps not in STAMPS:
        raise InputError(f"The stamps are '{stamps}'; they must be one of {', '.join(STAMPS)}.")
    kept = np.flatnonzero(plan.keep)
    if not len(kept):
        raise InputError("The plan keeps no frame; give it a larger budget.")
    if mode == "rgb":
        return _stamp(plan, [("pair", pair, plan.size) for pair in _pairs(kept.tolist())], mode, stamps)
    small = thumbnail_size(plan.size)
    found = []
    for run in _runs(plan, kept):
        # Only the first run of a stream's continuation opens with a P frame: its I frame came before.
        whole = int(plan.kind[run[0]] == I)
        found += [("I", (frame,), plan.size) for frame in run[:whole]]
        if mode == "thumbnail" and pair_thumbnails:
            found += [("pair", pair, small) for pair in _pairs(run[whole:])]
        elif mode == "thumbnail":
            found += [("P", (frame,), small) for frame in run[whole:]]
    return _stamp(plan, found, mode, stamps)


def _runs(plan: GopPlan, kept: np.ndarray) -> list[list[int]]:
    """Neighbouring kept frames, broken at every gap and before every I frame."""
    breaks = (np.diff(kept) > 1) | (plan.kind[kept[1:]] == I)
    return [run.tolist() for run in np.split(kept, np.flatnonzero(breaks) + 1)]


def _pairs(run: list[int]) -> list[tuple[int, int]]:
    return [(run[i], run[min(i + 1, len(run) - 1)]) for i in range(0, len(run), 2)]


def _stamp(plan: GopPlan, found, mode: str, stamps: str) -> list[Group]:
    groups, last_second = [], None
    for kind, frames, size in found:
        second = int((plan.pts[frames[0]] + plan.pts[frames[-1]]) / 2)
        whole = kind == "I" or mode == "rgb"
        stamped = {"every": True, "whole": whole, "second": second != last_second}[stamps]
        last_second = second
        groups.append(Group(kind, frames, size, stamped))
    return groups
