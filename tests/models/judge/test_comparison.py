"""Pairs in both orders, rankings from them, and calibration by verdicts."""

import itertools
import json

import numpy as np
import pytest
from codeclens.models.code.encoding import encode_video
from codeclens.models.errors import InputError
from codeclens.models.judge.calibration import (
    area_under_curve,
    calibration_error,
    fit_question,
    read_calibration,
    read_labels,
    write_calibration,
)
from codeclens.models.judge.comparison import Comparison, compare
from codeclens.models.judge.ranking import (
    RANKED,
    bradley_terry,
    knock_out,
    rank_by_both,
    rank_by_metrics,
    rank_by_pairs,
    rank_by_score,
)
from hypothesis import given
from hypothesis import strategies as st
from support.frames import frames_of, noise, plan_for


def code_of(model, seed):
    frames = frames_of(noise(2, 64, 64, seed))
    return encode_video([frames], plan_for(frames, "IP"), model, "thumbnail")


def test_comparing_is_antisymmetric(tiny_model):
    a, b = code_of(tiny_model, 1), code_of(tiny_model, 2)
    one, other = compare(tiny_model, a, b), compare(tiny_model, b, a)
    assert one.preference == pytest.approx(-other.preference, abs=1e-6)
    assert one.equal == pytest.approx(other.equal, abs=1e-6)
    assert one.probability == pytest.approx(1 - other.probability, abs=1e-6)
    assert one.mirrored == other


def test_a_video_against_itself_is_equal(tiny_model):
    a = code_of(tiny_model, 1)
    same = compare(tiny_model, a, a)
    assert same.preference == 0 and same.probability == pytest.approx(0.5) and same.winner == "equal"


def test_a_liking_for_the_first_video_cancels_and_is_reported():
    biased = Comparison(preference=0.0, equal=0.0, forward=3.0, backward=-3.0, off_list=0.0)
    assert biased.probability == 0.5 and biased.winner == "equal" and biased.inconsistency > 0.9


def by_strength(strength):
    def compare_them(a, b):
        z = strength[a] - strength[b]
        return Comparison(z, 0.0, z, z, 0.0)

    return compare_them


@given(st.lists(st.floats(-2, 2), min_size=1, max_size=7))
def test_all_pairs_find_the_order_of_the_strengths(strength):
    ranking = rank_by_pairs(len(strength), by_strength(strength))
    sorted_strength = [strength[at] for at in ranking.order]
    assert all(a >= b - 1e-6 for a, b in itertools.pairwise(sorted_strength))
    assert (ranking.low < ranking.strength).all() and (ranking.strength < ranking.high).all()


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9, unique=True))
def test_a_knock_out_finds_the_best_with_one_comparison_less_than_videos(strength):
    calls = []

    def counted(a, b):
        calls.append((a, b))
        return by_strength(strength)(a, b)

    ranking = knock_out(len(strength), counted)
    assert strength[ranking.order[0]] == max(strength) and len(calls) == len(strength) - 1
    assert sorted(ranking.order) == list(range(len(strength)))


def test_strengths_approach_the_true_ones_as_comparisons_agree_with_them():
    strength = np.array([1.0, 0.2, -0.4, -0.8])
    found = rank_by_pairs(4, by_strength(strength)).strength
    assert np.corrcoef(found, strength)[0, 1] > 0.999


def test_a_video_that_always_wins_has_a_finite_strength():
    certain = Comparison(50.0, 0.0, 50.0, 50.0, 0.0)
    assert np.isfinite(bradley_terry(2, {(0, 1): certain}).strength).all()


def test_scores_rank_in_the_order_given_where_they_are_equal():
    ranking = rank_by_score([0.2, 0.9, 0.2])
    assert ranking.order == (1, 0, 2)
    assert ranking.to_json(["x", "y", "z"])[0]["video"] == "y"


def brute_force(clips, names):
    """Count, for each clip and metric, the clips that are worse."""
    found = []
    for clip in clips:
        parts = []
        for name in names:
            others = [other for other in clips if other is not clip]
            parts.append(sum((other[name] > clip[name]) + (other[name] == clip[name]) / 2 for other in others))
        found.append(sum(parts) / len(names) / max(1, len(clips) - 1))
    return found


VALUES = st.fixed_dictionaries({name: st.integers(0, 3).map(float) for name in RANKED})


@given(st.lists(VALUES, min_size=2, max_size=7))
def test_metrics_rank_by_what_each_clip_beats(clips):
    ranking = rank_by_metrics(clips)
    assert ranking.strength == pytest.approx(brute_force(clips, RANKED))
    sorted_strength = [ranking.strength[at] for at in ranking.order]
    assert sorted_strength == sorted(sorted_strength, reverse=True)
    both = rank_by_both([1.0] * len(clips), clips)
    assert both.order == ranking.order, "equal scores change nothing"


def test_a_metric_without_value_is_the_worst_and_one_clip_is_the_best():
    good, bad = dict.fromkeys(RANKED, 5.0), dict.fromkeys(RANKED, None)
    assert rank_by_metrics([bad, good]).order == (1, 0)
    assert rank_by_metrics([bad]).strength.tolist() == [1.0]


def test_a_metric_of_which_more_is_better_ranks_the_other_way():
    assert rank_by_metrics([{"sharpness": 1.0}, {"sharpness": 2.0}], ["sharpness"]).order == (1, 0)


def skewed(count, seed=0):
    """A score that is overconfident by a factor of three and shifted, and the verdicts it should have predicted."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 1.5, count)
    good = random.random(count) < 1 / (1 + np.exp(-true))
    return 1 / (1 + np.exp(-(3 * true + 2))), good


def test_calibration_mends_a_skewed_score_on_verdicts_it_has_not_seen():
    values, good = skewed(60)
    fit = fit_question("q", values, good)
    assert fit.error_after < fit.error_before and fit.auc > 0.7
    unseen, verdicts = skewed(4000, seed=1)
    before = calibration_error(unseen, verdicts.astype(float))
    after = calibration_error(np.array([fit.apply(value) for value in unseen]), verdicts.astype(float))
    assert after < before / 2


def test_a_score_against_the_verdicts_becomes_the_mean_verdict():
    values, good = skewed(100)
    fit = fit_question("q", 1 - values, good)
    assert fit.auc < 0.5 and fit.apply(0.01) == pytest.approx(fit.apply(0.99), abs=1e-4)


@pytest.mark.parametrize("good", [[True] * 30, [True] * 10 + [False] * 9, [True] * 40 + [False] * 4])
def test_too_few_verdicts_are_refused_with_the_numbers(good):
    with pytest.raises(InputError, match=rf"{sum(good)} good and {len(good) - sum(good)} bad verdicts"):
        fit_question("q", np.linspace(0.1, 0.9, len(good)), good)


def test_area_under_curve_equals_counting_pairs():
    random = np.random.default_rng(3)
    score, y = random.integers(0, 5, 40).astype(float), random.integers(0, 2, 40)
    pairs = [(a, b) for a in score[y == 1] for b in score[y == 0]]
    assert area_under_curve(score, y) == pytest.approx(sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs))


def test_calibrations_of_several_models_are_kept_in_one_file(tmp_path):
    path = tmp_path / "r.calibration.json"
    fit = fit_question("q", *skewed(40))
    write_calibration(path, "one", {"q": fit})
    write_calibration(path, "two", {})
    assert read_calibration(path, "one") == {"q": fit} and read_calibration(path, "three") == {}
    path.write_text("[1]")
    with pytest.raises(InputError, match="not a calibration"):
        read_calibration(path, "one")


@pytest.mark.parametrize(
    ("line", "words"),
    [("{", "not JSON"), ("3", "'clip' is 3"), ('{"clip": "a", "question": "q", "good": 1}', "'good' is 1")],
)
def test_wrong_labels_name_file_line_and_key(tmp_path, line, words):
    path = tmp_path / "labels.jsonl"
    path.write_text(json.dumps({"clip": "a", "question": "q", "good": True}) + "\n\n" + line + "\n")
    with pytest.raises(InputError, match="labels.jsonl, line 3") as error:
        read_labels(path)
    assert words in str(error.value)
