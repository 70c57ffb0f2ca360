"""What the planner's constants rest on, measured over a folder of real clips.

    python tests/bench/planner.py CLIPS [--fps 2] [--seconds 30] [--write]

For each clip: blocks on the edge of the window of +-32 pixels, the difference that the best match leaves at +-32, at
the widest window and at the one that follows (grey levels per colour sample), processor milliseconds a pair of 512 x
512, and what a predicted frame costs by the encoder's own vectors against the search. Then the gammas: the one at which
the median GOP of all clips together has 8 P frames, by the search and by the encoder's vectors, and how far it moves
when one clip is left out. ``POOLED_LEVELS`` and ``BITSTREAM_RATIO`` of ``models/video/planning.py`` are its last lines.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.errors import InputError
from codeclens.models.source.reading import Frames, FrameSampling, VideoSource, fit_size, join_frames
from codeclens.models.source.sampled import SampledVideo
from codeclens.models.video.bitstream import bitstream_primitives, check_codec
from codeclens.models.video.extraction import CHUNK
from codeclens.models.video.motion import on_edge, search, search_widening, widest_radius
from codeclens.models.video.planning import TARGET, auto_gamma
from support.machine import describe_machine

AREA = 512 * 512
UNIT = (16, 16)
"""A size to which costs are brought, so that a gamma holds for clips of all sizes."""
RESULTS = Path(__file__).parent / "results" / "planner.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=30.0, help="of each clip, from its beginning")
    parser.add_argument("--write", action="store_true", help="replace the committed results")
    options = parser.parse_args()
    lines = list(report(options))
    if options.write:
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def report(options):
    """The lines, each printed as it is known."""

    def line(text: str) -> str:
        print(text, flush=True)
        return text

    yield line(describe_machine())
    yield line(f"{options.fps:g} frames a second, the first {options.seconds:g} s, area near 512 x 512")
    yield line(
        f"{'clip':34}{'samples':>8}{'edge %':>8}{'+-32':>7}{'widest':>8}{'follows':>8}{'ms 32':>7}{'widest':>7}"
        f"{'follows':>8}{'bitstream':>10}"
    )
    searched, coded, ratios = {}, {}, []
    for path in sorted(path for path in options.clips.iterdir() if path.suffix not in (".json", ".md", "")):
        try:
            frames, source = sampled(path, options)
        except InputError as error:
            yield line(f"{path.name:34}{str(error)[:80]}")
            continue
        if len(frames) < 3:
            continue
        size = frames.rgb.shape[1:3]
        windows = [timed(search, frames.rgb, 32), timed(search, frames.rgb, widest_radius(size))]
        windows.append(timed(search_widening, frames.rgb))
        levels = [level(found[2][1:]) for found, _ in windows]
        searched[path.name] = costs_of(windows[2][0][1])
        try:
            check_codec(source)
            coded[path.name] = costs_of(bitstream_primitives(source, frames).cost)
            ratios.append(float(np.median(coded[path.name][1:]) / np.median(searched[path.name][1:])))
        except InputError:
            pass
        ratio = f"{ratios[-1]:>10.2f}" if path.name in coded else f"{'-':>10}"
        edge = 100 * on_edge(windows[0][0][0][1:], 32).mean()
        yield line(
            f"{path.name:34}{len(frames):>8}{edge:>8.1f}{levels[0]:>7.2f}{levels[1]:>8.2f}{levels[2]:>8.2f}"
            + f"{windows[0][1]:>7.1f}{windows[1][1]:>7.1f}{windows[2][1]:>8.1f}{ratio}"
        )
    for name, costs in (("search", searched), ("bitstream", coded)):
        yield line(pooled(name, costs))
    yield line(f"BITSTREAM_RATIO {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} clips)")


def sampled(path: Path, options) -> tuple[Frames, VideoSource]:
    source = VideoSource.open(path)
    size = fit_size(source.info.width, source.info.height, AREA)
    frames = join_frames(SampledVideo(source, FrameSampling.by_fps(options.fps), size).frames(CHUNK))
    keep = frames.pts - frames.pts[0] < options.seconds
    return Frames(frames.rgb[keep], frames.pts[keep], frames.index[keep]), source


def timed(find, rgb: np.ndarray, *window) -> tuple[tuple, float]:
    """What a search finds, and its processor milliseconds for a pair of 512 x 512."""
    began = time.process_time()
    found = find(rgb, *window)
    spent = time.process_time() - began
    return found, 1e3 * spent / ((len(rgb) - 1) * rgb.shape[1] * rgb.shape[2] / AREA)


def level(blocks: np.ndarray) -> float:
    """Grey levels per colour sample of sums over blocks."""
    return float(blocks.mean() / (UNIT[0] * UNIT[1] * 3))


def costs_of(blocks: np.ndarray) -> np.ndarray:
    """float64 [T]: cost of each frame as one of ``UNIT`` pixels."""
    return blocks.reshape(len(blocks), -1).mean(1, dtype=np.float64)


def pooled(name: str, costs: dict[str, np.ndarray]) -> str:
    samples = UNIT[0] * UNIT[1] * 3
    gamma = auto_gamma(list(costs.values()), UNIT) / samples
    others = [auto_gamma([c for own, c in costs.items() if own != left], UNIT) / samples for left in costs]
    frames = sum(map(len, costs.values()))
    spread = f"{min(others):.1f} to {max(others):.1f} with one clip left out"
    return f"POOLED_LEVELS {name} {gamma:.1f} ({spread}; {len(costs)} clips, {frames} frames, {TARGET} P frames)"


if __name__ == "__main__":
    main()
