"""Rubrics: what a judge asks about a video, as small JSON or YAML files that users can copy and edit.

A file is an object:

    title       what a person reads in a list
    source      where the formula comes from, or what the rubric is for
    combine     'mean' (weighted arithmetic mean of the questions' scores, the default) or 'geometric'
    decompose   optional: what to ask the model so that it splits the user's prompt into statements, one a line; each
                then replaces {item} in the questions
    questions   a list of objects:
        name      short, distinct
        question  the text; {prompt} is the user's prompt
        negated   optional: the same question turned round, whose Yes means the first one's No
        options   the possible replies, ["Yes", "No"] where not given
        values    the score of each option, 0..1; for two options 'better' may name the one that scores 1 instead
        lead      optional: text that the reply begins with; {name} of an earlier question is its likeliest option there
        weight    a positive number, 1 where not given
        bias      'negated', 'baseline' or 'none': how the model's liking for one reply is removed (see scoring.py)
        score     'expectation' over the options, or 'probability' of the better one among all replies
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..errors import InputError

FOLDER = Path(__file__).parent / "rubrics"

BIASES = ("negated", "baseline", "none")
SCORES = ("expectation", "probability")
COMBINE = ("mean", "geometric")

QUESTION_KEYS = {
    "name": (str, "a string"),
    "question": (str, "a string"),
    "negated": (str, "a string"),
    "options": (list, "a list of strings"),
    "values": (list, "a list of numbers from 0 to 1"),
    "better": (str, "one of the options"),
    "lead": (str, "a string"),
    "weight": ((int, float), "a number above 0"),
    "bias": (str, f"one of {', '.join(BIASES)}"),
    "score": (str, f"one of {', '.join(SCORES)}"),
}
RUBRIC_KEYS = {
    "title": (str, "a string"),
    "source": (str, "a string"),
    "combine": (str, f"one of {', '.join(COMBINE)}"),
    "decompose": (str, "a string"),
    "questions": (list, "a list of questions"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a rubric; the attributes are the keys of the file (see the module)."""

    name: str
    question: str
    negated: str = ""
    options: tuple[str, ...] = ("Yes", "No")
    values: tuple[float, ...] = (1.0, 0.0)
    lead: str = ""
    weight: float = 1.0
    bias: str = "none"
    score: str = "expectation"

    def filled(self, **words: str) -> "Question":
        """The question with ``{prompt}`` and ``{item}`` replaced."""
        return replace(self, question=fill(self.question, words), negated=fill(self.negated, words))


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric; the attributes are the keys of the file (see the module), ``name`` is the file's."""

    name: str
    title: str
    questions: tuple[Question, ...]
    source: str = ""
    combine: str = "mean"
    decompose: str = ""

    @property
    def needs_prompt(self) -> bool:
        """Whether a question speaks of the prompt that the video was made from."""
        texts = [text for question in self.questions for text in (question.question, question.negated)]
        return bool(self.decompose) or any("{prompt}" in text for text in texts)

    def for_prompt(self, prompt: str) -> "Rubric":
        """The rubric with the user's prompt in its questions. Raises InputError where one is needed and missing."""
        if self.needs_prompt and not prompt.strip():
            raise InputError(f"rubric {self.name} asks about the prompt of the video, which is empty; give the prompt")
        return replace(self, questions=tuple(question.filled(prompt=prompt.strip()) for question in self.questions))

    def to_json(self) -> dict:
        """The file that this rubric is."""
        keys = ("name", "question", "negated", "options", "values", "lead", "weight", "bias", "score")
        questions = [{key: getattr(question, key) for key in keys} for question in self.questions]
        return {
            "title": self.title,
            "source": self.source,
            "combine": self.combine,
            **({"decompose": self.decompose} if self.decompose else {}),
            "questions": [{key: value for key, value in one.items() if value not in ("", ())} for one in questions],
        }


def fill(text: str, words: dict[str, str]) -> str:
    """``text`` with each {word} of ``words`` replaced; other braces stay."""
    return re.sub(r"\{(\w+)\}", lambda match: words.get(match[1], match[0]), text)


def list_rubrics(*folders: Path) -> dict[str, Path]:
    """The rubrics of the pack and of ``folders`` by name; a later folder wins over an earlier one."""
    kinds = ("*.json", "*.yaml", "*.yml")
    found = [path for folder in (FOLDER, *folders) for kind in kinds for path in sorted(folder.glob(kind))]
    return {path.stem: path for path in found if not path.name.endswith(".calibration.json")}


def find_rubric(name: str, *folders: Path) -> Rubric:
    """The rubric called ``name``, or in the file ``name``. Raises InputError where there is none."""
    known = list_rubrics(*folders)
    if name not in known and not Path(name).is_file():
        raise InputError(f"rubric {name!r} is neither a file nor one of {', '.join(known)}")
    return read_rubric(known.get(name) or Path(name))


def listed_rubric(name: str, *folders: Path) -> Rubric:
    """The rubric called ``name``, never a file of that name. Raises InputError where there is none."""
    known = list_rubrics(*folders)
    if name not in known:
        raise InputError(f"rubric {name!r} is not one of {', '.join(known)}")
    return read_rubric(known[name])


def read_rubric(path: Path) -> Rubric:
    """Read one rubric file.

    Raises:
        InputError: naming file, line and key, where it is not JSON or YAML or a key is missing, unknown or wrong.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return parse_rubric(text, str(path), Path(path).stem, Path(path).suffix.lower() in (".yaml", ".yml"))


def parse_rubric(text: str, file: str, name: str, yaml: bool = False) -> Rubric:
    """The rubric in ``text``, JSON or YAML; ``file`` is what messages call it. Raises as :func:`read_rubric`."""
    data, lines = _read_yaml(text, file) if yaml else _read_json(text, file)
    check = _Check(file, lines)
    check.keys(data, RUBRIC_KEYS, (), ("questions",))
    if not data["questions"]:
        check.fail((), "questions", "is empty", "at least one question")
    questions = [_question(check, one, ("questions", number)) for number, one in enumerate(data["questions"])]
    names = [question.name for question in questions]
    for number, question in enumerate(questions):
        if question.name in names[:number]:
            check.fail(("questions", number), "name", f"is {question.name!r} for the second time", "a name of its own")
    combine = data.get("combine", "mean")
    if combine not in COMBINE:
        check.fail((), "combine", f"is {combine!r}", RUBRIC_KEYS["combine"][1])
    return Rubric(
        name, data.get("title", name), tuple(questions), data.get("source", ""), combine, data.get("decompose", "")
    )


def _question(check: "_Check", data, path: tuple) -> Question:
    check.keys(data, QUESTION_KEYS, path, ("name", "question"))
    options = tuple(data.get("options", ("Yes", "No")))
    if len(options) < 2 or len(set(options)) < len(options) or not all(isinstance(o, str) and o for o in options):
        check.fail(path, "options", f"is {list(options)!r}", "two or more distinct strings")
    values = data.get("values")
    if values is None:
        better = data.get("better", options[0])
        if len(options) != 2 and "better" not in data:
            check.fail(path, "values", "is missing", f"the score of each of the {len(options)} options")
        if better not in options:
            check.fail(path, "better", f"is {better!r}", f"one of {', '.join(options)}")
        values = [float(option == better) for option in options]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != len(options) or len(values) != len(options) or not all(0 <= value <= 1 for value in numbers):
        check.fail(path, "values", f"is {values!r}", f"{len(options)} numbers from 0 to 1, one for each option")
    weight, negated = data.get("weight", 1.0), data.get("negated", "")
    if not 0 < weight < float("inf"):
        check.fail(path, "weight", f"is {weight!r}", QUESTION_KEYS["weight"][1])
    default = ("negated" if negated else "baseline") if len(options) == 2 else "none"
    bias, score = data.get("bias", default), data.get("score", "expectation")
    if bias not in BIASES:
        check.fail(path, "bias", f"is {bias!r}", QUESTION_KEYS["bias"][1])
    if bias == "negated" and (not negated or len(options) != 2):
        check.fail(path, "bias", "is 'negated'", "two options and a negated form of the question")
    if bias == "baseline" and len(options) != 2:
        check.fail(path, "bias", "is 'baseline'", "two options")
    if score not in SCORES:
        check.fail(path, "score", f"is {score!r}", QUESTION_KEYS["score"][1])
    return Question(
        data["name"], data["question"], negated, options, tuple(map(float, values)), data.get("lead", ""),
        float(weight), bias, score,
    )  # fmt: skip


@dataclass(slots=True)
class _Check:
    """Complaints that name file, line and key.

    Attributes:
        file: what the file is called.
        lines: the line, from 1, of the value or key of each path.
    """

    file: str
    lines: dict[tuple, int] = field(default_factory=dict)

    def keys(self, data, known: dict, path: tuple, needed: tuple[str, ...]) -> None:
        where = self.lines.get(path, 1)
        if not isinstance(data, dict):
            raise InputError(f"{self.file}, line {where}: there is {_kind(data)} where an object with keys is needed")
        for key, value in data.items():
            if key not in known:
                self.fail(path, key, "is not known", f"one of {', '.join(known)}")
            kinds, wanted = known[key]
            if not isinstance(value, kinds) or isinstance(value, bool):
                self.fail(path, key, f"is {_kind(value)}", wanted)
        for key in needed:
            if key not in data:
                raise InputError(f"{self.file}, line {where}: '{key}' is missing; it must be {known[key][1]}")

    def fail(self, path: tuple, key: str, found: str, wanted: str) -> None:
        line = self.lines.get((*path, key), self.lines.get(path, 1))
        raise InputError(f"{self.file}, line {line}: '{key}' {found}; it must be {wanted}")


def _kind(value) -> str:
    return "a JSON " + {dict: "object", list: "list", str: "string", bool: "true or false"}.get(type(value), "value")


TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def _read_json(text: str, file: str) -> tuple[object, dict[tuple, int]]:
    """The value of a JSON text, and the line of each key and element by its path."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{file}, line {error.lineno}: this is not JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{file} is nested too deeply for a rubric; a list of questions is needed") from None
    lines, path, keys, expects_key = {}, [], [], False
    for token in TOKEN.finditer(text):
        line, word = text.count("\n", 0, token.start()) + 1, token[0]
        if word in "{[":
            lines.setdefault(tuple(path), line)
            keys.append(word)
            path.append(0 if word == "[" else None)
            expects_key = word == "{"
        elif word in "}]":
            keys.pop()
            path.pop()
        elif word == ",":
            if keys[-1] == "[":
                path[-1] += 1
            expects_key = keys[-1] == "{"
        elif word == ":":
            expects_key = False
        elif expects_key:
            path[-1] = json.loads(word)
            lines[tuple(path)] = line
        else:
            lines.setdefault(tuple(path), line)
    return data, lines


def _read_yaml(text: str, file: str) -> tuple[object, dict[tuple, int]]:
    """The value of a YAML text, and the line of each key and element by its path. PyYAML comes with ComfyUI."""
    try:
        import yaml
    except ImportError:
        raise InputError(f"{file} is YAML, which needs the package PyYAML; install it, or write JSON") from None
    try:
        node, data = yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        line = error.problem_mark.line + 1 if getattr(error, "problem_mark", None) else 1
        raise InputError(f"{file}, line {line}: this is not YAML: {getattr(error, 'problem', error)}") from None
    lines = {}

    def walk(node, path):
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[(*path, key.value)] = key.start_mark.line + 1
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                walk(value, (*path, number))

    if node is not None:
        walk(node, ())
    return data, lines
