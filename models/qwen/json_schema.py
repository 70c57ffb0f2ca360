"""Decoding held to a JSON schema, so that the answer always parses.

The grammar engine is the ``llguidance`` library, an optional dependency. What it does not do is end in time: a sampler
that reaches its token limit inside a string leaves half an object. So when the tokens left are just enough, the
constraint takes the shortest way out that it can see and closes what is open.
"""

import importlib.util
import itertools
import json
import re
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from ..errors import InputError

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
MOST_BYTES = 1 << 16
"""Length of a schema, written out, above which it is refused."""

LONGEST_WAY_OUT = 1024
"""Tokens after which a way out is given up: a schema may ask for what has no end."""

MOST_PARTS = 64
"""Parts of a schema whose own ways out are measured."""

REPEATED = 4
"""How many characters longer a token counts for each time that a way out has taken it: loops lose to what ends them."""

VALUES = ("0", "1", "-1", "0.5", "a", "a:", "a@a.aa", "aa.aa", "0.0.0.0", "::", "P1D", "2000-01-01", "00:00:00Z",
          "2000-01-01T00:00:00Z", "00000000-0000-0000-0000-000000000000")  # fmt: skip
"""Numbers, and strings of every format of JSON Schema, to close a value with that ends only where it is complete."""

EXAMPLE = (
    (r"\\d", "0"), (r"\\w", "a"), (r"\\s", " "), (r"\[\^?\\?(.)[^\]]*\]", r"\1"), (r"(?<!\\)\.", "a"),
    (r"\\(.)", r"\1"),
    (r"\((?:\?:)?([^()|]*)[^()]*\)", r"\1"), (r"\((?:\?:)?([^()|]*)[^()]*\)", r"\1"), (r"[?*+^$]", ""),
)  # fmt: skip
"""What turns most patterns into a text that they match: one character for a class, the first of some alternatives."""


class JsonConstraint:
    """Masks logits, as ``generate`` asks it to, so that the text is JSON of a schema at every token and at the end.

    Args:
        tokenizer_json: the ``tokenizers`` library's serialisation of the tokenizer.
        stop_token: id of the token that ends an answer.
        vocabulary: number of logits.
        schema: a JSON schema: an object, or True for any JSON.
        max_tokens: length of the answer at most, the stop token included.

    Raises:
        InputError: ``llguidance`` is not installed, the schema is not one it can follow, or ``max_tokens`` is too few
            for the shortest answer.
    """

    def __init__(self, tokenizer_json: str, stop_token: int, vocabulary: int, schema: dict | bool, max_tokens: int):
        if importlib.util.find_spec("llguidance") is None:
            raise InputError("a JSON answer needs the Python package 'llguidance'; install it, or ask for plain text")
        from llguidance import LLTokenizer

        self.stop_token = stop_token
        self.vocabulary = vocabulary
        self.tokenizer = LLTokenizer(tokenizer_json, eos_token=stop_token, n_vocab=vocabulary)
        self.text = [self.tokenizer.decode_bytes([token]) for token in range(vocabulary)]
        self.length = np.array([len(text) for text in self.text], np.int32)
        closing = [token for token, text in enumerate(self.text) if text and set(text) <= set(b"]}")]
        self.token = {text: token for token, text in reversed(list(enumerate(self.text)))}
        self.quote, self.letter, self.comma = (self.token[char] for char in (b'"', b"a", b","))
        # A number ends where a comma may follow it; one more digit could always follow as well.
        self.closing = [stop_token, *sorted(closing, key=lambda token: -len(self.text[token])), self.comma]
        self.max_tokens = max_tokens
        self.read = 0
        self.closing_with: list[int] = []
        self.values = [[self.token[bytes([byte])] for byte in value.encode()] for value in _values(schema)]
        self.matcher = self._matcher(schema)
        if self.matcher.is_error():
            reason = " ".join(self.matcher.get_error().split("\n")[0].split())[:200]
            raise InputError(f"the JSON schema cannot be followed: {reason}")
        shortest = self._way_out(self.matcher, LONGEST_WAY_OUT)
        if shortest is None:
            raise InputError(
                f"the JSON schema cannot be followed: no answer of up to {LONGEST_WAY_OUT} tokens was found for it; "
                "make recursive parts optional, and begin patterns with ^ and end them with $"
            )
        if len(shortest) > max_tokens:
            raise InputError(
                f"max_tokens is {max_tokens}; the shortest answer of this schema has {len(shortest)} tokens"
            )
        parts = (self._way_out(self._matcher(part), LONGEST_WAY_OUT) for part in _parts(schema))
        self.margin = 4 + max((len(part) for part in parts if part), default=len(shortest))

    def _matcher(self, schema: dict | bool):
        from llguidance import LLMatcher

        written = _written({} if schema is True else schema)
        try:
            grammar = LLMatcher.grammar_from_json_schema(written, overrides=COMPACT)
        except ValueError as error:
            raise InputError(f"the JSON schema cannot be followed: {str(error)[:80]}") from None
        return LLMatcher(self.tokenizer, grammar, log_level=0)

    def _way_out(self, matcher, longest: int) -> list[int] | None:
        """The tokens that close everything from here, the stop token last; None where ``longest`` do not suffice."""
        matcher, tokens = matcher.deep_copy(), []
        taken = np.zeros(self.vocabulary, np.int32)
        while not matcher.is_error() and len(tokens) < longest:
            step = self._step(matcher, taken)
            tokens += step
            if tokens[-1:] == [self.stop_token]:
                return tokens
            if not step or not matcher.consume_tokens(step):
                return None
            taken[step] += REPEATED
        return None

    def _step(self, matcher, taken: np.ndarray) -> list[int]:
        """The next tokens of a way out: what is forced, what closes, a value that can be closed, or any short one."""
        if forced := matcher.compute_ff_bytes():
            return [self._longest_token(forced)]
        bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
        # Outside of strings no value begins with this letter.
        for token in [self.quote] if _allows(bits, self.letter) else self.closing:
            if _allows(bits, token):
                return [token]
        for value in self.values:
            if _allows(bits, value[0]) and self._can_close_after(matcher, value):
                return value
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")[: self.vocabulary])
        return [int(allowed[np.argmin(self.length[allowed] + taken[allowed])])] if len(allowed) else []

    def _longest_token(self, forced: bytes) -> int:
        return next(self.token[forced[:end]] for end in range(len(forced), 0, -1) if forced[:end] in self.token)

    def _can_close_after(self, matcher, value: list[int]) -> bool:
        after = matcher.deep_copy()
        if not after.consume_tokens(value):
            return False
        bits = np.frombuffer(after.compute_bitmask(), np.uint8)
        if _allows(bits, self.quote) or _allows(bits, self.letter):
            return _allows(bits, self.quote)
        return any(_allows(bits, token) for token in (self.comma, *self.closing))

    def __call__(self, ids: Sequence[int], logits: torch.Tensor) -> torch.Tensor:
        """Return ``logits`` [vocabulary], -inf where a token after ``ids`` would break the schema or the limit."""
        for token in ids[self.read :]:
            self.matcher.consume_token(token)
        self.read = len(ids)
        if not self.closing_with:
            way_out = self._way_out(self.matcher, min(LONGEST_WAY_OUT, self.max_tokens - self.read))
            if way_out and self.read + len(way_out) + self.margin >= self.max_tokens:
                self.closing_with = way_out
        if self.closing_with:
            allowed = np.zeros(self.vocabulary, bool)
            allowed[self.closing_with.pop(0)] = True
        else:
            bits = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
            allowed = np.unpackbits(bits, bitorder="little")[: self.vocabulary].astype(bool)
        return logits.masked_fill(torch.from_numpy(~allowed).to(logits.device), float("-inf"))


def _allows(bits: np.ndarray, token: int) -> bool:
    return bool(bits[token >> 3] >> (token & 7) & 1)


def _written(schema: dict) -> str:
    """``schema`` as text; raises InputError for what has none, or one too long."""
    try:
        written = json.dumps(schema, allow_nan=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(f"the JSON schema cannot be followed: it is no JSON ({str(error)[:80]})") from None
    if not isinstance(schema, dict) or len(written) > MOST_BYTES:
        raise InputError(
            f"the JSON schema cannot be followed: it is {written[:20]}, {len(written)} characters long; an object of "
            f"up to {MOST_BYTES} characters is needed"
        )
    return written


def _nodes(schema) -> Iterator[dict]:
    """Every object inside ``schema``, itself first."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
        waiting.extend(node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())


def _parts(schema: dict | bool) -> list[dict]:
    """What an answer may but need not contain, each with the definitions that it refers to."""
    if not isinstance(schema, dict):
        return []
    shared = {key: schema[key] for key in ("$defs", "definitions") if isinstance(schema.get(key), dict)}
    return [{**part, **shared} for part in itertools.islice(_nodes(schema), 1, MOST_PARTS)]


def _values(schema: dict | bool) -> list[str]:
    """What a number or a string may be closed with, ones that the schema itself suggests first."""
    found = []
    for node in _nodes(schema):
        if isinstance(node.get("pattern"), str):
            found += _examples(node["pattern"])
        bounds = [node.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum", "multipleOf")]
        found += [f"{bound:.12g}" for bound in bounds if type(bound) in (int, float) and abs(bound) < 1e12]
    return [*dict.fromkeys([*found[:MOST_PARTS], *VALUES])]


def _examples(pattern: str) -> list[str]:
    """Texts that ``pattern`` may match: an example of all of it, and its words."""
    example = pattern[:256]
    for part, text in EXAMPLE:
        example = re.sub(part, text, example)
    example = re.sub(r"(.)\{(\d{1,3})[^}]*\}", lambda match: match[1] * int(match[2]), example)
    return [example[:256], *re.findall(r"\w+", pattern[:256])[:8]]
