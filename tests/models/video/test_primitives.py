"""Primitives that stream: the chunks a clip arrives in, and the memory they cost, leave no trace in the result."""

import threading
import tracemalloc

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.reading import Frames
from codeclens.models.video.motion import search
from codeclens.models.video.planning import plan
from codeclens.models.video.primitives import primitives
from hypothesis import given, settings
from hypothesis import strategies as st


def clip(count, height=64, width=96, seed=0):
    """Frames of a scene that drifts by (3, 1) a frame and is another scene from the middle on."""
    scenes = np.random.default_rng(seed).integers(0, 256, (2, height + count, width + 3 * count, 3), dtype=np.uint8)
    rgb = np.stack([scenes[int(2 * t >= count)][t : t + height, 3 * t : 3 * t + width] for t in range(count)])
    return Frames(rgb, 0.25 + np.arange(count) / 2, 7 + 12 * np.arange(count))


def cut_up(frames, lengths):
    start = 0
    for length in [*lengths, len(frames)]:
        part = slice(start, start + length)
        start += length
        yield Frames(frames.rgb[part], frames.pts[part], frames.index[part])


@given(lengths=st.lists(st.integers(0, 4), max_size=6))
@settings(deadline=None, max_examples=15)
def test_chunks_make_no_difference(lengths):
    frames = clip(8)
    seen = primitives(cut_up(frames, lengths))
    mv, cost, sad = search(frames.rgb)
    assert (seen.mv == mv).all() and (seen.cost == cost).all() and (seen.sad == sad).all()
    assert (seen.mv.dtype, seen.cost.dtype, seen.sad.dtype) == (np.int16, np.float32, np.float32)
    assert seen.ref.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6] and seen.valid.all()
    assert (seen.pts == frames.pts).all() and (seen.index == frames.index).all()
    assert seen.size == (64, 96) and seen.source == "search" and len(seen) == 8


def test_pcost_is_the_sum_of_the_chosen_costs():
    seen = primitives([clip(6)])
    assert np.isnan(seen.pcost[0])
    assert (seen.pcost[1:] == seen.cost[1:].astype(np.float64).sum(axis=(1, 2))).all()
    assert (seen.cost == seen.sad + 4 * np.abs(seen.mv.astype(int)).sum(axis=3)).all()


def test_a_change_of_scene_becomes_an_i_frame():
    made = plan(primitives([clip(10)]), gamma=35 * 64 * 96 * 3)
    assert made.why == ("first", "", "", "", "", "cost", "", "", "", "")
    assert made.index[5] == 67 and made.pts[5] == 2.75


def test_progress_counts_frames_and_can_cancel():
    calls = []
    primitives(cut_up(clip(8), [3, 3]), progress=lambda *call: calls.append(call), total=8)
    assert calls == [(3, 8), (6, 8), (8, 8)]
    calls.clear()
    primitives(cut_up(clip(8), [3, 3]), progress=lambda *call: calls.append(call))
    assert calls == [(3, 3), (6, 6), (8, 8)]

    def cancel(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        primitives([clip(2)], progress=cancel)


def test_no_thread_is_left_when_the_search_is_given_up():
    """Also while somebody holds the error, and with it the frames of the stack that it came from."""

    def cancel(*_):
        raise InterruptedError

    with pytest.raises(InterruptedError) as held:
        primitives(cut_up(clip(30), [2] * 15), progress=cancel)
    assert held.tb is not None
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


@pytest.mark.slow
def test_peak_memory_follows_the_chunk_not_the_clip():
    def peak(chunks):
        one = clip(4, 128, 128)
        tracemalloc.start()
        primitives(Frames(one.rgb.copy(), one.pts + t, one.index + 100 * t) for t in range(chunks))
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(1)
    kept = 8 * 8 * 13 * 4 * 14  # what 56 more frames of 64 blocks leave: 13 bytes of mv, cost, sad, valid
    assert peak(20) < 1.3 * peak(6) + 2 * kept  # six chunks: four of them are read, wait or are searched at a time


def test_no_frame_and_another_size_are_refused():
    with pytest.raises(InputError, match="no frames"):
        primitives([])
    with pytest.raises(InputError, match="frame 7 is 96x64 after frames of 64x64"):
        primitives([clip(2, 64, 64), clip(2, 64, 96)])
