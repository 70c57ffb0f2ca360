"""Stretches of files and of rendered clips."""

import json
import random

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.training.learned.clips import DESCRIBE, RenderedClips, VideoClips, read_pairs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, seeds_of("train", 0, 2), (64, 96), seconds=3, fps=8)
    return folder


def test_a_stretch_of_a_file_has_its_frames_and_times(folder):
    clips = VideoClips(sorted(folder.glob("*.mp4")), 4.0, 64)
    seen = set()
    for seed in range(8):
        sample = clips.draw(random.Random(seed), 5)
        assert sample.rgb.shape == (5, 64, 64, 3) or sample.rgb.shape[1:] == (64, 96, 3)
        assert np.allclose(np.diff(sample.pts), 0.25) and sample.pts[-1] < 3
        assert sample.questions[0][0] in DESCRIBE and sample.questions[0][1] is None
        seen.add(float(sample.pts[0]))
    assert len(seen) > 3
    again = clips.draw(random.Random(0), 5)
    assert np.array_equal(again.rgb, clips.draw(random.Random(0), 5).rgb)


def test_questions_come_from_their_file_and_begin_at_the_clips_start(folder):
    pairs = read_pairs(folder / "clips.jsonl")
    rows = [json.loads(line) for line in (folder / "clips.jsonl").read_text().splitlines()]
    assert pairs[rows[0]["clip"]][0] == (rows[0]["questions"][0]["question"], rows[0]["questions"][0]["answer"])
    clips = VideoClips([folder / rows[0]["clip"]], 4.0, 64, pairs)
    sample = clips.draw(random.Random(1), 4)
    assert sample.pts[0] == 0 and sample.questions == tuple(pairs[rows[0]["clip"]])


def test_files_that_cannot_be_read_are_left_out_with_a_sentence(folder, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    clips = VideoClips([broken, next(folder.glob("*.mp4"))], 4.0, 64)
    for seed in range(6):
        clips.draw(random.Random(seed), 3)
    assert len(clips.paths) == 1 and "broken.mp4" in clips.warnings[0]
    with pytest.raises(InputError, match=r"broken\.mp4"):
        VideoClips([broken], 4.0, 64).draw(random.Random(0), 3)
    with pytest.raises(InputError, match="0 clips"):
        VideoClips([], 4.0, 64)


def test_rendered_clips_know_their_answers():
    clips = RenderedClips(4.0, 64)
    lengths = {len(clips.draw(random.Random(seed), 6).rgb) for seed in range(40)}
    assert lengths == {2, 3, 4, 5, 6}
    sample = clips.draw(random.Random(3), 6)
    assert sample.rgb.shape[1:] == (64, 64, 3) and np.allclose(np.diff(sample.pts), 0.25)
    assert all(answer for _, answer in sample.questions) and len(sample.questions) > 1
    assert np.array_equal(sample.rgb, clips.draw(random.Random(3), 6).rgb)


@pytest.mark.parametrize("line", ["[]", '{"clip": "a.mp4"}', '{"clip": 3, "question": "a", "answer": "b"}', "{"])
def test_a_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"clip": "a.mp4", "question": "a", "answer": "b"}\n' + line)
    with pytest.raises(InputError, match="line 2"):
        read_pairs(path)
    path.write_text("\n")
    with pytest.raises(InputError, match="holds no question"):
        read_pairs(path)
