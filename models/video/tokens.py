"""The modes: what a P frame becomes in each, and what a plan costs in visual tokens and in the prompt."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..source.sampling import CELL

DELTA_TOKENS = 8
"""P frame of CoPE-VideoLM: 4 motion and 4 residual tokens (arXiv 2602.13191)."""


MARKERS = 2
"""Tokens around the visual tokens of each picture in a prompt: vision start and vision end."""

CELL_FRACTION = 6
"""One of so many cells of a pair is sent, on average over a clip."""


def image_tokens(size: tuple[int, int]) -> int:
    """Tokens of one whole picture of (H, W) pixels: H/32 * W/32, 256 at 512 x 512."""
    height, width = size
    if height < CELL or width < CELL or height % CELL or width % CELL:
        raise InputError(f"frame size {width}x{height} is not whole tokens; both sides must be multiples of 32")
    return (height // CELL) * (width // CELL)


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the thumbnail of a P frame of (H, W) pixels.

    A quarter of each side, rounded to the nearest multiple of 32 (halves up), at least 32: 128 x 128 for 512 x 512
    (AdaCodec, Table 5, whose frames are all 512 x 512; the rounding for other sizes is ours).
    """
    image_tokens(size)
    height, width = (max(CELL, (side // 4 + CELL // 2) // CELL * CELL) for side in size)
    return height, width


def thumbnail_tokens(size: tuple[int, int]) -> int:
    """Tokens of the thumbnail of an (H, W) picture."""
    return image_tokens(thumbnail_size(size))


def cell_tokens(size: tuple[int, int]) -> int:
    """Tokens that a pair of (H, W) pictures gets on average where only changed cells are sent: a sixth of its cells."""
    return max(1, image_tokens(size) // CELL_FRACTION)


@dataclass(frozen=True, slots=True)
class Mode:
    """How frames reach the model; an I frame is a whole picture in every mode.

    Attributes:
        name: as users write it.
        predicted: what a P frame becomes, for tooltips and tables.
        tokens: visual tokens of a P frame of an (H, W) picture; of a pair of frames where ``paired``.
        paired: frames go through the tower in native pairs, whatever the plan says of I and P.
        prunable: its whole pictures may be pruned by Efficient Video Sampling.
        trained: needs weights that were trained for the model.
        anchored: the first pair of every stretch of kept frames is whole, and only the others become ``predicted``.
        stamps: where times are written unless the user says otherwise: 'every' group or once a 'second'.
    """

    name: str
    predicted: str
    tokens: Callable[[tuple[int, int]], int]
    paired: bool = False
    prunable: bool = True
    trained: bool = False
    anchored: bool = False
    stamps: str = "every"


MODES = {
    mode.name: mode
    for mode in (
        Mode("rgb", "half of a native pair of whole frames", image_tokens, paired=True),
        Mode("keyframes", "nothing: it is left out", lambda size: 0),
        Mode("thumbnail", "a picture a quarter as wide and high", thumbnail_tokens),
        Mode(
            "cells",
            "its 32 x 32-pixel cells that changed",
            cell_tokens,
            paired=True,
            prunable=False,
            anchored=True,
            stamps="second",
        ),
        # 16 tokens at 512 x 512, from 64 latents (AdaCodec, arXiv 2606.02569, appendix B); as many as a thumbnail has
        # at any size.
        Mode(
            "ptoken",
            "a sixteenth of a picture's tokens, learned from motion and residual",
            thumbnail_tokens,
            prunable=False,
            trained=True,
            stamps="second",
        ),
        Mode(
            "delta",
            "4 motion and 4 residual tokens, learned",
            lambda size: DELTA_TOKENS,
            prunable=False,
            trained=True,
            stamps="second",
        ),
    )
}
"""Every mode by its name. The encoder of each is in ``models/code/modes``."""


DEFAULT_MODE = "thumbnail"
"""What nodes and commands use unless the user says otherwise; README says why."""


def modes_in_words(names: Iterable[str]) -> str:
    """What a P frame becomes in each of these modes, for a tooltip."""
    needs = {True: " (needs trained weights)", False: ""}
    return "; ".join(f"{name}: {MODES[name].predicted}{needs[MODES[name].trained]}" for name in names)


def mode_named(name: str) -> Mode:
    """The mode of that name. Raises InputError where there is none."""
    if name not in MODES:
        raise InputError(f"mode {name!r} is unknown; choose one of {', '.join(MODES)}")
    return MODES[name]


def frame_tokens(mode: str, kind: np.ndarray, keep: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """int32 [T]: visual tokens of each frame, 0 where it is not kept.

    Args:
        mode: one of ``MODES``. Where it is paired, the first frame of each pair of kept frames carries the pair's
            tokens and the second none; a last frame without partner counts as a pair, as Qwen3-VL repeats it.
        kind: uint8 [T], 1 for I and 0 for P.
        keep: bool [T].
        size: (H, W) of an I frame in pixels, multiples of 32.
    """
    record = mode_named(mode)
    whole, predicted = image_tokens(size), record.tokens(size)
    tokens, kept = np.zeros(len(kind), np.int32), np.flatnonzero(keep)
    if record.anchored:
        for stretch in np.split(kept, np.flatnonzero(np.diff(kept) > 1) + 1):
            tokens[stretch[::2]] = predicted
            tokens[stretch[:1]] = np.where(kind[stretch[:1]] == 1, whole, predicted)
        return tokens
    if record.paired:
        tokens[kept[::2]] = predicted
        return tokens
    tokens[keep] = np.where(kind[keep] == 1, whole, predicted)
    return tokens


def prompt_words(tokens: np.ndarray, pts: np.ndarray, stamps: str) -> np.ndarray:
    """int32 [T]: tokens of the markers and of the time stamp that stand before each frame's visual tokens.

    Counted in the vocabulary of Qwen3-VL and Qwen3.5; a code made for a model counts in that model's own.

    Args:
        tokens: int [T], visual tokens of each frame (:func:`frame_tokens`); frames without any have no words.
        pts: float64 [T], presentation times in seconds.
        stamps: 'every', or 'second' for the first frame of each second alone.
    """
    shown = np.flatnonzero(tokens)
    seconds = pts[shown].astype(np.int64)
    stamped = np.ones(len(shown), bool)
    if stamps != "every":
        stamped[1:] = seconds[1:] != seconds[:-1]
    words = np.zeros(len(tokens), np.int32)
    words[shown] = MARKERS + np.where(stamped, stamp_tokens(pts[shown]), 0)
    return words


def stamp_tokens(seconds: np.ndarray) -> np.ndarray:
    """Tokens of ``<3.5 seconds>``, where every digit and sign is a token of its own and the word is one: int64 [n]."""
    tenths = np.round(np.asarray(seconds, np.float64), 1)
    digits = 1 + (np.abs(tenths)[..., None] >= 10.0 ** np.arange(1, 18)).sum(-1)
    return digits + (tenths < 0) + len("<.0") + len((" seconds", ">"))


def token_totals(kind: np.ndarray, keep: np.ndarray, size: tuple[int, int], pts: np.ndarray | None = None):
    """Tokens of the clip in every mode, beside what both RGB baselines spend on the same T sampled frames.

    ``rgb_per_frame`` (AdaCodec's baseline, a whole picture for each frame) and ``rgb_paired`` (native Qwen3-VL, half of
    that) read every sampled frame; the others read the frames that the plan keeps. With ``pts`` (float64 [T] seconds)
    stamps and markers are counted as well.

    Returns:
        dict of int by the mode's name.
    """
    every = np.ones(len(kind), bool)
    counted = {
        "rgb_per_frame": (frame_tokens("keyframes", every, every, size), "every"),
        "rgb_paired": (frame_tokens("rgb", kind, every, size), "every"),
    }
    for name, mode in MODES.items():
        if name != "rgb":
            counted[name] = frame_tokens(name, kind, keep, size), mode.stamps
    words = {
        name: 0 if pts is None else prompt_words(own, pts, stamps).sum() for name, (own, stamps) in counted.items()
    }
    return {name: int(own.sum() + words[name]) for name, (own, _) in counted.items()}
