"""What is decided before the model runs: times, rotation, bytes; and what the geometry says a run will take."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from codeclens.models.gvc.budget import Target
from codeclens.models.gvc.estimate import GEOMETRIES, estimate
from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.planning import frame_times, plan_encoding
from codeclens.models.gvc.records import Stream
from codeclens.models.gvc.stream import read_stream, write_stream
from codeclens.models.gvc.video import Settings, decode_video, encode_video
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.source.sound import encode_sound
from codeclens.models.video.lossless import LosslessWriter
from support.pixel_flow import PixelFlow, moving_square

VIDEO = moving_square(12)
SETTINGS = Settings("I2V", steps=4, image_codec="PNG", tail_fraction=0.0)


def encode(source: VideoSource, **options):
    """The plan and the stream, as read from its bytes."""
    model = PixelFlow()
    planned = plan_encoding(model, source, Target("bits per pixel", 0.6), SETTINGS, gop_frames=9, **options)
    clips = cut_clips((part.rgb for part in source.frames(FrameSampling.all(), planned.size)), planned.spans)
    coded = encode_video(model, planned.header, planned.settings, planned.spans, clips, ticks=planned.ticks)
    stream = Stream(planned.header, tuple(gop.gop for gop in coded), planned.sound)
    return planned, read_stream(write_stream(stream))


def test_variable_times_are_kept_to_the_tick(tmp_path):
    pts = np.cumsum([0, *np.random.default_rng(0).integers(3000, 60_000, 11)]) / 360_000
    with LosslessWriter(tmp_path / "variable.mp4", (36, 52), Fraction(24)) as file:
        file.write(VIDEO, pts)
    planned, stream = encode(VideoSource.open(tmp_path / "variable.mp4"))
    assert stream.header.has_times and np.abs(stream.pts - pts).max() < 1e-5
    assert np.abs(planned.pts - pts).max() < 1e-5
    assert float(stream.header.rate) == pytest.approx(11 / pts[-1], rel=1e-3)
    shown = sum(len(pictures) for pictures, _, _ in decode_video(PixelFlow(), stream))
    assert shown == 12


def test_even_times_need_no_list(tmp_path):
    planned, stream = encode(VideoSource.from_images(VIDEO, 24000 / 1001))
    assert not stream.header.has_times and stream.header.rate == Fraction(24000, 1001)
    assert np.allclose(stream.pts, np.arange(12) * 1001 / 24000)
    rounded = np.round(np.arange(500) * 1001 / 30000, 3)
    assert frame_times(rounded, 30000 / 1001) == (Fraction(30000, 1001), None)
    rate, ticks = frame_times(np.array([0, 0.1, 0.3]), 10.0)
    assert rate == Fraction(20, 3) and ticks.tolist() == [0, 36000, 72000]


def test_sound_and_rotation_are_in_the_stream_and_the_budget():
    source = VideoSource.from_images(VIDEO, 24)
    source.info = replace(source.info, rotation=-90)
    sound = encode_sound(iter([np.zeros((24_000, 2), np.float32)]), 16)
    planned, stream = encode(source, sound=sound)
    assert stream.sound == sound and stream.header.rotation == 270
    assert planned.budget.sound == len(sound) and "sound" in planned.budget.sentence()


def test_the_size_may_be_another_and_cuts_are_counted_from_the_window():
    source = VideoSource.from_images(VIDEO, 24)
    planned, stream = encode(source, size=(40, 60), cuts=[5])
    assert (stream.header.height, stream.header.width) == (40, 60)
    assert [gop.frames for gop in stream.gops] == [5, 7] and not stream.gops[1].continues
    assert planned.sentence().endswith(
        "; 2 GOPs x 4 steps; a GOP's pictures take 0.00 GB of memory and its latent 0.1 MB"
    )


def test_shapes_of_published_models():
    """Tokens of 81 frames of 832x480 in Wan 2.1: 21 x 30 x 52; of 720p in Wan 2.2 5B: 9 x 22 x 40 (704 rows)."""
    found = estimate(GEOMETRIES["wan2.1-1.3b"], plan_gops(81, 81, 4, False), (480, 832), 20)
    assert found.tokens == 21 * 30 * 52 and found.calls == 20
    found = estimate(GEOMETRIES["wan2.2-5b"], plan_gops(66, 33, 4, False), (704, 1280), 20)
    assert found.tokens == 9 * 22 * 40 and found.gops == 2 and found.calls == 40
    found = estimate(GEOMETRIES["ltxv-2b"], plan_gops(33, 33, 8, False), (704, 1280), 20)
    assert found.tokens == 5 * 22 * 40
    assert found.latent_bytes == 4 * 5 * 112640


def test_estimates_follow_steps_size_and_guidance():
    spans = plan_gops(330, 33, 4, False)
    wan = GEOMETRIES["wan2.1-14b"]
    plain = estimate(wan, spans, (720, 1280), 20)
    assert estimate(wan, spans, (720, 1280), 10).seconds == pytest.approx(plain.seconds / 2)
    assert estimate(wan, spans, (720, 1280), 20, teraflops=60).seconds == pytest.approx(plain.seconds / 2)
    guided = estimate(replace(wan, cfg=300), spans, (720, 1280), 20)
    assert guided.calls == 2 * plain.calls and guided.seconds == pytest.approx(2 * plain.seconds)
    assert plain.whole_picture_bytes == 330 * 720 * 1280 * 3 * 4 == 10 * plain.picture_bytes
    attention = 4 * 40 * 9.0**2 * 3600**2 * 5120
    assert plain.operations == pytest.approx(200 * (2 * 14e9 * 9 * 3600 + attention))
