"""Captions of a whole folder in one file, as trainers read them.

Sources: musubi-tuner ``docs/dataset_config.md`` (JSONL of video_path or image_path and caption), Lightricks' LTX
trainer ``docs/dataset-preparation.md`` (CSV, JSON or JSONL of caption and media_path, relative to the file).
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..files import write_text

FORMATS = ("txt", "musubi", "ltx-csv", "ltx-json", "ltx-jsonl", "bulk")
"""'txt' is a file beside each clip; the others are one file for the folder."""

EXTENSIONS = {"musubi": "jsonl", "ltx-csv": "csv", "ltx-json": "json", "ltx-jsonl": "jsonl", "bulk": "txt"}


class Captioned(NamedTuple):
    """A clip or image with its captions."""

    path: Path
    kind: str
    captions: tuple[str, ...]


def write_table(path: Path, rows: Sequence[Captioned], form: str) -> None:
    """Write the captions of a folder to one file, whole or not at all; each caption of a clip has a row."""
    write_text(path, table_text(path, rows, form))


def table_text(path: Path, rows: Sequence[Captioned], form: str) -> str:
    """What :func:`write_table` writes to ``path``; paths in it are relative to its folder, musubi's absolute."""
    flat = [(row, caption) for row in rows for caption in row.captions]
    if form == "musubi":
        return _lines({f"{row.kind}_path": row.path.resolve().as_posix(), "caption": caption} for row, caption in flat)
    pairs = [{"caption": caption, "media_path": _relative(row.path, path)} for row, caption in flat]
    if form == "ltx-json":
        return json.dumps(pairs, ensure_ascii=False, indent=1) + "\n"
    if form == "ltx-jsonl":
        return _lines(pairs)
    if form == "ltx-csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, ["caption", "media_path"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(pairs)
        return text.getvalue()
    return "".join(f"{pair['media_path']}: {' '.join(pair['caption'].split())}\n" for pair in pairs)


def _lines(objects) -> str:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in objects)


def _relative(media: Path, table: Path) -> str:
    return Path(os.path.relpath(media.resolve(), table.resolve().parent)).as_posix()
