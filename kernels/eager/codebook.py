"""Butterflies of the generative codec's codebook: pick one atom of each group, add signed atoms up.

Atom k = d1 o H(d2 o H e_k) with H the unnormalised Sylvester-Hadamard matrix of n values and d1, d2 signs. Group m of
2^b atoms lies in block m // (n / 2^b), and each block has signs of its own.
"""

import torch
from torch import Tensor
from torch.nn import functional

MAX_SUM = 1 << 31
"""Sums of M atoms are at most M * n and stay exact in int32 below this."""


def hadamard(values: Tensor) -> Tensor:
    """H v along the last dimension, a power of two, in Sylvester order; exact for integers.

    Floats are added in a fixed order (spans 1, 2, 4, ...), each sum rounded once, so every device gives the same bits.
    """
    shape, span = values.shape, 1
    while span < shape[-1]:
        even, odd = values.view(*shape[:-1], -1, 2, span).unbind(-2)
        values = torch.stack((even + odd, even - odd), -2).view(shape)
        span *= 2
    return values


def codebook_select(residual: Tensor, first: Tensor, second: Tensor, atoms: int, bits: int) -> tuple[Tensor, Tensor]:
    """The atom of each group that points most along `residual`, and which way.

    Args:
        residual: float32 [D], padded with zeros to n.
        first: d1, int8 [B, n] of +-1, n a power of two, B the blocks that `atoms` groups fill.
        second: d2, as `first`.
        atoms: M, the number of groups.
        bits: b, each group holds 2^b atoms.

    Returns index int64 [M] inside the group and sign int8 [M]. Of equal magnitudes the lowest index is taken; a product
    of exactly 0 has sign +1. Raises ValueError when the shapes do not fit together.
    """
    check_codebook("codebook_select", first, second, atoms, bits, residual)
    padded = functional.pad(residual, (0, first.shape[1] - residual.numel()))
    products = hadamard(second * hadamard(first * padded)).view(-1, 1 << bits)[:atoms]
    index = products.abs().argmax(1)
    chosen = products.gather(1, index[:, None])[:, 0]
    return index, torch.where(chosen >= 0, 1, -1).to(torch.int8)


def codebook_compose(index: Tensor, sign: Tensor, first: Tensor, second: Tensor, bits: int, length: int) -> Tensor:
    """The sum of signed atoms, one of each group, exact.

    Args:
        index: int64 [M], each below 2^bits.
        sign: int8 [M] of +-1.
        first: d1, int8 [B, n] of +-1.
        second: d2, as `first`.
        bits: b, each group holds 2^b atoms.
        length: D, how many of the n values are kept.

    Returns int32 [D]. Raises ValueError when the shapes do not fit together.
    """
    atoms = index.numel()
    check_codebook("codebook_compose", first, second, atoms, bits, index, sign, length=length)
    sparse = torch.zeros(first.shape, dtype=torch.int32, device=first.device)
    sparse.view(-1)[torch.arange(atoms, device=index.device) * (1 << bits) + index] = sign.int()
    return (first * hadamard(second * hadamard(sparse))).sum(0, dtype=torch.int32)[:length].clone()


def check_codebook(
    op: str, first: Tensor, second: Tensor, atoms: int, bits: int, *vectors: Tensor, length: int | None = None
) -> None:
    """Raise ValueError, in one sentence, unless the signs form a codebook of `atoms` groups of 2^`bits`.

    `vectors` are the residual alone, or the index and sign of every atom; `length` is D where no residual gives it.
    """
    for name, signs in (("first", first), ("second", second)):
        if signs.dtype != torch.int8 or signs.dim() != 2 or not signs.is_contiguous():
            raise ValueError(f"{op}: {name} is {signs.dtype} {tuple(signs.shape)}; wanted torch.int8 [B, n].")
    blocks, size = first.shape
    if size & (size - 1) or not size or second.shape != first.shape:
        raise ValueError(
            f"{op}: first is {tuple(first.shape)} and second {tuple(second.shape)}; wanted [B, n], n a power of two."
        )
    if bits < 0 or 1 << bits > size:
        raise ValueError(f"{op}: bits is {bits}; wanted groups of 2^bits that fit into n = {size}.")
    if not 1 <= atoms <= blocks * (size >> bits):
        raise ValueError(f"{op}: {atoms} groups of 2^{bits} do not fit; wanted 1 to {blocks * (size >> bits)}.")
    if atoms * size >= MAX_SUM:
        raise ValueError(
            f"{op}: {atoms} atoms of {size} values overflow int32; wanted at most {(MAX_SUM - 1) // size}."
        )
    names = ("residual",) if len(vectors) == 1 else ("index", "sign")
    for name, vector in zip(names, vectors, strict=True):
        if vector.dim() != 1 or not vector.is_contiguous():
            raise ValueError(f"{op}: {name} is {tuple(vector.shape)}; wanted a contiguous vector.")
        if not vector.device == first.device == second.device:
            raise ValueError(f"{op}: {name} is on {vector.device} and the signs on {first.device}; wanted one device.")
    if len(vectors) == 2:
        index, sign = vectors
        if index.dtype != torch.int64 or sign.dtype != torch.int8 or sign.shape != index.shape:
            raise ValueError(
                f"{op}: index is {index.dtype} {tuple(index.shape)} and sign {sign.dtype} {tuple(sign.shape)}; "
                "wanted torch.int64 [M] and torch.int8 [M]."
            )
    elif not vectors[0].is_floating_point():
        raise ValueError(f"{op}: residual is {vectors[0].dtype}; wanted a floating dtype.")
    length = vectors[0].numel() if length is None else length
    if not 1 <= length <= size:
        raise ValueError(f"{op}: the length is {length}; wanted 1 to n = {size}.")
