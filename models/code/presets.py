"""Caption presets: one small JSON file each, which users can copy, edit and add to."""

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError

FOLDER = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True)
class Preset:
    """What to ask for a kind of caption.

    Attributes:
        name: the file's name without ``.json``.
        title: what a person reads in a list.
        prompt: the question put to the model.
        max_tokens: room for the answer.
        schema: JSON schema that the answer must satisfy, or None for free text.
    """

    name: str
    title: str
    prompt: str
    max_tokens: int
    schema: dict | None = None

    def question(self, instructions: str = "") -> str:
        """The prompt, with ``instructions`` on a line of their own after it."""
        return f"{self.prompt}\n{instructions}" if instructions.strip() else self.prompt


def list_presets(*folders: Path) -> dict[str, Path]:
    """Return the presets of the pack and of ``folders`` by name; a later folder wins over an earlier one."""
    return {path.stem: path for folder in (FOLDER, *folders) for path in sorted(folder.glob("*.json"))}


def read_preset(path: Path) -> Preset:
    """Read one preset file.

    Raises:
        InputError: the file is not JSON, or a key is missing or of the wrong type.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a preset, {error}; it must be a JSON object with a prompt") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: not a preset, a JSON {type(data).__name__}; it must be a JSON object with a prompt")
    values = {"title": path.stem, "prompt": None, "max_tokens": 512, "schema": None} | data
    for key, kinds, wanted in (
        ("title", (str,), "a string"),
        ("prompt", (str,), "a string"),
        ("max_tokens", (int,), "a whole number"),
        ("schema", (dict, type(None)), "an object"),
    ):
        if type(values[key]) not in kinds:
            raise InputError(f"{path}: '{key}' is {values[key]!r}; a preset needs {wanted} there")
    return Preset(path.stem, values["title"], values["prompt"], values["max_tokens"], values["schema"])
