"""The clips and images of a folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ..errors import InputError

VIDEOS = frozenset(
    [".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".flv", ".wmv", ".asf"]
    + [".ogv", ".3gp", ".gif", ".apng"]
)
IMAGES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif"])

REPEATS = re.compile(r"^(\d+)_(.+)$")
"""kohya's folders: '10_cat' shows what it holds ten times an epoch."""


@dataclass(frozen=True, slots=True)
class Item:
    """A file of a folder job.

    Attributes:
        path: the file.
        name: its path from the job's folder, with forward slashes.
        kind: 'video' or 'image'.
        repeats: how often a trainer shows it in an epoch, from kohya's folder names; 1 elsewhere.
    """

    path: Path
    name: str
    kind: str
    repeats: int = 1


def find_items(folder: Path, recursive: bool = True, exclude: Sequence[str] = (), images: bool = True) -> list[Item]:
    """The clips and images under ``folder``, sorted by name; hidden files and folders are left out.

    Args:
        exclude: patterns such as 'draft*' or 'old/*', held against the name and the last part of it.
        images: find images as well as clips.

    Raises:
        InputError: there is no such folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give a folder of clips")
    found = []
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        name = path.relative_to(folder).as_posix()
        kind = kind_of(path)
        if kind is None or (kind == "image" and not images) or not path.is_file():
            continue
        if any(part.startswith(".") for part in name.split("/")) or excluded(name, exclude):
            continue
        found.append(Item(path, name, kind, repeats_of(path.parent.name)))
    if not found:
        raise InputError(f"{folder} holds no clip" + (" or image" if images else "") + " that is not excluded")
    return found


def kind_of(path: Path) -> str | None:
    """'video' or 'image' by the file's extension, None for another one. WebP and PNG count as images here."""
    suffix = path.suffix.lower()
    return "video" if suffix in VIDEOS else "image" if suffix in IMAGES else None


def excluded(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) or fnmatch(name.rpartition("/")[2], pattern) for pattern in patterns)


def repeats_of(folder: str) -> int:
    match = REPEATS.match(folder)
    return int(match[1]) if match else 1
