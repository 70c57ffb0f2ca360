"""Times and frames that an answer names, turned back into frames of the source."""

import re
from dataclasses import dataclass

from .visual_code import VisualCode

CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?(?:\.\d+)?"
NUMBER = r"\d+(?:\.\d+)?"
TO = r"\s*(?:-|\u2013|\u2014|to|until|and)\s*"
SECONDS = r"\s*(?:seconds?|secs?|s)\b"
MENTION = re.compile(
    rf"(?P<clock>{CLOCK})(?:{TO}(?P<clock_end>{CLOCK}))?"
    rf"|frames?\s*#?(?P<frame>\d+)(?:{TO}(?:frame\s*)?(?P<frame_end>\d+))?"
    rf"|(?<![\d.])(?P<time>{NUMBER})(?:{SECONDS})?{TO}(?P<time_end>{NUMBER}){SECONDS}"
    rf"|(?<![\d.])(?P<moment>{NUMBER}){SECONDS}"
    rf"|[\"']?start[\"']?\s*[:=]\s*(?P<start>{NUMBER})\s*,\s*[\"']?end[\"']?\s*[:=]\s*(?P<end>{NUMBER})",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Mention:
    """A time or a frame that a text names.

    Attributes:
        text: the words.
        frames: source frames of the code that are nearest: one for a moment, first and last for a span.
        seconds: the times named; for a frame number, that frame's time.
    """

    text: str
    frames: tuple[int, ...]
    seconds: tuple[float, ...]


def find_mentions(text: str, code: VisualCode) -> list[Mention]:
    """Return the moments, spans and frame numbers that ``text`` names, in order.

    Understood are '3.5 seconds', '3.5s', '2 - 4.5 seconds', '0:03', '1:02:03.5', 'frame 48', 'frames 48 to 60' and
    JSON's "start": 2, "end": 4.5. Frame numbers are the source's. What lies outside the code's time is left out: the
    model made it up.
    """
    first, last = code.segments[0].pts[0], code.segments[-1].pts[-1]
    times = {index: pts for s in code for index, pts in zip(s.index, s.pts, strict=True)}
    mentions = []
    for match in MENTION.finditer(text):
        found = {name: value for name, value in match.groupdict().items() if value is not None}
        if "frame" in found:
            numbers = [int(value) for value in found.values()]
            if not all(min(times) <= number <= max(times) for number in numbers):
                continue
            frames = [min(times, key=lambda index, number=number: abs(index - number)) for number in numbers]
            seconds = [times[frame] for frame in frames]
        else:
            seconds = [_seconds(value) for value in found.values()]
            # The model rounds times to a tenth, so the last frame may be named a little late.
            if not all(first - 0.05 <= moment <= last + 0.05 for moment in seconds):
                continue
            frames = [code.nearest(moment) for moment in seconds]
        mentions.append(Mention(match.group(), tuple(frames), tuple(seconds)))
    return mentions


def _seconds(value: str) -> float:
    total = 0.0
    for part in value.split(":"):
        total = 60 * total + float(part)
    return total
