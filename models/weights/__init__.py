"""The model that comes with the pack: CodecLens-Tiny, trained by ``codeclens train-tiny`` (its card lies beside it)."""

from pathlib import Path

from ..errors import InputError

NAME = "CodecLens-Tiny"
FOLDER = Path(__file__).parent

SIDE = 128
"""It has learned from whole pictures of about ``SIDE`` x ``SIDE`` pixels ..."""

FPS = 4.0
"""... and from about so many of them a second."""

MODE = "cells"
"""The mode of few tokens in which it answers best (README has the table)."""


def is_embedded(path: str | Path) -> bool:
    """Whether ``path`` is the embedded language model, by its name."""
    return Path(path).name == embedded_pair()[0].name


def embedded_pair() -> tuple[Path, Path]:
    """The embedded model's two files, language and vision; raises InputError where they are not installed."""
    pair = FOLDER / f"{NAME}-Q8_0.gguf", FOLDER / f"mmproj-{NAME}-Q8_0.gguf"
    for path in pair:
        if not path.is_file():
            raise InputError(f"{path} is missing, so there is no embedded model; give the files of another one")
    return pair


def embedded_code(mode: str) -> Path | None:
    """The learned code that was trained for the embedded model in a mode; None where none is shipped."""
    path = FOLDER / f"{NAME}-{mode}.safetensors"
    return path if path.is_file() else None
