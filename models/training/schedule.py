"""The recipe: what is trained on what, for how long, and at which learning rate.

This is the recipe that would be run today. The committed model is older: it was trained while its stages were chosen,
as its card says, so this recipe gives a model like it, not the same weights.
"""

import json
from dataclasses import asdict, dataclass, field, replace

from ..errors import InputError
from ..synthetic.scenes import SPLITS
from .examples import CAPTION, STILL, Mixture

SEEDS_A_STEP = 1024
"""Seeds reserved for each step, so that its examples do not depend on how many were skipped before."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the training.

    Attributes:
        fraction: of all steps.
        rows: clips a step.
        vision, text: factors of the learning rates of the vision tower and of the text model; what has 0 is frozen.
            Without the text model only the targets of the site "vision" are trained.
        targets: weight of the auxiliary targets beside the answers.
        cooldown: fraction of the stage at whose end the learning rates fall linearly to 0.
    """

    name: str
    fraction: float
    rows: int
    mixture: Mixture
    vision: float = 0.0
    text: float = 1.0
    targets: float = 1.0
    cooldown: float = 0.0


MODES = {"rgb": 3, "keyframes": 3, "thumbnail": 2, "cells": 1, STILL: 0.5}
SIZES = {(128, 128): 7, (96, 96): 1, (128, 160): 1, (160, 128): 1, (256, 256): 0.1}
EVENTFUL = {"stops": 3, "starts": 3, "appears": 3, "disappears": 3, "bounces": 2, "moves": 2, "still": 1}
FROZEN = {"freeze": 6, "duplicate": 1, "vanish": 1.5, "morph": 1.5, "jitter": 1.5, "flicker": 0.7}

EVERYTHING = Mixture(
    sizes=SIZES, modes=MODES, frames=(4, 20), sample_fps=(2, 3, 4, 4, 6), questions=9,
    contents={"static": 0.5, "moving": 6, "camera": 1, "cuts": 2, "fault": 6}, motions=EVENTFUL, faults=FROZEN,
    kinds={"order": 10, "fault": 8, "when": 4, "motion": 3, "direction": 3, "position": 2, "count": 2},
    i_frames=(0.15, 0.4, 1.0, 1.0),
)  # fmt: skip
"""All kinds of clips and questions in every mode, with more of what is learned last."""

STAGES = (
    Stage(
        "what every token shows", 0.33, 64, vision=1.0, text=0.0, cooldown=0.2,
        mixture=Mixture(
            sizes=SIZES, modes={"rgb": 2, "thumbnail": 2, "keyframes": 1}, frames=(2, 3), questions=0,
            contents={"static": 1, "moving": 4, "camera": 3, "cuts": 1, "fault": 1}, unnamed_colours=0.3,
        ),
    ),
    Stage(
        "what one picture shows", 0.07, 32,
        mixture=Mixture(
            sizes=SIZES, modes={STILL: 2, "rgb": 3, "keyframes": 2, "thumbnail": 1}, frames=(2, 5),
            contents={"static": 1, "moving": 2}, figures=(1, 3), other_kinds=0,
            kinds=dict.fromkeys(("position", "shape", "pattern", "colour", "size", "existence", "count"), 1),
        ),
    ),
    Stage(
        "where things go", 0.2, 32,
        mixture=replace(
            EVERYTHING, frames=(2, 9), figures=(1, 3), questions=5, motions={}, faults={},
            kinds={"direction": 8, "position": 5, "speed": 2, "motion": 2, "order": 3, "count": 2, "fault": 3},
        ),
    ),
    Stage(
        "what happens when", 0.17, 40,
        mixture=replace(
            EVERYTHING, sizes={(96, 96): 3, (128, 128): 1}, modes={"rgb": 4, "keyframes": 3}, i_frames=(1.0,),
            frames=(6, 12), figures=(2, 3), contents={"moving": 5, "cuts": 3, "fault": 1},
            kinds={"order": 20, "when": 8, "motion": 1, "fault": 4}, other_kinds=0.4, required={"order": 0.8},
        ),
    ),
    Stage("everything", 0.15, 24, mixture=replace(EVERYTHING, required={"order": 0.5})),
    Stage(
        "partial pictures", 0.08, 24, text=0.5, targets=0.0, cooldown=0.8,
        mixture=replace(
            EVERYTHING, sizes={(128, 128): 3, (256, 256): 2},
            modes={"cells": 5, "rgb": 2, "keyframes": 1, "thumbnail": 1},
            kinds=EVERYTHING.kinds | {"count": 6, CAPTION: 6}, frames=(6, 20), sample_fps=(4,),
        ),
    ),
)  # fmt: skip
"""The vision tower learns alone, from what its tokens show; the text model then learns to read it. Comparing pictures
is learned from short clips of few figures first. What is not asked for a few hundred steps is forgotten, so every stage
keeps some of everything before it."""


def stages_named(names: str | None) -> tuple[Stage, ...]:
    """The stages of ``STAGES`` with these names, separated by commas; all of them for None."""
    known = {stage.name: stage for stage in STAGES}
    wanted = list(known) if names is None else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in known:
            raise InputError(f"the stage {name!r} is unknown; choose among {', '.join(known)}")
    return tuple(known[name] for name in wanted)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that the trained weights depend on.

    Attributes:
        size: see ``architecture.WIDTHS``.
        steps: optimiser steps of all stages.
        lr: learning rate of AdamW; matrix_lr: that of Muon, which trains the matrices of the layers.
        warmup: steps at the beginning of each stage over which the learning rates rise.
        weight_decay: of matrices.
        vocabulary: tokens, learned from the texts of ``vocabulary_clips`` clips.
        whitening_clips: clips from whose patches the patch embedding starts; 0 starts it at random.
        start: a GGUF language model, its mmproj beside it, whose weights and tokenizer to start from; none where empty.
    """

    size: str = "mini"
    steps: int = 8000
    lr: float = 1e-3
    matrix_lr: float = 0.02
    warmup: int = 50
    weight_decay: float = 0.05
    seed: int = 0
    vocabulary: int = 640
    vocabulary_clips: int = 800
    whitening_clips: int = 80
    start: str = ""
    stages: tuple[Stage, ...] = field(default=STAGES)

    def __post_init__(self):
        if self.steps < 1:
            raise InputError(f"training is to take {self.steps} steps; it takes 1 or more")

    def bounds(self, stage: int) -> tuple[int, int]:
        """First step of a stage and the first step after it."""
        total = sum(one.fraction for one in self.stages)
        ends = [sum(one.fraction for one in self.stages[:count]) / total for count in (stage, stage + 1)]
        return round(self.steps * ends[0]), round(self.steps * ends[1])

    def stage_of(self, step: int) -> int:
        """Index of the stage that a step belongs to; the last one for steps after the end."""
        return next((index for index in range(len(self.stages)) if step < self.bounds(index)[1]), len(self.stages) - 1)

    def lr_factor(self, step: int) -> float:
        """Factor of both learning rates at a step: a linear warmup, 1, and a linear cooldown."""
        index = self.stage_of(step)
        start, stop = self.bounds(index)
        cooldown = self.stages[index].cooldown * (stop - start)
        return min(1.0, (step - start + 1) / self.warmup, (stop - step) / cooldown if cooldown else 1.0)

    def seeds(self, step: int) -> range:
        """The seeds reserved for a step, which takes the first of them that are not skipped."""
        first = SPLITS["train"][0] + (self.seed << 32) + step * SEEDS_A_STEP
        return range(first, first + SEEDS_A_STEP)

    def fingerprint(self) -> str:
        """The config as JSON text, which a checkpoint carries."""
        values = asdict(self)
        for stage in values["stages"]:
            stage["mixture"]["sizes"] = [[*size, weight] for size, weight in stage["mixture"]["sizes"].items()]
        return json.dumps(values, sort_keys=True)
