"""Rubric files: what they mean, and that a wrong one names file, line and key."""

import json

import pytest
from codeclens.models.errors import InputError
from codeclens.models.judge.rubric import Question, find_rubric, list_rubrics, parse_rubric, read_rubric
from codeclens.models.synthetic.questions import FAULT_QUESTIONS, FAULT_WORDS
from hypothesis import given
from hypothesis import strategies as st

GOOD = """{
  "title": "T",
  "questions": [
    {"name": "a", "question": "Is it?", "weight": 2},
    {
      "name": "b",
      "question": "How good?",
      "options": ["bad", "fair", "good"],
      "values": [0, 0.5, 1]
    }
  ]
}"""


@pytest.mark.parametrize("name", list_rubrics())
def test_shipped_rubrics_are_valid_and_say_where_they_come_from(name):
    rubric = find_rubric(name)
    assert rubric.title and rubric.source and rubric.questions
    assert parse_rubric(json.dumps(rubric.to_json()), name, name) == rubric


def test_the_rubrics_that_the_pack_promises_are_there():
    promised = (
        "checklist vqascore q_align unifiedreward prompt_adherence consistency anatomy_and_physics artefacts camera"
    )
    assert {*promised.split(), "text"} <= set(list_rubrics())


def test_the_embedded_models_rubric_asks_what_it_was_trained_on():
    open_question, *others = find_rubric("faults").questions
    assert {question.question for question in others} == {wordings[0] for wordings in FAULT_QUESTIONS.values()}
    assert open_question.question == "What is wrong with the video?"
    assert open_question.options == (*FAULT_WORDS.values(), "nothing")


def test_defaults():
    rubric = parse_rubric(GOOD, "r.json", "r")
    assert rubric.questions[0] == Question("a", "Is it?", weight=2.0, bias="baseline")
    assert rubric.questions[1].bias == "none" and rubric.questions[1].values == (0.0, 0.5, 1.0)


@pytest.mark.parametrize(
    ("find", "put", "line", "words"),
    [
        ('"title": "T",', '"titel": "T",', 2, "'titel' is not known"),
        ('"weight": 2', '"weight": 0', 4, "'weight' is 0"),
        ('"weight": 2', '"weight": NaN', 4, "'weight' is nan"),
        ('"weight": 2', '"bias": "some"', 4, "'bias' is 'some'"),
        ('"weight": 2', '"bias": "negated"', 4, "'bias' is 'negated'"),
        ('"weight": 2', '"better": "Maybe"', 4, "'better' is 'Maybe'"),
        ('"values": [0, 0.5, 1]', '"values": [0, 0.5, 2]', 9, "'values' is"),
        ('"values": [0, 0.5, 1]', '"values": [0, 1]', 9, "3 numbers"),
        (',\n      "values": [0, 0.5, 1]', "", 5, "'values' is missing"),
        ('"options": ["bad", "fair", "good"]', '"options": "bad"', 8, "'options' is a JSON string"),
        ('"question": "How good?",', "", 5, "'question' is missing"),
        ('"name": "b"', '"name": "a"', 6, "second time"),
        ('"name": "b",', '"name": "b"', 7, "not JSON"),
    ],
)
def test_a_wrong_file_names_file_line_and_key(find, put, line, words):
    assert find in GOOD
    with pytest.raises(InputError) as error:
        parse_rubric(GOOD.replace(find, put), "mine.json", "mine")
    assert f"mine.json, line {line}:" in str(error.value) and words in str(error.value)


def test_yaml_is_read_and_its_mistakes_have_lines(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with ComfyUI")
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(json.loads(GOOD)))
    assert read_rubric(path).questions == parse_rubric(GOOD, "r.json", "r").questions
    path.write_text("title: T\nquestions:\n- name: a\n  question: Is it?\n  wieght: 2\n")
    with pytest.raises(InputError, match=r"r\.yaml, line 5: 'wieght' is not known"):
        read_rubric(path)
    path.write_text("title: [\n")
    with pytest.raises(InputError, match=r"r\.yaml, line \d: this is not YAML"):
        read_rubric(path)


@given(st.text(max_size=200))
def test_any_text_is_a_rubric_or_one_sentence(text):
    try:
        parse_rubric(text, "any.json", "any")
    except InputError as error:
        assert str(error).startswith("any.json") and "\n" not in str(error)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_a_spoilt_rubric_is_a_rubric_or_one_sentence(at, character):
    try:
        parse_rubric(GOOD[:at] + character + GOOD[at + 1 :], "any.json", "any")
    except InputError as error:
        assert str(error).startswith("any.json, line ")


def test_a_prompt_is_filled_in_and_missed():
    rubric = find_rubric("vqascore")
    assert "a red {fox}" in rubric.for_prompt(" a red {fox} ").questions[0].question
    with pytest.raises(InputError, match="which is empty"):
        rubric.for_prompt(" ")


def test_an_unknown_rubric_names_the_known_ones():
    with pytest.raises(InputError, match="neither a file nor one of .*checklist"):
        find_rubric("nothing")
