"""A video judged by a rubric: probabilities of replies, read from logits, without what the model would write.

The score of a question is the expectation of its options' values over their renormalised probabilities, or the
probability of its better option among all replies. A model that likes to say Yes is corrected where a question has two
options, in log-odds z of the first option against the second:

    negated   z = (z(question) - z(negated form)) / 2: a liking for either reply is in both and cancels
    baseline  z = z(question) - z(question without any video), contextual calibration (Zhao et al. 2021,
              arXiv 2102.09690, with the uncorrected prompt as the content-free input)

Everything is greedy and deterministic; the video is read once for all questions.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..code.choice import Asked, Choice, choose_each
from ..code.conversation import Conversation
from ..code.visual_code import VisualCode
from ..errors import InputError
from ..progress import Progress, no_progress
from ..qwen.generate import GREEDY
from .rubric import Question, Rubric, fill

FORMS = ("asked", "negated", "baseline")
"""How a question is put: as it stands, turned round, and without any video."""

MOST_STATEMENTS = 24
"""Statements that a prompt is split into at most."""


@dataclass(frozen=True, slots=True)
class Score:
    """What the model holds of one question.

    Attributes:
        question: as it was asked.
        probabilities: of each option, given that the reply is one of them, uncorrected.
        off_list: probability of all other replies.
        log_odds: of the first option against the second as asked; None where there are not two options.
        negated: the same of the negated form; None where it was not asked.
        baseline: the same without any video; None where it was not asked.
        value: the question's score, 0..1, the correction that its ``bias`` names applied.
    """

    question: Question
    probabilities: dict[str, float]
    off_list: float
    log_odds: float | None
    negated: float | None
    baseline: float | None
    value: float

    @property
    def best(self) -> str:
        """The likeliest option, uncorrected."""
        return max(self.probabilities, key=self.probabilities.get)

    def to_json(self) -> dict:
        """The record as JSON values."""
        rounded = {key: _rounded(getattr(self, key)) for key in ("log_odds", "negated", "baseline")}
        return {
            "name": self.question.name,
            "question": self.question.question,
            "score": round(self.value, 6),
            "weight": self.question.weight,
            "probabilities": {option: round(value, 6) for option, value in self.probabilities.items()},
            "off_list": round(self.off_list, 6),
            "bias": self.question.bias,
            **rounded,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """A video's scores by a rubric.

    Attributes:
        rubric: with the prompt filled in.
        scores: one for each question, in their order.
    """

    rubric: Rubric
    scores: tuple[Score, ...]

    @property
    def score(self) -> float:
        """0..1: the weighted mean of the questions' scores, arithmetic or geometric as the rubric says."""
        weights = [score.question.weight for score in self.scores]
        if self.rubric.combine == "geometric":
            logs = [math.log(max(score.value, 1e-12)) for score in self.scores]
            return math.exp(sum(w * value for w, value in zip(weights, logs, strict=True)) / sum(weights))
        return sum(w * score.value for w, score in zip(weights, self.scores, strict=True)) / sum(weights)

    @property
    def pass_fraction(self) -> float:
        """Fraction of the questions whose score is above one half."""
        return sum(score.value > 0.5 for score in self.scores) / len(self.scores)

    @property
    def worst(self) -> Score:
        """The question with the lowest score."""
        return min(self.scores, key=lambda score: score.value)

    def to_json(self) -> dict:
        """Score, pass fraction and every question, as JSON values."""
        return {
            "rubric": self.rubric.name,
            "score": round(self.score, 6),
            "pass_fraction": round(self.pass_fraction, 6),
            "questions": [score.to_json() for score in self.scores],
        }

    def in_words(self) -> str:
        """One line for the clip and one for each question, the lowest score marked."""
        lines = [f"{self.rubric.title}: {self.score:.3f}, {self.pass_fraction:.0%} of {len(self.scores)} passed"]
        for score in self.scores:
            mark = "  lowest" if len(self.scores) > 1 and score is self.worst else ""
            odd = f"  ({score.off_list:.0%} other replies)" if score.off_list > 0.1 else ""
            lines.append(f"  {score.value:5.3f}  {score.question.name}{mark}{odd}")
        return "\n".join(lines)


def judge(reading: Conversation, rubric: Rubric, progress: Progress = no_progress) -> Verdict:
    """Score a video that ``reading`` has read (:meth:`Conversation.read`) by ``rubric``, its prompt filled in.

    Raises:
        InputError: the rubric asks about a prompt that was not given, or a question does not fit the model's context.
    """
    if rubric.decompose or any("{item}" in question.question for question in rubric.questions):
        raise InputError(f"rubric {rubric.name} takes statements of a prompt; expand it first")
    scores: list[Score] = []
    while len(scores) < len(rubric.questions):
        known = {score.question.name: score.best for score in scores}
        ready = _independent(rubric.questions[len(scores) :])
        scores += _scores(reading, [replace(question, lead=fill(question.lead, known)) for question in ready])
        progress(len(scores), len(rubric.questions))
    return Verdict(rubric, tuple(scores))


def _independent(questions: Sequence[Question]) -> Sequence[Question]:
    """The first questions up to one whose lead holds the reply to another of them."""
    for count in range(1, len(questions)):
        lead = questions[count].lead
        if any(f"{{{earlier.name}}}" in lead for earlier in questions[:count]):
            return questions[:count]
    return questions


def expand(model, rubric: Rubric, prompt: str, progress: Progress = no_progress) -> Rubric:
    """``rubric`` for the video made from ``prompt``; where it decomposes prompts, the model splits this one first.

    The result is an ordinary rubric that can be shown, edited and saved. Raises InputError where a prompt is needed and
    missing, or the model finds no statement in it.
    """
    if not rubric.decompose:
        return rubric.for_prompt(prompt)
    rubric = rubric.for_prompt(prompt)
    asked = fill(rubric.decompose, {"prompt": prompt.strip()})
    written = Conversation(model, []).ask(asked, sampling=GREEDY, max_tokens=512, thinking=False, progress=progress)
    items = statements(written.text)
    if not items:
        raise InputError(f"the model finds no statement in the prompt {prompt[:60]!r}; write the questions by hand")
    questions = [
        replace(question.filled(item=item.rstrip(".")), name=item[:60] if "{item}" in question.name else question.name)
        for item in items
        for question in rubric.questions
    ]
    return replace(rubric, questions=tuple(questions), decompose="")


def statements(text: str) -> list[str]:
    """The statements of a list, one a line, without bullets and numbers, each once."""
    lines = (line.strip().lstrip("-*0123456789.) ").strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in lines if line))[:MOST_STATEMENTS]


def moments(
    model, code: VisualCode, rubric: Rubric, progress: Progress = no_progress
) -> list[tuple[tuple[float, float], tuple[int, ...], Verdict]]:
    """The rubric for each GOP of a code on its own: (first and last second, its frames, verdict), in order of time."""
    parts = gops_of(code)
    found = []
    for number, segments in enumerate(parts):
        reading = Conversation(model, list(segments))
        reading.read()
        frames = tuple(index for segment in segments for index in segment.index)
        found.append(((segments[0].pts[0], segments[-1].pts[-1]), frames, judge(reading, rubric)))
        progress(number + 1, len(parts))
    return found


def gops_of(code: VisualCode) -> list[tuple]:
    """The segments of a code by GOP: each begins with a whole picture, or is a pair of its own where all are pairs."""
    parts: list[list] = []
    for segment in code.segments:
        if segment.kind != "P" or not parts:
            parts.append([])
        parts[-1].append(segment)
    return [tuple(part) for part in parts]


def _scores(reading: Conversation, questions: Sequence[Question]) -> list[Score]:
    """All forms of all questions in one batch: as asked, negated, and of nothing at all."""
    forms = [(question, form, asked) for question in questions for form, asked in _forms(question)]
    choices = choose_each(reading, [asked for *_, asked in forms])
    found = {(question.name, form): choice for (question, form, _), choice in zip(forms, choices, strict=True)}
    return [_score(question, {form: found.get((question.name, form)) for form in FORMS}) for question in questions]


def _forms(question: Question) -> Iterator[tuple[str, Asked]]:
    # An option that another one begins with needs the end of the reply to be distinguished from it.
    whole = any(a != b and b.startswith(a) for a in question.options for b in question.options)
    asked = Asked(question.question, question.options, question.lead, whole)
    yield "asked", asked
    if len(question.options) == 2:
        if question.negated:
            yield "negated", replace(asked, question=question.negated)
        if question.bias != "none":
            yield "baseline", replace(asked, shown=False)


def _score(question: Question, found: dict[str, Choice | None]) -> Score:
    asked = found["asked"]
    odds = {form: choice and choice.log_odds(*question.options[:2]) for form, choice in found.items()}
    if len(question.options) != 2:
        odds["asked"] = None
    value = _value(question, asked, odds["asked"], odds["negated"], odds["baseline"])
    return Score(question, asked.probabilities, asked.off_list, odds["asked"], odds["negated"], odds["baseline"], value)


def _value(question: Question, found: Choice, log_odds, negated, baseline) -> float:
    if question.score == "probability":
        best = question.values.index(max(question.values))
        return min(1.0, math.exp(found.logprobs[best] / found.lengths[best]))
    if question.bias == "none":
        return expectation(question.values, found.probabilities.values())
    z = (log_odds - negated) / 2 if question.bias == "negated" else log_odds - baseline
    first = sigmoid(z)
    return expectation(question.values, (first, 1 - first))


def expectation(values: Sequence[float], probabilities) -> float:
    """Sum of values times probabilities: not the likeliest value times its probability."""
    return math.fsum(value * p for value, p in zip(values, probabilities, strict=True))


def sigmoid(z: float) -> float:
    """1 / (1 + exp(-z)) without overflow."""
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
