"""The router finds what pays, spends no more than it may, and is judged on clips it has not learned from."""

import numpy as np
import pytest
from codeclens.models.evaluation.paired import Outcome, Task
from codeclens.models.evaluation.router import ROUTER, STATISTICS, Rule, _Clip, learn_rule, route
from codeclens.models.video.planning import plan_from_costs
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = (128, 128)


def a_plan(levels, frames=8):
    """A plan whose predicted frames all cost so many grey levels a colour sample."""
    costs = np.full(frames, levels * 3 * SIZE[0] * SIZE[1], float)
    costs[0] = np.nan
    pts = np.arange(frames) / 4
    return plan_from_costs(costs, "frames", index=np.arange(frames), pts=pts, size=SIZE, frames=[0])


def outcomes_of(clips):
    """(outcomes, plans) of clips given as (levels, right as pairs, right as thumbnails)."""
    outcomes, plans = [], {}
    for number, (levels, *right) in enumerate(clips):
        task = Task(f"{number}.mp4", "?", "a", ("a", "b"))
        plans[task.clip] = a_plan(levels)
        for mode, tokens, one in zip(("rgb", "thumbnail"), (64, 23), right, strict=True):
            outcomes.append(Outcome(task, mode, "a" if one else "b", tokens, 1.0))
    return outcomes, plans


def test_statistics_are_the_plans_own():
    plan = a_plan(5.0, frames=10)
    values = {name: statistic(plan) for name, statistic in STATISTICS.items()}
    assert values["fraction of whole frames"] == 0.1 and values["number of frames"] == 10
    assert values["mean cost of predicted frames"] == values["highest cost of a predicted frame"] == pytest.approx(5)


def test_costly_clips_go_to_pairs_where_thumbnails_fail_on_them():
    clips = [(levels, True, levels < 8) for levels in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13)]
    routed = route(*outcomes_of(clips), fraction=0.6)
    assert all(outcome.right and outcome.mode == ROUTER for outcome in routed.outcomes)
    assert [outcome.tokens for outcome in routed.outcomes] == [23] * 7 + [64] * 5
    assert "cost of" in routed.rule and "above" in routed.rule


def test_nothing_is_spent_where_nothing_is_gained():
    routed = route(*outcomes_of([(levels, levels % 2, True) for levels in range(1, 13)]))
    assert [outcome.tokens for outcome in routed.outcomes] == [23] * 12
    assert routed.rule.startswith("always thumbnails")


def test_there_is_no_router_without_both_modes_or_with_few_clips():
    outcomes, plans = outcomes_of([(1, True, False)] * 6)
    assert route(outcomes, plans) is not None
    assert route([outcome for outcome in outcomes if outcome.mode == "rgb"], plans) is None
    assert route(*outcomes_of([(1, True, False)] * 3)) is None


def test_a_clip_is_never_judged_by_a_rule_that_saw_it():
    """Gains without reason: a rule learned from the clips themselves seems to gain, the router does not."""
    draw = np.random.default_rng(3)
    clips = [(draw.uniform(1, 20), draw.random() < 0.5, draw.random() < 0.5) for _ in range(400)]
    outcomes, plans = outcomes_of(clips)
    pairs, code = (np.mean([o.right for o in outcomes if o.mode == mode]) for mode in ("rgb", "thumbnail"))
    routed = np.mean([outcome.right for outcome in route(outcomes, plans).outcomes])
    assert abs(routed - (pairs + code) / 2) < 0.04


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(-2, 2), st.integers(0, 40)), min_size=2, max_size=9),
    st.floats(0.1, 1.0),
)
@settings(max_examples=80, deadline=None)
def test_rule_is_the_best_that_the_budget_allows(rows, fraction):
    clips = [_Clip(a_plan(levels), gain, extra) for levels, gain, extra in rows]
    budget = fraction * sum(clip.extra for clip in clips)

    def worth(rule):
        chosen = [clip for clip in clips if rule.prefers_pairs(clip.plan)]
        return sum(clip.gain for clip in chosen), sum(clip.extra for clip in chosen)

    gain, spent = worth(learn_rule(clips, fraction))
    assert spent <= budget + 1e-6 and gain >= 0
    for sign in (1, -1):
        for threshold in np.arange(0.5, 6):
            other, price = worth(Rule("mean cost of predicted frames", sign, sign * threshold))
            if 0 < sum(rule_side(clip, sign, threshold) for clip in clips) < len(clips) and price <= budget:
                assert gain >= other


def rule_side(clip, sign, threshold):
    return sign * STATISTICS["mean cost of predicted frames"](clip.plan) > sign * threshold
