"""Files written whole or not at all."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.files import append_row, make_folder, write_text, writing
from safetensors.torch import save_file
from support.clips import encode, numbered

posix = pytest.mark.skipif(os.name != "posix", reason="files of POSIX")


def test_a_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "clip.mp4"
    with writing(path) as partial:
        partial.write_bytes(b"whole")
        assert partial.parent == path.parent and not path.exists()
    assert path.read_bytes() == b"whole"
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.mp4"]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "plan.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError, match="stopped"), writing(path) as partial:
        partial.write_text("half of the ne")
        raise RuntimeError("stopped")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_what_the_system_refuses_is_one_sentence_with_the_file(tmp_path):
    path = tmp_path / "missing" / "plan.json"
    with pytest.raises(InputError, match=r"plan\.json cannot be written: No such file or directory"):
        write_text(path, "new")


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "caption.txt", "caf\u00e9")
    assert (tmp_path / "caption.txt").read_bytes() == b"caf\xc3\xa9"


def test_half_a_surrogate_pair_is_written_as_its_escape(tmp_path):
    """A finished evaluation was lost to one of them."""
    write_text(tmp_path / "report.json", '{"answer": "\ud83d"}')
    assert (tmp_path / "report.json").read_bytes() == rb'{"answer": "\ud83d"}'


@posix
def test_a_link_is_written_through_and_permissions_are_kept(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "plan.json").write_text("old")
    (tmp_path / "real" / "plan.json").chmod(0o640)
    (tmp_path / "plan.json").symlink_to("real/plan.json")
    (tmp_path / "new.json").symlink_to("real/new.json")
    for name in ("plan.json", "new.json"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).is_symlink() and (tmp_path / "real" / name).read_text() == "new"
    assert stat.S_IMODE((tmp_path / "real" / "plan.json").stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path / "real")) == ["new.json", "plan.json"]


@posix
def test_what_is_no_regular_file_is_left_alone(tmp_path):
    """/dev/full was turned into a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", "/dev/full"):
        with pytest.raises(InputError, match="is a folder or a device; give the name of a file"):
            write_text(path, "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_a_name_that_cannot_be_is_one_sentence(tmp_path):
    for name in ("a" * 300, "\u65e5" * 100):
        with pytest.raises(InputError, match="cannot be written: File name too long"):
            write_text(tmp_path / name, "new")
    with pytest.raises(InputError, match="cannot be made a folder"):
        make_folder(tmp_path / "a\0b")
    write_text(tmp_path / ("\u65e5" * 80), "as long as a name may be")
    assert len(os.listdir(tmp_path)) == 1


FULL = """
import resource, signal, sys, torch
from codeclens.models.errors import InputError
from codeclens.models.files import write_text, writing
from safetensors.torch import save_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, 1 << 12))
def checkpoint(path):
    with writing(path) as partial:
        save_file({"a": torch.zeros(1 << 16)}, partial)
for write in (lambda path: write_text(path, "x" * (1 << 16)), checkpoint):
    try:
        write(sys.argv[1] + "/report.json")
    except InputError as error:
        print(error)
"""


@posix
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path):
    """Files may have 4 kB: what a full disk does to a text and to a checkpoint."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all("report.json cannot be written: " in line for line in lines)
    assert not list(tmp_path.iterdir())


REFUSED = Path(__file__).parents[1] / "support" / "refused_folder.py"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "reason"), [("read-only", "Read-only file system"), ("full", "No space left on dev")])
def test_every_writer_says_in_one_sentence_that_it_cannot_and_leaves_nothing(tmp_path, kind, reason):
    """A file system of 256 kB, mounted for this alone. Folders that were made for the files stay."""
    alone = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*alone, "mount", "-t", "tmpfs", "a", "/mnt"]).returncode:
        pytest.skip("no file system may be mounted here")
    (tmp_path / "folder").mkdir()
    (tmp_path / "clip.mp4").write_bytes(encode(numbered(8, 64, 96), fps=8))
    command = [*alone, sys.executable, REFUSED, kind, tmp_path / "folder", tmp_path / "clip.mp4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 18
    for name, (code, said, left) in found.items():
        last = said.splitlines()[-1]
        assert code == 2 and reason in last and "folder/" in last and left == [], (name, code, said, left)
        assert all(line.startswith("codeclens: ") for line in said.splitlines()), said


WRITE = "import sys; from codeclens.models.files import write_text; write_text(sys.argv[1], sys.argv[2] * 100000)"


def test_several_may_write_one_file_at_once(tmp_path):
    path = tmp_path / "report.json"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE, str(path), letter]) for letter in "abcd"]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(set(path.read_text())) == 1 and len(path.read_text()) == 100000
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_checkpoint_in_no_folder_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="cannot be written"), writing(tmp_path / "gone" / "a.safetensors") as partial:
        save_file({"a": torch.zeros(3)}, partial)


def test_a_row_is_a_line_and_a_refusal_names_the_log(tmp_path):
    for step in range(2):
        append_row(tmp_path / "log.jsonl", {"step": step})
    assert (tmp_path / "log.jsonl").read_text(encoding="utf-8") == '{"step": 0}\n{"step": 1}\n'
    with pytest.raises(InputError, match="^" + re.escape(f"{tmp_path} cannot be written: ")):
        append_row(tmp_path, {})
