"""Layouts as (t, h, w) rows: what a code shows, and back."""

import numpy as np
import pytest
import torch
from codeclens.models.code.encoding import encode_video
from codeclens.models.code.patch_positions import encode_positions, kept_cells, patch_positions
from codeclens.models.errors import InputError
from support.frames import frames_of, noise, plan_for


def test_rows_are_the_tokens_in_order(tiny_model):
    frames = frames_of(noise(5, 64, 96))
    plan = plan_for(frames, "IPPPP")
    code = encode_video([frames], plan, tiny_model, "cells", budget=35)
    positions = patch_positions(code)
    expected = []
    for segment in code:
        expected += [[segment.index[0], cell // 3, cell % 3] for cell in segment.cell.tolist()]
    assert positions.tolist() == expected and positions.dtype == np.int32
    assert positions[:6].tolist() == [[0, row, column] for row in range(2) for column in range(3)]
    kept = kept_cells(positions, plan)
    assert {time: np.flatnonzero(cells).tolist() for time, cells in kept.items()} == {
        segment.index[0]: segment.cell.tolist() for segment in code
    }


def test_a_layout_from_elsewhere_is_encoded(tiny_model):
    frames = frames_of(noise(3, 64, 96))
    plan = plan_for(frames, "IPP")
    positions = np.array([[0, row, column] for row in range(2) for column in range(3)] + [[2, 0, 2], [2, 1, 0]])
    code = encode_positions([frames], plan, tiny_model, positions)
    whole = encode_video([frames], plan_for(frames, "III"), tiny_model, "keyframes")
    assert [(segment.kind, segment.index, segment.cell.tolist()) for segment in code] == [
        ("I", (0,), [0, 1, 2, 3, 4, 5]),
        ("P", (2,), [2, 3]),
    ]
    torch.testing.assert_close(code.segments[1].embeds, whole.segments[2].embeds[[2, 3]], rtol=1e-4, atol=1e-5)
    assert patch_positions(code).tolist() == positions.tolist()
    with pytest.raises(InputError, match="there are no patch positions"):
        encode_positions([frames], plan, tiny_model, np.zeros((0, 3), int))


def test_thumbnails_have_no_positions(tiny_model):
    frames = frames_of(noise(3, 256, 256))
    code = encode_video([frames], plan_for(frames, "IPP"), tiny_model, "thumbnail", name="clip.mp4")
    with pytest.raises(InputError, match="clip.mp4: a picture of 2 x 2 cells has no patch positions"):
        patch_positions(code)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([[0, 0, 0], [0, 2, 0]], r"patch position 1 is \[0, 2, 0\]"),
        ([[3, 0, 0]], r"within 3 frames of 2 x 3 cells"),
        ([[0, 0, -1]], r"patch position 0 is \[0, 0, -1\]"),
        ([[1, 1, 1], [1, 1, 1]], r"\[1, 1, 1\] is there twice"),
        ([0, 0, 0], r"shape \[3\]"),
        ([[0.5, 0, 0]], "integers are needed"),
    ],
)
def test_wrong_layouts_are_one_sentence(positions, message):
    plan = plan_for(frames_of(noise(3, 64, 96)), "IPP")
    with pytest.raises(InputError, match=message):
        kept_cells(np.array(positions), plan)
