"""The noise of a step as a signed sum of pseudo-random atoms, exact in integers on every machine.

The codebook is a two-round randomised Hadamard transform: with n the smallest power of two that holds the frame,
atom k = d1 o H(d2 o H e_k), H the unnormalised Sylvester-Hadamard matrix and d1, d2 signs drawn per (seed, gop, step,
frame, block) from SHAKE-256. One atom is taken from each of M groups of 2^b. All inner products cost one fast transform
per block, no atom is ever stored, and composing is integer arithmetic, so the noise has the same bits everywhere.
GVCC (arXiv 2603.26571) draws Gaussian atoms one by one on the GPU instead, which neither scales nor travels.
"""

import hashlib
import struct
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch

from ...kernels import codebook_compose, codebook_select
from ..errors import InputError

INITIAL_NOISE, FIRST_SIGNS, SECOND_SIGNS, STEP_SKETCH, FINAL_SKETCH = range(5)
"""Domains of the pseudo-random function."""

MAX_ATOMS = 65535
MAX_BITS = 20


@dataclass(frozen=True, slots=True)
class NoiseKey:
    """Which noise: the stream's seed, the GOP, the stochastic step and the latent frame."""

    seed: int
    gop: int
    step: int
    frame: int


def random_bytes(key: NoiseKey, domain: int, block: int, count: int) -> bytes:
    """``count`` bytes of SHAKE-256("GVCB1", u64 seed, u8 domain, u32 gop, u16 step, u16 frame, u16 block)."""
    packed = struct.pack("<QBIHHH", key.seed, domain, key.gop, key.step, key.frame, block)
    return hashlib.shake_256(b"GVCB1" + packed).digest(count)


def random_signs(key: NoiseKey, domain: int, block: int, count: int) -> np.ndarray:
    """int8 [count] of +-1: bits of the stream, least significant first, bit 1 is -1."""
    stream = np.frombuffer(random_bytes(key, domain, block, -(-count // 8)), np.uint8)
    return 1 - 2 * np.unpackbits(stream, count=count, bitorder="little").view(np.int8)


@lru_cache(maxsize=1)
def normal_table() -> np.ndarray:
    """int16 [65536]: round(4096 * inverse normal CDF((u + 0.5) / 65536)); no value is within 1e-5 of a rounding tie."""
    inverse = NormalDist().inv_cdf
    half = np.array([int(np.floor(4096 * inverse((u + 0.5) / 65536) + 0.5)) for u in range(32768, 65536)], np.int16)
    return np.concatenate([-half[::-1], half])


def initial_noise(seed: int, gop: int, frames: int, length: int) -> torch.Tensor:
    """The start of a GOP's trajectory: float32 [frames, length], Gaussian by table, the same bits everywhere."""
    table = normal_table()
    noise = np.empty((frames, length), np.float32)
    for frame in range(frames):
        drawn = random_bytes(NoiseKey(seed, gop, 0, frame), INITIAL_NOISE, 0, 2 * length)
        noise[frame] = table[np.frombuffer(drawn, "<u2")] / np.float32(4096)
    return torch.from_numpy(noise)


def padded_length(length: int) -> int:
    """The smallest power of two that is at least ``length`` and at least 8."""
    return max(8, 1 << (length - 1).bit_length())


def check_codebook(length: int, atoms: int, bits: int) -> None:
    """Raise InputError unless M = ``atoms`` groups of 2^``bits`` can code a frame of ``length`` values."""
    n = padded_length(length)
    if not 1 <= atoms <= MAX_ATOMS:
        raise InputError(f"the codebook has {atoms} atoms per frame and step; it takes 1 to {MAX_ATOMS}")
    if not 1 <= bits <= MAX_BITS:
        raise InputError(f"the codebook has {bits} bits per index; it takes 1 to {MAX_BITS}")
    if 1 << bits > n:
        raise InputError(f"groups of 2^{bits} atoms do not fit a latent frame of {length} values (padded to {n})")
    if atoms * n >= 1 << 31:
        raise InputError(f"{atoms} atoms of {n} values overflow 32-bit sums; use at most {(1 << 31) // n - 1} atoms")


def largest_bits(length: int) -> int:
    """The most index bits that a latent frame of ``length`` values allows."""
    return min(MAX_BITS, padded_length(length).bit_length() - 1)


def block_signs(key: NoiseKey, length: int, atoms: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """d1 and d2 of a frame and step: int8 [B, n] each, B = ceil(atoms / (n / 2^bits))."""
    n = padded_length(length)
    blocks = -(-atoms // (n >> bits))
    rounds = [
        np.stack([random_signs(key, domain, block, n) for block in range(blocks)])
        for domain in (FIRST_SIGNS, SECOND_SIGNS)
    ]
    return torch.from_numpy(rounds[0]), torch.from_numpy(rounds[1])


def select(residual: torch.Tensor, key: NoiseKey, atoms: int, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The atom of each group that points most along ``residual``, and which way.

    Args:
        residual: float32 [D] on any device, target minus the model's estimate.
        key: which codebook.
        atoms: M groups.
        bits: b, each group holds 2^b atoms.

    Returns:
        index int64 [M] inside the group and sign int8 [M] (+1 or -1), on the residual's device. Ties go to the lowest
        index; an inner product of exactly 0 has sign +1.
    """
    first, second = (signs.to(residual.device) for signs in block_signs(key, residual.numel(), atoms, bits))
    return codebook_select(residual, first, second, atoms, bits)


def compose(index: torch.Tensor, sign: torch.Tensor, key: NoiseKey, bits: int, length: int) -> torch.Tensor:
    """The noise of a frame: float32 [D] of unit mean square, bit-identical on every device.

    The atoms are summed in int32; S = sum of squares is exact in int64, and one float64 square root and one float32
    product per value follow.

    Args:
        index: int64 [M] from :func:`select` or from a stream.
        sign: int8 [M], +1 or -1.
        key: which codebook.
        bits: b.
        length: D.
    """
    first, second = (signs.to(index.device) for signs in block_signs(key, length, index.numel(), bits))
    summed = codebook_compose(index, sign, first, second, bits, length)
    energy = int((summed.long() ** 2).sum())
    scale = torch.tensor((length / max(energy, 1)) ** 0.5, dtype=torch.float32, device=index.device)
    return summed.float() * scale
