"""Questions about a visual code: the video is read once, every question continues from there."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen.cache import Cache
from ..qwen.families import FAMILIES
from ..qwen.generate import GREEDY, Context, Generation, SamplingParams, generate
from ..qwen.json_schema import JsonConstraint
from ..qwen.prompt import NEXT_TURN, Prompt, asking, opening, split_reasoning
from ..qwen.tokenizer import Tokenizer, typed
from ..weights import is_embedded
from .layout import lay_out_segments, read_segments
from .visual_code import Segment, VisualCode

REASONING_TOKENS = 4096
"""Length of an answer that begins with reasoning, where none is given: shorter ones end before the answer begins."""


def will_reason(tokenizer: Tokenizer, thinking: bool | None, schema: dict | None = None) -> bool:
    """Whether an answer begins with reasoning: where ``thinking`` asks for it, or is None and the model was made to."""
    wanted = tokenizer.reasons_unasked if thinking is None else thinking
    return tokenizer.thinks and wanted and schema is None


def answer_tokens(tokenizer: Tokenizer, thinking: bool | None, usual: int = 512, schema: dict | None = None) -> int:
    """Length of an answer at most where none is given: ``usual``, and with reasoning ``REASONING_TOKENS``."""
    return max(usual, REASONING_TOKENS) if will_reason(tokenizer, thinking, schema) else usual


def default_sampling(model, reasons: bool) -> SamplingParams:
    """What the makers of ``model`` publish for answers with or without reasoning; the embedded one is greedy."""
    if is_embedded(model.files[0].path):
        return GREEDY
    return FAMILIES[model.config.text.family].reasoning if reasons else SamplingParams()


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said.

    Attributes:
        text: the answer without reasoning.
        reasoning: what a Thinking model wrote before it, else ''.
        truncated: the limit ended the text, not the model.
        generation: the tokens with their log-probabilities and the time they took.
        prompt_tokens: length of the sequence that was read before the answer, visual tokens included.
        seconds: 'prefill' of what this answer had to read first (the video only for the first question), 'decode'.
    """

    text: str
    reasoning: str
    truncated: bool
    generation: Generation
    prompt_tokens: int
    seconds: dict[str, float]

    @property
    def tokens_per_second(self) -> float:
        return len(self.generation.ids) / max(self.seconds["decode"], 1e-9)

    def to_json(self, code: VisualCode) -> dict:
        """Text, reasoning, whether it was cut off, and :meth:`report`, as JSON values."""
        return {
            "text": self.text,
            "reasoning": self.reasoning,
            "truncated": self.truncated,
            "report": self.report(code),
        }

    def report(self, code: VisualCode) -> dict:
        """What was shown, what it cost and what was left out, as JSON values."""
        dropped = [int(index) for index in code.plan.index[~code.plan.keep]]
        return {
            "frames": code.report(),
            "mode": code.mode,
            "tokens": code.plan.totals,
            "video_prompt_tokens": code.prompt_tokens,
            "visual_tokens": code.token_count,
            "prompt_tokens": self.prompt_tokens,
            "seconds": {stage: round(spent, 4) for stage, spent in (code.seconds | self.seconds).items()},
            "tokens_per_second": round(self.tokens_per_second, 2),
            "dropped_frames": dropped,
            "warnings": list(code.warnings),
        }


class Conversation:
    """Turns of questions and answers about pictures that stand before the first question.

    :meth:`fork` gives a conversation that has read the same and goes its own way, so that many questions need one
    reading of the video. A conversation that was cancelled while reading or writing is as it was before.

    A model that may think is shown no reasoning but that of the answer it writes, as its chat template has it. So its
    next turn is not read after the answer's context but after a snapshot, from before the question.

    Args:
        model: a loaded :class:`codeclens.models.qwen.gguf.Qwen3VL`.
        segments: the pictures in order, each a segment or text between segments.
        system: the system prompt, if any.
        int8_cache: keep keys and values in 8 bits, half the memory.
    """

    def __init__(self, model, segments: list[str | Segment], system: str = "", int8_cache: bool = False):
        self.model = model
        self.context = self.snapshot = Context(model.text, Cache(model.config.text.layers, int8=int8_cache))
        self.unread: list[str | Segment] = [opening(system), *segments]

    @property
    def room(self) -> int:
        """Tokens the model's context still has for what is unread and unwritten."""
        return self.model.config.text.context_length - self.snapshot.cache.length

    def fork(self) -> "Conversation":
        """Return a conversation at the same point that shares what was read."""
        other = object.__new__(Conversation)
        other.model, other.unread = self.model, list(self.unread)
        other.context, other.snapshot = self.context.fork(), self.snapshot.fork()
        return other

    def append(self, segments: list[Segment]) -> None:
        """Add pictures after those already given; they are read with the next question or :meth:`read`."""
        self.unread.extend(segments)

    def read(self, progress: Progress = no_progress) -> float:
        """Read all pictures and turns given so far, so that forks need not; return the seconds it took."""
        # Text may only be continued after a special token, such as ends a picture or a turn.
        ends = [i for i, part in enumerate(self.unread, 1) if isinstance(part, Segment) or part == NEXT_TURN[0]]
        if not ends:
            return 0.0
        self.snapshot, seconds = self._continue(self.unread[: ends[-1]], 0, progress)
        self.context, self.unread = self.snapshot, self.unread[ends[-1] :]
        return seconds

    def ask(
        self,
        question: str,
        *,
        sampling: SamplingParams | None = None,
        max_tokens: int | None = None,
        thinking: bool | None = None,
        schema: dict | None = None,
        on_text: Callable[[str], None] | None = None,
        progress: Progress = no_progress,
    ) -> Answer:
        """Ask, and remember question and answer for the next turn.

        Args:
            sampling: how each token is chosen; by default as the makers advise for answers with or without reasoning.
            max_tokens: length of the answer at most, reasoning included; by default 512, or REASONING_TOKENS.
            thinking: let a model that can reason do so first; by default only one made for it, a Thinking variant.
            schema: a JSON schema that the answer must satisfy.
            on_text: called with each piece of text as it is written, reasoning included.
            progress: called with rows while reading, then tokens while writing.

        Raises:
            InputError: question and answer do not fit the model's context; see also
                :class:`codeclens.models.qwen.json_schema.JsonConstraint`.
        """
        tokenizer = self.model.tokenizer
        reasons = will_reason(tokenizer, thinking, schema)
        if max_tokens is None:
            max_tokens = answer_tokens(tokenizer, thinking, schema=schema)
        settled = self.read(progress) if tokenizer.thinks else 0.0
        turn = asking(question, tokenizer.thinks, reasons)
        context, prefill = self._continue([*self.unread, turn], max_tokens, progress)
        prompt_tokens = context.cache.length
        constrain = None if schema is None else self._constraint(schema, max_tokens)
        written = generate(
            context,
            tokenizer.decode,
            tokenizer.end_ids,
            sampling or default_sampling(self.model, reasons),
            max_tokens,
            on_text,
            constrain,
            progress,
        )
        reasoning, text = split_reasoning(written.text, reasons)
        self.context = context
        if tokenizer.thinks:
            self.unread = [*self.unread, asking(question), typed(text), *NEXT_TURN]
        else:
            self.snapshot, self.unread = context, list(NEXT_TURN)
        seconds = {"prefill": settled + prefill, "decode": written.seconds}
        return Answer(text, reasoning, written.truncated, written, prompt_tokens, seconds)

    def posed(self, question: str, reserve: int, progress: Progress = no_progress, *, lead: str = "") -> Context:
        """Return a context in which ``question`` is asked and the answer is next; this conversation stays as it is.

        ``reserve`` tokens of the model's context are kept free. The answer continues ``lead``. A Thinking model
        answers without reasoning.
        """
        turn = asking(question, self.model.tokenizer.thinks, think=False) + lead
        return self._continue([*self.unread, turn], reserve, progress)[0]

    def question_ids(self, question: str, reserve: int, *, lead: str = "") -> list[int]:
        """Token ids of ``question`` and the beginning of its answer, after pictures that were read.

        Arguments and errors are those of :meth:`posed`.
        """
        turn = asking(question, self.model.tokenizer.thinks, think=False) + lead
        return self._laid_out([*self.unread, turn], reserve).ids

    def _continue(self, parts: list[str | Segment], reserve: int, progress: Progress) -> tuple[Context, float]:
        """Return a context that has read ``parts`` as well, leaving this one as it is, and the seconds it took."""
        prompt = self._laid_out(parts, reserve)
        began = time.perf_counter()
        context = self.snapshot.fork()
        segments = [part for part in parts if isinstance(part, Segment)]
        read_segments(context, prompt, segments, progress)
        return context, time.perf_counter() - began

    def _laid_out(self, parts: list[str | Segment], reserve: int) -> Prompt:
        """``parts`` after what was read; raises InputError where they do not fit beside ``reserve`` tokens."""
        prompt = lay_out_segments(parts, self.model.tokenizer, self.snapshot.position)
        if len(prompt.ids) + reserve > self.room:
            raise InputError(
                f"the prompt has {self.snapshot.cache.length + len(prompt.ids)} tokens and the answer may have "
                f"{reserve}; the model's context holds {self.model.config.text.context_length}"
            )
        return prompt

    def _constraint(self, schema: dict, max_tokens: int) -> JsonConstraint:
        tokenizer = self.model.tokenizer
        stop = tokenizer.token_id("<|im_end|>")
        return JsonConstraint(tokenizer.core.to_str(), stop, self.model.config.text.vocabulary, schema, max_tokens)


def converse(model, code: VisualCode, **options) -> Conversation:
    """Return a conversation about a visual code.

    Raises:
        InputError: the code was made with a model of another width.
    """
    width = code.segments[0].embeds.shape[-1]
    if width != model.config.text.hidden_size:
        raise InputError(
            f"{code.name}: its code is {width} wide, the model reads {model.config.text.hidden_size}; "
            "encode the video with the model that is to read it"
        )
    reader = model if code.learned is None else code.learned.reader_of(model)
    return Conversation(reader, list(code.segments), **options)
