"""Speed of the renderer of synthetic clips on one core: frames a second at several sizes, and clips' texts a second.

    python tests/bench/synthetic.py

Every number is the better of two runs over the same clips, in processor time, so that other work on the machine weighs
little.
"""

import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.synthetic.clip_files import sampled_frames
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.questions import write_caption, write_questions
from codeclens.models.synthetic.rendering import ground_canvas, render
from codeclens.models.synthetic.scenes import CONTENTS, sample_clip
from support.machine import describe_machine


def frames_a_second(clips, side: int) -> float:
    """Rendered frames for each second of one core."""
    best = 0.0
    for _ in range(2):
        ground_canvas.cache_clear()
        began, frames = time.process_time(), 0
        for clip in clips:
            frames += sum(1 for _ in render(clip, (side, side)))
        best = max(best, frames / (time.process_time() - began))
    return best


def texts_a_second(clips) -> float:
    """Clips whose truth at 4 frames a second, caption and questions are written in a second of one core."""
    best = 0.0
    for _ in range(2):
        began = time.process_time()
        for clip in clips:
            truth = truth_of(clip, sampled_frames(clip, 4))
            write_caption(clip, truth)
            write_questions(clip, truth)
        best = max(best, len(clips) / (time.process_time() - began))
    return best


def main() -> None:
    print(describe_machine())
    print(f"{'content':<10}{'64':>8}{'128':>8}{'256':>8}   frames a second;  texts a second")
    for content in (*CONTENTS, None):
        clips = [sample_clip(seed, content) for seed in range(6)]
        speeds = "".join(f"{frames_a_second(clips, side):>8.0f}" for side in (64, 128, 256))
        print(f"{content or 'as drawn':<10}{speeds}{texts_a_second(clips):>20.0f}", flush=True)


if __name__ == "__main__":
    main()
