"""Each metric against an oracle: FFmpeg's filters, scipy, closed forms, and pictures with exactly one property."""

import numpy as np
import pytest
from codeclens.models.source.reading import VideoSource
from codeclens.models.video import metrics
from codeclens.models.video.measurement import measure
from codeclens.models.video.metrics import METRICS, Step
from scipy import ndimage
from support.ffmpeg_filters import filter_values

FPS = 12


def texture(seed, height=144, width=192, channels=3):
    noise = np.random.default_rng(seed).normal(size=(height, width, channels))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0), mode="wrap")
    return 128 + smooth * 35 / smooth.std()


def moving(count=24, seed=0, step=(1.5, 0.5)):
    """float64 [T, H, W, 3]: a texture that moves evenly, with a second one that moves over it by itself."""
    ground, figure = texture(seed), texture(seed + 1)[:48, :48]
    frames = []
    for t in range(count):
        frame = ndimage.shift(ground, (t * step[1], t * step[0], 0), order=1, mode="wrap")
        frame[40 + t : 88 + t, 20 + 3 * t : 68 + 3 * t] = figure
        frames.append(frame)
    return np.stack(frames)


def pixels(frames):
    return np.asarray(frames).round().clip(0, 255).astype(np.uint8)


def clip_values(frames, fps=FPS):
    return measure(VideoSource.from_images(pixels(frames), fps)).clip


def gray_step(picture, before=None):
    """A step whose luma is exactly ``picture``."""
    rgb = np.repeat(picture[..., None], 3, -1)
    return Step(rgb, rgb, 1.0, None if before is None else gray_step(before))


@pytest.fixture(scope="module")
def base():
    return moving()


@pytest.fixture(scope="module")
def base_values(base):
    return clip_values(base)


def test_spatial_information_is_the_sobel_deviation():
    for seed in range(3):
        y = pixels(texture(seed, channels=1))[..., 0]
        across, down = (ndimage.sobel(y.astype(np.float64), axis=axis) for axis in (1, 0))
        expected = np.hypot(across, down)[1:-1, 1:-1].std()
        assert metrics.spatial_information(gray_step(y)) == pytest.approx(expected, rel=1e-6)


def test_spatial_and_temporal_information_are_those_of_ffmpeg(tmp_path):
    frames = pixels(np.stack([texture(seed, channels=1)[..., 0] for seed in range(4)]))
    found = filter_values(frames, "siti", tmp_path)
    si, ti = ([value for _, value in found[f"siti.{name}"]] for name in ("si", "ti"))
    for at, frame in enumerate(frames):
        step = gray_step(frame, frames[at - 1] if at else None)
        assert metrics.spatial_information(step) == pytest.approx(si[at], abs=0.02)
        if at:
            assert metrics.temporal_information(step) == pytest.approx(ti[at], abs=0.02)


def test_frozen_frames_are_those_of_freezedetect(tmp_path, base):
    frames = pixels(base)
    frames[8:20] = frames[8]
    found = filter_values(frames, "freezedetect=n=-60dB:d=0.5", tmp_path, fps=FPS, pixel_format="rgb24")
    measured = measure(VideoSource.from_images(frames, FPS))
    start, end = (found[f"freezedetect.freeze_{edge}"][0][1] for edge in ("start", "end"))
    assert (start, end) == pytest.approx((8 / FPS, 20 / FPS), abs=1e-3)
    assert measured.clip["longest_freeze"] == pytest.approx(end - start, abs=1e-3)
    assert np.flatnonzero(measured.frames["frozen"] == 1).tolist() == list(range(9, 20))


def test_black_frames_are_those_of_blackdetect(tmp_path, base):
    frames = pixels(base)
    frames[6:15] = 12
    gray = frames.mean(-1).astype(np.uint8)
    found = filter_values(gray, "blackdetect=d=0.1:pix_th=0.1", tmp_path, fps=FPS)
    black = found["black_end"][0][1] - found["black_start"][0][1]
    assert clip_values(frames)["black_frames"] * len(frames) / FPS == pytest.approx(black, abs=1e-6)


def test_blockiness_rises_with_compression_as_blockdetects_does(tmp_path):
    picture = texture(5, channels=1)[..., 0]
    ours, theirs = [], []
    for strength in (0.0, 0.2, 0.4, 0.7, 1.0):
        means = picture.reshape(18, 8, 24, 8).mean((1, 3)).repeat(8, 0).repeat(8, 1)
        blocky = pixels(picture + strength * (means - picture))
        ours.append(metrics.blockiness(gray_step(blocky)))
        theirs.append(filter_values(blocky[None], "blockdetect", tmp_path)["block"][0][1])
    assert np.argsort(ours).tolist() == np.argsort(theirs).tolist() == [0, 1, 2, 3, 4]
    assert ours[0] < 1.5 < 3 < ours[-1]


def test_sharpness_falls_as_blurdetects_blur_rises(tmp_path):
    sharp = pixels(texture(6, channels=1)[..., 0])
    ours, theirs = [], []
    for sigma in (0.0, 1.0, 2.0, 4.0):
        blurred = pixels(ndimage.gaussian_filter(sharp.astype(np.float64), sigma))
        ours.append(metrics.sharpness(gray_step(blurred)))
        theirs.append(filter_values(blurred[None], "blurdetect", tmp_path)["blur"][0][1])
    assert np.argsort(ours)[::-1].tolist() == np.argsort(theirs).tolist() == [0, 1, 2, 3]


def test_lab_is_that_of_the_standard():
    """sRGB primaries and white in L*a*b* under D65 (Lindbloom's calculator)."""
    rgb = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [119, 119, 119]], np.uint8)
    expected = [[100, 0, 0], [53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [50.03, 0, 0]]
    assert metrics.lab_of(rgb) == pytest.approx(np.array(expected), abs=0.05)


def test_a_still_clip_has_no_motion_and_all_of_it_is_frozen():
    values = clip_values(np.repeat(texture(0)[None], 8, 0))
    assert values["frozen"] == 1 and values["longest_freeze"] == pytest.approx(8 / FPS)
    still = ("motion", "pan", "zoom", "roll", "subject_motion", "flicker", "warping_error", "jitter", "drift", "cuts")
    assert {name: values[name] for name in still} == dict.fromkeys(still, 0.0)
    assert values["steadiness"] == 1 and values["dynamic_degree"] == 0


def test_speeds_are_in_shorter_sides_per_second():
    ground = texture(3)
    frames = np.stack([ndimage.shift(ground, (0, 3 * t, 0), order=0, mode="wrap") for t in range(10)])
    values = clip_values(frames)
    assert values["pan"] == pytest.approx(3 * FPS / 144, rel=0.05)
    assert values["motion"] == pytest.approx(values["pan"], rel=0.1)
    assert values["dynamic_degree"] == 1 and values["subject_dynamic_degree"] == 0, "a pan alone moves no subject"


def test_letterbox_is_the_fraction_in_bars(base):
    frames = pixels(base)
    frames[:, :18] = frames[:, -18:] = 16
    frames[3] = 0
    values = clip_values(frames)
    assert values["letterbox"] == pytest.approx(36 / 144)


def fault_flicker(frames):
    frames[8:18:2] *= 0.85


def fault_freeze(frames):
    frames[8:18] = frames[8]


def fault_vanish(frames):
    frames[8:14] = moving_without_figure()[8:14]


def moving_without_figure():
    ground = texture(0)
    return np.stack([ndimage.shift(ground, (t * 0.5, t * 1.5, 0), order=1, mode="wrap") for t in range(24)])


def fault_jitter(frames):
    shifts = np.random.default_rng(0).integers(-5, 6, (10, 2))
    for t, (dy, dx) in zip(range(8, 18), shifts, strict=True):
        frames[t] = ndimage.shift(frames[t], (dy, dx, 0), order=0, mode="wrap")


def fault_blur(frames):
    for t in range(18, 24):
        frames[t] = ndimage.gaussian_filter(frames[t], (1.5, 1.5, 0))


def fault_colour(frames):
    frames[..., 0] += np.linspace(-25, 25, len(frames))[:, None, None]


FAULTS = {
    "flicker": (fault_flicker, "flicker", 5.0),
    "freeze": (fault_freeze, "longest_freeze", 0.5),
    "vanish": (fault_vanish, "sudden_change", 10.0),
    "jitter": (fault_jitter, "jitter", 1.0),
    "blur": (fault_blur, "sharpness_loss", 0.3),
    "colour": (fault_colour, "colour_drift", 5.0),
}


@pytest.fixture(scope="module")
def spoilt(base):
    """Values of the clip with each fault."""
    values = {}
    for fault, (spoil, _, _) in FAULTS.items():
        frames = base.copy()
        spoil(frames)
        values[fault] = clip_values(frames)
    return values


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_raises_its_own_metric(fault, spoilt, base_values):
    _, own, rise = FAULTS[fault]
    assert spoilt[fault][own] > base_values[own] + rise


@pytest.mark.parametrize("fault", FAULTS)
def test_no_metric_answers_to_another_fault_as_to_its_own(fault, spoilt, base_values):
    # A jump of the whole picture uncovers its edges, and what was frozen jumps when it moves on.
    also = {
        ("sudden_change", "jitter"),
        ("sudden_change", "flicker"),
        ("sudden_change", "freeze"),
        ("jitter", "freeze"),
    }
    own = FAULTS[fault][1]
    rises = {name: values[own] - base_values[own] for name, values in spoilt.items() if (own, name) not in also}
    assert all(rise < 0.5 * rises[fault] for name, rise in rises.items() if name != fault), rises


def test_a_loop_closes_where_the_last_frame_meets_the_first():
    ground = texture(2)
    loop = np.stack([ndimage.shift(ground, (0, 8 * t, 0), order=0, mode="wrap") for t in range(24)])
    assert clip_values(loop)["loop_error"] == pytest.approx(0, abs=1)
    assert clip_values(loop[:12])["loop_error"] == pytest.approx(0, abs=3)
    assert clip_values(moving())["loop_error"] > 10


def test_drift_sees_what_no_two_neighbours_show():
    a, b = texture(0), texture(9)
    slow = np.stack([a + (b - a) * t / 47 for t in range(48)])
    steady = np.stack([ndimage.shift(a, (0, t, 0), order=0, mode="wrap") for t in range(48)])
    assert clip_values(slow)["drift"] > 15
    assert clip_values(steady)["drift"] < 8


def test_names_are_distinct_and_every_metric_says_what_it_is():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    assert all(metric.unit and metric.better in (None, "lower", "higher") for metric in METRICS)
    assert all(metric.frame is None or metric.frame.__doc__ for metric in METRICS)
