"""Token spans, source frames and seconds lead to one another."""

import pytest
import torch
from codeclens.models.code.pruning import prune
from codeclens.models.code.visual_code import Segment, VisualCode, grid_positions
from codeclens.models.errors import InputError
from codeclens.models.video.planning import plan_from_costs
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTH, LEVELS = 8, 3


def segment(kind, index, pts, grid, seed=0):
    generator = torch.Generator().manual_seed(seed)
    count = grid[0] * grid[1]
    return Segment(
        kind,
        tuple(index),
        tuple(pts),
        True,
        grid,
        grid_positions(grid),
        torch.randn(count, WIDTH, generator=generator),
        torch.randn(LEVELS, count, WIDTH, generator=generator),
    )


def code_of(*segments):
    return VisualCode(tuple(segments), "thumbnail", "clip.mp4", "", plan_from_costs([0.0]))


CODE = code_of(
    segment("I", [0], [0.0], (4, 4)),
    segment("P", [12], [0.5], (1, 1)),
    segment("pair", [24, 36], [1.0, 1.5], (2, 3)),
)


def test_tokens_lead_to_frames_and_seconds():
    assert CODE.token_count == 23
    assert CODE.starts.tolist() == [0, 16, 17, 23]
    assert CODE.frames_of(0, 15) == ((0,), (0.0, 0.0))
    assert CODE.frames_of(15, 16) == ((0, 12), (0.0, 0.5))
    assert CODE.frames_of(17, 17) == ((24, 36), (1.0, 1.5))
    with pytest.raises(InputError, match="clip.mp4: tokens 5..23 are not within 0..22"):
        CODE.frames_of(5, 23)


def test_seconds_lead_to_tokens():
    assert CODE.tokens_of(0.4, 0.6) == (16, 17)
    assert CODE.tokens_of(1.2, 9.0) == (17, 23)
    with pytest.raises(InputError, match="no frame of the code lies within 2.00..3.00 s; it spans 0.00..1.50 s"):
        CODE.tokens_of(2, 3)


def test_nearest_frame():
    assert [CODE.nearest(t) for t in (-1, 0.3, 0.9, 1.4, 80)] == [0, 12, 24, 36, 36]


def test_the_time_is_the_mean_of_a_pair():
    assert [part.time for part in CODE] == [0.0, 0.5, 1.25]


def test_an_empty_code_and_one_out_of_order_are_refused():
    with pytest.raises(InputError, match="the code is empty"):
        code_of()
    with pytest.raises(InputError, match="in order of time"):
        code_of(CODE.segments[1], CODE.segments[0])


def naive_prune(segments, drop):
    """EVS in plain loops: score every token, keep the highest, the first of each grid whole."""
    scores = []
    for s, current in enumerate(segments):
        before = [other for other in segments[:s] if other.grid == current.grid]
        for token in range(len(current)):
            score = float("inf")
            if before:
                a, b = current.embeds[token].double(), before[-1].embeds[token].double()
                score = 1 - float(a @ b / (a.norm() * b.norm()))
            scores.append((score, s, token))
    first = sum(score == float("inf") for score, _, _ in scores)
    kept = sorted(scores, key=lambda row: -row[0])[: max(first, int(len(scores) * (1 - drop)))]
    return [sorted(token for _, s, token in kept if s == number) for number in range(len(segments))]


@settings(max_examples=50, deadline=None)
@given(drop=st.floats(0, 0.99), grids=st.lists(st.sampled_from([(2, 2), (3, 2)]), min_size=1, max_size=6))
def test_pruning_equals_the_definition(drop, grids):
    segments = [segment("I", [i], [i / 2], grid, seed=i) for i, grid in enumerate(grids)]
    pruned = prune(segments, drop)
    assert [found.cell.tolist() for found in pruned] == naive_prune(segments, drop)
    for before, after in zip(segments, pruned, strict=True):
        assert torch.equal(after.embeds, before.embeds[after.cell])
        assert torch.equal(after.deepstack, before.deepstack[:, after.cell])


def test_a_still_scene_keeps_only_its_first_picture():
    still = [segment("I", [i], [i / 2], (3, 3), seed=5) for i in range(4)]
    assert [len(found) for found in prune(still, 0.75)] == [9, 0, 0, 0]


@pytest.mark.parametrize("drop", [-0.1, 1.0])
def test_a_wrong_fraction_is_refused(drop):
    with pytest.raises(InputError, match="fraction of visual tokens to drop"):
        prune(list(CODE.segments), drop)
