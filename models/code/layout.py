"""Text and segments in the order the model reads them: token ids, M-RoPE positions and where pictures stand."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .visual_code import Segment


@dataclass(frozen=True, slots=True)
class Layout:
    """n rows of a prompt, m of them visual tokens.

    Attributes:
        ids: token ids; a visual token has the id of ``<|video_pad|>``.
        positions: int64 [3, n], absolute M-RoPE coordinates (t, h, w).
        visual_index: int64 [m], the rows that are visual tokens, ascending.
        segments: the segments whose tokens fill these rows, in order.
        next_position: the coordinate of whatever follows.
    """

    ids: list[int]
    positions: torch.Tensor
    visual_index: torch.Tensor
    segments: tuple[Segment, ...]
    next_position: int

    def __len__(self) -> int:
        return len(self.ids)


def lay_out(parts: Sequence[str | Segment], tokenizer, start: int = 0) -> Layout:
    """Lay out text and segments from position ``start`` on.

    A segment becomes its stamp, ``<|vision_start|>``, its tokens and ``<|vision_end|>``. Text between two markers is
    tokenised in one piece, as the reference does, so a layout may only be continued by another after a special token.
    Positions are those of the whole grid, pruned or not, as in vLLM's EVS for Qwen3-VL.
    """
    ids: list[int] = []
    pieces: list[torch.Tensor] = []
    visual: list[torch.Tensor] = []
    position = start

    def write(text: str) -> None:
        nonlocal position
        tokens = tokenizer.encode(text)
        ids.extend(tokens)
        pieces.append(torch.arange(position, position + len(tokens)).expand(3, -1))
        position += len(tokens)

    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        write(text + part.stamp + "<|vision_start|>")
        text = "<|vision_end|>"
        visual.append(torch.arange(len(ids), len(ids) + len(part)))
        ids.extend([tokenizer.video_pad] * len(part))
        pieces.append(part.positions(position).cpu())
        position += part.extent
    write(text)
    return Layout(
        ids,
        torch.cat(pieces, dim=1),
        torch.cat(visual) if visual else torch.zeros(0, dtype=torch.int64),
        tuple(part for part in parts if not isinstance(part, str)),
        position,
    )


def read_layout(context, layout: Layout, chunk: int, progress) -> None:
    """Let ``context`` (a :class:`..qwen3vl.generate.Context`) read a layout that continues what it has read."""
    embeds = context.model.embed(torch.tensor(layout.ids))
    deepstack, index = None, None
    if layout.segments:
        index = layout.visual_index
        tokens = torch.cat([segment.embeds for segment in layout.segments])
        embeds[index.to(embeds.device)] = tokens.to(embeds)
        deepstack = torch.cat([segment.deepstack for segment in layout.segments], dim=1).to(embeds)
    context.read(embeds, layout.positions, deepstack, index, chunk=chunk, progress=progress)
    context.ids.extend(layout.ids)
    context.position = layout.next_position
