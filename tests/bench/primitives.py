"""Motion search over a folder of clips: how near to exhaustive search, how fast, how much memory, the same I frames?

    python tests/bench/primitives.py CLIPS [--pairs 4] [--radius 32] [--fps 2]

For each clip: the ratio of cost and of SAD to exhaustive search over ``--pairs`` frame pairs spread over the clip (0
for all of them; exhaustive search takes seconds a pair); whether the plan from the exhaustive costs has the same I
frames (only when all pairs were searched); milliseconds for a pair of 512 x 512 pixels, on the wall clock with all
threads and on the processors, each the least of several runs. Memory is the peak that a chunk of 32 frames adds.
"""

import argparse
import os
import platform
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.video.motion import PENALTY, search
from codeclens.models.video.planning import plan_from_costs
from support.block_search import exhaustive_frame

AREA = 512 * 512


def machine() -> str:
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as lines:
            names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    versions = f"Python {platform.python_version()}, numpy {np.__version__}"
    return f"{name}, {os.cpu_count()} cores{load}, {platform.system()}, {versions}"


def timed(rgb: np.ndarray, radius: int, runs: int = 5) -> tuple[float, float]:
    """Least wall-clock and processor milliseconds for a frame pair of 512 x 512."""
    walls, processors = [], []
    for _ in range(runs):
        wall, processor = time.perf_counter(), time.process_time()
        search(rgb, radius)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    pairs = (len(rgb) - 1) * rgb.shape[1] * rgb.shape[2] / AREA
    return 1e3 * min(walls) / pairs, 1e3 * min(processors) / pairs


def peak_memory(rgb: np.ndarray, radius: int) -> float:
    """MiB that a chunk of 32 frames takes beside the frames themselves."""
    chunk = rgb[np.arange(32) % len(rgb)]
    tracemalloc.start()
    search(chunk, radius)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def agreement(found: np.ndarray, best: np.ndarray, size: tuple[int, int]) -> tuple[int, int]:
    """I frames that both costs give, and that either gives, over thresholds of 2 to 40 grey levels and 'auto'."""
    both = either = 0
    for gamma in ("auto", *(levels * size[0] * size[1] * 3 for levels in (2, 3, 5, 8, 12, 20, 30, 40))):
        one, other = (set(plan_from_costs(costs, gamma=gamma, size=size).i_frames) for costs in (found, best))
        both, either = both + len(one & other), either + len(one | other)
    return both, either


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--radius", type=int, default=32)
    parser.add_argument("--fps", type=float, default=2.0)
    options = parser.parse_args()
    print(machine())
    print(f"radius {options.radius}, penalty {PENALTY:g}, {options.fps:g} frames a second, area near 512 x 512")
    print(f"{'clip':34}{'size':>9}{'pairs':>6}{'cost':>8}{'SAD':>8}{'wall ms':>9}{'cpu ms':>8}{'MiB':>6}  I frames")
    total = np.zeros(2)
    both = either = 0
    for path in sorted(path for path in options.clips.iterdir() if path.suffix not in (".json", ".md", "")):
        try:
            source = VideoSource.open(path)
            rgb = source.read(FrameSampling.by_fps(options.fps), fit_size(source.info.width, source.info.height)).rgb
        except InputError as error:
            print(f"{path.name:34}{error}")
            continue
        if len(rgb) < 2:
            print(f"{path.name:34}one frame only")
            continue
        size = rgb.shape[1:3]
        _, cost, sad = search(rgb, options.radius)
        last = len(rgb) - 1
        pairs = 1 + np.unique(np.linspace(0, last - 1, min(last, options.pairs or last)).astype(int))
        best = [exhaustive_frame(rgb[t], rgb[t - 1], options.radius) for t in pairs]
        best_cost, best_sad = (np.array([field.sum() for field in fields]) for fields in zip(*best, strict=True))
        found_cost, found_sad = (field[pairs].sum(axis=(1, 2), dtype=np.float64) for field in (cost, sad))
        total += found_cost.sum(), best_cost.sum()
        wall, processor = timed(rgb[:9], options.radius)
        same = ""
        if len(pairs) == last:
            here = agreement(np.append(0, found_cost), np.append(0, best_cost), size)
            both, either = both + here[0], either + here[1]
            same = f"{here[0]} of {here[1]}"
        print(
            f"{path.name:34}{size[1]:>5}x{size[0]}{len(pairs):>6}{found_cost.sum() / best_cost.sum():8.4f}"
            f"{found_sad.sum() / best_sad.sum():8.4f}{wall:9.1f}{processor:8.1f}"
            f"{peak_memory(rgb, options.radius):6.0f}  {same}",
            flush=True,
        )
    print(f"all clips: cost {total[0] / total[1]:.4f} of exhaustive")
    if either:
        print(f"I frames that agree, over nine thresholds: {both} of {either} ({100 * both / either:.1f} %)")


if __name__ == "__main__":
    main()
