"""The drawing of a code: every segment is there, to scale, with what was pruned left out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.code.modes import group_frames
from codeclens.models.code.visual_code import Segment, VisualCode, grid_positions
from codeclens.models.drawing import code as drawing
from codeclens.models.drawing.canvas import DROPPED
from codeclens.models.drawing.code import COLOURS, Layout, code_view, draw_code, fitting_layout
from codeclens.models.drawing.timeline import TimeScale
from codeclens.models.errors import InputError
from codeclens.models.source.reading import VideoSource
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import frames_of, plan_for

WIDTH = 900
KINDS = "IPPPIPIPPPPPPP"
WAYS = [("thumbnail", {}), ("thumbnail", {"pair_thumbnails": True}), ("keyframes", {}), ("rgb", {})]


def flat_frames(count: int, height: int = 256, width: int = 384):
    """Frames of one colour each, no two alike."""
    colours = [[40 + 13 * number % 200, 60 + 29 * number % 190, 50 + 47 * number % 180] for number in range(count)]
    return frames_of(np.array(colours, np.uint8)[:, None, None].repeat(height, 1).repeat(width, 2))


def code_of(plan, mode: str = "thumbnail", **options) -> VisualCode:
    """A code of ``plan`` whose tokens are zeros: they are never read."""
    segments = []
    for group in group_frames(plan, mode, **options):
        shown = list(dict.fromkeys(group.frames))
        index, pts = (tuple(values[shown].tolist()) for values in (plan.index, plan.pts))
        empty = torch.zeros(1, group.tokens, 1)
        segments.append(
            Segment(group.kind, index, pts, group.stamped, group.grid, grid_positions(group.grid), empty[0], empty)
        )
    return VisualCode(tuple(segments), mode, "clip.mp4", "", plan)


def slots_of(layout: Layout):
    return [slot for panel in layout.panels for slot in panel.slots]


def near(pixel, colour, tolerance=6):
    return np.abs(np.asarray(pixel, int) - np.asarray(colour, int)).max() <= tolerance


@pytest.mark.parametrize(("mode", "options"), WAYS)
def test_every_segment_shows_its_frames_in_order_and_to_scale(mode, options):
    frames = flat_frames(len(KINDS))
    code = code_of(plan_for(frames, KINDS), mode, **options)
    picture = np.asarray(draw_code(code, [frames], WIDTH))
    layout = fitting_layout(code, WIDTH)
    slots = slots_of(layout)
    assert picture.shape == (layout.height, WIDTH, 3)
    assert [slot.segment for slot in slots] == list(code)
    for slot in slots:
        rows, columns = (side * layout.cell for side in slot.segment.grid)
        shown = picture[round(slot.top) :, round(slot.left) :][:rows, :columns]
        colours = [frames.rgb[index, 0, 0] for index in slot.segment.index]
        assert near(shown[2, 2], colours[0]) and near(shown[-3, -3], colours[-1])
        beyond = picture[round(slot.top) + rows // 2, round(slot.left) + columns + 2]
        assert not near(beyond, colours[-1])


def test_a_code_is_drawn_from_its_video():
    frames = flat_frames(4)
    code = code_of(plan_for(frames, "IPPI"))
    source = VideoSource.from_images(frames.rgb, 2.0)
    assert np.array_equal(np.asarray(code_view(code, source, WIDTH)), np.asarray(draw_code(code, [frames], WIDTH)))


def test_pruned_cells_are_grey_and_the_others_are_not():
    frames = flat_frames(2)
    code = code_of(plan_for(frames, "II"))
    kept = torch.arange(8 * 12) % 3 == 0
    code = replace(code, segments=(code.segments[0], code.segments[1].keep(kept)))
    layout = fitting_layout(code, WIDTH)
    picture = np.asarray(draw_code(code, [frames], WIDTH))
    whole, pruned = slots_of(layout)
    middles = [(number + 0.5) * layout.cell for number in range(12)]
    for slot, mask in ((whole, torch.ones_like(kept)), (pruned, kept)):
        colour = frames.rgb[slot.segment.index[0], 0, 0]
        for number, keeps in enumerate(mask.tolist()):
            row, column = divmod(number, 12)
            pixel = picture[int(slot.top + middles[row]), int(slot.left + middles[column])]
            assert near(pixel, colour) == keeps


def test_bars_are_as_high_as_tokens_and_dropped_groups_lie_grey():
    frames = flat_frames(12)
    plan = plan_for(frames, "IPPIPPIPPIPP")
    plan = replace(plan, keep=np.arange(12) // 3 != 2)
    code = code_of(plan)
    picture = np.asarray(draw_code(code, [frames], WIDTH))
    scale = TimeScale(plan.pts, drawing.BARS_LEFT, WIDTH - drawing.MARGIN)
    middles = scale.x((scale.edges[:-1] + scale.edges[1:]) / 2).astype(int)
    bars = picture[drawing.TOP_BARS : drawing.TOP_BARS + drawing.BARS_HEIGHT, middles]
    heights = {kind: [int(sum(near(p, COLOURS[kind]) for p in bars[:, t])) for t in range(12)] for kind in "IP"}
    tokens = plan.in_mode("thumbnail").tokens
    for position in range(12):
        kind = "PI"[plan.kind[position]]
        if plan.keep[position]:
            expected = drawing.BARS_HEIGHT * tokens[position] / (1.08 * tokens.max())
            assert heights[kind][position] == pytest.approx(expected, abs=1.5)
        else:
            assert near(bars[-2, position], DROPPED) and heights["I"][position] == heights["P"][position] == 0


def test_only_stamped_pictures_carry_their_time():
    frames = flat_frames(6)
    plan = plan_for(frames, "IPPPPP")
    every, whole = (code_of(plan, stamps=stamps) for stamps in ("every", "whole"))
    layout = fitting_layout(every, WIDTH)
    assert layout.labelled
    stamped, bare = (np.asarray(draw_code(code, [frames], WIDTH)).astype(int) for code in (every, whole))
    for slot in slots_of(layout):
        line = np.s_[round(slot.top) - 12 : round(slot.top) - 2, round(slot.left) : round(slot.left) + 20]
        assert (np.abs(stamped[line] - bare[line]).max() > 50) == (not slot.whole)


def test_another_video_is_refused():
    frames = flat_frames(4)
    code = code_of(plan_for(frames, "IPPI"))
    with pytest.raises(InputError, match="frame 3 of the code of clip.mp4 is not in this video"):
        draw_code(code, [flat_frames(3)], WIDTH)


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.text("IP", min_size=0, max_size=150),
    size=st.sampled_from([(256, 256), (384, 672), (672, 384), (32, 1024), (1024, 32)]),
    way=st.sampled_from(WAYS),
    width=st.sampled_from([900, 1600]),
)
def test_pictures_never_overlap_and_stay_on_their_panel_and_page(kinds, size, way, width):
    frames = frames_of(np.zeros((len(kinds) + 1, 32, 32, 3), np.uint8))
    plan = replace(plan_for(frames, "I" + kinds), size=size)
    mode, options = way
    layout = fitting_layout(code_of(plan, mode, **options), width)
    assert layout.cell >= drawing.SMALLEST_CELL
    taken = np.zeros((layout.height, width), bool)
    for panel in layout.panels:
        assert panel.left + panel.width <= width - drawing.MARGIN + 0.5 or len(panel.slots) == 1
        assert panel.top + panel.height <= layout.height
        for slot in panel.slots:
            high, wide = (side * layout.cell for side in slot.segment.grid)
            top, left = round(slot.top), round(slot.left)
            assert panel.left <= slot.left and slot.left + wide <= panel.left + panel.width
            assert panel.top <= slot.top and slot.top + high <= panel.top + panel.height
            area = taken[top : top + high, left : left + wide]
            assert area.shape == (high, wide) and not area.any()
            area[:] = True
    assert len(slots_of(layout)) == len(layout.code.segments)
