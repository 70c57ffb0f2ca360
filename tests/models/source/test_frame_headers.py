"""The first bits of coded frames: framings that resemble each other, and what a decoder needs."""

import io

import av
import numpy as np
import pytest
from codeclens.models.source.frame_headers import (
    UNCERTAIN,
    avcc_length_bytes,
    header_reader,
    hvcc_length_bytes,
    nal_units,
)
from codeclens.models.source.reading import VideoSource
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.clips import encode, numbered


def without_start_codes(unit: bytes) -> bytes:
    """As encoders escape a payload (ITU-T H.264, 7.4.1): no three bytes that begin a start code, no zero at the end."""
    for low in range(4):
        unit = unit.replace(bytes([0, 0, low]), bytes([0, 0, 3, low | 4]))
    return unit.rstrip(b"\0") + b"\x80"


units_of_a_packet = st.lists(
    st.builds(
        lambda head, size: without_start_codes(bytes([head]) + b"\x5a" * size), st.integers(1, 127), st.integers(0, 600)
    ),
    min_size=1,
    max_size=4,
)


@settings(deadline=None)
@given(units=units_of_a_packet, length_bytes=st.sampled_from([1, 2, 4]))
@example(units=[b"\x41" + b"\x5a" * 256], length_bytes=4)  # its length is 00 00 01 01
@example(units=[b"\x41" + b"\x5a" * 260], length_bytes=4)
@example(units=[b"\x41"], length_bytes=4)  # its length is 00 00 00 01
def test_units_led_by_lengths_and_by_start_codes(units, length_bytes):
    if max(map(len, units)) < 256**length_bytes:
        led = b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units)
        assert nal_units(led, length_bytes) == units
    assert nal_units(b"\0" + b"".join(b"\0\0\1" + unit for unit in units), 0) == units


@settings(deadline=None)
@given(data=st.binary(max_size=80), length_bytes=st.sampled_from([0, 1, 2, 4]))
def test_bytes_that_are_not_whole_units_are_nothing(data, length_bytes):
    units = nal_units(data, length_bytes)
    if units is not None and length_bytes:
        assert b"".join(len(unit).to_bytes(length_bytes, "big") + unit for unit in units) == data
    assert nal_units(b"\0\0\0\x09\x41", 4) is None


def headers(data: bytes) -> list:
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        read = header_reader(stream)
        return [read(bytes(packet), packet.is_keyframe) for packet in container.demux(stream) if packet.size]


def kinds(data: bytes) -> str:
    """I, P and B of all pictures in presentation order, as a full decode gives."""
    with av.open(io.BytesIO(data)) as container:
        return "".join("?IPB"[frame.pict_type] for frame in container.decode(video=0))


@pytest.mark.parametrize("codec, container, pyramid", [
    ("libx264", "mp4", "none"),
    ("libx264", "mpegts", "none"),
    ("libx264", "matroska", "normal"),
    ("mpeg4", "avi", None),
    ("mpeg2video", "mpeg", None),
])  # fmt: skip
def test_b_frames_are_bidirectional_and_only_they_are_left_out(codec, container, pyramid):
    options = {"bf": "3", "g": "12"} | ({"x264-params": f"b-pyramid={pyramid}:b-adapt=0:scenecut=0"} if pyramid else {})
    data = encode(numbered(50, 64, 96), codec=codec, container=container, options=options)
    found, b_frames = headers(data), kinds(data).count("B")
    assert sum(header.bidirectional for header in found) == b_frames > 10
    unreferenced = sum(not header.reference for header in found)
    assert unreferenced < b_frames if pyramid == "normal" else unreferenced == b_frames
    assert sum(header.entry for header in found) == kinds(data).count("I") == 5


@pytest.mark.parametrize("codec, container, options, entries", [
    ("libx264", "mp4", {"g": "10", "x264-params": "open-gop=1:bframes=3:scenecut=0"}, 1),  # an I picture alone is none
    ("libx264", "mp4", {"g": "10", "x264-params": "intra-refresh=1:bframes=0:scenecut=0"}, 1),
    ("libx265", "mp4", {"x265-params": "log-level=none:keyint=10:open-gop=1:bframes=3:scenecut=0"}, 4),
    ("libsvtav1", "matroska", {"preset": "12", "g": "10", "svtav1-params": "irefresh-type=2:scd=0"}, 4),
    ("libvpx", "webm", {"g": "10", "cpu-used": "8"}, 4),
    ("libvpx-vp9", "webm", {"g": "10", "cpu-used": "8", "lag-in-frames": "0"}, 4),
    ("mjpeg", "avi", {}, 40),
    ("prores_ks", "mov", {}, 40),
    ("flv", "flv", {"g": "10"}, 0),  # nothing is known of its frames
])  # fmt: skip
def test_where_decoding_can_begin(codec, container, options, entries):
    pix_fmt = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}.get(codec, "yuv420p")
    data = encode(numbered(40, 64, 96), codec=codec, container=container, options=options, pix_fmt=pix_fmt)
    found = headers(data)
    assert sum(header.entry for header in found) == entries
    assert found[0].entry == bool(entries)


def test_what_cannot_be_read_needs_everything():
    for codec, container in (("libx264", "mp4"), ("libx265", "mp4"), ("mpeg4", "avi"), ("libvpx", "webm")):
        options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        data = encode(numbered(3, 64, 96), codec=codec, container=container, options=options)
        with av.open(io.BytesIO(data)) as file:
            read = header_reader(file.streams.video[0])
            for torn in (b"", b"\0", b"\0\0\1", b"\0\0\0\x09\x65", b"\0\0\1\xb6"):
                assert read(torn, True) == UNCERTAIN


def test_the_framing_is_what_the_extradata_says():
    assert avcc_length_bytes(b"\x01\x64\0\x0c\xff\xe1") == 4 and avcc_length_bytes(b"\x01\x64\0\x0c\xfd\xe1") == 2
    assert avcc_length_bytes(b"\0\0\1\x67\x64") == avcc_length_bytes(b"") == 0
    assert (
        hvcc_length_bytes(b"\x01" + bytes(20) + b"\x03\0") == 4 and hvcc_length_bytes(b"\0\0\0\1\x40" + bytes(30)) == 0
    )


def test_sampling_reads_few_packets_of_short_groups():
    source = VideoSource.open(encode(numbered(90, 64, 96), options={"g": "10", "bf": "3"}))
    source.timeline()
    assert source.reader.table.needed(np.array([0, 45, 89])).sum() < 20
