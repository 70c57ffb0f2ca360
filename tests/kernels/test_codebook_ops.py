"""The codebook's butterflies against explicit atoms from a dense Hadamard matrix, and against golden vectors."""

import hashlib
import struct

import numpy as np
import pytest
import torch
from codeclens.kernels import codebook_compose, codebook_select
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard as dense_hadamard


def signs(blocks: int, size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1 - 2 * torch.randint(0, 2, (blocks, size), dtype=torch.int8, generator=generator)


def atoms_of(first: torch.Tensor, second: torch.Tensor, length: int) -> np.ndarray:
    """Every atom written out, [B, n, D]: atom k of a block is column k of diag(d1) H diag(d2) H."""
    matrix = dense_hadamard(first.shape[1]).astype(np.int64)
    return np.stack(
        [
            ((d1[:, None] * matrix) @ (d2[:, None] * matrix)).T[:, :length]
            for d1, d2 in zip(first.numpy().astype(np.int64), second.numpy().astype(np.int64), strict=True)
        ]
    )


@st.composite
def codebooks(draw):
    size = 1 << draw(st.integers(3, 8))
    bits = draw(st.integers(0, size.bit_length() - 1))
    atoms = draw(st.integers(1, 3 * (size >> bits)))
    blocks = -(-atoms // (size >> bits))
    length = draw(st.integers(1, size))
    seed = draw(st.integers(0, 2**31))
    return signs(blocks, size, seed), signs(blocks, size, seed + 1), atoms, bits, length, seed


@settings(deadline=None, max_examples=40)
@given(codebooks())
def test_compose_is_the_sum_of_the_atoms(codebook):
    first, second, atoms, bits, length, seed = codebook
    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(0, 1 << bits, (atoms,), generator=generator)
    sign = 1 - 2 * torch.randint(0, 2, (atoms,), dtype=torch.int8, generator=generator)
    table = atoms_of(first, second, length).reshape(-1, length)
    wanted = sum(int(s) * table[(m << bits) + int(k)] for m, (k, s) in enumerate(zip(index, sign, strict=True)))
    found = codebook_compose(index, sign, first, second, bits, length)
    assert found.dtype == torch.int32
    np.testing.assert_array_equal(found.numpy(), wanted)


@settings(deadline=None, max_examples=40)
@given(codebooks())
def test_select_is_the_largest_inner_product(codebook):
    """Integer residuals keep float32 exact, and small ones make ties common: the lowest index must win."""
    first, second, atoms, bits, length, seed = codebook
    residual = torch.randint(-2, 3, (length,), generator=torch.Generator().manual_seed(seed)).float()
    products = atoms_of(first, second, length).reshape(-1, length) @ residual.numpy().astype(np.int64)
    groups = products[: atoms << bits].reshape(atoms, -1)
    index, sign = codebook_select(residual, first, second, atoms, bits)
    wanted = np.abs(groups).argmax(1)
    np.testing.assert_array_equal(index.numpy(), wanted)
    np.testing.assert_array_equal(sign.numpy(), np.where(groups[np.arange(atoms), wanted] >= 0, 1, -1))


def shake_signs(domain: int, block: int, size: int) -> np.ndarray:
    """Signs of the format's golden vectors: seed 42, gop 0, step 3, frame 1."""
    stream = hashlib.shake_256(b"GVCB1" + struct.pack("<QBIHHH", 42, domain, 0, 3, 1, block)).digest(size // 8)
    return 1 - 2 * np.unpackbits(np.frombuffer(stream, np.uint8), bitorder="little").astype(np.int8)


def test_compose_reproduces_the_golden_vector():
    first, second = (
        torch.from_numpy(np.stack([shake_signs(domain, block, 128) for block in (0, 1)])) for domain in (1, 2)
    )
    index, sign = torch.tensor([5, 9, 0, 63]), torch.tensor([1, -1, 1, -1], dtype=torch.int8)
    found = codebook_compose(index, sign, first, second, bits=6, length=100)
    assert found[:8].tolist() == [-8, -8, -8, 8, 24, -8, -64, 16]
    assert int((found.long() ** 2).sum()) == 56832
    assert hashlib.sha256(found.numpy().astype("<i4").tobytes()).hexdigest()[:16] == "e9f3a32a12d7f8ad"


def test_select_finds_the_atoms_that_composed_a_video_latent_frame():
    """One latent frame of 16 channels at 30 x 52, the atoms of one block: each is its own best match."""
    length, bits, atoms = 16 * 30 * 52, 10, 32
    first, second = signs(1, 32768, 7), signs(1, 32768, 8)
    index = torch.randint(0, 1 << bits, (atoms,), generator=torch.Generator().manual_seed(9))
    sign = 1 - 2 * (torch.arange(atoms) % 2).to(torch.int8)
    summed = codebook_compose(index, sign, first, second, bits, length)
    found = codebook_select(summed.float(), first, second, atoms, bits)
    assert torch.equal(found[0], index) and torch.equal(found[1], sign)


SIGNS, PAIR = signs(1, 8, 0), (torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.int8))


@pytest.mark.parametrize(
    "residual, first, second, atoms, bits, message",
    [
        (torch.zeros(8), SIGNS.int(), SIGNS, 1, 1, "first is torch.int32"),
        (torch.zeros(8), SIGNS, SIGNS[0], 1, 1, "second is torch.int8 (8,)"),
        (torch.zeros(8), SIGNS[:, :6].contiguous(), SIGNS[:, :6].contiguous(), 1, 1, "n a power of two"),
        (torch.zeros(8), SIGNS, signs(2, 8, 0), 1, 1, "first is (1, 8) and second (2, 8)"),
        (torch.zeros(8), SIGNS, SIGNS, 1, 4, "bits is 4"),
        (torch.zeros(8), SIGNS, SIGNS, 5, 1, "5 groups of 2^1 do not fit; wanted 1 to 4"),
        (torch.zeros(9), SIGNS, SIGNS, 1, 1, "the length is 9; wanted 1 to n = 8"),
        (torch.zeros(2, 4), SIGNS, SIGNS, 1, 1, "residual is (2, 4)"),
        (torch.zeros(8, dtype=torch.int32), SIGNS, SIGNS, 1, 1, "residual is torch.int32"),
        (torch.zeros(8, device="meta"), SIGNS, SIGNS, 1, 1, "residual is on meta and the signs on cpu"),
    ],
)
def test_bad_select_is_one_sentence(residual, first, second, atoms, bits, message):
    with pytest.raises(ValueError, match="^codebook_select: ") as error:
        codebook_select(residual, first, second, atoms, bits)
    assert message in str(error.value) and str(error.value).endswith(".")


@pytest.mark.parametrize(
    "index, sign, length, message",
    [
        (PAIR[0].int(), PAIR[1], 8, "index is torch.int32"),
        (PAIR[0], PAIR[1][:1], 8, "sign torch.int8 (1,)"),
        (PAIR[0], PAIR[1], 0, "the length is 0"),
    ],
)
def test_bad_compose_is_one_sentence(index, sign, length, message):
    with pytest.raises(ValueError, match="^codebook_compose: ") as error:
        codebook_compose(index, sign, SIGNS, SIGNS, 1, length)
    assert message in str(error.value) and str(error.value).endswith(".")
