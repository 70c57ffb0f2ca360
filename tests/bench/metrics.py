"""Which metric answers to which fault: rendered clips with and without one fault, all faults by all metrics.

Prints, for each metric, its mean on clean clips and how much each fault changes it, in the metric's own unit; a star
marks the fault that changes it most.

    python tests/bench/metrics.py [--clips 8] [--size 128]
"""

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.source.reading import VideoSource
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import FAULTS, SPLITS, sample_clip
from codeclens.models.video.measurement import measure
from codeclens.models.video.metrics import METRICS
from support.machine import describe_machine


def values_of(clip, size):
    frames = np.stack(list(render(clip, (size, size))))
    measured = measure(VideoSource.from_images(frames, clip.fps))
    return [measured.clip[metric.name] for metric in METRICS]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    print(describe_machine())
    start = SPLITS["test"][0] + 500_000
    clean, moved = [], {fault: [] for fault in FAULTS}
    for number in range(arguments.clips):
        for fault in FAULTS:
            clip = sample_clip(start + number, "fault", fault=fault, seconds=3, fps=12)
            before = values_of(dataclasses.replace(clip, faults=()), arguments.size)
            moved[fault].append(np.array(values_of(clip, arguments.size)) - before)
            clean.append(before)
    print(f"{arguments.clips} clips of each fault, {arguments.size}x{arguments.size}, 3 s at 12 fps")
    print(f"{'metric':<24}{'clean':>9}  " + "".join(f"{fault:>11}" for fault in FAULTS))
    means = {fault: np.nanmean(rows, axis=0) for fault, rows in moved.items()}
    for at, metric in enumerate(METRICS):
        shifts = [means[fault][at] for fault in FAULTS]
        most = int(np.argmax(np.abs(shifts))) if np.any(shifts) else -1
        cells = [f"{shift:+10.3g}{'*' if number == most else ' '}" for number, shift in enumerate(shifts)]
        print(f"{metric.words:<24}{np.nanmean(clean, axis=0)[at]:9.3g}  " + "".join(cells))


if __name__ == "__main__":
    main()
