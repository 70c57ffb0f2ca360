"""From a rate that people think in to a schedule of atoms."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .codebook import MAX_ATOMS, largest_bits, padded_length
from .flow import SIGMA_ONE
from .records import StepCode

MOST_BITS, LEAST_BITS, MOST_BLOCKS = 14, 2, 4
BASE_BITS = 9.0
LATE_EXPONENT = 2.0
SHIFTS = ((0.26, 5.0), (0.4, 3.0), (0.8, 2.0), (1.6, 1.5), (3.2, 1.0))
"""Bits per latent value, and the shift that leaves least error there; measured by tests/bench/gvc_rate.py."""


def best_shift(value_bits: float, steps: int = 20) -> float:
    """The shift of the sigma schedule for a rate in bits per latent value, between those of SHIFTS by its logarithm.

    Few bits have to choose what the picture is of, at high noise; many bits draw detail, at low noise. A shift too
    small for its rate leaves the first steps without a choice and paints something else. Fewer steps make fewer
    choices, so that below 20 the shift goes back to 5, which it has at 12 and fewer.
    """
    bits, shifts = zip(*SHIFTS, strict=True)
    shift = float(np.interp(np.log2(max(value_bits, 1e-9)), np.log2(bits), shifts))
    return shift + (shifts[0] - shift) * min(max((20 - steps) / 8, 0.0), 1.0)


def plan_schedule(
    sigmas: Sequence[int],
    deterministic: int,
    frame_length: int,
    frame_bits: float,
    refresh: float | Sequence[int] = 0.5,
    late_exponent: float = LATE_EXPONENT,
) -> tuple[StepCode, ...]:
    """Spread a budget over the steps of a schedule.

    Every coded step gets up to nine bits, which the first steps need to choose what the picture is of. The rest goes to
    step i in proportion to (i + 1)^late_exponent: late steps see a better estimate of the picture, and a bit spent
    there buys more. On the analytic flow of the tests this takes up to a third off the error of a flat schedule at
    equal bits. A step's bits become as few atoms with as long an index as they can, because long indices capture more
    per bit; but a Hadamard block has n / 2^b groups, and no step may need more than four blocks while shorter indices
    would do.

    Args:
        sigmas: T levels in units of 1/65535.
        deterministic: N steps at the end that carry no bits.
        frame_length: D.
        frame_bits: bits for one latent frame, over all its steps; what is planned is not more.
        refresh: fresh noise as a fraction of the next level, one number or T integers in 1/65535.
        late_exponent: 0 is a flat schedule.

    Raises:
        InputError: if the budget is below 3 bits a step, or asks for more atoms than the codebook has.
    """
    coded = len(sigmas) - deterministic
    base = min(frame_bits / coded, BASE_BITS)
    spare = frame_bits - coded * base
    if not base >= LEAST_BITS + 1:
        raise InputError(
            f"{frame_bits:.0f} bits for a latent frame are too few for {coded} coded steps of at least "
            f"{LEAST_BITS + 1} bits; raise the rate or take fewer steps"
        )
    most = min(MAX_ATOMS, ((1 << 31) - 1) // padded_length(frame_length))
    parts = [(step + 1) ** late_exponent for step in range(coded)]
    levels = [round(SIGMA_ONE * refresh)] * len(sigmas) if isinstance(refresh, int | float) else list(refresh)
    steps, left = [], 0.0
    for step, sigma in enumerate(sigmas):
        if step >= coded:
            steps.append(StepCode(sigma, 0, 0, 0))
            continue
        left += base + spare * parts[step] / sum(parts)
        bits = index_bits(frame_length, left)
        atoms = int(left / (bits + 1))
        if atoms > most:
            raise InputError(
                f"{frame_bits:.0f} bits for a latent frame of {frame_length} values need {atoms} atoms in one step; "
                f"the codebook has {most}; lower the rate or take more steps"
            )
        left -= atoms * (bits + 1)
        steps.append(StepCode(sigma, levels[step], atoms, bits))
    return tuple(steps)


def index_bits(frame_length: int, step_bits: float) -> int:
    """b for a step of ``step_bits``: the longest index that leaves one atom and at most four Hadamard blocks."""
    bits = min(MOST_BITS, largest_bits(frame_length), max(LEAST_BITS, int(step_bits) - 1))
    while bits > LEAST_BITS and step_bits / (bits + 1) * 2**bits > MOST_BLOCKS * padded_length(frame_length):
        bits -= 1
    return bits
