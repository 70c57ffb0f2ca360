"""Two videos held against each other, in both orders.

The model reads both videos and replies 'A', 'B' or that they are equal; then again in the other order. The preference
for a video is the mean of its log-odds over the two orders, so that a liking for the first one cancels and
``compare(b, a)`` is the mirror of ``compare(a, b)`` by construction. How far the two orders disagree is reported.
"""

from dataclasses import dataclass

from ..code.choice import Choice, choose
from ..code.conversation import Conversation
from ..code.visual_code import VisualCode
from ..errors import InputError
from ..progress import Progress, no_progress
from .scoring import sigmoid

QUESTION = "Which of the two videos is better? Reply A, B or Equal."
PROMPT_QUESTION = 'Which of the two videos shows "{prompt}" better? Reply A, B or Equal.'
OPTIONS = ("A", "B", "Equal")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Video a against video b.

    Attributes:
        preference: log-odds of a against b, the mean of both orders; positive where a is better.
        equal: probability that they are equal, the mean of both orders.
        forward, backward: log-odds of a against b with a first, and with b first.
        off_list: probability of other replies, the mean of both orders.
    """

    preference: float
    equal: float
    forward: float
    backward: float
    off_list: float

    @property
    def probability(self) -> float:
        """Probability that a is the better one, an equal pair counting half."""
        return self.equal / 2 + (1 - self.equal) * sigmoid(self.preference)

    @property
    def inconsistency(self) -> float:
        """Difference of the probabilities of a between both orders, 0..1: the model's position bias."""
        return abs(sigmoid(self.forward) - sigmoid(self.backward))

    @property
    def winner(self) -> str:
        """'a', 'b', or 'equal' where the orders contradict each other or that is the likeliest reply."""
        if self.forward * self.backward <= 0 or self.equal > max(self.probability, 1 - self.probability):
            return "equal"
        return "a" if self.preference > 0 else "b"

    @property
    def mirrored(self) -> "Comparison":
        """The comparison of b with a."""
        return Comparison(-self.preference, self.equal, -self.backward, -self.forward, self.off_list)

    def to_json(self) -> dict:
        """The record as JSON values."""
        return {
            "winner": self.winner,
            "probability_a": round(self.probability, 6),
            "probability_equal": round(self.equal, 6),
            "preference": round(self.preference, 6),
            "a_first": round(self.forward, 6),
            "b_first": round(self.backward, 6),
            "inconsistency": round(self.inconsistency, 6),
            "off_list": round(self.off_list, 6),
        }


def compare(
    model, a: VisualCode, b: VisualCode, prompt: str = "", question: str = "", progress: Progress = no_progress
) -> Comparison:
    """Ask which of two encoded videos is better.

    Args:
        prompt: what both were made from; the default question then asks which one shows it better.
        question: asked instead; its replies are A, B and Equal.

    Raises:
        InputError: both videos do not fit the model's context together.
    """
    if not question:
        question = PROMPT_QUESTION.replace("{prompt}", prompt.strip()) if prompt.strip() else QUESTION
    first = _ask(model, a, b, question)
    progress(1, 2)
    second = _ask(model, b, a, question)
    progress(2, 2)
    forward, backward = first.log_odds("A", "B"), second.log_odds("B", "A")
    equal = (first.probabilities["Equal"] + second.probabilities["Equal"]) / 2
    return Comparison((forward + backward) / 2, equal, forward, backward, (first.off_list + second.off_list) / 2)


def _ask(model, first: VisualCode, second: VisualCode, question: str) -> Choice:
    segments = ["Video A: ", *first.segments, "\nVideo B: ", *second.segments, "\n"]
    try:
        return choose(Conversation(model, segments), question, OPTIONS, whole=False)
    except InputError as error:
        raise InputError(f"{first.name} and {second.name} cannot be compared: {error}") from None
