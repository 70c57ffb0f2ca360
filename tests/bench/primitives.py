"""Motion search over a folder of clips: is it exact, how fast, on each instruction set that this processor runs?

    python tests/bench/primitives.py CLIPS [--pairs 1] [--radius 32 64] [--fps 2]

For each clip and window: blocks whose cost differs from a plain exhaustive search over ``--pairs`` frame pairs in the
middle of the clip (0 for none; it takes seconds a pair), and processor milliseconds for a pair of 512 x 512 pixels, the
least of three runs in turns of the instruction sets. Over real clips it gives the milliseconds of
"Motion search" in web/docs/details.md.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.kernels import native
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.video.motion import PENALTY, search
from support.block_search import exhaustive_frame
from support.machine import describe_machine
from support.native import instruction_sets, on_processor

AREA = 512 * 512


def milliseconds(rgb: np.ndarray, radius: int, processor: native.Processor) -> float:
    """Processor time of one search, for a pair of 512 x 512."""
    with on_processor(processor):
        began = time.process_time()
        search(rgb, radius)
        spent = time.process_time() - began
    return 1e3 * spent / ((len(rgb) - 1) * rgb.shape[1] * rgb.shape[2] / AREA)


def wrong_blocks(rgb: np.ndarray, radius: int, pairs: int) -> int:
    """Blocks of the first ``pairs`` pairs whose cost is not that of the best of all displacements."""
    cost = search(rgb, radius)[1]
    wanted = [exhaustive_frame(rgb[t], rgb[t - 1], radius)[0] for t in range(1, min(pairs, len(rgb) - 1) + 1)]
    return sum(int((cost[t] != best).sum()) for t, best in enumerate(wanted, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--radius", type=int, nargs="+", default=[32, 64])
    parser.add_argument("--fps", type=float, default=2.0)
    options = parser.parse_args()
    processors = {name: native.Processor(name) for name in instruction_sets()}
    print(describe_machine())
    print(f"penalty {PENALTY:g}, {options.fps:g} frames a second, area near 512 x 512; processor ms a pair")
    print(f"{'clip':34}{'size':>9}{'radius':>8}" + "".join(f"{name:>11}" for name in processors) + f"{'wrong':>7}")
    every: dict[tuple, list[float]] = {}
    for path in sorted(path for path in options.clips.iterdir() if path.suffix not in (".json", ".md", "")):
        try:
            source = VideoSource.open(path)
            size = fit_size(source.info.width, source.info.height)
            rgb = source.read(FrameSampling.by_fps(options.fps), size).rgb
        except InputError as error:
            print(f"{path.name:34}{error}")
            continue
        if len(rgb) < 2:
            print(f"{path.name:34}one frame only")
            continue
        middle = max(0, len(rgb) // 2 - 3)
        rgb = rgb[middle : middle + 6]
        for radius in options.radius:
            rounds = [[milliseconds(rgb, radius, each) for each in processors.values()] for _ in range(3)]
            least = np.min(rounds, axis=0)
            for name, value in zip(processors, least, strict=True):
                every.setdefault((radius, name), []).append(value)
            wrong = wrong_blocks(rgb, radius, options.pairs) if options.pairs else "-"
            times = "".join(f"{value:11.1f}" for value in least)
            print(f"{path.name:34}{size[1]:>5}x{size[0]}{radius:>8}{times}{wrong:>7}", flush=True)
    for (radius, name), values in every.items():
        print(f"mean at radius {radius}, {name}: {np.mean(values):.1f} ms")


if __name__ == "__main__":
    main()
