"""The plan against the rule written down naively, and the promises that every policy makes."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.video.gop import GopPlan
from codeclens.models.video.planning import (
    BITSTREAM_RATIO,
    POOLED_LEVELS,
    StreamingPlanner,
    auto_gamma,
    plan,
    plan_from_costs,
    pooled_gamma,
    scaled_gamma,
)
from codeclens.models.video.tokens import MODES, image_tokens
from hypothesis import given, settings
from hypothesis import strategies as st

UNIT = 512 * 512 * 3
COST_LISTS = st.lists(st.integers(0, 60).map(lambda levels: levels * UNIT / 2), min_size=1, max_size=80)
CAPS = st.integers(0, 20)


def rule(costs, gamma, cap):
    """AdaCodec, section 3.1, word for word: 'I' or 'P' for each frame."""
    kinds, predicted = "", 0
    for t, cost in enumerate(costs):
        if t == 0 or cost > gamma or predicted == cap:
            kinds, predicted = kinds + "I", 0
        else:
            kinds, predicted = kinds + "P", predicted + 1
    return kinds


def kinds_of(plan):
    return plan.to_json()["kind"]


def gop_lengths(kinds):
    return [len(run) for run in kinds.split("I")[1:]]


@given(costs=COST_LISTS, gamma=st.integers(0, 61).map(lambda levels: levels * UNIT / 2), cap=CAPS)
@settings(deadline=None)
def test_the_rule_has_no_slack(costs, gamma, cap):
    adaptive = plan_from_costs(costs, gamma=gamma, cap=cap)
    assert kinds_of(adaptive) == rule(costs, gamma, cap)
    for t, why in enumerate(adaptive.why):
        assert why == "first" if t == 0 else (why == "cost") == (costs[t] > gamma)
    streaming = plan_from_costs(costs, "streaming", gamma=gamma, cap=cap)
    assert streaming.why == adaptive.why
    planner = StreamingPlanner(gamma, cap)
    assert tuple(planner.push(cost) for cost in costs) == adaptive.why


def test_a_cost_equal_to_gamma_is_still_predicted():
    assert kinds_of(plan_from_costs([0, 5, 6, 5, 7], gamma=5)) == "IPIPI"
    assert kinds_of(plan_from_costs([9e9, 5, 5], gamma=5)) == "IPP"


def test_the_published_staircase():
    """AdaCodec's Figure 4 draws running tokens at 256 for I and 16 for P: 17 quiet frames, a burst, 18 quiet frames."""
    gamma = 31.57e6
    costs = [None] + [3e6] * 16 + [110e6, 60e6] + [5e6] * 18
    staircase = plan_from_costs(costs, gamma=gamma, mode="ptoken")
    assert staircase.i_frames.tolist() == [0, 17, 18, 35]
    assert [staircase.why[t] for t in staircase.i_frames] == ["first", "cost", "cost", "cap"]
    assert staircase.tokens.sum() == 4 * 256 + 33 * 16
    assert staircase.totals["rgb_per_frame"] == 37 * 256
    assert scaled_gamma((512, 512)) == pytest.approx(gamma, rel=0.005)


@given(costs=COST_LISTS, cap=CAPS)
@settings(deadline=None, max_examples=50)
def test_fixed_takes_every_cap_plus_one(costs, cap):
    fixed = plan_from_costs(costs, "fixed", cap=cap)
    assert fixed.i_frames.tolist() == list(range(0, len(costs), cap + 1))
    assert math.isnan(fixed.gamma)


def test_the_user_lists_the_i_frames():
    chosen = plan_from_costs([0.0] * 40, "frames", frames=[5, 39, 0], cap=16)
    assert chosen.i_frames.tolist() == [0, 5, 39]
    assert [chosen.why[t] for t in (0, 5, 39)] == ["first", "user", "user"]
    with pytest.raises(InputError, match="I frame 40 .* 0 to 39"):
        plan_from_costs([0.0] * 40, "frames", frames=[40])


def test_a_frame_that_the_user_lists_stays_the_users_at_a_cut():
    chosen = plan_from_costs([0.0] * 6, "frames", frames=[2], cuts=[2, 4])
    assert chosen.why == ("first", "", "user", "", "cut", "")


def test_a_cut_opens_a_gop_at_the_first_sample_after_it():
    index = np.array([0, 12, 24, 36, 48])
    for policy in ("adaptive", "fixed", "frames", "streaming"):
        cut = plan_from_costs([0.0] * 5, policy, gamma=1.0, index=index, cuts=[0, 13, 36, 49, 1000])
        assert cut.why == ("first", "", "cut", "cut", ""), policy


@given(
    costs=COST_LISTS,
    cap=CAPS,
    mode=st.sampled_from(list(MODES)),
    budget=st.integers(1, 12000),
    size=st.sampled_from([(512, 512), (384, 672), (32, 64)]),
)
@settings(deadline=None)
def test_a_budget_is_never_exceeded(costs, cap, mode, budget, size):
    gamma = 10.0 * UNIT
    seconds = (len(costs) - 1) / 2
    if budget < image_tokens(size) + 2 + len(f"<{seconds:.1f}>") + 1:
        with pytest.raises(InputError, match="at least one picture"):
            plan_from_costs(costs, "budget", gamma=gamma, cap=cap, mode=mode, budget=budget, size=size)
        return
    met = plan_from_costs(costs, "budget", gamma=gamma, cap=cap, mode=mode, budget=budget, size=size)
    free = plan_from_costs(costs, gamma=gamma, cap=cap, mode=mode, size=size)
    assert met.prompt_tokens <= budget
    assert met.keep.any()
    if free.prompt_tokens <= budget:
        assert met.why == free.why and met.keep.all() and not met.warnings
    else:
        assert met.warnings
        assert all(f"budget of {budget} tokens" in warning for warning in met.warnings)
    kept = [met.keep[start:stop] for start, stop in met.gops]
    assert all(gop.all() or not gop.any() for gop in kept)
    assert max(gop_lengths(kinds_of(met))) <= cap
    # Even over the clip: between two kept GOPs, and before the first and after the last, little more than an even part.
    number, held = len(kept), sum(gop.all() for gop in kept)
    gaps = "".join("x" if gop.all() else "." for gop in kept).split("x")
    assert max(map(len, gaps)) <= math.ceil(number / held)


def words(frames, first=0):
    """Markers and stamps of frames at two a second, from number ``first`` on: a digit more from 10 s on."""
    return sum(2 + len(f"<{number / 2:.1f}>") + 1 for number in range(first, first + frames))


def test_a_budget_raises_gamma_before_it_drops_anything():
    costs = [0] + [12 * UNIT, 15 * UNIT, UNIT, UNIT] * 8
    free = plan_from_costs(costs, gamma=10.0 * UNIT)
    assert len(free.i_frames) == 17
    met = plan_from_costs(costs, "budget", gamma=10.0 * UNIT, budget=9 * 256 + 24 * 16 + words(33))
    assert met.gamma == 12 * UNIT and len(met.i_frames) == 9 and met.keep.all()
    tight = plan_from_costs(costs, "budget", gamma=10.0 * UNIT, budget=512 + words(16, 17))
    assert tight.gamma == 15 * UNIT and kinds_of(tight) == "I" + "P" * 16 + "I" + "P" * 15
    assert [met.keep[0] for met in (tight,)] == [False] and tight.keep[17:].all()
    assert plan_from_costs(costs, "budget", gamma=7.0 * UNIT, budget=512 + words(16, 17)).gamma == 12 * UNIT
    single = plan_from_costs([0] + [UNIT] * 9, "budget", gamma=10.0 * UNIT, budget=288 + words(3))
    assert kinds_of(single) == "IPPIPPIPPI" and single.tokens.sum() == 256 + 32
    assert single.keep.tolist() == [False] * 6 + [True] * 3 + [False]


@given(
    clips=st.lists(st.lists(st.floats(0, 60), min_size=1, max_size=60), min_size=1, max_size=3),
    cap=st.integers(1, 16),
)
@settings(deadline=None, max_examples=60)
def test_auto_gamma_brings_the_median_gop_nearest_to_eight(clips, cap):
    size = (32, 32)
    unit = 32 * 32 * 3
    clips = [[cost * unit for cost in clip] for clip in clips]
    gamma = auto_gamma(clips, size, cap)
    if sum(map(len, clips)) < 18:
        assert gamma == scaled_gamma(size)
        return

    def distance(gamma):
        return abs(np.median([n for clip in clips for n in gop_lengths(rule(clip, gamma, cap))]) - 8)

    known = [cost for clip in clips for cost in clip[1:] if cost >= unit]
    floor = 1.25 * np.median([cost for clip in clips for cost in clip[1:]] or [0.0])
    if gamma == pytest.approx(floor):
        return
    assert gamma > floor
    assert distance(gamma) == min(distance(other) for other in [unit, *known])
    assert gamma >= unit


def test_auto_gamma_takes_the_middle_of_the_widest_gap():
    quiet, busy, cut = 2 * UNIT, 3 * UNIT, 27 * UNIT
    costs = [0] + ([quiet, busy] * 4 + [cut]) * 5
    assert auto_gamma([costs], (512, 512)) == pytest.approx(9 * UNIT)
    assert gop_lengths(kinds_of(plan_from_costs(costs))) == [8] * 5 + [0]


def test_a_scene_of_equal_costs_gets_no_i_frames_but_by_the_cap():
    """A still scene with noise: costs within 0.8 % of each other, in which a gap of any size can be found."""
    noise = np.random.default_rng(0).uniform(11.0, 11.09, 60) * UNIT
    noise[30] = 11.2 * UNIT
    made = plan_from_costs(noise)
    assert set(made.why) == {"first", "cap", ""} and made.gamma == pytest.approx(1.25 * np.median(noise[1:]))


def test_of_gaps_with_equally_good_gops_auto_gamma_takes_the_widest():
    """GOPs of 9, 9, 9 frames or of 9, 17, 1: the median has 8 P frames both ways."""
    quiet, high, highest = 10 * UNIT, 90 * UNIT, 100 * UNIT
    costs = [0] + [quiet] * 8 + [highest] + [quiet] * 8 + [high] + [quiet] * 8
    assert auto_gamma([costs], (512, 512)) == pytest.approx(30 * UNIT)


def test_a_budget_raises_gamma_to_twice_itself_and_no_further():
    budget = 256 + 9 * 16 + words(10)
    for cost, raised in ((2.0, True), (2.001, False)):
        met = plan_from_costs([0, 0, 0, cost * UNIT] + [0] * 6, "budget", gamma=1.0 * UNIT, budget=budget)
        assert (met.gamma, kinds_of(met)) == ((2 * UNIT, "I" + "P" * 9) if raised else (UNIT, "IPPIPPPPPP"))
        assert met.keep.all() == raised


def test_auto_gamma_of_still_short_and_single_clips():
    still = plan_from_costs([0.0] * 40)
    assert kinds_of(still) == "I" + "P" * 16 + "I" + "P" * 16 + "I" + "P" * 5
    noise = np.random.default_rng(0).uniform(0.1, 0.9, 40) * UNIT
    assert kinds_of(plan_from_costs(noise)) == kinds_of(still)
    assert plan_from_costs([0.0]).gamma == plan_from_costs([1e9] * 17).gamma == scaled_gamma((512, 512))
    assert kinds_of(plan_from_costs([0.0])) == "I"


@pytest.mark.parametrize("source", ["search", "bitstream"])
def test_a_short_clip_takes_the_pooled_gamma_of_where_its_costs_come_from(source):
    """9 s at 2 fps: with 40 grey levels none of the generated clips, whose costs peak at 11 to 22, got a second I."""
    costs = [0.0] + [5.0 * UNIT] * 8 + [1.01 * POOLED_LEVELS[source] * UNIT] + [5.0 * UNIT] * 7
    made = plan_from_costs(costs, source=source)
    assert made.gamma == pooled_gamma((512, 512), source) == pytest.approx(POOLED_LEVELS[source] * UNIT)
    assert kinds_of(made) == "I" + "P" * 8 + "I" + "P" * 7
    assert pooled_gamma((512, 512), "costs") == scaled_gamma((512, 512)) == 40 * UNIT


def test_the_encoders_vectors_have_a_higher_gamma():
    assert scaled_gamma((64, 64), "bitstream") == BITSTREAM_RATIO * scaled_gamma((64, 64), "search")
    assert plan_from_costs([0.0], source="bitstream", gamma="scaled").gamma == scaled_gamma((512, 512), "bitstream")


def test_a_missing_reference_makes_an_i_frame():
    assert kinds_of(plan_from_costs([None, 1, None, math.nan, 1], gamma=5)) == "IPIIP"


@given(
    costs=st.lists(st.integers(0, 60).map(float), min_size=2, max_size=60),
    span=st.tuples(st.floats(-1, 31), st.floats(0, 31)),
    budget=st.integers(266, 4000),
)
@settings(deadline=None, max_examples=60)
def test_a_slice_is_anchored_and_keeps_everything_else(costs, span, budget):
    whole = plan_from_costs(costs, "budget", gamma=30.0, budget=budget)
    start, stop = span[0], span[0] + span[1]
    inside = [t for t in range(len(costs)) if start <= t / 2 < stop]
    if not inside:
        with pytest.raises(InputError, match="no sampled frame lies in"):
            whole.slice(start, stop)
        return
    part = whole.slice(start, stop)
    assert part.index.tolist() == inside and part.pts.tolist() == [t / 2 for t in inside]
    assert part.kind[0] == 1 and np.isnan(part.pcost[0])
    assert part.why[0] == (whole.why[inside[0]] or "slice")
    assert part.why[1:] == whole.why[inside[0] + 1 : inside[-1] + 1]
    assert (part.keep == whole.keep[inside]).all()
    assert max(gop_lengths(kinds_of(part))) <= 16
    assert part.tokens[0] == (256 if part.keep[0] else 0)
    assert (part.tokens[1:] == whole.tokens[inside][1:]).all()


@given(costs=COST_LISTS, policy=st.sampled_from(["adaptive", "fixed", "budget"]), mode=st.sampled_from(list(MODES)))
@settings(deadline=None, max_examples=40)
def test_json_round_trip(costs, policy, mode):
    first = plan_from_costs(costs, policy, mode=mode, budget=2000)
    text = json.dumps(first.to_json(), allow_nan=False)
    second = GopPlan.from_json(text)
    assert json.dumps(second.to_json()) == text
    for name in ("kind", "keep", "pcost", "index", "pts", "tokens"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.dtype == other.dtype and np.array_equal(one, other, equal_nan=name == "pcost")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_damaged_plan_is_refused_or_still_a_plan(data):
    record = plan_from_costs([0, 1, 9, 1, 1, 9, 1], gamma=5).to_json()
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(sorted(record)))
        if isinstance(record[name], list) and record[name] and data.draw(st.booleans()):
            record[name][data.draw(st.integers(0, len(record[name]) - 1))] = data.draw(JSON)
        else:
            record[name] = data.draw(JSON)
    try:
        read = GopPlan.from_json(record)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert GopPlan.from_json(read.to_json()).to_json() == read.to_json()


@given(text=st.text(max_size=40) | st.binary(max_size=40))
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(InputError):
        GopPlan.from_json(text)


def test_what_is_asked_for_is_checked():
    for arguments, words in [
        (dict(policy="clever"), "'clever' is unknown"),
        (dict(gamma="big"), "gamma is 'big'"),
        (dict(gamma=math.nan), "gamma is nan"),
        (dict(gamma=-1), "gamma is -1"),
        (dict(cap=-1), "cap is -1"),
        (dict(cap=2.5), "cap is 2.5"),
        (dict(policy="streaming"), "needs the whole clip"),
        (dict(policy="budget"), "budget is None"),
        (dict(policy="budget", budget=255), "at least one picture of 264 tokens"),
        (dict(mode="fast"), "'fast' is unknown"),
        (dict(size=(500, 512)), "multiples of 32"),
    ]:
        with pytest.raises(InputError, match=words):
            plan_from_costs([0, 1, 2], **arguments)
    for costs in ([], [0, -1], [0, "1"], [0, math.inf], [0, True], {"a": 1}, None):
        with pytest.raises(InputError, match="cost"):
            plan_from_costs(costs)


def test_a_plan_of_primitives_carries_their_times_and_numbers():
    primitives = SimpleNamespace(
        pcost=np.array([np.nan, 2.0, 9.0]),
        index=np.array([3, 15, 27]),
        pts=np.array([0.125, 0.625, 1.125]),
        size=(384, 672),
        source="bitstream",
        video=None,
    )
    made = plan(primitives, gamma=5, mode="keyframes")
    assert kinds_of(made) == "IPI" and made.tokens.tolist() == [252, 0, 252]
    assert made.index.tolist() == [3, 15, 27] and made.pts.tolist() == [0.125, 0.625, 1.125]
    assert made.source == "bitstream" and made.gops == [(0, 2), (2, 3)]
    assert made.in_mode("thumbnail").tokens.tolist() == [252, 15, 252]
