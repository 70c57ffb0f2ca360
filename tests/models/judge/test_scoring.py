"""Scores from logits: the known mistakes of other judges, corrections of bias, one reading."""

import math
from dataclasses import replace

import pytest
from codeclens.models.code import conversation, layout
from codeclens.models.code.choice import Choice, choose
from codeclens.models.code.conversation import Conversation, converse
from codeclens.models.code.encoding import encode_video
from codeclens.models.errors import InputError
from codeclens.models.judge import scoring
from codeclens.models.judge.rubric import Question, Rubric, find_rubric
from codeclens.models.judge.scoring import Score, Verdict, expand, expectation, judge, moments, statements
from support.frames import frames_of, noise, plan_for

YES_NO = Question("a", "Is it good?", negated="Is it bad?", bias="negated")


@pytest.fixture(scope="module")
def code(tiny_model):
    frames = frames_of(noise(4, 64, 64))
    return encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "thumbnail")


@pytest.fixture
def reading(tiny_model, code):
    reading = converse(tiny_model, code)
    reading.read()
    return reading


def rubric_of(*questions, **keys):
    return Rubric("mine", "Mine", tuple(questions), **keys)


def test_an_expectation_is_not_the_likeliest_value_times_its_probability():
    """VideoScore2's formula gives 0.9 for this distribution over 1..5."""
    assert expectation((1, 2, 3, 4, 5), (0.1, 0.2, 0.3, 0.25, 0.15)) == pytest.approx(3.15)


def test_negated_form_and_baseline_take_the_liking_for_yes_away(reading, monkeypatch):
    """A model that adds two nats to Yes whatever is asked, on top of one nat of what it sees."""
    sees, liking = 1.0, 2.0

    def choose_each(conversation, asked):
        found = []
        for one in asked:
            z = liking + (0.0 if not one.shown else -sees if one.question == YES_NO.negated else sees)
            p = 1 / (1 + math.exp(-z))
            found.append(Choice(one.options, (math.log(p), math.log(1 - p)), (1, 1)))
        return found

    monkeypatch.setattr(scoring, "choose_each", choose_each)
    fair = 1 / (1 + math.exp(-sees))
    for bias, value in (("negated", fair), ("baseline", fair), ("none", 1 / (1 + math.exp(-sees - liking)))):
        (score,) = judge(reading, rubric_of(replace(YES_NO, bias=bias))).scores
        assert score.value == pytest.approx(value)
        assert score.log_odds == pytest.approx(3) and score.negated == pytest.approx(1)
    worse = replace(YES_NO, values=(0.0, 1.0))
    assert judge(reading, rubric_of(worse)).score == pytest.approx(1 - fair)


def test_a_clip_judged_twice_gives_the_same_score(reading, tiny_model, code):
    rubric = find_rubric("checklist")
    first = judge(reading, rubric)
    assert judge(reading, rubric) == first
    again = converse(tiny_model, code)
    again.read()
    assert judge(again, rubric).score == pytest.approx(first.score, abs=1e-6)
    assert 0 < first.score < 1 and all(0 <= score.off_list <= 1 for score in first.scores)


@pytest.mark.parametrize("name", ["q_align", "vqascore", "unifiedreward", "camera"])
def test_shipped_rubrics_run(name, reading):
    verdict = judge(reading, find_rubric(name).for_prompt("a fox"))
    assert 0 <= verdict.score <= 1
    assert all(sum(score.probabilities.values()) == pytest.approx(1) for score in verdict.scores)
    assert verdict.rubric.title in verdict.in_words()


def test_a_later_lead_holds_the_likeliest_option_of_an_earlier_question(reading, monkeypatch):
    seen = []
    real = scoring.choose_each
    monkeypatch.setattr(
        scoring, "choose_each", lambda view, asked: seen.extend(one.lead for one in asked) or real(view, asked)
    )
    verdict = judge(reading, find_rubric("unifiedreward").for_prompt("a fox"))
    assert seen[1] == f"Alignment Score (1-5): {verdict.scores[0].best}\nCoherence Score (1-5): "


@pytest.mark.parametrize("name", ["checklist", "q_align"])
def test_a_whole_rubric_at_once_scores_as_its_questions_one_by_one(name, reading, tiny_model):
    """Each form of each question on a fork of its own, asked alone."""
    blank = Conversation(tiny_model, [])
    for score in judge(reading, find_rubric(name)).scores:
        question = score.question
        alone = choose(reading, question.question, question.options, lead=question.lead, whole=False)
        assert score.probabilities == pytest.approx(alone.probabilities, abs=1e-4)
        assert score.off_list == pytest.approx(alone.off_list, abs=1e-4)
        if len(question.options) == 2:
            negated = choose(reading, question.negated, question.options, whole=False)
            assert score.log_odds == pytest.approx(alone.log_odds(*question.options), abs=1e-4)
            assert score.negated == pytest.approx(negated.log_odds(*question.options), abs=1e-4)
            baseline = choose(blank, question.question, question.options, whole=False)
            assert score.baseline == pytest.approx(baseline.log_odds(*question.options), abs=1e-4)


def test_the_reading_is_not_changed_and_not_repeated(reading, monkeypatch):
    length = reading.context.cache.length
    calls = []
    real = layout.read_segments
    monkeypatch.setattr(conversation, "read_segments", lambda *a: calls.append(a) or real(*a))
    judge(reading, find_rubric("checklist"))
    assert reading.context.cache.length == length and not calls


def test_weights_and_means():
    def score(value, weight):
        return Score(replace(YES_NO, weight=weight), {"Yes": value, "No": 1 - value}, 0.0, None, None, None, value)

    scores = (score(0.9, 1.0), score(0.2, 3.0))
    assert Verdict(rubric_of(YES_NO), scores).score == pytest.approx((0.9 + 0.6) / 4)
    geometric = Verdict(rubric_of(YES_NO, combine="geometric"), scores)
    assert geometric.score == pytest.approx(0.9**0.25 * 0.2**0.75)
    assert geometric.pass_fraction == 0.5 and geometric.worst.value == 0.2


def test_every_gop_has_a_verdict_with_its_times_and_frames(tiny_model, code):
    found = moments(tiny_model, code, rubric_of(YES_NO))
    assert [frames for _, frames, _ in found] == [(0, 1), (2, 3)]
    assert found[1][0] == (code.plan.pts[2], code.plan.pts[3])
    assert all(0 < verdict.score < 1 for _, _, verdict in found)


def test_statements_are_lines_without_bullets():
    text = "1. A red fox runs.\n- the snow is deep\n\n* A red fox runs.\n  2) The camera pans\n"
    assert statements(text) == ["A red fox runs.", "the snow is deep", "The camera pans"]


def test_a_prompt_becomes_questions(tiny_model, monkeypatch):
    class Answer:
        text = "- a fox runs\n- the snow is deep."

    monkeypatch.setattr(Conversation, "ask", lambda self, asked, **_: seen.append(asked) or Answer)
    seen = []
    rubric = expand(tiny_model, find_rubric("prompt_adherence"), "a fox in the snow")
    assert '"a fox in the snow"' in seen[0]
    assert [question.name for question in rubric.questions] == ["a fox runs", "the snow is deep."]
    assert "the snow is deep?" in rubric.questions[1].question and not rubric.decompose
    Answer.text = " \n"
    with pytest.raises(InputError, match="no statement"):
        expand(tiny_model, find_rubric("prompt_adherence"), "a fox")


def test_a_rubric_that_was_not_expanded_is_refused(reading):
    with pytest.raises(InputError, match="expand it first"):
        judge(reading, find_rubric("prompt_adherence"))
