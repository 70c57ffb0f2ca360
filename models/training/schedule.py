"""What is taught when: the stages of a training, and those that the committed pair was given."""

from dataclasses import dataclass, replace

from ..synthetic.questions import KINDS
from .examples import CAPTION, Course
from .vision_targets import CellCourse


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    Attributes:
        rows: clips a step.
        course: what these are drawn from.
        tower: how fast the vision tower moves, as a share of what everything else does; it rests where 0.
        fall: steps at the end over which the learning rates fall to nothing; where it is longer than the stage, they
            begin lower.
    """

    steps: int
    rows: int
    course: Course | CellCourse
    tower: float = 1.0
    fall: int = 0


LOOKS = ("position", "shape", "pattern", "colour", "size", "existence", "count")
"""Kinds of question that one picture answers."""

SMALL = {(128, 128): 7, (96, 96): 1, (128, 160): 1, (160, 128): 1, (256, 256): 0.1}
"""Sizes of pictures; the largest takes as long as eight others."""

FORMS = {"rgb": 3, "keyframes": 3, "thumbnail": 3, "still": 0.5}
LIVELY = {"moving": 4, "camera": 1, "cuts": 1, "fault": 4}
EVENTFUL = {"stops": 3, "starts": 3, "appears": 3, "disappears": 3, "bounces": 2, "moves": 1, "still": 0.5}
FROZEN = {"freeze": 6, "duplicate": 1, "vanish": 1.5, "morph": 1.5, "jitter": 1.5, "flicker": 0.7}

EVERYTHING = Course(
    forms=FORMS, frames=(4, 12), look_fps=(2, 3, 4, 4, 6), questions=10,
    often={"direction": 2.0, "position": 1.5, "order": 3.0, "when": 1.5, "count": 2.0, "motion": 1.5, "fault": 3.0},
)  # fmt: skip
"""All kinds of clips in every mode; what is learned last is asked more often."""

LONG = Course(
    sizes=SMALL, forms=dict(FORMS, thumbnail=2), frames=(8, 24), look_fps=(3, 4, 4, 4, 6), questions=10,
    contents={"static": 0.5, "moving": 6, "camera": 1, "cuts": 3, "fault": 6},
    often={"direction": 3.0, "position": 2.0, "motion": 3.0, "order": 6.0, "when": 3.0, "count": 3.0, "fault": 8.0},
)  # fmt: skip
"""Clips of any length, and what takes many pictures."""


def default_stages() -> tuple[Stage, ...]:
    """What every cell shows, for the tower alone; for the text model, what things are, where one of them goes, where
    several go, everything in every mode; then what happens when, and which of two things first.

    What the tower does not tell, the text model does not learn in any reasonable time; what comes of comparing pictures
    it learns from short clips of few figures, the layers that have to know being told (:mod:`.changes`); and what is
    not asked for a few hundred steps is forgotten.

    These are the stages of the committed pair. They were chosen while it was trained, by what it answered on the
    validation split, and what it was told grew on the way: changes weighed a third as much up to step 3112, a seldom
    yes no more than a no up to 3621; which figures rest or have moved was told from 4771 on, how long ago something was
    from 5130, the time from 5567, what happens just now from 5814; when the events are that questions name from 6232 (a
    quarter as heavy up to 6401, a layer later from there to 6977), which of two is the later from 6978, and which one
    an answer names from 7385 (from 7226 to there, when that one is). Of an order one question was asked up to 5030, two
    up to 7225, three from then on; the vocabulary was learned from the questions of the beginning. Up to 6977 all
    tokens of an answer weighed the same, that nothing freezes was asked no more often than of other faults, and clips
    with faults were passed over like any others. The rates had fallen to 0.73 by step 6231, and to 0.85 by 6400.
    """
    tower = (Stage(2000, 64, CellCourse(), fall=500), Stage(600, 64, CellCourse(off_palette=0.5), tower=0.5, fall=300))
    return (*tower, *_things_and_paths(), *_events())


def _things_and_paths() -> tuple[Stage, ...]:
    looks = Course(
        forms={"still": 2, "rgb": 3, "keyframes": 2, "thumbnail": 1}, contents={"static": 1, "moving": 2},
        frames=(2, 5), look_fps=(2, 3, 4), kinds=LOOKS, questions=6, most_figures=3,
    )  # fmt: skip
    short = replace(EVERYTHING, sizes=SMALL)
    one = Course(
        sizes={(128, 128): 4, (96, 96): 1}, forms={"rgb": 2, "keyframes": 4, "thumbnail": 1}, contents=LIVELY,
        frames=(2, 5), look_fps=(2, 3, 4), often=EVERYTHING.often, questions=1, most_figures=1,
    )  # fmt: skip
    few = replace(one, sizes=SMALL, frames=(3, 9), look_fps=(2, 3, 4, 4), questions=4, most_figures=3)
    where = replace(
        few, contents=dict(LIVELY, moving=7), questions=6,
        often={
            "direction": 8.0, "position": 5.0, "speed": 2.0, "motion": 2.0, "order": 3.0, "count": 2.0, "fault": 3.0,
        },
    )  # fmt: skip
    mixed = replace(
        LONG, frames=(4, 14), look_fps=(2, 3, 4, 4, 6), questions=9,
        contents={"static": 1, "moving": 5, "camera": 1, "cuts": 2, "fault": 6},
        often={
            "direction": 5.0, "position": 3.0, "speed": 1.5, "motion": 2.0, "order": 4.0, "when": 1.5, "count": 1.5,
            "fault": 6.0,
        },
    )  # fmt: skip
    given = ((250, 32, looks), (150, 16, EVERYTHING), (112, 16, short), (200, 64, one), (300, 32, few), (9, 16, short),
             (450, 32, where), (420, 20, mixed))  # fmt: skip
    stages = (Stage(steps, rows, course, tower=0.0) for steps, rows, course in given)
    return (*stages, Stage(280, 16, LONG, tower=0.0, fall=280))


def _events() -> tuple[Stage, ...]:
    events = Course(
        sizes=SMALL, forms=dict(FORMS, still=0.2), frames=(6, 16), look_fps=(3, 4, 4, 6), questions=9, most_figures=3,
        contents={"static": 0.5, "moving": 6, "cuts": 2, "fault": 5},
        often={"order": 8.0, "when": 4.0, "motion": 6.0, "fault": 7.0, "count": 2.0, "direction": 2.0, "position": 1.5},
    )  # fmt: skip
    moments = Course(
        sizes={(128, 128): 4, (96, 96): 2}, forms={"rgb": 3, "keyframes": 3, "thumbnail": 1.5}, frames=(8, 14),
        look_fps=(3, 4, 4), contents={"moving": 6, "cuts": 2, "fault": 5}, motions=EVENTFUL, questions=8,
        faults={"freeze": 8, "duplicate": 1, "vanish": 1, "morph": 1, "jitter": 1, "flicker": 0.5}, fewest_figures=2,
        often=_seldom(0.4, order=12.0, when=5.0, motion=3.0, fault=9.0, direction=1.0, position=1.0, count=1.0),
    )  # fmt: skip
    pairs = replace(
        moments, sizes={(96, 96): 3, (128, 128): 2}, forms={"rgb": 1, "keyframes": 5, "thumbnail": 0.5}, whole=(1.0,),
        frames=(6, 9), look_fps=(2, 3, 3), contents={"moving": 5, "cuts": 1, "fault": 2.5}, most_figures=2, questions=5,
    )  # fmt: skip
    often = {
        "order": 12.0, "when": 5.0, "motion": 4.0, "fault": 8.0, "direction": 2.0, "position": 1.5, "count": 2.0,
        "camera": 1.5, "cuts": 1.5,
    }  # fmt: skip
    lively = replace(
        LONG, forms={"rgb": 3, "keyframes": 4, "thumbnail": 2, "still": 0.2}, whole=(0.15, 0.4, 1.0, 1.0, 1.0),
        frames=(6, 20), often=often, motions=dict(EVENTFUL, still=1), faults=FROZEN, needs={"order": 0.6},
        contents={"static": 0.5, "moving": 6, "camera": 0.7, "cuts": 2, "fault": 11}, questions=9,
    )  # fmt: skip
    named = replace(lively, contents=dict(lively.contents, fault=8), needs={"order": 0.7})
    when = Course(
        sizes={(96, 96): 3, (128, 128): 1}, forms={"rgb": 4, "keyframes": 2}, whole=(1.0,), frames=(6, 12),
        look_fps=(3, 4), contents={"moving": 5, "cuts": 3}, motions=EVENTFUL, questions=5, most_figures=2,
        often=_seldom(0.3, order=10.0, when=10.0, motion=1.0), needs={"when": 0.8},
    )  # fmt: skip
    order = replace(
        when, often=_seldom(0.4, order=20.0, when=5.0, motion=1.0), needs={"order": 0.85}, questions=6,
        fewest_figures=2, most_figures=3,
    )  # fmt: skip
    ordered = replace(
        order, contents={"moving": 5, "cuts": 2, "fault": 1.2}, faults=FROZEN, motions=dict(EVENTFUL, moves=2),
        often=_seldom(0.4, order=20.0, when=5.0, motion=1.0, fault=5.0),
    )  # fmt: skip
    lasting = replace(
        lively, sizes={(128, 128): 5, (96, 96): 3, (128, 160): 0.5, (160, 128): 0.5, (256, 256): 0.03},
        forms={"rgb": 4, "keyframes": 4, "thumbnail": 1.5, "still": 0.2}, whole=(0.15, 0.4, 1.0, 1.0, 1.0, 1.0),
        frames=(6, 18), motions=dict(EVENTFUL, still=1, moves=2), often=dict(often, order=16.0), needs={"order": 0.75},
        contents={"static": 0.5, "moving": 6, "camera": 1, "cuts": 2, "fault": 2.5},
    )  # fmt: skip
    longer = replace(
        lasting, sizes={(128, 128): 1}, forms={"rgb": 2, "keyframes": 5, "thumbnail": 1, "still": 0.2},
        whole=(0.3, 1.0, 1.0, 1.0), frames=(10, 24), look_fps=(4,), often=dict(often, order=20.0),
        needs={"order": 0.85},
    )  # fmt: skip
    end = replace(named, frames=(6, 18), often=dict(often, order=14.0, when=6.0), needs={"order": 0.75})
    given = ((260, 20, events, 200), (283, 24, moments, 0), (500, 40, pairs, 0), (418, 20, lively, 0),
             (169, 20, named, 0), (176, 56, when, 0), (140, 40, order, 0), (260, 22, end, 260),
             (507, 56, ordered, 0), (400, 28, lasting, 700), (135, 20, longer, 300))  # fmt: skip
    return tuple(Stage(steps, rows, course, tower=0.0, fall=fall) for steps, rows, course, fall in given)


def _seldom(usual: float, **often: float) -> dict[str, float]:
    """Weights of all kinds of question, ``usual`` where not given."""
    return dict.fromkeys((*KINDS, CAPTION), usual) | often
