"""One knob: what is asked is what the file takes, stills included."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.budget import Target, plan_budget, sampled_stills, still_frames
from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.rate import SHIFTS, best_shift
from codeclens.models.gvc.stream import write_header
from codeclens.models.gvc.video import Settings, encode_video, latent_size, make_header
from support.pixel_flow import PixelFlow, moving_square
from support.tiers import every_value_once

MODEL = PixelFlow()
VIDEO = moving_square(33)


def encoded_size(target: Target, variant: str, codec: str, tail_fraction: float = 0.25):
    """The budget and the bytes of the file that it led to."""
    spans = plan_gops(33, 17, 4, variant != "T2V")
    numbers = still_frames(spans, variant)
    grid = latent_size(MODEL, VIDEO.shape[1:3])
    tail = tail_fraction if variant == "I2V" else 0.0
    pictures = [VIDEO[number] for number in sampled_stills(numbers)] if numbers else []
    budget = plan_budget(
        target, spans, VIDEO.shape[1:3], 33 / 24, 48 * grid[0] * grid[1], 9, pictures, len(numbers), codec, tail
    )
    settings = Settings(
        variant, budget.frame_bits, 10, tail_fraction=tail, image_codec=codec, image_quality=budget.still_quality
    )
    header = make_header(MODEL, settings, spans, VIDEO.shape[1:3], Fraction(24))
    coded = list(encode_video(MODEL, header, settings, spans, cut_clips([VIDEO], spans)))
    return budget, len(write_header(header)) + sum(len(gop.record) for gop in coded), coded


@pytest.mark.parametrize(
    "variant, codec, kilobytes", every_value_once(["T2V", "I2V", "FLF2V"], ["WEBP", "AVIF"], [3.0, 8.0])
)
def test_the_file_takes_what_was_asked(variant, codec, kilobytes):
    budget, size, _ = encoded_size(Target("kilobytes", kilobytes), variant, codec)
    assert budget.total == pytest.approx(1000 * kilobytes, rel=0.01)
    assert size == pytest.approx(1000 * kilobytes, rel=0.08)
    assert f"about {kilobytes:.1f} kB" in budget.sentence()


def test_kilobits_a_second_are_kilobytes_of_a_known_length():
    rate, _, _ = encoded_size(Target("kilobits per second", 8 * 8.0 / (33 / 24)), "I2V", "WEBP")
    size, _, _ = encoded_size(Target("kilobytes", 8.0), "I2V", "WEBP")
    assert rate == size


def test_the_split_between_stills_and_codebook_is_kept():
    sizes = []
    for fraction in (0.2, 0.5, 0.8):
        budget, _, coded = encoded_size(Target("kilobytes", 3.0, fraction), "FLF2V", "WEBP")
        stills = sum(len(image.data) for gop in coded for image in gop.gop.images)
        assert stills == budget.stills <= fraction * 3000
        sizes.append((budget.still_quality, -budget.codebook))
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


def test_quality_moves_both_and_bits_per_pixel_the_codebook():
    plain, fine = (encoded_size(Target("quality", value), "I2V", "WEBP")[0] for value in (60, 72.5))
    assert fine.frame_bits == pytest.approx(2 * plain.frame_bits) and fine.still_quality > plain.still_quality
    asked, _, coded = encoded_size(Target("bits per pixel", 0.5, still_quality=70), "T2V", "WEBP")
    assert 8 * sum(len(gop.gop.payload) for gop in coded) / VIDEO[..., 0].size == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (Target("kilobytes", 0.3), "0.3 kB are too few: .* take"),
        (Target("kilobits per second", 2.0), r"are too few: .* kbit/s\)"),
        (Target("kilobytes", float("nan")), "the target is nan kilobytes; it must be above 0"),
        (Target("quality", 101), "the quality is 101; it must be 1 to 100"),
        (Target("beauty", 5), "the target is 'beauty'"),
    ],
)
def test_targets_that_cannot_be(target, said):
    with pytest.raises(InputError, match=said):
        encoded_size(target, "FLF2V", "WEBP")


def test_still_frames_are_those_of_the_gops():
    spans = plan_gops(60, 17, 4, True, cuts=[20, 21], still_every=2)
    assert still_frames(spans, "I2V") == [span.first for span in spans if not span.continues]
    ends = [span.first + span.source_frames - 1 for span in spans]
    assert [number for number in still_frames(spans, "FLF2V") if number in ends] == ends
    assert still_frames(spans, "T2V") == []
    assert sampled_stills(list(range(100))) == [0, 14, 28, 42, 57, 71, 85, 99]


def test_the_shift_falls_with_the_rate():
    assert best_shift(0.01) == best_shift(0.26) == 5.0 and best_shift(10) == 1.0
    assert [best_shift(bits) for bits, _ in SHIFTS] == [shift for _, shift in SHIFTS]
    found = [best_shift(bits) for bits in np.geomspace(0.2, 4, 50)]
    assert found == sorted(found, reverse=True)
    assert (
        best_shift(3.2, 12) == best_shift(3.2, 4) == 5.0 and best_shift(3.2, 16) == 3.0 and best_shift(3.2, 50) == 1.0
    )
    settings = Settings("T2V", 3.2 * 48 * 140, 20)
    spans = plan_gops(33, 17, 4, False)
    levels = [
        [step.sigma for step in make_header(MODEL, chosen, spans, (36, 52), Fraction(24)).steps]
        for chosen in (settings, replace(settings, shift=1.0), replace(settings, shift=5.0))
    ]
    assert levels[0] == levels[1] != levels[2]
