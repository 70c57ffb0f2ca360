"""Captioning as work for a folder job: clips as codes, images as single pictures, text by the rules of the wording."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..code.captions import Writing, caption_code, caption_reserve
from ..code.conversation import Conversation
from ..code.encoding import encode_images
from ..code.learned.learned_code import LearnedCode
from ..code.pipeline import CodeConfig, encode_planned, plan_source
from ..code.presets import Preset
from ..qwen.preprocessing import fit_picture
from ..source.pictures import read_picture
from ..source.reading import VideoSource
from .items import Item
from .job import Work
from .wording import Wording, mentioned

IMAGE_TOKENS = 1024
"""Visual tokens of an image at most: about 1024 x 1024 pixels."""


@dataclass(frozen=True, slots=True)
class Captioning:
    """How a folder is captioned.

    Attributes:
        config: how clips become codes.
        preset: what is asked.
        writing: how it is written.
        wording: what becomes of the text.
        count: captions of each clip; the later ones are sampled with seeds of their own.
        model: what the model is called, for the fingerprint of the settings.
    """

    config: CodeConfig
    preset: Preset
    writing: Writing = Writing()
    wording: Wording = Wording()
    count: int = 1
    model: str = ""

    def settings(self) -> dict:
        """Everything that decides a caption, as JSON values."""
        counting = {"count_tokens"} if self.wording.counted_by else {"count_tokens", "counted_by"}
        wording = {name: getattr(self.wording, name) for name in Wording.__slots__ if name not in counting}
        return {
            "model": self.model,
            "config": jsonable(self.config),
            "preset": asdict(self.preset),
            "writing": jsonable(self.writing),
            "wording": jsonable(wording),
            "count": self.count,
        }


def caption_work(model, captioning: Captioning, sidecars: Callable[[Item, dict], list] | None = None) -> Work:
    """The work of captioning clips and images with a loaded model."""
    instructions = " ".join(filter(None, (captioning.writing.instructions, captioning.wording.instructions)))
    writing = replace(captioning.writing, instructions=instructions)

    def prepare(item: Item):
        if item.kind == "image":
            return fit_picture(read_picture(item.path), IMAGE_TOKENS)
        return plan_source(VideoSource.open(item.path), captioning.config)

    def finish(item: Item, prepared) -> dict:
        if item.kind == "image":
            return _caption_image(model, np.asarray(prepared), captioning, writing)
        reserve = caption_reserve(model.tokenizer, captioning.preset, writing)
        code = encode_planned(prepared, model, captioning.config, reserve=reserve)
        written = [
            caption_code(code, model, captioning.preset, each).answer for each in _seeds(writing, captioning.count)
        ]
        return _result(written, captioning.wording) | {
            "visual_tokens": code.token_count,
            "prompt_tokens": written[0].prompt_tokens,
            "warnings": list(code.warnings),
        }

    return Work("caption", captioning.settings(), prepare, finish, sidecars or (lambda item, result: []))


def _caption_image(model, picture: np.ndarray, captioning: Captioning, writing: Writing) -> dict:
    reading = Conversation(model, list(encode_images([picture], model)))
    reading.read()
    preset = captioning.preset
    written = [
        reading.fork().ask(
            preset.question(each.instructions),
            sampling=each.sampling,
            max_tokens=each.max_tokens or preset.max_tokens,
            thinking=each.thinking,
            schema=preset.schema,
        )
        for each in _seeds(writing, captioning.count)
    ]
    return _result(written, captioning.wording) | {"prompt_tokens": written[0].prompt_tokens, "warnings": []}


def _seeds(writing: Writing, count: int) -> list[Writing]:
    sampling = writing.sampling
    return [replace(writing, sampling=replace(sampling, seed=sampling.seed + number)) for number in range(count)]


def _result(written, wording: Wording) -> dict:
    """Captions by the wording, each text once, and what is to be said about them."""
    captions, notes = [], []
    for answer in written:
        text, said = wording.applied(answer.text)
        captions += [] if text in captions else [text]
        notes += said
    left = [word for word in wording.leave_out if any(mentioned(text, (word,)) for text in captions)]
    return {
        "captions": captions,
        "truncated": any(answer.truncated for answer in written),
        "notes": list(dict.fromkeys(notes)),
        "names_left": left,
    }


def text_sidecars(several: str = "numbered") -> Callable[[Item, dict], list[tuple[Path, str]]]:
    """'clip.txt' beside each clip.

    Several captions become 'clip.txt', 'clip.txt.1', ... ('numbered'), lines of one file ('lines'), or a JSON list in
    'clip.json' ('json').
    """

    def files(item: Item, result: dict) -> list[tuple[Path, str]]:
        texts, path = result["captions"], item.path.with_suffix(".txt")
        if several == "json":
            return [(item.path.with_suffix(".json"), json.dumps(texts, ensure_ascii=False, indent=1) + "\n")]
        if several == "lines":
            return [(path, "".join(f"{text}\n" for text in texts))]
        names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, len(texts)))]
        return [(name, f"{text}\n") for name, text in zip(names, texts, strict=True)]

    return files


def jsonable(value):
    """Dataclasses, tuples and the like as JSON values."""
    if isinstance(value, LearnedCode):
        return value.fingerprint
    if hasattr(value, "__dataclass_fields__"):
        return {name: jsonable(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {str(key): jsonable(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(one) for one in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
