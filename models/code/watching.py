"""The whole way from a video to its code: read, search, plan, encode."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import Frames, Sampling, VideoSource, fit_size
from ..video.gop import GopPlan, plan, plan_from_costs, spread
from ..video.primitives import primitives
from .encoding import encode_video
from .modes import group_frames
from .visual_code import VisualCode

HELD_BYTES = 512 << 20
"""Sampled frames up to this much are held from planning to encoding; a longer video is read twice instead."""


@dataclass(frozen=True, slots=True)
class Watching:
    """How to look at a video.

    Attributes:
        mode: 'rgb', 'keyframes' or 'thumbnail' (:mod:`.modes`).
        sampling: which frames to look at.
        area: pixels of a whole picture, about; sides are multiples of 32 and keep the aspect.
        policy: how I frames are chosen (:func:`..video.gop.plan_from_costs`); 'fixed' and 'frames' need no search.
        rule: what the policy takes: gamma, cap, budget, frames, cuts.
        stamps, pair_thumbnails, drop: see :func:`.encoding.encode_video`.
    """

    mode: str = "thumbnail"
    sampling: Sampling = field(default_factory=Sampling.by_fps)
    area: int = 512 * 512
    policy: str = "adaptive"
    rule: dict = field(default_factory=dict)
    stamps: str = "every"
    pair_thumbnails: bool = False
    drop: float = 0.0


def watch(
    source: VideoSource,
    model,
    how: Watching,
    *,
    reserve: int = 1024,
    progress: Progress = no_progress,
) -> VisualCode:
    """Return the code of ``source`` for ``model``, with the seconds that reading, planning and encoding took.

    Whole GOPs are dropped, evenly over time and with a warning, where the code and ``reserve`` more tokens (question
    and answer) would not fit the model's context.

    Raises:
        InputError: from reading, planning and encoding; or not even one GOP fits the context.
    """
    size = fit_size(source.info.width, source.info.height, how.area)
    held = _HeldFrames(source.frames(how.sampling, size, progress=progress), HELD_BYTES)
    began = time.perf_counter()
    decided = _plan(held, size, how, progress)
    planned = time.perf_counter() - began - held.seconds
    decided = fit_plan(decided, model, how, reserve, source.info.name)
    chunks = held.frames if held.frames is not None else source.frames(how.sampling, size, progress=progress)
    again = _HeldFrames(chunks, 0)
    code = encode_video(
        again, decided, model, how.mode, name=source.info.name, stamps=how.stamps,
        pair_thumbnails=how.pair_thumbnails, drop=how.drop, progress=progress,
    )  # fmt: skip
    seconds = {"read": held.seconds + again.seconds, "plan": planned, **code.seconds}
    return replace(code, seconds=seconds, warnings=(*source.warnings, *code.warnings))


def fit_plan(plan: GopPlan, model, how: Watching, reserve: int, name: str) -> GopPlan:
    """Drop whole GOPs, evenly over time, until the code fits the model's context beside ``reserve`` tokens.

    What a group takes is its visual tokens, its stamp and its two markers.
    """
    context = model.config.text.context_length
    room = context - reserve
    if _prompt_tokens(plan, model, how) <= room:
        return plan
    gops = [gop for gop in plan.gops if plan.keep[gop[0]]]
    for count in range(len(gops) - 1, 0, -1):
        keep = np.zeros(len(plan), bool)
        for number in spread(count, len(gops)):
            keep[slice(*gops[number])] = True
        thinner = replace(plan, keep=keep, tokens=np.where(keep, plan.tokens, 0))
        if _prompt_tokens(thinner, model, how) <= room:
            dropped = f"context of {context} tokens: {len(gops) - count} of {len(gops)} GOPs dropped"
            return replace(thinner, warnings=(*plan.warnings, dropped))
    raise InputError(
        f"{name}: a single GOP does not fit the model's context of {context} tokens beside {reserve} for question and "
        "answer; lower the area or the cap."
    )


def _prompt_tokens(plan: GopPlan, model, how: Watching) -> int:
    groups = group_frames(plan, how.mode, stamps=how.stamps, pair_thumbnails=how.pair_thumbnails)
    last = float(plan.pts[-1])
    stamp = len(model.tokenizer.encode(f"<{last:.1f} seconds>"))
    visual = sum(group.tokens for group in groups)
    return math.ceil(visual * (1 - how.drop)) + sum(2 + stamp * group.stamped for group in groups)


def _plan(frames: Iterable[Frames], size: tuple[int, int], how: Watching, progress: Progress) -> GopPlan:
    if how.policy not in ("fixed", "frames"):
        return plan(primitives(frames, progress=progress), how.policy, mode=how.mode, **how.rule)
    chunks = [(chunk.index, chunk.pts) for chunk in frames]
    index, pts = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return plan_from_costs(np.zeros(len(index)), how.policy, index=index, pts=pts, size=size, mode=how.mode, **how.rule)


class _HeldFrames:
    """Passes chunks on, times their reading, and holds them while they fit ``limit`` bytes (``frames``, else None)."""

    def __init__(self, chunks: Iterable[Frames], limit: int):
        self.chunks, self.limit = chunks, limit
        self.frames: list[Frames] | None = []
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Frames]:
        chunks, held = iter(self.chunks), 0
        while True:
            began = time.perf_counter()
            chunk = next(chunks, None)
            self.seconds += time.perf_counter() - began
            if chunk is None:
                return
            held += chunk.rgb.nbytes
            if held > self.limit:
                self.frames = None
            if self.frames is not None:
                self.frames.append(chunk)
            yield chunk
