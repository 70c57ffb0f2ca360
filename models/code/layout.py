"""Text and segments as the rows of a prompt, and a context that reads them."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..progress import Progress
from ..qwen.generate import Context
from ..qwen.prompt import Picture, Prompt, lay_out
from ..qwen.tokenizer import Tokenizer
from .visual_code import Segment


def lay_out_segments(parts: Sequence[str | Segment], tokenizer: Tokenizer, start: int = 0) -> Prompt:
    """Lay out text and segments from M-RoPE position ``start`` on.

    A pruned segment gets the positions of its whole grid first and then loses rows, as in vLLM's EVS for Qwen3-VL: what
    is left stays where it was, and so does what follows. A prompt may only be continued by another after a special
    token, because text between two special tokens is tokenised in one piece.
    """
    pictures = [
        part if isinstance(part, str) else Picture(*part.grid, part.time if part.stamped else None) for part in parts
    ]
    prompt = lay_out(pictures, tokenizer, start)
    segments = [part for part in parts if isinstance(part, Segment)]
    if all(len(segment) == segment.grid[0] * segment.grid[1] for segment in segments):
        return prompt
    row, kept = 0, torch.ones(len(prompt.ids), dtype=torch.bool)
    for segment in segments:
        rows = prompt.visual_index[row : row + segment.grid[0] * segment.grid[1]]
        kept[rows] = False
        kept[rows[segment.cell.cpu()]] = True
        row += len(rows)
    visual = torch.zeros(len(prompt.ids), dtype=torch.bool)
    visual[prompt.visual_index] = True
    ids = [token for token, keep in zip(prompt.ids, kept.tolist(), strict=True) if keep]
    return replace(prompt, ids=ids, positions=prompt.positions[:, kept], visual_index=visual[kept].nonzero()[:, 0])


def read_segments(context: Context, prompt: Prompt, segments: Sequence[Segment], progress: Progress) -> None:
    """Let ``context`` read a prompt and the segments in it behind what it has read."""
    embeds = context.model.embed(torch.tensor(prompt.ids))
    deepstack, index = None, None
    if segments:
        index = prompt.visual_index
        embeds[index.to(embeds.device)] = torch.cat([segment.embeds for segment in segments]).to(embeds)
        deepstack = torch.cat([segment.deepstack for segment in segments], dim=1).to(embeds)
    context.read(embeds, prompt.positions, deepstack, index, progress=progress)
    context.ids.extend(prompt.ids)
    context.position = prompt.next_position
