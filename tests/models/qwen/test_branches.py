"""Branches of a reading against a fork for each of them, which reads the same tokens alone."""

import pytest
import torch
from codeclens.models.qwen import load_text
from codeclens.models.qwen.branches import ROWS, Branches, in_groups
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.gguf import read_gguf
from hypothesis import given
from hypothesis import strategies as st
from support.gguf_files import TINY, TINY_HYBRID, write_text

READ, QUESTIONS, REPLIES = range(2, 40), ([5], range(50, 57), [9, 8, 7]), ([11], [12, 13, 14])


@pytest.fixture(scope="module", params=[TINY, TINY_HYBRID], ids=["qwen3vl", "qwen35"])
def model(request, tmp_path_factory):
    return load_text(read_gguf(write_text(tmp_path_factory.mktemp("text") / "model.gguf", request.param)))


def context_after(model, *parts, int8=False):
    context = Context(model, Cache(len(model.layers), int8=int8))
    for ids in parts:
        context.read_ids(list(ids))
    return context


def close(found, expected):
    return torch.allclose(found[-1], expected.hidden[0], rtol=1e-4, atol=1e-5 * float(expected.hidden.abs().max()))


def test_branches_and_their_branches_are_those_of_forks(model):
    reading = context_after(model, READ)
    branches = Branches(reading)
    asked, hidden = branches.read([(branches.root, list(ids)) for ids in QUESTIONS])
    for ids, rows in zip(QUESTIONS, hidden, strict=True):
        alone = reading.fork()
        alone.read_ids(list(ids))
        assert rows.shape[0] == len(ids) and close(rows, alone)
    pairs = [(branch, ids, reply) for branch, ids in zip(asked, QUESTIONS, strict=True) for reply in REPLIES]
    _, hidden = branches.read([(branch, reply) for branch, _, reply in pairs])
    for (_, ids, reply), rows in zip(pairs, hidden, strict=True):
        alone = context_after(model, READ)
        alone.read_ids([*ids, *reply])
        assert close(rows, alone)
    assert reading.cache.length == len(READ)
    again = reading.fork()
    again.read_ids(list(QUESTIONS[1]))
    fresh = context_after(model, READ, QUESTIONS[1])
    assert torch.allclose(again.hidden, fresh.hidden, rtol=1e-4, atol=1e-4)


def test_a_reading_in_8_bits_has_branches_that_differ_by_little(model):
    """A fork keeps its own rows in 8 bits too; a branch keeps them as they are."""
    reading = context_after(model, READ, int8=True)
    branches = Branches(reading)
    _, (rows,) = branches.read([(branches.root, list(QUESTIONS[1]))])
    reading.read_ids(list(QUESTIONS[1]))
    error = (rows[-1] - reading.hidden[0]).norm() / rows[-1].norm()
    assert 0 < error < 0.03


def test_an_empty_branch_does_not_see_the_reading(model):
    branches = Branches(context_after(model, READ))
    _, (shown, blank) = branches.read([(branches.root, [4, 5, 6]), (branches.empty, [4, 5, 6])])
    assert close(blank, context_after(model, [4, 5, 6])) and not torch.allclose(shown, blank, rtol=1e-2)


def test_nothing_need_have_been_read(model):
    branches = Branches(context_after(model))
    _, (rows,) = branches.read([(branches.root, [4, 5, 6])])
    assert close(rows, context_after(model, [4, 5, 6]))


@given(st.lists(st.integers(1, ROWS + 9), max_size=12))
def test_groups_keep_the_order_and_the_limit(lengths):
    parts = [(number, [0] * length) for number, length in enumerate(lengths)]
    groups = in_groups(parts)
    assert [part for group in groups for part in group] == parts
    assert all(len(group) == 1 or sum(len(ids) for _, ids in group) <= ROWS for group in groups)
