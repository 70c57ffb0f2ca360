"""train-code from the command line, and what caption, ask and evaluate do with its file."""

import json

import pytest
from codeclens.__main__ import main
from codeclens.models.synthetic.clip_files import seeds_of, write_clips

QUICK = [
    "--align-steps", "1", "--answer-steps", "1", "--rows", "1", "--frames", "3", "--side", "64", "--rank", "2",
    "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, seeds_of("train", 0, 2), (64, 64), seconds=2, fps=8)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ptoken", "delta"])
def test_a_code_is_trained_and_read(clips, tmp_path, capsys, mode):
    out = tmp_path / "out"
    words = ["train-code", str(clips), str(out), "--mode", mode, *QUICK]
    assert main([*words, "--minutes", "0"]) == 0
    path = capsys.readouterr().out.strip()
    assert main(words) == 2 and "resume it" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert capsys.readouterr().out.strip() == path
    clip = str(next(clips.glob("*.mp4")))
    shown = ["--mode", mode, "--code", path, "--side", "64", "--json", "-"]
    assert main(["ask", clip, "What moves?", *shown, "--max-tokens", "3"]) == 0
    report = json.loads(capsys.readouterr().out)["answers"][0]["report"]
    assert report["mode"] == mode and {row["kind"] for row in report["frames"]} == {"I", "P"}
    assert main(["caption", clip, *shown, "--max-tokens", "3", "--window", "2"]) == 0
    rows = json.loads(capsys.readouterr().out)["report"]["frames"]
    assert any(len(row["frames"]) == 2 for row in rows)
    tasks = str(clips / "clips.jsonl")
    words = ["evaluate", tasks, "--modes", f"keyframes,{mode}", "--controls", "blind", "--side", "64", "--limit", "1"]
    assert main([*words, "--code", path, "--json", "-"]) == 0
    assert list(json.loads(capsys.readouterr().out)["modes"]) == ["keyframes", mode, f"{mode} blind"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train-code", "none", "out"], "none is not a folder"),
        (["train-code", "rendered", "out", "--questions", "a.jsonl"], "questions of their own"),
        (["train-code", "rendered", "out", "--align-steps", "0", "--answer-steps", "0"], "0 and 0 steps"),
        (["train-code", "rendered", "out", "--frames", "3", "--window", "2"], "twice as many"),
        (["train-code", "rendered", "out", "--start", "none.safetensors"], "none.safetensors"),
        (["ask", "CLIP", "What?", "--mode", "ptoken", "--code", "none.safetensors"], "none.safetensors"),
        (["ask", "CLIP", "What?", "--code", "a.safetensors"], "needs none"),
    ],
)
def test_wrong_words_are_one_line(clips, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    clip = str(next(clips.glob("*.mp4")))
    assert main([clip if word == "CLIP" else word for word in words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert message in error and not (tmp_path / "out").exists()
