"""Clips as files: what is written is what was rendered, whole or not at all."""

import json

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import sampled_frames, seeds_of, write_clip, write_clips
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import SPLITS, sample_clip
from codeclens.models.video.cuts import find_cuts


def decoded(path):
    return VideoSource.open(path).read(FrameSampling.all()).rgb


def test_files_hold_the_frames_and_the_index_what_is_true(tmp_path):
    index = write_clips(tmp_path, seeds_of("validation", 3, 3), (96, 128), sample_fps=4, seconds=2)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips.jsonl", *(row["clip"] for row in rows)]
    for number, row in enumerate(rows):
        assert row["clip"] == f"validation_{3 + number:06d}.mp4" and row["split"] == "validation"
        clip = sample_clip(SPLITS["validation"][0] + 3 + number, aspect=(128 / 96, 1.0), seconds=2)
        assert row["truth"]["frames"] == sampled_frames(clip, 4) and row["caption"] and row["questions"]
        frames = decoded(tmp_path / row["clip"])
        assert len(frames) == clip.frames
        difference = np.abs(frames.astype(int) - np.stack(list(render(clip, (96, 128)))))
        assert difference.mean() < 2.5


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    one, other = (write_clips(tmp_path / name, [7], seconds=1) for name in "ab")
    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "a/train_000007.mp4").read_bytes() == (tmp_path / "b/train_000007.mp4").read_bytes()


@pytest.mark.slow
def test_cuts_are_found_where_the_truth_has_them(tmp_path):
    found = missed = 0
    for seed in range(16):
        clip = sample_clip(seed, "cuts", fps=24, seconds=3)
        if len({shot.opening for shot in clip.shots[1:]}) != 1:
            continue
        write_clip(tmp_path / "clip.mp4", clip, (128, 128))
        measured = find_cuts(VideoSource.open(tmp_path / "clip.mp4"))
        wanted = {shot.first for shot in clip.shots if shot.opening == "cut"}
        missed += len(wanted - set(measured.cuts))
        found += len(wanted & set(measured.cuts))
        assert not set(measured.cuts) - wanted
        for shot in clip.shots:
            if shot.opening == "fade":
                assert any(abs(span.first - shot.first) <= 8 for span in measured.spans)
    assert found >= 10 and missed <= 0.1 * found


@pytest.mark.parametrize(("fps", "expected"), [(None, 24), (0, 24), (30, 24), (4, 4), (2, 2), (5, 5)])
def test_sampling_evenly(fps, expected):
    clip = sample_clip(0, seconds=1, fps=24)
    frames = sampled_frames(clip, fps)
    assert len(frames) == expected and frames[0] == 0 and frames[-1] < 24
    assert np.ptp(np.diff(frames)) <= 1 if len(frames) > 2 else True


def test_stopping_leaves_no_index_and_no_broken_clip(tmp_path):
    def stop(done, total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_clips(tmp_path, range(4), seconds=1, fps=12, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["train_000000.mp4"]
    assert len(decoded(tmp_path / "train_000000.mp4")) == 12


def test_command_writes_and_names_the_index(tmp_path, capsys):
    words = ["synth", str(tmp_path / "new"), "--n", "2", "--seed", "5", "--size", "64x48", "--seconds", "1"]
    assert main([*words, "--fault", "flicker"]) == 0
    index = tmp_path / "new" / "clips.jsonl"
    assert capsys.readouterr().out.strip() == str(index)
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    assert [row["clip"] for row in rows] == ["train_000005.mp4", "train_000006.mp4"]
    assert {row["content"] for row in rows} == {"fault"}
    assert decoded(index.parent / rows[0]["clip"]).shape[1:3] == (48, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", "0"], "--n: '0' is not"),
        (["--seed", "-1"], "-1"),
        (["--split", "test", "--seed", str(1 << 20)], str(1 << 20)),
        (["--size", "128"], "'128'"),
        (["--size", "33x64"], "33x64"),
        (["--seconds", "0"], "--seconds: '0' is not"),
        (["--fps", "nan"], "--fps: 'nan' is not"),
        (["--fault", "freeze", "--content", "cuts"], "freeze"),
    ],
)
def test_wrong_words_are_one_line_and_write_nothing(tmp_path, capsys, words, message):
    assert main(["synth", str(tmp_path / "out"), *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("codeclens: ") and error.count("\n") == 1 and message in error
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("here")
    with pytest.raises(InputError, match="cannot be made a folder"):
        write_clips(tmp_path / "out", [0])
