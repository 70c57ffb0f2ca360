"""Token counts against figures that the papers print and arithmetic that one can do by hand."""

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.video.tokens import MODES, frame_tokens, image_tokens, prompt_words, thumbnail_size, token_totals

KEPT = np.ones(17, bool)
GOP = np.array([1] + [0] * 16, np.uint8)


def test_a_picture_is_one_token_per_32_pixels_square():
    assert image_tokens((512, 512)) == 256
    assert image_tokens((384, 672)) == 12 * 21


@pytest.mark.parametrize(
    ("size", "thumbnail"),
    [
        ((512, 512), (128, 128)),
        ((384, 672), (96, 160)),  # 96, 168
        ((448, 576), (128, 160)),  # 112 is half way: up; 144 is half way: up
        ((352, 768), (96, 192)),  # 88
        ((32, 64), (32, 32)),
        ((1088, 1920), (288, 480)),  # 272 is half way
    ],
)
def test_a_thumbnail_is_a_quarter_of_the_side_in_whole_tokens(size, thumbnail):
    assert thumbnail_size(size) == thumbnail
    assert all(abs(small - side / 4) <= 16 or small == 32 for small, side in zip(thumbnail, size, strict=True))


def test_the_papers_ratio_of_a_full_gop():
    """AdaCodec, appendix E: rho(16) = 11.8 % of a whole picture for every frame, with 256 and 16 tokens."""
    for mode in ("thumbnail", "ptoken"):
        tokens = frame_tokens(mode, GOP, KEPT, (512, 512))
        assert tokens.tolist() == [256] + [16] * 16
    totals = token_totals(GOP, KEPT, (512, 512))
    assert totals == {
        "rgb_per_frame": 17 * 256,
        "rgb_paired": 9 * 256,
        "keyframes": 256,
        "thumbnail": 512,
        "cells": 256 + 8 * (256 // 6),
        "ptoken": 512,
        "delta": 256 + 16 * 8,
    }
    assert round(100 * totals["ptoken"] / totals["rgb_per_frame"], 1) == 11.8


def test_native_video_shares_a_picture_between_two_frames():
    assert frame_tokens("rgb", GOP[:5], KEPT[:5], (64, 64)).tolist() == [4, 0, 4, 0, 4]
    keep = np.array([True, False, True, True, False])
    assert frame_tokens("rgb", GOP[:5], keep, (64, 64)).tolist() == [4, 0, 0, 4, 0]


def test_the_first_pair_of_a_stretch_of_cells_is_whole_unless_it_continues_one():
    keep = np.array([True] * 5 + [False] * 2 + [True] * 3)
    kind = np.array([1, 0, 0, 0, 0, 1, 0, 1, 0, 0], np.uint8)
    assert frame_tokens("cells", kind, keep, (128, 192)).tolist() == [24, 0, 4, 0, 4, 0, 0, 24, 0, 4]
    assert frame_tokens("cells", kind[1:5], keep[1:5], (128, 192)).tolist() == [4, 0, 4, 0]


def test_dropped_frames_cost_nothing_and_baselines_read_every_frame():
    keep = KEPT.copy()
    keep[:] = False
    totals = token_totals(GOP, keep, (512, 512))
    assert totals == {
        "rgb_per_frame": 4352,
        "rgb_paired": 2304,
        "keyframes": 0,
        "thumbnail": 0,
        "cells": 0,
        "ptoken": 0,
        "delta": 0,
    }


def test_words_are_markers_and_stamps_of_what_is_shown():
    tokens, pts = np.array([4, 0, 4, 4, 4]), np.array([0.5, 0.75, 9.5, 9.96, 123.4])
    stamps = [len(text) for text in ("<0.5>", "<9.5>", "<10.0>", "<123.4>")]
    every = [2 + stamp + 1 for stamp in stamps]
    assert prompt_words(tokens, pts, "every").tolist() == [every[0], 0, *every[1:]]
    assert prompt_words(tokens, pts, "second").tolist() == [every[0], 0, every[1], 2, every[3]]
    totals = token_totals(GOP, KEPT, (512, 512), np.arange(17) / 2)
    assert totals["rgb_per_frame"] == 17 * (256 + 8)
    assert totals["rgb_paired"] == 9 * (256 + 8)
    assert totals["cells"] == 256 + 8 * 42 + 9 * 8


def test_no_other_size_and_no_other_mode():
    for size in [(500, 512), (512, 16), (0, 32), (-32, 32)]:
        with pytest.raises(InputError, match="multiples of 32"):
            image_tokens(size)
    with pytest.raises(InputError, match="'rgbd' is unknown"):
        frame_tokens("rgbd", GOP, KEPT, (512, 512))
    for mode in MODES:
        assert frame_tokens(mode, GOP, KEPT, (512, 512)).dtype == np.int32
