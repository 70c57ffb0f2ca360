"""Reading and writing with a text model: chunked prefill, sampling, streaming.

Works with any object that has the interface of :class:`..qwen.text.TextModel`: ``embed(ids)``,
``forward(embeds, positions, cache, deepstack, visual_index)`` and ``logits(hidden)``. It knows token ids and text,
nothing of pictures: those arrive as embeddings.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from .cache import Cache

PREFILL_CHUNK = 1024
"""Rows read at once. Activations follow it, and so does the time to cancel. Every chunk decodes the weights' blocks
again."""

Constrain = Callable[[Sequence[int], torch.Tensor], torch.Tensor]
"""``constrain(ids, logits)``: given the ids written so far and the logits [V] float32 of the next, return logits with
what is not allowed at -inf. Called once per token, in order, so it may keep a grammar's state."""

LIMITS = {
    "temperature": (1e-6, 1e3), "top_k": (0, 1 << 31), "top_p": (0, 1), "min_p": (0, 1),
    "repetition_penalty": (1e-3, 1e3), "presence_penalty": (-1e3, 1e3), "seed": (0, (1 << 64) - 1),
}  # fmt: skip
"""What :class:`SamplingParams` takes; a temperature of 0, too. Smaller divisors overflow."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How the next token is chosen. The defaults are those that Qwen publishes for Qwen3-VL Instruct.

    Applied in this order: repetition penalty (Keskar et al. 2019, arXiv 1909.05858, section 4.1; over text read and
    written), presence penalty (subtracted once from every token written so far), temperature (0 takes the most likely
    token), the ``top_k`` most likely (0 for all), the smallest set of these with mass ``top_p`` (Holtzman et al. 2020,
    arXiv 1904.09751), those at least ``min_p`` times as likely as the first (arXiv 2407.01082).
    """

    temperature: float = 0.7
    top_k: int = 20
    top_p: float = 0.8
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 1.5
    seed: int = 0

    def __post_init__(self):
        for name, (least, most) in LIMITS.items():
            value, zero = getattr(self, name), "0 or " * (name == "temperature")
            if not least <= value <= most and not (zero and value == 0):
                raise InputError(f"sampling: {name} is {value}; it must be {zero}from {least:g} to {most:g}")


GREEDY = SamplingParams(temperature=0, presence_penalty=0)
REASONING = SamplingParams(temperature=1.0, top_p=0.95, presence_penalty=0)
"""What Qwen publishes for Qwen3-VL Thinking."""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote.

    ``logprobs`` holds the natural log-probability of each of ``ids`` under the model itself: before penalties,
    constraints and truncation. ``truncated`` says that ``max_tokens`` or the context ended the text, not the model.
    """

    ids: tuple[int, ...]
    text: str
    logprobs: tuple[float, ...]
    truncated: bool
    seconds: float


class Context:
    """What a text model has read so far: the cache, the next M-RoPE position, the last hidden state.

    Read once, then :meth:`fork` for every question; forks share the memory of what they have in common.
    """

    def __init__(self, model, cache: Cache):
        self.model = model
        self.cache = cache
        self.position = 0
        self.ids: list[int] = []
        self.hidden: torch.Tensor | None = None

    def fork(self) -> Context:
        """Return a context that has read the same and goes its own way from here."""
        other = copy.copy(self)
        other.cache = self.cache.fork()
        other.ids = list(self.ids)
        return other

    @property
    def logits(self) -> torch.Tensor:
        """Logits [V] float32 of the token that would follow; raises InputError where they are not numbers."""
        return finite(self.model.logits(self.hidden)[-1])

    @torch.no_grad()
    def read(
        self,
        embeds: torch.Tensor,
        positions: torch.Tensor,
        deepstack: Sequence[torch.Tensor] | None = None,
        visual_index: torch.Tensor | None = None,
        chunk: int = PREFILL_CHUNK,
        progress: Progress = no_progress,
    ) -> None:
        """Run ``embeds`` [n, D] at ``positions`` int64 [3, n] (time, row, column; absolute) through the model.

        ``deepstack``, one [m, D] per level, are the features to add at the rows ``visual_index`` int64 [m], ascending.
        Memory for activations follows ``chunk``; the result does not depend on it. ``progress`` counts rows, per
        chunk; when it raises, the rows of the chunks before stay read.
        """
        total = embeds.shape[0]
        if visual_index is not None:
            visual_index = visual_index.cpu()
        for start in range(0, total, chunk):
            stop = min(start + chunk, total)
            progress(start, total)
            part, index = None, None
            if visual_index is not None:
                first, last = torch.searchsorted(visual_index, torch.tensor([start, stop])).tolist()
                if last > first:
                    part = [level[first:last] for level in deepstack]
                    index = (visual_index[first:last] - start).to(embeds.device)
            here = positions[:, start:stop]
            self.hidden = self.model(embeds[start:stop], here.to(embeds.device), self.cache, part, index)[-1:]
            self.position = max(self.position, int(here.max()) + 1)
        progress(total, total)

    def read_ids(self, ids: Sequence[int], chunk: int = PREFILL_CHUNK, progress: Progress = no_progress) -> None:
        """Read the tokens ``ids`` as text that follows what was read."""
        positions = torch.arange(self.position, self.position + len(ids)).expand(3, -1)
        self.read(self.model.embed(torch.tensor(ids)), positions, chunk=chunk, progress=progress)
        self.ids.extend(ids)


def finite(logits: torch.Tensor) -> torch.Tensor:
    """``logits`` in float32; raises InputError where they are not numbers."""
    logits = logits.float()
    if not bool(logits.abs().amax().isfinite()):  # quicker than all of them one by one
        raise InputError("the model computes no numbers (NaN): its files are damaged; take another copy of them")
    return logits


def generate(
    context: Context,
    decode: Callable[[Sequence[int]], str],
    stop: Collection[int],
    sampling: SamplingParams = SamplingParams(),  # noqa: B008 - frozen
    max_tokens: int = 512,
    on_text: Callable[[str], None] | None = None,
    constrain: Constrain | None = None,
    progress: Progress = no_progress,
) -> Generation:
    """Write up to ``max_tokens`` tokens after what ``context`` has read, until one of ``stop`` comes.

    Args:
        decode: token ids to text, concatenative but for characters split over tokens.
        stop: ids that end the text; they are neither returned nor read.
        on_text: called with every new piece of text, in order; pieces join to the text and never split a character.
        progress: called once per token with (written, max_tokens); raising from it stops within one token.

    ``context`` has read all returned ids afterwards. The same seed gives the same text on the same device and dtype.
    """
    started = time.monotonic()
    sampler = Sampler(sampling, context.ids)
    stream = TextStream(decode, on_text)
    ids, logprobs, truncated = [], [], True
    while len(ids) < max_tokens:
        progress(len(ids), max_tokens)
        logits = context.logits
        token = sampler.choose(logits if constrain is None else constrain(ids, logits))
        if token in stop:
            truncated = False
            break
        ids.append(token)
        logprobs.append(float(logits[token] - logits.logsumexp(0)))
        context.read_ids([token])
        stream.write(token)
    stream.close()
    progress(max_tokens, max_tokens)
    return Generation(tuple(ids), stream.text, tuple(logprobs), truncated, time.monotonic() - started)


class Sampler:
    """Chooses tokens as :class:`SamplingParams` says, with a random generator of its own on the CPU."""

    def __init__(self, sampling: SamplingParams, read_ids: Sequence[int] = ()):
        self.sampling = sampling
        self.generator = torch.Generator().manual_seed(sampling.seed)
        self.seen = sorted(set(read_ids))
        self.written: list[int] = []

    def choose(self, logits: torch.Tensor) -> int:
        """Return one id for ``logits`` [V] float32 and remember it for the penalties."""
        if self.sampling.temperature == 0:
            token = int(self._penalised(logits).argmax())
        else:
            ids, weights = self.candidates(logits)
            token = int(ids[torch.multinomial(weights, 1, generator=self.generator)])
        if token not in self.written:
            self.written.append(token)
        return token

    def candidates(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ids that may be chosen, most likely first, and their weights (not normalised), on the CPU."""
        sampling = self.sampling
        logits = self._penalised(logits) / sampling.temperature
        values, ids = logits.topk(min(sampling.top_k or logits.shape[0], logits.shape[0]))
        weights = values.cpu().softmax(0)
        kept = weights.cumsum(0) - weights < sampling.top_p
        kept &= weights >= sampling.min_p * weights[0]
        kept[0] = True
        return ids.cpu()[kept], weights[kept]

    def _penalised(self, logits: torch.Tensor) -> torch.Tensor:
        sampling = self.sampling
        if sampling.repetition_penalty == 1 and sampling.presence_penalty == 0:
            return logits
        logits = logits.clone()
        if sampling.repetition_penalty != 1:
            index = torch.tensor(self.seen + self.written, dtype=torch.int64, device=logits.device)
            values = logits[index]
            logits[index] = torch.where(
                values > 0, values / sampling.repetition_penalty, values * sampling.repetition_penalty
            )
        written = torch.tensor(self.written, dtype=torch.int64, device=logits.device)
        logits[written] -= sampling.presence_penalty
        return logits


class TextStream:
    """Turns tokens into text as they come, holding back a character until all of its bytes are there."""

    def __init__(self, decode: Callable[[Sequence[int]], str], on_text: Callable[[str], None] | None = None):
        self.decode = decode
        self.on_text = on_text
        self.pieces: list[str] = []
        self.held: list[int] = []
        self.shown = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def write(self, token: int) -> None:
        """Take the next token and emit what it completes."""
        self.held.append(token)
        text = self.decode(self.held)
        # Bytes still to come can only change the last character, and only if it stands for missing ones.
        whole = len(text) - text.endswith("\N{REPLACEMENT CHARACTER}")
        self._emit(text[self.shown : whole])
        if whole == len(text):
            self.held, self.shown = [], 0
        else:
            self.shown = whole

    def close(self) -> None:
        """Emit what is held back: the text ended inside a character."""
        if self.held:
            self._emit(self.decode(self.held)[self.shown :])
            self.held, self.shown = [], 0

    def _emit(self, piece: str) -> None:
        if piece:
            self.pieces.append(piece)
            if self.on_text is not None:
                self.on_text(piece)


SamplingParams = SamplingParams
