"""Streams of both versions and what they decode to: the format's meaning is pinned.

golden/v1_*.gvcb were written before there was a version 2. Each file is 17 frames (26 in version 2) of
support/pixel_flow.py's moving square, 6 steps, GOPs of 9; beside it lie the pictures that its writer's decoder showed.
A constant of the codebook, the noise, the step, the tail's coder or the sketch that changes makes other pictures.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codeclens.models.gvc.residual import decode_residual, forward_transform, step_size
from codeclens.models.gvc.stream import read_stream
from codeclens.models.gvc.video import decode_video
from codeclens.models.source.sound import read_sound
from support.pixel_flow import PixelFlow

GOLDEN_LEVELS = "68d5216a458a3919"
FOLDER = Path(__file__).parent / "golden"


@pytest.mark.parametrize("variant", ["t2v", "i2v", "flf2v"])
@pytest.mark.parametrize("version", [1, 2])
def test_old_streams_decode_unchanged(version, variant):
    stream = read_stream((FOLDER / f"v{version}_{variant}.gvcb").read_bytes())
    expected = np.load(FOLDER / f"v{version}_{variant}.npz")["pictures"]
    assert stream.header.version == version and stream.header.texts["prompt"] == "a square"
    decoded = list(decode_video(PixelFlow(guides=variant == "flf2v"), stream))
    shown = np.concatenate([pictures for pictures, _, _ in decoded]).astype(int)
    assert shown.shape == expected.shape == (17 if version == 1 else 26, 36, 52, 3)
    assert np.abs(shown - expected).max() <= 1 and (shown != expected).mean() < 0.01
    assert all(drift < 0.2 for _, _, drift in decoded)


def test_a_stream_of_version_2_holds_times_sound_and_rotation():
    stream = read_stream((FOLDER / "v2_i2v.gvcb").read_bytes())
    assert [gop.continues for gop in stream.gops] == [False, True, False]
    assert np.allclose(np.diff(stream.pts), [1001 / 24000] * 24 + [1 / 9], atol=1e-9)
    assert stream.header.rotation == 90 and np.concatenate(list(read_sound(stream.sound))).shape == (24000, 1)


def test_a_golden_tail_has_the_levels_that_it_was_coded_from():
    """The tail of the old I2V stream's first GOP, as whole levels of its quantiser: exact on every machine."""
    tail = read_stream((FOLDER / "v1_i2v.gvcb").read_bytes()).gops[0].tail
    levels = forward_transform(decode_residual(tail, (48, 10, 14))) / step_size(tail[0])
    found = np.rint(levels).astype(np.int32)
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == GOLDEN_LEVELS


def test_golden_pictures_notice_another_seed():
    stream = read_stream((FOLDER / "v1_t2v.gvcb").read_bytes())
    other = replace(stream, header=replace(stream.header, seed=43))
    expected = np.load(FOLDER / "v1_t2v.npz")["pictures"]
    shown = np.concatenate([pictures for pictures, _, _ in decode_video(PixelFlow(), other)])
    assert (shown != expected).mean() > 0.5
