"""One encoder for each mode of :data:`codeclens.models.video.tokens.MODES`."""

from ...errors import InputError
from ...qwen.video_limits import VideoLimits
from ...video.gop import GopPlan
from ...video.tokens import MODES
from .cells import ChangedCells
from .encoder import CodeOptions, Encoder
from .groups import STAMPS, Group
from .keyframes import Keyframes
from .native import NativePairs
from .predicted import PredictedFrames
from .thumbnail import Thumbnails

__all__ = ["ENCODERS", "STAMPS", "CodeOptions", "Encoder", "Group", "encoder_of", "group_frames"]

ENCODERS = {
    "rgb": NativePairs,
    "keyframes": Keyframes,
    "thumbnail": Thumbnails,
    "cells": ChangedCells,
    "ptoken": PredictedFrames,
    "delta": PredictedFrames,
}
"""The modes that a video can be encoded in."""


def encoder_of(
    mode: str,
    options: CodeOptions = CodeOptions(),  # noqa: B008 - frozen
    limits: VideoLimits | None = None,
) -> Encoder:
    """The encoder of a mode, for a model with these limits. Raises InputError where the mode has none."""
    if mode not in ENCODERS:
        raise InputError(f"the mode is '{mode}'; it must be one of {', '.join(ENCODERS)}")
    return ENCODERS[mode](MODES[mode], options, limits)


def group_frames(plan: GopPlan, mode: str, **options) -> list[Group]:
    """The groups of a plan's kept frames in a mode; ``options`` are those of :class:`CodeOptions`."""
    return encoder_of(mode, CodeOptions(**options)).groups(plan)
