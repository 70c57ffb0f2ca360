"""caption and ask: text on standard output, all else on standard error, one line for what is wrong."""

import argparse
import json

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.code.conversation import answer_tokens
from codeclens.models.commands.model import (
    add_model_options,
    add_sampling_options,
    add_writing_options,
    load_model,
    sampling_of,
    sampling_of_clips,
    side_of,
)
from codeclens.models.commands.talk import add_code_options, config_of
from codeclens.models.qwen.generate import SamplingParams
from codeclens.models.source.reading import FrameSampling
from codeclens.models.video.tokens import MODES
from support.clips import encode
from support.gguf_files import TINY, write_mmproj, write_text


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


@pytest.mark.parametrize(
    ("words", "mode"),
    [
        ([], "cells"),
        (["--model", "other.gguf"], "thumbnail"),
        (["--mode", "rgb"], "rgb"),
        (["--model", "other.gguf", "--mode", "cells"], "cells"),
    ],
)
def test_the_mode_suits_the_model(words, mode):
    parser = argparse.ArgumentParser()
    add_code_options(parser)
    assert config_of(parser.parse_args(words)).mode == mode


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


def test_caption_goes_on_after_a_bad_clip(clip, model, tmp_path, capsys):
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
        (["--drop", "1.5"], "--drop: '1.5' is not a number from 0 to 0.99"),
        (["--temperature", "-1"], "--temperature: '-1' is not a number from 0 to 100"),
        (["--gamma", "high"], "--gamma is 'high'"),
        (["--max-tokens", "999999"], "does not fit the model's context"),
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
    assert "--side: '0' is not a whole number from 32 to 8192" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "side", "fps"), [(None, 128, 4.0), ("M.gguf", 512, 2.0)])
def test_clips_are_sampled_as_suits_the_model(model, side, fps):
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_sampling_options(parser)
    arguments = parser.parse_args(["--model", model] if model else [])
    assert (side_of(arguments), sampling_of_clips(arguments)) == (side, FrameSampling.by_fps(fps))
    assert sampling_of_clips(parser.parse_args(["--fps", "0"])) == FrameSampling.all()


@pytest.fixture
def thinking_model(tmp_path):
    text = write_text(tmp_path / "Thinking.gguf", TINY, thinking=True)
    return ["--model", str(text), "--mmproj", str(write_mmproj(tmp_path / "mmproj.gguf", TINY)), "--side", "64"]


def test_an_answer_cut_off_while_reasoning_is_said(clip, thinking_model, capsys):
    """A blank line and exit code 0 were all that one saw."""
    for command in (["caption", clip], ["ask", clip, "What happens?"], ["describe", "What happens?"]):
        options = thinking_model[:4] if command[0] == "describe" else thinking_model
        assert main([*command, *options, "--max-tokens", "6", "--show-reasoning"]) == 0
        said = capsys.readouterr()
        assert said.err.endswith(
            "codeclens: cut off at 6 tokens, while still reasoning; raise --max-tokens or give --no-thinking\n"
        )
        assert said.out.strip()
    assert main(["ask", clip, "What?", *thinking_model, "--max-tokens", "6", "--no-thinking"]) == 0
    assert capsys.readouterr().err.endswith("codeclens: cut off at 6 tokens; raise --max-tokens\n")


def test_defaults_follow_the_kind_of_model(thinking_model, qwen3vl_fixtures):
    """As their makers publish them: Thinking 1.0, 0.95, 20 and no presence penalty, and room for the reasoning."""
    parser = argparse.ArgumentParser()
    add_model_options(parser)
    add_writing_options(parser)
    given = parser.parse_args(thinking_model[:4])
    thinks = load_model(given, sees=False)
    assert sampling_of(given, thinks) == SamplingParams(temperature=1.0, top_k=20, top_p=0.95, presence_penalty=0.0)
    assert answer_tokens(thinks.tokenizer, None, 256) == 4096 and answer_tokens(thinks.tokenizer, False, 256) == 256
    assert answer_tokens(thinks.tokenizer, None, 256, {"type": "object"}) == 256
    cold = parser.parse_args([*thinking_model[:4], "--no-thinking", "--temperature", "0.2"])
    assert sampling_of(cold, thinks) == SamplingParams(temperature=0.2)
    greedy = parser.parse_args([*thinking_model[:4], "--no-thinking", "--temperature", "0"])
    assert sampling_of(greedy, thinks) == SamplingParams(temperature=0, presence_penalty=0)
