"""The schedule: stages in their proportions, learning rates, and seeds that no two steps have in common."""

import json

import pytest
from codeclens.models.errors import InputError
from codeclens.models.synthetic.scenes import SPLITS, split_of
from codeclens.models.training.examples import Mixture
from codeclens.models.training.schedule import STAGES, Stage, TrainingConfig


@pytest.mark.parametrize("steps", [1, 2, 7, 400, 8000])
def test_stages_follow_each_other_in_their_proportions(steps):
    config, start = TrainingConfig(steps=steps), 0
    for index, stage in enumerate(STAGES):
        first, stop = config.bounds(index)
        assert first == start and stop - first == pytest.approx(stage.fraction * steps, abs=1)
        assert all(config.stage_of(step) == index for step in range(first, stop, max(1, (stop - first) // 5)))
        start = stop
    assert start == steps and config.stage_of(steps) == len(STAGES) - 1
    assert all(0 < config.lr_factor(step) <= 1 for step in range(0, steps, max(1, steps // 100)))


def test_learning_rates_rise_in_every_stage_and_fall_where_the_stage_cools_down():
    stages = (
        Stage("a", 6, 1, Mixture(), cooldown=0.5),
        Stage("b", 4, 1, Mixture()),
        Stage("c", 2, 1, Mixture(), cooldown=1),
    )
    config = TrainingConfig(steps=12, warmup=2, stages=stages)
    expected = [0.5, 1, 1, 1, 2 / 3, 1 / 3, 0.5, 1, 1, 1, 0.5, 0.5]
    assert [config.lr_factor(step) for step in range(12)] == pytest.approx(expected)


def test_the_last_steps_of_the_recipe_are_nearly_at_rest():
    config = TrainingConfig()
    assert 0 < config.lr_factor(config.steps - 1) < 0.01


def test_every_step_has_seeds_of_its_own_from_the_training_split():
    config = TrainingConfig()
    seen = [config.seeds(step) for step in range(0, config.steps, 500)] + [config.seeds(config.steps - 1)]
    assert all(split_of(seeds[0]) == split_of(seeds[-1]) == "train" for seeds in seen)
    assert all(one[-1] < other[0] for one, other in zip(seen, seen[1:], strict=False))
    assert seen[0][0] == SPLITS["train"][0]
    last = TrainingConfig(seed=255)
    assert split_of(last.seeds(last.steps)[-1]) == "train"


def test_fingerprints_differ_with_every_value():
    base = TrainingConfig().fingerprint()
    assert json.loads(base)["stages"][0]["name"] == STAGES[0].name and base == TrainingConfig().fingerprint()
    others = [
        TrainingConfig(steps=7),
        TrainingConfig(seed=1),
        TrainingConfig(stages=STAGES[1:]),
        TrainingConfig(lr=1.0),
    ]
    assert len({base, *(other.fingerprint() for other in others)}) == 5


def test_training_takes_a_step():
    with pytest.raises(InputError, match="0 steps"):
        TrainingConfig(steps=0)
