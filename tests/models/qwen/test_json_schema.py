"""Answers held to a schema parse and fit, whatever the model would rather say."""

import json

import pytest
import torch
from codeclens.models.code.presets import FOLDER, read_preset
from codeclens.models.errors import InputError
from codeclens.models.qwen.json_schema import JsonConstraint
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("llguidance", reason="llguidance is not installed; it is an optional dependency for JSON answers")

STOP = 902
LENGTH = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def answer(tokenizer_json, schema, max_tokens, seed):
    """Let a model that knows nothing choose: every logit is noise."""
    constraint = JsonConstraint(tokenizer_json, STOP, 1024, schema, max_tokens)
    generator = torch.Generator().manual_seed(seed)
    tokens = []
    while not tokens or tokens[-1] != STOP:
        logits = constraint(tokens, 3 * torch.randn(1024, generator=generator))
        tokens.append(int(torch.multinomial(logits.softmax(-1), 1, generator=generator)))
    return tokens


@pytest.fixture(scope="module")
def tokenizer_json(qwen3vl_fixtures):
    return (qwen3vl_fixtures / "tiny-tied" / "tokenizer.json").read_text(encoding="utf-8")


@settings(max_examples=10, deadline=None)
@given(max_tokens=st.integers(67, 200), seed=st.integers(0, 2**32))
def test_noise_gives_json_of_the_preset_schema_within_the_limit(tokenizer_json, max_tokens, seed):
    from tokenizers import Tokenizer

    schema = read_preset(FOLDER / "json.json").schema
    tokens = answer(tokenizer_json, schema, max_tokens, seed)
    assert len(tokens) <= max_tokens
    found = json.loads(Tokenizer.from_str(tokenizer_json).decode(tokens[:-1], skip_special_tokens=False))
    assert set(found) == set(schema["required"])
    assert all(set(action) == {"start", "end", "event"} for action in found["actions"])


def test_a_limit_below_the_shortest_answer_is_refused(tokenizer_json):
    with pytest.raises(InputError, match="max_tokens is 3; the shortest answer of this schema has"):
        JsonConstraint(tokenizer_json, STOP, 1024, LENGTH, 3)


def test_a_schema_that_cannot_be_followed_is_refused(tokenizer_json):
    with pytest.raises(InputError, match="The JSON schema cannot be followed"):
        JsonConstraint(tokenizer_json, STOP, 1024, {"type": "no such type"}, 64)
