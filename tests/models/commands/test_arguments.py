"""Options outside of their range, streams that fail, interruptions: one line on standard error and the right code."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from codeclens.__main__ import main
from codeclens.models.errors import InputError, one_line
from codeclens.models.qwen.generate import LIMITS, SamplingParams
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import FrameSampling, VideoSource

WRONG = [
    *(("ask", "clip", "Hi", "--temperature", value) for value in ("nan", "inf", "-1", "1e-38", "1e-45", "warm")),
    *(("ask", "clip", "Hi", "--repetition-penalty", value) for value in ("nan", "0", "1e-40")),
    *(("ask", "clip", "Hi", option, "nan") for option in ("--presence-penalty", "--top-p", "--min-p", "--drop")),
    *(("ask", "clip", "Hi", "--max-tokens", value) for value in ("0", "-5", "1e3")),
    *(("caption", "clip", "--side", value) for value in ("0", "-5", "17000", "100000")),
    *(("caption", "clip", "--fps", value) for value in ("nan", "-1", "inf")),
    ("describe", "Hi", "--max-tokens", "0"),
    ("describe", "picture", "Hi", "--image-tokens", "0"),
    ("describe", "picture", "Hi", "--image-tokens", "-3"),
    ("describe", "Hi", "--seed", "-2"),
    ("describe", "Hi", "--seed", str(1 << 64)),
    ("plan", "clip", "--budget", "0"),
    ("plan", "clip", "--cap", "-1"),
    ("plan", "clip", "--side", "17000"),
    ("motion", "clip", "--png", "p.png", "--at", "nan"),
    ("measure", "clip", "--fps", "nan"),
    ("synth", "folder", "--n", "0"),
    ("synth", "folder", "--seconds", "nan"),
    ("train-tiny", "folder", "--minutes", "nan"),
    ("no-such-command",),
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_an_option_outside_of_its_range_is_one_line(arguments, capsys):
    assert main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1 and said.err.startswith("codeclens: argument ")


@pytest.mark.parametrize("device", ["foo", "meta", "mps", "cpu:0", "cuda:x", "cuda:999"])
def test_a_device_that_there_is_not_is_one_sentence(device):
    with pytest.raises(InputError, match=f"^the device is '{device}'"):
        load_placed("model.gguf", device=device)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", LIMITS)
def test_no_range_lets_nan_pass(name, value):
    with pytest.raises(InputError, match=rf"^sampling: {name} is -?(nan|inf); it must be "):
        SamplingParams(**{name: value})


def test_ranges_of_clips_let_no_nan_pass(demo_clip):
    for window in ({"start": float("nan")}, {"duration": float("nan")}, {"start": float("inf")}):
        with pytest.raises(InputError, match="give 0 or more for both"):
            VideoSource.open(demo_clip, **window)
    with pytest.raises(InputError, match="give a rate above 0"):
        FrameSampling.by_fps(float("nan"))
    assert main(["plan", str(demo_clip), "--gamma", "nan"]) == 2


def test_a_drawn_seed_is_printed(capsys):
    assert main(["describe", "Hi", "--seed", "-1", "--max-tokens", "1"]) == 0
    first, *_ = capsys.readouterr().err.splitlines()
    assert first.startswith("codeclens: seed ") and 0 <= int(first.split()[-1]) < 1 << 32


def test_a_console_without_a_character_shows_its_number(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1252"))
    assert main(["kernels"]) == 0
    print("\u65e5\u672c", flush=True)
    assert written.getvalue().strip().endswith(rb"\u65e5\u672c")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_output_is_one_line(monkeypatch, capsys):
    with open("/dev/full", "w") as full:  # closing it flushes once more, as Python does at its end
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["kernels"]) == 1
    assert capsys.readouterr().err == "codeclens: standard output: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of POSIX")
def test_a_closed_pipe_is_one_line():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "codeclens", "kernels"], stdout=writing, stderr=subprocess.PIPE, timeout=120
    )
    os.close(writing)
    assert done.returncode == 141
    assert done.stderr == b"codeclens: standard output was closed before everything was written\n"


def interrupted(when):
    """``codeclens kernels``, which interrupts itself there."""
    script = Path(__file__).parents[2] / "support" / "interrupted_command.py"
    return subprocess.run([sys.executable, script, when], capture_output=True, timeout=120)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("module", ["torch", pytest.param("codeclens.models.commands.kernels", marks=pytest.mark.slow)])
def test_an_interruption_during_imports_is_one_line(module):
    done = interrupted(module)
    assert (done.returncode, done.stderr) == (130, b"codeclens: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interruption_after_the_command_changes_nothing():
    done = interrupted("end")
    assert (done.returncode, done.stderr) == (0, b"")


def test_names_of_a_file_cannot_write_lines_of_their_own():
    assert one_line("a\nloads: yes\x1b[2K\r\u202e") == r"a loads: yes\x1b[2K \u202e"
