"""The shared real clips captioned in every format, read back as the trainers' documentation says.

Sources of the readers: musubi-tuner ``docs/dataset_config.md`` (caption text files, metadata JSONL), Lightricks' LTX
trainer (CSV, JSON and JSONL of caption and media_path, relative to the file).
"""

import csv
import json
import shutil
from pathlib import Path

import pytest
from codeclens.__main__ import main
from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.tables import EXTENSIONS, FORMATS

pytestmark = pytest.mark.slow


def musubi_directory(folder: Path) -> dict[Path, str]:
    """``video_directory`` and ``image_directory``: a text file with the same name and another extension."""
    found = {}
    for text in folder.glob("*.txt"):
        (media,) = (path for path in folder.iterdir() if path.stem == text.stem and path != text)
        found[media.resolve()] = text.read_text(encoding="utf-8").strip()
    return found


def musubi_jsonl(file: Path) -> dict[Path, str]:
    """``video_jsonl_file`` and ``image_jsonl_file``: an object a line; relative paths count from the file at last."""
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        assert set(row) in ({"video_path", "caption"}, {"image_path", "caption"})
        path = Path(row.get("video_path") or row["image_path"])
        found[(path if path.exists() else file.parent / path).resolve()] = row["caption"]
    return found


def ltx(file: Path) -> dict[Path, str]:
    """Columns ``caption`` and ``media_path``; paths count from the file's folder."""
    with open(file, encoding="utf-8", newline="") as stream:
        if file.suffix == ".csv":
            rows = list(csv.DictReader(stream))
        else:
            rows = json.load(stream) if file.suffix == ".json" else [json.loads(line) for line in stream]
    return {(file.parent / row["media_path"]).resolve(): row["caption"] for row in rows}


def bulk(file: Path) -> dict[Path, str]:
    """A line for each clip: its name, a colon and the caption."""
    pairs = (line.split(": ", 1) for line in file.read_text(encoding="utf-8").splitlines())
    return {(file.parent / name).resolve(): caption for name, caption in pairs}


READERS = {"musubi": musubi_jsonl, "ltx-csv": ltx, "ltx-json": ltx, "ltx-jsonl": ltx, "bulk": bulk}


@pytest.fixture(scope="module")
def captioned(clips, tmp_path_factory):
    """The folder of the clips with a .txt beside each, and the names of those that cannot be read."""
    folder = tmp_path_factory.mktemp("real") / "clips"
    folder.mkdir()
    for item in find_items(clips, recursive=False):
        shutil.copyfile(item.path, folder / item.path.name)
    main(["caption", str(folder), "--max-tokens", "40"])
    return folder


def test_every_clip_that_has_frames_has_one_line(captioned):
    found, items = musubi_directory(captioned), find_items(captioned)
    assert len(items) >= 15 and set(found) == {item.path.resolve() for item in items}
    assert all(caption and "\n" not in caption for caption in found.values())


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "txt"])
def test_every_format_reads_back_to_the_same_captions(form, captioned, tmp_path, capsys):
    """From the journal: the model captions nothing twice for another format."""
    file = tmp_path / f"captions.{EXTENSIONS[form]}"
    arguments = ["caption", str(captioned), "--max-tokens", "40", "--format", form, "--out", str(file)]
    assert main(arguments) == 0
    assert "0 done, " in capsys.readouterr().err
    assert READERS[form](file) == musubi_directory(captioned)
