"""The lossless file: the same pixels, times and sound back, read one picture at a time."""

from fractions import Fraction

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.source.sound import RATE, encode_sound, read_sound
from codeclens.models.video.lossless import LosslessWriter


@pytest.mark.parametrize("size", [(36, 52), (37, 53), (16, 16)])
def test_pictures_and_times_come_back(tmp_path, size):
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (9, *size, 3)).astype(np.uint8)
    pts = np.cumsum([0, *generator.integers(1, 100_000, 8)]) / 360_000
    tone = np.sin(np.arange(RATE) / 20)[:, None].astype(np.float32)
    with LosslessWriter(tmp_path / "a.mp4", size, Fraction(24), encode_sound(iter([tone]), 24)) as file:
        for part in (slice(0, 4), slice(4, 9)):
            file.write(pictures[part], pts[part])
    source = VideoSource.open(tmp_path / "a.mp4")
    found = source.read(FrameSampling.all())
    assert np.array_equal(found.rgb, pictures) and np.abs(found.pts - pts).max() < 1e-5 and not source.warnings
    heard = np.concatenate(list(read_sound(tmp_path / "a.mp4")))
    assert np.corrcoef(heard[5000:40000, 0], tone[5000:40000, 0])[0, 1] > 0.98


def test_a_block_that_raises_closes_the_file(tmp_path):
    with pytest.raises(KeyError), LosslessWriter(tmp_path / "a.mp4", (16, 16), Fraction(24)):
        raise KeyError
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("noise, kept", [(b"hello", 0), (b"hello", 40), (b"", 40)])
def test_sound_that_does_not_decode_is_one_sentence_and_leaves_no_file(tmp_path, noise, kept):
    """Of a stream with right checksums around bytes that are no sound."""
    sound = noise + encode_sound(iter([np.zeros((RATE, 1), np.float32)]), 24)[:kept]
    with pytest.raises(InputError, match=r"^the sound, \d+ bytes, .*; encode the video again$"):
        LosslessWriter(tmp_path / "a.mp4", (16, 16), Fraction(24), sound)
    assert not list(tmp_path.iterdir())
