"""How fast clips are read and cut, how much memory that takes, and what sampling saves.

    python tests/bench/reading.py CLIP... [--minutes 10 30]

Without clips it makes a 1080p one. Memory (Linux) is the growth of the peak resident size of a fresh process that
reads the made clip, repeated to each of the given lengths, at two frames a second and 512 x 512 pixels of area: once
decoding alone (decode), once with the motion that a plan is made from (plan), in turns. The last line of a length is
plan over decode: elapsed time, and time of all processors. Where one processor serves both (``taskset -c 0``), the
first follows the second; where two do, the search of the last frames runs beside the decoding of the next.

The stages are milliseconds of processor for each sampled frame, as a plan at two frames a second needs them; the
residual is not among them, a plan takes none.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.errors import InputError
from codeclens.models.source.colour import to_rgb
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.video.bitstream import bitstream_primitives
from codeclens.models.video.clearness import small_pictures
from codeclens.models.video.cuts import find_cuts
from codeclens.models.video.motion import residual, search
from support.clips import encode, repeat, scene
from support.machine import describe_machine

MEASURE = """
import os, sys, time
from pathlib import Path
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.source.sampled import SampledVideo
from codeclens.models.video.extraction import extract

def peak():
    # Not ru_maxrss: a child process begins with its parent's.
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

def spent():
    return time.perf_counter(), sum(os.times()[:2])

source = VideoSource.open(sys.argv[1])
size = fit_size(source.info.width, source.info.height)
before, begin = peak(), spent()
if sys.argv[2] == "decode":
    count = sum(len(part) for part in source.frames(FrameSampling.by_fps(2), size))
else:
    count = len(extract(SampledVideo(source, FrameSampling.by_fps(2), size)))
print(count, (peak() - before) // 1024, *(end - start for start, end in zip(begin, spent())))
"""


def made_clip() -> bytes:
    """Four seconds of 1080p, 25 frames a second: a camera that moves over a scene."""
    wide = scene(1160, 2020, seed=1)
    rgb = (wide[i // 4 : i // 4 + 1080, i // 3 : i // 3 + 1920] for i in range(100))
    return encode(np.stack(list(rgb)), options={"preset": "veryfast"})


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def bench(path: Path):
    source = VideoSource.open(path)
    size = fit_size(source.info.width, source.info.height)
    count, length = len(source.timeline().pts), source.timeline().end

    def vectors():
        bitstream_primitives(source, source.read(FrameSampling.by_fps(2), size))

    every = seconds(lambda: source.read(FrameSampling.all(), (36, 64)))
    two = seconds(lambda: source.read(FrameSampling.by_fps(2), size))
    eight = seconds(lambda: source.read(FrameSampling.by_count(8), size))
    cuts = seconds(lambda: find_cuts(source))
    try:
        coded = f"{count / seconds(vectors):6.0f}"
    except InputError:
        coded = "     -"
    shape = f"{source.info.width}x{source.info.height}"
    print(
        f"{path.name[:34]:34} {source.info.codec:6} {shape:>9} {count:6} {length:7.1f} {count / every:8.0f} "
        f"{count / two:8.0f} {eight:8.2f} {count / cuts:8.0f} {coded}"
    )


def stages(path: Path) -> None:
    """Print what each stage costs for a sampled frame, the least of three."""
    source = VideoSource.open(path)
    size = fit_size(source.info.width, source.info.height)
    frames = source.read(FrameSampling.by_fps(2), size).rgb[:32]
    picture = av.VideoFrame.from_ndarray(np.zeros((source.info.height, source.info.width, 3), np.uint8)).reformat(
        format="yuv420p"
    )
    mv = search(frames)[0]
    pairs = range(1, len(frames))
    work = {
        "reading": (source.timeline().end * 2, lambda: source.read(FrameSampling.by_fps(2), size)),
        "resizing among it": (1, lambda: to_rgb(picture, size)),
        "search": (len(pairs), lambda: search(frames)),
        "small pictures": (len(frames), lambda: small_pictures(frames)),
        "residual": (len(pairs), lambda: [residual(frames[t], frames[t - 1], mv[t]) for t in pairs]),
    }
    parts = []
    for name, (count, run) in work.items():
        spent = []
        for _ in range(3):
            begin = time.process_time()
            run()
            spent.append(time.process_time() - begin)
        parts.append(f"{name} {1000 * min(spent) / count:.2f}")
    print(f"  ms a frame: {', '.join(parts)}")


def compare(minutes: float, path: Path) -> None:
    """Decode and plan in turns, each in a process of its own; what each took, and the ratios of the quicker ones."""
    best = {}
    for work in ("decode", "plan", "decode", "plan"):
        done = subprocess.run([sys.executable, "-c", MEASURE, path, work], capture_output=True, text=True, check=True)
        frames, grown, wall, processor = done.stdout.split()
        print(
            f"{minutes:g} minutes of 1080p at 2 fps, {work:6}: {frames} frames, {grown} MiB more, "
            f"{float(wall):.1f} s, {float(processor):.1f} s of processor",
            flush=True,
        )
        best[work] = np.minimum(best.get(work, np.inf), [float(wall), float(processor)])
    wall, processor = best["plan"] / best["decode"]
    print(f"plan over decode: {wall:.2f} elapsed, {processor:.2f} of processor; {usable_processors()} processors")


def usable_processors() -> int:
    """How many this process and its children may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--minutes", nargs="*", type=float, default=[])
    arguments = parser.parse_args()
    print(describe_machine())
    print("frames of the source per second of work; 'count 8' in seconds")
    print(f"{'clip':34} {'codec':6} {'size':>9} {'frames':>6} {'seconds':>7} {'all':>8} {'2 fps':>8} ", end="")
    print(f"{'count 8':>8} {'cuts':>8} vectors")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.mp4"
        if not arguments.clips or arguments.minutes:
            made.write_bytes(made_clip())
        for clip in arguments.clips or [made]:
            bench(clip)
            stages(clip)
        for minutes in arguments.minutes:
            long = Path(folder) / "long.mp4"
            long.write_bytes(repeat(made.read_bytes(), round(minutes * 15)))
            compare(minutes, long)


if __name__ == "__main__":
    main()
