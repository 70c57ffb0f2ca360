"""The synthesised clip holds what it promises: motion, a cut, a pan, a still stretch, the same every time."""

import itertools

import av
import numpy as np
import pytest
from codeclens.models.synthetic import painted_clip as demo


@pytest.fixture(scope="module")
def frames():
    return list(demo.demo_frames())


def difference(one, other):
    return np.abs(one.astype(int) - other).mean()


def test_length_and_size(frames):
    assert len(frames) == demo.FRAMES
    assert {frame.shape for frame in frames} == {(demo.HEIGHT, demo.WIDTH, 3)}


def test_the_cut_is_the_only_jump(frames):
    steps = [difference(a, b) for a, b in itertools.pairwise(frames)]
    assert int(np.argmax(steps)) + 1 == demo.CUT
    assert sorted(steps)[-1] > 5 * sorted(steps)[-2]


def test_something_moves_before_the_cut_and_nothing_after_the_pan(frames):
    assert all(difference(a, b) > 0.1 for a, b in itertools.pairwise(frames[: demo.CUT]))
    assert all(difference(a, b) == 0 for a, b in itertools.pairwise(frames[demo.PAN_END :]))


def test_the_pan_moves_the_nearest_layer_by_its_speed(frames):
    quay = slice(demo.HEIGHT - 30, demo.HEIGHT)
    for number in (demo.CUT, demo.CUT + 40, demo.PAN_END - 1):
        before, after = frames[number][quay], frames[number + 1][quay]
        np.testing.assert_array_equal(after[:, : -demo.PAN_SPEED], before[:, demo.PAN_SPEED :])


@pytest.mark.slow
def test_file_is_a_clip_of_the_frames_and_the_same_each_time(frames, tmp_path):
    first, second = demo.write_demo(tmp_path / "one.mp4"), demo.write_demo(tmp_path / "two.mp4")
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.mp4", "two.mp4"]
    with av.open(str(first)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == demo.FRAMES
    assert max(difference(a, b) for a, b in zip(decoded, frames, strict=True)) < 8


def test_cancelling_leaves_nothing(tmp_path):
    def stop(done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.write_demo(tmp_path / "clip.mp4", stop)
    assert not list(tmp_path.iterdir())
