"""A caption of a video: the preset's question, asked once."""

from collections.abc import Callable
from dataclasses import dataclass

from ..progress import Progress, no_progress
from ..qwen.generate import SamplingParams
from ..source.reading import VideoSource
from .conversation import Answer, Conversation, answer_tokens, converse
from .layout import question_tokens
from .pipeline import CodeConfig, watch
from .presets import Preset
from .visual_code import VisualCode


@dataclass(frozen=True, slots=True)
class Writing:
    """How an answer is written.

    Attributes:
        sampling: how each token is chosen; where it is None, as suits the kind of model.
        max_tokens: length at most; where it is None, the preset's own, or what an answer with reasoning takes.
        thinking: let the model reason first, where it can; by default only a Thinking variant does.
        instructions: added to the preset's question.
    """

    sampling: SamplingParams | None = None
    max_tokens: int | None = None
    thinking: bool | None = None
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Caption:
    """What was written about a video, and the code that it was written from."""

    answer: Answer
    code: VisualCode

    @property
    def text(self) -> str:
        return self.answer.text

    def to_json(self) -> dict:
        """Text, reasoning, whether it was cut off, and the report, as JSON values."""
        return self.answer.to_json(self.code)


def caption(
    source: VideoSource,
    model,
    config: CodeConfig,
    preset: Preset,
    writing: Writing = Writing(),
    *,
    on_text: Callable[[str], None] | None = None,
    progress: Progress = no_progress,
) -> Caption:
    """Encode ``source`` as ``config`` says and write the caption that ``preset`` asks for.

    Raises:
        InputError: from reading, planning, encoding and writing.
    """
    reserve = caption_reserve(model.tokenizer, preset, writing)
    code = watch(source, model, config, reserve=reserve, progress=progress)
    return caption_code(code, model, preset, writing, on_text=on_text, progress=progress)


def caption_code(
    code: VisualCode,
    model,
    preset: Preset,
    writing: Writing = Writing(),
    *,
    reading: Conversation | None = None,
    on_text: Callable[[str], None] | None = None,
    progress: Progress = no_progress,
) -> Caption:
    """Write the caption of a video that is encoded already; ``reading`` is a conversation that has read it."""
    answer = (reading or converse(model, code)).ask(
        preset.question(writing.instructions),
        sampling=writing.sampling,
        max_tokens=_length(model.tokenizer, preset, writing),
        thinking=writing.thinking,
        schema=preset.schema,
        on_text=on_text,
        progress=progress,
    )
    return Caption(answer, code)


def caption_reserve(tokenizer, preset: Preset, writing: Writing) -> int:
    """Tokens of the model's context that question and caption take at most."""
    question = preset.question(writing.instructions)
    return question_tokens(tokenizer, question) + _length(tokenizer, preset, writing)


def _length(tokenizer, preset: Preset, writing: Writing) -> int:
    if writing.max_tokens is not None:
        return writing.max_tokens
    return answer_tokens(tokenizer, writing.thinking, preset.max_tokens, preset.schema)
