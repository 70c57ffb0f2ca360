"""Cuts, fades and dissolves: exact on the real clips, and on made ones that try to deceive."""

import json

import numpy as np
import pytest
from codeclens.models.source.reading import VideoSource
from codeclens.models.video import cuts as cuts_module
from codeclens.models.video.cuts import Cuts, Span, cuts_of, find_cuts, shortest_shot
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clips import encode, scene
from support.joined_clips import KINDS, Takes, card, joined_clip, matches, still, with_bars
from support.tiers import every_value_once

HEIGHT, WIDTH = 90, 160


def found_in(rgb, fps=25) -> Cuts:
    return find_cuts(VideoSource.from_images(np.asarray(rgb).clip(0, 255).astype(np.uint8), fps))


def shot(count, seed, *, speed=1.0, contrast=1.0) -> np.ndarray:
    """float32 [T, 90, 160, 3]: a camera that pans over a scene at ``speed`` pixels a frame."""
    wide = scene(HEIGHT, WIDTH + int(abs(speed) * count) + 8, seed=seed, contrast=contrast).astype(np.float32)
    return np.stack([wide[:, int(abs(speed) * i) : int(abs(speed) * i) + WIDTH] for i in range(count)])


def dissolve(a, b, frames) -> tuple[np.ndarray, tuple[int, int]]:
    """``a`` going over into ``b`` in ``frames`` steps, and the first and last frame of that."""
    fraction = np.linspace(0, 1, frames + 1)[1:, None, None, None]
    mixed = a[-frames:] * (1 - fraction) + b[:frames] * fraction
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
    assert found_in(np.concatenate(shots)) == Cuts(tuple(np.cumsum(lengths[:-1]).tolist()), ())


@pytest.mark.parametrize("contrast, light", [(0.5, 0.2), (0.5, 0.4)])
def test_cuts_in_dark_noisy_footage(contrast, light):
    random = np.random.default_rng(3)
    footage = np.concatenate([shot(30, 1, contrast=contrast), shot(30, 2, contrast=contrast)]) * light
    footage += random.normal(0, 10, footage.shape)
    assert found_in(footage) == Cuts((30,), ())


def test_dark_noisy_footage_without_a_cut():
    random = np.random.default_rng(4)
    assert found_in(shot(80, 1, contrast=0.3) * 0.12 + random.normal(0, 14, (80, HEIGHT, WIDTH, 3))) == Cuts((), ())


@pytest.mark.parametrize("fastest, seed", every_value_once([12, 30, 60], [1, 2, 3]))
def test_whip_pan_is_no_cut(fastest, seed):
    speed = fastest * np.exp(-((np.arange(50) - 25) ** 2) / 50)
    left = np.concatenate([[0], np.cumsum(speed)])
    wide = scene(HEIGHT, WIDTH + int(left[-1]) + 4, seed=seed).astype(np.float32)
    frames = []
    for begin, end in zip(left[:-1], left[1:], strict=True):
        # The shutter is open for half the time between two frames.
        at = np.linspace(begin, begin + (end - begin) / 2, 1 + int(end - begin)).astype(int)
        frames.append(np.mean([wide[:, x : x + WIDTH] for x in at], axis=0))
    assert found_in(frames) == Cuts((), ())


@pytest.mark.parametrize("length", [1, 2, 4])
def test_flash_is_no_cut(length):
    footage = shot(40, 5)
    footage[20 : 20 + length] = footage[20 : 20 + length] * 0.2 + 230
    assert found_in(footage) == Cuts((), ())
    footage[20 : 20 + length] = 255
    assert found_in(footage) == Cuts((), ())


@pytest.mark.parametrize("on, off", [(1, 1), (2, 3), (1, 5)])
def test_strobe_is_no_cut(on, off):
    footage = shot(60, 6)
    footage[np.arange(60) % (on + off) < off] *= 0.08
    assert found_in(footage) == Cuts((), ())


def test_lightning_that_fades_is_no_cut():
    footage = shot(50, 7) * 0.3
    footage[20:34] *= 1 + 2.5 * np.exp(-np.arange(14) / 4)[:, None, None, None]
    assert found_in(footage) == Cuts((), ())


def test_light_switched_on_is_no_cut():
    footage = shot(50, 8)
    footage[:25] *= 0.35
    assert found_in(footage) == Cuts((), ())


@pytest.mark.slow
def test_slow_change_of_light_is_no_span():
    footage = shot(80, 9, speed=0) * np.linspace(1, 0.4, 80)[:, None, None, None]
    assert found_in(footage) == Cuts((), ())


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
    assert found_in(frames) == Cuts((), ())


def test_object_that_crosses_the_picture_is_no_cut():
    footage = shot(40, 11, speed=0)
    for step in range(40):
        footage[step, 20:80, max(0, 12 * step - 100) : max(0, 12 * step - 30)] = (30, 40, 160)
    assert found_in(footage) == Cuts((), ())


def test_cut_between_two_framings_of_one_scene():
    wide = scene(HEIGHT * 2, WIDTH * 2, seed=12).astype(np.float32)
    total = np.repeat(wide[None, ::2, ::2], 20, axis=0)
    close = np.repeat(wide[None, 45 : 45 + HEIGHT, 80 : 80 + WIDTH], 20, axis=0)
    assert found_in(np.concatenate([total, close, total])) == Cuts((20, 40), ())


def test_cut_while_the_camera_moves_fast():
    assert found_in(np.concatenate([shot(20, 13, speed=9), shot(20, 14, speed=9)])).cuts == (20,)


def test_cut_where_frames_are_doubled():
    footage = np.repeat(np.concatenate([shot(12, 15, speed=3), shot(12, 16, speed=3)]), 2, axis=0)
    assert found_in(footage).cuts == (24,)


MOVING_FASTER = [pytest.param(frames, 0.8, marks=pytest.mark.slow) for frames in (8, 15, 30)]


@pytest.mark.parametrize("frames, speed", [*every_value_once([8, 15, 25, 50], [0, 0.4]), *MOVING_FASTER])
def test_dissolve_is_one_span(frames, speed):
    footage, (first, last) = dissolve(shot(80, 17, speed=speed), shot(80, 18, speed=speed), frames)
    found = found_in(footage)
    assert found.cuts == () and [span.kind for span in found.spans] == ["dissolve"]
    assert abs(found.spans[0].first - first) <= 2 and abs(found.spans[0].last - last) <= 2


@pytest.mark.parametrize("plain, frames", every_value_once([0, 255, (20, 60, 150)], [8, 30]))
def test_fades_out_and_in(plain, frames):
    card = np.broadcast_to(np.array(plain, np.float32), (frames + 20, HEIGHT, WIDTH, 3))
    footage, out = dissolve(shot(60, 19, speed=0.4), card, frames)
    back, into = dissolve(card, shot(60, 20, speed=0.4), frames)
    found = found_in(np.concatenate([footage, back]))
    into = tuple(at + len(footage) for at in into)
    assert found.cuts == () and [span.kind for span in found.spans] == ["fade_out", "fade_in"]
    for span, (first, last) in zip(found.spans, (out, into), strict=True):
        assert abs(span.first - first) <= 2 and abs(span.last - last) <= 2


def test_dissolve_with_doubled_frames():
    footage, (first, last) = dissolve(shot(40, 17, speed=0), shot(40, 18, speed=0), 12)
    footage = np.delete(np.repeat(footage, 2, axis=0), np.arange(0, 120, 7), axis=0)
    found = found_in(footage)
    assert found.cuts == () and len(found.spans) == 1


def wipe(a, b, frames, shape) -> tuple[np.ndarray, tuple[int, int]]:
    """``b`` laid over ``a`` in ``frames`` steps, and the first and last frame of that."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    order = {
        "right": x / WIDTH,
        "down": y / HEIGHT,
        "diagonal": (x / WIDTH + y / HEIGHT) / 2,
        "iris": np.hypot(x / WIDTH - 0.5, y / HEIGHT - 0.5) / 0.708,
        "clock": (np.arctan2(y - HEIGHT / 2, x - WIDTH / 2) + np.pi) / (2 * np.pi),
    }[shape]
    fraction = np.linspace(0, 1.001, frames + 1)[1:, None, None]
    mixed = np.where((order < fraction)[..., None], b[:frames], a[-frames:])
    return np.concatenate([a[:-frames], mixed, b[frames:]]), (len(a) - frames, len(a) - 1)


@pytest.mark.parametrize(
    "shape, length",
    every_value_once(["right", "down", "diagonal", "iris", "clock"], [(8, 0), (20, 0), (36, 0), (10, 0.3)]),
)
def test_wipe_is_one_span(shape, length):
    frames, speed = length
    footage, (first, last) = wipe(shot(60, 17, speed=speed), shot(60, 18, speed=speed), frames, shape)
    found = found_in(footage)
    assert found.cuts == () and [span.kind for span in found.spans] == ["wipe"]
    assert abs(found.spans[0].first - first) <= 5 and abs(found.spans[0].last - last) <= 5


def test_pan_and_zoom_are_no_dissolves():
    for speed in (0.3, 0.7, 1.5, 3, 5, 9):
        assert found_in(shot(70, 24, speed=speed)) == Cuts((), ())


@pytest.mark.slow
def test_long_clip_is_seen_through_windows_without_seams():
    lengths = [97] * 15
    shots = [shot(length, position, speed=0) for position, length in enumerate(lengths)]
    footage = np.concatenate(shots)
    assert found_in(footage).cuts == tuple(np.cumsum(lengths[:-1]).tolist())


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
    assert found_in(shot(1, 1)) == found_in(shot(2, 1)) == found_in(shot(7, 1)) == Cuts((), ())


def test_cuts_are_found_once_for_as_long_as_the_source_is_held(monkeypatch):
    calls = []

    def found_in(source, progress):
        calls.append(id(source))
        return Cuts((), ())

    monkeypatch.setattr("codeclens.models.video.cuts.find_cuts", found_in)
    one, other = (VideoSource.from_images(np.zeros((3, 36, 64, 3), np.uint8), 4.0) for _ in range(2))
    assert cuts_of(one) is cuts_of(one) is not cuts_of(other)
    assert calls == [id(one), id(other)]


def three_shots(seed, length=25) -> np.ndarray:
    return np.concatenate([shot(length, seed + 5 * number) for number in range(3)]).clip(0, 255).astype(np.uint8)


BARS = [(0.06, 0), (0.125, 0), (0.2, 0), (0.3, 0), (0, 0.06), (0, 0.125), (0, 0.34), (0.2, 0.2)]


@pytest.mark.parametrize("bars, fill", every_value_once(BARS, [(0, 0, 0), (255, 255, 255), (40, 60, 90), None]))
def test_cuts_are_found_within_bars(bars, fill):
    assert found_in(with_bars(three_shots(40), *bars, fill)) == Cuts((25, 50), ())


@pytest.mark.parametrize("rows, columns", [(0.125, 0), (0, 0.2), (0, 0.34)])
def test_bars_that_come_and_go_are_no_cuts(rows, columns):
    footage = shot(60, 41).clip(0, 255).astype(np.uint8)
    footage[20:40] = with_bars(footage[20:40], rows, columns, (0, 0, 0))
    assert found_in(footage) == Cuts((), ())


@pytest.mark.parametrize("light", [0.05, 0.08, 0.2])
def test_cuts_between_dark_shots(light):
    assert found_in((three_shots(42) * light).round()) == Cuts((25, 50), ())


@pytest.mark.parametrize(
    "fps, length", [(1, 1), (1, 2), (1, 5), (2, 1), (2, 3), (5, 2), (5, 8), (12, 2), (24, 2), (30, 3)]
)
def test_cuts_at_every_rate_down_to_the_shortest_shot(fps, length):
    assert length / fps >= shortest_shot(fps)
    footage = np.concatenate([shot(length, 100 + number) for number in range(8)])
    assert found_in(footage, fps) == Cuts(tuple(range(length, 8 * length, length)), ())


def test_two_scenes_in_turn_a_second_each():
    one, other = shot(1, 50), shot(1, 51)
    assert found_in(np.concatenate([one, other] * 5), 1).cuts == tuple(range(1, 10))
    assert found_in(np.concatenate([one, other] * 5), 25).cuts == ()  # a strobe


def test_a_plain_scene_whose_light_goes_down_between_frames_far_apart(monkeypatch):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    plain = np.stack([90 + 60 * x / WIDTH, 70 + 50 * y / HEIGHT, 120 - 40 * x / WIDTH], axis=-1)
    plain[60:75, 75:100] = scene(15, 25, seed=3)
    dimmed = np.stack([plain] * 3 + [0.7 * plain] * 3)
    assert found_in(dimmed, 1) == Cuts((), ())
    monkeypatch.setattr(cuts_module, "RELIT", 2)
    assert found_in(dimmed, 1).cuts == (3,)


def test_a_scene_that_moves_on_between_frames_far_apart_keeps_its_colours(monkeypatch):
    wide = scene(72, 1024, seed=3)
    passed = np.stack([wide[:, start : start + 128] for start in (0, 96)])
    assert found_in(passed, 1).cuts == ()
    monkeypatch.setattr(cuts_module, "FAR_PALETTE", 2)
    assert found_in(passed, 1).cuts == (1,)


@pytest.mark.parametrize("dark, frames", every_value_once([False, True], [(24, 30), (1, 3)]))
def test_cards_on_which_only_the_text_changes(dark, frames):
    fps, length = frames
    random = np.random.default_rng(4)
    cards = [still(card(random, words, dark), length) for words in (4, 12, 7, 16, 5, 9)]
    assert found_in(np.concatenate(cards), fps) == Cuts(tuple(range(length, 6 * length, length)), ())


def test_a_line_that_is_added_to_a_slide_is_no_cut():
    slide = card(np.random.default_rng(5), 16, False)
    shorter = slide.copy()
    shorter[96:] = shorter[2, 2]
    assert found_in(np.concatenate([still(shorter, 20), still(slide, 20)])) == Cuts((), ())


def test_a_mixed_frame_between_two_shots_makes_one_cut():
    one, other = shot(20, 60), shot(20, 61)
    found = found_in(np.concatenate([one, (one[-1:] + other[:1]) / 2, other])).cuts
    assert len(found) == 1 and found[0] in (20, 21)


def test_a_mixture_that_leaps_is_no_dissolve():
    one, other = (np.repeat(shot(1, seed), 30, axis=0) for seed in (62, 63))
    fraction = np.array([0.08, 0.16, 0.24, 0.32, 0.8, 0.86, 0.92])[:, None, None, None]
    assert found_in(np.concatenate([one, one[:7] * (1 - fraction) + other[:7] * fraction, other])).spans == ()


@pytest.mark.parametrize("first, last, cuts", [(30, 40, ()), (20, 30, ()), (31, 40, (30,)), (20, 29, (30,))])
def test_a_cut_within_a_span_is_part_of_it(monkeypatch, first, last, cuts):
    span = Span("dissolve", first, last)
    monkeypatch.setattr(cuts_module, "find_spans", lambda pictures: [span])
    assert found_in(np.concatenate([shot(30, 64), shot(30, 65)])) == Cuts(cuts, (span,))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 1536, 2600])
def test_windows_decide_on_every_frame_once(count):
    source = VideoSource.from_images(np.zeros((count, 4, 4, 3), np.uint8), 25)
    parts = list(cuts_module._windows(source, lambda done, total: None))
    assert np.concatenate([numbers[slice(*part)] for numbers, _, _, part in parts]).tolist() == list(range(count))
    for numbers, pts, frames, _ in parts:
        assert np.allclose(pts, numbers / 25) and len(frames) == len(numbers)


@pytest.mark.slow
def test_joined_real_clips(clips):
    takes = Takes(clips)
    right = cuts = wrong = 0
    for kind in KINDS:
        made = joined_clip(kind, takes, 5000)
        found = found_in(made.rgb, made.fps).cuts
        right, cuts = right + matches(found, made.cuts), cuts + len(made.cuts)
        wrong += len(found) - matches(found, made.cuts)
    assert right / cuts > 0.95 and right / (right + wrong) > 0.95, (right, cuts, wrong)


@pytest.mark.parametrize("name, truth", [
    ("09_cuts_letterbox/letterbox239_3shots.mp4", (40, 80)),
    ("09_cuts_letterbox/pillar_3shots.mp4", (40, 80)),
    ("09_cuts_letterbox/real_916in169.mp4", (48, 96, 144, 192)),
    ("10_cut_missed_small_overlap/real_cut24.mp4", (24,)),
    ("11_cuts_low_fps/slides_1fps_2s.mp4", tuple(range(2, 20, 2))),
    ("11_cuts_low_fps/ab_1fps.mp4", tuple(range(1, 10))),
])  # fmt: skip
def test_cuts_that_were_missed_once(faults, name, truth):
    assert find_cuts(VideoSource.open(faults / "video" / name)) == Cuts(truth, ())
