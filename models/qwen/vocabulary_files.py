"""A tokenizer from the files that stand beside .safetensors files, as GGUF metadata would describe it.

Either Hugging Face's ``tokenizer.json``, or ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``, as ComfyUI
keeps them in ``comfy/text_encoders``.
"""

import json
from pathlib import Path

import numpy as np

from ..errors import InputError

HOST_FOLDERS = {"qwen3vl": "qwen25_tokenizer", "qwen35": "qwen35_tokenizer"}
"""Qwen3-VL has the tokens of Qwen2.5."""

SPLITS = {"qwen3vl": "qwen2", "qwen35": "qwen35"}
SWITCH = {"qwen3vl": "", "qwen35": "{{ enable_thinking }}"}
"""What stands for a chat template that is not there: all that is asked of one is whether the model may reason."""

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5


def vocabulary_metadata(model: Path, family: str, rows: int, host: Path | None = None) -> dict:
    """GGUF's tokenizer keys for the model file ``model`` of so many embedding ``rows``.

    The files are searched beside the model, then in ``host``, then in the ComfyUI folder that the model or this pack
    lies in. Raises InputError where there are none.
    """
    name = HOST_FOLDERS[family]
    above = [
        folder / "comfy" / "text_encoders" for path in (model, Path(__file__)) for folder in path.absolute().parents
    ]
    for folder in (model.parent, *(folder / name for folder in ([host] if host else []) + above)):
        if (folder / "tokenizer.json").is_file():
            vocabulary, merges, added = _from_tokenizer_json(folder / "tokenizer.json")
            break
        if all((folder / part).is_file() for part in ("vocab.json", "merges.txt", "tokenizer_config.json")):
            vocabulary, merges, added = _from_vocabulary(folder)
            break
    else:
        raise InputError(
            f"{model} comes without its tokenizer, and none is beside it or in ComfyUI's comfy/text_encoders/{name}; "
            "put the model's tokenizer.json beside it"
        )
    tokens, types = [f"[PAD{index}]" for index in range(rows)], np.full(rows, UNUSED, np.int32)
    marked = ((index, CONTROL if special else USER_DEFINED, token) for index, (token, special) in added.items())
    for index, kind, token in (*((index, NORMAL, token) for token, index in vocabulary.items()), *marked):
        if not 0 <= index < rows:
            raise InputError(
                f"{model} has {rows} embeddings, and the tokenizer in {folder} gives {token!r} the id {index}"
            )
        tokens[index], types[index] = token, kind
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": SPLITS[family],
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": merges,
        "tokenizer.chat_template": _chat_template(model.parent) or SWITCH[family],
    }


def _from_tokenizer_json(path: Path):
    stored = read_json(path)
    try:
        model = stored["model"]
        merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
        added = {entry["id"]: (entry["content"], entry["special"]) for entry in stored["added_tokens"]}
        return {token: index for token, index in model["vocab"].items() if index not in added}, merges, added
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no byte-level BPE tokenizer of Hugging Face's form") from None


def _from_vocabulary(folder: Path):
    lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    merges = [line for line in lines if line and not line.startswith("#version")]
    try:
        entries = read_json(folder / "tokenizer_config.json")["added_tokens_decoder"].items()
        added = {int(index): (entry["content"], entry["special"]) for index, entry in entries}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(f"{folder / 'tokenizer_config.json'} does not list its added tokens") from None
    vocabulary = read_json(folder / "vocab.json")
    return {token: index for token, index in vocabulary.items() if index not in added}, merges, added


def _chat_template(folder: Path) -> str:
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text(encoding="utf-8")
    return str(read_json(folder / "tokenizer_config.json").get("chat_template") or "")


def read_json(path: Path) -> dict:
    """The object in a JSON file; empty where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{path} is damaged: it holds no JSON object")
    return found
