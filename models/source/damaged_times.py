"""Time stamps that are damaged, not only odd: found by those around them, and mended from these."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from .clocks import FORWARDS, Stamps

LONGEST_RUN = 256
"""Packets in a row whose times left the line together: a cluster of Matroska, which share one time."""

SPARE_ROOM = 8
"""Packets that may lack beside such a run."""

DEEPEST_ORDER = 16
"""Packets after which decoding times have passed every earlier presentation time (H.264 and HEVC allow 16 pictures)."""

LONGEST_LOSS = 3600.0
"""Seconds that a file without a stated duration is believed to have lost at once."""


def mend_times(
    stamps: Stamps, time_base, duration: float | None, breaks_off: Callable[[], bool]
) -> tuple[Stamps, int | None]:
    """The stamps without damage, and the first packet whose times were damaged (None where none were).

    Decoding times that leave the line and come back to it are moved onto it, and presentation times with them. The
    rest only where the data breaks off, since recordings pause: a presentation time that no later decoding time
    reaches becomes unknown, and a leap ahead between key frames is closed if it is longer than a loss can be.

    Args:
        stamps: of all packets.
        time_base: seconds of one unit.
        duration: seconds by the header of a file whose clock begins at zero, None where it states none.
        breaks_off: True where the data breaks off somewhere; asked only when times leap.
    """
    known = np.flatnonzero(~np.isnan(stamps.dts))
    if len(known) < 4:
        return stamps, None
    pts, dts, unit, damaged = stamps.pts[known], stamps.dts[known], float(time_base), []
    step = float(np.median(np.abs(np.diff(dts))))
    for begin, end, shift in _excursions(dts, step):
        run = slice(begin, end)
        dts[run] += shift
        moved = np.abs(pts[run] + shift - dts[run]) < np.abs(pts[run] - dts[run])
        pts[run] += np.where(moved, shift, 0.0)
        damaged.append(begin)

    ahead = np.lib.stride_tricks.sliding_window_view(np.pad(dts, (0, DEEPEST_ORDER), "edge"), DEEPEST_ORDER + 1)
    unreached = np.flatnonzero((pts - ahead.max(1)) * unit > FORWARDS)
    leaps = 1 + np.flatnonzero((np.diff(dts) * unit > FORWARDS) & ~stamps.key[known[1:]])
    longest = dts[leaps - 1] * unit + LONGEST_LOSS if duration is None else duration + FORWARDS
    leaps = leaps[dts[leaps] * unit > longest]
    if (len(unreached) or len(leaps)) and breaks_off():
        pts[unreached] = np.nan
        for leap in leaps:
            back = dts[leap] - dts[leap - 1] - step
            dts[leap:] -= back
            pts[leap:] -= back
        damaged += [*unreached, *leaps]
    if not damaged:
        return stamps, None
    whole = replace(stamps, pts=stamps.pts.copy(), dts=stamps.dts.copy())
    whole.pts[known], whole.dts[known] = pts, dts
    return whole, int(known[min(damaged)])


def _excursions(times: np.ndarray, step: float) -> Iterator[tuple[int, int, float]]:
    """(first, one past the last, units to add) of each run far off a line in which it leaves just the room it needs.

    One of several files that were joined is such a run, too, but the others leave no room for it, or any.
    """
    for back in 1 + np.flatnonzero(np.diff(times) < 0):
        before = times[max(0, back - LONGEST_RUN) : back]
        low = len(before) - int(np.argmax(before[::-1] < times[back]))
        above = (back - len(before) + low, back)
        after = times[back : back + LONGEST_RUN]
        below = (back, back + int(np.argmax(after > times[back - 1])))
        for begin, end in (above, below):
            if not 0 < begin < end < len(times):
                continue
            gap, span = times[end] - times[begin - 1], np.ptp(times[begin:end])
            shift = times[begin - 1] + (gap - span) / 2 - times[begin:end].min()
            if span + step <= gap <= span + SPARE_ROOM * step and abs(shift) > 2 * step:
                yield begin, end, shift
                break
