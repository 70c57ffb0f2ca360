"""PSNR and SSIM against closed forms."""

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.video.quality import IDENTICAL, compare, side_by_side
from support.pixel_flow import moving_square


def noisy(video, spread, seed=0):
    noise = np.random.default_rng(seed).integers(-spread, spread + 1, video.shape)
    return np.clip(video.astype(int) + noise, 0, 255).astype(np.uint8)


def test_psnr_is_the_closed_form():
    video = moving_square(6, 48, 64)
    other = noisy(video, 9)
    other[3] = video[3]
    found = compare(video, other)
    mse = np.square(video.astype(float) - other).mean((1, 2, 3))
    assert np.allclose(found.mse, mse, atol=1e-4)
    assert found.psnr[3] == IDENTICAL and found.ssim[3] == 1
    assert found.mean_psnr == pytest.approx(10 * np.log10(255**2 / mse.mean()), abs=1e-3)
    assert found.to_json()["worst_frame"] == int(mse.argmax())


def test_ssim_falls_with_noise_and_ignores_nothing():
    video = moving_square(3, 48, 64)
    scores = [compare(video, noisy(video, spread)).ssim.mean() for spread in (1, 5, 20, 80)]
    assert all(1 > earlier > later for earlier, later in zip(scores, scores[1:], strict=False))


def test_a_constant_shift_has_the_luminance_term_of_ssim():
    """For flat pictures SSIM is (2 a b + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 255)^2."""
    one, two = np.full((1, 32, 32, 3), 100, np.uint8), np.full((1, 32, 32, 3), 120, np.uint8)
    expected = (2 * 100 * 120 + 6.5025) / (100**2 + 120**2 + 6.5025)
    assert compare(one, two).ssim[0] == pytest.approx(expected, abs=1e-4)


def test_videos_that_do_not_match():
    video = moving_square(4, 48, 64)
    with pytest.raises(InputError, match="the other video ends after 3 frames"):
        compare(video, video[:3])
    with pytest.raises(InputError, match="the reference ends after 3 frames"):
        compare(video[:3], video)
    with pytest.raises(InputError, match="reference is 64x48 and the other video 60x48"):
        compare(video, video[:, :, :60])
    with pytest.raises(InputError, match="0 frames in common"):
        compare([], [])


def test_side_by_side_shows_both_and_the_difference():
    video = moving_square(1, 16, 20)[0]
    picture = side_by_side(video, np.minimum(video, 200))
    assert picture.shape == (16, 60, 3)
    assert np.array_equal(picture[:, :20], video) and picture[0, 40:].tolist() == [[128] * 3] * 20
    assert (picture[10:16, 40:50] == 128 - 4 * 30).all()


def test_flip_is_that_of_its_authors_package():
    flip_evaluator = pytest.importorskip("flip_evaluator")
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (3, 24, 32, 3)).astype(np.uint8)
    other = np.clip(one.astype(int) + generator.integers(-40, 40, one.shape), 0, 255).astype(np.uint8)
    found = compare(one, other, perceptual=True)
    expected = [
        flip_evaluator.evaluate(a / np.float32(255), b / np.float32(255), "LDR")[1]
        for a, b in zip(one, other, strict=True)
    ]
    assert found.flip == pytest.approx(expected, abs=1e-6) and 0.05 < found.flip.mean() < 1
    assert found.to_json()["flip"] == pytest.approx(float(np.mean(expected)), abs=1e-5)
    assert compare(one, one, perceptual=True).flip.max() == 0
    assert "flip" not in compare(one, other).to_json()


def test_without_flip_it_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs the package flip-evaluator"):
        compare(np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.uint8), perceptual=True)
