"""plan --cost: the table beside the plan, the JSON, and a timing that is made once and kept."""

import json

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.code.cost import Calibration
from codeclens.models.commands import costs
from support.clips import encode

WAYS = {"every frame whole", "native frame pairs", "keyframes", "thumbnail", "changed cells"}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Two seconds of a sliding pattern at 8 fps."""
    pattern = np.kron(np.random.default_rng(0).integers(0, 256, (6, 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    path = tmp_path_factory.mktemp("costs") / "slide.mp4"
    path.write_bytes(encode(np.stack([pattern[:, 4 * t : 4 * t + 128] for t in range(16)]), fps=8))
    return str(path)


@pytest.fixture
def timed(monkeypatch, tmp_path):
    """Timings that are made up; the list grows with each."""
    made = []

    def calibrate(model, progress):
        made.append(model)
        return Calibration((0.5, 0, 0), (0.25, 0, 0), (0.01, 0), (0.125, 0, 0), (1.0, 0, 0))

    monkeypatch.setattr(costs, "calibrate", calibrate)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.fixture
def model(qwen3vl_fixtures):
    return ["--cost", "--model", str(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-F16.gguf"), "--side", "128"]


def test_json_holds_every_way_and_the_timing_is_made_once(clip, model, timed, capsys, tmp_path):
    for _ in range(2):
        assert main(["plan", clip, *model, "--answer-tokens", "10", "--json", "-"]) == 0
        captured = capsys.readouterr()
        found = json.loads(captured.out)
        assert set(found["cost"]) == WAYS
        assert found["content"] in ("static", "low motion", "high motion", "many cuts")
        assert found["cost"]["keyframes"]["visual_tokens"] == found["tokens"]["keyframes"]
        assert found["cost"]["thumbnail"]["visual_tokens"] == found["tokens"]["thumbnail"]
        assert found["cost"]["native frame pairs"]["visual_tokens"] == found["tokens"]["rgb_paired"]
        assert found["cost"]["every frame whole"]["visual_tokens"] == found["tokens"]["rgb_per_frame"]
        seconds = found["cost"]["thumbnail"]["seconds"]
        assert (seconds["plan"], seconds["prefill"]) == (3 * 0.125, 0.25)
        assert seconds["decode"] == pytest.approx(0.1)
        assert seconds["total"] == pytest.approx(sum(value for stage, value in seconds.items() if stage != "total"))
        assert found["cost"]["thumbnail"]["footage_seconds"] == 2
    assert len(timed) == 1 and "timing" not in captured.err
    assert len(list((tmp_path / "cache" / "codeclens").glob("*.json"))) == 1
    assert main(["plan", clip, *model, "--recalibrate"]) == 0
    assert len(timed) == 2


def test_the_tables_of_two_clips(clip, model, timed, tmp_path, capsys):
    still = tmp_path / "still.mp4"
    still.write_bytes(encode(np.full((24, 64, 64, 3), 90, np.uint8), fps=8))
    assert main(["plan", clip, str(still), *model]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("predicted for tiny-tied-F16.gguf on ") for line in lines)
    begun = lines.index("still.mp4: static")
    assert [line[2:22].strip() for line in lines[begun + 2 : begun + 2 + len(WAYS)]] == list(costs.WAYS)
    minute = lines[lines.index("per minute of footage, visual tokens and seconds") + 2 :]
    assert [line[2:26].strip() for line in minute][:3] == ["slide.mp4", "still.mp4", "static (1)"]


def test_a_list_of_costs_has_a_price_too(model, timed, tmp_path, capsys):
    (tmp_path / "costs.json").write_text(json.dumps([0] + [10.0] * 7))
    assert main(["plan", "--costs", str(tmp_path / "costs.json"), *model, "--json", "-"]) == 0
    seconds = json.loads(capsys.readouterr().out)["cost"]["thumbnail"]["seconds"]
    assert (seconds["read"], seconds["plan"]) == (1.0, 7 * 0.125)


def test_a_folder_that_cannot_be_written_is_said_and_no_more(clip, model, timed, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["plan", clip, *model]) == 0
    captured = capsys.readouterr()
    assert "thumbnail" in captured.out and "the timing is not kept" in captured.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "m.gguf"], "give --cost as well"),
        (["--cost", "--model", "absent.gguf"], "absent.gguf"),
        (["--answer-tokens", "-1"], "--answer-tokens: '-1' is not"),
    ],
)
def test_wrong_options_are_one_line(clip, model, timed, capsys, change, message):
    words = change if "--model" in change else [*model, *change]
    assert main(["plan", clip, *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.strip().count("\n") == 0 and message in captured.err
    assert not timed
