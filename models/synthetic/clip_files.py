"""Synthetic clips as files: one MP4 each, and one JSONL with what is true of them and what can be asked."""

import json
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from ..errors import InputError
from ..files import make_folder, write_text, writing
from ..progress import Progress, no_progress
from .ground_truth import truth_of
from .questions import write_caption, write_questions
from .rendering import render
from .scenes import SPLITS, Clip, sample_clip, split_of

INDEX = "clips.jsonl"


def sampled_frames(clip: Clip, fps: float | None) -> list[int]:
    """Numbers of ``fps`` frames a second, evenly from the first on; all for None or 0."""
    if not fps or fps >= clip.fps:
        return list(range(clip.frames))
    count = int((clip.frames - 1) * fps / clip.fps + 1e-9) + 1
    return [round(number * clip.fps / fps) for number in range(count)]


def seeds_of(split: str, first: int, count: int) -> range:
    """``count`` seeds of a split from its seed number ``first`` on; raises InputError where it has no such seeds."""
    if split not in SPLITS:
        raise InputError(f"the split is {split!r}; it must be one of {', '.join(SPLITS)}")
    start, stop = SPLITS[split]
    if first < 0 or count < 1 or start + first + count > stop:
        raise InputError(f"{split} has seeds from 0 to {stop - start - 1}; {count} from {first} on are not among them")
    return range(start + first, start + first + count)


def describe_clip(clip: Clip, frames: Sequence[int]) -> dict:
    """What ``frames`` show of a clip, its caption and its questions, as JSON values."""
    truth = truth_of(clip, frames)
    return {
        "seed": clip.seed,
        "split": split_of(clip.seed),
        "content": clip.content,
        "fps": clip.fps,
        "frames": clip.frames,
        "truth": truth.to_json(),
        "caption": write_caption(clip, truth),
        "questions": [question.to_json() for question in write_questions(clip, truth)],
    }


def write_clips(
    folder: str | os.PathLike,
    seeds: Sequence[int],
    size: tuple[int, int] = (128, 128),
    *,
    sample_fps: float | None = 4.0,
    progress: Progress = no_progress,
    **options,
) -> Path:
    """Render the clips of ``seeds`` into ``folder`` and return the path of their index.

    Each becomes ``SPLIT_NUMBER.mp4`` (H.264, crf 8, 4:4:4: near-lossless, so that colours and edges stay true). The
    index, one JSON object a line, is written last and whole: where it exists, so do all its clips. A clip that is there
    already is rendered again.

    Args:
        size: (H, W) in pixels, even.
        sample_fps: questions are limited to what so many frames a second show; None for all frames.
        progress: called with frames, of all clips.
        options: those of :func:`.scenes.sample_clip`; the aspect follows ``size``.
    """
    height, width = size
    if min(size) < 16 or height % 2 or width % 2:
        raise InputError(f"the size of synthetic clips is {width}x{height}; sides must be even and 16 at least")
    folder = Path(folder)
    make_folder(folder)
    aspect = (width / min(size), height / min(size))
    clips = [sample_clip(seed, aspect=aspect, **options) for seed in seeds]
    total, done = sum(clip.frames for clip in clips), 0
    rows = []
    for clip in clips:
        split = split_of(clip.seed)
        path = folder / f"{split}_{clip.seed - SPLITS[split][0]:06d}.mp4"
        write_clip(path, clip, size, lambda frame, _, done=done: progress(done + frame, total))
        done += clip.frames
        rows.append({"clip": path.name, **describe_clip(clip, sampled_frames(clip, sample_fps))})
    index = folder / INDEX
    write_text(index, "".join(json.dumps(row) + "\n" for row in rows))
    progress(total, total)
    return index


def write_clip(path: Path, clip: Clip, size: tuple[int, int], progress: Progress = no_progress) -> None:
    """Render one clip into an MP4 at ``path``, whole or not at all."""
    with writing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(clip.fps).limit_denominator(1000))
        stream.height, stream.width, stream.pix_fmt = *size, "yuv444p"
        stream.options = {"crf": "8", "preset": "veryfast", "threads": "1"}
        for number, rgb in enumerate(render(clip, size)):
            progress(number, clip.frames)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
