"""Options scored as replies, against reading every spelling token by token."""

import math

import pytest
from codeclens.models.code.choice import Asked, Choice, choose, choose_each
from codeclens.models.code.conversation import Conversation, converse
from codeclens.models.code.encoding import encode_video
from codeclens.models.errors import InputError
from support.frames import frames_of, noise, plan_for

QUESTION = "What does the red circle do?"


@pytest.fixture(scope="module")
def code(tiny_model):
    frames = frames_of(noise(3, 64, 64))
    return encode_video([frames], plan_for(frames, "IPP"), tiny_model, "thumbnail")


def log_probability(model, code, words):
    """Of ``words`` as the whole reply, one token after the other."""
    fresh = converse(model, code)
    context = fresh.posed(QUESTION, 16)
    total = 0.0
    for token in [*model.tokenizer.encode(words), model.tokenizer.token_id("<|im_end|>")]:
        total += float(context.logits.log_softmax(0)[token])
        context.read_ids([token])
    return total


def test_an_option_is_all_its_spellings(tiny_model, code):
    choice = choose(converse(tiny_model, code), QUESTION, ["red", "It stops", "YES"])
    spelled = {
        "red": ("red", "Red", "RED", " red", " Red", " RED"),
        "It stops": ("It stops", "it stops", "IT STOPS", " It stops", " it stops", " IT STOPS"),
        "YES": ("YES", "yes", " YES", " yes"),
    }
    for option, logprob in zip(choice.options, choice.logprobs, strict=True):
        expected = [log_probability(tiny_model, code, words) for words in spelled[option]]
        assert logprob == pytest.approx(math.log(sum(map(math.exp, expected))), abs=1e-4)
    assert choice.lengths == tuple(len(tiny_model.tokenizer.encode(option)) + 1 for option in choice.options)


def test_a_spelling_of_two_options_counts_for_neither(tiny_model, code):
    choice = choose(converse(tiny_model, code), QUESTION, ["a", "A"])
    for option, logprob in zip(choice.options, choice.logprobs, strict=True):
        assert logprob == pytest.approx(log_probability(tiny_model, code, option), abs=1e-4)


def test_questions_asked_together_are_asked_alone(tiny_model, code):
    """Several options, leads and an unshown question in one pass, each as if it were the only one."""
    asked = [
        Asked(QUESTION, ("red", "It stops")),
        Asked("Is it?", ("Yes", "No"), lead="Answer: ", whole=False),
        Asked("Is it?", ("Yes", "No"), shown=False),
        Asked("How many?", ("one", "one two", "three")),
    ]
    together = choose_each(converse(tiny_model, code), asked)
    for one, choice in zip(asked, together, strict=True):
        (alone,) = choose_each(converse(tiny_model, code), [one])
        assert choice.logprobs == pytest.approx(alone.logprobs, abs=1e-4) and choice.lengths == alone.lengths
    blank = choose(Conversation(tiny_model, []), "Is it?", ("Yes", "No"))
    assert together[2].logprobs == pytest.approx(blank.logprobs, abs=1e-4)


def test_a_conversation_is_as_it_was(tiny_model, code):
    reading = converse(tiny_model, code)
    before = choose(reading, QUESTION, ["yes", "no"])
    assert reading.context.cache.length == 0
    reading.read()
    length = reading.context.cache.length
    after = choose(reading, QUESTION, ["yes", "no"])
    assert after.logprobs == pytest.approx(before.logprobs, abs=1e-4)
    assert reading.context.cache.length == length


def test_what_a_choice_says():
    choice = Choice(("yes", "no", "maybe"), (math.log(0.2), math.log(0.5), math.log(0.1)), (2, 2, 3))
    assert choice.best == "no"
    assert choice.probabilities == pytest.approx({"yes": 0.25, "no": 0.625, "maybe": 0.125})
    assert choice.off_list == pytest.approx(0.2)
    assert choice.margin == pytest.approx(math.log(2.5))
    assert choice.log_odds("yes", "no") == pytest.approx(math.log(0.4))
    assert choice.per_token["maybe"] == pytest.approx(math.log(0.1) / 3)
    assert Choice(("yes",), (-1.0,), (2,)).margin == math.inf


@pytest.mark.parametrize("options", [[], ["yes", "yes"]])
def test_no_option_and_the_same_twice_are_refused(tiny_model, code, options):
    with pytest.raises(InputError, match="at least one is needed, and each once"):
        choose(converse(tiny_model, code), QUESTION, options)
