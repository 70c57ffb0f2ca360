"""block_match against a loop over every candidate in plain Python, and against truth that is known by construction."""

import numpy as np
import pytest
import torch
from codeclens.kernels import block_match, native
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native import instruction_sets, on_processor

PROCESSORS = [native.Processor(instructions) for instructions in (*instruction_sets(), "0")]
"""Every instruction set that this machine runs, and the eager twin alone."""


def on_every_processor(*arguments, **options):
    """What block_match returns, from each of PROCESSORS."""
    for processor in PROCESSORS:
        with on_processor(processor):
            yield block_match(*arguments, **options)


def noise(*shape: int, seed: int = 0, levels: int = 256) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, levels, shape, dtype=torch.uint8, generator=generator)


def brute_force(current: np.ndarray, reference: np.ndarray, radius: int, penalty: float):
    """The definition, one candidate at a time: smallest (cost, |dx| + |dy|, dy, dx) that stays inside the frame."""
    pairs, height, width, _ = current.shape
    mv = np.zeros((pairs, height // 16, width // 16, 2), np.int16)
    cost, sad = np.zeros(mv.shape[:3], np.float32), np.zeros(mv.shape[:3], np.int32)
    energy = np.zeros(mv.shape[:3], np.int32)
    for n, row, column in np.ndindex(mv.shape[:3]):
        y, x = 16 * row, 16 * column
        block = current[n, y : y + 16, x : x + 16].astype(int)
        candidates = []
        for dy in range(max(-radius, -y), min(radius, height - 16 - y) + 1):
            for dx in range(max(-radius, -x), min(radius, width - 16 - x) + 1):
                difference = block - reference[n, y + dy : y + dy + 16, x + dx : x + dx + 16]
                found = np.abs(difference).sum()
                far = abs(dx) + abs(dy)
                total = np.float32(found) + np.float32(penalty) * np.float32(far)
                candidates.append((total, far, dy, dx, found, (difference**2).sum()))
        total, _, dy, dx, found, squares = min(candidates)
        mv[n, row, column] = dx, dy
        cost[n, row, column], sad[n, row, column], energy[n, row, column] = total, found, squares
    return mv, cost, sad, energy


def assert_equal(found, wanted):
    for tensor, array in zip(found, wanted, strict=True):
        assert tensor.numpy().dtype == array.dtype
        np.testing.assert_array_equal(tensor.numpy(), array)


@settings(deadline=None, max_examples=25)
@given(
    pairs=st.integers(0, 2),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    radius=st.integers(0, 9),
    penalty=st.sampled_from([0.0, 1.0, 4.0, 0.3, 1e4]),
    levels=st.sampled_from([1, 2, 256]),
    seed=st.integers(0, 2**31),
)
def test_equals_brute_force_bit_for_bit(pairs, rows, columns, radius, penalty, levels, seed):
    """With one or two grey levels nearly everything ties, so the order of preference decides."""
    shape = (pairs, 16 * rows, 16 * columns, 3)
    current, reference = noise(*shape, seed=seed, levels=levels), noise(*shape, seed=seed + 1, levels=levels)
    wanted = brute_force(current.numpy(), reference.numpy(), radius, penalty)
    for found in on_every_processor(current, reference, radius, penalty, energy=True):
        assert_equal(found, wanted)


def test_window_beyond_a_block_and_beyond_the_frame():
    current, reference = noise(1, 48, 64, 3, seed=1), noise(1, 48, 64, 3, seed=2)
    wanted = brute_force(current.numpy(), reference.numpy(), 40, 4.0)
    for found in on_every_processor(current, reference, 40, 4.0, energy=True):
        assert_equal(found, wanted)


@pytest.mark.parametrize(("levels", "penalty"), [(2, 0.7), (256, 1e6)])
def test_the_widest_window_of_frames_with_opposite_colours(levels, penalty):
    """Costs up to the largest SAD there is, 195840: sums of 16 bits saturate on the way."""
    current = noise(2, 32, 160, 3, seed=4, levels=levels) * (255 // (levels - 1))
    reference = torch.stack([255 - current[0], torch.roll(current[1], (7, -61), (0, 1))])
    *found, wanted = on_every_processor(current, reference, 128, penalty, energy=True)
    for fields in found:
        for ours, theirs in zip(fields, wanted, strict=True):
            assert torch.equal(ours, theirs)


def test_more_pairs_than_have_tables_at_once():
    frames = noise(5, 384, 512, 3, seed=5)
    found = block_match(frames[1:], frames[:-1], 1, 4.0)
    for pair in range(4):
        one = block_match(frames[pair + 1 : pair + 2], frames[pair : pair + 1], 1, 4.0)
        assert all(torch.equal(whole[pair : pair + 1], part) for whole, part in zip(found[:3], one[:3], strict=True))


@pytest.mark.parametrize("dx, dy", [(0, 0), (5, -3), (-32, 32), (31, 7)])
def test_a_shifted_picture_is_found_exactly(dx, dy):
    scene = noise(1, 128 + 64, 160 + 64, 3, seed=3)
    reference = scene[:, 32 : 32 + 128, 32 : 32 + 160].contiguous()
    current = scene[:, 32 + dy : 32 + dy + 128, 32 + dx : 32 + dx + 160].contiguous()
    mv, cost, sad, energy = block_match(current, reference, 32, 4.0, energy=True)
    inside = (0, slice(2, 6), slice(2, 8))
    assert (mv[inside] == torch.tensor([dx, dy])).all()
    assert not sad[inside].any() and not energy[inside].any()
    assert (cost[inside] == 4.0 * (abs(dx) + abs(dy))).all()


def test_equal_frames_do_not_move():
    frame = noise(2, 64, 64, 3, levels=3)
    mv, cost, sad, energy = block_match(frame, frame, 16, 0.0)
    assert not mv.any() and not cost.any() and not sad.any() and energy.numel() == 0


FRAME = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)


@pytest.mark.parametrize(
    "current, reference, radius, penalty, message",
    [
        (FRAME.float(), FRAME, 4, 4.0, "current is torch.float32"),
        (FRAME[..., :2], FRAME, 4, 4.0, "current is torch.uint8 (1, 32, 32, 2)"),
        (FRAME, FRAME[0], 4, 4.0, "reference is torch.uint8 (32, 32, 3)"),
        (FRAME[:, :24].contiguous(), FRAME, 4, 4.0, "current is 24 x 32 pixels"),
        (FRAME, FRAME.transpose(1, 2), 4, 4.0, "reference is not contiguous"),
        (FRAME, FRAME[:, :16].contiguous(), 4, 4.0, "reference is (1, 16, 32, 3); wanted (1, 32, 32, 3)"),
        (FRAME, FRAME.to("meta"), 4, 4.0, "current is on cpu and reference on meta"),
        (FRAME, FRAME, -1, 4.0, "radius is -1"),
        (FRAME, FRAME, 512, 4.0, "radius is 512"),
        (FRAME, FRAME, 4, -1.0, "penalty is -1.0"),
        (FRAME, FRAME, 4, float("nan"), "penalty is nan"),
    ],
)
def test_bad_input_is_one_sentence(current, reference, radius, penalty, message):
    with pytest.raises(ValueError, match="^block_match: ") as error:
        block_match(current, reference, radius, penalty)
    assert message in str(error.value) and str(error.value).endswith(".")
