"""NVIDIA's FLIP: how different two pictures appear to an eye that is shown one after the other.

Andersson et al., "FLIP: A Difference Evaluator for Alternating Images", HPG 2020, by the authors' own package
``flip-evaluator``, an optional dependency (the extra "perceptual"). It needs no weights.
"""

import importlib.util

import numpy as np

from ..errors import InputError


def flip_is_installed() -> bool:
    """Whether :func:`flip` can be called."""
    return importlib.util.find_spec("flip_evaluator") is not None


def flip(reference: np.ndarray, other: np.ndarray) -> float:
    """Mean FLIP error of uint8 [H, W, 3] pictures, 0 (the same) to 1, seen at 67 pixels a degree (the default).

    Raises:
        InputError: if flip-evaluator is not installed.
    """
    if not flip_is_installed():
        raise InputError("the perceptual measure needs the package flip-evaluator; install it with pip")
    import flip_evaluator

    pair = (np.ascontiguousarray(picture, np.float32) / 255 for picture in (reference, other))
    return float(flip_evaluator.evaluate(*pair, "LDR", applyMagma=False)[1])
