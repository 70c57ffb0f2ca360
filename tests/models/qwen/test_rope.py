"""Positions and rotations against the fixtures and against formulas written another way."""

import math

import numpy as np
import pytest
import torch
from codeclens.models.qwen.rope import frequencies, mrope_angles, mrope_positions, rotate, segments_of
from hypothesis import given, settings
from hypothesis import strategies as st

IMAGE, VIDEO = 912, 913
segments = st.lists(
    st.one_of(st.integers(1, 9), st.tuples(st.integers(1, 6), st.integers(1, 6))), min_size=1, max_size=6
)


@pytest.mark.parametrize("scenario", ["text", "image", "video", "mixed"])
def test_positions_equal_the_references(qwen3vl_fixtures, scenario):
    reference = np.load(qwen3vl_fixtures / "tiny-tied" / f"ref-{scenario}.npz")
    grids = [reference.get(name, []) for name in ("image_grid_thw", "video_grid_thw")]
    found, following = mrope_positions(segments_of(reference["input_ids"][0], IMAGE, VIDEO, *grids))
    np.testing.assert_array_equal(found.numpy(), reference["position_ids"])
    assert following == reference["position_ids"].max() + 1


@settings(deadline=None, max_examples=100)
@given(segments, st.integers(0, 1000))
def test_positions_follow_the_rule_token_by_token(parts, start):
    """Counted one token at a time, as the M-RoPE section of the Qwen2-VL paper says."""
    expected, position = [], start
    for part in parts:
        if isinstance(part, int):
            expected += [[position + i] * 3 for i in range(part)]
            position += part
        else:
            rows, columns = part
            expected += [[position, position + y, position + x] for y in range(rows) for x in range(columns)]
            position += max(part)
    found, following = mrope_positions(parts, start)
    assert found.T.tolist() == expected and following == position


@settings(deadline=None, max_examples=100)
@given(segments)
def test_segments_are_found_again_in_the_ids(parts):
    ids, images, videos = [], [], []
    for number, part in enumerate(parts):
        if isinstance(part, int):
            ids += [7] * part
        else:
            pad, grids = ((IMAGE, images), (VIDEO, videos))[number % 2]
            ids += [pad] * (part[0] * part[1])
            grids.append((1, 2 * part[0], 2 * part[1]))
    found = segments_of(ids, IMAGE, VIDEO, images, videos)
    assert mrope_positions(found)[0].tolist() == mrope_positions(parts)[0].tolist()


def test_pads_without_grids_and_grids_without_pads_are_refused():
    with pytest.raises(ValueError, match="token 1 .* no grid is left"):
        segments_of([1, IMAGE], IMAGE, VIDEO)
    with pytest.raises(ValueError, match="fewer pads than its 2 x 3 grid"):
        segments_of([1] + [IMAGE] * 5 + [2], IMAGE, VIDEO, [(1, 4, 6)])
    with pytest.raises(ValueError, match="more grids than pictures"):
        segments_of([1], IMAGE, VIDEO, (), [(1, 2, 2)])


def test_angles_take_their_axis_in_turn():
    """Frequency i of section sizes [24, 20, 20] turns with t, h, w, t, h, w, ... and with t alone from 60 on."""
    positions = torch.tensor([[100], [10], [1]])
    angles = mrope_angles(positions, 5e6, 128, (24, 20, 20))[0]
    for pair in range(64):
        position = (100, 10, 1)[pair % 3] if pair < 60 else 100
        assert angles[pair].item() == pytest.approx(position * 5e6 ** (-2 * pair / 128), rel=1e-5)


def test_sections_of_one_axis_are_plain_rope():
    positions = torch.stack([torch.arange(5), torch.full((5,), 77), torch.full((5,), 99)])
    found = mrope_angles(positions, 1e4, 16, (8, 0, 0))
    torch.testing.assert_close(found, torch.arange(5.0)[:, None] * frequencies(1e4, 16))


def test_rotation_turns_each_pair_as_a_complex_number():
    states, angles = torch.randn(3, 5, 16, dtype=torch.float64), torch.randn(5, 8, dtype=torch.float64)
    turned = torch.complex(states[..., :8], states[..., 8:]) * torch.polar(torch.ones_like(angles), angles)
    found = rotate(states, angles.cos(), angles.sin())
    torch.testing.assert_close(found, torch.cat([turned.real, turned.imag], dim=-1))


def test_scores_depend_on_distance_only():
    query, key = torch.randn(2, 1, 32, dtype=torch.float64)

    def score(first, second):
        positions = torch.tensor([[first, second]] * 3)
        angles = mrope_angles(positions, 1e4, 32, (6, 5, 5)).double()
        turned = rotate(torch.cat([query, key]), angles.cos(), angles.sin())
        return float(turned[0] @ turned[1])

    assert math.isclose(score(3, 10), score(1003, 1010), rel_tol=1e-3)
