"""A folder of clips split into shots: one file for each shot in another folder, which trainers then read."""

import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import InputError
from ..files import make_folder, writing
from ..progress import Progress, no_progress
from ..source.reading import FrameSampling, VideoSource
from ..source.sound import RATE, read_sound
from ..video.cuts import find_cuts
from ..video.shots import Shot, shots
from .items import Item
from .journal import NAME, Journal, content_hash, fingerprint, open_journal

SHORTEST = 0.5
"""Seconds that a shot lasts at least; a shorter one stays with its neighbour."""

QUALITY = {"crf": "12", "preset": "medium"}
"""x264's: no difference is seen at this rate."""

TICK = Fraction(1, 90_000)
"""Of the times of frames, in seconds."""

SETTINGS = {"kind": "split", "shortest": SHORTEST, "quality": QUALITY}


def split_folder(items: Sequence[Item], out: Path, progress: Progress = no_progress) -> list[tuple[str, str]]:
    """Write each shot of ``items`` as 'NAME-001.mp4' and so on below ``out``; what has one shot is copied as it is.

    Subfolders stay. Files that an earlier call wrote are not written again, unless their clip has changed.

    Returns (name, sentence) of each clip that could not be split.

    Raises InputError where ``out`` cannot be made, or its journal is in use or cannot be read.
    """
    make_folder(out)
    settings, failed = fingerprint(SETTINGS), []
    with open_journal(out / NAME) as journal:
        for number, item in enumerate(items):
            progress(number, len(items))
            try:
                _split(item, out, journal, settings)
            except InputError as error:
                failed.append((item.name, str(error)))
    progress(len(items), len(items))
    return failed


def _split(item: Item, out: Path, journal: Journal, settings: str) -> None:
    content = content_hash(item.path)
    known = journal.done(content, settings, item.name)
    if known and all((out / name).is_file() for name in known["result"]["files"]):
        return
    source = VideoSource.open(item.path) if item.kind == "video" else None
    found = shots(source, find_cuts(source), SHORTEST) if source else []
    suffix = item.path.suffix if len(found) < 2 else ".mp4"
    stem = item.name[: len(item.name) - len(item.path.suffix)]
    names = [item.name] if len(found) < 2 else [f"{stem}-{n:03}{suffix}" for n in range(1, len(found) + 1)]
    ours = {name for row in journal.rows for name in row.get("files", ())}
    for name in names:
        if (out / name).exists() and name not in ours:
            raise InputError(f"{out / name} was written by somebody else; give another folder for the shots")
    # Announced as an error that names the files: where this process dies, the next one knows that they are its own.
    row = {"name": item.name, "hash": content, "settings": settings}
    journal.append(row | {"error": f"{item.name} was being split", "files": names})
    make_folder((out / item.name).parent)
    for name, shot in zip(names, found if len(found) > 1 else [None], strict=True):
        if shot is None:
            copy(item.path, out / name)
        else:
            write_shot(source, item.path, shot, out / name)
    journal.append(row | {"kind": "split", "result": {"files": names}})


def copy(path: Path, target: Path) -> None:
    """Copy a file, whole or not at all."""
    with writing(target) as partial:
        shutil.copyfile(path, partial)


def write_shot(source: VideoSource, path: Path, shot: Shot, target: Path) -> None:
    """Write the frames of a shot and its sound as an MP4, whole or not at all.

    H.264 with 4:2:0 colour; frames keep their times, counted from the shot's first. Sides are cut to even numbers.
    """
    height, width = source.info.height // 2 * 2, source.info.width // 2 * 2
    part = VideoSource(source.reader, shot.start, shot.end - shot.start)
    with writing(target) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(source.info.fps).limit_denominator(1001))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.options, stream.codec_context.time_base = QUALITY, TICK
        stream.thread_count = 1
        sound = _sound(path, shot)
        track = container.add_stream("aac", rate=RATE, layout="stereo") if len(sound) else None
        for chunk in part.frames(FrameSampling.all()):
            for rgb, pts in zip(chunk.rgb, chunk.pts, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
                frame.pts, frame.time_base = round((pts - shot.start) / TICK), TICK
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if track is not None:
            frame = av.AudioFrame.from_ndarray(sound.reshape(1, -1), format="flt", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux(track.encode(frame))
            container.mux(track.encode(None))


def _sound(path: Path, shot: Shot) -> np.ndarray:
    """float32 [samples, 2] of the shot, empty for a clip without sound."""
    try:
        parts = list(read_sound(os.fspath(path), shot.start, shot.end - shot.start))
    except (av.error.FFmpegError, ValueError):
        return np.zeros((0, 2), np.float32)
    sound = np.concatenate(parts) if parts else np.zeros((0, 2), np.float32)
    return np.ascontiguousarray(np.repeat(sound, 2, axis=1) if sound.shape[1] == 1 else sound)
