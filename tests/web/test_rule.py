"""The planning rule of the page is Python's: both plan the same random clips."""

import numpy as np
import pytest
from codeclens.models.drawing.interactive import replan_data
from codeclens.models.errors import InputError
from codeclens.models.video.gop import POLICIES
from codeclens.models.video.planning import plan_from_costs
from codeclens.models.video.tokens import MODES
from support.javascript import call, why_no_javascript

if reason := why_no_javascript():
    pytest.skip(reason, allow_module_level=True)


def random_clip(rng):
    count = int(rng.choice([1, 2, 5, 40, 150]))
    size = ((512, 512), (384, 672), (32, 64))[rng.integers(3)]
    levels = rng.choice([1.0, 3.0, 8.0, 20.0, 45.0, 80.0], count, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.05])
    costs = levels * rng.uniform(0.8, 1.2, count) * size[0] * size[1] * 3
    costs[rng.random(count) < 0.03] = np.nan
    clip = {
        "index": np.cumsum(rng.integers(1, 20, count)),
        "pts": np.cumsum(rng.choice([0.5, 0.04, 1 / 3, 7.77], count)) - 0.5,
        "size": size,
    }
    return costs, clip


def random_settings(rng, count):
    def positions(most):
        return sorted({int(t) for t in rng.integers(0, count, rng.integers(0, most))})

    return {
        "policy": str(rng.choice(POLICIES)),
        "gamma": str(rng.choice(["auto", "scaled", "value"])),
        "gamma_value": float(rng.uniform(0, 40e6)),
        "cap": int(rng.integers(0, 20)),
        "budget": int(10 ** rng.uniform(0, 5)),
        "frames": positions(6),
        "pinned": positions(4),
        "released": positions(5),
        "mode": str(rng.choice(list(MODES))),
        "clear": bool(rng.random() < 0.5),
    }


def test_both_plan_the_same():
    rng = np.random.default_rng(11)
    calls, plans = [], []
    for _ in range(600):
        costs, clip = random_clip(rng)
        chosen = random_settings(rng, len(costs))
        cuts = clip["index"][rng.random(len(costs)) < 0.03].tolist()
        unclear = np.flatnonzero(rng.random(len(costs)) < 0.3).tolist()
        if chosen["policy"] == "streaming" and chosen["gamma"] == "auto":
            chosen["gamma"] = "scaled"
        data = replan_data(plan_from_costs(costs, gamma=0.0, **clip), cuts, unclear, chosen["cap"])
        gamma = chosen["gamma_value"] if chosen["gamma"] == "value" else chosen["gamma"]
        names = ("cap", "budget", "frames", "pinned", "released", "mode")
        rule = {name: chosen[name] for name in names} | {"unclear": unclear if chosen["clear"] else ()}
        try:
            plans.append(plan_from_costs(costs, chosen["policy"], gamma=gamma, cuts=cuts, **rule, **clip))
        except InputError as error:
            plans.append(error)
        resolved = chosen["gamma_value"] if chosen["gamma"] == "value" else data["gammas"][chosen["gamma"]]
        calls.append([data, chosen | {"gamma": resolved}])
    refused = 0
    for expected, found, (_, chosen) in zip(plans, call("rule.js", "plan", calls), calls, strict=True):
        if isinstance(expected, InputError):
            assert found == {"error": str(expected)}
            refused += 1
            continue
        assert found["why"] == list(expected.why), chosen
        assert found["keep"] == expected.keep.tolist(), chosen
        assert found["tokens"] == expected.tokens.tolist(), chosen
        assert found["promptTokens"] == expected.prompt_tokens, chosen
        assert found["warnings"] == list(expected.warnings), chosen
        assert found["gamma"] == (None if np.isnan(expected.gamma) else expected.gamma), chosen
    assert 5 < refused < 100, "budgets too small for a picture are refused alike"
