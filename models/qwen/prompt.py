"""Qwen3-VL's chat format: turns of text, pictures and video as token ids with their M-RoPE positions.

Source: the chat template in the model files and Hugging Face's ``Qwen3VLProcessor`` (4.57). A video is one picture per
temporal group, each after the text ``<0.2 seconds>``: the mean time of the group's two frames.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError
from .rope import Segment, mrope_positions
from .tokenizer import Tokenizer, typed


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture among text: ``rows`` x ``columns`` merged tokens.

    ``seconds`` is the time of a video's temporal group; None marks a picture that stands outside time. ``positions``
    int64 [3, n] (time, row, column) from the picture's start are those of its tokens where it has not all of its grid.
    """

    rows: int
    columns: int
    seconds: float | None = None
    positions: torch.Tensor | None = None

    @property
    def tokens(self) -> int:
        """How many tokens it has."""
        return self.rows * self.columns if self.positions is None else self.positions.shape[1]


@dataclass(frozen=True, slots=True)
class Prompt:
    """n tokens ready to be embedded: ``positions`` int64 [3, n]; ``visual_index`` int64 [m] are the pictures' rows."""

    ids: list[int]
    positions: torch.Tensor
    visual_index: torch.Tensor
    next_position: int


def timestamp(seconds: float) -> str:
    """The text that stands before a temporal group."""
    return f"<{seconds:.1f} seconds>"


def opening(system: str = "") -> str:
    """The text before what the user shows and asks first."""
    return (f"<|im_start|>system\n{typed(system)}<|im_end|>\n" if system else "") + "<|im_start|>user\n"


def asking(question: str, thinks: bool = False, think: bool = True) -> str:
    """``question``, the end of the user's turn, and the beginning of the answer.

    ``thinks`` says that the model's answers begin with reasoning; with ``think`` False its reasoning is opened and
    closed at once.
    """
    reasoning = "" if not thinks else "<think>\n" if think else "<think>\n\n</think>\n\n"
    return f"{typed(question)}<|im_end|>\n<|im_start|>assistant\n{reasoning}"


NEXT_TURN = ("<|im_end|>", "\n<|im_start|>user\n")
"""The text between an answer and the next question: the answer's end, and the turn's beginning."""


def lay_out(parts: Sequence[str | Picture], tokenizer: Tokenizer, start: int = 0) -> Prompt:
    """Tokenise ``parts`` from M-RoPE position ``start`` on, all text in one string as the reference does.

    Raises InputError for text that writes out a picture's token.
    """
    for part in parts:
        if isinstance(part, str) and ("<|image_pad|>" in part or "<|video_pad|>" in part):
            raise InputError("the text writes out a picture's token, <|image_pad|> or <|video_pad|>; leave it out")
    pictures = iter([part for part in parts if isinstance(part, Picture)])
    text = "".join(part if isinstance(part, str) else _marked(part) for part in parts)
    pads = {tokenizer.image_pad, tokenizer.video_pad}
    ids: list[int] = []
    segments: list[Segment] = []
    for pad, run in itertools.groupby(tokenizer.encode(text), key=lambda index: index if index in pads else None):
        found = list(run)
        if pad is None:
            ids += found
            segments.append(len(found))
        for picture in itertools.islice(pictures, 0 if pad is None else len(found)):
            ids += [pad] * picture.tokens
            own = () if picture.positions is None else (picture.positions,)
            segments.append((picture.rows, picture.columns, *own))
    positions, next_position = mrope_positions(segments, start)
    rows = [row for row, index in enumerate(ids) if index in pads]
    return Prompt(ids, positions, torch.tensor(rows, dtype=torch.int64), next_position)


def _marked(picture: Picture) -> str:
    stamp, pad = ("", "image") if picture.seconds is None else (timestamp(picture.seconds), "video")
    return f"{stamp}<|vision_start|><|{pad}_pad|><|vision_end|>"


def split_reasoning(text: str, reasons: bool) -> tuple[str, str]:
    """What a model wrote after :func:`asking`, as (reasoning, answer).

    ``reasons`` says that the prompt opened the reasoning; text that never closes it is reasoning all through. In other
    answers ``</think>`` is text.
    """
    if not reasons:
        return "", text.strip()
    reasoning, _, answer = text.partition("</think>")
    return reasoning.strip(), answer.strip()
