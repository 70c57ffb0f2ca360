"""Answers that name a time or a frame lead back to frames of the source."""

from dataclasses import replace

import pytest
import torch
from codeclens.models.code.answers import find_mentions
from codeclens.models.code.visual_code import Segment, VisualCode, grid_positions
from codeclens.models.video.planning import plan_from_costs


def still(number, seconds):
    return Segment(
        "I", (number,), (seconds,), True, (1, 1), grid_positions((1, 1)), torch.zeros(1, 4), torch.zeros(3, 1, 4)
    )


@pytest.fixture(scope="module")
def code():
    """A frame every half second up to 70 seconds of a 24 fps source."""
    segments = tuple(still(12 * i, i / 2) for i in range(141))
    return VisualCode(segments, "keyframes", "clip", "", plan_from_costs([0.0] * 141))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The fox jumps at 3.5 seconds.", [(84,)]),
        ("It happens 3.4s in", [(84,)]),
        ("<12.0 seconds> the light goes out", [(288,)]),
        ("from 2 to 4.5 seconds it turns", [(48, 108)]),
        ("2.0 - 4.5 seconds: it turns\n4.5 - 6.0 seconds: it stops", [(48, 108), (108, 144)]),
        ("Between 2.0 seconds and 4.5 seconds", [(48, 108)]),
        ("0:03 a car; 1:05.5 another", [(72,), (1572,)]),
        ("00:10 - 00:20", [(240, 480)]),
        ("Look at frame 50", [(48,)]),
        ("frames 48 to 60", [(48, 60)]),
        ('[{"start": 1, "end": 2.5, "event": "x"}]', [(24, 60)]),
        ("There are 3 cars and 2 people", []),
        ("It ends at 300 seconds", []),
        ("see frame 99999", []),
        ("version 1.2.3", []),
    ],
)
def test_mentions(code, text, expected):
    assert [mention.frames for mention in find_mentions(text, code)] == expected


def test_a_mention_keeps_the_words_and_the_seconds(code):
    (mention,) = find_mentions("It stops after 4.5 seconds.", code)
    assert (mention.text, mention.seconds) == ("4.5 seconds", (4.5,))
    (mention,) = find_mentions("Frame 24 shows it.", code)
    assert (mention.frames, mention.seconds) == ((24,), (1.0,))


@pytest.mark.parametrize(("seconds", "frames"), [("70.04", [(1680,)]), ("70.06", []), ("9.96", [(240,)]), ("9.94", [])])
def test_times_may_be_rounded_beyond_the_ends_but_not_more(code, seconds, frames):
    """The model writes tenths of a second, so a time up to 0.05 s outside the code is the nearest end's."""
    later = replace(code, segments=code.segments[20:])
    assert [mention.frames for mention in find_mentions(f"It stops at {seconds} seconds.", later)] == frames
