"""Where a video needs a whole picture and where a change is enough: the GOP plan."""

from dataclasses import dataclass

import numpy as np

P, I = 0, 1  # noqa: E741 - the field's names


@dataclass(frozen=True, slots=True)
class GopPlan:
    """A decision for each of T sampled frames.

    Attributes:
        kind: uint8 [T], 1 where the frame is a whole picture (I), 0 where it is predicted (P).
        why: T strings, '' for P, else the reason of the I: 'first', 'cost', 'cap', 'cut', 'budget', 'user', 'slice'.
        keep: bool [T], False where a budget dropped the frame's GOP.
        pcost: float64 [T], prediction cost (NaN where there is no reference).
        index: int64 [T], frame numbers in the source.
        pts: float64 [T], presentation times in seconds.
        size: (H, W) in pixels of an I frame as the model will see it.
        gamma: the threshold on pcost that was used; NaN for policies that use none.
        policy: 'adaptive', 'fixed', 'budget', 'frames' or 'streaming'.
        mode: the mode whose token counts fill ``tokens``.
        tokens: int32 [T], visual tokens of each frame in ``mode``; 0 where not kept.
        source: where the costs came from: 'search', 'bitstream' or 'costs'.
        warnings: sentences the user should read.
    """

    kind: np.ndarray
    why: tuple[str, ...]
    keep: np.ndarray
    pcost: np.ndarray
    index: np.ndarray
    pts: np.ndarray
    size: tuple[int, int]
    gamma: float
    policy: str
    mode: str
    tokens: np.ndarray
    source: str = "search"
    warnings: tuple[str, ...] = ()
