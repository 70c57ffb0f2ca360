"""Rotary positions: Qwen3-VL's interleaved M-RoPE for text, and the 2-D rotary of its vision transformer.

Sources: Qwen3-VL technical report (arXiv 2511.21631, interleaved MRoPE), RoPE (arXiv 2104.09864), Qwen2-VL
(arXiv 2409.12191, M-RoPE positions), position interpolation (arXiv 2306.15595), YaRN (arXiv 2309.00071). The half-split
layout is that of the checkpoints: channel i turns with i + d/2.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

Segment = int | tuple[int, int] | tuple[int, int, torch.Tensor]
"""A stretch of the sequence: a number of text tokens, or the (rows, columns) of one picture's merged tokens, followed
by the positions int64 [3, n] of those it has, from its start, where it has not all."""


@dataclass(frozen=True, slots=True)
class Scaling:
    """A rotary embedding stretched to ``factor`` times the context that the model was trained on.

    ``kind`` "linear" slows every frequency down. "yarn" leaves those alone that turn more than ``beta_fast`` times in
    ``original_length`` positions, slows those down that turn less than ``beta_slow`` times, and blends in between.
    """

    kind: str
    factor: float
    original_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    @property
    def attention_factor(self) -> float:
        """What cosines and sines are multiplied with (YaRN, section 3.4: the square root of 1/t)."""
        return 0.1 * math.log(self.factor) + 1 if self.kind == "yarn" and self.factor > 1 else 1.0

    def slow_down(self, speeds: torch.Tensor, base: float) -> torch.Tensor:
        """The frequencies float32 [size / 2] of ``base``, stretched."""
        if self.kind == "linear":
            return speeds / self.factor
        size = 2 * len(speeds)
        low, high = (
            size * math.log(self.original_length / (turns * 2 * math.pi)) / (2 * math.log(base))
            for turns in (self.beta_fast, self.beta_slow)
        )
        low, high = max(math.floor(low), 0), min(math.ceil(high), size - 1)
        slowed = ((torch.arange(len(speeds)) - low) / max(high - low, 1e-3)).clamp(0, 1)
        return speeds * (slowed / self.factor + 1 - slowed)


def mrope_positions(segments: Sequence[Segment], start: int = 0) -> tuple[torch.Tensor, int]:
    """The (time, height, width) positions of a sequence: int64 [3, n], and the position of whatever comes next.

    Text advances all three together. A picture, or one temporal group of a video, stands still in time at its start
    while its rows and columns count on from there; what follows starts after its longer side. Time itself is given to
    the model by the timestamp text, not by the positions.
    """
    pieces = []
    for segment in segments:
        if isinstance(segment, int):
            pieces.append(torch.arange(start, start + segment).expand(3, segment))
            start += segment
        else:
            rows, columns, *own = segment
            whole = (torch.tensor([0]), torch.arange(rows), torch.arange(columns))
            pieces.append((own[0] if own else torch.cartesian_prod(*whole).T) + start)
            start += max(rows, columns)
    return torch.cat(pieces, dim=1) if pieces else torch.zeros(3, 0, dtype=torch.int64), start


def segments_of(
    ids: Sequence[int],
    image_pad: int,
    video_pad: int,
    image_grids: Sequence[Sequence[int]] = (),
    video_grids: Sequence[Sequence[int]] = (),
    merge: int = 2,
) -> list[Segment]:
    """The segments of a token sequence: a run of pads becomes the picture whose grid is next in line.

    ``image_grids`` and ``video_grids`` hold (frames, rows, columns) in patches; a video's temporal groups are pictures
    of their own, because timestamps stand between them. Raises ValueError where pads and grids do not agree.
    """
    waiting = {
        image_pad: [(rows // merge, columns // merge) for frames, rows, columns in image_grids for _ in range(frames)],
        video_pad: [(rows // merge, columns // merge) for frames, rows, columns in video_grids for _ in range(frames)],
    }
    ids = [int(index) for index in ids]
    segments: list[Segment] = []
    position = text = 0
    while position < len(ids):
        pad = ids[position]
        if pad not in waiting:
            position, text = position + 1, text + 1
            continue
        if not waiting[pad]:
            raise ValueError(f"token {position} stands for a picture, and no grid is left for it")
        rows, columns = waiting[pad].pop(0)
        if ids[position : position + rows * columns] != [pad] * (rows * columns):
            raise ValueError(f"the picture at token {position} has fewer pads than its {rows} x {columns} grid")
        segments += [text, (rows, columns)] if text else [(rows, columns)]
        position, text = position + rows * columns, 0
    if any(waiting.values()):
        raise ValueError("there are more grids than pictures among the tokens")
    return segments + [text] if text else segments


def frequencies(base: float, size: int, device=None) -> torch.Tensor:
    """RoPE's angular frequencies ``base ** (-2i / size)``: float32 [size / 2]."""
    exponents = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    return 1.0 / (base**exponents)


def mrope_angles(
    positions: torch.Tensor, base: float, head_dim: int, sections: Sequence[int], scaling: Scaling | None = None
) -> torch.Tensor:
    """The angle by which each channel pair of each token turns: float32 [n, head_dim / 2].

    ``positions`` int64 [3, n]. The axes take turns over the frequencies, time, height, width, time, ...: height and
    width as long as their section lasts, time everything else, so each axis sees high and low frequencies alike.
    """
    speeds, axis = _mrope_tables(base, head_dim, tuple(sections), scaling, positions.device)
    angles = positions[..., None].float() * speeds
    return angles.gather(0, axis.expand(1, *angles.shape[1:])).squeeze(0)


@functools.lru_cache(maxsize=16)
def _mrope_tables(
    base: float, head_dim: int, sections: tuple[int, ...], scaling: Scaling | None, device
) -> tuple[torch.Tensor, torch.Tensor]:
    """The frequency and the axis (0 time, 1 height, 2 width) of each channel pair; kept, as decoding asks per token."""
    pairs = torch.arange(head_dim // 2)
    axis = torch.where(pairs < 3 * torch.tensor(sections)[pairs % 3], pairs % 3, 0)
    speeds = frequencies(base, head_dim)
    if scaling is not None:
        speeds = scaling.slow_down(speeds, base)
    return speeds.to(device), axis.to(device)


def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn channel i with channel i + r/2 of ``states`` [..., n, d] by the angles of ``cos``, ``sin`` [n, r / 2].

    Channels from r on stay as they are. Computed in the tables' float32 and returned in the states' dtype.
    """
    size = 2 * cos.shape[-1]
    first, second = states[..., :size].to(cos.dtype).chunk(2, dim=-1)
    turned = [torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)]
    if size == states.shape[-1]:
        return torch.cat(turned, dim=-1).to(states.dtype)
    return torch.cat([*(part.to(states.dtype) for part in turned), states[..., size:]], dim=-1)
