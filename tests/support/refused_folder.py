"""Write everything that the commands and the codec write into a folder that is read-only or full; print what came.

    unshare -rm python refused_folder.py read-only|full FOLDER CLIP      (a mount of its own, gone when this ends)

Prints JSON: for each writer its exit code or error, what it said, and what it left in the folder.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.__main__ import main
from codeclens.models.code.calibration import Calibration, save
from codeclens.models.errors import InputError
from codeclens.models.gvc.stores import LatentFiles
from codeclens.models.video.lossless import LosslessWriter

SIZE = 256 << 10


def mount(kind: str, folder: Path, clip: Path) -> None:
    """A file system of 256 kB with a clip in a folder ``clips``, then closed to writing or filled."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    (folder / "clips").mkdir()
    (folder / "clips" / "clip.mp4").write_bytes(clip.read_bytes())
    if kind == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        return
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(512))


def commands(folder: Path, clip: Path) -> dict[str, list[str]]:
    """Each command that writes, and where to."""

    def at(name):
        return str(folder / name)

    clips, small = at("clips"), ["--fps", "1", "--side", "64"]
    tasks = folder.parent / "tasks.jsonl"
    asked = {"clip": str(clip), "question": "What?", "answer": "a", "choices": ["a", "b"]}
    tasks.write_text(json.dumps(asked) + "\n")
    return {
        "plan --json": ["plan", str(clip), "--fps", "1", "--json", at("a.json")],
        "plan --png": ["plan", str(clip), "--fps", "1", "--png", at("a.png")],
        "motion --png": ["motion", str(clip), "--fps", "4", "--png", at("a.png"), "--at", "0.25"],
        "cuts --json": ["cuts", str(clip), "--json", at("a.json")],
        "measure --csv": ["measure", str(clip), "--csv", at("a.csv")],
        "measure folder": ["measure", clips],
        "caption --json": ["caption", str(clip), *small, "--max-tokens", "2", "--json", at("a.json")],
        "caption folder": ["caption", clips, *small, "--max-tokens", "2"],
        "ask --json": ["ask", str(clip), "What?", *small, "--max-tokens", "2", "--json", at("a.json")],
        "judge --csv": ["judge", str(clip), *small, "--csv", at("a.csv")],
        "judge --html": ["judge", str(clip), *small, "--html", at("a.html")],
        "evaluate --json": ["evaluate", str(tasks), *small, "--modes", "keyframes", "--json", at("a.json")],
        "evaluate --html": ["evaluate", str(tasks), *small, "--modes", "keyframes", "--html", at("a.html")],
        "synth": ["synth", at("clips"), "--n", "1", "--size", "64x64", "--seconds", "2"],
        "demo": ["demo", at("demo")],
    }  # fmt: skip


def lossless(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    with LosslessWriter(folder / "a.mp4", (64, 64), Fraction(24)) as file:
        for start in range(40):
            file.write(noise, np.arange(2) / 24 + start)


NOTHING = Calibration(*[(0.0,)] * 5)

WRITERS = {
    "latents of unfinished GOPs": lambda folder: LatentFiles(folder, "a").save(0, torch.zeros(1 << 14), ""),
    "calibration": lambda folder: save(NOTHING, {}, folder / "costs"),
    "decoded pictures": lossless,
}


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def run(writer, folder: Path) -> list:
    """[exit code, what was said on standard error]."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(writer) if isinstance(writer, list) else writer(folder)
        except InputError as error:
            code, said = 2, io.StringIO(f"codeclens: {error}\n")
        except Exception as error:
            code, said = -1, io.StringIO(f"{type(error).__name__}: {error}")
    return [code, said.getvalue()]


if __name__ == "__main__":
    kind, folder, clip = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    os.environ["XDG_CACHE_HOME"] = str(folder.parent / "cache")
    mount(kind, folder, clip)
    torch.set_num_threads(1)
    before, found = listing(folder), {}
    for name, writer in {**commands(folder, clip), **WRITERS}.items():
        found[name] = [*run(writer, folder), [path for path in listing(folder) if path not in before]]
    print(json.dumps(found))
