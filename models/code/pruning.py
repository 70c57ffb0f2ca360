"""Efficient Video Sampling: keep the visual tokens that differ from the same cell a moment before.

The method is that of vLLM's ``multimodal/evs.py``: no training, applied after the vision encoder, so it saves the
language model's prefill but not the encoding.
"""

import torch

from ..errors import InputError
from .visual_code import Segment


def prune(segments: list[Segment], drop: float) -> list[Segment]:
    """Drop the fraction ``drop`` of the visual tokens that changed least since the previous segment of the same grid.

    Dissimilarity is 1 - cosine between a token and the token of the same cell in the previous segment. A segment
    without a predecessor of its grid is kept whole, even where that leaves more than the fraction asked for. The sort
    is global and stable over all segments. Kept tokens keep their coordinates (positions are computed on the whole
    grid), and DeepStack features follow them.

    Raises:
        InputError: ``drop`` is not within 0..1 (1 excluded).
    """
    if not 0 <= drop < 1:
        raise InputError(f"the fraction of visual tokens to drop is {drop}; it must be at least 0 and below 1")
    if drop == 0:
        return segments
    scores = [
        _dissimilarity(segment, previous) for segment, previous in zip(segments, _previous(segments), strict=True)
    ]
    scores = torch.cat(scores)
    count = max(int(scores.isinf().sum()), int(len(scores) * (1 - drop)))
    mask = torch.zeros(len(scores), dtype=torch.bool)
    mask[torch.argsort(scores, descending=True, stable=True)[:count]] = True
    masks = mask.split([len(segment) for segment in segments])
    return [segment.keep(kept.to(segment.cell.device)) for segment, kept in zip(segments, masks, strict=True)]


def _previous(segments):
    latest = {}
    for segment in segments:
        yield latest.get(segment.grid)
        latest[segment.grid] = segment


def _dissimilarity(segment: Segment, previous: Segment | None) -> torch.Tensor:
    if previous is None:
        return torch.full((len(segment),), float("inf"))
    return 1 - torch.nn.functional.cosine_similarity(segment.embeds.float(), previous.embeds.float(), dim=-1).cpu()
