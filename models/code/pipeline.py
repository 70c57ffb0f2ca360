"""The whole way from a video to its code: read, search, plan, encode."""

import time
from dataclasses import dataclass, field, replace

import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import FrameSampling, VideoSource
from ..source.sampled import SampledVideo, TimedFrames
from ..source.sampling import fit_size
from ..video.extraction import CHUNK, extract
from ..video.gop import GopPlan
from ..video.planning import plan, plan_from_costs, spread
from ..video.tokens import DEFAULT_MODE
from .encoding import encode_video
from .layout import prompt_tokens
from .modes import CodeOptions, Encoder, encoder_of
from .modes.pictures import BATCH_PATCHES
from .visual_code import VisualCode


@dataclass(frozen=True, slots=True)
class CodeConfig(CodeOptions):
    """How a video becomes a code; the options of :class:`.modes.CodeOptions` among it.

    Attributes:
        mode: one of :data:`.modes.ENCODERS`.
        sampling: which frames are read.
        area: pixels of a whole picture, about; sides are multiples of 32 and keep the aspect.
        vectors: where motion comes from (:func:`..video.extraction.extract`).
        policy: how I frames are chosen (:func:`..video.planning.plan_from_costs`); 'fixed' and 'frames' need no search.
        rule: what the policy takes: gamma, cap, budget, frames, cuts.
    """

    mode: str = DEFAULT_MODE
    sampling: FrameSampling = field(default_factory=FrameSampling.by_fps)
    area: int = 512 * 512
    vectors: str = "search"
    policy: str = "adaptive"
    rule: dict = field(default_factory=dict)

    @property
    def options(self) -> dict:
        """The options of the mode alone, by their names."""
        return {name: getattr(self, name) for name in CodeOptions.__slots__}

    @property
    def searches(self) -> bool:
        """Whether the plan needs motion."""
        return self.policy not in ("fixed", "frames")

    def within(self, budget: int) -> "CodeConfig":
        """The same in ``budget`` prompt tokens at most, by fewer cells or, in the other modes, by a plan to fit."""
        if self.mode == "cells":
            return replace(self, budget=budget)
        return replace(self, policy="budget", rule={**self.rule, "budget": budget})


def watch(
    source: VideoSource,
    model,
    config: CodeConfig,
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
    return encode_planned(plan_source(source, config, progress), model, config, reserve=reserve, progress=progress)


@dataclass(frozen=True, slots=True)
class Planned:
    """A video that is read and planned and needs the model next: the plan, its frames, and the seconds 'plan' took."""

    plan: GopPlan
    frames: TimedFrames
    seconds: float


def plan_source(source: VideoSource, config: CodeConfig, progress: Progress = no_progress) -> Planned:
    """The part of :func:`watch` that needs no model."""
    size = fit_size(source.info.width, source.info.height, config.area)
    frames = TimedFrames(SampledVideo(source, config.sampling, size), CHUNK, progress)
    began = time.perf_counter()
    decided = _plan(frames, config)
    return Planned(decided, frames, time.perf_counter() - began - frames.seconds)


def encode_planned(
    planned: Planned, model, config: CodeConfig, *, reserve: int = 1024, progress: Progress = no_progress
) -> VisualCode:
    """The part of :func:`watch` that needs the model."""
    frames = planned.frames
    code = encode_plan(planned.plan, model, config, frames=frames, reserve=reserve, progress=progress)
    return replace(code, seconds={"read": frames.seconds, "plan": planned.seconds, **code.seconds})


def encode_plan(
    plan: GopPlan,
    model,
    config: CodeConfig,
    *,
    frames: TimedFrames | None = None,
    reserve: int = 1024,
    progress: Progress = no_progress,
) -> VisualCode:
    """Return the code of a plan that knows its video; ``frames`` are that video's, read here if not given.

    Of ``config`` the mode and its options count. Errors and ``reserve`` are those of :func:`watch`.
    """
    if plan.video is None:
        raise InputError("the plan was made from costs alone; a plan made from frames is needed to encode them")
    name = plan.video.name
    frames = TimedFrames(plan.video, progress=progress) if frames is None else frames
    fitting = fit_plan(plan.in_mode(config.mode), model, config, reserve, name)
    code = encode_video(
        frames, fitting, model, config.mode, name=name, primitives=plan.primitives, progress=progress, **config.options
    )
    return replace(code, warnings=(*plan.video.source.warnings, *code.warnings))


def most_patches(plan: GopPlan) -> int:
    """Patches that the vision tower reads at once at most when a plan is encoded."""
    return max(BATCH_PATCHES, plan.size[0] * plan.size[1] // 256)


def fit_plan(plan: GopPlan, model, config: CodeConfig, reserve: int, name: str) -> GopPlan:
    """Keep to the limits that the model has for videos; then drop whole GOPs, evenly over time, until the code fits
    the model's context beside ``reserve`` tokens.
    """
    plan = encoder_for(model, config).limited(plan)
    context = model.config.text.context_length
    room = context - reserve
    if plan_prompt_tokens(plan, model, config) <= room:
        return plan
    gops = [gop for gop in plan.gops if plan.keep[gop[0]]]
    for count in range(len(gops) - 1, 0, -1):
        keep = np.zeros(len(plan), bool)
        for number in spread(count, len(gops)):
            keep[slice(*gops[number])] = True
        thinner = replace(plan, keep=keep, tokens=np.where(keep, plan.tokens, 0))
        if plan_prompt_tokens(thinner, model, config) <= room:
            dropped = f"context of {context} tokens: {len(gops) - count} of {len(gops)} GOPs dropped"
            return replace(thinner, warnings=(*plan.warnings, dropped))
    raise InputError(
        f"{name}: a single GOP does not fit the model's context of {context} tokens beside {reserve} for question and "
        "answer; lower the area or the cap"
    )


def plan_prompt_tokens(plan: GopPlan, model, config: CodeConfig, question: str | None = None) -> int:
    """Tokens of the prompt that shows a plan in the mode of ``config``, pruning included."""
    encoder = encoder_for(model, config)
    groups = encoder.groups(plan)
    return prompt_tokens(groups, model.tokenizer, question) - encoder.pruned_tokens(groups)


def encoder_for(model, config: CodeConfig) -> Encoder:
    """The encoder of the mode of ``config`` for ``model``."""
    return encoder_of(config.mode, config, model.config.vision.video)


def _plan(frames: TimedFrames, config: CodeConfig) -> GopPlan:
    if config.searches:
        found = extract(frames.video, config.vectors, frames=frames)
        return plan(found, config.policy, mode=config.mode, **config.rule)
    chunks = [(chunk.index, chunk.pts) for chunk in frames]
    index, pts = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    return plan_from_costs(
        np.zeros(len(index)), config.policy, index=index, pts=pts, size=frames.video.size, mode=config.mode,
        video=frames.video, **config.rule,
    )  # fmt: skip
