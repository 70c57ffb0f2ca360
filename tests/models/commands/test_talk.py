"""caption and ask: text on standard output, all else on standard error, one line for what is wrong."""

import argparse
import json

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.commands.model import add_looking_options, add_model_options, sampling_of_clips, side_of
from codeclens.models.source.reading import FrameSampling
from codeclens.models.video.tokens import MODES
from support.clips import encode


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of a sliding pattern at 8 fps."""
    pattern = np.kron(np.random.default_rng(0).integers(0, 256, (6, 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    path = tmp_path_factory.mktemp("talk") / "slide.mp4"
    path.write_bytes(encode(np.stack([pattern[:, 4 * t : 4 * t + 128] for t in range(16)]), fps=8))
    return str(path)


@pytest.fixture(scope="module")
def model(qwen3vl_fixtures):
    return ["--model", str(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-F16.gguf"), "--side", "128"]


def test_caption_json_is_all_there_is_on_stdout(clip, model, capsys):
    assert main(["caption", clip, *model, "--max-tokens", "5", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    report = found["report"]
    assert set(found) == {"file", "text", "reasoning", "truncated", "report"}
    assert [row["frames"] for row in report["frames"]] == [[0], [4], [8], [12]]
    assert [row["time"] for row in report["frames"]] == [0.0, 0.5, 1.0, 1.5]
    assert report["frames"][0]["kind"] == "I"
    assert sum(row["tokens"] for row in report["frames"]) == report["visual_tokens"] == report["tokens"]["thumbnail"]
    assert set(report["tokens"]) == {"rgb_per_frame", "rgb_paired", *MODES} - {"rgb"}
    assert set(report["seconds"]) == {"read", "plan", "vision", "prefill", "decode"}
    assert report["prompt_tokens"] > report["visual_tokens"]


def test_caption_writes_the_text_and_the_same_text_for_the_same_seed(clip, model, capsys):
    texts = []
    for seed in ("1", "1", "2"):
        words = ["--max-tokens", "24", "--temperature", "2", "--top-k", "0", "--top-p", "1", "--seed", seed]
        assert main(["caption", clip, *model, *words]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_caption_of_two_clips_of_different_rates(clip, model, tmp_path, capsys):
    other = tmp_path / "slow.mp4"
    other.write_bytes(encode(np.zeros((6, 64, 64, 3), np.uint8), fps=3))
    assert main(["caption", clip, str(other), *model, "--max-tokens", "3", "--json", "-"]) == 0
    first, second = json.loads(capsys.readouterr().out)["clips"]
    assert (first["file"], second["file"]) == (clip, str(other))
    assert [row["time"] for row in second["report"]["frames"]] == pytest.approx([0, 1 / 3, 1, 4 / 3], abs=1e-3)


def test_caption_goes_on_behind_a_bad_clip(clip, model, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    assert main(["caption", str(bad), clip, *model, "--max-tokens", "3", "--json", "-"]) == 2
    done = capsys.readouterr()
    wrong, good = json.loads(done.out)["clips"]
    assert done.err.startswith("codeclens: bad.mp4 cannot be opened") and wrong["file"] == str(bad)
    assert good["file"] == clip and good["text"]
    assert main(["caption", str(bad), *model]) == 2


def test_ask_reads_the_video_once(clip, model, capsys):
    assert main(["ask", clip, "What is it?", "How many?", *model, "--max-tokens", "3", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [answer["question"] for answer in found["answers"]] == ["What is it?", "How many?"]
    assert found["read_seconds"] > 0
    rows = {answer["report"]["prompt_tokens"] for answer in found["answers"]}
    assert len(rows) == 2


def test_caption_json_preset_parses(clip, model, capsys):
    pytest.importorskip("llguidance", reason="llguidance is not installed; it is an optional dependency")
    assert main(["caption", clip, *model, "--preset", "json", "--max-tokens", "150"]) == 0
    assert {"summary", "actions"} <= set(json.loads(capsys.readouterr().out))


def test_every_frame_whole(clip, model, capsys):
    assert main(["caption", clip, *model, "--every-frame", "--max-tokens", "1", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)["report"]
    assert report["visual_tokens"] == report["tokens"]["rgb_per_frame"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--preset", "no such"], "preset 'no such' is neither a file nor one of alt_text, dense"),
        (["--budget", "2"], "budget is 2 tokens; it must hold at least one picture of"),
        (["--drop", "1.5"], "fraction of visual tokens to drop is 1.5"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--gamma", "high"], "--gamma is 'high'"),
        (["--max-tokens", "99999999"], "does not fit the model's context"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(clip, model, capsys, change, message):
    assert main(["caption", clip, *model, *change]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and message in captured.err


def test_a_wrong_clip_is_refused_before_the_model_is_loaded(tmp_path, capsys):
    path = tmp_path / "notes.mp4"
    path.write_text("not a video")
    assert main(["caption", str(path), "--model", str(tmp_path / "absent.gguf")]) == 2
    assert "notes.mp4" in capsys.readouterr().err


def test_a_mmproj_of_another_kind_is_refused(clip, qwen3vl_fixtures, capsys):
    folder = qwen3vl_fixtures / "tiny-tied"
    wrong = ["--model", str(folder / "tiny-tied-F16.gguf"), "--mmproj", str(folder / "tiny-tied-Q8_0.gguf")]
    assert main(["caption", clip, *wrong]) == 2
    assert "tiny-tied-Q8_0.gguf is a language model" in capsys.readouterr().err


def test_a_tower_without_its_model_is_refused(clip, capsys):
    assert main(["caption", clip, "--mmproj", "tower.gguf"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "--mmproj is tower.gguf" in error and "--model" in error


def test_a_side_of_nothing_is_not_taken_for_the_default(clip, capsys):
    assert main(["caption", clip, "--side", "0"]) == 2
    assert "frames of 0 pixels" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "side", "fps"), [(None, 128, 4.0), ("M.gguf", 512, 2.0)])
def test_clips_are_sampled_as_suits_the_model(model, side, fps):
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_looking_options(parser)
    arguments = parser.parse_args(["--model", model] if model else [])
    assert (side_of(arguments), sampling_of_clips(arguments)) == (side, FrameSampling.by_fps(fps))
    assert sampling_of_clips(parser.parse_args(["--fps", "0"])) == FrameSampling.all()
