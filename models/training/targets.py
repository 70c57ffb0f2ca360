"""Auxiliary targets: what the ground truth of a clip says of each visual token, each picture and each event.

An answer of a word teaches a vision tower of random weights next to nothing about outlines, and a text model little
about what changed between two pictures. A rendered clip comes with its ground truth, so small linear heads predict it
from hidden states while the model trains. The heads are not exported. ``TARGETS`` lists everything they predict.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..source.sampling import CELL
from ..synthetic.frame_truth import FigureHistory, FrameState, cell_contents, changes, figures_in_cells
from ..synthetic.ground_truth import Truth
from ..synthetic.scenes import CAMERAS, COLOURS, FAULTS, GROUNDS, MOTIONS, PATTERNS, SHAPES, SIZES, Clip
from .architecture import TrainingOperations

SITES = {"vision": None, "cell": 0.5, "picture": 0.5, "event": -2, "order": -1, "choice": -1}
"""Where targets are read: from the vision tower's tokens, or from hidden states of the text model after so many of its
layers (a fraction of them, or all but the last ones). ``cell`` reads every visual token, ``picture`` the token after
each picture, ``event`` and ``order`` the last token of the words in a question that name an event, ``choice`` the token
that predicts which of two events an answer names."""


@dataclass(frozen=True, slots=True)
class Target:
    """One value that a head predicts.

    Attributes:
        name: unique within its site.
        site: a key of ``SITES``.
        kind: "class" (cross entropy), "yes/no" (binary cross entropy in which all yes weigh as much as all no) or
            "number" (smooth L1).
        weight: factor of its mean loss, added to the loss on the answers.
        classes: names of the classes.
        scale: factor that brings a number near 1.
    """

    name: str
    site: str
    kind: str
    weight: float
    classes: tuple[str, ...] = ()
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Outputs of the head for it."""
        return len(self.classes) or 1


def _targets(site: str, kind: str, weight: float, *names: str, scale: float = 1.0) -> tuple[Target, ...]:
    return tuple(Target(name, site, kind, weight, scale=scale) for name in names)


TARGETS = (
    # What the 32x32 pixels of a token show (synthetic.frame_truth.cell_contents), and their brightness from -1 to 1.
    Target("colour", "vision", "class", 1.0, (*COLOURS, "none")),
    Target("shape", "vision", "class", 1.0, SHAPES),
    Target("pattern", "vision", "class", 1.0, PATTERNS),
    Target("size", "vision", "class", 1.0, tuple(SIZES)),
    Target("background", "vision", "class", 1.0, GROUNDS),
    *_targets("vision", "number", 0.25, "offset x", "offset y", "step x", "step y", "position x", "position y"),
    *_targets("vision", "number", 0.25, "first brightness", "last brightness"),
    # What the figure in a cell does, as far as the pictures up to now show it (synthetic.frame_truth.FigureHistory).
    Target("motion", "cell", "class", 0.3, MOTIONS),
    *_targets("cell", "yes/no", 0.3, "rotates", "jitters", "morphed", "new", "rests", "has moved", "happens"),
    *_targets("cell", "number", 0.3, "step x", "step y", scale=8.0),
    *_targets("cell", "number", 0.3, "path x", "path y", "speed", scale=2.0),
    *_targets("cell", "number", 0.3, "age", "time", scale=0.5),
    # What a picture shows compared with the one before (synthetic.frame_truth.changes).
    Target("camera", "picture", "class", 0.3, CAMERAS),
    *_targets("picture", "yes/no", 0.3, *FAULTS, "cut", "repeats", "happens"),
    *_targets("picture", "number", 0.3, "change", scale=4.0),
    *_targets("picture", "number", 0.3, "light", "pan x", "pan y", "zoom", scale=8.0),
    *_targets("picture", "number", 0.3, "figures", "cut age", "gone age", scale=0.5),
    *_targets("picture", "number", 0.3, "shots"),
    # When an event is: seconds from the start, seconds before the end, and from -1 (first frame) to 1 (last frame).
    *_targets("event", "number", 1.2, "time", "age", scale=0.5),
    *_targets("event", "number", 1.2, "fraction"),
    # Whether it is later than the event named before it, and whether an answer names the second of two events.
    *_targets("order", "yes/no", 1.2, "later"),
    *_targets("choice", "yes/no", 1.2, "second"),
)
AT = {site: tuple(target for target in TARGETS if target.site == site) for site in SITES}
COLUMN = {(site, target.name): column for site, targets in AT.items() for column, target in enumerate(targets)}


def make_heads(vision_width: int, text_width: int) -> torch.nn.ModuleDict:
    """One linear layer for each site, from its states to the outputs of its targets; starts at zero."""
    heads = torch.nn.ModuleDict()
    for site, targets in AT.items():
        width = vision_width if site == "vision" else text_width
        heads[site] = TrainingOperations.Linear(width, sum(target.outputs for target in targets))
    for parameter in heads.parameters():
        torch.nn.init.zeros_(parameter)
    return heads


def target_loss(site: str, outputs: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weighted sum over the targets of ``site`` of their mean losses.

    ``outputs`` [n, outputs of all targets] of the site's head; ``values`` float32 [n, targets], NaN where unknown.
    """
    total = outputs.new_zeros((), dtype=torch.float32)
    found = outputs.float().split([target.outputs for target in AT[site]], dim=1)
    for target, output, value in zip(AT[site], found, values.unbind(1), strict=True):
        known = value.isfinite()
        if known.any():
            total = total + target.weight * LOSSES[target.kind](output[known], value[known])
    return total


def _yes_no_loss(output: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    losses = F.binary_cross_entropy_with_logits(output[:, 0], value, reduction="none")
    return torch.stack([losses[value == answer].mean() for answer in value.unique()]).mean()


LOSSES = {
    "class": lambda output, value: F.cross_entropy(output, value.long()),
    "yes/no": _yes_no_loss,
    "number": lambda output, value: F.smooth_l1_loss(output[:, 0], value, beta=0.25),
}


def unknown(site: str, *shape: int) -> np.ndarray:
    """NaN for every target of a site: float32 [*shape, targets]."""
    return np.full((*shape, len(AT[site])), np.nan, np.float32)


def unknown_targets(tokens: int, pictures: int) -> dict[str, np.ndarray]:
    """What :func:`picture_targets` returns where nothing is known."""
    return {site: unknown(site, pictures if site == "picture" else tokens) for site in ("vision", "cell", "picture")}


def label(values: np.ndarray, where: tuple, site: str, known: dict[str, float | str]) -> None:
    """Write ``known`` values, by the names of their targets, into the rows ``where`` of ``values``."""
    for name, value in known.items():
        column = COLUMN[site, name]
        target = AT[site][column]
        values[(*where, ..., column)] = target.classes.index(value) if isinstance(value, str) else target.scale * value


def picture_targets(
    clip: Clip, frames: Sequence[tuple[FrameState, FrameState | None]], pictures: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Targets of pictures shown in order: float32 by site, "vision" and "cell" [tokens, n], "picture" [pictures, n].

    ``frames`` are the first and, for a pair, the second frame of each picture; ``pictures`` uint8 [f, H, W, 3] are the
    pixels that the model sees.
    """
    found = {"vision": [], "cell": [], "picture": []}
    history, numbers = FigureHistory(clip), [now.frame for now, _ in frames]
    for (now, second), picture in zip(frames, pictures, strict=True):
        rows, columns = grid = picture.shape[1] // CELL, picture.shape[2] // CELL
        light = picture.reshape(-1, rows, CELL, columns, CELL, 3).mean((2, 4, 5)) / 127.5 - 1
        vision, cell, whole = unknown("vision", *grid), unknown("cell", *grid), unknown("picture", 1)
        label(vision, (), "vision", {"first brightness": light[0], "last brightness": light[-1]})
        for cells, known in cell_contents(clip, now, second, grid):
            label(vision, cells, "vision", known)
        label(cell, (), "cell", {"time": now.frame / clip.fps})
        figures, inside = history.add(now), figures_in_cells(clip, now.frame, grid)
        for index in figures.keys() & inside.keys():
            label(cell, inside[index], "cell", figures[index])
        label(whole, (), "picture", changes(clip, now, history.before, numbers))
        for site, values in (("vision", vision), ("cell", cell), ("picture", whole)):
            found[site].append(values.reshape(-1, values.shape[-1]))
    return {site: np.concatenate(values) for site, values in found.items()}


def event_times(truth: Truth, fps: float) -> dict[str, np.ndarray]:
    """The "event" targets of each event whose words name no other event, by these words: float32 [n]."""
    first, last = truth.frames[0] / fps, truth.frames[-1] / fps
    words = Counter(event.text for event in truth.events)
    found = {}
    for event in truth.events:
        if words[event.text] == 1:
            fraction = 2 * (event.seconds - first) / max(last - first, 1 / fps) - 1
            found[event.text] = unknown("event")
            known = {"time": event.seconds, "age": last - event.seconds, "fraction": fraction}
            label(found[event.text], (), "event", known)
    return found
