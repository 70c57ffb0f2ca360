"""The shots between the cuts of a video, as frame numbers and as seconds."""

from dataclasses import dataclass

import numpy as np

from ..source.reading import VideoSource
from .cuts import Cuts, shortest_shot


@dataclass(frozen=True, slots=True)
class Shot:
    """Consecutive frames without a cut between them.

    Attributes:
        first, last: frame numbers in the source, both included.
        start: presentation time of the first frame in seconds.
        end: seconds at which the next shot starts, or at which the last frame of the trim window leaves the screen.
    """

    first: int
    last: int
    start: float
    end: float


def shots(source: VideoSource, cuts: Cuts, shortest: float = 0.0, at_spans: bool = False) -> list[Shot]:
    """The shots in the trim window of ``source``, in order; together they cover it once.

    Args:
        cuts: what ``find_cuts`` found in the same source.
        shortest: seconds; a shot that would be shorter is joined to a neighbour.
        at_spans: also split in the middle of each fade and dissolve.
    """
    timeline = source.timeline()
    first, last = source.window()
    middles = [(span.first + span.last + 1) // 2 for span in cuts.spans] if at_spans else []
    starts = [first, *sorted({number for number in (*cuts.cuts, *middles) if first < number <= last})]
    after = timeline.pts[last + 1] if last + 1 < len(timeline.pts) else timeline.end
    end = min(float(after), source.start + source.duration) if source.duration else float(after)
    kept: list[int] = []
    for number in starts:
        if not kept or timeline.pts[number] - timeline.pts[kept[-1]] >= shortest:
            kept.append(number)
    if len(kept) > 1 and end - timeline.pts[kept[-1]] < shortest:
        kept.pop()
    times = [*(float(timeline.pts[number]) for number in kept), end]
    lasts = [*(number - 1 for number in kept[1:]), last]
    return [Shot(*shot) for shot in zip(kept, lasts, times[:-1], times[1:], strict=True)]


def cut_times(source: VideoSource, cuts: Cuts) -> tuple[list[float], list[tuple[str, float, float]]]:
    """The hard cuts in seconds, and (kind, first, last) of each fade and dissolve with its ends in seconds."""
    pts = source.timeline().pts
    spans = [(span.kind.replace("_", " "), float(pts[span.first]), float(pts[span.last])) for span in cuts.spans]
    return pts[np.array(cuts.cuts, np.int64)].tolist(), spans


def cuts_in_words(source: VideoSource, cuts: Cuts) -> str:
    """A heading, and a line for each cut, fade, dissolve and wipe with its seconds and frame number."""
    times, spans = cut_times(source, cuts)
    rows = [(seconds, number, "cut") for seconds, number in zip(times, cuts.cuts, strict=True)]
    for (kind, first, last), span in zip(spans, cuts.spans, strict=True):
        rows.append((first, span.first, f"{kind} until {last:.2f} s, frame {span.last}"))
    shortest = f"shots from {shortest_shot(source.info.fps):.2g} s on"
    hard = f"{len(times)} hard cut{'s' * (len(times) != 1)}"
    lines = [f"{source.info.name}: {hard}, {len(spans)} fades, dissolves or wipes ({shortest})"]
    lines += [f"{seconds:9.2f} s  frame {number:<7} {words}" for seconds, number, words in sorted(rows)]
    return "\n".join(lines)
