"""Clips to train a code on: any video files, or rendered ones with questions."""

import json
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...source.reading import FrameSampling, VideoSource, fit_size
from ...synthetic.ground_truth import truth_of
from ...synthetic.questions import write_caption, write_questions
from ...synthetic.rendering import render_frame
from ...synthetic.scenes import SPLITS, sample_clip

DESCRIBE = ("Describe the video.", "What happens in the video?", "What moves, and where?")
"""What is asked of a clip that comes without questions."""

TRIES = 50


@dataclass(frozen=True, slots=True)
class Sample:
    """A stretch of a clip.

    Attributes:
        rgb: uint8 [T, H, W, 3], sides multiples of 32.
        pts: float64 [T] seconds.
        questions: (question, answer); the answer is None where the model itself is to give it.
    """

    rgb: np.ndarray
    pts: np.ndarray
    questions: tuple[tuple[str, str | None], ...]


class VideoClips:
    """Stretches of video files.

    Args:
        paths: the files; one that cannot be read is left out, with a sentence in ``warnings``.
        fps: frames sampled a second.
        side: pictures have about ``side`` x ``side`` pixels, in the video's shape.
        questions: (question, answer) pairs by the file's name; files without any are asked ``DESCRIBE``.
    """

    def __init__(self, paths: Sequence[Path], fps: float, side: int, questions: dict | None = None):
        if not paths:
            raise InputError("0 clips are given; give a folder with video files")
        self.paths, self.fps, self.side, self.questions = list(paths), fps, side, questions or {}
        self.warnings: list[str] = []

    def draw(self, draw: random.Random, count: int) -> Sample:
        """A stretch of at most ``count`` frames, two at least, from anywhere in a clip.

        One with questions of its own begins at its first frame, as its answers may speak of all of it.
        """
        for _ in range(TRIES):
            path = draw.choice(self.paths)
            asked = self.questions.get(path.name)
            try:
                source = VideoSource.open(path)
                length = float(np.ptp(source.timeline().pts))
                latest = 0.0 if asked else max(0.0, length - (count - 1) / self.fps)
                start = draw.uniform(0.0, latest)
                source = VideoSource.open(path, start=start, duration=count / self.fps)
                size = fit_size(source.info.width, source.info.height, self.side**2)
                chunks = list(source.frames(FrameSampling.by_fps(self.fps), size))
            except InputError as error:
                self.warnings.append(str(error))
                self.paths.remove(path)
                if not self.paths:
                    break
                continue
            rgb, pts = (np.concatenate([getattr(chunk, name) for chunk in chunks])[:count] for name in ("rgb", "pts"))
            if len(rgb) > 1:
                return Sample(rgb, pts, tuple(asked or [(draw.choice(DESCRIBE), None)]))
        raise InputError(
            f"{self.warnings[-1] if self.warnings else 'the clips have one frame each'}; give longer clips"
        )


class RenderedClips:
    """Clips of moving figures, rendered as they are drawn, with questions whose answers are known."""

    def __init__(self, fps: float, side: int, split: str = "train"):
        self.fps, self.side, self.split = fps, side, split
        self.warnings: list[str] = []

    def draw(self, draw: random.Random, count: int) -> Sample:
        """A clip of ``count`` frames or fewer, a third of them at least: clips to be read have many lengths."""
        first, last = SPLITS[self.split]
        count = draw.randint(max(2, count // 3), count)
        clip = sample_clip(
            draw.randrange(first, min(last, first + (1 << 31))), seconds=count / self.fps, fps=self.fps, aspect=(1, 1)
        )
        frames = list(range(min(count, clip.frames)))
        rgb = np.stack([render_frame(clip, (self.side, self.side), frame) for frame in frames])
        truth = truth_of(clip, frames)
        pairs = [(one.question, one.answer) for one in write_questions(clip, truth, draw.randrange(1 << 30))]
        pairs.append((DESCRIBE[0], write_caption(clip, truth)))
        draw.shuffle(pairs)
        return Sample(rgb, np.array(frames) / clip.fps, tuple(pairs))


def read_pairs(path: str | os.PathLike) -> dict[str, list[tuple[str, str]]]:
    """(question, answer) pairs by the name of their clip, from a JSONL file.

    A line has "clip" and either "question" and "answer" or "questions", a list of such objects, as ``codeclens synth``
    and ``codeclens evaluate`` have them. Raises InputError naming the line.
    """
    path, found = Path(path), {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            pairs = [(str(one["question"]), str(one["answer"])) for one in row.get("questions", [row])]
            found.setdefault(Path(row["clip"]).name, []).extend(pairs)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            wanted = 'an object with "clip", "question" and "answer" is needed'
            raise InputError(f"{path}, line {number}: {wanted} ({type(error).__name__}: {str(error)[:120]})") from None
    if not found:
        raise InputError(f"{path} holds no question; give one object a line")
    return found
