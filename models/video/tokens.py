"""What a plan costs in visual tokens, mode by mode, and what the two RGB baselines would have cost."""

import numpy as np

from ..errors import InputError

CELL = 32
"""Side in pixels of the square that one token covers: 2 x 2 patches of 16 pixels, merged (Qwen3-VL)."""

MODES = ("rgb", "keyframes", "thumbnail", "ptoken", "delta")
"""How frames reach the model. ``rgb`` is native video (two frames share one picture's tokens); the others spend a whole
picture on an I frame and differ in what a P frame is."""

PTOKEN_TOKENS = 16
"""P frame of AdaCodec: 64 latents on an 8 x 8 grid, merged 2 x 2 (arXiv 2606.02569, appendix B)."""

DELTA_TOKENS = 8
"""P frame of CoPE-VideoLM: 4 motion and 4 residual tokens (arXiv 2602.13191)."""


def image_tokens(size: tuple[int, int]) -> int:
    """Tokens of one whole picture of (H, W) pixels: H/32 * W/32, 256 at 512 x 512."""
    height, width = size
    if height < CELL or width < CELL or height % CELL or width % CELL:
        raise InputError(f"frame size {width}x{height} is not whole tokens; both sides must be multiples of 32")
    return (height // CELL) * (width // CELL)


def thumbnail_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the thumbnail that stands for a P frame of (H, W) pixels.

    A quarter of each side, rounded to the nearest multiple of 32 (halves up), at least 32: 128 x 128 for 512 x 512
    (AdaCodec, Table 5, whose frames are all 512 x 512; the rounding for other sizes is ours).
    """
    image_tokens(size)
    height, width = (max(CELL, (side // 4 + CELL // 2) // CELL * CELL) for side in size)
    return height, width


def predicted_tokens(mode: str, size: tuple[int, int]) -> int:
    """Tokens of one P frame in a mode that tells I from P."""
    if mode == "thumbnail":
        return image_tokens(thumbnail_size(size))
    return {"keyframes": 0, "ptoken": PTOKEN_TOKENS, "delta": DELTA_TOKENS}[mode]


def frame_tokens(mode: str, kind: np.ndarray, keep: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """int32 [T]: visual tokens of each frame, 0 where it is not kept.

    Args:
        mode: one of ``MODES``. In ``rgb`` the first frame of each pair of kept frames carries the pair's tokens and the
            second none; a last frame without partner counts as a pair, as Qwen3-VL repeats it.
        kind: uint8 [T], 1 for I and 0 for P.
        keep: bool [T].
        size: (H, W) of an I frame in pixels, multiples of 32.
    """
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is unknown; choose one of {', '.join(MODES)}")
    whole = image_tokens(size)
    tokens = np.zeros(len(kind), np.int32)
    if mode == "rgb":
        tokens[np.flatnonzero(keep)[::2]] = whole
        return tokens
    tokens[keep] = np.where(kind[keep] == 1, whole, predicted_tokens(mode, size))
    return tokens


def token_totals(kind: np.ndarray, keep: np.ndarray, size: tuple[int, int]) -> dict[str, int]:
    """Tokens of the clip in every mode, beside what both RGB baselines spend on the same T sampled frames.

    ``rgb_per_frame`` (AdaCodec's baseline, a whole picture for each frame) and ``rgb_paired`` (native Qwen3-VL, half of
    that) read every sampled frame; the other four read the frames that the plan keeps.
    """
    whole = image_tokens(size)
    totals = {"rgb_per_frame": whole * len(kind), "rgb_paired": whole * ((len(kind) + 1) // 2)}
    for mode in MODES[1:]:
        totals[mode] = int(frame_tokens(mode, kind, keep, size).sum())
    return totals
