"""Answers held to a schema parse and fit, whatever the model would rather say. ``jsonschema`` is the judge."""

import json

import jsonschema
import pytest
import torch
from codeclens.models.code.presets import FOLDER, read_preset
from codeclens.models.errors import InputError
from codeclens.models.qwen.json_schema import JsonConstraint
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiers import every_value_once

pytest.importorskip("llguidance", reason="llguidance is not installed; it is an optional dependency for JSON answers")

STOP = 902
CHECKED = jsonschema.FormatChecker(["email", "date", "ipv4", "ipv6", "uuid"])
LENGTH = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def answer(tokenizer_json, schema, max_tokens, seed):
    """Let a model that knows nothing choose: every logit is noise."""
    constraint = JsonConstraint(tokenizer_json, STOP, 1024, schema, max_tokens)
    generator = torch.Generator().manual_seed(seed)
    tokens = []
    while len(tokens) < max_tokens and (not tokens or tokens[-1] != STOP):
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
    with pytest.raises(InputError, match="the JSON schema cannot be followed"):
        JsonConstraint(tokenizer_json, STOP, 1024, {"type": "no such type"}, 64)


def read(tokenizer_json, tokens):
    from tokenizers import Tokenizer

    assert tokens[-1] == STOP
    return json.loads(Tokenizer.from_str(tokenizer_json).decode(tokens[:-1], skip_special_tokens=False))


VALUES = [
    True, {}, {"type": "number", "exclusiveMinimum": 0}, {"type": "number", "exclusiveMaximum": 0},
    {"type": "number", "minimum": 0.5, "maximum": 0.6}, {"type": "integer", "exclusiveMinimum": 5, "maximum": 7},
    {"type": "integer", "multipleOf": 7, "minimum": 1}, {"type": "number", "multipleOf": 0.01},
    {"type": "string", "pattern": "cat"}, {"type": "string", "pattern": "^[a-z]+$"},
    {"type": "string", "pattern": r"^\d{4}-\d{2}$"}, {"type": "string", "pattern": r"\d{3}-cat"},
    {"type": "string", "pattern": "^(ab)*c$"}, {"type": "string", "pattern": "(foo|bar)baz$"},
    *({"type": "string", "format": name} for name in (
        "uri", "email", "date", "time", "date-time", "ipv4", "ipv6", "uuid", "hostname", "duration",
    )),
    {"type": "string", "minLength": 30}, {"type": "string", "minLength": 3, "maxLength": 5},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3}, {"enum": ["a", "b"]}, {"const": {"a": [1]}},
    {"anyOf": [{"type": "null"}, {"type": "string"}]}, {"oneOf": [{"type": "integer"}, {"type": "boolean"}]},
    {"type": "object", "patternProperties": {"^x": {"type": "integer"}}},
    {"allOf": [{"type": "integer"}, {"minimum": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("required, seed", every_value_once([False, True], [0, 1]))
@pytest.mark.parametrize("value", VALUES, ids=json.dumps)
def test_a_value_of_every_kind_is_closed_in_time(tokenizer_json, value, required, seed):
    """exclusiveMinimum, pattern and format once hung for ever: the shortest next character never ends them."""
    schema = {"type": "object", "properties": {"x": value}, "required": ["x"] if required else []}
    tokens = answer(tokenizer_json, schema, 80, seed)
    jsonschema.validate(read(tokenizer_json, tokens), schema, format_checker=CHECKED)


NODE = {"type": "object", "properties": {"c": {"$ref": "#/$defs/n"}, "v": {"type": "string"}}, "required": ["v"]}
RECURSIVE = {
    "optional": {"$defs": {"n": NODE}, "$ref": "#/$defs/n"},
    "list": {"$defs": {"n": {
        "type": "object", "required": ["v", "c"],
        "properties": {"v": {"type": "integer"}, "c": {"anyOf": [{"$ref": "#/$defs/n"}, {"type": "null"}]}},
    }}, "$ref": "#/$defs/n"},
    "tree": {"type": "object", "properties": {"c": {"type": "array", "items": {"$ref": "#"}}}, "required": ["c"]},
}  # fmt: skip


@pytest.mark.parametrize("schema", RECURSIVE.values(), ids=RECURSIVE)
def test_recursive_schemas_are_closed_in_time(tokenizer_json, schema):
    for seed in range(3):
        jsonschema.validate(read(tokenizer_json, answer(tokenizer_json, schema, 120, seed)), schema)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"$defs": {"n": NODE | {"required": ["c"]}}, "$ref": "#/$defs/n"}, "no answer of up to 1024 tokens was found"),
        (False, "it is false, 5 characters long; an object"),
        ([], r"it is \[\]"),
        ({"enum": [float("nan")]}, "it is no JSON"),
        ({"enum": ["x" * 70000]}, "an object of up to 65536 characters"),
        ({"enum": ["\ud800"]}, "cannot be followed"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"$ref": "https://elsewhere/schema.json"}, "cannot be followed"),
        ({"properties": {"a": 3}}, "cannot be followed"),
    ],
)
def test_what_cannot_be_followed_is_one_sentence(tokenizer_json, schema, words):
    with pytest.raises(InputError, match=words) as raised:
        JsonConstraint(tokenizer_json, STOP, 1024, schema, 64)
    assert "\n" not in str(raised.value)


def test_definitions_that_are_no_object_and_true_for_the_whole(tokenizer_json):
    for schema in ({"$defs": [], "type": "object"}, {"$defs": {}, "type": "object"}, True):
        read(tokenizer_json, answer(tokenizer_json, schema, 60, 0))


ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(-2, 2), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
KEYWORDS = (
    "type", "properties", "required", "items", "prefixItems", "minItems", "maxItems", "anyOf", "oneOf", "allOf", "enum",
    "const", "pattern", "format", "minimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "$ref",
    "additionalProperties", "patternProperties", "minProperties", "$defs", "x-guidance",
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "object",
        "array",
        "string",
        "number",
        "integer",
        "null",
        "a",
        "^a*$",
        "(",
        "[a-z]{3}",
        "date",
        "uri",
        "#",
        "#/$defs/a",
    ]
)
SCHEMAS = st.recursive(
    st.one_of(st.booleans(), ANYTHING, WORDS),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(KEYWORDS), inner, max_size=5),
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
        st.lists(inner, max_size=3),
    ),
    max_leaves=12,
)


@settings(max_examples=40, deadline=None)
@given(schema=st.dictionaries(st.sampled_from(KEYWORDS), SCHEMAS, max_size=5), seed=st.integers(0, 99))
def test_any_schema_ends_in_an_answer_or_in_one_sentence(tokenizer_json, schema, seed):
    try:
        tokens = answer(tokenizer_json, schema, 40, seed)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert len(tokens) <= 40
