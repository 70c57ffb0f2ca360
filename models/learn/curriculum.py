"""What is taught when: the stages of a training, and those that the committed pair was given."""

from dataclasses import dataclass, replace

from .cells import CellCourse
from .lessons import Course


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    Attributes:
        rows: clips a step.
        course: what these are drawn from.
        tower: how fast the vision tower moves, as a share of what everything else does; it rests where 0.
        fall: steps at the end over which the learning rates fall to nothing.
    """

    steps: int
    rows: int
    course: Course | CellCourse
    tower: float = 1.0
    fall: int = 0


LOOKS = ("position", "shape", "pattern", "colour", "size", "existence", "count")
"""Kinds of question that one picture answers."""


OFTEN = {"direction": 2.0, "position": 1.5, "order": 3.0, "when": 1.5, "count": 2.0, "motion": 1.5, "fault": 3.0}
"""Kinds of question that are asked more often than others, for they are learned last."""


PATHS_OFTEN = {
    "direction": 8.0, "position": 5.0, "speed": 2.0, "motion": 2.0, "order": 3.0, "count": 2.0, "fault": 3.0,
}  # fmt: skip
"""The same while it is asked above all where figures are and where they go."""


LATE_OFTEN = {
    "direction": 5.0, "position": 3.0, "speed": 1.5, "motion": 2.0, "order": 4.0, "when": 1.5, "count": 1.5,
    "fault": 6.0,
}  # fmt: skip
"""The same once that is under way."""

LAST_OFTEN = {
    "direction": 3.0, "position": 2.0, "motion": 3.0, "order": 6.0, "when": 3.0, "count": 3.0, "fault": 8.0,
}  # fmt: skip
"""The same at last, for what takes many pictures."""


SMALL = {(128, 128): 7, (96, 96): 1, (128, 160): 1, (160, 128): 1, (256, 256): 0.1}
"""Sizes of pictures; the largest takes as long as eight others."""

FORMS = {"rgb": 3, "keyframes": 3, "thumbnail": 3, "still": 0.5}
LIVELY = {"moving": 4, "camera": 1, "cuts": 1, "fault": 4}


def default_stages() -> tuple[Stage, ...]:
    """What every cell shows, for the tower alone; for the text model, what things are, where one of them goes, where
    several go, and then everything in every mode, at last in clips of any length.

    What the tower does not tell, the text model does not learn in any reasonable time; what comes of comparing
    pictures it learns from short clips of one figure, being told (:mod:`.changes`); and what is not asked for a few
    hundred steps is forgotten.

    These are the stages of the committed pair. While it was trained, changes weighed a third as much up to step 3112,
    up to step 3621 a seldom yes no more than a no, and it was not told which figures rest or have moved.
    """
    looks = Course(
        forms={"still": 2, "rgb": 3, "keyframes": 2, "thumbnail": 1}, contents={"static": 1, "moving": 2},
        frames=(2, 5), look_fps=(2, 3, 4), kinds=LOOKS, questions=6, most_figures=3,
    )  # fmt: skip
    everything = Course(forms=FORMS, frames=(4, 12), look_fps=(2, 3, 4, 4, 6), often=OFTEN, questions=10)
    short = replace(everything, sizes=SMALL)
    one = Course(
        sizes={(128, 128): 4, (96, 96): 1}, forms={"rgb": 2, "keyframes": 4, "thumbnail": 1}, contents=LIVELY,
        frames=(2, 5), look_fps=(2, 3, 4), often=OFTEN, questions=1, most_figures=1,
    )  # fmt: skip
    few = replace(one, sizes=SMALL, frames=(3, 9), look_fps=(2, 3, 4, 4), questions=4, most_figures=3)
    where = replace(few, contents=dict(LIVELY, moving=7), questions=6, often=PATHS_OFTEN)
    mixed = Course(
        sizes=SMALL, forms=dict(FORMS, thumbnail=2), frames=(4, 14), look_fps=(2, 3, 4, 4, 6),
        contents={"static": 1, "moving": 5, "camera": 1, "cuts": 2, "fault": 6}, often=LATE_OFTEN, questions=9,
    )  # fmt: skip
    long = replace(
        mixed, frames=(8, 24), look_fps=(3, 4, 4, 4, 6), questions=10, often=LAST_OFTEN,
        contents={"static": 0.5, "moving": 6, "camera": 1, "cuts": 3, "fault": 6},
    )  # fmt: skip
    tower = (Stage(2000, 64, CellCourse(), fall=500), Stage(600, 64, CellCourse(off_palette=0.5), tower=0.5, fall=300))
    text = ((250, 32, looks), (150, 16, everything), (112, 16, short), (200, 64, one), (300, 32, few), (9, 16, short),
            (450, 32, where), (420, 20, mixed))  # fmt: skip
    resting = [Stage(steps, rows, course, tower=0.0) for steps, rows, course in text]
    return (*tower, *resting, Stage(280, 16, long, tower=0.0, fall=280))
