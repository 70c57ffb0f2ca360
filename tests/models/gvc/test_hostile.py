"""Streams whose checksums are right and whose values are hostile: one sentence, before any large allocation."""

import resource
import struct
import time
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.records import CorruptStream, FrameBits, Gop, Preset, ReferenceImage, Stream, check_gop
from codeclens.models.gvc.residual import _Decoder, decode_residual, encode_residual
from codeclens.models.gvc.stream import StreamError, gop_size, read_stream, write_gop, write_header, write_stream
from codeclens.models.gvc.video import Settings, decode_video, encode_video, make_header
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pixel_flow import PixelFlow, moving_square

GOLDEN = Path(__file__).parent / "golden"


def encode(variant: str, frames: int = 17) -> Stream:
    """A small healthy stream."""
    video, model = moving_square(frames), PixelFlow()
    chosen = Settings(variant, steps=3, frame_bits=1100.0, image_codec="PNG", tail_fraction=0.5)
    spans = plan_gops(frames, 9, 4, variant != "T2V")
    header = make_header(model, chosen, spans, video.shape[1:3], Fraction(24))
    return Stream(header, tuple(c.gop for c in encode_video(model, header, chosen, spans, cut_clips([video], spans))))


STREAMS = {variant: encode(variant) for variant in ("T2V", "I2V", "FLF2V")}
STILL = STREAMS["I2V"].gops[0].images[0]


@pytest.mark.parametrize(
    ("variant", "number", "change", "said"),
    [
        ("T2V", 0, {"frames": 60000}, "adds 60000 frames; its 3 latent frames show 1 to 9 new ones"),
        ("I2V", 1, {"frames": 9}, "adds 9 frames; its 3 latent frames show 1 to 8 new ones"),
        ("T2V", 0, {"frames": 0}, "adds 0 frames"),
        ("T2V", 1, {"continues": True}, "goes on from the GOP before, but GOPs of a T2V stream are independent"),
        ("I2V", 0, {"continues": True, "frames": 8}, "goes on from the GOP before, but it is the first"),
        ("I2V", 0, {"images": ()}, "has the stills none; a GOP of this kind of I2V has first"),
        ("I2V", 1, {"images": (STILL,)}, "has the stills first; a GOP of this kind of I2V has none"),
        ("I2V", 0, {"images": (STILL, STILL)}, "has the stills first and first"),
        ("I2V", 0, {"images": (replace(STILL, role=7),)}, "a still of role 7"),
        ("I2V", 0, {"images": (replace(STILL, codec=3),)}, "codec 3"),
        ("I2V", 0, {"images": (replace(STILL, data=b""),)}, "0 bytes"),
        ("FLF2V", 0, {"images": (STILL,)}, "has the stills first; a GOP of this kind of FLF2V has first and last"),
        ("FLF2V", 1, {"images": ()}, "has the stills none; a GOP of this kind of FLF2V has last"),
        ("T2V", 0, {"sketch": np.full(16, np.nan, np.float16)}, "sketch has values that are not finite"),
        ("T2V", 0, {"sketch": np.full(16, np.inf, np.float16)}, "sketch has values that are not finite"),
        ("T2V", 0, {"grey_levels": float("nan")}, "sketch has values that are not finite"),
        ("T2V", 0, {"weights": np.zeros(0, np.uint8)}, "has 0 latent frames; the header allows 1 to 3"),
        ("T2V", 0, {"weights": np.ones(4, np.uint8)}, "has 4 latent frames; the header allows 1 to 3"),
        ("T2V", 0, {"payload": b""}, "has 0 bytes of codes"),
    ],
)
def test_gops_that_contradict_themselves_are_neither_written_nor_read(variant, number, change, said, monkeypatch):
    stream = STREAMS[variant]
    gops = list(stream.gops)
    gops[number] = replace(gops[number], **change)
    with pytest.raises(InputError, match=said):
        write_stream(Stream(stream.header, tuple(gops)))
    with monkeypatch.context() as patched:
        patched.setattr("codeclens.models.gvc.stream.check_gop", lambda *_: None)
        data = write_stream(Stream(stream.header, tuple(gops)))
    with pytest.raises(CorruptStream, match=f"GOP {number}: its? .*{said}|its {said}"):
        read_stream(data)


def test_bits_after_the_codes_and_unknown_flags_are_refused():
    header = replace(STREAMS["T2V"].header, schedule=Preset(500, 32768, 3, 6), frames=9, has_sketch=False)
    gop = Gop(9, False, np.full(3, 16, np.uint8), bytes(16))  # 3 frames, 2 steps, 3 atoms of 7 bits: 126 of 128
    record, header = bytearray(write_gop(header, 0, gop)), write_header(header)
    seed = zlib.crc32(struct.pack("<I", 0), zlib.crc32(header[:-4]))
    for at, change, said in ((-5, 0x80, "zeros after"), (8, 2, "flags 0x2; this reader knows 0x1")):
        changed = bytearray(record)
        changed[at] |= change
        changed[-4:] = struct.pack("<I", zlib.crc32(changed[:-4], seed))
        with pytest.raises(CorruptStream, match=said):
            read_stream(header + bytes(changed))


def test_weights_beyond_the_codebook_are_refused():
    header = replace(STREAMS["T2V"].header, schedule=Preset(500, 32768, 5000, 2), step_count=3)
    cost = FrameBits(header)
    assert cost.heaviest == 209  # 5000 * 209 / 16 = 65312.5 atoms, 5000 * 210 / 16 = 65625
    gop = Gop(1, False, np.array([210], np.uint8), bytes(-(-cost.payload(np.array([210])) // 8)))
    with pytest.raises(InputError, match="a weight is 210; the codebook has atoms up to 209"):
        check_gop(header, 0, gop, cost)


@pytest.mark.parametrize("model_guides", [False, True])
def test_gops_with_guides_alone_are_refused(model_guides):
    stream = encode("FLF2V", 1)
    model = PixelFlow(model_guides)
    if not model_guides:
        assert sum(len(shown) for shown, _, _ in decode_video(model, stream)) == 1
        return
    with pytest.raises(CorruptStream, match="adds 1 frames; pixel flow shows 0 new ones of its 1 latent frames"):
        next(decode_video(model, stream))


def test_models_of_another_geometry_are_refused():
    other = PixelFlow()
    other.spatial = 2
    with pytest.raises(InputError, match="latent frames are 14x10; pixel flow makes 28x20 of 52x36 pixels"):
        next(decode_video(other, STREAMS["T2V"]))
    other = PixelFlow()
    other.temporal = 2
    with pytest.raises(InputError, match="adds 9 frames; pixel flow shows 5 new ones"):
        next(decode_video(other, STREAMS["T2V"]))


def test_a_bomb_of_a_still_is_refused_by_its_size():
    """A PNG of 13000x13000 in a few kB: its size is read before it is decoded."""
    rows = zlib.compress(bytes(13000 * (1 + 13000 // 8)), 9)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 1, 0, 0, 0, 0))
    bomb += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    stream = STREAMS["I2V"]
    gop = replace(stream.gops[0], images=(ReferenceImage(0, 0, bomb),))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CorruptStream, match="a reference image is 13000x13000; the stream's video is 52x36"):
        next(decode_video(PixelFlow(), Stream(stream.header, (gop,))))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize("seed", range(4))
def test_a_tail_decodes_in_time_that_follows_its_bytes(seed):
    data = bytes([60]) + np.random.default_rng(seed).integers(0, 256, 200).astype(np.uint8).tobytes()
    started = time.process_time()
    with pytest.raises(InputError, match="needs more than the 200 bytes that it has"):
        decode_residual(data, (48, 590, 590))
    assert time.process_time() - started < 4


def test_a_sparse_tail_of_a_large_frame_decodes_whole(monkeypatch):
    """All-zero blocks at the end are bytes that the encoder leaves out: no damage, and no work for 16,384 blocks."""
    frame = np.zeros((4, 512, 512), np.float32)
    frame[0, :16, :16] = 1
    data, decisions = encode_residual(frame, 60), []
    decide = _Decoder.bit
    monkeypatch.setattr(_Decoder, "bit", lambda *arguments: decisions.append(1) or decide(*arguments))
    assert np.abs(decode_residual(data, frame.shape) - frame).max() < 0.2
    assert 10 < len(decisions) < 10_000


@pytest.mark.parametrize("gops", [1, 400])
def test_reading_takes_time_in_proportion_to_the_file(gops):
    """Many small GOPs and one of many latent frames, at the most steps: 40 microseconds a byte at most."""
    header = replace(
        STREAMS["T2V"].header, schedule=Preset(500, 0, 1, 1), step_count=255, has_sketch=False, channels=1,
        latent_frames=60000 if gops == 1 else 1, frames=gops, height=8, width=8, latent_height=2, latent_width=2,
    )  # fmt: skip
    gop = Gop(1, False, np.zeros(60000 if gops == 1 else 1, np.uint8), b"")
    written = write_header(header)
    data = written + b"".join(write_gop(header, number, gop, written) for number in range(gops))
    started = time.process_time()
    assert len(read_stream(data).gops) == gops
    assert time.process_time() - started < 0.1 + 40e-6 * len(data)


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(sorted(STREAMS) + ["v1_t2v", "v1_i2v", "v1_flf2v"]), st.data())
def test_any_change_under_right_checksums_is_read_or_refused(name, data):
    """Bytes of headers and records changed, their checksums made right again: a stream or one sentence."""
    original = (GOLDEN / f"{name}.gvcb").read_bytes() if name.startswith("v1") else write_stream(STREAMS[name])
    changed = bytearray(original)
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(5, min(len(changed) - 1, 220)))] = data.draw(st.integers(0, 255))
    try:
        found = read_stream(sealed(bytes(changed), original))
    except StreamError as error:
        assert "\n" not in str(error)
        return
    decoded = decode_video(PixelFlow(), found)
    try:
        for pictures, _, _ in decoded:
            assert pictures.shape[1:] == (found.header.height, found.header.width, 3)
    except InputError as error:
        assert "\n" not in str(error)


def sealed(changed: bytes, original: bytes) -> bytes:
    """``changed`` with the checksums of the header and of every record made right, at the original's boundaries."""
    stream = read_stream(original)
    size = len(original) - sum(record_sizes(stream))
    header = changed[: size - 4]
    parts, at = [header + struct.pack("<I", zlib.crc32(header))], size
    for number, length in enumerate(record_sizes(stream)):
        content = changed[at : at + length - 4]
        seed = zlib.crc32(struct.pack("<I", number), zlib.crc32(header))
        parts.append(content + struct.pack("<I", zlib.crc32(content, seed)))
        at += length
    return b"".join(parts)


def record_sizes(stream: Stream) -> list[int]:
    return [gop_size(stream.header, gop) for gop in stream.gops]
