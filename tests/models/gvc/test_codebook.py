"""The codebook against its golden vectors, against explicit matrices, and against theory."""

import hashlib
import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.gvc.codebook import (
    FIRST_SIGNS,
    SECOND_SIGNS,
    NoiseKey,
    check_codebook,
    compose,
    initial_noise,
    normal_table,
    padded_length,
    random_signs,
    select,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def digest(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def hadamard_matrix(n: int) -> np.ndarray:
    matrix = np.ones((1, 1), np.int64)
    while len(matrix) < n:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def atom_matrix(key: NoiseKey, length: int, atoms: int, bits: int) -> np.ndarray:
    """int64 [blocks, n, D]: every atom of every block, written out from the definition."""
    n = padded_length(length)
    matrix = hadamard_matrix(n)
    blocks = -(-atoms // (n >> bits))
    written = []
    for block in range(blocks):
        first = random_signs(key, FIRST_SIGNS, block, n).astype(np.int64)
        second = random_signs(key, SECOND_SIGNS, block, n).astype(np.int64)
        written.append((np.diag(first) @ matrix @ np.diag(second) @ matrix).T[:, :length])
    return np.stack(written)


def test_golden_table():
    assert digest(normal_table().astype("<i2")) == "1ea009ce409dac97"
    values = normal_table() / 4096
    assert values.var() == pytest.approx(0.99998, abs=1e-5)
    assert (normal_table() == -normal_table()[::-1]).all()


def test_golden_initial_noise():
    noise = initial_noise(42, 0, 2, 1000)
    assert noise[0, :4].tolist() == [1.44873046875, 1.27978515625, 0.6357421875, -0.297607421875]
    assert digest(noise.numpy()) == "e788a657dea6f3c8"


def test_golden_composition():
    key = NoiseKey(42, 0, 3, 1)
    index, sign = torch.tensor([5, 9, 0, 63]), torch.tensor([1, -1, 1, -1], dtype=torch.int8)
    z = compose(index, sign, key, 6, 100)
    assert digest(z.numpy()) == "f68f25ad0a60ef29"
    matrix = atom_matrix(key, 100, 4, 6)
    summed = matrix[0, 5] - matrix[0, 64 + 9] + matrix[1, 0] - matrix[1, 64 + 63]
    assert summed[:8].tolist() == [-8, -8, -8, 8, 24, -8, -64, 16]
    assert (summed**2).sum() == 56832
    assert digest(summed.astype("<i4")) == "e9f3a32a12d7f8ad"


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 256), st.data())
def test_selection_and_composition_equal_brute_force(length, data):
    n = padded_length(length)
    bits = data.draw(st.integers(1, n.bit_length() - 1))
    atoms = data.draw(st.integers(1, min(24, 3 * (n >> bits))))
    key = NoiseKey(data.draw(st.integers(0, 2**64 - 1)), data.draw(st.integers(0, 9)), 3, 1)
    residual = np.random.default_rng(length).integers(-50, 50, length).astype(np.float32)
    matrix = atom_matrix(key, length, atoms, bits)
    products = (matrix @ residual.astype(np.int64)).reshape(-1, 1 << bits)[:atoms]
    index, sign = select(torch.from_numpy(residual), key, atoms, bits)
    best = np.abs(products).argmax(1)
    assert index.tolist() == best.tolist()
    assert sign.tolist() == [1 if products[group, at] >= 0 else -1 for group, at in enumerate(best)]
    chosen = matrix.reshape(-1, 1 << bits, length)[np.arange(atoms), best] * sign.numpy()[:, None].astype(np.int64)
    summed = chosen.sum(0)
    energy = int((summed**2).sum())
    expected = summed.astype(np.float32) * np.float32(math.sqrt(length / max(energy, 1)))
    assert np.array_equal(compose(index, sign, key, bits, length).numpy(), expected)


@pytest.mark.parametrize(("atoms", "bits", "theory"), [(64, 14, 1095), (64, 8, 599)])
def test_captured_energy_at_720p_is_what_theory_gives(atoms, bits, theory):
    """D cos^2 = (sum of the groups' largest |N(0,1)|)^2 / M for a white residual; 5 % covers one draw."""
    torch.manual_seed(0)
    residual = torch.randn(16 * 90 * 160)
    key = NoiseKey(1, 0, 0, 0)
    z = compose(*select(residual, key, atoms, bits), key, bits, residual.numel())
    captured = float((z @ residual) ** 2 / (residual @ residual))
    assert captured == pytest.approx(theory, rel=0.05)
    assert float(z.square().mean()) == pytest.approx(1, abs=1e-5)
    assert float((z**4).mean()) == pytest.approx(3, abs=0.1)


def test_a_concentrated_residual_is_captured_as_well_as_a_white_one():
    """One round of Hadamard fails here: all of the energy sits in 16 neighbouring values."""
    torch.manual_seed(0)
    captured = []
    for spread in (4096, 16):
        residual = torch.zeros(4096)
        residual[:spread] = torch.randn(spread)
        total = 0.0
        for step in range(20):
            key = NoiseKey(1, 0, step, 0)
            z = compose(*select(residual, key, 8, 8), key, 8, 4096)
            total += float((z @ residual) ** 2 / (residual @ residual))
        captured.append(total / 20)
    assert captured[1] == pytest.approx(captured[0], rel=0.15)


def test_table_matches_a_fresh_evaluation():
    inverse = NormalDist().inv_cdf
    for u in (0, 1, 777, 32767, 32768, 65535):
        assert normal_table()[u] == math.floor(4096 * inverse((u + 0.5) / 65536) + 0.5)


def test_frames_steps_and_gops_have_noise_of_their_own():
    draws = [random_signs(NoiseKey(*key), FIRST_SIGNS, 0, 4096) for key in
             ((1, 0, 0, 0), (2, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 0, 1))]  # fmt: skip
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert abs(first.astype(int) @ second) < 5 * 64


def test_codebooks_that_cannot_be():
    for arguments, said in (
        ((100, 0, 4), "has 0 atoms"),
        ((100, 4, 0), "has 0 bits"),
        ((100, 4, 8), "do not fit a latent frame of 100 values"),
        ((230400, 20000, 8), "overflow 32-bit sums"),
        ((230400, 8192, 8), "overflow 32-bit sums; use at most 8191 atoms"),
    ):
        with pytest.raises(InputError, match=said):
            check_codebook(*arguments)


def test_the_most_atoms_that_a_sum_holds():
    """8191 x 2^18 is below 2^31 and 8192 x 2^18 is not."""
    check_codebook(230400, 8191, 8)


def test_atoms_that_cancel_are_no_noise_and_no_error():
    """In a frame of one value two atoms may be equal and opposite: the sum is 0 and stays 0."""
    key, index = NoiseKey(2, 0, 0, 0), torch.zeros(2, dtype=torch.int64)
    sums = [float(compose(index, torch.tensor([1, sign], dtype=torch.int8), key, 2, 1)) for sign in (1, -1)]
    assert sorted(map(abs, sums)) == [0, 1]
