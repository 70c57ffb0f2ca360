"""A sampled video is decoded once where memory allows, and forgets its frames with itself."""

import gc

import numpy as np
import pytest
from codeclens.models.source import sampled
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.source.sampled import SampledVideo, TimedFrames

SIZE = (32, 64)


class CountingSource(VideoSource):
    """Counts how often its frames are read to the end."""

    readings = 0

    def frames(self, *arguments, **options):
        yield from super().frames(*arguments, **options)
        self.readings += 1


def video(count=10, seed=0):
    pictures = np.random.default_rng(seed).integers(0, 256, (count, *SIZE, 3), np.uint8)
    return SampledVideo(CountingSource.from_images(pictures, 4.0), FrameSampling.by_fps(2), SIZE)


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch):
    monkeypatch.setattr(sampled, "_HELD", sampled._Held())


def read(video, chunk=32):
    chunks = list(video.frames(chunk))
    return [len(part) for part in chunks], np.concatenate([part.rgb for part in chunks])


def test_a_second_reading_does_not_decode():
    one = video()
    first, again = read(one, 2), read(one, 4)
    assert first[0] == [2, 2, 1] and again[0] == [2, 2, 1]
    assert np.array_equal(first[1], again[1]) and one.source.readings == 1
    assert read(one, 1)[0] == [1] * 5


def test_a_reading_that_stops_early_holds_nothing():
    one = video()
    next(one.frames(2))
    read(one)
    assert one.source.readings == 1
    read(one)
    assert one.source.readings == 1


def test_what_does_not_fit_is_decoded_again(monkeypatch):
    one = video()
    monkeypatch.setattr(sampled, "HELD_BYTES", 5 * 32 * 64 * 3 - 1)
    read(one)
    read(one)
    assert one.source.readings == 2


def test_the_least_recently_read_makes_room(monkeypatch):
    monkeypatch.setattr(sampled, "HELD_BYTES", 2 * 5 * 32 * 64 * 3)
    one, two, three = (video(seed=seed) for seed in range(3))
    for current in (one, two, one, three, one, two):
        read(current)
    assert [current.source.readings for current in (one, two, three)] == [1, 2, 1]


def test_frames_go_with_their_video():
    one = video()
    read(one)
    assert len(sampled._HELD.chunks) == 1
    del one
    gc.collect()
    assert not sampled._HELD.chunks


def test_timed_frames_add_up_over_readings():
    timed = TimedFrames(video(), 2)
    assert [len(chunk) for chunk in timed] == [2, 2, 1]
    once = timed.seconds
    list(timed)
    assert timed.seconds > once > 0
