"""Cuts, fades and dissolves: exact on the real clips, and on made ones that try to deceive."""

import json

import numpy as np
import pytest
from codeclens.models.source.reading import VideoSource
from codeclens.models.video.cuts import Cuts, Span, cuts_of, find_cuts
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clips import encode, scene

HEIGHT, WIDTH = 90, 160


def look(rgb, fps=25) -> Cuts:
    return find_cuts(VideoSource.from_images(np.asarray(rgb).clip(0, 255).astype(np.uint8), fps))


def shot(count, seed, *, speed=1.0, contrast=1.0) -> np.ndarray:
    """float32 [T, 90, 160, 3]: a camera that pans over a scene at ``speed`` pixels a frame."""
    wide = scene(HEIGHT, WIDTH + int(abs(speed) * count) + 8, seed=seed, contrast=contrast).astype(np.float32)
    return np.stack([wide[:, int(abs(speed) * i) : int(abs(speed) * i) + WIDTH] for i in range(count)])


def dissolve(a, b, frames) -> tuple[np.ndarray, tuple[int, int]]:
    """``a`` going over into ``b`` in ``frames`` steps, and the first and last frame of that."""
    share = np.linspace(0, 1, frames + 1)[1:, None, None, None]
    mixed = a[-frames:] * (1 - share) + b[:frames] * share
    return np.concatenate([a[:-frames], mixed, b[frames:]]), (len(a) - frames, len(a) - 1)


@pytest.mark.slow
def test_real_clips_have_the_cuts_and_spans_that_people_saw(clips):
    for clip in json.loads((clips / "index.json").read_text()):
        truth = clip["truth"]
        found = find_cuts(VideoSource.open(clips / clip["file"]))
        assert list(found.cuts) == truth.get("cuts", []), clip["file"]
        expected = [("fade_in", *span) for span in truth.get("fades_in", [])]
        expected += [("fade_out", *span) for span in truth.get("fades_out", [])]
        expected += [("dissolve", *span) for span in truth.get("dissolves", [])]
        assert [span.kind for span in found.spans] == [kind for kind, *_ in sorted(expected, key=lambda s: s[1])]
        for span, (_, first, last) in zip(found.spans, sorted(expected, key=lambda s: s[1]), strict=True):
            assert abs(span.first - first) <= 1 and abs(span.last - last) <= 1, (clip["file"], span)


@pytest.mark.slow
@settings(deadline=None, max_examples=15)
@given(
    lengths=st.lists(st.integers(12, 40), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    speed=st.sampled_from([0, 0.5, 2, 6]),
)
def test_cuts_between_moving_shots(lengths, seed, speed):
    shots = [shot(length, seed + 7 * position, speed=speed) for position, length in enumerate(lengths)]
    assert look(np.concatenate(shots)) == Cuts(tuple(np.cumsum(lengths[:-1]).tolist()), ())


@pytest.mark.parametrize("contrast, light", [(0.5, 0.2), (0.5, 0.4)])
def test_cuts_in_dark_noisy_footage(contrast, light):
    random = np.random.default_rng(3)
    footage = np.concatenate([shot(30, 1, contrast=contrast), shot(30, 2, contrast=contrast)]) * light
    footage += random.normal(0, 10, footage.shape)
    assert look(footage) == Cuts((30,), ())


def test_dark_noisy_footage_without_a_cut():
    random = np.random.default_rng(4)
    assert look(shot(80, 1, contrast=0.3) * 0.12 + random.normal(0, 14, (80, HEIGHT, WIDTH, 3))) == Cuts((), ())


@pytest.mark.parametrize("fastest", [12, 30, 60])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whip_pan_is_no_cut(fastest, seed):
    speed = fastest * np.exp(-((np.arange(50) - 25) ** 2) / 50)
    place = np.concatenate([[0], np.cumsum(speed)])
    wide = scene(HEIGHT, WIDTH + int(place[-1]) + 4, seed=seed).astype(np.float32)
    frames = []
    for begin, end in zip(place[:-1], place[1:], strict=True):
        # The shutter is open for half the time between two frames.
        at = np.linspace(begin, begin + (end - begin) / 2, 1 + int(end - begin)).astype(int)
        frames.append(np.mean([wide[:, x : x + WIDTH] for x in at], axis=0))
    assert look(frames) == Cuts((), ())


@pytest.mark.parametrize("length", [1, 2, 4])
def test_flash_is_no_cut(length):
    footage = shot(40, 5)
    footage[20 : 20 + length] = footage[20 : 20 + length] * 0.2 + 230
    assert look(footage) == Cuts((), ())
    footage[20 : 20 + length] = 255
    assert look(footage) == Cuts((), ())


@pytest.mark.parametrize("on, off", [(1, 1), (2, 3), (1, 5)])
def test_strobe_is_no_cut(on, off):
    footage = shot(60, 6)
    footage[np.arange(60) % (on + off) < off] *= 0.08
    assert look(footage) == Cuts((), ())


def test_lightning_that_fades_is_no_cut():
    footage = shot(50, 7) * 0.3
    footage[20:34] *= 1 + 2.5 * np.exp(-np.arange(14) / 4)[:, None, None, None]
    assert look(footage) == Cuts((), ())


def test_light_switched_on_is_no_cut():
    footage = shot(50, 8)
    footage[:25] *= 0.35
    assert look(footage) == Cuts((), ())


@pytest.mark.slow
def test_slow_change_of_light_is_no_span():
    footage = shot(80, 9, speed=0) * np.linspace(1, 0.4, 80)[:, None, None, None]
    assert look(footage) == Cuts((), ())


def test_fast_zoom_and_shake_are_no_cuts():
    wide = scene(HEIGHT * 3, WIDTH * 3, seed=10)
    random = np.random.default_rng(0)
    frames = []
    for step in range(50):
        half = 0.5 + 0.95 ** min(step, 30)
        y, x = random.integers(-6, 7, 2)
        rows = (HEIGHT * 1.5 + y + np.linspace(-half, half, HEIGHT) * HEIGHT * 0.8).astype(int).clip(0, 3 * HEIGHT - 1)
        columns = (WIDTH * 1.5 + x + np.linspace(-half, half, WIDTH) * WIDTH * 0.8).astype(int).clip(0, 3 * WIDTH - 1)
        frames.append(wide[rows][:, columns])
    assert look(frames) == Cuts((), ())


def test_object_that_crosses_the_picture_is_no_cut():
    footage = shot(40, 11, speed=0)
    for step in range(40):
        footage[step, 20:80, max(0, 12 * step - 100) : max(0, 12 * step - 30)] = (30, 40, 160)
    assert look(footage) == Cuts((), ())


def test_cut_between_two_framings_of_one_scene():
    wide = scene(HEIGHT * 2, WIDTH * 2, seed=12).astype(np.float32)
    total = np.repeat(wide[None, ::2, ::2], 20, axis=0)
    close = np.repeat(wide[None, 45 : 45 + HEIGHT, 80 : 80 + WIDTH], 20, axis=0)
    assert look(np.concatenate([total, close, total])) == Cuts((20, 40), ())


def test_cut_while_the_camera_moves_fast():
    assert look(np.concatenate([shot(20, 13, speed=9), shot(20, 14, speed=9)])).cuts == (20,)


def test_cut_where_frames_are_doubled():
    footage = np.repeat(np.concatenate([shot(12, 15, speed=3), shot(12, 16, speed=3)]), 2, axis=0)
    assert look(footage).cuts == (24,)


@pytest.mark.parametrize(
    "frames, speed", [(8, 0), (15, 0), (25, 0), (50, 0), (8, 0.4), (25, 0.4), (50, 0.4), (8, 0.8), (15, 0.8), (30, 0.8)]
)
def test_dissolve_is_one_span(frames, speed):
    footage, (first, last) = dissolve(shot(80, 17, speed=speed), shot(80, 18, speed=speed), frames)
    found = look(footage)
    assert found.cuts == () and [span.kind for span in found.spans] == ["dissolve"]
    assert abs(found.spans[0].first - first) <= 2 and abs(found.spans[0].last - last) <= 2


@pytest.mark.parametrize("plain", [0, 255, (20, 60, 150)])
@pytest.mark.parametrize("frames", [8, 30])
def test_fades_out_and_in(plain, frames):
    card = np.broadcast_to(np.array(plain, np.float32), (frames + 20, HEIGHT, WIDTH, 3))
    footage, out = dissolve(shot(60, 19, speed=0.4), card, frames)
    back, into = dissolve(card, shot(60, 20, speed=0.4), frames)
    found = look(np.concatenate([footage, back]))
    into = tuple(at + len(footage) for at in into)
    assert found.cuts == () and [span.kind for span in found.spans] == ["fade_out", "fade_in"]
    for span, (first, last) in zip(found.spans, (out, into), strict=True):
        assert abs(span.first - first) <= 2 and abs(span.last - last) <= 2


def test_dissolve_with_doubled_frames():
    footage, (first, last) = dissolve(shot(40, 17, speed=0), shot(40, 18, speed=0), 12)
    footage = np.delete(np.repeat(footage, 2, axis=0), np.arange(0, 120, 7), axis=0)
    found = look(footage)
    assert found.cuts == () and len(found.spans) == 1


def test_pan_and_zoom_are_no_dissolves():
    for speed in (0.3, 0.7, 1.5, 3, 5, 9):
        assert look(shot(70, 24, speed=speed)) == Cuts((), ())


@pytest.mark.slow
def test_long_clip_is_seen_through_windows_without_seams():
    lengths = [97] * 15
    shots = [shot(length, position, speed=0) for position, length in enumerate(lengths)]
    footage = np.concatenate(shots)
    assert look(footage).cuts == tuple(np.cumsum(lengths[:-1]).tolist())


def test_frame_numbers_are_those_of_the_source():
    footage = np.concatenate([shot(30, 21), shot(30, 22), shot(30, 23)])
    data = encode(footage.astype(np.uint8))
    assert find_cuts(VideoSource.open(data)).cuts == (30, 60)
    assert find_cuts(VideoSource.open(data, start=1.6)).cuts == (60,)


def test_result_is_plain_json():
    cuts = Cuts((3, 9), (Span("dissolve", 4, 8),))
    assert json.loads(json.dumps(cuts.to_json())) == {
        "cuts": [3, 9],
        "spans": [{"kind": "dissolve", "first": 4, "last": 8}],
    }


def test_shortest_clips():
    assert look(shot(1, 1)) == look(shot(2, 1)) == look(shot(7, 1)) == Cuts((), ())


def test_cuts_are_looked_for_once_for_as_long_as_the_source_is_held(monkeypatch):
    looked = []

    def look(source, progress):
        looked.append(id(source))
        return Cuts((), ())

    monkeypatch.setattr("codeclens.models.video.cuts.find_cuts", look)
    one, other = (VideoSource.from_images(np.zeros((3, 36, 64, 3), np.uint8), 4.0) for _ in range(2))
    assert cuts_of(one) is cuts_of(one) is not cuts_of(other)
    assert looked == [id(one), id(other)]
