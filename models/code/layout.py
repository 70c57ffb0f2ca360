"""Text and segments as the rows of a prompt, and a context that reads them."""

import functools
from collections.abc import Iterable, Sequence
from typing import Protocol

import torch

from ..progress import Progress
from ..qwen.generate import Context
from ..qwen.prompt import Picture, Prompt, asking, lay_out, opening, timestamp
from ..qwen.tokenizer import Tokenizer
from ..video.tokens import MARKERS
from .visual_code import Segment


class Shown(Protocol):
    """A segment, or a group of a plan: visual tokens, and the time that may stand before them."""

    @property
    def tokens(self) -> int: ...

    @property
    def time(self) -> float: ...

    @property
    def stamped(self) -> bool: ...


def lay_out_segments(parts: Sequence[str | Segment], tokenizer: Tokenizer, start: int = 0) -> Prompt:
    """Lay out text and segments from M-RoPE position ``start`` on.

    A segment that lost tokens keeps the positions of those that are left, and so does what follows, as in vLLM's EVS
    for Qwen3-VL. A prompt may only be continued by another after a special token, because text between two special
    tokens is tokenised in one piece.
    """
    pictures = [part if isinstance(part, str) else _picture(part) for part in parts]
    return lay_out(pictures, tokenizer, start)


def _picture(segment: Segment) -> Picture:
    return Picture(*segment.grid, segment.time if segment.stamped else None, segment.positions.cpu())


def prompt_tokens(shown: Iterable[Shown], tokenizer: Tokenizer, question: str | None = None) -> int:
    """Tokens of a prompt that shows ``shown`` (segments, or groups of a plan) and asks ``question``.

    Counted are visual tokens, time stamps, the two markers of each, and the chat's own tokens; without a question, of
    the chat only what stands before the first picture. Exactly what :func:`lay_out_segments` lays out.
    """
    chat = len(tokenizer.encode(opening()))
    return shown_tokens(shown, tokenizer) + chat + (0 if question is None else question_tokens(tokenizer, question))


def shown_tokens(shown: Iterable[Shown], tokenizer: Tokenizer) -> int:
    """Tokens of ``shown`` alone: visual tokens, time stamps and markers."""
    shown = list(shown)
    stamps = sum(_encoded_length(tokenizer, timestamp(one.time)) for one in shown if one.stamped)
    return sum(one.tokens + MARKERS for one in shown) + stamps


def question_tokens(tokenizer: Tokenizer, question: str) -> int:
    """Tokens from after the last picture to the first of the answer."""
    return len(tokenizer.encode(asking(question, tokenizer.thinks, tokenizer.reasons_unasked)))


@functools.lru_cache(maxsize=1 << 14)
def _encoded_length(tokenizer: Tokenizer, text: str) -> int:
    return len(tokenizer.encode(text))


def read_segments(context: Context, prompt: Prompt, segments: Sequence[Segment], progress: Progress) -> None:
    """Let ``context`` read a prompt and the segments in it after what it has read."""
    embeds = context.model.embed(torch.tensor(prompt.ids))
    deepstack, index = None, None
    if segments:
        index = prompt.visual_index
        embeds[index.to(embeds.device)] = torch.cat([segment.embeds for segment in segments]).to(embeds)
        deepstack = torch.cat([segment.deepstack for segment in segments], dim=1).to(embeds)
    context.read(embeds, prompt.positions, deepstack, index, progress=progress)
    context.ids.extend(prompt.ids)
    context.position = prompt.next_position
