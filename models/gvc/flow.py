"""One step of a rectified-flow sampler whose fresh noise may be chosen.

The linear interpolant is x_t = (1-t) x0 + t eps with velocity u = eps - x0; a model gives the posterior mean of x0,
which is called ``denoised`` here, and eps = (x - (1-t) denoised) / t. Every rule is linear in (denoised, x, z), so a
step is three numbers. Signal levels t are kept in units of 1/65535, as a stream stores them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError

SIGMA_ONE = 65535
"""The integer that stands for sigma = 1 (and for refresh = 1)."""


@dataclass(frozen=True, slots=True)
class Step:
    """x_n = denoised * x0 + x * x_t + noise * z, coefficients in float64, z of unit variance."""

    denoised: float
    x: float
    noise: float


def exact_step(sigma: float, following: float, fresh: float) -> Step:
    """The step that keeps the marginal variance exact: x_n = (1-n) x0 + sqrt(n^2 - c^2) eps + c z.

    c = 0 is the Euler step of the probability-flow ODE, c = n is full re-noising, n = 0 lands on ``denoised``.

    Args:
        sigma: t, the level of x, in (0, 1].
        following: n, the level after the step, in [0, t).
        fresh: c, the standard deviation of the new noise, in [0, n].
    """
    kept = math.sqrt(following**2 - fresh**2)
    return Step((1 - following) - kept * (1 - sigma) / sigma, kept / sigma, fresh)


def euler_maruyama_step(sigma: float, following: float, fresh: float) -> Step:
    """The step of GVCC (arXiv 2603.26571): x_n = x - u dt - g^2 dt / (2t) eps + g sqrt(dt) z.

    ``fresh`` is g sqrt(dt). The step leaves too much noise (std up to 1.1 n late in a 20-step schedule) and is kept
    for comparison only. Arguments as in :func:`exact_step`.
    """
    dt = sigma - following
    drift = fresh**2 / (2 * sigma)
    return Step((dt + drift * (1 - sigma)) / sigma, 1 - (dt + drift) / sigma, fresh)


def paper_refresh(sigmas: Sequence[int], scale: float = 3.0) -> tuple[int, ...]:
    """GVCC's g = scale * t^2 as a fraction of each next level: min(g sqrt(dt), n) / n, in units of 1/65535.

    Args:
        sigmas: T levels in units of 1/65535, without the final 0.

    Returns:
        T integers; the last one is 0 because nothing is left to refresh at n = 0.
    """
    refresh = []
    for level, following in zip(sigmas, (*sigmas[1:], 0), strict=True):
        t, n = level / SIGMA_ONE, following / SIGMA_ONE
        refresh.append(round(SIGMA_ONE * min(scale * t**2 * math.sqrt(t - n) / n, 1.0)) if n else 0)
    return tuple(refresh)


def shifted_sigmas(steps: int, shift_hundredths: int) -> tuple[int, ...]:
    """T levels from 1 down, t = shift s / (1 + (shift-1) s) for s = 1, 1 - 1/T, ..., 1/T; the final 0 is left out.

    Computed in integers, so that every machine snaps to the same multiple of 1/65535.
    """
    levels = []
    for left in range(steps, 0, -1):
        numerator = shift_hundredths * left
        denominator = 100 * steps + (shift_hundredths - 100) * left
        levels.append((2 * SIGMA_ONE * numerator + denominator) // (2 * denominator))
    return check_sigmas(levels)


def snap_sigmas(sigmas: Sequence[float]) -> tuple[int, ...]:
    """A sampler's T+1 sigmas in units of 1/65535, without the final 0.

    Raises:
        InputError: if they do not start at noise (0.999 or more), do not end at 0, or do not fall at every step.
    """
    if len(sigmas) < 2:
        raise InputError(f"the schedule has {len(sigmas)} sigmas; the codec needs at least 2, from 1 down to 0")
    for value in sigmas:
        if not 0 <= value <= 1 + 1e-6:
            raise InputError(f"the schedule holds sigma {value:g}; a rectified flow has sigmas between 1 and 0")
    if sigmas[-1] != 0:
        raise InputError(f"the schedule ends at sigma {sigmas[-1]:g}; it must end at 0")
    if sigmas[0] < 0.999:
        raise InputError(f"the schedule starts at sigma {sigmas[0]:g}; it must start at 1, from pure noise")
    return check_sigmas([min(round(value * SIGMA_ONE), SIGMA_ONE) for value in sigmas[:-1]])


def check_sigmas(levels: Sequence[int]) -> tuple[int, ...]:
    """Return ``levels`` as a tuple if they fall strictly and stay above 0, else raise InputError."""
    for step, (level, following) in enumerate(zip(levels, (*levels[1:], 0), strict=True)):
        if following >= level:
            raise InputError(
                f"sigma does not fall at step {step} ({level / SIGMA_ONE:.5f} to {following / SIGMA_ONE:.5f}); "
                "use fewer steps or a smaller shift"
            )
    return tuple(levels)
