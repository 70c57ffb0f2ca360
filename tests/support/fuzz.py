"""Damaged files of one kind, one after another: each must succeed or end in one InputError sentence.

    python -m support.fuzz picture|gguf|json SEED COUNT      (from tests/)

Runs under a limit of memory, and one of time for each input. Prints how many inputs there were of each outcome as JSON;
inputs of any other outcome are kept in the folder $FUZZ_KEEP where that is set.
"""

import collections
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from codeclens.models.code.presets import read_preset
from codeclens.models.commands.video import read_costs
from codeclens.models.errors import InputError
from codeclens.models.evaluation.paired import read_tasks
from codeclens.models.judge.rubric import read_rubric
from codeclens.models.qwen.config import read_vision_config
from codeclens.models.qwen.families import read_text_config
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.loading import require_vocabulary
from codeclens.models.qwen.text import TextModel
from codeclens.models.qwen.tokenizer import read_tokenizer
from codeclens.models.qwen.vision import VisionModel
from codeclens.models.qwen.weights import text_tensors, vision_tensors
from codeclens.models.source.pictures import open_picture
from codeclens.models.source.reading import VideoSource
from codeclens.models.video.gop import GopPlan
from PIL import Image
from support.gguf_files import TINY, write_mmproj, write_text

MEMORY = 6 << 30
"""Bytes of address space, of which torch's libraries take half."""

SECONDS = 20

Target = Callable[[bytes, Path], None]


def pictures() -> list[bytes]:
    """A small picture in every format that Pillow writes, some with EXIF, frames and alpha."""
    rgb = np.random.default_rng(0).integers(0, 256, (36, 52, 3), np.uint8)
    rgb[8:24, 8:40] = 200
    colour, grey, alpha = Image.fromarray(rgb), Image.fromarray(rgb[..., 0]), Image.fromarray(rgb).convert("RGBA")
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [colour.rotate(90, expand=False)] * 2, "duration": 40}
    deep, floats = Image.fromarray(rgb[..., 0].astype("u2") * 257), Image.fromarray(rgb[..., 0] / np.float32(255))
    packed = {"compression": "tiff_lzw"}
    written = [
        (colour, "PNG", {"exif": exif}), (alpha, "PNG", frames), (deep, "PNG", {}), (colour, "JPEG", {"exif": exif}),
        (colour, "WEBP", {"exif": exif}), (alpha, "WEBP", frames), (colour.convert("P"), "GIF", frames),
        (colour, "AVIF", {"exif": exif}), (colour, "TIFF", packed), (floats, "TIFF", {}), (colour, "BMP", {}),
        (colour, "PPM", {}), (colour, "JPEG2000", {}), (colour, "ICO", {}), (colour, "DDS", {}), (colour, "SGI", {}),
        (grey, "PCX", {}), (alpha, "TGA", {}), (colour, "QOI", {}),
    ]  # fmt: skip
    files = []
    for image, kind, options in written:
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    return files


def see(data: bytes, folder: Path) -> None:
    open_picture(data, "the picture").rgb((32, 32))
    source = VideoSource.open(data, name="the picture")
    if source.info.codec in ("png", "webp", "gif", "jpeg", "avif", "tiff", "bmp"):
        source.read(size=(32, 32))


def models() -> list[bytes]:
    """A language model and a tower, whole but for most of their weights."""
    with tempfile.TemporaryDirectory() as folder:
        text = write_text(Path(folder) / "m.gguf", replace(TINY, layers=1), "Q8_0").read_bytes()
        return [text, write_mmproj(Path(folder) / "t.gguf", TINY, "Q8_0").read_bytes()]


def load(data: bytes, folder: Path) -> None:
    path = folder / "model.gguf"
    path.write_bytes(data)
    file = read_gguf(path)
    if file.architecture == "clip":
        config = read_vision_config(file)
        vision_tensors(VisionModel(config, device="meta"), file)
    else:
        config = read_text_config(file)
        require_vocabulary(file, config, read_tokenizer(file))
        text_tensors(TextModel(config, device="meta"), file)


def texts() -> list[bytes]:
    """Presets, tasks, costs, rubrics and plans."""
    preset = {"title": "a", "prompt": "b", "max_tokens": 60, "schema": {"type": "object", "properties": {"a": True}}}
    asked = {"question": "q", "answer": "yes", "choices": ["yes", "no"]}
    task = {"clip": "a.mp4", "questions": [asked], "content": "c"}
    plan = {"file": "a", "kind": "IPP", "gamma": 0.5, "pcost": [0, 0.1, 0.2], "pts": [0, 0.5, 1], "index": [0, 1, 2]}
    rubric = {"title": "r", "questions": [{"name": "a", "ask": "Is it good?", "good": "yes", "weight": 1}]}
    return [json.dumps(value).encode() for value in (preset, task, [0, 0.5, 0.25, 1e3], plan, rubric)]


def read(data: bytes, folder: Path) -> None:
    path = folder / "text.json"
    path.write_bytes(data)
    refused = []
    for reader in (read_preset, read_tasks, read_rubric, lambda path: read_costs(str(path)), _plan):
        try:
            reader(path)
        except InputError as error:
            refused.append(error)
    if len(refused) == 5:
        raise refused[0]


def _plan(path: Path) -> None:
    GopPlan.from_json(path.read_bytes())


KINDS: dict[str, tuple[Callable[[], list[bytes]], Target]] = {
    "picture": (pictures, see), "gguf": (models, load), "json": (texts, read),
}  # fmt: skip
WORDS = (
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"[" * 3000, b"\\ud800", b"\0", b"NaN", b"-1", b"1e999",
    b"{}",
)  # fmt: skip
"""What is written over or into a file."""


def mutated(files: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Files with changed, missing, doubled and foreign bytes, most of them near the beginning."""
    draw = random.Random(seed)
    for _ in range(count):
        data = bytearray(draw.choice(files))
        for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
            reach = draw.choice((64, 512, len(data)))
            at = draw.randrange(max(1, min(reach, len(data))))
            kind = draw.randrange(6)
            if kind == 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            elif kind == 1:
                data[at : at + 1] = bytes([(data[at] if at < len(data) else 0) ^ 1 << draw.randrange(8)])
            elif kind == 2:
                del data[at + draw.randrange(64) :]
            elif kind == 3:
                del data[at : at + draw.randrange(1, 16)]
            elif kind == 4:
                word = draw.choice(WORDS)
                data[at : at + (len(word) if draw.random() < 0.5 else 0)] = word
            else:
                other = draw.choice(files)
                start = draw.randrange(len(other))
                data[at:at] = other[start : start + draw.randrange(1, 64)]
        yield bytes(data)


class TookTooLong(BaseException):
    """Raised by the alarm; no except clause of a reader catches it."""


def stop(signum, frame):
    raise TookTooLong


def main(kind: str, seed: int, count: int) -> dict[str, int]:
    """Outcomes of ``count`` inputs by their names: 'success', 'InputError', or what else was raised."""
    make, target = KINDS[kind]
    files = make()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, stop)
    outcomes: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        for number, data in enumerate(mutated(files, seed, count)):
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                target(data, Path(name))
                outcome = "success"
            except InputError as error:
                outcome = "InputError" if "\n" not in str(error) else "InputError of several lines"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {str(error)[:80]}"
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            outcomes[outcome] += 1
            if outcome not in ("success", "InputError") and (keep := os.environ.get("FUZZ_KEEP")):
                (Path(keep) / f"{kind}-{seed}-{number}.bin").write_bytes(data)
    return dict(outcomes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
