"""The text of a caption before it is kept: trigger word, prefix, suffix, replacements, words to leave out, length."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import InputError

SENTENCE, CLAUSE, WORD = re.compile(r"(?<=[.!?])\s+"), re.compile(r"(?<=[,;:.!?])\s+"), re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class Wording:
    """Rules for the text of captions.

    Attributes:
        trigger: a word that stands first, before the prefix.
        prefix, suffix: put before and after, as they are.
        replace: (what, with what), in order; whole words, letters of any case.
        leave_out: words and names that must not occur; asked for beforehand, checked afterwards.
        one_line: line breaks become spaces.
        longest: tokens at most, 0 for any length; whole sentences are kept, of a long first one whole clauses.
        count_tokens: how tokens are counted for ``longest``.
        counted_by: what the tokenizer that counts is called, '' for the model's own.
    """

    trigger: str = ""
    prefix: str = ""
    suffix: str = ""
    replace: tuple[tuple[str, str], ...] = ()
    leave_out: tuple[str, ...] = ()
    one_line: bool = True
    longest: int = 0
    count_tokens: Callable[[str], int] = field(default=lambda text: len(text.split()), compare=False)
    counted_by: str = ""

    @property
    def instructions(self) -> str:
        """What to tell the model beforehand; '' where there is nothing."""
        if not self.leave_out:
            return ""
        return f"Do not mention any of these: {', '.join(self.leave_out)}."

    def applied(self, text: str) -> tuple[str, list[str]]:
        """The finished caption, and phrases about what had to be cut: sentences with words to leave out, and length."""
        notes = []
        text = " ".join(text.split()) if self.one_line else text.strip()
        for what, by in self.replace:
            text = re.sub(rf"\b{re.escape(what)}\b", lambda _, by=by: by, text, flags=re.IGNORECASE)
        named = mentioned(text, self.leave_out)
        if named:
            kept = [sentence for sentence in SENTENCE.split(text) if not mentioned(sentence, self.leave_out)]
            text = " ".join(kept)
            notes.append(f"sentences with {', '.join(named)} were cut" if kept else f"names {', '.join(named)}")
        text = f"{self.prefix}{text}{self.suffix}".strip()
        if self.trigger and not mentioned(text, (self.trigger,)):
            text = f"{self.trigger}, {text}" if text else self.trigger
        if self.longest and self.count_tokens(text) > self.longest:
            text = self._shortened(text)
            notes.append(f"cut to {self.longest} tokens")
        return text, notes

    def _shortened(self, text: str) -> str:
        """Whole sentences up to the length; clauses where the first sentence is too long, and words where they are."""
        for end in (SENTENCE, CLAUSE, WORD):
            kept = ""
            for match in [*end.finditer(text), None]:
                longer = text[: match.start()] if match else text
                if self.count_tokens(longer.rstrip(" ,;:")) > self.longest:
                    break
                kept = longer
            if kept:
                return kept.rstrip(" ,;:")
        return ""


def mentioned(text: str, words: Sequence[str]) -> list[str]:
    """Those of ``words`` that occur in ``text`` as whole words, letters of any case."""
    return [word for word in words if re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE)]


def parse_replacements(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs from 'what=with what'. Raises InputError for a line without '='."""
    pairs = []
    for line in lines:
        what, sign, by = line.partition("=")
        if not sign or not what.strip():
            raise InputError(f"replacement {line!r} has no '='; it must be like 'woman=person'")
        pairs.append((what.strip(), by.strip()))
    return tuple(pairs)
