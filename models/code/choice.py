"""Answers by the likelihood of each option: what a model holds to be true, without what it happens to write."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen.generate import Context
from ..qwen.tokenizer import typed
from .conversation import Conversation

NEGLIGIBLE = 9.0
"""A spelling whose first token is less likely than the option as given by this many nats (1e-4) is not scored."""


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


@torch.no_grad()
def choose(
    conversation: Conversation,
    question: str,
    options: Sequence[str],
    progress: Progress = no_progress,
    *,
    lead: str = "",
    whole: bool = True,
) -> Choice:
    """Score ``options`` as the reply to ``question``; the conversation remembers nothing of it.

    An option counts in all its spellings: as given, in small letters, with a capital, in capitals, each with and
    without a leading space. A spelling that two options have in common counts for neither. A Thinking model answers
    without reasoning.

    Args:
        lead: text that the reply is made to begin with; the options follow it.
        whole: the reply ends after the option; otherwise it may go on.

    Raises:
        InputError: no option is given, or one twice; question and options do not fit the model's context.
    """
    options = tuple(options)
    if not options or len(set(options)) < len(options):
        raise InputError(f"the options are {list(options)}; at least one is needed, and each once")
    tokenizer = conversation.model.tokenizer
    end = tokenizer.token_id("<|im_end|>")
    ending = [end] if whole else []
    replies = [[[*tokenizer.encode(typed(words)), *ending] for words in spelled] for spelled in _spellings(options)]
    longest = max(len(reply) for spelled in replies for reply in spelled)
    # A space at the end would part from the word after it, which has a spelling with a space of its own.
    context = conversation.posed(question, longest, progress, lead=lead.rstrip(" "))
    first = context.logits.log_softmax(-1)
    logprobs = []
    for given, *others in replies:
        found = [_log_probability(context, given)]
        likely = [reply for reply in others if first[reply[0]] > found[0] - NEGLIGIBLE]
        found += [_log_probability(context, reply) for reply in likely]
        logprobs.append(float(torch.tensor(found, dtype=torch.float64).logsumexp(0)))
    return Choice(options, tuple(logprobs), tuple(len(spelled[0]) for spelled in replies))


def _spellings(options: Sequence[str]) -> list[list[str]]:
    """The spellings of each option, the one given first."""
    every = []
    for option in options:
        words = (option, option.lower(), option[:1].upper() + option[1:], option.upper())
        every.append(list(dict.fromkeys(lead + word for lead in ("", " ") for word in words)))
    owners = Counter(words for spelled in every for words in spelled)
    return [[given, *(words for words in others if owners[words] == 1)] for given, *others in every]


def _log_probability(context: Context, reply: list[int]) -> float:
    """Natural log-probability that ``reply`` is what follows in ``context``, which stays as it is."""
    text = context.model
    logits = context.logits[None]
    if len(reply) > 1:
        positions = torch.arange(context.position, context.position + len(reply) - 1).expand(3, -1)
        hidden = text(text.embed(torch.tensor(reply[:-1])), positions, context.fork().cache)
        logits = torch.cat([logits, text.logits(hidden).float()])
    chosen = logits.log_softmax(-1).gather(1, torch.tensor(reply, device=logits.device)[:, None])
    return float(chosen.double().sum())
