"""The tail residual's coder: exact levels back, budgets kept, better than the raw bytes it replaces."""

import zlib

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.residual import (
    DCT,
    ZIGZAG,
    decode_residual,
    encode_residual,
    forward_transform,
    inverse_transform,
    quantise,
    step_size,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dctn


def smooth_frame(channels=4, height=24, width=32, seed=0) -> np.ndarray:
    """Noise with a falling spectrum: a residual with something to gain from a transform."""
    generator = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(generator.normal(size=(channels, height, width)))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frame = np.fft.irfft2(spectrum / (0.01 + down**2 + across**2), (height, width))
    return (frame / frame.std()).astype(np.float32)


def test_transform_is_the_orthonormal_dct():
    frame = smooth_frame(1, 8, 8)
    expected = dctn(frame[0].astype(np.float64), norm="ortho").ravel()[ZIGZAG]
    assert np.allclose(forward_transform(frame)[0, 0, 0], expected)
    assert np.allclose(DCT @ DCT.T, np.eye(8))
    assert ZIGZAG[:6].tolist() == [0, 1, 8, 2, 9, 16]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 13), (16, 90, 160)])
def test_transform_round_trip(shape):
    frame = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    assert np.allclose(inverse_transform(forward_transform(frame), *shape[1:]), frame, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 3), st.integers(1, 20), st.integers(1, 20),
    st.sampled_from([0.01, 1.0, 300.0]), st.sampled_from([0.0, 0.5, 0.97]), st.integers(10, 3000), st.integers(0, 99),
)  # fmt: skip
def test_what_is_decoded_is_what_was_quantised(channels, height, width, scale, sparsity, budget, seed):
    generator = np.random.default_rng(seed)
    frame = generator.normal(size=(channels, height, width)) * scale
    frame *= generator.random(frame.shape) >= sparsity
    data = encode_residual(frame, budget)
    assert len(data) <= budget
    if data:
        step = step_size(data[0])
        expected = inverse_transform(quantise(forward_transform(frame), step) * step, height, width)
        assert np.array_equal(decode_residual(data, frame.shape), expected)


def test_more_bytes_leave_less_error():
    frame = smooth_frame()
    errors = []
    for budget in (0, 20, 60, 200, 600, 2000):
        data = encode_residual(frame, budget)
        found = decode_residual(data, frame.shape) if data else np.zeros_like(frame)
        errors.append(float(np.square(frame - found).mean()))
    assert errors[0] == pytest.approx(float(np.square(frame).mean()))
    assert all(later < earlier for earlier, later in zip(errors, errors[1:], strict=False))


def test_beats_raw_bytes_through_zlib_at_equal_error():
    """The reference's way, uniform samples of the channel's range, deflated; here at 5 bits, near the codec's rates."""
    frame = smooth_frame(4, 48, 80)
    peak = np.abs(frame).max((1, 2), keepdims=True)
    samples = np.round((frame / peak + 1) * 15.5)
    raw = len(zlib.compress(samples.astype(np.uint8).tobytes(), 9)) + 4 * 4
    error = np.square((samples / 15.5 - 1) * peak - frame).mean()
    data = encode_residual(frame, raw * 9 // 10)
    assert np.square(decode_residual(data, frame.shape) - frame).mean() < error


def test_a_sparse_residual_costs_what_it_holds():
    frame = np.zeros((16, 64, 64), np.float32)
    frame[3, 8:16, 8:16] = 1.0
    data = encode_residual(frame, 24)
    assert np.abs(decode_residual(data, frame.shape) - frame).max() < 0.1
    assert encode_residual(np.zeros((4, 8, 8)), 100) == b""


@settings(deadline=None, max_examples=60)
@given(st.binary(min_size=1, max_size=80))
def test_any_bytes_decode_to_a_frame_or_are_refused(data):
    try:
        assert decode_residual(data, (2, 9, 17)).shape == (2, 9, 17)
    except InputError as error:
        assert "no encoder writes that" in str(error)


def test_the_dead_zone_is_two_thirds_of_a_step():
    """Magnitudes below 2/3 of a step vanish, above they round to the level whose bin starts 1/3 below it."""
    values = np.array([0.66, 0.67, -0.66, -0.67, 1.66, 1.67])
    assert quantise(values, 1.0).tolist() == [0, 1, 0, -1, 1, 2]
