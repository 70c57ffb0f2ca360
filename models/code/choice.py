"""Answers by the likelihood of each option: what a model holds to be true, without what it happens to write."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen.branches import Branches, in_groups
from ..qwen.generate import finite
from ..qwen.tokenizer import typed
from .conversation import Conversation

NEGLIGIBLE = 12.0
"""A spelling whose first token is less likely than the option by this many nats (6e-6) is not scored."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The likelihood of each of several answers to one question.

    Attributes:
        options: the answers, in the order given.
        logprobs: natural log-probability that the reply is this option (or begins with it), its spellings together.
        lengths: tokens of each option as given, with the end of the reply where it counts.
    """

    options: tuple[str, ...]
    logprobs: tuple[float, ...]
    lengths: tuple[int, ...]

    @property
    def best(self) -> str:
        """The likeliest option, the first of equals."""
        return self.options[self.logprobs.index(max(self.logprobs))]

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each option, given that the reply is one of them."""
        highest = max(self.logprobs)
        weights = [math.exp(logprob - highest) for logprob in self.logprobs]
        return {option: weight / sum(weights) for option, weight in zip(self.options, weights, strict=True)}

    @property
    def off_list(self) -> float:
        """Probability that the reply is none of the options."""
        return max(0.0, 1.0 - sum(map(math.exp, self.logprobs)))

    @property
    def margin(self) -> float:
        """Nats between the likeliest option and the next; inf where there is one option."""
        best, *others = sorted(self.logprobs, reverse=True)
        return best - others[0] if others else math.inf

    @property
    def per_token(self) -> dict[str, float]:
        """Log-probability of each option divided by its tokens: the log of the geometric mean over tokens."""
        rows = zip(self.options, self.logprobs, self.lengths, strict=True)
        return {option: logprob / length for option, logprob, length in rows}

    def log_odds(self, option: str, other: str) -> float:
        """Log-probability of ``option`` minus that of ``other``."""
        return self.logprobs[self.options.index(option)] - self.logprobs[self.options.index(other)]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its options.

    Attributes:
        question: the text.
        options: the answers to score.
        lead: text that the reply is made to begin with; the options follow it.
        whole: the reply ends after the option; otherwise it may go on.
        shown: asked of what the conversation has read; otherwise of nothing, as the first question of an empty one.
    """

    question: str
    options: tuple[str, ...]
    lead: str = ""
    whole: bool = True
    shown: bool = True


def choose(
    conversation: Conversation,
    question: str,
    options: Sequence[str],
    progress: Progress = no_progress,
    *,
    lead: str = "",
    whole: bool = True,
) -> Choice:
    """Score ``options`` as the reply to ``question``, as :func:`choose_each` does for several questions."""
    return choose_each(conversation, [Asked(question, tuple(options), lead, whole)], progress)[0]


@torch.no_grad()
def choose_each(conversation: Conversation, asked: Sequence[Asked], progress: Progress = no_progress) -> list[Choice]:
    """Score the options of each question as the reply to it; the conversation remembers nothing of it.

    The questions do not see one another and go through the model together, and so do the replies. An option counts in
    all its spellings: as given, in small letters, with a capital, in capitals, each with and without a leading space. A
    spelling that two options have in common counts for neither. A Thinking model answers without reasoning.

    Raises:
        InputError: no option is given, or one twice; question and options do not fit the model's context.
    """
    for one in asked:
        if not one.options or len(set(one.options)) < len(one.options):
            raise InputError(f"the options are {list(one.options)}; at least one is needed, and each once")
    reading = conversation.fork()
    reading.read(progress)
    blank = Conversation(conversation.model, [])
    tokenizer, laid_out = conversation.model.tokenizer, []
    for one in asked:
        ending = [tokenizer.token_id("<|im_end|>")] if one.whole else []
        spelled = [[[*tokenizer.encode(typed(s)), *ending] for s in option] for option in _spellings(one.options)]
        longest = max(len(reply) for option in spelled for reply in option)
        # A space at the end would part from the word after it, which has a spelling with a space of its own.
        lead, view = one.lead.rstrip(" "), reading if one.shown else blank
        laid_out.append((one, spelled, view.question_ids(one.question, longest, lead=lead)))
    return [choice for group in in_groups(laid_out) for choice in _choices(reading, group)]


def _choices(reading: Conversation, group: Sequence[tuple[Asked, list[list[list[int]]], list[int]]]) -> list[Choice]:
    branches = Branches(reading.snapshot)
    starts = [branches.root if one.shown else branches.empty for one, _, _ in group]
    posed, hidden = branches.read([(start, ids) for start, (*_, ids) in zip(starts, group, strict=True)])
    first = finite(reading.model.text.logits(torch.cat([rows[-1:] for rows in hidden]))).log_softmax(-1)
    options = [_Option(at, replies, first[at]) for at, (_, spelled, _) in enumerate(group) for replies in spelled]
    while pending := [(option, reply) for option in options for reply in option.pending()]:
        longer = [(option, reply) for option, reply in pending if len(reply) > 1]
        found = {}
        if longer:
            _, hidden = branches.read([(posed[option.question], reply[:-1]) for option, reply in longer])
            logprobs = finite(reading.model.text.logits(torch.cat(hidden))).log_softmax(-1)
            for (_, reply), rows in zip(longer, logprobs.split([len(reply) - 1 for _, reply in longer]), strict=True):
                later = torch.tensor(reply[1:], device=rows.device)[:, None]
                found[id(reply)] = float(rows.gather(1, later).double().sum())
        for option, reply in pending:
            option.scored.append(float(option.first[reply[0]]) + found.get(id(reply), 0.0))
    choices = []
    for at, (one, spelled, _) in enumerate(group):
        logprobs = tuple(option.logprob for option in options if option.question == at)
        choices.append(Choice(one.options, logprobs, tuple(len(replies[0]) for replies in spelled)))
    return choices


def _spellings(options: Sequence[str]) -> list[list[str]]:
    """The spellings of each option, the one given first."""
    every = []
    for option in options:
        words = (option, option.lower(), option[:1].upper() + option[1:], option.upper())
        every.append(list(dict.fromkeys(lead + word for lead in ("", " ") for word in words)))
    owners = Counter(words for spelled in every for words in spelled)
    return [[given, *(words for words in others if owners[words] == 1)] for given, *others in every]


class _Option:
    """An option while its spellings are scored.

    Attributes:
        question: the number of its question.
        replies: token ids of its spellings, the one given first.
        first: log-probabilities [V] of the reply's first token.
        scored: log-probabilities of the replies scored so far.
    """

    def __init__(self, question: int, replies: list[list[int]], first: torch.Tensor):
        self.question, self.first, self.scored = question, first, []
        bounds = first[torch.tensor([reply[0] for reply in replies], device=first.device)].tolist()
        # The spelling given, and after it the likelier ones first.
        self.waiting = sorted(zip(bounds, replies, strict=True), key=lambda pair: (pair[1] is not replies[0], -pair[0]))

    @property
    def logprob(self) -> float:
        """Of all spellings together, as far as they are scored."""
        return float(torch.tensor(self.scored, dtype=torch.float64).logsumexp(0))

    def pending(self) -> list[list[int]]:
        """The replies to score next, none twice: the one given first, then all that may still count beside it."""
        least = (self.logprob if self.scored else max(bound for bound, _ in self.waiting)) - NEGLIGIBLE
        taken = [pair for at, pair in enumerate(self.waiting) if pair[0] > least or (at == 0 and not self.scored)]
        self.waiting = [pair for pair in self.waiting if pair not in taken]
        return [reply for _, reply in taken]
