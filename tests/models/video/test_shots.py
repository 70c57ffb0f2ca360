"""Shots cover the trim window once, in order, whatever the cuts."""

import numpy as np
import pytest
from codeclens.models.drawing.views import most_moving, motion_view, timeline_view
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.source.sampled import SampledVideo
from codeclens.models.synthetic.painted_clip import CUT, FPS, FRAMES
from codeclens.models.video.cuts import Cuts, Span
from codeclens.models.video.extraction import extract
from codeclens.models.video.planning import plan
from codeclens.models.video.shots import cut_times, shots
from hypothesis import given, settings
from hypothesis import strategies as st

COUNT, RATE = 60, 10.0


def images(count=COUNT):
    return VideoSource.from_images(np.zeros((count, 32, 32, 3), np.uint8), RATE)


@settings(deadline=None, max_examples=80)
@given(
    cuts=st.lists(st.integers(1, COUNT - 1), max_size=12, unique=True).map(sorted),
    shortest=st.floats(0.0, 8.0),
    middle=st.integers(5, COUNT - 5),
    at_spans=st.booleans(),
)
def test_shots_cover_every_frame_once(cuts, shortest, middle, at_spans):
    found = shots(images(), Cuts(tuple(cuts), (Span("dissolve", middle - 3, middle + 3),)), shortest, at_spans)
    assert [number for shot in found for number in range(shot.first, shot.last + 1)] == list(range(COUNT))
    assert all(one.end == other.start for one, other in zip(found, found[1:], strict=False))
    assert found[0].start == 0.0 and found[-1].end == pytest.approx(COUNT / RATE)
    assert len(found) == 1 or all(shot.end - shot.start >= shortest - 1e-9 for shot in found)
    if not shortest and not at_spans:
        assert [shot.first for shot in found] == [0, *cuts]
    if not shortest and at_spans:
        assert middle in [shot.first for shot in found]


def test_spans_and_cuts_in_seconds():
    times, spans = cut_times(images(), Cuts((10, 25), (Span("fade_in", 30, 40),)))
    assert times == pytest.approx([1.0, 2.5])
    assert spans == [("fade in", pytest.approx(3.0), pytest.approx(4.0))]


def test_shots_stay_in_the_trim_window(demo_clip):
    source = VideoSource.open(demo_clip, start=3.0, duration=4.0)
    first, second = shots(source, Cuts((CUT,), ()))
    assert (first.first, first.last, second.first, second.last) == (3 * FPS, CUT - 1, CUT, 7 * FPS - 1)
    assert (first.start, first.end, second.end) == (pytest.approx(3.0), pytest.approx(5.0), pytest.approx(7.0))


@pytest.fixture(scope="module")
def measured(demo_clip):
    source = VideoSource.open(demo_clip)
    return source, extract(SampledVideo(source, FrameSampling.by_fps(4.0), (192, 320)))


def test_most_moving_frame_is_in_the_pan_and_not_the_cut(measured):
    _, primitives = measured
    assert 5.0 < primitives.pts[most_moving(primitives)] < 9.0


def test_extraction_goes_on_over_chunks_and_is_cancelled_between_frames(measured):
    source, primitives = measured
    assert len(primitives) == FRAMES * 4 // FPS and primitives.ref.tolist() == list(range(-1, len(primitives) - 1))
    calls = []

    def cancel(done, total):
        calls.append(done)
        if done > 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(SampledVideo(source, FrameSampling.by_fps(4.0), (192, 320)), progress=cancel)
    assert calls[-1] == 41


@pytest.mark.slow
def test_bitstream_finds_the_pan_that_the_search_finds(measured):
    source, searched = measured
    written = extract(SampledVideo(source, FrameSampling.by_fps(4.0), (192, 320)), "bitstream")
    assert written.source == "bitstream" and len(written) == len(searched)
    panning = (searched.pts > 5.5) & (searched.pts < 8.5)
    quay = np.s_[panning, -1]
    found = [np.median(p.mv[quay][p.valid[quay]][:, 0]) for p in (searched, written)]
    assert found == [pytest.approx(12, abs=1)] * 2, "4 px a frame, 6 frames a sample, at half size"


def test_views_refuse_other_videos(measured):
    source, primitives = measured
    other = images(200)
    with pytest.raises(InputError, match="not the video"):
        timeline_view(plan(primitives), other)
    with pytest.raises(InputError, match="not the video"):
        motion_view(primitives, other, 20)
    for position in (0, -1, len(primitives)):
        with pytest.raises(InputError, match="no reference"):
            motion_view(primitives, source, position)


def test_pictures_of_one_frame(measured):
    source, primitives = measured
    sizes = {
        picture: motion_view(primitives, source, 25, picture).size for picture in ("motion", "prediction", "residual")
    }
    assert len(set(sizes.values())) == 3
    assert timeline_view(plan(primitives), source, Cuts((CUT,), ())).size[0] == 1600
