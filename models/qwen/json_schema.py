"""Decoding held to a JSON schema, so that the answer always parses.

The grammar engine is the ``llguidance`` library, an optional dependency. What it does not do is end in time: a sampler
that reaches its token limit inside a string leaves half an object. So when the tokens left are just enough, the
constraint takes the shortest way out that it can see and closes what is open.
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..errors import InputError

COMPACT = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


class JsonConstraint:
    """Masks logits, as ``generate`` asks it to, so that the text is JSON of a schema at every token and at the end.

    Args:
        tokenizer_json: the ``tokenizers`` library's serialisation of the tokenizer.
        stop_token: id of the token that ends an answer.
        vocabulary: number of logits.
        schema: a JSON schema.
        max_tokens: length of the answer at most, the stop token included.

    Raises:
        InputError: ``llguidance`` is not installed, the schema is not one it can follow, or ``max_tokens`` is too few
            for the shortest answer.
    """

    def __init__(self, tokenizer_json: str, stop_token: int, vocabulary: int, schema: dict, max_tokens: int):
        if importlib.util.find_spec("llguidance") is None:
            raise InputError("A JSON answer needs the Python package 'llguidance'; install it, or ask for plain text.")
        from llguidance import LLTokenizer

        self.stop_token = stop_token
        self.vocabulary = vocabulary
        self.tokenizer = LLTokenizer(tokenizer_json, eos_token=stop_token, n_vocab=vocabulary)
        self.text = [self.tokenizer.decode_bytes([token]) for token in range(vocabulary)]
        self.rank = np.array([self._closing_rank(token) for token in range(vocabulary)], np.int32)
        self.quote, self.letter = self.text.index(b'"'), self.text.index(b"a")
        self.matcher = self._matcher(schema)
        if self.matcher.get_error():
            raise InputError(f"The JSON schema cannot be followed: {self.matcher.get_error().splitlines()[0]}")
        self.max_tokens = max_tokens
        self.read = 0
        shortest = len(self._way_out(self.matcher))
        if shortest > max_tokens:
            raise InputError(f"max_tokens is {max_tokens}; the shortest answer of this schema has {shortest} tokens.")
        parts = [matcher for matcher in map(self._matcher, _subschemas(schema)) if not matcher.get_error()]
        self.margin = 4 + max((len(self._way_out(matcher)) for matcher in parts), default=shortest)

    def _matcher(self, schema: dict):
        from llguidance import LLMatcher

        return LLMatcher(self.tokenizer, LLMatcher.grammar_from_json_schema(json.dumps(schema | COMPACT)))

    def _closing_rank(self, token: int) -> int:
        """Lower means nearer to the end of the text, outside of strings."""
        text = self.text[token]
        if token == self.stop_token:
            return -8
        return -len(text) if text and set(text) <= set(b"]}") else len(text)

    def _allowed(self, matcher) -> np.ndarray:
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        return np.unpackbits(bits, bitorder="little")[: self.vocabulary].astype(bool)

    def _way_out(self, matcher) -> list[int]:
        """Return the tokens that close everything from here, the stop token last."""
        matcher, tokens = matcher.deep_copy(), []
        while not tokens or tokens[-1] != self.stop_token:
            allowed = self._allowed(matcher)
            if allowed[self.quote] and allowed[self.letter]:
                tokens.append(self.quote)
            else:
                allowed = np.flatnonzero(allowed)
                tokens.append(int(allowed[np.argmin(self.rank[allowed])]))
            matcher.consume_token(tokens[-1])
        return tokens

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """Return ``logits`` [vocabulary], -inf where a token after ``ids`` would break the schema or the limit."""
        for token in ids[self.read :]:
            self.matcher.consume_token(token)
        self.read = len(ids)
        way_out = self._way_out(self.matcher)
        if self.read + len(way_out) + self.margin >= self.max_tokens:
            allowed = np.zeros(self.vocabulary, bool)
            allowed[way_out[0]] = True
        else:
            allowed = self._allowed(self.matcher)
        return logits.masked_fill(torch.from_numpy(~allowed).to(logits.device), float("-inf"))


def _subschemas(schema: dict) -> Iterator[dict]:
    """Yield the schemas of everything that an answer may but need not contain."""
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield schema[key]
            yield from _subschemas(schema[key])
    for key in ("properties", "$defs", "definitions", "patternProperties"):
        for part in schema.get(key, {}).values():
            yield part
            yield from _subschemas(part)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for part in schema.get(key, []):
            yield part
            yield from _subschemas(part)
