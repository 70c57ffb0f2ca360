"""Opus sound against a sine of known phase: what comes back, when it starts, and what cannot be written."""

import io

import av
import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source.sound import RATE, encode_sound, read_sound, sound_of

SECONDS = 2
TONES = np.stack([np.sin(2 * np.pi * tone * np.arange(SECONDS * RATE) / RATE) for tone in (440, 660)], 1)
TONES = (0.5 * TONES).astype(np.float32)


def parts(samples: np.ndarray, size: int = 10_000):
    return (samples[at : at + size] for at in range(0, len(samples), size))


def wav(samples: np.ndarray, delay: float = 0.0) -> bytes:
    """16-bit PCM in Matroska, whose track may begin late."""
    packed = io.BytesIO()
    with av.open(packed, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE, layout="stereo")
        values = (samples * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(values, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = RATE, round(delay * RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return packed.getvalue()


def test_opus_keeps_the_sound_at_its_rate():
    sizes = []
    for kilobits in (16, 64):
        sound = encode_sound(parts(TONES), kilobits)
        sizes.append(8 * len(sound) / 1000 / SECONDS)
        found = np.concatenate(list(read_sound(sound)))
        assert found.shape == TONES.shape
    middle = slice(RATE // 4, -RATE // 4)
    assert np.corrcoef(found[middle, 0], TONES[middle, 0])[0, 1] > 0.98
    assert sizes[0] < 24 and sizes[0] < sizes[1] < 90
    assert encode_sound(iter(()), 16) == b""
    assert encode_sound(parts(TONES), 64) == sound


def test_mono_stays_mono_and_other_rates_are_resampled():
    slow = TONES[::3, :1].T
    samples = np.concatenate(list(sound_of(slow, RATE // 3)))
    assert samples.shape[1] == 1 and abs(len(samples) - len(TONES)) < 100
    middle = slice(RATE // 4, -RATE // 4)
    assert np.corrcoef(samples[: len(TONES)][middle, 0], TONES[: len(samples)][middle, 0])[0, 1] > 0.999
    assert next(read_sound(encode_sound(iter([samples]), 24))).shape[1] == 1


@pytest.mark.parametrize(
    ("start", "duration", "delay"), [(0, 0, 0), (0.5, 0.25, 0), (0, 1, 0.3), (0.2, 0.5, 0.3), (0, 0.2, 0.3), (1, 0, 0)]
)
def test_a_window_of_a_track_that_may_begin_late(start, duration, delay):
    whole = np.concatenate([np.zeros((round(delay * RATE), 2), np.float32), TONES])
    end = round((start + duration) * RATE) if duration else len(whole)
    expected = whole[round(start * RATE) : end]
    found = np.concatenate(list(read_sound(wav(TONES, delay), start, duration)))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3


def test_a_file_without_sound_has_none(tmp_path):
    with av.open(str(tmp_path / "silent.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode())
    assert list(read_sound(tmp_path / "silent.mkv")) == []


def test_without_opus_it_is_said(monkeypatch):
    monkeypatch.setattr("av.codecs_available", set())
    with pytest.raises(InputError, match="cannot write Opus"):
        encode_sound(parts(TONES), 24)
