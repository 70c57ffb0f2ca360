"""Every sampled picture against a plain full decode of the same file by PyAV, over random encoders and containers."""

import io

import av
import numpy as np
import pytest
from codeclens.models.source.colour import to_rgb
from codeclens.models.source.reading import FrameSampling, VideoSource
from support.random_encodes import random_encode, stamped_number, write

GROUPS, EACH = 25, 12
"""Random videos in the slow tier: so many tests of so many."""


def full_decode(data: bytes) -> list[np.ndarray]:
    """All pictures in the order in which the decoder gives them, none left out and nothing asked of their times."""
    with av.open(io.BytesIO(data)) as container:
        return [to_rgb(frame, (frame.height, frame.width)) for frame in container.decode(video=0)]


def check(seed: int) -> bool:
    """Read the video of ``seed`` in several ways; False where there is none."""
    made = random_encode(seed)
    data = write(made)
    if data is None:
        return False
    truth = full_decode(data)
    if len(truth) == made.count:
        assert [stamped_number(picture) for picture in truth] == list(range(made.count)), (seed, made)
    random = np.random.default_rng(seed)
    source = VideoSource.open(data)
    pts = source.timeline().pts
    assert len(pts) == len(truth), (seed, made, len(pts), len(truth))
    assert (np.diff(pts) > 0).all(), (seed, made)
    if made.ticks is not None:
        assert np.allclose(np.diff(pts), np.diff(made.ticks)[: len(pts) - 1] / 1000, atol=0.0011), (seed, made)
    begin, end = sorted(random.uniform(pts[0], pts[-1], 2))
    for sampling, window in (
        (FrameSampling.every(int(random.integers(1, 30))), {}),
        (FrameSampling.by_count(int(random.integers(1, 6))), {}),
        (FrameSampling.at_times(random.uniform(pts[0], pts[-1], 3)), {}),
        (FrameSampling.by_fps(2), {"start": max(0, begin), "duration": max(0.1, end - begin)}),
        (FrameSampling.all(), {}),
    ):
        reading = VideoSource.open(data, **window) if window else source
        try:
            first, last = reading.window()
        except ValueError:
            continue
        frames = reading.read(sampling)
        assert list(frames.index) == list(first + sampling.select(pts[first : last + 1])), (seed, made, sampling)
        wrong = [n for n, rgb in zip(frames.index, frames.rgb, strict=True) if not np.array_equal(rgb, truth[n])]
        assert not wrong, (seed, made, sampling, window, wrong)
        assert not any("lost" in warning for warning in reading.warnings), (seed, made, reading.warnings)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_every_sampled_picture_equals_the_full_decode(group):
    checked = [check(seed) for seed in range(group * EACH, (group + 1) * EACH)]
    assert sum(checked) > EACH / 2
