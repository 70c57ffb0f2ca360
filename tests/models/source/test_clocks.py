"""Order and times of frames in files whose clocks are odd: none, two, wrapped, doubled, or paused."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from codeclens.models.source.clocks import Stamps, read_clock
from codeclens.models.source.damaged_times import mend_times
from codeclens.models.source.reading import FrameSampling, VideoSource
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clips import encode, number_of, numbered

B_FRAMES = {"bf": "3", "g": "20"}


def numbers(frames) -> list[int]:
    return [number_of(picture) for picture in frames.rgb]


def with_times(data: bytes, change, container="mp4") -> bytes:
    """The packets of ``data`` copied into a file where ``change`` set their times."""
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container) as output:
        stream = source.streams.video[0]
        made = output.add_stream_from_template(stream)
        for packet in [packet for packet in source.demux(stream) if packet.size]:
            change(packet)
            packet.stream = made
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["avi", "asf"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("rate", [10, 25, Fraction(30000, 1001)])
def test_b_frames_in_containers_without_presentation_times(container, codec, rate):
    source = VideoSource.open(encode(numbered(45), codec=codec, container=container, options=B_FRAMES, fps=rate))
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(frames.index) == list(range(45)) and source.warnings == []
    assert np.allclose(frames.pts - frames.pts[0], np.arange(45) / float(rate), atol=0.0011)
    assert numbers(source.read(FrameSampling.every(7))) == list(range(0, 45, 7))
    assert numbers(source.read(FrameSampling.by_fps(2))) == list(source.read(FrameSampling.by_fps(2)).index)


def test_presentation_times_that_are_decoding_times():
    def decode_times(packet):
        packet.pts = packet.dts

    data = with_times(encode(numbered(40), options=B_FRAMES), decode_times)
    with av.open(io.BytesIO(data)) as container:
        truth = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    source = VideoSource.open(data)
    assert numbers(source.read(FrameSampling.all())) == truth and len(truth) >= 38 and source.warnings == []


@pytest.mark.parametrize("options", [{"bf": "0"}, B_FRAMES])
@pytest.mark.parametrize("before", [0.5, 1.7])
def test_mpegts_across_the_wrap_of_its_clock(options, before):
    begin = 2**33 - int(before * 90000)
    data = encode(
        numbered(60),
        container="mpegts",
        ticks=begin + np.arange(60) * 3600,
        time_base="1/90000",
        options=options,
        container_options={"muxdelay": "0", "muxpreload": "0"},
    )
    source = VideoSource.open(data)
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(range(60)) and source.warnings == []
    assert np.allclose(np.diff(frames.pts), 0.04)


@pytest.mark.parametrize("options", [{"bf": "0", "g": "20"}, B_FRAMES])
@pytest.mark.parametrize("starts", [(0, 0), (50, 0), (0, 50), (0, 3600, 7), (1000, 1, 1)])
def test_joined_mpegts_loses_nothing(options, starts):
    def part(number, start):
        ticks = start * 90000 + np.arange(30) * 3600
        rgb = numbered(30 * (number + 1))[30 * number :]
        return encode(rgb, container="mpegts", ticks=ticks, time_base="1/90000", options=options)

    source = VideoSource.open(b"".join(part(*each) for each in enumerate(starts)))
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(range(30 * len(starts))) and source.warnings == []
    assert np.allclose(np.diff(frames.pts), 0.04, atol=1e-4)
    assert numbers(source.read(FrameSampling.every(11))) == list(range(0, 30 * len(starts), 11))


@pytest.mark.parametrize("container, codec", [
    ("mp4", "libx264"),
    ("matroska", "libx264"),
    ("flv", "libx264"),
    ("mpegts", "libx264"),
    ("webm", "libvpx"),
    ("matroska", "mpeg4"),
])  # fmt: skip
@pytest.mark.parametrize("seed", range(3))
def test_recordings_that_pause_are_whole(container, codec, seed):
    random = np.random.default_rng(seed)
    steps = np.where(random.random(60) < 0.05, random.integers(200, 9000, 60), 33)
    steps[30] = 14000  # longer than players let stand in a joined file
    ticks = np.cumsum(steps) - steps[0]
    options = {"cpu-used": "8"} if codec == "libvpx" else {"bf": "2", "g": str(random.integers(5, 40))}
    source = VideoSource.open(
        encode(numbered(60), codec=codec, container=container, ticks=ticks, time_base="1/1000", fps=30, options=options)
    )
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(range(60)) and source.warnings == []
    assert np.allclose(np.diff(frames.pts), np.diff(ticks) / 1000, atol=0.0011)


def stamps(pts, dts=None, **more) -> Stamps:
    pts = np.array(pts, float)
    dts = np.arange(len(pts)) if dts is None else np.array(dts, float)
    settled = {
        "shown": np.ones(len(pts), bool),
        "key": np.arange(len(pts)) == 0,
        "reorders": False,
        "b_last": None,
        "dts_only": False,
    }
    return Stamps(pts, dts, **(settled | more))


@settings(deadline=None)
@given(steps=st.lists(st.sampled_from([0, 1, 2, 33, 40, 900]), min_size=1, max_size=40), seed=st.integers(0, 9))
def test_doubled_times_move_nothing_else(steps, seed):
    pts = np.cumsum(steps)
    order = np.argsort(pts + np.random.default_rng(seed).uniform(0, 70, len(pts)), kind="stable")
    clock = read_clock(stamps(pts[order]), Fraction(1, 1000), 25, lambda: False)
    assert sorted(clock.number) == list(range(len(pts))) and not clock.counted
    assert (np.diff(clock.seconds) > 0).all()
    assert (pts[order][np.argsort(clock.number)] == np.sort(pts)).all()
    alone = np.array([(pts == each).sum() == 1 for each in pts])
    assert np.array_equal(clock.seconds[alone], pts[alone] / 1000)
    assert np.abs(clock.seconds - pts / 1000).max() <= len(pts) / 1000


def test_one_frame_without_a_time_keeps_the_others():
    clock = read_clock(stamps([0, 40, np.nan, 120, 160]), Fraction(1, 1000), 25, lambda: False)
    assert clock.counted and np.allclose(clock.seconds, [0, 0.04, 0.08, 0.12, 0.16])
    clock = read_clock(stamps([np.nan] * 4, [np.nan] * 4), Fraction(1, 1000), 25, lambda: False)
    assert clock.counted and np.allclose(clock.seconds, np.arange(4) / 25)


def test_a_leap_is_closed_only_where_the_data_breaks_off():
    dts = [0, 40, 80, 50000, 50040]
    given_times = stamps(dts, dts, key=np.array([1, 0, 0, 1, 0], bool))
    whole = read_clock(given_times, Fraction(1, 1000), 25, lambda: False)
    joined = read_clock(given_times, Fraction(1, 1000), 25, lambda: True)
    assert np.allclose(whole.seconds, np.array(dts) / 1000) and not len(whole.seams)
    assert np.allclose(joined.seconds, [0, 0.04, 0.08, 0.12, 0.16]) and list(joined.seams) == [3]


def flv_with_times(data: bytes, change, breaks_off: bool) -> bytes:
    """An FLV in which ``change`` (frame in the order of storing, milliseconds) set the times of the video's tags.

    ``breaks_off`` spoils the size of a tag that follows the header's, which costs no frame.
    """
    data, at, number = bytearray(data), 13, 0
    while at < len(data):
        length, is_video = int.from_bytes(data[at + 1 : at + 4], "big"), data[at] == 9 and data[at + 12] == 1
        if is_video:
            old = data[at + 7] << 24 | int.from_bytes(data[at + 4 : at + 7], "big")
            new = change(number, old).to_bytes(4, "big")
            data[at + 4 : at + 7], data[at + 7] = new[1:], new[0]
            number += 1
        at += 15 + length
        if breaks_off and number == 1 and is_video:
            data[at - 1] ^= 1
    return bytes(data)


@pytest.mark.parametrize("breaks_off", [False, True])
@pytest.mark.parametrize("bit", [9, 16, 30, 31])
@pytest.mark.parametrize("damaged", [{5}, {12}, {13}, {16, 17, 18, 19}, {28}])
def test_damaged_times_are_no_frames_lost(bit, damaged, breaks_off):
    video = encode(numbered(30), container="flv", options={"bf": "2", "g": "12"})
    data = flv_with_times(video, lambda number, time: time ^ (1 << bit if number in damaged else 0), breaks_off)
    source = VideoSource.open(data, name="clip.flv")
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(range(30)) and np.allclose(np.diff(frames.pts), 0.04, atol=0.021)
    (warning,) = source.warnings
    assert "its time stamps are wrong at" in warning and "lost" not in warning
    assert numbers(source.read(FrameSampling.every(7))) == list(range(0, 30, 7)) and source.warnings == [warning]


def test_a_leap_to_the_end_past_the_stated_duration_is_no_loss():
    video = encode(numbered(30), container="flv", options={"bf": "0", "g": "12"})
    data = flv_with_times(video, lambda number, time: time + (1 << 30 if number >= 17 else 0), True)
    source = VideoSource.open(data, name="clip")
    frames = source.read(FrameSampling.all())
    assert numbers(frames) == list(range(30)) and np.allclose(np.diff(frames.pts), 0.04, atol=0.002)
    assert len(source.warnings) == 1 and "wrong at 0.680 s" in source.warnings[0] and "lost" not in source.warnings[0]


@pytest.mark.parametrize("leap, duration, closed", [(3000, None, False), (4000, None, True), (4000, 5000.0, False)])
def test_a_leap_is_believed_as_a_loss_up_to_the_duration_or_an_hour(leap, duration, closed):
    times = np.arange(20) * 40.0 + np.where(np.arange(20) < 9, 0, leap * 1000)
    mended, first = mend_times(stamps(times, times), Fraction(1, 1000), duration, lambda: True)
    assert first == (9 if closed else None)
    assert np.array_equal(mended.dts, np.arange(20) * 40.0 if closed else times)
    assert mend_times(stamps(times, times), Fraction(1, 1000), duration, lambda: False)[1] is None, "recordings pause"


def test_a_presentation_time_that_is_never_reached_is_unknown():
    dts = np.arange(40) * 40.0
    pts = dts + 80
    pts[23] += 1e6
    mended, first = mend_times(stamps(pts, dts), Fraction(1, 1000), None, lambda: True)
    assert first == 23 and list(np.flatnonzero(np.isnan(mended.pts))) == [23] and np.array_equal(mended.dts, dts)


def test_times_from_the_shared_faults(faults):
    wrap = VideoSource.open(faults / "video/03_ts_wrap_negative_pts/wrap.ts")
    assert len(wrap.read(FrameSampling.all(), size=(64, 96))) == 120
    doubled = VideoSource.open(faults / "video/06_vfr_one_duplicate_time/vfr_dup1.mkv")
    assert doubled.timeline().pts[-1] == pytest.approx(23.927) and len(doubled.timeline().pts) == 120
