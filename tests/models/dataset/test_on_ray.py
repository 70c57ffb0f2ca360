"""A folder job on a real Ray of this machine: two actors, one of them killed halfway, bad clips, runs that resume."""

import collections
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from codeclens.__main__ import main
from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.job import run
from codeclens.models.dataset.journal import NAME, open_journal
from codeclens.models.dataset.on_ray import RETRIES, Pool, on_ray
from codeclens.models.synthetic.clip_files import write_clips
from support.ray_worker import logging_work

pytestmark = pytest.mark.slow
PACKAGE = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def workers_find_the_package(monkeypatch, tmp_path):
    """As on a machine where the pack is installed; here the tests' support, too."""
    ray = pytest.importorskip("ray", reason="ray is not installed; pip install 'codeclens[ray]'")
    link = tmp_path / "path" / "codeclens"
    link.parent.mkdir()
    link.symlink_to(PACKAGE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(link.parent), str(PACKAGE / "tests")]))
    yield
    ray.shutdown()


def folder_of(path: Path, texts) -> Path:
    path.mkdir()
    for number, text in enumerate(texts):
        (path / f"clip{number:02}.mp4").write_text(text)
    return path


def lines_of(log: Path) -> list[tuple[int, str, str]]:
    lines = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(int(process), word, name) for process, word, name in lines]


def run_on_ray(folder: Path, log: Path, seconds=0.0, actors=2):
    remake = partial(logging_work, str(log), seconds)
    with open_journal(folder / NAME) as journal:
        return run(find_items(folder), remake(), journal, results=on_ray(remake, Pool(actors=actors)))


def test_an_actor_killed_halfway_loses_nothing_and_nothing_is_done_twice(tmp_path):
    folder, log = folder_of(tmp_path / "f", [f"good {n}" for n in range(16)]), tmp_path / "log"
    killed = []

    def kill():
        while sum(word == "end" for _, word, _ in lines_of(log)) < 6 or len({p for p, _, _ in lines_of(log)}) < 2:
            time.sleep(0.02)
        killed.append(lines_of(log)[-1][0])
        os.kill(killed[0], signal.SIGKILL)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    summary = run_on_ray(folder, log, seconds=0.4)
    killer.join(5)
    assert killed and (summary.done, summary.failed) == (16, 0)
    for number in range(16):
        assert (folder / f"clip{number:02}.txt").read_text() == f"a caption of good {number}\n"
    with open_journal(folder / NAME) as journal:
        rows = collections.Counter(row["name"] for row in journal.rows if "result" in row)
    assert set(rows.values()) == {1} and len(rows) == 16
    ends = collections.Counter(name for _, word, name in lines_of(log) if word == "end")
    again = [name for name, count in ends.items() if count > 1]
    # What the killed actor finished but had not yet handed over may run again; nothing else may.
    assert set(ends) == {f"clip{n:02}.mp4" for n in range(16)} and len(again) <= 1
    assert len({process for process, _, _ in lines_of(log)}) >= 3


def test_a_bad_clip_is_a_row_with_its_sentence_even_if_it_kills_its_actor(tmp_path):
    texts = ["broken", "raises", "deadly", "good", "good"]
    folder, log = folder_of(tmp_path / "f", texts), tmp_path / "log"
    summary = run_on_ray(folder, log, actors=1)
    assert (summary.done, summary.failed) == (2, 3)
    errors = dict(summary.errors)
    assert errors["clip00.mp4"] == "clip00.mp4 is no video"
    assert errors["clip01.mp4"] == "clip01.mp4: ZeroDivisionError: by nothing"
    assert "its worker died" in errors["clip02.mp4"]
    begun = [name for _, word, name in lines_of(log) if word == "begin"]
    assert begun.count("clip02.mp4") <= 1 + RETRIES and begun.count("clip03.mp4") == 1
    assert [row["name"] for row in summary.rows] == [f"clip{n:02}.mp4" for n in range(5)]


def test_runs_on_ray_and_here_resume_each_other(tmp_path, capsys):
    folder = tmp_path / "clips"
    write_clips(folder, range(3), (64, 64), seconds=1.0, fps=8)
    kept = folder / "train_000002.mp4"
    kept.rename(tmp_path / "later.mp4")
    command = ["measure", str(folder), "--json", str(tmp_path / "here.json")]
    assert main(command) == 0
    assert "2 done, 0 done before" in capsys.readouterr().err
    (tmp_path / "later.mp4").rename(kept)
    assert main([*command, "--ray"]) == 0
    assert "1 done, 2 done before" in capsys.readouterr().err
    assert main(command) == 0
    assert "0 done, 3 done before" in capsys.readouterr().err


def test_captions_on_ray_are_those_of_this_machine(tmp_path, capsys):
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        write_clips(folder, range(2), (64, 64), seconds=1.0, fps=8)
    assert main(["caption", str(folders[0])]) == 0
    assert main(["caption", str(folders[1]), "--ray"]) == 0
    assert "2 done" in capsys.readouterr().err
    texts = [{path.name: path.read_text() for path in folder.glob("*.txt")} for folder in folders]
    assert texts[0] == texts[1] and len(texts[0]) == 2
