"""Whole videos through the three variants, on a model whose flow is in closed form."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.gvc.gops import Span, cut_clips, pad_clip, plan_gops
from codeclens.models.gvc.records import FIRST, LAST
from codeclens.models.gvc.resume import PartialEncoding
from codeclens.models.gvc.stores import LatentFiles
from codeclens.models.gvc.stream import CorruptStream, Stream, gop_size, header_size, read_stream, write_header
from codeclens.models.gvc.video import Settings, decode_video, encode_video, make_header
from hypothesis import given, settings
from hypothesis import strategies as st
from support.pixel_flow import PixelFlow, moving_square
from support.tiers import every_value_once

QUICK = Settings(steps=6, frame_bits=2808.0, image_codec="PNG")


def plan_for(video, variant, gop_frames=9, cuts=()):
    return plan_gops(len(video), gop_frames, 4, variant != "T2V", cuts)


def encode(video, variant, model=None, gop_frames=9, cuts=(), store=None, **changes):
    """The file's bytes and the coded GOPs."""
    model = model or PixelFlow()
    chosen = replace(QUICK, variant=variant, **changes)
    spans = plan_for(video, variant, gop_frames, cuts)
    header = make_header(model, chosen, spans, video.shape[1:3], Fraction(24))
    clips = cut_clips(np.array_split(video, 3), spans)
    coded = list(encode_video(model, header, chosen, spans, clips, store))
    return write_header(header) + b"".join(gop.record for gop in coded), coded


@pytest.mark.parametrize(
    "variant, frames, guides", every_value_once(["T2V", "I2V", "FLF2V"], [1, 9, 17, 23], [False, True])
)
def test_decoder_shows_what_the_encoder_showed(variant, frames, guides):
    video = moving_square(frames)
    data, coded = encode(video, variant, PixelFlow(guides))
    stream = read_stream(data)
    decoded = list(decode_video(PixelFlow(guides), stream))
    assert len(data) == header_size(stream.header) + sum(gop_size(stream.header, gop) for gop in stream.gops)
    for (pictures, latent, drift), gop in zip(decoded, coded, strict=True):
        assert np.array_equal(pictures, gop.pictures) and torch.equal(latent, gop.latent) and drift == 0
    shown = np.concatenate([pictures for pictures, _, _ in decoded])
    assert shown.shape == video.shape
    assert np.abs(shown.astype(float) - video).mean() < (55 if variant == "T2V" else 25)


def test_cuts_start_gops_and_break_chains():
    video = np.concatenate([moving_square(11), 255 - moving_square(7)])
    data, _ = encode(video, "I2V", cuts=[11])
    gops = read_stream(data).gops
    assert [(gop.frames, gop.continues, len(gop.images)) for gop in gops] == [
        (9, False, 1),
        (2, True, 0),
        (7, False, 1),
    ]
    shown = np.concatenate([pictures for pictures, _, _ in decode_video(PixelFlow(), read_stream(data))])
    assert shown.shape == video.shape


def test_flf2v_shares_its_boundary_images():
    """G GOPs of a shot give (L - 1) G + 1 frames and carry G + 1 images."""
    data, _ = encode(moving_square(8 * 3 + 1), "FLF2V")
    gops = read_stream(data).gops
    assert [[image.role for image in gop.images] for gop in gops] == [[FIRST, LAST], [LAST], [LAST]]
    assert sum(gop.frames for gop in gops) == 25


def test_the_tail_residual_helps_the_chain():
    video = moving_square(33)
    errors = []
    for fraction in (0.0, 0.5):
        _, coded = encode(video, "I2V", tail_fraction=fraction, frame_bits=1685.0)
        shown = np.concatenate([gop.pictures for gop in coded])
        errors.append(np.square(shown[[8, 16, 24]].astype(float) - video[[8, 16, 24]]).mean())
        assert all(bool(gop.gop.tail) == bool(fraction) for gop in coded)
    assert errors[1] < errors[0]


@pytest.mark.parametrize("codec", ["WEBP", "AVIF", "PNG"])
def test_stills_of_every_codec(codec):
    data, coded = encode(moving_square(9), "FLF2V", image_codec=codec)
    ((pictures, _, drift),) = decode_video(PixelFlow(), read_stream(data))
    assert np.array_equal(pictures, coded[0].pictures) and drift == 0


def test_rate_is_what_was_asked_for():
    model = PixelFlow()
    video = moving_square(33)
    for asked in (1400.0, 3500.0, 14000.0):
        data, _ = encode(video, "T2V", model, gop_frames=33, frame_bits=asked)
        stream = read_stream(data)
        assert 8 * len(stream.gops[0].payload) / 9 == pytest.approx(asked, rel=0.06)
    with pytest.raises(InputError, match="too few"):
        encode(video, "T2V", model, frame_bits=11.0)
    with pytest.raises(InputError, match="lower the rate"):
        encode(video, "T2V", model, frame_bits=1e12)


def test_a_partial_stream_shows_its_whole_gops():
    video = moving_square(27)
    data, coded = encode(video, "I2V")
    stream = read_stream(data)
    length = header_size(stream.header) + sum(gop_size(stream.header, gop) for gop in stream.gops[:2])
    part = read_stream(data[: length + 30], partial=True)
    shown = np.concatenate([pictures for pictures, _, _ in decode_video(PixelFlow(), part)])
    assert np.array_equal(shown, np.concatenate([gop.pictures for gop in coded[:2]]))


class Stop(BaseException):
    pass


@pytest.mark.parametrize(
    "variant", [pytest.param("T2V", marks=pytest.mark.slow), "I2V", pytest.param("FLF2V", marks=pytest.mark.slow)]
)
def test_a_stopped_encoding_goes_on_at_the_next_gop(tmp_path, variant):
    video, chosen = moving_square(33), replace(QUICK, variant=variant)
    whole, coded = encode(video, variant)
    spans = plan_for(video, variant)

    def run(video, stop_at=None):
        model = PixelFlow()
        header = make_header(model, chosen, spans, video.shape[1:3], Fraction(24))

        def progress(done, total):
            if stop_at is not None and done == stop_at:
                raise Stop

        store = PartialEncoding(tmp_path, header, chosen, spans)
        coded = list(encode_video(model, header, chosen, spans, cut_clips([video], spans), store, progress))
        return model, coded, write_header(header) + b"".join(gop.record for gop in coded)

    with pytest.raises(Stop):
        run(video, stop_at=6 * 2 + 3)
    (left,) = tmp_path.glob("*.gvcb")
    part = read_stream(left.read_bytes(), partial=True)
    assert len(part.gops) == 2 and not part.whole
    left.write_bytes(left.read_bytes() + b"torn record")

    estimates = int(variant == "T2V")  # one call to distribute bits among independent GOPs
    model, again, data = run(video)
    assert model.walked == 6 * (len(spans) - 2) + estimates and data == whole
    assert all(np.array_equal(one.pictures, two.pictures) for one, two in zip(again, coded, strict=True))
    assert not list(tmp_path.iterdir())

    with pytest.raises(Stop):
        run(video, stop_at=6 * 2 + 3)
    changed = video.copy()
    changed[12] = 0
    model, _, data = run(changed)
    again = len(spans) if variant == "T2V" else len(spans) - 1  # a change moves bits in all independent GOPs
    assert model.walked == 6 * again + estimates and data == encode(changed, variant)[0]


def test_wrong_models_are_refused_by_name():
    data, _ = encode(moving_square(9), "T2V")
    stream = read_stream(data)
    other = PixelFlow()
    other.channels = 16
    with pytest.raises(InputError, match="latents of 48 channels .pixel flow.; pixel flow has 16"):
        next(decode_video(other, stream))
    guided = PixelFlow()
    guided.cfg = 300
    with pytest.raises(InputError, match="encoded with cfg 1; the guider has cfg 3"):
        next(decode_video(guided, stream))


def test_stills_that_do_not_fit_are_refused():
    data, _ = encode(moving_square(17), "FLF2V")
    stream = read_stream(data)
    bare = Stream(stream.header, (replace(stream.gops[0], images=()),))
    with pytest.raises(CorruptStream, match="no picture to start from"):
        next(decode_video(PixelFlow(), bare))
    small, _ = encode(moving_square(17, 20, 20), "FLF2V")
    mixed = Stream(stream.header, (replace(stream.gops[0], images=read_stream(small).gops[0].images),))
    with pytest.raises(CorruptStream, match="a reference image is 20x20; the stream's video is 52x36"):
        next(decode_video(PixelFlow(), mixed))


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 200), st.sampled_from([4, 8]), st.integers(1, 8), st.booleans(), st.sets(st.integers(0, 220)))
def test_gops_cover_the_video_once(frames, ratio, groups, chained, cuts):
    spans = plan_gops(frames, groups * ratio + 1, ratio, chained, cuts)
    shown = [span.first + span.continues + at for span in spans for at in range(span.frames)]
    assert shown == list(range(frames))
    for span in spans:
        clip = (span.latent_frames - 1) * ratio + 1
        assert span.source_frames <= clip < span.source_frames + ratio and clip <= groups * ratio + 1
        assert not span.continues or chained
        inside = range(span.first + 1, span.first + span.source_frames)
        assert not set(inside) & cuts
    numbers = np.arange(frames, dtype=np.int64).reshape(-1, 1, 1, 1)
    clips = cut_clips(np.array_split(numbers, max(1, frames // 7)), spans)
    for span, clip in zip(spans, clips, strict=True):
        assert clip.ravel().tolist() == list(range(span.first, span.first + span.source_frames))


def test_plans_that_cannot_be():
    for length in (1, 4, 32):
        with pytest.raises(InputError, match=f"a GOP of {length} frames does not fit"):
            plan_gops(100, length, 4, False)
    with pytest.raises(InputError, match="the video ended after 5 frames; its plan says 9"):
        list(cut_clips([np.zeros((5, 4, 4, 3), np.uint8)], (Span(0, 9, False, 3),)))


def test_chains_start_afresh_every_few_gops():
    spans = plan_gops(9 + 8 + 9 + 8 + 9, 9, 4, True, still_every=2)
    assert [(span.first, span.frames, span.continues) for span in spans] == [
        (0, 9, False), (8, 8, True), (17, 9, False), (25, 8, True), (34, 9, False),
    ]  # fmt: skip
    assert all(not span.continues for span in plan_gops(40, 9, 4, True, still_every=1))
    cut = plan_gops(40, 9, 4, True, cuts=[12], still_every=2)
    assert [span.first for span in cut if not span.continues] == [0, 12, 29]


def test_a_fresh_start_needs_nothing_before_it():
    """Random access: the GOPs from a still on decode to the same pictures without those before it."""
    video = moving_square(35)
    spans = plan_gops(35, 9, 4, True, still_every=2)
    header = make_header(PixelFlow(), replace(QUICK, variant="I2V"), spans, video.shape[1:3], Fraction(24))
    coded = list(encode_video(PixelFlow(), header, replace(QUICK, variant="I2V"), spans, cut_clips([video], spans)))
    assert [gop.gop.continues for gop in coded] == [False, True, False, True, False]
    stream = Stream(header, tuple(gop.gop for gop in coded))
    broken = replace(stream, gops=(*(replace(gop, tail=b"") for gop in stream.gops[:2]), *stream.gops[2:]))
    shown = list(decode_video(PixelFlow(), broken))
    for number in (2, 3, 4):
        assert np.array_equal(shown[number][0], coded[number].pictures) and shown[number][2] == 0
    assert shown[1][2] > 0


def test_padding_repeats_the_end_and_the_edges():
    clip = moving_square(3, 6, 5)
    padded = pad_clip(clip, 5, 8)
    assert padded.shape == (5, 8, 8, 3)
    assert np.array_equal(padded[4, :6, :5], clip[2]) and np.array_equal(padded[0, 7, :5], clip[0, 5])


class Ordered(PixelFlow):
    """Writes down what runs: E encodes latents, W walks the model, D decodes latents."""

    def __init__(self):
        super().__init__()
        self.order = ""

    def to_latent(self, rgb):
        self.order += "E"
        return super().to_latent(rgb)

    def walk(self, trajectory, conditioned, progress):
        self.order += "W"
        super().walk(trajectory, conditioned, progress)

    def to_pixels(self, latent):
        self.order += "D"
        return super().to_pixels(latent)


def test_vae_and_model_change_twice_for_independent_gops(tmp_path):
    model = Ordered()
    data, coded = encode(moving_square(27), "T2V", model)
    assert model.order == "EEE" + "W" + "WWW" + "DDD"
    decoder = Ordered()
    stored = LatentFiles(tmp_path, "clip")
    shown = np.concatenate([pictures for pictures, _, _ in decode_video(decoder, read_stream(data), latents=stored)])
    assert decoder.order == "WWWDDD" and not list(tmp_path.iterdir())
    assert np.array_equal(shown, np.concatenate([gop.pictures for gop in coded]))


def test_gops_that_are_harder_get_more_bits():
    """A still GOP beside one full of noise, at the same total; the flow's mean is grey."""
    video = np.full((18, 36, 52, 3), 128, np.uint8)
    video[9:] = np.random.default_rng(0).integers(0, 256, (9, 36, 52, 3))
    sizes, errors = [], []
    for adapt in (False, True):
        _, coded = encode(video, "T2V", adapt=adapt)
        sizes.append([len(gop.gop.payload) for gop in coded])
        errors.append(sum(np.square(gop.pictures - video[at : at + 9].astype(float)).sum() for at, gop in
                          zip((0, 9), coded, strict=True)))  # fmt: skip
    assert sizes[0][0] == sizes[0][1] and sizes[1][1] > 2 * sizes[1][0]
    assert sum(sizes[1]) == pytest.approx(sum(sizes[0]), rel=0.05)
    assert errors[1] < errors[0]


def test_latent_files_are_a_mapping_on_disk(tmp_path):
    stored = LatentFiles(tmp_path, "a")
    stored[3], stored[1] = torch.ones(2, 1, 1, 1), torch.zeros(2, 1, 1, 1)
    LatentFiles(tmp_path, "ab")[0] = torch.ones(1)
    assert list(stored) == [1, 3] and len(stored) == 2 and float(stored[3].sum()) == 2
    assert torch.equal(stored.pop(1), torch.zeros(2, 1, 1, 1)) and 1 not in stored
    with pytest.raises(KeyError):
        stored[9]
    stored.clear()
    assert len(list(tmp_path.iterdir())) == 1
