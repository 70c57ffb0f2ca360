"""Motion vectors out of the bitstream against scenes whose motion is known."""

import io

import av
import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.video.bitstream import BLOCK, bitstream_primitives, block_sad, read_bitstream
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clips import animate, encode, numbered, scene

HEIGHT, WIDTH = 192, 256
WIDE = scene(700, 900, seed=1)

ENCODERS = [
    ("libx264", {}),
    ("libx264", {"bf": "0", "refs": "1"}),
    ("libx264", {"profile": "baseline"}),
    ("mpeg4", {"b": "20M", "g": "100"}),
    ("mpeg4", {"b": "20M", "g": "100", "bf": "2"}),
    ("mpeg2video", {"b": "20M", "g": "100"}),
    ("mpeg2video", {"b": "20M", "g": "100", "bf": "2"}),
]


def pan(count, dx, dy) -> np.ndarray:
    """A camera that moves by (dx, dy) pixels a frame, so that every block matches at + (dx, dy) in the frame before."""
    return np.stack(
        [WIDE[250 + dy * i : 250 + dy * i + HEIGHT, 300 + dx * i : 300 + dx * i + WIDTH] for i in range(count)]
    )


def inside(dx, dy) -> tuple[slice, slice]:
    """The blocks whose match at (dx, dy) lies within the picture, without those at its edge."""
    rows, columns = HEIGHT // BLOCK, WIDTH // BLOCK

    def margin(move, length):
        return slice(max(1, -(move // BLOCK)), min(length - 1, length + -move // BLOCK))

    return margin(dy, rows), margin(dx, columns)


@pytest.mark.parametrize("codec, options", ENCODERS)
@pytest.mark.parametrize("dx, dy", [(0, 0), (3, 2), (-2, 1), (0, -4)])
def test_translation_comes_back_within_a_pixel(codec, options, dx, dy):
    source = VideoSource.open(encode(pan(24, dx, dy), codec=codec, options=options))
    primitives = bitstream_primitives(source, source.read(FrameSampling.every(4)))
    assert primitives.source == "bitstream" and list(primitives.ref) == [-1, 0, 1, 2, 3, 4]
    rows, columns = inside(4 * dx, 4 * dy)
    error = np.abs(primitives.mv[1:, rows, columns] - np.array([4 * dx, 4 * dy])).max(axis=-1)
    valid = primitives.valid[1:, rows, columns]
    assert valid.mean() > 0.75
    assert (error[valid] <= 1).mean() > 0.95
    assert not primitives.valid[0].any() and np.isnan(primitives.pcost[0])


@pytest.mark.parametrize("codec, options", ENCODERS[:4])
def test_objects_that_move_on_their_own(codec, options):
    rgb = np.repeat(WIDE[None, :HEIGHT, :WIDTH], 13, axis=0).copy()
    one, two = scene(64, 64, seed=5), scene(64, 64, seed=6)
    for step in range(13):
        rgb[step, 32:96, 16 + 4 * step : 80 + 4 * step] = one
        rgb[step, 112 + step : 176 + step, 176 - 3 * step : 240 - 3 * step] = two
    source = VideoSource.open(encode(rgb, codec=codec, options=options))
    primitives = bitstream_primitives(source, source.read(FrameSampling.every(4)))
    for position in range(1, 4):
        step = 4 * position
        for top, left, motion in ((32, 16 + 4 * step, (-16, 0)), (112 + step, 176 - 3 * step, (12, -4))):
            rows = slice(-(-top // BLOCK), (top + 64) // BLOCK)
            columns = slice(-(-left // BLOCK), (left + 64) // BLOCK)
            error = np.abs(primitives.mv[position, rows, columns] - np.array(motion)).max(axis=-1)
            assert np.median(error) <= 1, (position, motion)
        still = np.abs(primitives.mv[position, :2]).max(axis=-1)
        assert (still <= 1).all()


def test_vectors_are_scaled_and_turned_with_the_picture():
    rgb = pan(9, 4, 2)
    for rotation, motion in ((0, (8, 4)), (90, (4, -8)), (180, (-8, -4)), (-90, (-4, 8))):
        source = VideoSource.open(encode(rgb, rotation=rotation, options={"bf": "0"}))
        upright = (HEIGHT, WIDTH) if rotation % 180 == 0 else (WIDTH, HEIGHT)
        for scale in (1, 2):
            frames = source.read(FrameSampling.every(2), size=(upright[0] * scale, upright[1] * scale))
            primitives = bitstream_primitives(source, frames)
            error = np.abs(primitives.mv[1:, 2:-2, 2:-2] - scale * np.array(motion)).max(axis=-1)
            assert (error <= scale).mean() > 0.9, (rotation, scale)


def test_coded_frames_say_what_is_known():
    source = VideoSource.open(encode(pan(12, 3, 2), options={"bf": "2", "x264-params": "b-pyramid=none"}), name="pan")
    coded = list(read_bitstream(source))
    assert [frame.index for frame in coded] == list(range(12)) and coded[0].type == "I"
    assert np.allclose([frame.pts for frame in coded], np.arange(12) / 25)
    assert coded[0].intra.all() and not coded[0].known.any() and not coded[0].unknown.any()
    for frame in coded[1:]:
        assert frame.type in "PB" and frame.mv.shape == (2, HEIGHT // BLOCK, WIDTH // BLOCK, 2)
        for direction, sign in ((0, 1), (1, -1)):
            known = frame.known[direction]
            distance = sign * (frame.index - frame.reference[direction][known])[:, None]
            if known.sum() > 20:
                error = np.abs(frame.mv[direction][known] - sign * distance * np.array([3, 2])).max(axis=1)
                assert (error <= 1).mean() > 0.8
        assert ((frame.block > 0).all(axis=2) | ~frame.known.any(axis=0)).all()
    assert any(frame.type == "B" and frame.known[1].any() for frame in coded)


def test_packet_sizes_are_those_of_the_file():
    data = encode(pan(12, 3, 2))
    with av.open(io.BytesIO(data)) as container:
        sizes = {packet.pts: packet.size for packet in container.demux(video=0) if packet.size}
    coded = list(read_bitstream(VideoSource.open(data)))
    assert [frame.size for frame in coded] == [sizes[pts] for pts in sorted(sizes)]


def test_intra_blocks_of_a_new_shot_are_neither_zero_nor_valid():
    other = scene(HEIGHT, WIDTH, seed=99)
    rgb = np.concatenate([pan(6, 2, 0), np.repeat(other[None], 6, axis=0)])
    source = VideoSource.open(encode(rgb, options={"bf": "0", "sc_threshold": "0", "g": "100"}))
    cut = list(read_bitstream(source))[6]
    assert cut.type == "P" and cut.intra.mean() > 0.5 and not cut.unknown.any()
    primitives = bitstream_primitives(source, source.read(FrameSampling.by_count(3)))
    still = block_sad(*source.read(FrameSampling.by_count(3)).rgb[[1, 0]], np.zeros_like(primitives.mv[0]))
    assert (primitives.sad[1] <= still).all()


def test_cost_is_the_sad_of_the_sampled_pixels_plus_lambda():
    source = VideoSource.open(encode(pan(12, 3, 2)))
    frames = source.read(FrameSampling.every(3))
    primitives = bitstream_primitives(source, frames, lambda_=4.0)
    for position in range(1, len(frames)):
        for row, column in ((0, 0), (3, 5), (11, 15)):
            dx, dy = primitives.mv[position, row, column].astype(int)
            y, x = row * BLOCK, column * BLOCK
            block = frames.rgb[position, y : y + BLOCK, x : x + BLOCK].astype(int)
            match = frames.rgb[position - 1, y + dy : y + dy + BLOCK, x + dx : x + dx + BLOCK].astype(int)
            assert primitives.sad[position, row, column] == np.abs(block - match).sum()
            expected = primitives.sad[position, row, column] + 4 * (abs(dx) + abs(dy))
            assert primitives.cost[position, row, column] == expected


def test_trimmed_source_gives_the_same_motion():
    data = encode(pan(24, 3, 2), options={"g": "8"})
    whole, part = VideoSource.open(data), VideoSource.open(data, start=0.32, duration=0.33)
    frames = part.read(FrameSampling.every(4))
    assert list(frames.index) == [8, 12, 16]
    everything = bitstream_primitives(whole, whole.read(FrameSampling.every(4)))
    assert np.array_equal(bitstream_primitives(part, frames).mv[1:], everything.mv[3:5])


@pytest.mark.parametrize("codec, container", [("libx265", "mp4"), ("libvpx-vp9", "webm")])
def test_other_codecs_are_refused_in_one_line(codec, container):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {"cpu-used": "8", "deadline": "realtime"}
    source = VideoSource.open(encode(numbered(4), codec=codec, container=container, options=options), name="clip")
    with pytest.raises(InputError, match=r"^clip is (hevc|vp9), whose motion vectors .*; search for motion instead$"):
        next(read_bitstream(source))
    with pytest.raises(InputError, match="is gif"):
        next(read_bitstream(VideoSource.open(animate(numbered(3)))))


def test_real_clips_give_vectors(clips):
    for name in ("sam2_juggle.mp4", "intel_car_detection.mp4"):
        source = VideoSource.open(clips / name, duration=1.5)
        frames = source.read(FrameSampling.by_fps(4), size=(288, 512))
        primitives = bitstream_primitives(source, frames)
        assert primitives.valid[1:].mean() > 0.7, name
        still = np.stack(
            [
                block_sad(a, b, np.zeros_like(primitives.mv[0]))
                for b, a in zip(frames.rgb[:-1], frames.rgb[1:], strict=True)
            ]
        )
        assert primitives.sad[1:].sum() <= still.sum()


@settings(deadline=None, max_examples=10)
@given(random=st.randoms(use_true_random=False))
def test_damaged_streams_give_what_they_can(random):
    data = bytearray(encode(pan(10, 2, 1), options={"g": "5"}))
    start = data.find(b"mdat") + 400
    for _ in range(3):
        data[random.randrange(start, start + 4000)] ^= 1 << random.randrange(8)
    try:
        source = VideoSource.open(bytes(data))
        frames = source.read(FrameSampling.every(2))
    except InputError:
        return
    primitives = bitstream_primitives(source, frames)
    assert len(primitives) == len(frames) and np.isfinite(primitives.cost).all()
