"""Sub-pixel motion of macroblocks, and the camera's part of it.

Integer vectors of a block search are refined by one least-squares step on what they leave unexplained (Lucas and Kanade
1981), which also says how well a block's texture determines its motion: the smaller eigenvalue of its gradient matrix
(Shi and Tomasi 1994). The camera is a similarity fitted to all blocks by iteratively reweighted least squares, so that
objects that move on their own, as long as they cover less than about half of the texture, do not pull it.
"""

from dataclasses import dataclass

import numpy as np

from .motion import BLOCK, predict

TEXTURE = 6.0
"""Smaller eigenvalue of a block's mean gradient matrix, squared grey levels per pixel, from which motion is known."""

EXPLAINED = 0.5
"""Fraction of a block's variance that its match may leave, for the vector to be its motion."""

LONGEST_STEP = 1.0
"""Pixels that a refinement moves a vector at most: the search has found the nearest whole pixel."""

OUTLIER = 1.0
"""Pixels from the fitted motion at which a block's weight falls to a half (Cauchy's weights)."""

ITERATIONS = 20

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
"""Rec. ITU-R BT.709."""


@dataclass(frozen=True, slots=True)
class BlockFlow:
    """Motion of the content of a frame since its reference, on macroblocks.

    Attributes:
        motion: float32 [H/16, W/16, 2], pixels (dx, dy) that the content of a block has moved, right and down positive.
        known: bool [H/16, W/16], whether the block has texture in both directions and its match explains more than half
            of its variance; the motion of others, such as blocks that just came into the picture, is a guess.
        unexplained: float32 [H, W], grey levels: luma less its prediction by the refined motion.
    """

    motion: np.ndarray
    known: np.ndarray
    unexplained: np.ndarray


@dataclass(frozen=True, slots=True)
class Camera:
    """A similarity about the middle of the picture: how the whole picture has moved since the reference.

    Attributes:
        pan: (dx, dy) in pixels, that the picture's content moved right and down.
        zoom: relative growth of the content, 0.01 for 1 % larger.
        roll: radians that the content turned clockwise.
        field: float32 [H/16, W/16, 2], the motion that the similarity gives each block.
    """

    pan: tuple[float, float]
    zoom: float
    roll: float
    field: np.ndarray


def luma_of(rgb: np.ndarray) -> np.ndarray:
    """float32 [..., H, W], 0..255: Rec. ITU-R BT.709 luma of uint8 RGB [..., H, W, 3], full range."""
    return rgb.astype(np.float32) @ LUMA


def block_flow(picture: np.ndarray, reference: np.ndarray, mv: np.ndarray) -> BlockFlow:
    """Refine a block search.

    Args:
        picture, reference: uint8 [H, W, 3], sides multiples of 16.
        mv: int16 [H/16, W/16, 2], pixels (dx, dy) from a block to its match in ``reference``.
    """
    rows, columns = mv.shape[:2]
    luma = luma_of(picture)
    across, down = _slopes(luma)
    rest = luma - luma_of(predict(reference, mv))

    def mean(values):
        return values.reshape(rows, BLOCK, columns, BLOCK).mean((1, 3))

    def variance(values):
        return mean(np.square(values)) - np.square(mean(values))

    xx, xy, yy = mean(across * across), mean(across * down), mean(down * down)
    # A change of light is no motion: each block's mean is left out of the fit.
    light = rest - mean(rest).repeat(BLOCK, 0).repeat(BLOCK, 1)
    x, y = mean(across * light), mean(down * light)
    smaller = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    textured = smaller > TEXTURE
    determinant = np.where(textured, xx * yy - xy**2, 1.0)
    step = np.stack([(yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant], -1)
    step = np.where(textured[..., None], step.clip(-LONGEST_STEP, LONGEST_STEP), 0).astype(np.float32)
    spread = step.repeat(BLOCK, 0).repeat(BLOCK, 1)
    unexplained = rest - across * spread[..., 0] - down * spread[..., 1]
    known = textured & (variance(unexplained) < EXPLAINED * variance(luma))
    return BlockFlow(-(mv.astype(np.float32) + step), known, unexplained.astype(np.float32))


def camera_motion(flow: BlockFlow) -> Camera:
    """The similarity that most of the textured blocks follow; no motion where fewer than four have texture.

    For a block at p from the picture's middle the motion is ``pan + zoom * p + roll * (-p_y, p_x)``.
    """
    rows, columns = flow.known.shape
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x, y = BLOCK * (x - (columns - 1) / 2), BLOCK * (y - (rows - 1) / 2)
    design = np.stack([np.stack([np.ones_like(x), 0 * x, x, -y], -1), np.stack([0 * x, np.ones_like(x), y, x], -1)], 2)
    solution = np.zeros(4)
    if flow.known.sum() >= 4:
        a, b = design[flow.known], flow.motion[flow.known].astype(np.float64)
        solution[:2] = np.median(b, 0)
        for _ in range(ITERATIONS):
            error = np.linalg.norm(b - a @ solution, axis=-1)
            weight = 1 / (1 + (error / OUTLIER) ** 2)
            normal = np.einsum("nci,n,ncj->ij", a, weight, a)
            solution = np.linalg.lstsq(normal, np.einsum("nci,n,nc->i", a, weight, b), rcond=None)[0]
    pan, zoom, roll = (float(solution[0]), float(solution[1])), float(solution[2]), float(solution[3])
    return Camera(pan, zoom, roll, (design @ solution).astype(np.float32))


def _slopes(luma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the luma to the right and down, in grey levels per pixel, by central differences."""
    across, down = np.zeros_like(luma), np.zeros_like(luma)
    across[:, 1:-1] = (luma[:, 2:] - luma[:, :-2]) / 2
    down[1:-1] = (luma[2:] - luma[:-2]) / 2
    return across, down
