"""One clip judged: encoded once, read once, asked the whole rubric; its moments and metrics where wanted."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..code.conversation import Conversation, converse
from ..code.layout import question_tokens
from ..code.pipeline import CodeConfig, watch
from ..code.visual_code import VisualCode
from ..progress import Progress, no_progress
from ..qwen.generate import GREEDY
from ..source.reading import VideoSource
from ..video.gop import GopPlan
from ..video.measurement import Measurement, measure
from .calibration import Fit, calibrated
from .rubric import Rubric
from .scoring import Verdict, judge, moments

REASON = "In one sentence, what is the greatest fault of this video?"
REASON_TOKENS = 80


@dataclass(frozen=True, slots=True)
class Moment:
    """A GOP judged on its own: first and last second, its frames in the source, and its score 0..1."""

    seconds: tuple[float, float]
    frames: tuple[int, ...]
    verdict: Verdict

    def to_json(self) -> dict:
        """The record as JSON values, with the lowest question's name."""
        return {
            "seconds": [round(second, 6) for second in self.seconds],
            "frames": list(self.frames),
            "score": round(self.verdict.score, 6),
            "lowest": self.verdict.worst.question.name,
        }


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found about one clip.

    Attributes:
        name: the clip's.
        verdict: its scores by the rubric.
        code: what the model was shown.
        moments: the rubric for each GOP, empty where it was not asked.
        measurement: the technical metrics, None where they were not asked.
        reason: a sentence that the model wrote, '' where it was not asked; no score is read from it.
        seconds: 'encode', 'read' and 'ask'.
    """

    name: str
    verdict: Verdict
    code: VisualCode
    moments: tuple[Moment, ...] = ()
    measurement: Measurement | None = None
    reason: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def worst_moment(self) -> Moment | None:
        """The moment with the lowest score; None where none was asked."""
        return min(self.moments, key=lambda moment: moment.verdict.score, default=None)

    def to_json(self) -> dict:
        """Everything but pictures, as JSON values."""
        return {
            "clip": self.name,
            **self.verdict.to_json(),
            "moments": [moment.to_json() for moment in self.moments],
            **({"metrics": self.measurement.to_json()["values"]} if self.measurement else {}),
            **({"reason": self.reason} if self.reason else {}),
            "plan": plan_letters(self.code.plan),
            "mode": self.code.mode,
            "visual_tokens": self.code.token_count,
            "seconds": {stage: round(spent, 4) for stage, spent in self.seconds.items()},
            "warnings": list(self.code.warnings),
        }


def judge_clip(
    source: VideoSource,
    model,
    config: CodeConfig,
    rubric: Rubric,
    *,
    fits: Mapping[str, Fit] | None = None,
    with_moments: bool = False,
    with_metrics: bool = False,
    with_reason: bool = False,
    progress: Progress = no_progress,
) -> Judgement:
    """Judge the clip of ``source`` by ``rubric``, its prompt filled in; arguments as in :func:`judge_code`.

    Raises InputError from reading, planning, encoding and asking.
    """
    began = time.perf_counter()
    code = watch(source, model, config, reserve=rubric_reserve(model.tokenizer, rubric), progress=progress)
    spent = {"encode": time.perf_counter() - began}
    found = judge_code(
        code, model, rubric, fits=fits, with_moments=with_moments, with_metrics=with_metrics, with_reason=with_reason,
        progress=progress,
    )  # fmt: skip
    return replace(found, name=source.info.name, seconds=spent | dict(found.seconds))


def judge_code(
    code: VisualCode,
    model,
    rubric: Rubric,
    *,
    fits: Mapping[str, Fit] | None = None,
    with_moments: bool = False,
    with_metrics: bool = False,
    with_reason: bool = False,
    reading: Conversation | None = None,
    progress: Progress = no_progress,
) -> Judgement:
    """Judge a video that is encoded already.

    Args:
        fits: a calibration of the rubric's questions.
        with_moments: judge each GOP on its own as well.
        with_metrics: measure every frame of the plan's video, too, which reads it once more.
        with_reason: let the model write a sentence about the greatest fault.
        reading: a conversation that has read the video.
    """
    began = time.perf_counter()
    reading = reading or converse(model, code)
    reading.read(progress)
    read = time.perf_counter()
    verdict = calibrated(judge(reading, rubric, progress), fits or {})
    reason = ""
    if with_reason:
        reason = reading.fork().ask(REASON, sampling=GREEDY, max_tokens=REASON_TOKENS, thinking=False).text
    found = moments(model, code, rubric, progress) if with_moments else []
    parts = tuple(Moment(seconds, frames, calibrated(one, fits or {})) for seconds, frames, one in found)
    seconds = {"read": read - began, "ask": time.perf_counter() - read}
    measurement = measure(code.plan.video.source, progress=progress) if with_metrics else None
    return Judgement(code.name, verdict, code, parts, measurement, reason, seconds)


def plan_letters(plan: GopPlan) -> str:
    """A letter for each sampled frame: I whole, P predicted, '-' not shown."""
    return "".join("PI"[kind] if keep else "-" for kind, keep in zip(plan.kind, plan.keep, strict=True))


def rubric_reserve(tokenizer, rubric: Rubric) -> int:
    """Tokens of the model's context that the longest question of a rubric and its reply take at most."""
    texts = [text for question in rubric.questions for text in (question.question, question.negated) if text]
    leads = max(len(tokenizer.encode(question.lead)) for question in rubric.questions)
    return max(question_tokens(tokenizer, text) for text in [*texts, REASON]) + leads + REASON_TOKENS
