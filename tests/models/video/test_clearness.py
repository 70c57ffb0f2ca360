"""Frames that no person would choose: what counts as one, and that the plan waits for the next clear frame."""

import numpy as np
import pytest
from codeclens.models.video.clearness import small_pictures, unclear_frames
from codeclens.models.video.planning import plan, plan_from_costs
from codeclens.models.video.primitives import primitives
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import frames_of

SIZE = (96, 160)
UNIT = 512 * 512 * 3


def mixture(a, b, at):
    return ((1 - at) * a.astype(float) + at * b).round().astype(np.uint8)


def frames(*pictures):
    return unclear_frames(small_pictures(np.stack(pictures)))


@pytest.fixture(scope="module")
def scenes():
    """Two pictures of blocks of 8 x 8 pixels in random colours, uint8 [96, 160, 3]."""
    colours = np.random.default_rng(3).integers(0, 256, (2, SIZE[0] // 8, SIZE[1] // 8, 3), np.uint8)
    return list(colours.repeat(8, 1).repeat(8, 2))


def test_black_and_fading_frames_are_unclear(scenes):
    black = np.zeros_like(scenes[0])
    fade = [mixture(black, scenes[0], at) for at in (0, 0.3, 0.6, 1, 1)]
    assert frames(*fade) == [0, 1, 2]


def test_the_middle_of_a_dissolve_is_unclear_and_a_cut_is_not(scenes):
    first, second = scenes
    assert frames(first, first, mixture(first, second, 0.5), second, second) == [2]
    assert frames(first, first, second, second) == []


def test_a_pan_is_clear(scenes):
    wide = np.concatenate([*scenes, *scenes], axis=1)
    assert frames(*(wide[:, x : x + SIZE[1]] for x in range(0, 240, 24))) == []


def naive(costs, gamma, cap, unclear, pinned, released):
    """'I' or 'P' for each frame, and which are shown: the rule in words, one frame after the other."""
    clear = [t not in unclear and t not in released for t in range(len(costs))]
    kinds, shown, predicted, waits, opening = "", [True] * len(costs), 0, False, False
    for t, cost in enumerate(costs):
        rule = t == 0 or (t not in released and (cost > gamma or predicted >= cap))
        if t and t in pinned:
            whole = True
        elif rule and t in unclear and any(clear[t + 1 : t + cap + 1]):
            waits, opening, whole = True, opening or t == 0, t == 0
        else:
            whole = rule or (waits and clear[t])
        if whole and t:
            if opening:
                shown[:t] = [False] * t
            waits = opening = False
        kinds += "I" if whole else "P"
        predicted = 0 if whole else predicted + 1
    return kinds, shown


MARKS = st.sets(st.integers(0, 39), max_size=12)


@given(
    costs=st.lists(st.integers(0, 20).map(lambda levels: levels * UNIT), min_size=40, max_size=60),
    cap=st.integers(0, 12), unclear=MARKS, pinned=MARKS, released=MARKS,
)  # fmt: skip
@settings(deadline=None)
def test_whole_pictures_wait_for_a_clear_frame(costs, cap, unclear, pinned, released):
    released = released - pinned
    made = plan_from_costs(
        costs, gamma=14.0 * UNIT, cap=cap, unclear=unclear, pinned=pinned, released=released
    )  # fmt: skip
    kinds, shown = naive(costs, 14.0 * UNIT, cap, unclear, pinned, released)
    assert made.to_json()["kind"] == kinds
    assert made.keep.tolist() == shown and made.keep.any()
    assert ("nothing clear" in " ".join(made.warnings)) == ("first" in made.why[1:])
    budget = plan_from_costs(
        costs, "budget", gamma=14.0 * UNIT, cap=cap, unclear=unclear, pinned=pinned, released=released, budget=900
    )  # fmt: skip
    assert budget.prompt_tokens <= 900 and budget.keep.any()
    streaming = plan_from_costs(costs, "streaming", gamma=14.0 * UNIT, cap=cap, unclear=unclear)
    assert streaming.to_json()["kind"] == plan_from_costs(costs, gamma=14.0 * UNIT, cap=cap).to_json()["kind"]


def test_the_option_reads_the_pictures(scenes):
    black = np.zeros_like(scenes[0])
    shown = [black, black, scenes[0], scenes[0], mixture(*scenes, 0.5), scenes[1], scenes[1]]
    found = primitives([frames_of(np.stack(shown))])
    assert plan(found, gamma=4.0 * SIZE[0] * SIZE[1] * 3).to_json()["kind"] == "IPIPIIP"
    clear = plan(found, gamma=4.0 * SIZE[0] * SIZE[1] * 3, clear=True)
    assert clear.to_json()["kind"] == "IPIPPIP"
    assert clear.keep.tolist() == [False, False, True, True, True, True, True]
