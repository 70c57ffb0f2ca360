"""The sequence of visual tokens of a video: what every mode writes and every question reads."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from ..errors import InputError
from ..video.gop import GopPlan
from .learned.learned_code import LearnedCode


def grid_positions(grid: tuple[int, int]) -> torch.Tensor:
    """int64 [3, rows * columns]: M-RoPE (time, row, column) of a picture's tokens, from its own start."""
    rows, columns = grid
    return torch.cartesian_prod(torch.tensor([0]), torch.arange(rows), torch.arange(columns)).T


@dataclass(frozen=True, slots=True)
class Segment:
    """One still, one frame pair, or what stands for one: n visual tokens, all at one time.

    Attributes:
        kind: 'I' (a whole picture), 'P' (what stands for a predicted frame) or 'pair' (two frames sharing tokens).
        index: frame numbers in the source, one for a still and two for a pair.
        pts: presentation times of these frames in seconds.
        stamped: whether the time is written before the tokens.
        grid: (rows, columns) of the tokens; the sequence continues after the longer side. For a picture its
            merged tokens, 32 pixels each, of which some may be left out.
        positions: int64 [3, n], M-RoPE (time, row, column) of each token from the segment's start.
        embeds: [n, D], what the language model reads.
        deepstack: [K, n, D], added to the hidden states after the first K layers.
    """

    kind: str
    index: tuple[int, ...]
    pts: tuple[float, ...]
    stamped: bool
    grid: tuple[int, int]
    positions: torch.Tensor
    embeds: torch.Tensor
    deepstack: torch.Tensor

    def __len__(self) -> int:
        return self.embeds.shape[0]

    @property
    def tokens(self) -> int:
        """Visual tokens, n."""
        return len(self)

    @property
    def cell(self) -> torch.Tensor:
        """int64 [n]: raster position of each token in the grid."""
        return self.positions[1] * self.grid[1] + self.positions[2]

    @property
    def time(self) -> float:
        """The time that the model reads, in seconds: the mean of the first and the last frame."""
        return (self.pts[0] + self.pts[-1]) / 2

    def keep(self, mask: torch.Tensor) -> "Segment":
        """Return the segment with only the tokens where ``mask`` (bool [n]) is set; coordinates stay as they were."""
        return replace(
            self, positions=self.positions[:, mask], embeds=self.embeds[mask], deepstack=self.deepstack[:, mask]
        )


@dataclass(frozen=True, slots=True)
class VisualCode:
    """A video as the language model reads it: segments in order of time.

    Attributes:
        segments: the groups of tokens.
        mode: one of :data:`.modes.ENCODERS`.
        name: what the video is called in messages.
        fingerprint: hash of what made the code: the pictures, the plan, the mode and the vision tower.
        plan: the plan it was made from.
        seconds: what making it took, by stage ('read', 'plan', 'vision').
        warnings: sentences the user should read.
        words: tokens of the segments' time stamps and markers, in the vocabulary of the model it was made for.
        memory: what the mode has to know to continue the code (:func:`.encoding.extend_code`).
        learned: the trained weights it was made with; a conversation reads it with their adapter, if they have one.
    """

    segments: tuple[Segment, ...]
    mode: str
    name: str
    fingerprint: str
    plan: GopPlan
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    words: int = 0
    memory: object = None
    learned: LearnedCode | None = None

    def __post_init__(self):
        if not self.segments:
            raise InputError(f"{self.name}: the code is empty; at least one frame must be kept")
        times = [segment.pts[0] for segment in self.segments]
        if any(later < earlier for earlier, later in zip(times, times[1:], strict=False)):
            raise InputError(f"{self.name}: the segments of a code must be in order of time")

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    @property
    def token_count(self) -> int:
        """Visual tokens, without time stamps and vision markers."""
        return sum(len(segment) for segment in self.segments)

    @property
    def prompt_tokens(self) -> int:
        """Visual tokens, time stamps and markers; not the chat's own words, nor a question."""
        return self.token_count + self.words

    @property
    def starts(self) -> np.ndarray:
        """int64 [segments + 1]: the visual token at which each segment begins, and the total."""
        return np.cumsum([0, *(len(segment) for segment in self.segments)])

    def frames_of(self, first: int, last: int) -> tuple[tuple[int, ...], tuple[float, float]]:
        """Return the source frames of the visual tokens first..last (inclusive) and the seconds they span.

        Raises:
            InputError: the span is empty or lies outside the code.
        """
        if not 0 <= first <= last < self.token_count:
            raise InputError(f"{self.name}: tokens {first}..{last} are not within 0..{self.token_count - 1}")
        begin, end = np.searchsorted(self.starts, (first, last), side="right") - 1
        segments = self.segments[begin : end + 1]
        return tuple(i for segment in segments for i in segment.index), (segments[0].pts[0], segments[-1].pts[-1])

    def tokens_of(self, start: float, end: float) -> tuple[int, int]:
        """Return the half-open span of visual tokens whose frames are shown within start..end seconds (inclusive)."""
        chosen = [i for i, segment in enumerate(self.segments) if segment.pts[-1] >= start and segment.pts[0] <= end]
        if not chosen:
            raise InputError(
                f"{self.name}: no frame of the code lies within {start:.2f}..{end:.2f} s; "
                f"it spans {self.segments[0].pts[0]:.2f}..{self.segments[-1].pts[-1]:.2f} s"
            )
        return int(self.starts[chosen[0]]), int(self.starts[chosen[-1] + 1])

    def nearest(self, seconds: float) -> int:
        """Return the source frame of the code whose presentation time is nearest to ``seconds``."""
        frames = [
            (abs(pts - seconds), index)
            for segment in self.segments
            for index, pts in zip(segment.index, segment.pts, strict=True)
        ]
        return min(frames)[1]

    def report(self) -> list[dict]:
        """Return one row per segment: kind, source frames, time in seconds and visual tokens."""
        return [
            {"kind": s.kind, "frames": list(s.index), "time": round(s.time, 3), "tokens": len(s)} for s in self.segments
        ]
