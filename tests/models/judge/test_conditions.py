"""Conditions of a gate."""

import json
import operator

import pytest
from codeclens.models.errors import InputError
from codeclens.models.judge.conditions import failing, parse_conditions, values_in
from hypothesis import given
from hypothesis import strategies as st

SIGNS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "=": operator.eq}
NUMBERS = st.floats(-1e6, 1e6)


@given(st.sampled_from(list(SIGNS)), NUMBERS, NUMBERS)
def test_a_condition_is_its_comparison(sign, value, limit):
    conditions = parse_conditions(f"\n flicker{sign}{limit!r}\n")
    assert bool(failing(conditions, {"flicker": value})) == (not SIGNS[sign](value, limit))


def test_names_may_have_spaces_and_underscores():
    conditions = parse_conditions("longest freeze <= 0.5\nno watermark > 0.5")
    assert failing(conditions, {"longest_freeze": 1.0, "no watermark": 0.6}) == ["longest freeze is 1, not <= 0.5"]


def test_a_metric_without_value_does_not_pass():
    assert failing(parse_conditions("motion >= 0"), {"motion": None}) == ["motion is no value, not >= 0"]


@pytest.mark.parametrize("text", ["flicker", "flicker <= much", "<= 3", "flicker <= nan", "flicker => 3 4"])
def test_a_line_that_is_no_condition_is_named(text):
    with pytest.raises(InputError, match="condition 2 is"):
        parse_conditions(f"score > 0\n{text}")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="there is score, flicker"):
        failing(parse_conditions("flikker < 3"), {"score": 1.0, "flicker": 2.0})


def test_values_come_from_both_kinds_of_json():
    measured = json.dumps({"values": {"flicker": 2.5, "motion": None}})
    judged = json.dumps({"score": 0.7, "pass_fraction": 0.5, "questions": [{"name": "sharp", "score": 0.4}]})
    assert values_in(measured, judged) == {
        "flicker": 2.5, "motion": None, "sharp": 0.4, "score": 0.7, "pass_fraction": 0.5,
    }  # fmt: skip
    for wrong in ("", "[1]", '{"questions": [3]}', "{"):
        with pytest.raises(InputError, match="give the JSON of"):
            values_in(wrong)
