"""Which frames are shown together, how large and with what stamp, mode by mode."""

from pathlib import Path

import numpy as np
import pytest
from codeclens.models.code.modes import ENCODERS, Group, encoder_of, group_frames
from codeclens.models.code.modes.pictures import batch_plan
from codeclens.models.errors import InputError
from codeclens.models.video.planning import plan_from_costs
from codeclens.models.video.tokens import MODES, frame_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from support.mode_table import mode_table

ROOT = Path(__file__).resolve().parents[3]


def plan_of(kinds: str, **options):
    frames = [i for i, kind in enumerate(kinds) if kind == "I"]
    return plan_from_costs([0.0] * len(kinds), "frames", frames=frames, **options)


def shown(groups):
    return [(group.kind, group.frames, group.size) for group in groups]


WHOLE, SMALL = (512, 512), (128, 128)


def test_thumbnail_shows_i_frames_whole_and_p_frames_small():
    assert shown(group_frames(plan_of("IPPIP"), "thumbnail")) == [
        ("I", (0,), WHOLE),
        ("P", (1,), SMALL),
        ("P", (2,), SMALL),
        ("I", (3,), WHOLE),
        ("P", (4,), SMALL),
    ]


def test_paired_thumbnails_stay_within_their_gop_and_an_odd_one_pairs_with_itself():
    assert shown(group_frames(plan_of("IPPPIPP"), "thumbnail", pair_thumbnails=True)) == [
        ("I", (0,), WHOLE),
        ("pair", (1, 2), SMALL),
        ("pair", (3, 3), SMALL),
        ("I", (4,), WHOLE),
        ("pair", (5, 6), SMALL),
    ]


def test_keyframes_leaves_p_frames_out():
    assert shown(group_frames(plan_of("IPPIP"), "keyframes")) == [("I", (0,), WHOLE), ("I", (3,), WHOLE)]


def test_rgb_pairs_neighbours_and_repeats_an_odd_last_frame():
    assert shown(group_frames(plan_of("IPPIP"), "rgb")) == [
        ("pair", (0, 1), WHOLE),
        ("pair", (2, 3), WHOLE),
        ("pair", (4, 4), WHOLE),
    ]


def test_every_encoder_has_its_record_and_every_untrained_mode_its_encoder():
    assert set(ENCODERS) <= set(MODES)
    assert {name for name, mode in MODES.items() if not mode.trained} <= set(ENCODERS)
    assert all(encoder_of(name).mode is MODES[name] for name in ENCODERS)


def test_cells_open_each_stretch_with_a_whole_pair():
    plan = plan_of("IPPIPPP")
    plan.keep[3:5] = False
    groups = group_frames(plan, "cells")
    assert shown(groups) == [("pair", (0, 1), WHOLE), ("P", (2, 2), WHOLE), ("P", (5, 6), WHOLE)]
    assert [group.tokens for group in groups] == [256, 42, 42]


def test_stamps():
    plan = plan_of("IPPPIPPP")  # two frames a second
    stamped = {
        stamps: [group.stamped for group in group_frames(plan, "thumbnail", stamps=stamps)]
        for stamps in ("every", "whole", "second")
    }
    assert all(stamped["every"])
    assert stamped["whole"] == [True, False, False, False] * 2
    assert stamped["second"] == [True, False] * 4


def test_the_stamp_of_a_pair_is_the_mean_of_its_two_times():
    plan = plan_from_costs([0.0] * 4, pts=np.array([0.4, 0.9, 1.9, 2.3]))
    groups = group_frames(plan, "rgb", stamps="second")
    assert [group.time for group in groups] == pytest.approx([0.65, 2.1])
    assert [group.stamped for group in groups] == [True, True]
    plan = plan_from_costs([0.0] * 4, pts=np.array([0.4, 1.8, 1.9, 2.0]))
    assert [group.stamped for group in group_frames(plan, "rgb", stamps="second")] == [True, False]


def test_native_pairs_are_whole_pictures_and_keep_their_stamps():
    assert all(group.stamped for group in group_frames(plan_of("IPPIP"), "rgb", stamps="whole"))


@given(
    shapes=st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from([(64, 64), (128, 128)])), max_size=20),
    limit=st.integers(1, 300),
)
def test_batches_hold_every_group_once_in_equal_shapes_and_within_their_limit(shapes, limit):
    groups = [Group("pair", tuple(range(count)), size, 0.0, True, 1) for count, size in shapes]
    batches = batch_plan(groups, limit)
    assert sorted(number for batch in batches for number in batch) == list(range(len(groups)))
    for batch in batches:
        patches = [groups[number].patches for number in batch]
        assert len({shapes[number] for number in batch}) == 1
        assert sum(patches) <= limit or len(batch) == 1
    full = [batch for batch in batches if (len(batch) + 1) * groups[batch[0]].patches > limit]
    open_shapes = [shapes[batch[0]] for batch in batches if batch not in full]
    assert len(open_shapes) == len(set(open_shapes))


@settings(max_examples=60, deadline=None)
@given(
    costs=st.lists(st.floats(0, 1e8), min_size=1, max_size=60),
    mode=st.sampled_from(sorted(ENCODERS)),
    budget=st.integers(2000, 20000),
)
def test_groups_cost_what_the_plan_says(costs, mode, budget):
    plan = plan_from_costs(costs, "budget", budget=budget, mode=mode, gamma=3e7)
    groups = group_frames(plan, mode)
    assert sum(group.tokens for group in groups) == frame_tokens(mode, plan.kind, plan.keep, plan.size).sum() <= budget
    times = [plan.pts[group.frames[0]] for group in groups]
    assert times == sorted(times)
    frames = [frame for group in groups for frame in dict.fromkeys(group.frames)]
    expected = np.flatnonzero(plan.keep & (plan.kind == 1) if mode == "keyframes" else plan.keep)
    assert frames == expected.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "video"}, "the mode is 'video'"), ({"mode": "rgb", "stamps": "some"}, "the stamps are 'some'")],
)
def test_wrong_choices_are_one_sentence(options, message):
    with pytest.raises(InputError, match=message):
        group_frames(plan_of("IP"), **options)


@pytest.mark.parametrize(("page", "names"), [("nodes.md", MODES), ("CodecLensEncodeVideo.md", ENCODERS)])
def test_the_tables_of_modes_are_those_of_the_records(page, names):
    table = mode_table(names)
    assert table in (ROOT / "web" / "docs" / page).read_text(encoding="utf-8"), f"{page} needs this table:\n{table}"
