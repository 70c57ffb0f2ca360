"""A batch is what conversations read: every question as if it were the first, in the very prompt of models/code."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import Conversation
from codeclens.models.code.encoding import encode_video
from codeclens.models.code.layout import lay_out_segments
from codeclens.models.code.modes.pictures import shrink
from codeclens.models.code.visual_code import Segment, grid_positions
from codeclens.models.qwen.loading import Qwen3VL
from codeclens.models.qwen.prompt import Picture, lay_out
from codeclens.models.source.reading import Frames
from codeclens.models.synthetic.questions import Question
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import SPLITS, sample_clip
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.batches import BatchAttention, answer_losses, collate, token_weights
from codeclens.models.training.examples import CAPTION, FORMS, Course, Example, corpus, make_example
from codeclens.models.training.text_targets import untold
from codeclens.models.training.vocabulary import learn_vocabulary, tokenizer_of
from codeclens.models.video.planning import plan_from_costs

COURSE = Course(frames=(2, 9), questions=4)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(learn_vocabulary(corpus(60), 420))


@pytest.fixture(scope="module")
def model(tokenizer):
    attention = BatchAttention()
    return TinyQwen3VL(tiny_config("nano", tokenizer.size), 3, attention), attention


def losses_by_question(losses, batch):
    return [losses[batch.branch == number] for number in range(int(batch.branch.max()) + 1)]


@pytest.mark.parametrize("form", FORMS)
def test_questions_and_examples_of_a_batch_do_not_see_each_other(model, tokenizer, form):
    examples = [make_example(seed, COURSE, form) for seed in (3, 9, 14)]
    together = losses_by_question(*run(model, tokenizer, examples))
    alone = []
    for example in examples:
        for question in example.questions:
            answers = [[(question.question, question.answer)]]
            alone += losses_by_question(*run(model, tokenizer, [example], answers))
    assert len(together) == len(alone)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def run(model, tokenizer, examples, answers=None):
    batch = collate(examples, tokenizer, answers)
    with torch.no_grad():
        return answer_losses(*model, batch), batch


@pytest.mark.parametrize("mode", ["rgb", "thumbnail", "keyframes"])
def test_losses_are_those_of_a_conversation(tokenizer, mode):
    """The same weights, with the attention and the code of inference, give every answer the same likelihood."""
    weights = TinyQwen3VL(tiny_config("nano", tokenizer.size), 3).requires_grad_(False)
    model = Qwen3VL(
        weights.config, tokenizer, weights.text, weights.vision, torch.device("cpu"), torch.float32, files=()
    )
    clip = sample_clip(8, seconds=3, fps=4)
    frames = list(range(clip.frames))
    pts = np.array(frames) / 4
    plan = plan_from_costs(
        np.zeros(len(frames)), "frames", index=np.array(frames), pts=pts, size=(96, 96), frames=[4, 9]
    )
    shown = Frames(np.stack(list(render(clip, (96, 96)))), pts, np.array(frames))
    code = encode_video([shown], plan, model, mode)
    example = example_of(code, shown, plan)
    attention = BatchAttention()
    trained = TinyQwen3VL(weights.config, 3, attention)
    losses, batch = run((trained, attention), tokenizer, [example])
    for question, mine in zip(example.questions, losses_by_question(losses, batch), strict=True):
        conversation = Conversation(model, list(code.segments))
        prompt = f"{question.question}<|im_end|>\n<|im_start|>assistant\n"
        context, _ = conversation._continue([*conversation.unread, prompt], 0, lambda done, total: None)
        for token, loss in zip(
            [*tokenizer.encode(question.answer), tokenizer.token_id("<|im_end|>")], mine, strict=True
        ):
            logits = context.logits
            assert float(logits.logsumexp(0) - logits[token]) == pytest.approx(float(loss), abs=2e-3)
            context.read_ids([token])


def example_of(code, shown, plan):
    parts, pictures = [], []
    for segment in code.segments:
        parts.append(Picture(*segment.grid, segment.time if segment.stamped else None))
        size = (segment.grid[0] * 32, segment.grid[1] * 32)
        at = [int(np.flatnonzero(shown.index == number)[0]) for number in segment.index]
        if segment.kind == "pair" and len(at) == 1:
            at *= 2
        pictures.append(shrink(shown.rgb[at], size))
    questions = [
        Question("colour", "open", "What colour is the circle?", "red", ("red", "blue")),
        Question("fault", "yes/no", "Does the video flicker?", "no", ("yes", "no")),
    ]
    tokens = sum(part.rows * part.columns for part in parts)
    return Example(8, code.mode, "moving", parts, pictures, questions, *untold(tokens, len(parts)))


def test_examples_are_laid_out_as_a_visual_code_is(tokenizer):
    """Ids and positions of the pictures' part, from the code's segments and from the example's parts."""
    for seed in range(6):
        example = make_example(seed, COURSE, ("rgb", "thumbnail")[seed % 2])
        segments = [
            Segment(
                "I", (number,), (part.seconds or 0.0,), part.seconds is not None, (part.rows, part.columns),
                grid_positions((part.rows, part.columns)), torch.zeros(part.tokens, 1), torch.zeros(1, 1, 1),
            )
            for number, part in enumerate(example.parts)
        ]  # fmt: skip
        mine = lay_out(["<|im_start|>user\n", *example.parts], tokenizer)
        theirs = lay_out_segments(["<|im_start|>user\n", *segments], tokenizer)
        assert mine.ids == theirs.ids and torch.equal(mine.positions, theirs.positions)


def test_gradients_reach_every_weight(model, tokenizer):
    network, attention = model
    examples = [make_example(seed, COURSE, form) for seed, form in enumerate(FORMS)]
    network.zero_grad()
    answer_losses(network, attention, collate(examples, tokenizer)).mean().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    still = [name for name, parameter in network.named_parameters() if not without and not parameter.grad.any()]
    network.zero_grad()
    assert not without and not still


def test_pictures_fill_the_places_of_their_parts():
    for seed in range(24):
        example = make_example(seed, COURSE)
        assert len(example.parts) == len(example.pictures)
        for part, picture in zip(example.parts, example.pictures, strict=True):
            assert picture.dtype == np.uint8 and picture.shape[1:] == (32 * part.rows, 32 * part.columns, 3)
            assert picture.shape[0] == (2 if example.form == "rgb" else 1) or example.form == "thumbnail"
        stamps = [part.seconds for part in example.parts if part.seconds is not None]
        assert stamps == sorted(stamps) and (example.form != "still" or not stamps)


def test_courses_mix_modes_rates_lengths_and_sizes():
    examples = [make_example(seed, Course()) for seed in range(60)]
    assert {example.form for example in examples} == set(FORMS)
    sizes = {picture.shape[1:3] for example in examples for picture in example.pictures}
    assert {(32, 32), (128, 128), (96, 96)} <= sizes
    mixed = [example for example in examples if len({picture.shape[1:3] for picture in example.pictures}) > 1]
    assert len(mixed) >= 10
    lengths = {len(example.parts) for example in examples}
    assert len(lengths) >= 6
    kinds = {question.kind for example in examples for question in example.questions}
    assert CAPTION in kinds and len(kinds) >= 16


def test_an_example_is_that_of_its_seed_and_test_clips_are_shown_in_any_mode():
    first = SPLITS["test"][0]
    for form in FORMS:
        one, other = make_example(first + 4, COURSE, form), make_example(first + 4, COURSE, form)
        assert one.form == form and one.questions == other.questions
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def test_only_the_kinds_of_the_course_are_asked():
    draw = random.Random(0)
    for seed in range(10):
        kinds = tuple(draw.sample(("colour", "shape", "count", "motion"), 2))
        example = make_example(seed, Course(kinds=kinds))
        assert {question.kind for question in example.questions} <= set(kinds)


def test_clips_without_a_needed_question_are_passed_over():
    course = Course(
        contents={"moving": 1}, forms={"keyframes": 1}, frames=(12, 16), whole=(1.0,), questions=40, fewest_figures=3
    )
    passed = 0
    for seed in range(25):
        all_of_it, needed = make_example(seed, course), make_example(seed, replace(course, needs={"order": 1.0}))
        if any(question.kind == "order" for question in all_of_it.questions):
            assert {q.question for q in needed.questions} == {q.question for q in all_of_it.questions}
        else:
            assert not needed.questions and not needed.pictures and not len(needed.cells)
            passed += 1
    assert 0 < passed < 25
    some = [make_example(seed, replace(course, needs={"order": 0.5})) for seed in range(25)]
    assert 0 < sum(not example.questions for example in some) < passed
    faulty = replace(course, contents={"fault": 1}, needs={"order": 1.0})
    asked = [{question.kind for question in make_example(seed, faulty).questions} for seed in range(12)]
    assert all(asked) and any("order" not in kinds for kinds in asked)


def test_key_frames_can_be_all_there_are():
    course = Course(contents={"static": 1}, forms={"keyframes": 1}, frames=(9, 9), whole=(1.0,))
    assert all(len(make_example(seed, course).parts) == 9 for seed in range(5))


def test_faults_can_be_weighed():
    course = Course(contents={"fault": 1}, frames=(16, 16), look_fps=(4,), kinds=("fault",), faults={"flicker": 1})
    topics = {q.topic for seed in range(12) for q in make_example(seed, course).questions if q.answer == "yes"}
    assert topics - {""} == {"flicker"}


def test_mentions_are_the_last_tokens_of_the_events_that_questions_name(tokenizer):
    course = Course(contents={"moving": 1, "cuts": 1}, frames=(10, 14), kinds=("order", "when"), questions=20)
    examples = [example for example in (make_example(seed, course) for seed in range(12)) if example.questions]
    batch = collate(examples, tokenizer)
    length = batch.mask.shape[-1]
    expected = [
        (number, words, told)
        for number, example in enumerate(examples)
        for question in example.questions
        for words, told in sorted(example.moments.items(), key=lambda moment: question.question.find(moment[0]))
        if words in question.question
    ]
    assert len(expected) == len(batch.mention_rows) > 20
    for row, values, (number, words, told) in zip(batch.mention_rows.tolist(), batch.mentions, expected, strict=True):
        assert row // length == number
        assert tokenizer.decode(batch.ids[number * length : row + 1].tolist()).endswith(words)
        np.testing.assert_array_equal(values[:-1], told)


def test_the_second_event_that_a_question_names_is_told_whether_it_is_the_later(tokenizer):
    course = Course(contents={"moving": 1, "cuts": 1}, frames=(10, 14), kinds=("order", "when"), questions=20)
    said = []
    for example in filter(lambda example: example.questions, (make_example(seed, course) for seed in range(12))):
        for question in example.questions:
            batch = collate([replace(example, questions=[question])], tokenizer)
            later = batch.mentions[:, -1].tolist()
            assert np.isnan(later[0]) and len(later) == (2 if question.kind == "order" else 1)
            if question.kind == "order" and question.form == "yes/no":
                assert later[1] == (question.answer == "yes")
            elif question.kind == "order":
                second = max(question.choices, key=question.question.find)
                assert later[1] == ((question.answer == second) == ("last" in question.question))
            said.append((question.kind, question.form, later[-1]))
    assert {(form, later) for kind, form, later in said if kind == "order"} == {
        (form, later) for form in ("choice", "yes/no") for later in (0.0, 1.0)
    }


def test_where_an_answer_names_one_of_two_events_it_is_told_which(tokenizer):
    course = Course(
        contents={"moving": 1, "cuts": 1}, frames=(10, 14), kinds=("order",), questions=20, fewest_figures=3
    )
    said = []
    for example in filter(lambda example: example.questions, (make_example(seed, course) for seed in range(24))):
        batch = collate([example], tokenizer)
        asked = [question for question in example.questions if question.form == "choice"]
        for row, second, question in zip(batch.choosing_rows.tolist(), batch.second.tolist(), asked, strict=True):
            (rival,) = set(question.choices) - {question.answer}
            assert second == (question.question.find(rival) < question.question.find(question.answer))
            right, wrong = tokenizer.encode(question.answer), tokenizer.encode(rival)
            parting = next(at for at, pair in enumerate(zip(right, wrong, strict=False)) if pair[0] != pair[1])
            assert batch.ids[row + 1 - parting : row + 2].tolist() == right[: parting + 1]
            said.append(second)
    assert len(said) > 20 and set(said) == {0.0, 1.0}


def test_tokens_at_which_an_answer_parts_from_others_weigh_half_of_it():
    assert token_weights([5, 6, 7, 9], []) == pytest.approx([0.25] * 4)
    assert token_weights([5, 6, 7, 9], [[5, 6, 7, 9], [5, 4, 7, 9]]) == pytest.approx([0.125, 0.625, 0.125, 0.125])
    parts_twice = token_weights([5, 6, 7, 9], [[5, 4, 9], [5, 6, 3, 3, 9], [5, 6, 7, 9]])
    assert parts_twice == pytest.approx([0.125, 0.375, 0.375, 0.125])
    assert token_weights([5, 9], [[5, 6, 9], [5, 9]]) == pytest.approx([0.25, 0.75])


def test_every_question_weighs_the_same(tokenizer):
    batch = collate([make_example(seed, COURSE, "rgb") for seed in range(4)], tokenizer)
    torch.testing.assert_close(
        torch.zeros(batch.count).index_add(0, batch.branch, batch.weights), torch.ones(batch.count)
    )
