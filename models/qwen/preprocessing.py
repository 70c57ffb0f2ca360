"""Pictures made ready for the vision tower."""

import math

import numpy as np
from PIL import Image

from ..errors import InputError
from ..source.sampling import CELL

FEWEST_TOKENS = 64


def smart_resize(height: int, width: int, most_tokens: int = 1024, name: str = "the picture") -> tuple[int, int]:
    """The (height, width), multiples of 32, at which a picture of that size is shown.

    The aspect ratio is kept as far as that allows, the area between 64 and ``most_tokens`` cells of 32 x 32 pixels
    (``smart_resize`` of Qwen2-VL's image processor). Raises InputError beyond an aspect ratio of 200, as the source.
    """
    if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
        raise InputError(f"{name} is {width} x {height}; sides may differ by a factor of 200 at most")
    rows, columns = max(1, round(height / CELL)), max(1, round(width / CELL))
    if rows * columns > most_tokens:
        scale = math.sqrt(height * width / (most_tokens * CELL**2)) * CELL
        rows, columns = max(1, math.floor(height / scale)), max(1, math.floor(width / scale))
    elif rows * columns < FEWEST_TOKENS:
        scale = math.sqrt(height * width / (FEWEST_TOKENS * CELL**2)) * CELL
        rows, columns = math.ceil(height / scale), math.ceil(width / scale)
    return rows * CELL, columns * CELL


def fit_picture(rgb: np.ndarray, most_tokens: int = 1024) -> np.ndarray:
    """Resize ``rgb`` uint8 [H, W, 3] to :func:`smart_resize`, antialiased bicubic."""
    return resize(rgb, smart_resize(*rgb.shape[:2], most_tokens))


def resize(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``rgb`` uint8 [H, W, 3] at ``size`` (H, W), antialiased bicubic."""
    if size == rgb.shape[:2]:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize(size[::-1], Image.Resampling.BICUBIC))
