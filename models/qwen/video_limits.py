"""How many frames of a video the makers' processor reads, and how large.

Source: ``Qwen3VLVideoProcessor`` of Hugging Face's transformers 5.24, which both families use, and the configuration
files of the published chat models.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..source.sampling import CELL
from .vocabulary_files import read_json

MOST = 1 << 40
"""No limit is as large."""


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """What one video may cost; by default as in the published chat models, which GGUF files do not store.

    Attributes:
        least_pixels, most_pixels: of all frames of a video together.
        most_frames: longer videos are thinned evenly.
        frame_tokens: tokens of a single frame at most; 0 for no limit beside ``most_pixels``.
    """

    least_pixels: int = 4096
    most_pixels: int = 25_165_824
    most_frames: int = 768
    frame_tokens: int = 0

    def size(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """(H, W), multiples of 32, at which a video of so many frames of ``height`` x ``width`` pixels is shown."""
        frames, most = max(2, frames), self.most_pixels
        if self.frame_tokens:
            frame = min(self.frame_tokens * CELL**2, most // frames)
            most = max(frame, int(self.least_pixels * 1.05)) * frames
        rows, columns = round(height / CELL), round(width / CELL)
        area = round(frames / 2) * 2 * rows * columns * CELL**2
        if area > most:
            scale = math.sqrt(frames * height * width / most) * CELL
            rows, columns = max(1, math.floor(height / scale)), max(1, math.floor(width / scale))
        elif area < self.least_pixels:
            scale = math.sqrt(self.least_pixels / (frames * height * width)) / CELL
            rows, columns = math.ceil(height * scale), math.ceil(width * scale)
        return rows * CELL, columns * CELL


def read_video_limits(folder: Path) -> VideoLimits:
    """The limits that a Hugging Face ``folder`` states, the defaults for what it does not state.

    As in transformers, the first of ``processor_config.json``'s part for videos, ``video_preprocessor_config.json``
    and ``preprocessor_config.json`` counts. Raises InputError for a limit that is no number of pixels or frames.
    """
    path = folder / "processor_config.json"
    stated = read_json(path).get("video_processor")
    for name in ("video_preprocessor_config.json", "preprocessor_config.json"):
        if not stated:
            path = folder / name
            stated = read_json(path)
    usual, size = VideoLimits(), stated.get("size")
    size = size if isinstance(size, dict) else {}
    found = {
        "size.shortest_edge": size.get("shortest_edge", usual.least_pixels),
        "size.longest_edge": size.get("longest_edge", usual.most_pixels),
        "max_frames": stated.get("max_frames", usual.most_frames),
    }
    if stated.get("cap_pixels_per_frame"):
        found["max_video_tokens"] = stated.get("max_video_tokens", 768)
    for key, value in found.items():
        if type(value) is not int or not 1 <= value < MOST:
            raise InputError(f"{path} has {key} = {str(value)[:40]}; a whole number above 0 is needed")
    limits = VideoLimits(*found.values())
    if limits.least_pixels > limits.most_pixels:
        raise InputError(
            f"{path} limits a video to {limits.least_pixels} pixels at least and {limits.most_pixels} at most; the "
            "first must not be above the second"
        )
    return limits
