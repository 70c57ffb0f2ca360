"""The folder engine: killed at any moment and resumed, two at once, broken clips, files of others."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from codeclens.models.dataset import job as job_module
from codeclens.models.dataset import journal as journal_module
from codeclens.models.dataset.items import Item, find_items
from codeclens.models.dataset.job import Work, run
from codeclens.models.dataset.journal import NAME, open_journal, parse_rows
from codeclens.models.dataset.on_ray import Worker, result_of, row_of
from codeclens.models.dataset.sidecars import write_sidecar
from codeclens.models.errors import InputError
from hypothesis import given, settings
from hypothesis import strategies as st

WORKER = Path(__file__).parents[2] / "support" / "folder_worker.py"


def folder_of(path: Path, count: int, broken: int = 0) -> Path:
    path.mkdir(parents=True)
    for number in range(count):
        kind = "broken" if number < broken else "good"
        (path / f"clip{number:02}.mp4").write_text(f"{kind} {number}")
    return path


def caption_of(item: Item) -> str:
    return f"a caption of {item.path.read_text()}"


def counting_work(calls: list, words: str = "") -> Work:
    def prepare(item):
        if item.path.read_text().startswith("broken"):
            raise InputError(f"{item.name} is no video")
        return item.path.read_text()

    def finish(item, prepared):
        calls.append(item.name)
        return {"text": f"a caption of {prepared}{words}"}

    def sidecars(item, result):
        return [(item.path.with_suffix(".txt"), result["text"] + "\n")]

    return Work("caption", {"words": words}, prepare, finish, sidecars)


def run_job(folder: Path, work: Work, existing: str = "skip"):
    with open_journal(folder / NAME) as journal:
        return run(find_items(folder), work, journal, existing)


def check_whole(folder: Path, count: int, broken: int, words: str = "") -> None:
    for number in range(count):
        sidecar = folder / f"clip{number:02}.txt"
        if number < broken:
            assert not sidecar.exists()
        else:
            assert sidecar.read_text() == f"a caption of good {number}{words}\n"
    assert not list(folder.glob("*.part")) and not list(folder.glob(".*.part"))


def test_every_clip_is_done_once_and_a_broken_one_is_a_row(tmp_path):
    folder, calls = folder_of(tmp_path / "f", 6, broken=2), []
    first = run_job(folder, counting_work(calls))
    assert (first.done, first.kept, first.failed) == (4, 0, 2)
    assert first.errors[0] == ("clip00.mp4", "clip00.mp4 is no video")
    second = run_job(folder, counting_work(calls))
    assert (second.done, second.kept, second.failed) == (0, 4, 2) and len(calls) == 4
    check_whole(folder, 6, 2)
    (folder / "clip00.mp4").write_text("good 0")
    third = run_job(folder, counting_work(calls))
    assert (third.done, third.kept, third.failed) == (1, 4, 1)


def test_other_settings_and_other_content_are_done_again(tmp_path):
    folder, calls = folder_of(tmp_path / "f", 3), []
    run_job(folder, counting_work(calls))
    assert run_job(folder, counting_work(calls, " more")).done == 3
    check_whole(folder, 3, 0, " more")
    (folder / "clip01.mp4").write_text("good 1 changed")
    assert run_job(folder, counting_work(calls, " more")).done == 1
    assert run_job(folder, counting_work(calls)).done == 1, "the first settings are known but for the changed clip"


class Crash(BaseException):
    """The process dies here."""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 1000))
def test_killed_at_any_write_and_resumed_it_ends_whole(tmp_path_factory, kills, seed):
    chance = random.Random(seed)
    folder, calls = folder_of(tmp_path_factory.mktemp("k") / "f", 6, broken=1), []
    originals = os.write, os.replace, os.fsync

    def die_after(count):
        left = itertools.count(count, -1)

        def dying(function, torn=False):
            def call(*arguments):
                if next(left) == 0:
                    if torn:
                        originals[0](arguments[0], arguments[1][: chance.randrange(len(arguments[1]))])
                    raise Crash
                return function(*arguments)

            return call

        os.write, os.replace, os.fsync = dying(os.write, True), dying(os.replace), dying(os.fsync)

    for count in kills:
        die_after(count)
        try:
            run_job(folder, counting_work(calls))
        except Crash:
            pass
        finally:
            os.write, os.replace, os.fsync = originals
        for sidecar in folder.glob("*.txt"):
            assert sidecar.read_text().startswith("a caption of good"), "half a file is never there"
    summary = run_job(folder, counting_work(calls))
    assert summary.done + summary.kept == 5 and summary.failed == 1 and not summary.left_alone
    check_whole(folder, 6, 1)
    assert len(calls) <= 5 + len(kills), "a clip is done again only where the process died before its row"


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")
def test_fifty_clips_killed_with_sigkill_twenty_times(tmp_path):
    folder, chance = folder_of(tmp_path / "f", 50, broken=5), random.Random(7)
    command = [sys.executable, str(WORKER), str(folder)]
    for _ in range(20):
        process = subprocess.Popen(command)
        time.sleep(0.3 + chance.random() * 0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True)
    check_whole(folder, 50, 5)
    rows, whole = parse_rows(folder / NAME, (folder / NAME).read_bytes())
    assert whole == (folder / NAME).stat().st_size
    done = [row["name"] for row in rows if "result" in row]
    assert sorted(done) == sorted(f"clip{number:02}.mp4" for number in range(5, 50)), "nothing lost, nothing done twice"


def test_a_second_job_on_the_folder_says_so(tmp_path):
    folder = folder_of(tmp_path / "f", 2)
    with open_journal(folder / NAME), pytest.raises(InputError, match="in use by another job"):
        run_job(folder, counting_work([]))


def test_files_of_others_are_left_alone_unless_asked(tmp_path):
    folder, mine = folder_of(tmp_path / "f", 3), "a cat, by hand"
    (folder / "clip01.txt").write_text(mine)
    left = run_job(folder, counting_work([])).left_alone
    assert left == [folder / "clip01.txt"] and left[0].read_text() == mine
    run_job(folder, counting_work([]), "append")
    assert left[0].read_text() == "a cat, by hand, a caption of good 1\n"
    run_job(folder, counting_work([], " again"), "skip")
    assert left[0].read_text() == "a cat, by hand, a caption of good 1 again\n", "joined to the same text again"
    run_job(folder, counting_work([], " once more"), "prepend")
    assert left[0].read_text() == "a caption of good 1 once more, a cat, by hand\n"
    run_job(folder, counting_work([]), "overwrite")
    assert left[0].read_text() == "a caption of good 1\n"


def test_a_caption_that_was_edited_by_hand_is_not_ours_any_more(tmp_path):
    folder = folder_of(tmp_path / "f", 1)
    run_job(folder, counting_work([]))
    (folder / "clip00.txt").write_text("edited")
    summary = run_job(folder, counting_work([], " new"))
    assert summary.left_alone and (folder / "clip00.txt").read_text() == "edited"


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"name": "a"}', '{"name": 1, "hash": "h", "settings": "s", "result": {}}']
)
def test_a_journal_that_cannot_be_read_stops_the_job_and_stays(tmp_path, line):
    folder = folder_of(tmp_path / "f", 2)
    run_job(folder, counting_work([]))
    path = folder / NAME
    spoilt = path.read_text().replace("\n", f"\n{line}\n", 1)
    path.write_text(spoilt)
    with pytest.raises(InputError, match="line 2 is not a row"):
        run_job(folder, counting_work([]))
    assert path.read_text() == spoilt


def test_two_files_that_want_one_sidecar_are_said(tmp_path):
    folder = folder_of(tmp_path / "f", 1)
    (folder / "clip00.mov").write_text("good other")
    summary = run_job(folder, counting_work([]))
    assert summary.done == 1 and "file of clip00.mov as well" in summary.errors[0][1]


def test_a_full_disk_stops_the_job_in_one_sentence_and_leaves_a_whole_journal(tmp_path, monkeypatch):
    folder = folder_of(tmp_path / "f", 3)

    def full(descriptor, data):
        os_write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    os_write = os.write
    monkeypatch.setattr(journal_module.os, "write", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        run_job(folder, counting_work([]))
    monkeypatch.undo()
    assert run_job(folder, counting_work([])).done == 3
    check_whole(folder, 3, 0)


def test_the_next_clip_is_prepared_while_the_model_works(tmp_path):
    folder, events = folder_of(tmp_path / "f", 4), []

    def prepare(item):
        time.sleep(0.05)
        events.append(f"prepared {item.name}")

    def finish(item, prepared):
        time.sleep(0.1)
        events.append(f"finished {item.name}")
        return {}

    work = Work("caption", {}, prepare, finish)
    run_job(folder, work)
    assert events.index("prepared clip01.mp4") < events.index("finished clip00.mp4")
    assert events.index("prepared clip02.mp4") > events.index("prepared clip01.mp4")
    assert "prepared clip03.mp4" not in events[: events.index("finished clip01.mp4")], "one clip ahead, not more"


def test_cancelling_leaves_what_is_finished(tmp_path):
    folder, calls = folder_of(tmp_path / "f", 5), []

    def cancel(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with open_journal(folder / NAME) as journal, pytest.raises(KeyboardInterrupt):
        run(find_items(folder), counting_work(calls), journal, progress=cancel)
    assert len(calls) == 2
    assert run_job(folder, counting_work(calls)).done == 3 and len(calls) == 5


@given(st.text(min_size=1), st.text(min_size=1), st.sampled_from(["append", "prepend"]))
def test_joining_twice_is_joining_once(tmp_path_factory, old, new, joining):
    folder = tmp_path_factory.mktemp("j")
    path = folder / "a.txt"
    path.write_bytes(old.encode("utf-8", "replace"))
    with open_journal(folder / NAME) as journal:
        write_sidecar(path, new, journal, joining)
        once = path.read_bytes()
        write_sidecar(path, new, journal, joining)
    assert path.read_bytes() == once


def test_rows_are_strict_json(tmp_path):
    folder = folder_of(tmp_path / "f", 1)
    run_job(folder, counting_work([]))
    assert job_module.fingerprint({"a": 1, "b": 2}) == job_module.fingerprint({"b": 2, "a": 1})
    for line in (folder / NAME).read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


def test_an_actor_says_for_each_clip_what_went_wrong(tmp_path):
    """The worker of a run on Ray, without Ray: its model is missing, a clip is bad, or something raises."""
    folder, calls = folder_of(tmp_path / "f", 2, broken=1), []
    rows = [row_of(item, f"{item.name}.settings") for item in find_items(folder)]

    def missing():
        raise InputError("model.gguf is not there")

    for row in rows:
        assert Worker(missing)(row)["__error__"] == f"{row['name']}: model.gguf is not there"
    worker = Worker(lambda: counting_work(calls))
    assert worker(rows[0]) == {"id": rows[0]["id"], "result": "", "__error__": "clip00.mp4 is no video"}
    assert result_of(worker(rows[1])) == {"text": "a caption of good 1"}
    worker.work = Work("caption", {}, lambda item: 1 // 0, None)
    with pytest.raises(InputError, match="clip01.mp4: ZeroDivisionError: integer"):
        result_of(worker(rows[1]))
