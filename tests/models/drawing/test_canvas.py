"""Pictures: read back from their pixels what they claim to show."""

import colorsys

import numpy as np
import pytest
from codeclens.models.drawing import canvas as drawing
from codeclens.models.drawing import timeline
from codeclens.models.drawing.canvas import BACKGROUND, DROPPED, GAMMA, I_COLOUR, P_COLOUR
from codeclens.models.drawing.motion import (
    MARGIN,
    draw_motion_field,
    draw_motion_sheet,
    draw_prediction,
    draw_residual,
    fitted,
)
from codeclens.models.source.reading import Frames
from codeclens.models.video.planning import plan_from_costs
from hypothesis import given, settings
from hypothesis import strategies as st

WIDTH = 1600


def near(pixel, colour, tolerance=12):
    return all(abs(int(a) - b) <= tolerance for a, b in zip(pixel, colour, strict=True))


def plan_of(count, size=(512, 512), pts=None, **rule):
    costs = np.where(np.arange(count) % 7 == 3, 60e6, 4e6)
    return plan_from_costs(costs, size=size, pts=pts, **{"gamma": 31.57e6, **rule})


def test_strip_shows_each_frame_as_its_kind():
    plan = plan_of(20)
    picture = np.asarray(timeline.draw_timeline(plan, width=WIDTH))
    scale = timeline.TimeScale(plan.pts, timeline.LEFT, WIDTH - timeline.RIGHT)
    row = timeline.TOP_STRIP + timeline.STRIP_HEIGHT - 3
    centres = scale.x((scale.edges[:-1] + scale.edges[1:]) / 2).astype(int)
    for x, kind in zip(centres, plan.kind, strict=True):
        assert near(picture[row, x - 12], I_COLOUR if kind else P_COLOUR)
        assert near(picture[timeline.TOP_STRIP + 4, x - 12], I_COLOUR if kind else BACKGROUND)


def test_cost_bar_is_as_high_as_the_square_root_of_the_cost_beside_gamma():
    plan = plan_of(20)
    picture = np.asarray(timeline.draw_timeline(plan, width=WIDTH)).astype(int)
    bottom = timeline.TOP_COST + timeline.COST_HEIGHT
    scale = timeline.TimeScale(plan.pts, timeline.LEFT, WIDTH - timeline.RIGHT)
    x = int(scale.x((scale.edges[1] + scale.edges[2]) / 2))
    column = picture[timeline.TOP_COST : bottom, x]
    bar = sum(near(pixel, P_COLOUR) for pixel in column)
    rows = [y for y in range(timeline.TOP_COST, bottom) if any(near(p, GAMMA) for p in picture[y, 300:420])]
    gamma = bottom - np.mean(rows)
    assert bar / gamma == pytest.approx(np.sqrt(4e6 / 31.57e6), rel=0.03)


def test_dropped_gops_are_grey():
    plan = plan_of(200, policy="budget", budget=4 * 256)
    assert not plan.keep.all()
    picture = np.asarray(timeline.draw_timeline(plan, width=WIDTH))
    scale = timeline.TimeScale(plan.pts, timeline.LEFT, WIDTH - timeline.RIGHT)
    row = timeline.TOP_STRIP + timeline.STRIP_HEIGHT - 3
    inside = scale.x((scale.edges[:-1] + scale.edges[1:]) / 2).astype(int)
    grey = np.array([near(picture[row, x], DROPPED) for x in inside])
    assert (grey == ~plan.keep).mean() > 0.95


@settings(deadline=None, max_examples=60)
@given(
    gaps=st.lists(st.floats(0.001, 30.0), min_size=1, max_size=120),
    size=st.sampled_from([(512, 512), (704, 384), (384, 704), (32, 1024), (1024, 32)]),
    width=st.sampled_from([900, 1600]),
)
def test_thumbnails_never_overlap_and_show_the_first_frame(gaps, size, width):
    pts = np.cumsum(gaps)
    plan = plan_of(len(pts), size, pts)
    chosen = timeline.timeline_thumbnails(plan, width)
    left = timeline.thumbnail_left(plan, timeline.TimeScale(pts, timeline.LEFT, width - timeline.RIGHT))[chosen]
    assert chosen[0] == 0
    assert (np.diff(left) >= timeline.thumbnail_width(plan)).all()
    assert left[-1] + timeline.thumbnail_width(plan) <= width - timeline.RIGHT + 1e-6


@pytest.mark.parametrize("count", [1, 2, 3000])
@pytest.mark.parametrize("size", [(512, 512), (704, 384)])
def test_any_length_is_drawn(count, size):
    plan = plan_of(count, size)
    chosen = timeline.timeline_thumbnails(plan)
    rgb = np.full((len(chosen), size[0] // 8, size[1] // 8, 3), 200, np.uint8)
    frames = Frames(rgb, plan.pts[chosen], plan.index[chosen])
    picture = timeline.draw_timeline(plan, frames, cuts=[0.0], spans=[("fade", 0.0, 0.3)], title="clip " * 60)
    assert picture.size == (WIDTH, timeline.HEIGHT)


def test_motion_arrows_point_where_the_content_went():
    rgb = np.full((128, 128, 3), 40, np.uint8)
    mv = np.zeros((8, 8, 2), np.int16)
    mv[2, 5] = (-8, 0)
    picture = np.asarray(draw_motion_field(rgb, mv)).astype(int)
    side, _ = fitted(128, 128, 1080, 760)
    cell = side / 8
    field = picture[64 : 64 + side, MARGIN : MARGIN + side]
    coloured = np.argwhere(field.max(axis=-1) - field.min(axis=-1) > 90)
    rows, columns = coloured[:, 0] / cell, coloured[:, 1] / cell
    assert abs(rows.mean() - 2.5) < 0.1 and abs((columns.min() + columns.max()) / 2 - 5.5) < 0.1
    head = [np.sum(coloured[:, 1] == column) for column in range(coloured[:, 1].min(), coloured[:, 1].max() + 1)]
    assert sum(head[len(head) // 2 :]) > sum(head[: len(head) // 2]), "the head is on the right"
    red, green, blue = field[coloured[:, 0], coloured[:, 1]].mean(axis=0) / 255
    hue = colorsys.rgb_to_hsv(red, green, blue)[0]
    assert min(hue, 1 - hue) < 0.03, "to the right is red"


def test_unknown_blocks_are_crossed_out_and_not_counted_as_motion():
    rgb = np.full((64, 64, 3), 40, np.uint8)
    mv = np.full((4, 4, 2), 9, np.int16)
    known = draw_motion_field(rgb, np.zeros_like(mv))
    unknown = draw_motion_field(rgb, mv, np.zeros((4, 4), bool))
    field = np.asarray(unknown).astype(int)[64:800, MARGIN : MARGIN + 700]
    assert (field.max(axis=-1) - field.min(axis=-1)).max() < 40, "no coloured arrow"
    assert np.asarray(unknown).tobytes() != np.asarray(known).tobytes()


def test_residual_is_dark_where_nothing_is_left():
    residual = np.zeros((64, 96, 3), np.int16)
    residual[:, 48:] = -90
    picture = np.asarray(draw_residual(residual)).astype(int)
    left, right = picture[100:700, MARGIN + 40 : MARGIN + 480], picture[100:700, MARGIN + 600 : MARGIN + 1000]
    assert left.max() <= 6
    assert right.mean() > 150


def test_sheets_take_every_aspect():
    for size in ((32, 320), (320, 32), (160, 160)):
        rgb = np.zeros((*size, 3), np.uint8)
        mv = np.zeros((size[0] // 16, size[1] // 16, 2), np.int16)
        sheet = draw_motion_sheet(rgb, rgb, rgb.astype(np.int16), mv)
        row = draw_prediction(rgb, rgb, rgb.astype(np.int16))
        assert sheet.width >= 820 and row.width > row.height / 4


def test_heat_grows_lighter_evenly():
    luma = drawing.heat_colours(np.linspace(0, 1, 100), 1.0) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luma) > 0).all()


def test_opposite_directions_have_opposite_hues():
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        dx, dy = np.cos(angle), np.sin(angle)
        one, other = (
            colorsys.rgb_to_hsv(*(c / 255 for c in drawing.direction_colour(sign * dx, sign * dy, 1.0)))[0]
            for sign in (1, -1)
        )
        assert (one - other) % 1.0 == pytest.approx(0.5, abs=0.01)


@settings(deadline=None, max_examples=200)
@given(span=st.floats(1e-6, 1e9), at_most=st.integers(1, 40))
def test_grids_are_no_denser_than_asked(span, at_most):
    assert span / drawing.round_step(span, at_most) <= at_most * (1 + 1e-9)
    assert span / drawing.time_step(span, at_most) <= at_most * (1 + 1e-9)


@pytest.mark.parametrize(
    ("seconds", "step", "words"),
    [(7, 1, "7 s"), (0.25, 0.05, "0.25 s"), (65, 5, "1:05"), (3725, 60, "1:02:05"), (0, 0.5, "0.0 s")],
)
def test_clock(seconds, step, words):
    assert drawing.clock_text(seconds, step) == words


def test_long_words_are_shortened_to_fit():
    words = drawing.shortened("a_very_long_file_name_of_a_clip.mp4" * 4, 26, 300)
    assert drawing.text_width(words, 26) <= 300
    assert words.startswith("a_very") and "..." in words and words.endswith(".mp4")
