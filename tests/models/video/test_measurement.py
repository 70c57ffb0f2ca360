"""The reading of a clip that all metrics are made from."""

import csv
import io
import json
import math

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.errors import InputError
from codeclens.models.source.reading import VideoSource
from codeclens.models.video import measurement
from codeclens.models.video.measurement import measure, measurements_csv
from codeclens.models.video.metrics import METRICS
from support.clips import encode


def clip(count=10, height=64, width=96, seed=0):
    random = np.random.default_rng(seed)
    ground = random.integers(0, 256, (height, width + count, 3), np.uint8)
    return np.stack([ground[:, t : t + width] for t in range(count)])


def two_shots():
    return np.concatenate([clip(12), 255 - clip(12, seed=1) // 2])


def test_values_do_not_depend_on_how_many_frames_are_read_at_once(monkeypatch):
    frames = two_shots()
    expected = measure(VideoSource.from_images(frames, 10)).to_json()
    for chunk in (1, 5, 100):
        monkeypatch.setattr(measurement, "CHUNK", chunk)
        assert measure(VideoSource.from_images(frames, 10)).to_json() == expected


def test_a_new_shot_is_not_compared_with_the_old_one():
    found = measure(VideoSource.from_images(two_shots(), 10))
    assert found.clip["cuts"] == 1
    for name in ("temporal_information", "motion", "warping_error", "sudden_change", "frozen"):
        assert np.flatnonzero(np.isnan(found.frames[name])).tolist() == [0, 12]
    assert found.clip["sudden_change"] < 40, "two noises differ by some 70"


def test_json_is_strict_and_names_frames_and_seconds_of_the_source():
    source = VideoSource.open(encode(clip(20), fps=10), start=0.5)
    found = json.loads(json.dumps(measure(source).to_json(), allow_nan=False))
    assert found["frames"] == list(range(5, 20)) and found["seconds"][0] == pytest.approx(0.5)
    assert set(found["values"]) == {metric.name for metric in METRICS}
    assert all(len(values) == 15 for values in found["per_frame"].values())
    assert found["per_frame"]["motion"][0] is None


def test_one_frame_is_measured_as_far_as_one_frame_goes():
    found = measure(VideoSource.from_images(clip(1), 10))
    assert math.isnan(found.clip["motion"]) and found.clip["brightness"] > 0
    json.dumps(found.to_json(), allow_nan=False)


def test_csv_has_one_line_a_clip_and_one_column_a_metric():
    both = [measure(VideoSource.from_images(clip(4, seed=seed), 10, name=f"a, {seed}")) for seed in range(2)]
    rows = list(csv.reader(io.StringIO(measurements_csv(both))))
    assert [row[0] for row in rows] == ["clip", "a, 0", "a, 1"]
    assert {len(row) for row in rows} == {len(METRICS) + 1}
    column = rows[0].index("brightness (grey levels)")
    assert float(rows[1][column]) == pytest.approx(both[0].clip["brightness"], rel=1e-5)


def test_an_empty_window_is_one_sentence():
    source = VideoSource.open(encode(clip(20), fps=10), start=50)
    with pytest.raises(InputError, match="trim window"):
        measure(source)


def test_the_command_goes_on_after_a_bad_clip(tmp_path, capsys):
    (tmp_path / "good.mp4").write_bytes(encode(clip(6), fps=10))
    (tmp_path / "bad.mp4").write_bytes(b"no video at all")
    clips = [str(tmp_path / name) for name in ("bad.mp4", "good.mp4")]
    table, picture = tmp_path / "metrics.csv", tmp_path / "pictures"
    assert main(["measure", *clips, "--csv", str(table), "--png", str(picture), "--json", "-"]) == 2
    captured = capsys.readouterr()
    assert "bad.mp4" in captured.err and captured.err.count("\n") == 1
    assert [one["clip"] for one in json.loads(captured.out)["clips"]] == ["good.mp4"]
    assert len(table.read_text().splitlines()) == 2
    assert (picture / "good.png").read_bytes().startswith(b"\x89PNG")
