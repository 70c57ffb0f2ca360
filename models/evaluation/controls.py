"""Controls: the same code with its predicted frames taken away or falsified.

A mode whose predicted frames carry something answers worse under each of these. Where it does not, its whole pictures
answered alone.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from ..code.encoding import words_of
from ..code.visual_code import Segment, VisualCode
from ..errors import InputError

Falsify = Callable[[torch.Tensor, VisualCode], torch.Tensor]


def _zeroed(features: torch.Tensor, other: VisualCode) -> torch.Tensor:
    return torch.zeros_like(features)


def _shuffled(features: torch.Tensor, other: VisualCode) -> torch.Tensor:
    order = torch.randperm(features.shape[1], generator=torch.Generator().manual_seed(0))
    return features[:, order]


def _foreign(features: torch.Tensor, other: VisualCode) -> torch.Tensor:
    theirs = _features(_predicted(other))
    if not theirs.shape[1]:
        return _zeroed(features, other)
    return theirs[:, torch.arange(features.shape[1]) % theirs.shape[1]]


FALSIFIED: dict[str, Falsify] = {"zeroed": _zeroed, "shuffled": _shuffled, "foreign": _foreign}

CONTROLS = {
    "dropped": "predicted frames left out",
    "zeroed": "tokens of predicted frames set to 0",
    "shuffled": "tokens of predicted frames in another order",
    "foreign": "tokens of predicted frames taken from another clip",
}
"""What becomes of the segments of kind P. Unless they are dropped, positions and time stamps stay as they are."""

ABLATIONS = {
    "blind": ("nothing of the change is shown", {"inputs": "none"}),
    "motion": ("motion alone is shown", {"inputs": "motion"}),
    "residual": ("the residual alone is shown", {"inputs": "residual"}),
    "whole": ("changes are against the I frame", {"reference": "whole"}),
}
"""What a learned code is made from instead, in words and as options of the mode."""


def falsify(code: VisualCode, control: str, other: VisualCode, model) -> VisualCode:
    """``code`` under a control; ``other`` is the code of another clip in the same mode.

    Raises:
        InputError: the control is unknown.
    """
    if control not in CONTROLS:
        raise InputError(f"the control is {control!r}; it must be one of {', '.join(CONTROLS)}")
    if control == "dropped":
        segments = tuple(segment for segment in code if segment.kind != "P")
    else:
        predicted = _predicted(code)
        false = FALSIFIED[control](_features(predicted), other)
        parts = iter(false.split([len(segment) for segment in predicted], dim=1))
        segments = tuple(_with(segment, next(parts)) if segment.kind == "P" else segment for segment in code)
    fingerprint = f"{code.fingerprint} {control} {other.fingerprint}"
    return replace(code, segments=segments, fingerprint=fingerprint, words=words_of(segments, model), memory=None)


def _predicted(code: VisualCode) -> list[Segment]:
    return [segment for segment in code if segment.kind == "P"]


def _features(segments: list[Segment]) -> torch.Tensor:
    """Embeddings and DeepStack features one above the other: [1 + K, n, D]; n is 0 without segments."""
    if not segments:
        return torch.zeros(1, 0, 0)
    return torch.cat([torch.cat([segment.embeds[None], segment.deepstack]) for segment in segments], dim=1)


def _with(segment: Segment, features: torch.Tensor) -> Segment:
    return replace(segment, embeds=features[0], deepstack=features[1:])
