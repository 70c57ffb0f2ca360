"""The rendered pixels agree with the description, as measured by means that know nothing of the renderer."""

import hashlib

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import COLOURS, sample_clip
from PIL import Image

SIZE = (96, 96)
FRAMES = {
    (0, SIZE): "75a7a26b2c6faee55d483b17722ea1f0e2b661337e64e768868464ec65d814f3",
    (3, (64, 128)): "c0eb5084ce120a12fd9df6a12a89a4f09976118e0281e2f05c0cfacd0e1e5962",
    (8, SIZE): "aab50d21c1873c9a3de7644a43759915193ddc701029313d384c495fef1e2aa1",
    (11, (128, 128)): "b0be7981fdfd3dbb2a6b79637a09600ace5a9c4fa1ab92b0a171f7a4a0821562",
}
"""SHA-256 of all frames of a seed at a size: what was rendered once is rendered for ever."""


def frames_of(clip, size=SIZE, frames=None):
    return np.stack(list(render(clip, size, frames)))


def luminance(rgb):
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def colourful(picture):
    """Where a picture is more colourful than any background: bool [H, W]."""
    return picture.max(-1).astype(int) - picture.min(-1) > 90


def centre(mask):
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()])


def shift_between(one, other):
    """(dx, dy) by which ``other`` is ``one`` moved, by phase correlation (Kuglin and Hines 1975)."""
    window = np.outer(np.hanning(one.shape[0]), np.hanning(one.shape[1]))
    spectra = [np.fft.fft2((luminance(rgb) - luminance(rgb).mean()) * window) for rgb in (one, other)]
    cross = spectra[1] * spectra[0].conj()
    peak = np.fft.ifft2(cross / np.maximum(np.abs(cross), 1e-9)).real
    dy, dx = np.unravel_index(peak.argmax(), peak.shape)
    return tuple(int((value + side // 2) % side - side // 2) for value, side in ((dx, SIZE[1]), (dy, SIZE[0])))


def rests(clip):
    """Whether nothing moves by itself, over a background whose parts all differ."""
    figures = clip.shots[0].figures
    return clip.shots[0].ground.kind in ("cloudy", "grainy") and not any(
        figure.spin or figure.motion != "still" for figure in figures
    )


def searched(seeds, accept, **options):
    """The clips among ``seeds`` that a test is about."""
    clips = [sample_clip(seed, **options) for seed in seeds]
    found = [clip for clip in clips if accept(clip)]
    assert len(found) >= 3
    return found[:8]


@pytest.mark.parametrize(("seed", "size"), FRAMES)
def test_frames_are_those_of_the_seed(seed, size):
    clip = sample_clip(seed, aspect=(size[1] / min(size), size[0] / min(size)))
    assert hashlib.sha256(frames_of(clip, size).tobytes()).hexdigest() == FRAMES[seed, size]


def test_any_frame_without_those_before():
    for seed in (2, 4, 12):
        clip = sample_clip(seed)
        every = frames_of(clip)
        chosen = [clip.frames - 1, 0, clip.frames // 2]
        np.testing.assert_array_equal(frames_of(clip, frames=chosen), every[chosen])


def test_figures_have_their_colour_at_their_place():
    checked = 0
    for seed in range(60):
        clip = sample_clip(seed, "moving")
        frame = clip.frames // 2
        (picture,) = frames_of(clip, (128, 128), [frame])
        truth = truth_of(clip, [frame])
        for figure, known in zip(clip.shots[0].figures, truth.figures, strict=True):
            if known.visible[0] < 0.98 or figure.pattern != "plain" or figure.scale(frame / clip.fps) < 1:
                continue
            x, y = (int(128 * value) for value in figure.position(frame / clip.fps))
            x -= int(0.74 * 128 * figure.radius) if figure.shape == "ring" else 0
            distances = {name: np.abs(picture[y, x] - np.array(rgb, float)).sum() for name, rgb in COLOURS.items()}
            assert min(distances, key=distances.get) == figure.colour
            checked += 1
    assert checked >= 10


def test_visible_fraction_is_that_of_the_pixels():
    """One colourful figure that a pan carries out of the picture: its pixels beside those while it is whole."""
    clips = searched(
        range(200),
        lambda clip: (
            clip.shots[0].camera.kind in ("left", "right", "up", "down")
            and clip.shots[0].figures[0].colour in ("red", "blue", "green", "purple", "yellow", "orange")
            and clip.shots[0].figures[0].shape in ("circle", "square")
            and clip.shots[0].figures[0].motion == "still"
            and clip.shots[0].figures[0].pattern == "plain"
        ),
        content="camera",
        most_figures=1,
    )
    for clip in clips:
        area = [colourful(picture).sum() for picture in frames_of(clip)]
        visible = truth_of(clip).figures[0].visible
        if max(visible) == 1:
            np.testing.assert_allclose(np.array(area) / max(area), visible, atol=0.12)


def test_measured_movement_is_the_stated_direction_and_distance():
    clips = searched(
        range(120),
        lambda clip: (
            clip.shots[0].figures[0].motion == "moves"
            and clip.shots[0].figures[0].colour not in ("white", "black")
            and truth_of(clip, [0]).figures[0].direction
        ),
        content="moving",
        most_figures=1,
    )
    for clip in clips:
        first, last = frames_of(clip, frames=[0, clip.frames - 1])
        moved = centre(colourful(last)) - centre(colourful(first))
        known = truth_of(clip, [0]).figures[0]
        axis = int(known.direction in ("up", "down"))
        assert np.sign(moved[axis]) == (1 if known.direction in ("right", "down") else -1)
        assert abs(moved[axis]) > 2 * abs(moved[1 - axis])
        seconds = (clip.frames - 1) / clip.fps
        assert np.hypot(*moved) / SIZE[0] == pytest.approx(known.speed * seconds, abs=0.03)


def test_stopping_and_starting_are_seen_at_their_moment():
    for motion in ("stops", "starts"):
        clips = searched(
            range(250),
            lambda clip, motion=motion: (
                clip.shots[0].figures[0].motion == motion
                and clip.shots[0].figures[0].spin == 0
                and truth_of(clip, [0]).figures[0].speed > 0.15
            ),
            content="moving",
            most_figures=1,
            fps=12,
        )
        for clip in clips:
            moment = clip.shots[0].figures[0].moment * clip.fps
            steps = np.abs(np.diff(frames_of(clip).astype(int), axis=0)).mean((1, 2, 3))
            moving = np.flatnonzero(steps > 0)
            assert moving[-1] + 1 == np.ceil(moment) if motion == "stops" else moving[0] == np.floor(moment)


def test_a_pan_moves_the_picture_against_the_camera():
    clips = searched(
        range(300),
        lambda clip: clip.shots[0].camera.kind in ("left", "right", "up", "down") and rests(clip),
        content="camera",
        fps=8,
    )
    for clip in clips:
        first, later = frames_of(clip, frames=[0, max(1, clip.frames // 4)])
        dx, dy = shift_between(first, later)
        expected = {"left": (1, 0), "right": (-1, 0), "up": (0, 1), "down": (0, -1)}[clip.shots[0].camera.kind]
        assert (np.sign(dx), np.sign(dy)) == expected
        travelled = clip.shots[0].camera.amount * max(1, clip.frames // 4) / clip.frames * SIZE[0]
        assert abs(dx) + abs(dy) == pytest.approx(travelled, abs=1.5)


@pytest.mark.parametrize(("kind", "larger"), [("in", True), ("out", False)])
def test_a_zoom_scales_the_picture(kind, larger):
    clips = searched(
        range(300), lambda clip: clip.shots[0].camera.kind == kind and rests(clip), content="camera", fps=8
    )
    for clip in clips:
        first, later = frames_of(clip, frames=[0, clip.frames // 2])
        errors = {}
        for factor in (0.75, 0.85, 1.0, 1.2, 1.35):
            side = SIZE[0] / factor
            box = ((SIZE[0] - side) / 2,) * 2 + ((SIZE[0] + side) / 2,) * 2
            scaled = np.asarray(Image.fromarray(first).transform(SIZE, Image.Transform.EXTENT, box, 2))
            middle = np.s_[24:72, 24:72]
            errors[factor] = np.abs(luminance(scaled)[middle] - luminance(later)[middle]).mean()
        best = min(errors, key=errors.get)
        assert best > 1 if larger else best < 1


def with_fault(kind, **options):
    """Clips with a fault, of one colourful figure that does nothing but move."""
    return searched(
        range(120),
        lambda clip: (
            clip.shots[0].figures[0].colour not in ("white", "black")
            and truth_of(clip, [0]).figures[0].travelled > 0.25
            and clip.faults[0].stop - clip.faults[0].first >= 6
        ),
        content="fault",
        fault=kind,
        most_figures=1,
        seconds=3,
        fps=12,
        **options,
    )


def steps_of(frames):
    return np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))


def test_a_freeze_repeats_one_frame_and_then_jumps():
    for clip in with_fault("freeze"):
        (fault,), steps = clip.faults, steps_of(frames_of(clip))
        assert not steps[fault.first : fault.stop - 1].any()
        assert (np.delete(steps, np.s_[fault.first : fault.stop - 1]) > 0).all()
        if fault.stop < clip.frames:
            assert steps[fault.stop - 1] > 1.5 * np.median(steps[: fault.first])


def test_duplicates_come_in_pairs():
    for clip in with_fault("duplicate"):
        (fault,), steps = clip.faults, steps_of(frames_of(clip))
        inside = steps[fault.first : fault.stop - 1]
        assert not inside[::2].any() and (inside[1::2] > 0).all()
        assert (steps[: fault.first] > 0).all()


def test_flicker_changes_the_brightness_from_frame_to_frame():
    for clip in with_fault("flicker"):
        (fault,) = clip.faults
        means = luminance(frames_of(clip)).mean((1, 2))
        inside, before = means[fault.first : fault.stop], means[: fault.first]
        assert np.abs(np.diff(inside)).min() > 8 > 4 * np.abs(np.diff(before)).max()
        assert np.abs(inside[2:] - inside[:-2]).min() > 8


def test_a_vanished_figure_is_gone_from_one_frame_to_the_next():
    for clip in with_fault("vanish"):
        (fault,) = clip.faults
        area = colourful(frames_of(clip)).sum((1, 2))
        assert area[: fault.first].min() > 40 and area[fault.first :].max() == 0


def test_a_morphed_figure_is_another_in_colour_or_shape():
    for clip in with_fault("morph"):
        (fault,) = clip.faults
        steps = steps_of(frames_of(clip))
        assert steps[fault.first - 1] == steps.max() > 1.25 * np.median(steps)


def test_jitter_is_rough_where_the_path_is_smooth():
    for clip in with_fault("jitter"):
        (fault,) = clip.faults
        path = np.stack([centre(colourful(picture)) for picture in frames_of(clip)])
        roughness = np.abs(np.diff(path, 2, axis=0)).max(1)
        assert roughness[fault.first : fault.stop - 2].mean() > 4 * max(0.2, roughness[: fault.first - 2].mean())


def test_tiny_pictures_are_refused():
    with pytest.raises(InputError, match="12 x 16"):
        next(render(sample_clip(0), (16, 12)))
