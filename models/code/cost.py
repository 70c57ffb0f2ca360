"""What it costs to read a video and to answer about it, from the plan alone: tokens, seconds, memory.

Tokens follow exactly from the plan and the model's tokenizer, memory from :mod:`..qwen.placement`. Seconds are sums
of terms that grow with the work, weighted by what this machine took for each (:mod:`.calibration`): a transformer's
time is linear in its rows but for attention, which is linear in the pairs of rows that attend to each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..qwen.generate import PREFILL_CHUNK
from ..qwen.placement import reading_bytes, seeing_bytes
from ..source import sampled
from ..video.gop import GopPlan, I
from ..video.motion import BLOCK, searched_again
from .layout import question_tokens
from .pipeline import CodeConfig, encoder_for, fit_plan, plan_prompt_tokens

QUESTION = "Describe this video."


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a machine takes for a model: seconds for each of the terms named below.

    Attributes:
        vision: of a batch of pictures, a patch, a pair of patches of one picture (:func:`vision_terms`).
        prefill: of a chunk, a token, a pair of tokens that attend to each other (:func:`prefill_terms`).
        decode: of a token, a row that it attends to (:func:`decode_terms`).
        search: of a frame, a macroblock, one searched again in a wider window (:func:`search_terms`).
        read: of a clip, a decoded pixel, a pixel of a sampled frame (:func:`read_terms`).
    """

    vision: tuple[float, ...]
    prefill: tuple[float, ...]
    decode: tuple[float, ...]
    search: tuple[float, ...]
    read: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Cost:
    """What one way to read a clip and write one answer takes.

    Attributes:
        visual_tokens: tokens of the pictures.
        prompt_tokens: all that is read before the answer: pictures, times, markers, chat and question.
        answer_tokens: length of the answer that was assumed.
        seconds: by stage, 'read', 'plan', 'vision', 'prefill' and 'decode', as ``VisualCode`` and ``Answer`` tell them.
        memory: bytes at most, of GPU and host together and with the weights, beside what Python and torch themselves
            take. A part of it is room for one tile of a weight as numbers, which a small model does not fill.
        footage: seconds of video; NaN where the plan has one frame and so does not tell.
    """

    visual_tokens: int
    prompt_tokens: int
    answer_tokens: int
    seconds: dict[str, float]
    memory: int
    footage: float

    @property
    def total(self) -> float:
        """Seconds from the file to the last token."""
        return sum(self.seconds.values())

    def per_minute(self, amount: float) -> float:
        """``amount`` of tokens or seconds, for each minute of footage."""
        return 60 * amount / self.footage

    def to_json(self) -> dict:
        """The same as JSON values, with what a minute of footage takes."""
        known = not math.isnan(self.footage)
        return {
            "visual_tokens": self.visual_tokens,
            "prompt_tokens": self.prompt_tokens,
            "answer_tokens": self.answer_tokens,
            "seconds": {**self.seconds, "total": self.total},
            "memory": self.memory,
            "footage_seconds": self.footage if known else None,
            "tokens_per_minute": self.per_minute(self.visual_tokens) if known else None,
            "seconds_per_minute": self.per_minute(self.total) if known else None,
        }


def predict(
    plan: GopPlan,
    config: CodeConfig,
    model,
    calibration: Calibration,
    *,
    question: str = QUESTION,
    answer_tokens: int = 64,
    read_seconds: float | None = None,
    name: str = "video",
) -> Cost:
    """What :func:`.pipeline.watch` and a first question take for a clip with this plan.

    Args:
        plan: the plan of the clip's frames.
        config: mode and its options; of its policy only whether it needs a search. The plan stands for itself.
        model: a loaded :class:`..qwen.Qwen3VL` with its vision tower; only its configuration, tokenizer and dtype
            are asked, so it need not be ready to run.
        calibration: what this machine takes for the model.
        read_seconds: what reading the clip once takes, where that is known; else H.264 of the plan's own size is
            assumed, and a source of more pixels takes longer.

    Raises:
        InputError: not even one GOP fits the model's context; see also :meth:`.modes.Encoder.groups`.
    """
    text, vision, dtype = model.config.text, model.config.vision, model.dtype
    reserve = answer_tokens + question_tokens(model.tokenizer, question)
    fitting = fit_plan(plan, model, config, reserve, name)
    encoder = encoder_for(model, config)
    groups = encoder.groups(fitting)
    visual = sum(group.tokens for group in groups) - encoder.pruned_tokens(groups)
    prompt = plan_prompt_tokens(fitting, model, config, question)
    batches = [(len(batch), groups[batch[0]].patches) for batch in encoder.batches(groups)]
    frame_bytes = len(plan) * plan.size[0] * plan.size[1] * 3
    once = _seconds(calibration.read, [read_terms(plan)]) if read_seconds is None else read_seconds
    seconds = {
        "read": once if frame_bytes <= sampled.HELD_BYTES else 2 * once,
        "plan": search_seconds(plan, calibration) if config.searches else 0.0,
        "vision": _seconds(calibration.vision, [vision_terms(*batch) for batch in batches]),
        "prefill": _seconds(
            calibration.prefill,
            [prefill_terms(min(PREFILL_CHUNK, prompt - start), start) for start in range(0, prompt, PREFILL_CHUNK)],
        ),
        "decode": _seconds(calibration.decode, [decode_terms(prompt + written) for written in range(answer_tokens)]),
    }
    features = visual * text.hidden_size * (1 + text.deepstack_layers) * dtype.itemsize
    working = max(
        seeing_bytes(vision, max(pictures * patches for pictures, patches in batches), dtype),
        reading_bytes(text, prompt + answer_tokens, dtype),
    )
    held = frame_bytes if frame_bytes <= sampled.HELD_BYTES else 0
    memory = sum(file.size for file in model.files) + held + features + working
    return Cost(visual, prompt, answer_tokens, seconds, memory, footage_of(plan))


def search_seconds(plan: GopPlan, calibration: Calibration) -> float:
    """What the motion search over the frames of ``plan`` takes.

    How often its window widens is known from the plan's own vectors; of a plan without any, never is assumed.
    """
    again = 0.0 if plan.primitives is None else searched_again(plan.primitives.mv, plan.size)
    return _seconds(calibration.search, [search_terms(len(plan) - 1, plan.size, again)])


def footage_of(plan: GopPlan) -> float:
    """Seconds of video that a plan covers, its last frame shown as long as the others on average; NaN for one frame."""
    if len(plan) < 2:
        return math.nan
    return float(plan.pts[-1] - plan.pts[0]) * len(plan) / (len(plan) - 1)


def every_frame(plan: GopPlan) -> GopPlan:
    """The same frames, each a whole picture and none dropped: what both RGB baselines read."""
    count = len(plan)
    why = tuple("user" if position else "first" for position in range(count))
    return replace(plan, kind=np.full(count, I, np.uint8), keep=np.ones(count, bool), why=why)


def vision_terms(pictures: int, patches: int) -> tuple[float, ...]:
    """A batch, its patches, and the pairs of patches that attend to each other."""
    return 1.0, pictures * patches, pictures * patches**2


def prefill_terms(rows: int, stored: int) -> tuple[float, ...]:
    """A chunk, its rows, and the pairs of a row with those before it, ``stored`` ones among them."""
    return 1.0, rows, rows * stored + rows**2 / 2


def decode_terms(stored: int) -> tuple[float, ...]:
    """A token, and the rows before it."""
    return 1.0, stored


def search_terms(frames: int, size: tuple[int, int], again: float = 0.0) -> tuple[float, ...]:
    """Frames searched, their macroblocks, and those searched ``again`` (:func:`..video.motion.searched_again`)."""
    blocks = (size[0] // BLOCK) * (size[1] // BLOCK)
    return frames, frames * blocks, again * blocks


def read_terms(plan: GopPlan) -> tuple[float, ...]:
    """A clip, the pixels of all source frames up to the last sample, and those of the samples."""
    pixels = plan.size[0] * plan.size[1]
    return 1.0, int(plan.index[-1] - plan.index[0] + 1) * pixels, len(plan) * pixels


def _seconds(coefficients: tuple[float, ...], terms: Sequence[tuple[float, ...]]) -> float:
    return float(np.dot(np.sum(terms, axis=0), coefficients)) if len(terms) else 0.0
