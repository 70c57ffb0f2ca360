"""Sampling rules against brute force over the moments, and sizes against their definition."""

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, fit_size
from codeclens.models.source.sampling import CLOCK_SLACK
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=200)
@given(
    steps=st.lists(st.floats(0.004, 2.0), min_size=0, max_size=60),
    start=st.floats(0, 100),
    fps=st.sampled_from([0.3, 1, 2, 3.7, 24, 30]),
)
def test_fps_takes_what_is_on_screen_at_each_moment(steps, start, fps):
    pts = start + np.concatenate([[0], np.cumsum(steps)])
    on_screen = set()
    # The clock's slack counts for the last frame as well: a moment may come that much after it.
    for moment in range(int((pts[-1] - pts[0] + CLOCK_SLACK) * fps) + 1):
        on_screen.add(int(np.flatnonzero(pts <= pts[0] + moment / fps + CLOCK_SLACK + 1e-12)[-1]))
    chosen = FrameSampling.by_fps(fps).select(pts)
    # A moment that falls on a change of picture to the last bit may go either way.
    edges = (np.append(pts - CLOCK_SLACK, pts[-1] + CLOCK_SLACK) - pts[0]) * fps
    if np.all(np.abs(edges - edges.round()) > 1e-6):
        assert list(chosen) == sorted(on_screen)
    assert len(set(chosen)) == len(chosen) and chosen[0] == 0


@pytest.mark.parametrize("rate", [24, 25, 30, 30000 / 1001, 60])
@pytest.mark.parametrize("digits", [3, 9])
def test_the_rate_of_the_source_takes_every_frame(rate, digits):
    pts = np.round(np.arange(500) / rate, digits)
    assert len(FrameSampling.by_fps(rate).select(pts)) == 500


def test_count_every_and_all():
    pts = np.arange(10) / 25
    assert list(FrameSampling.by_count(4).select(pts)) == [0, 3, 6, 9]
    assert list(FrameSampling.by_count(99).select(pts)) == list(range(10))
    assert list(FrameSampling.by_count(1).select(pts)) == [0]
    assert list(FrameSampling.every(4).select(pts)) == [0, 4, 8]
    assert list(FrameSampling.all().select(pts)) == list(range(10))


def test_a_time_years_ahead_costs_nothing():
    assert list(FrameSampling.by_fps(30).select(np.array([0.0, 0.04, 1e12]))) == [0, 1, 2]


def test_impossible_rules_are_refused():
    for rule, value in (
        (FrameSampling.by_fps, 0),
        (FrameSampling.by_count, 0),
        (FrameSampling.every, 0),
        (FrameSampling.by_fps, np.nan),
    ):
        with pytest.raises(InputError, match="is not possible"):
            rule(value)


@settings(deadline=None, max_examples=100)
@given(width=st.integers(16, 8000), height=st.integers(16, 8000))
def test_size_is_on_the_grid_near_the_area_and_keeps_the_aspect(width, height):
    h, w = fit_size(width, height)
    assert h % 32 == w % 32 == 0
    if 1 / 4 < width / height < 4:
        assert 0.85 < h * w / 512**2 < 1.15
        assert abs(np.log(w * height / (h * width))) < 0.1


def test_sizes_people_meet():
    assert fit_size(512, 512) == (512, 512)
    assert fit_size(1920, 1080)[0] == 384
    assert fit_size(448, 448, area=448 * 448) == (448, 448)
