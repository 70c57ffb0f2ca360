"""A batch is what conversations read: every question as if it were the first, in the very prompt of models/code."""

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
from codeclens.models.synthetic.scenes import sample_clip
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.batches import BatchAttention, answer_losses, collate, token_weights
from codeclens.models.training.examples import STILL, Example, Mixture, corpus, make_example
from codeclens.models.training.targets import unknown_targets
from codeclens.models.training.vocabulary import learn_vocabulary, tokenizer_of
from codeclens.models.video.planning import plan_from_costs

MIXTURE = Mixture(frames=(2, 9), questions=4)
MODES = ("rgb", "thumbnail", "keyframes", "cells", STILL)


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_of(learn_vocabulary(corpus(60), 420))


@pytest.fixture(scope="module")
def model(tokenizer):
    attention = BatchAttention()
    return TinyQwen3VL(tiny_config("nano", tokenizer.size), 3, attention), attention


def losses_by_question(losses, batch):
    return [losses[batch.branch == number] for number in range(int(batch.branch.max()) + 1)]


@pytest.mark.parametrize("mode", MODES)
def test_questions_and_examples_of_a_batch_do_not_see_each_other(model, tokenizer, mode):
    examples = [make_example(seed, MIXTURE, mode) for seed in (3, 9, 14)]
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


@pytest.mark.parametrize("mode", ["rgb", "thumbnail", "keyframes", "cells"])
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
    parts, pictures, kept = [], [], []
    for segment in code.segments:
        parts.append(Picture(*segment.grid, segment.time if segment.stamped else None, segment.positions))
        kept.append(np.isin(np.arange(segment.grid[0] * segment.grid[1]), segment.cell.numpy()))
        size = (segment.grid[0] * 32, segment.grid[1] * 32)
        at = [int(np.flatnonzero(shown.index == number)[0]) for number in segment.index]
        if len(at) == 1 and (segment.kind == "pair" or code.mode == "cells"):
            at *= 2
        pictures.append(shrink(shown.rgb[at], size))
    questions = [
        Question("colour", "open", "What colour is the circle?", "red", ("red", "blue")),
        Question("fault", "yes/no", "Does the video flicker?", "no", ("yes", "no")),
    ]
    tokens = sum(part.rows * part.columns for part in parts)
    assert (code.mode == "cells") == (code.token_count < tokens)
    return Example(8, code.mode, "moving", parts, pictures, kept, questions, unknown_targets(tokens, len(parts)))


def test_examples_are_laid_out_as_a_visual_code_is(tokenizer):
    """Ids and positions of the pictures' part, from the code's segments and from the example's parts."""
    for seed in range(6):
        example = make_example(seed, MIXTURE, ("rgb", "thumbnail", "cells")[seed % 3])
        segments = [
            Segment(
                "I", (number,), (part.seconds or 0.0,), part.seconds is not None, (part.rows, part.columns),
                grid_positions((part.rows, part.columns)) if part.positions is None else part.positions,
                torch.zeros(part.tokens, 1), torch.zeros(1, 1, 1),
            )
            for number, part in enumerate(example.parts)
        ]  # fmt: skip
        mine = lay_out(["<|im_start|>user\n", *example.parts], tokenizer)
        theirs = lay_out_segments(["<|im_start|>user\n", *segments], tokenizer)
        assert mine.ids == theirs.ids and torch.equal(mine.positions, theirs.positions)


def test_gradients_reach_every_weight(model, tokenizer):
    network, attention = model
    examples = [make_example(seed, MIXTURE, mode) for seed, mode in enumerate(MODES)]
    network.zero_grad()
    answer_losses(network, attention, collate(examples, tokenizer)).mean().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    still = [name for name, parameter in network.named_parameters() if not without and not parameter.grad.any()]
    network.zero_grad()
    assert not without and not still


MOVING = Mixture(
    contents={"moving": 1, "cuts": 1}, frames=(10, 14), kinds={"order": 1, "when": 1}, other_kinds=0, questions=20
)


def test_events_are_read_at_the_last_tokens_of_their_words(tokenizer):
    examples = list(filter(None, (make_example(seed, MOVING) for seed in range(12))))
    batch = collate(examples, tokenizer)
    length = batch.mask.shape[-1]
    expected = [
        (number, words, values)
        for number, example in enumerate(examples)
        for question in example.questions
        for words, values in sorted(example.events.items(), key=lambda event: question.question.find(event[0]))
        if words in question.question
    ]
    rows, found = batch.sites["event"]
    assert len(expected) == len(rows) > 20
    for row, values, (number, words, known) in zip(rows.tolist(), found, expected, strict=True):
        assert row // length == number
        assert tokenizer.decode(batch.ids[number * length : row + 1].tolist()).endswith(words)
        np.testing.assert_array_equal(values, known)


def test_the_second_event_that_a_question_names_is_labelled_as_later_or_not(tokenizer):
    seen = []
    mixture = replace(MOVING, figures=(3, 4))
    for example in filter(None, (make_example(seed, mixture) for seed in range(60))):
        for question in example.questions:
            batch = collate([replace(example, questions=[question])], tokenizer)
            (events, _), (rows, later) = batch.sites["event"], batch.sites["order"]
            assert torch.equal(rows, events[1:]) and len(events) == (2 if question.kind == "order" else 1)
            if question.kind == "order" and question.form == "yes/no":
                assert later.item() == (question.answer == "yes")
            elif question.kind == "order":
                second = max(question.choices, key=question.question.find)
                assert later.item() == ((question.answer == second) == ("last" in question.question))
            seen += [(question.form, value) for value in later.flatten().tolist()]
    assert set(seen) == {(form, later) for form in ("choice", "yes/no") for later in (0.0, 1.0)}


def test_the_token_that_decides_between_two_events_is_labelled_with_the_decision(tokenizer):
    seen = []
    mixture = replace(MOVING, kinds={"order": 1}, figures=(3, 4))
    for example in filter(None, (make_example(seed, mixture) for seed in range(60))):
        batch = collate([example], tokenizer)
        asked = [question for question in example.questions if question.form == "choice"]
        rows, values = batch.sites["choice"]
        for row, second, question in zip(rows.tolist(), values.flatten().tolist(), asked, strict=True):
            (other,) = set(question.choices) - {question.answer}
            assert second == (question.question.find(other) < question.question.find(question.answer))
            right, wrong = tokenizer.encode(question.answer), tokenizer.encode(other)
            differs = next(at for at, pair in enumerate(zip(right, wrong, strict=False)) if pair[0] != pair[1])
            assert batch.ids[row + 1 - differs : row + 2].tolist() == right[: differs + 1]
            seen.append(second)
    assert len(seen) > 20 and set(seen) == {0.0, 1.0}


def test_tokens_at_which_an_answer_differs_from_others_weigh_half_of_it():
    assert token_weights([5, 6, 7, 9], []) == pytest.approx([0.25] * 4)
    assert token_weights([5, 6, 7, 9], [[5, 6, 7, 9], [5, 4, 7, 9]]) == pytest.approx([0.125, 0.625, 0.125, 0.125])
    differs_twice = token_weights([5, 6, 7, 9], [[5, 4, 9], [5, 6, 3, 3, 9], [5, 6, 7, 9]])
    assert differs_twice == pytest.approx([0.125, 0.375, 0.375, 0.125])
    assert token_weights([5, 9], [[5, 6, 9], [5, 9]]) == pytest.approx([0.25, 0.75])


def test_every_question_weighs_the_same(tokenizer):
    batch = collate([make_example(seed, MIXTURE, "rgb") for seed in range(4)], tokenizer)
    torch.testing.assert_close(
        torch.zeros(batch.count).index_add(0, batch.branch, batch.weights), torch.ones(batch.count)
    )
