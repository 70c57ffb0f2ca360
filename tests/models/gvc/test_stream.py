"""The file: round trips, sizes to the byte, and what happens to it in the world."""

import struct
import zlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.flow import shifted_sigmas
from codeclens.models.gvc.records import FIRST, LAST, MOST_TEXT, STILL_CODECS, atoms_of
from codeclens.models.gvc.stills import decode_image, encode_image
from codeclens.models.gvc.stream import (
    CorruptStream,
    Gop,
    Header,
    Preset,
    ReferenceImage,
    StepCode,
    Stream,
    StreamError,
    TruncatedStream,
    UnsupportedStream,
    describe,
    gop_size,
    header_size,
    pack_codes,
    payload_bits,
    read_header,
    read_stream,
    unpack_codes,
    write_header,
    write_stream,
)
from hypothesis import given, settings
from hypothesis import strategies as st

PLAIN = Header("T2V", 4, 5, 5, 7, 30, 40, 56, Fraction(24000, 1001), Preset(500, 32768, 3, 5), 4)
WEIGHTS = (16, 8, 0, 255, 16)


def small_gop(header: Header, frames: int, weights=WEIGHTS, seed=0, **parts) -> Gop:
    generator = np.random.default_rng(seed)
    bits = payload_bits(header, weights)
    codes = generator.integers(0, 2, bits).astype(np.uint8)
    sketch = generator.normal(size=header.sketch_size).astype(np.float16) if header.has_sketch else None
    return Gop(
        frames, parts.pop("continues", False), np.array(weights, np.uint8),
        np.packbits(codes, bitorder="little").tobytes(), sketch=sketch, **parts,
    )  # fmt: skip


def rich_stream() -> Stream:
    sigmas = shifted_sigmas(4, 300)
    schedule = tuple(StepCode(sigma, 30000, 2 + step, 3 + step) for step, sigma in enumerate(sigmas[:3]))
    header = replace(
        PLAIN, variant="FLF2V", schedule=(*schedule, StepCode(sigmas[3], 0, 0, 0)), seed=2**63 + 5, cfg=250,
        switch_sigma=57344, has_images=True, has_tail=True, has_times=True, has_sound=True, frames=9,
        spatial=8, temporal=4, rotation=270,
        texts={"prompt": "ein Vogel \u00fcber dem Meer", "negative": "", "model": "wan2.1", "note": "n",
               "conditioning_fingerprint": b"12345678", "model_fingerprint": b"abcdefgh"},
    )  # fmt: skip
    first = ReferenceImage(1, FIRST, b"some bytes")
    gops = (
        small_gop(
            header, 5, (16, 8), 1, images=(first, ReferenceImage(0, LAST, b"y")), tail=b"tail", grey_levels=50.5,
            ticks=np.array([0, 15015, 15015, 400000, 7], np.uint32),
        ),
        small_gop(
            header, 4, (0, 16, 40), 2, images=(ReferenceImage(2, LAST, b"x" * 300),), continues=True,
            ticks=np.array([1, 2, 3, 4], np.uint32),
        ),
    )  # fmt: skip
    return Stream(header, gops, b"a sound")


def same(one: Stream, other: Stream) -> bool:
    return one.header == other.header and write_stream(one) == write_stream(other)


STREAMS = {
    "plain": Stream(PLAIN, (small_gop(PLAIN, 30),)),
    "rich": rich_stream(),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_round_trip_and_size_to_the_byte(stream):
    data = write_stream(stream)
    found = read_stream(data)
    assert same(found, stream)
    sound = 8 + len(stream.sound) if stream.header.has_sound else 0
    assert found.sound == stream.sound and found.size == len(data)
    assert len(data) == header_size(stream.header) + sound + sum(gop_size(stream.header, gop) for gop in stream.gops)
    for gop, read in zip(stream.gops, found.gops, strict=True):
        assert gop.payload == read.payload and gop.images == read.images and gop.tail == read.tail
        assert gop.weights.tolist() == read.weights.tolist() and gop.continues == read.continues
        assert gop.sketch.tobytes() == read.sketch.tobytes() and gop.grey_levels == read.grey_levels
        assert (gop.ticks is None) == (read.ticks is None) and (read.ticks is None or (gop.ticks == read.ticks).all())


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_truncation_is_one_error(stream):
    data = write_stream(stream)
    for length in range(len(data)):
        with pytest.raises(TruncatedStream) as error:
            read_stream(data[:length], "clip.gvcb")
        assert str(error.value).startswith("clip.gvcb: the stream ends at byte") and "\n" not in str(error.value)
    with pytest.raises(CorruptStream):
        read_stream(data + b"\0")


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_every_flipped_bit_is_one_error(stream):
    data = bytearray(write_stream(stream))
    for bit in range(8 * len(data)):
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError) as error:
            read_stream(bytes(data), "clip.gvcb")
        assert str(error.value).startswith("clip.gvcb: ") and "\n" not in str(error.value)
        data[bit // 8] ^= 1 << bit % 8


def test_a_cut_stream_gives_its_whole_gops():
    stream = rich_stream()
    data = write_stream(stream)
    first = header_size(stream.header) + 8 + len(stream.sound) + gop_size(stream.header, stream.gops[0])
    for length in (first, first + 1, len(data) - 1):
        with pytest.raises(TruncatedStream) as error:
            read_stream(data[:length])
        assert error.value.whole.gops[0].payload == stream.gops[0].payload
        found = read_stream(data[:length], partial=True)
        assert len(found.gops) == 1 and not found.whole and found.size == first
    with pytest.raises(TruncatedStream):
        read_stream(data[: first - 1], partial=True)
    assert read_stream(data, partial=True).whole


def test_records_cannot_be_moved_or_borrowed():
    header = replace(PLAIN, frames=60)
    stream = Stream(header, (small_gop(header, 30, seed=1), small_gop(header, 30, seed=2)))
    data, start = write_stream(stream), header_size(header)
    size = gop_size(header, stream.gops[0])
    with pytest.raises(CorruptStream, match="GOP 0"):
        read_stream(data[:start] + data[start + size :] + data[start : start + size])
    other = write_stream(Stream(replace(header, seed=43), stream.gops))
    with pytest.raises(CorruptStream, match="GOP 0"):
        read_stream(other[:start] + data[start:])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 1}, "streams of version 1 are read, not written"),
        ({"rotation": 45}, "rotation is 45 degrees"),
        ({"variant": "I2V"}, "is I2V and says that it has no stills"),
        ({"has_images": True}, "is T2V and says that it has stills"),
        ({"height": 400}, "latent frames are 7x5 and its video is 56x400"),
        ({"spatial": 4}, "latent frames are 7x5 and its video is 56x40; a latent position stands for 4"),
        ({"channels": 255, "latent_frames": 65535, "latent_height": 100, "latent_width": 100}, "a GOP's latent is"),
        (
            {"latent_frames": 65535, "latent_height": 14, "latent_width": 14, "height": 448, "width": 448},
            "values of 448x448",
        ),
        ({"channels": 0}, "latent channels is 0"),
        ({"channels": 256}, "latent channels is 256"),
        ({"latent_frames": 70000}, "latent frames is 70000"),
        ({"latent_height": 60000, "latent_width": 60000}, "values of a latent frame"),
        ({"frames": 0}, "frames is 0"),
        ({"rate": Fraction(0)}, "frame rate numerator is 0"),
        ({"step_count": 1}, "steps is 1"),
        ({"deterministic": 0}, "deterministic steps is 0"),
        ({"deterministic": 4}, "deterministic steps is 4"),
        ({"seed": -1}, "seed is -1"),
        ({"cfg": 70000}, "cfg in hundredths is 70000"),
        ({"schedule": Preset(500, 32768, 0, 5)}, "step 0: the codebook has 0 atoms"),
        ({"schedule": Preset(500, 32768, 3, 9)}, "step 0: groups of 2\\^9 atoms do not fit"),
        ({"schedule": Preset(0, 32768, 3, 5)}, "shift is 0"),
        ({"schedule": Preset(70000, 32768, 3, 5)}, "shift is 700"),
        ({"schedule": Preset(500, 70000, 3, 5)}, "step 0: refresh is 1.06"),
        ({"schedule": tuple(StepCode(s, 1, 1, 1) for s in (9, 8, 7, 6))}, "step 3 is deterministic but has 1 atoms"),
        ({"schedule": tuple(StepCode(s, 1, 1, 1) for s in (9, 9, 7, 6))}, "sigma does not fall at step 0"),
    ],
)
def test_header_fields_out_of_range_are_named(change, said):
    with pytest.raises(InputError, match=said):
        write_header(replace(PLAIN, **change))


def test_well_sealed_nonsense_is_refused():
    """Streams whose checksums are right but whose fields no writer makes."""

    def sealed(data: bytes) -> bytes:
        return data + struct.pack("<I", zlib.crc32(data))

    good = write_header(PLAIN)[:-4]
    for at, value, kind, said in (
        (4, 3, UnsupportedStream, "version 3; this reader knows versions 1 and 2"),
        (8, 1, UnsupportedStream, "family 1"),
        (7, 3, CorruptStream, "variant 3"),
        (6, 1, CorruptStream, "flags 0x128"),
        (5, 0x29, CorruptStream, "flags 0x29"),
        (9, 0, CorruptStream, "latent channels is 0"),
        (35, 1, CorruptStream, "steps is 1"),
    ):
        changed = bytearray(good)
        changed[at] = value
        with pytest.raises(kind, match=said):
            read_header(sealed(bytes(changed)))
    with pytest.raises(UnsupportedStream, match="not a GVCB stream"):
        read_header(b"TDCM" + good[4:])
    with pytest.raises(CorruptStream, match="text of kind 9"):
        read_header(sealed(good[:-1] + b"\x01\x09\x00\x00"))
    with pytest.raises(CorruptStream, match="prompt cannot be unpacked"):
        read_header(sealed(good[:-1] + b"\x01\x01\x02\x00zz"))
    for text, said in (
        (zlib.compress(b"x" * MOST_TEXT + b"x"), "the prompt is longer than 4194304 bytes"),
        (zlib.compress(b"a prompt")[:-1], "its packed bytes end early or go on"),
        (zlib.compress(b"a prompt") + b"!", "its packed bytes end early or go on"),
        (zlib.compress(b"\xff"), "the prompt cannot be unpacked"),
    ):
        flagged = good[:5] + bytes([good[5] | 1]) + good[6:-1]
        with pytest.raises(CorruptStream, match=said):
            read_header(sealed(flagged + b"\x01\x01" + struct.pack("<H", len(text)) + text))


@pytest.mark.parametrize("text", ["a" * (2 << 20), "\u20ac" * 500_000, "x" * MOST_TEXT, ""])
def test_a_prompt_that_is_written_is_read(text):
    header = replace(PLAIN, texts={"prompt": text})
    assert read_header(write_header(header))[0].texts == {"prompt": text}


def test_a_prompt_that_could_not_be_read_is_not_written():
    with pytest.raises(InputError, match="the prompt holds half of a character at position 3"):
        write_header(replace(PLAIN, texts={"prompt": "abc\ud83d"}))
    with pytest.raises(InputError, match="the prompt takes 4194305 bytes"):
        write_header(replace(PLAIN, texts={"prompt": "x" * (MOST_TEXT + 1)}))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_size_formula_for_random_streams(data):
    steps = data.draw(st.integers(2, 12))
    deterministic = data.draw(st.integers(1, steps - 1))
    sigmas = shifted_sigmas(steps, data.draw(st.integers(100, 900)))
    coded = st.tuples(st.integers(0, 65535), st.integers(1, 40), st.integers(1, 7))
    schedule = tuple(
        StepCode(sigma, *(data.draw(coded) if step < steps - deterministic else (0, 0, 0)))
        for step, sigma in enumerate(sigmas)
    )
    header = replace(PLAIN, step_count=steps, deterministic=deterministic, schedule=schedule,
                     has_sketch=data.draw(st.booleans()), has_tail=data.draw(st.booleans()))  # fmt: skip
    weights = data.draw(st.lists(st.integers(0, 255), min_size=5, max_size=5))
    tail = data.draw(st.binary(max_size=40)) if header.has_tail else b""
    gop = small_gop(header, 30, weights, tail=tail)
    stream = Stream(header, (gop,))
    written = write_stream(stream)
    assert same(read_stream(written), stream)
    coded_bits = sum(
        (max(1, int(step.atoms * weight / 16 + 0.5)) if weight else 0) * (step.bits + 1)
        for step in schedule[: steps - deterministic]
        for weight in weights
    )
    expected = (
        49 + 7 * steps + 1 + 4
        + 9 + len(weights) + (4 + len(tail)) * header.has_tail + 34 * header.has_sketch
        + -(-coded_bits // 8) + 4
    )  # fmt: skip
    assert len(written) == expected == header_size(header) + gop_size(header, gop)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_after_the_magic_are_an_error(noise):
    with pytest.raises(StreamError):
        read_stream(b"GVCB" + noise)


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 20), st.integers(1, 50), st.integers(0, 2**32))
def test_codes_round_trip(bits, count, seed):
    generator = np.random.default_rng(seed)
    index, sign = generator.integers(0, 1 << bits, count), generator.choice([-1, 1], count)
    codes = pack_codes(index, sign, bits)
    assert len(codes) == count * (bits + 1)
    packed = int.from_bytes(np.packbits(codes, bitorder="little").tobytes(), "little")
    assert packed & (1 << bits) - 1 == index[0] and packed >> bits & 1 == (sign[0] < 0)
    found_index, found_sign = unpack_codes(codes, bits)
    assert found_index.tolist() == index.tolist() and found_sign.tolist() == sign.tolist()


def test_weights_scale_atoms():
    assert [atoms_of(64, weight) for weight in (0, 1, 8, 16, 32)] == [0, 4, 32, 64, 128]
    assert atoms_of(1, 1) == 1 and atoms_of(3, 8) == 2


def test_sizes_of_the_paper_at_720p():
    """17 coded steps, 9 latent frames: 64 atoms of 14+1 bits are the 18360 bytes of the paper, of 8+1 bits 11016."""
    for bits, size in ((14, 18360), (8, 11016)):
        header = replace(
            PLAIN, channels=16, latent_frames=9, latent_height=90, latent_width=160, height=720, width=1280,
            step_count=20, deterministic=3,
            schedule=Preset(500, 32768, 64, bits),
        )  # fmt: skip
        assert -(-payload_bits(header, [16] * 9) // 8) == size


def test_description_counts_bytes_and_rates():
    stream = STREAMS["plain"]
    data = write_stream(stream)
    facts = describe(stream, len(data))
    assert facts["bytes"] == len(data) == facts["bytes_codebook"] + facts["bytes_other"]
    assert facts["bits_per_pixel"] == pytest.approx(8 * len(data) / (30 * 40 * 56), abs=1e-6)
    assert facts["kilobits_per_second"] == pytest.approx(8 * len(data) / 1000 / (30 * 1001 / 24000), abs=1e-3)
    assert facts["whole"] and facts["gop_frames"] == [30]


@pytest.mark.parametrize("codec", STILL_CODECS)
def test_reference_images(codec):
    x = np.linspace(0, 255, 48)
    picture = np.stack(np.broadcast_arrays(x[None, :], x[:32, None], 128.0), -1).astype(np.uint8)
    image = encode_image(picture, codec, 90, FIRST)
    found = decode_image(image, (32, 48))
    assert found.shape == picture.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - picture).mean() < 3
    if codec == "PNG":
        assert np.array_equal(found, picture)
    for length in range(0, 3 * len(image.data) // 4, 7):
        with pytest.raises(CorruptStream, match=codec):
            decode_image(replace(image, data=image.data[:length]), (32, 48))
    with pytest.raises(CorruptStream, match="codec 7"):
        decode_image(replace(image, codec=7), (32, 48))
    with pytest.raises(CorruptStream, match="a reference image is 48x32; the stream's video is 48x33"):
        decode_image(image, (33, 48))
