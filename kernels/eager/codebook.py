"""The generative codec's codebook: two rounds of a randomised Hadamard transform (see models/gvc/codebook.py).

Atom k of a block is d1 o H(d2 o H e_k), with H the unnormalised Sylvester-Hadamard matrix of n values and d1, d2 signs.
"""

import torch
from torch import Tensor


def check_codebook(
    op: str, first: Tensor, second: Tensor, atoms: int, bits: int, *vectors: Tensor, length: int = 0
) -> None:
    """Raise ValueError, in one sentence, unless signs [blocks, n] hold `atoms` groups of 2^`bits` and `length` values."""
    n = first.shape[-1] if first.dim() else 0
    for name, signs in (("first", first), ("second", second)):
        if signs.dtype != torch.int8 or signs.dim() != 2 or n < 8 or n & (n - 1) or not signs.is_contiguous():
            raise ValueError(
                f"{op}: {name} is {signs.dtype} {tuple(signs.shape)}; wanted contiguous torch.int8 signs of shape "
                "[blocks, n], n a power of two from 8 up."
            )
    if second.shape != first.shape:
        raise ValueError(f"{op}: second is {tuple(second.shape)}; wanted {tuple(first.shape)}, the shape of first.")
    if not 0 <= bits < n.bit_length() or not 1 <= atoms <= first.numel() >> bits:
        raise ValueError(
            f"{op}: {atoms} groups of 2^{bits} atoms; wanted at least one, within the {first.numel()} signs."
        )
    longest = max((vector.numel() for vector in vectors if vector.is_floating_point()), default=length)
    if not 1 <= longest <= n:
        raise ValueError(f"{op}: a frame of {longest} values; wanted 1 to {n}, the values of a sign row.")
    for vector in vectors:
        if vector.dim() != 1 or not vector.is_contiguous():
            raise ValueError(f"{op}: a vector is {tuple(vector.shape)}; wanted one contiguous dimension.")
    for vector in (second, *vectors):
        if vector.device != first.device:
            raise ValueError(f"{op}: tensors are on {vector.device} and {first.device}; wanted one device.")


def hadamard(values: Tensor) -> Tensor:
    """H v along the last dimension, spans 1, 2, 4, ...: the order that fixes the bits of a float32 result."""
    shape, span = values.shape, 1
    while span < shape[-1]:
        even, odd = values.view(*shape[:-1], -1, 2, span).unbind(-2)
        values = torch.stack((even + odd, even - odd), -2).view(shape)
        span *= 2
    return values


def codebook_select(residual: Tensor, first: Tensor, second: Tensor, atoms: int, bits: int) -> tuple[Tensor, Tensor]:
    """See :func:`codeclens.kernels.codebook_select`."""
    check_codebook("codebook_select", first, second, atoms, bits, residual)
    padded = torch.nn.functional.pad(residual, (0, first.shape[1] - residual.numel()))
    products = hadamard(second * hadamard(first * padded)).view(-1, 1 << bits)[:atoms]
    index = products.abs().argmax(1)
    chosen = products.gather(1, index[:, None])[:, 0]
    return index, torch.where(chosen >= 0, 1, -1).to(torch.int8)


def codebook_compose(index: Tensor, sign: Tensor, first: Tensor, second: Tensor, bits: int, length: int) -> Tensor:
    """See :func:`codeclens.kernels.codebook_compose`."""
    atoms = index.numel()
    check_codebook("codebook_compose", first, second, atoms, bits, index, sign, length=length)
    sparse = torch.zeros(first.numel(), dtype=torch.int32, device=first.device)
    sparse[torch.arange(atoms, device=first.device) * (1 << bits) + index] = sign.int()
    rounds = first * hadamard(second * hadamard(sparse.view(first.shape)))
    return rounds.sum(0, dtype=torch.int32)[:length].clone()
