"""Clips split into files of one shot each: every frame once, in order, at its time, with its sound."""

import shutil
from fractions import Fraction

import av
import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.dataset import splitting
from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.journal import NAME
from codeclens.models.dataset.splitting import split_folder
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from scipy import ndimage

FPS, LENGTHS = 12, (10, 14, 9)
COLOURS = ((200, 60, 60), (60, 180, 90), (70, 80, 210))


def shot_frames(number):
    """uint8 [T, 64, 96, 3]: a texture of one colour that drifts."""
    noise = ndimage.gaussian_filter(np.random.default_rng(number).normal(size=(64, 96)), 3, mode="wrap")
    texture = noise / noise.std() * 25
    pictures = [np.add.outer(np.roll(texture, t, 1), COLOURS[number]) for t in range(LENGTHS[number])]
    return np.stack(pictures).clip(0, 255).astype(np.uint8)


def write(path, frames, sound=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width, stream.pix_fmt, stream.options = 64, 96, "yuv420p", {"crf": "6"}
        track = container.add_stream("aac", rate=48000, layout="mono") if sound else None
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
        if track is not None:
            # Silence, but for a tone in the second shot.
            times = np.arange(round(len(frames) / FPS * 48000)) / 48000
            inside = (times >= LENGTHS[0] / FPS) & (times < (LENGTHS[0] + LENGTHS[1]) / FPS)
            samples = (np.sin(2 * np.pi * 440 * times) * inside * 0.5).astype(np.float32)[None]
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(track.encode(frame))
            container.mux(track.encode(None))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips") / "clips"
    write(folder / "film.mp4", np.concatenate([shot_frames(n) for n in range(3)]), sound=True)
    write(folder / "3_sub" / "one shot.mp4", shot_frames(1))
    (folder / "bad.mp4").write_bytes(b"no video")
    return folder


def loudness(path):
    with av.open(str(path)) as container:
        parts = [frame.to_ndarray() for frame in container.decode(audio=0)]
    return float(np.sqrt(np.mean(np.square(np.concatenate(parts, axis=1)))))


def test_each_shot_is_a_file_with_its_frames_times_and_sound(clips, tmp_path):
    out = tmp_path / "shots"
    ((name, sentence),) = split_folder(find_items(clips), out)
    assert name == "bad.mp4" and "bad.mp4" in sentence
    films = sorted(path.name for path in out.glob("film-*.mp4"))
    assert films == ["film-001.mp4", "film-002.mp4", "film-003.mp4"]
    whole = VideoSource.open(clips / "film.mp4").read(FrameSampling.all())
    first = 0
    for number, film in enumerate(films):
        part = VideoSource.open(out / film).read(FrameSampling.all())
        inside = slice(first, first + LENGTHS[number])
        assert part.rgb.shape == whole.rgb[inside].shape
        assert np.abs(part.rgb.astype(int) - whole.rgb[inside]).mean() < 3
        assert part.pts == pytest.approx(whole.pts[inside] - whole.pts[first], abs=1e-4)
        first += LENGTHS[number]
    assert loudness(out / films[1]) > 0.2 > 0.05 > max(loudness(out / films[0]), loudness(out / films[2]))
    assert (out / "3_sub" / "one shot.mp4").read_bytes() == (clips / "3_sub" / "one shot.mp4").read_bytes()


def test_a_second_call_does_nothing_and_a_lost_file_is_written_again(clips, tmp_path, monkeypatch):
    out, written = tmp_path / "shots", []
    split_folder(find_items(clips), out)
    real = splitting.write_shot
    monkeypatch.setattr(splitting, "write_shot", lambda *a: written.append(a[-1].name) or real(*a))
    split_folder(find_items(clips), out)
    assert not written
    (out / "film-002.mp4").unlink()
    split_folder(find_items(clips), out)
    assert "film-002.mp4" in written and (out / "film-002.mp4").is_file()


def test_killed_between_two_shots_it_knows_its_own_files(clips, tmp_path, monkeypatch):
    out, real = tmp_path / "shots", splitting.write_shot

    def dying(source, path, shot, target):
        if target.name == "film-002.mp4":
            raise KeyboardInterrupt
        real(source, path, shot, target)

    monkeypatch.setattr(splitting, "write_shot", dying)
    with pytest.raises(KeyboardInterrupt):
        split_folder(find_items(clips), out)
    monkeypatch.setattr(splitting, "write_shot", real)
    assert [name for name, _ in split_folder(find_items(clips), out)] == ["bad.mp4"]
    assert len(list(out.glob("film-*.mp4"))) == 3


def test_files_of_others_are_left_alone(clips, tmp_path):
    out = tmp_path / "shots"
    out.mkdir()
    (out / "film-002.mp4").write_bytes(b"mine")
    failed = dict(split_folder(find_items(clips), out))
    assert "was written by somebody else" in failed["film.mp4"]
    assert (out / "film-002.mp4").read_bytes() == b"mine" and not (out / "film-001.mp4").exists()


def test_the_command_splits_and_works_on_the_shots(clips, tmp_path, capsys):
    folder, out = tmp_path / "clips", tmp_path / "shots"
    shutil.copytree(clips, folder)
    assert main(["measure", str(folder), "--split", str(out), "--json", str(tmp_path / "m.json")]) == 0
    captured = capsys.readouterr().err
    assert "bad.mp4" in captured and "4 done" in captured
    assert (out / NAME).is_file() and not (folder / NAME).exists()
    assert main(["measure", str(folder), "--split", str(folder / "in"), "--dry-run"]) == 0
    assert not (folder / "in").exists()
    assert main(["measure", str(folder), "--split", str(folder / "in")]) == 2
    assert "lies in the folder of the clips" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(clips, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made a folder"):
        split_folder(find_items(clips), tmp_path / "file" / "shots")
