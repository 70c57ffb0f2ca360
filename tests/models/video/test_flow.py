"""Sub-pixel block motion and the camera, against pictures moved by a known amount."""

import numpy as np
import pytest
from codeclens.models.video.flow import block_flow, camera_motion
from codeclens.models.video.metrics import flow_between
from scipy import ndimage

SIZE = 256


def texture(seed=0, size=SIZE):
    noise = np.random.default_rng(seed).normal(size=(size, size, 3))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0), mode="wrap")
    return 128 + smooth * 40 / smooth.std()


def moved(picture, pan=(0.0, 0.0), zoom=0.0, roll=0.0):
    """The picture after its content moved by ``pan``, grew by ``zoom`` and turned clockwise by ``roll`` radians."""
    scale, turn = 1 + zoom, np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    inverse = np.linalg.inv(scale * turn)[::-1, ::-1]
    middle = np.full(2, (SIZE - 1) / 2)
    offset = middle - inverse @ (middle + np.array(pan)[::-1])
    planes = [ndimage.affine_transform(picture[..., c], inverse, offset, order=3, mode="wrap") for c in range(3)]
    return np.stack(planes, -1)


def pixels(picture):
    return picture.round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("pan", [(0.25, 0.0), (0.0, -0.4), (1.3, 2.6), (-5.5, 3.25)])
def test_sub_pixel_shifts_are_found(pan):
    picture = texture()
    flow = flow_between(pixels(picture), pixels(moved(picture, pan)))
    assert flow.known[1:-1, 1:-1].all()
    inner = flow.motion[1:-1, 1:-1]
    assert np.abs(inner - np.array(pan)).mean() < 0.1
    assert np.sqrt(np.mean(flow.unexplained[16:-16, 16:-16] ** 2)) < 4


@pytest.mark.parametrize(
    ("pan", "zoom", "roll"),
    [((2.0, -1.0), 0.0, 0.0), ((0.0, 0.0), 0.02, 0.0), ((0.0, 0.0), 0.0, 0.02), ((3.0, 1.5), -0.015, -0.01)],
)
def test_the_camera_is_the_similarity_that_moved_the_picture(pan, zoom, roll):
    picture = texture(1)
    found = camera_motion(flow_between(pixels(picture), pixels(moved(picture, pan, zoom, roll))))
    assert found.pan == pytest.approx(pan, abs=0.1)
    assert found.zoom == pytest.approx(zoom, abs=0.002)
    assert found.roll == pytest.approx(roll, abs=0.002)


def test_an_object_that_moves_by_itself_does_not_pull_the_camera():
    picture = texture(2)
    after = moved(picture, (2.0, 0.0))
    after[64:160, 64:160] = moved(picture, (-7.0, 5.0))[64:160, 64:160]
    flow = flow_between(pixels(picture), pixels(after))
    camera = camera_motion(flow)
    assert camera.pan == pytest.approx((2.0, 0.0), abs=0.15)
    own = np.linalg.norm(flow.motion - camera.field, axis=-1)
    assert own[5:9, 5:9].mean() == pytest.approx(np.hypot(9, 5), abs=0.5)


def test_a_flat_block_has_no_known_motion():
    picture = pixels(texture(3))
    picture[:64] = 90
    mv = np.zeros((SIZE // 16, SIZE // 16, 2), np.int16)
    flow = block_flow(picture, picture, mv)
    assert not flow.known[:3].any() and flow.known[5:].all()
    assert not np.abs(flow.unexplained).max()


def test_a_change_of_light_is_not_motion():
    picture = texture(4)
    flow = flow_between(pixels(picture), pixels(picture * 0.8))
    assert np.abs(flow.motion).mean() < 0.1
    assert flow.unexplained.mean() == pytest.approx(-0.2 * 128, abs=2)
