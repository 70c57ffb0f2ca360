"""From the time stamps of packets to the order in which their frames are shown, and when."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BACKWARDS = 0.5
"""Seconds by which decoding times must go back for the clock to have started anew."""

FORWARDS = 10.0
"""Seconds of a leap ahead that a file joined from two may hold; players close such a gap as well."""


@dataclass(frozen=True, slots=True)
class Stamps:
    """What a container says of its P packets, in the order in which they are stored.

    Attributes:
        pts, dts: float64 [P] presentation and decoding times in units of the time base, NaN where there is none.
        shown: bool [P], False where the packet's frame is not shown.
        key: bool [P], the container's mark of a key frame.
        reorders: True where frames may be shown in another order than they are stored in.
        b_last: bool [P], True for the B frames of a codec in which all others are shown in the order in which they are
            stored, each after the B frames that follow it (MPEG-1, 2 and 4 part 2); None for other codecs.
        dts_only: True for containers that store no presentation times, so that FFmpeg guesses them (AVI, ASF).
    """

    pts: np.ndarray
    dts: np.ndarray
    shown: np.ndarray
    key: np.ndarray
    reorders: bool
    b_last: np.ndarray | None
    dts_only: bool


@dataclass(frozen=True, slots=True)
class Clock:
    """Order and times of the N frames that are shown.

    Attributes:
        number: int64 [P], the frame that each packet decodes to, -1 where it shows nothing. Where ``counted``, frame n
            is the n-th that the decoder gives, and the numbers only say how many there are.
        seconds: float64 [N], ascending.
        counted: True where the packets do not tell in which order their frames are shown.
        seams: int64, numbers of the frames with which the clock starts anew.
    """

    number: np.ndarray
    seconds: np.ndarray
    counted: bool
    seams: np.ndarray


def read_clock(stamps: Stamps, time_base, rate: float, breaks_off: Callable[[], bool]) -> Clock:
    """Number the shown frames and give them times in seconds, the source's own as far as it has any.

    Presentation times that only ascend in a stream with B frames are decoding times under another name: the frames then
    have these times in the order in which they are decoded. Where the clock starts anew, or leaps ahead between two
    files that were joined, later frames go on one frame after the last one. A frame at the time of another is moved
    after it by one tick. Frames without times are spread evenly.

    Args:
        stamps: of all packets.
        time_base: seconds of one unit.
        rate: frames per second, for those without times.
        breaks_off: asked when times leap ahead: True where the data breaks off somewhere.
    """
    at = np.flatnonzero(stamps.shown)
    number = np.full(len(stamps.shown), -1, np.int64)
    part = _parts(stamps, time_base, breaks_off)[at]
    pts, dts = stamps.pts[at], stamps.dts[at]
    if stamps.dts_only and stamps.reorders and stamps.b_last is not None:
        pts = _after_b_frames(dts, stamps.b_last[at])
        guessed = False
    else:
        guessed = stamps.reorders and (stamps.dts_only or bool(np.all((np.diff(pts) > 0) | (np.diff(part) > 0))))
    counted = bool(np.isnan(pts).any()) or guessed
    step = 1 / (rate * float(time_base))
    ticks = _slots(pts, dts, stamps.dts_only, step) if counted else pts
    order = np.lexsort((ticks, part))
    number[at if counted else at[order]] = np.arange(len(at))
    ticks, part = ticks[order], part[order]
    seams = np.flatnonzero(np.diff(part)) + 1
    ticks = _apart(_continued(ticks, seams, step))
    # Multiplied before dividing: 19 / 10 and not 19 * 0.1.
    return Clock(number, ticks * float(time_base.numerator) / time_base.denominator, counted, seams)


def _parts(stamps: Stamps, time_base, breaks_off) -> np.ndarray:
    """int64 [P]: 0 up to the first packet at which the clock starts anew, then 1, ..."""
    known = np.flatnonzero(~np.isnan(stamps.dts))
    steps = np.diff(stamps.dts[known]) * float(time_base)
    restart = steps < -BACKWARDS
    leap = (steps > FORWARDS) & stamps.key[known[1:]]
    if leap.any() and breaks_off():
        restart |= leap
    part = np.zeros(len(stamps.dts), np.int64)
    part[known[1:][restart]] = 1
    return np.cumsum(part)


def _after_b_frames(dts: np.ndarray, b_frame: np.ndarray) -> np.ndarray:
    """Presentation times, which are the decoding times in another order."""
    shown, waiting = [], []
    for position, now in enumerate(b_frame):
        if not now:
            shown += waiting
            waiting = []
        (shown if now else waiting).append(position)
    pts = np.empty_like(dts)
    pts[np.array(shown + waiting, np.int64)] = np.sort(dts)
    return pts


def _slots(pts: np.ndarray, dts: np.ndarray, dts_only: bool, step: float) -> np.ndarray:
    """A time for each frame, whichever frame it is; unknown ones evenly between known ones, before or after them."""
    for times in (dts, pts) if dts_only else (pts, dts):
        known = np.flatnonzero(~np.isnan(times))
        if 2 * len(known) > len(times):
            whole = np.interp(np.arange(len(times)), known, times[known])
            whole[: known[0]] -= step * np.arange(known[0], 0, -1)
            whole[known[-1] :] += step * np.arange(len(times) - known[-1])
            return whole
    return np.arange(len(pts)) * step


def _continued(ticks: np.ndarray, seams: np.ndarray, step: float) -> np.ndarray:
    """``ticks`` with every part moved so that it continues one step after the part before it."""
    ticks = ticks.copy()
    for seam in seams:
        ticks[seam:] += ticks[seam - 1] + round(step) - ticks[seam]
    return ticks


def _apart(ticks: np.ndarray) -> np.ndarray:
    """``ticks`` (ascending) with equal ones moved apart: by one each, by less where the next one is near."""
    ticks = ticks.copy()
    unlike = np.flatnonzero(np.diff(ticks, prepend=-np.inf) > 0)
    for begin, end in zip(unlike, [*unlike[1:], len(ticks)], strict=True):
        if end - begin > 1:
            room = ticks[end] - ticks[begin] if end < len(ticks) else np.inf
            ticks[begin:end] += np.arange(end - begin) * min(1.0, room / (end - begin + 1))
    return ticks
