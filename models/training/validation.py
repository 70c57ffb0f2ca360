"""Accuracy on examples that the model was not trained on."""

from collections.abc import Iterable, Sequence

import torch

from ..code.choice import Choice
from ..progress import Progress, no_progress
from .batches import BatchAttention, answer_losses, collate
from .examples import Example


@torch.no_grad()
def choose_in_batch(model, attention: BatchAttention, tokenizer, example: Example) -> list[Choice]:
    """:func:`..code.choice.choose` for each question of ``example`` with choices, for a model in training.

    The pictures are read once, in one pass; every choice of every question is a branch of that reading.
    """
    questions = [question for question in example.questions if question.choices]
    if not questions:
        return []
    pairs = [(question.question, choice) for question in questions for choice in question.choices]
    batch = collate([example], tokenizer, [pairs]).to(next(model.parameters()).device)
    losses = answer_losses(model, attention, batch)
    totals = torch.zeros(len(pairs), device=losses.device).index_add(0, batch.branch, losses).tolist()
    lengths = torch.bincount(batch.branch.cpu(), minlength=len(pairs)).tolist()
    chosen, start = [], 0
    for question in questions:
        span = slice(start, start + len(question.choices))
        chosen.append(Choice(tuple(question.choices), tuple(-loss for loss in totals[span]), tuple(lengths[span])))
        start += len(question.choices)
    return chosen


def accuracy(
    model, attention: BatchAttention, tokenizer, examples: Sequence[Example], progress: Progress = no_progress
) -> dict[str, tuple[int, int, float]]:
    """(right, asked, expected of a guesser) of each kind of question over ``examples``; "all" for all of them."""
    rows = []
    for number, example in enumerate(examples):
        progress(number, len(examples))
        questions = [question for question in example.questions if question.choices]
        for question, choice in zip(questions, choose_in_batch(model, attention, tokenizer, example), strict=True):
            rows.append((question.kind, choice.best == question.answer, 1 / len(question.choices)))
    return tally(rows)


def tally(rows: Iterable[tuple[str, bool, float]]) -> dict[str, tuple[int, int, float]]:
    """(kind, right, chance) rows to (right, asked, expected by chance) for each kind, and for "all"."""
    totals: dict[str, list[float]] = {}
    for kind, right, chance in rows:
        for name in (kind, "all"):
            total = totals.setdefault(name, [0, 0, 0.0])
            total[0] += right
            total[1] += 1
            total[2] += chance
    return {name: (right, asked, round(chance, 3)) for name, (right, asked, chance) in sorted(totals.items())}
