"""Time and memory of a caption at true layer shapes: thumbnails against both RGB baselines and llama.cpp.

    python tests/bench/caption.py CLIPS [--folder CACHE] [--shape 2B] [--seconds 30] [--modes thumbnail,rgb,per_frame]

Makes a random-weight Q4_K_M pair of the shape (kept in CACHE), joins real clips of the folder CLIPS to one clip of the
given length, and captions it in one process per mode, so that peak memory is that mode's own. Text out is noise: only
time and memory are measured. llama.cpp is given the same pair and the same frames as images if ``llama-mtmd-cli`` is on
PATH or named by $LLAMA_MTMD_CLI.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from support.gguf_files import SHAPES, write_pair
from support.machine import describe_machine

MODES = {"thumbnail": [], "rgb": ["--mode", "rgb"], "per_frame": ["--every-frame"]}
OUT = 64
PATIENCE = 8
"""How many times as long as thumbnails llama.cpp may take before it is stopped."""


def main() -> None:
    arguments = parse()
    print(describe_machine(), flush=True)
    folder = Path(arguments.folder or tempfile.gettempdir()) / f"codeclens-{arguments.shape}"
    model, mmproj = pair(folder, arguments.shape)
    clip = joined_clip(Path(arguments.clips), folder, arguments.seconds)
    size = model.stat().st_size + mmproj.stat().st_size
    print(f"model: {arguments.shape} shape, random weights, {size / 2**30:.2f} GiB in two files; clip: {clip.name}")
    found = {}
    for mode in arguments.modes.split(","):
        found[mode] = caption(clip, model, mmproj, MODES[mode], arguments.fps)
        print_row(mode, found[mode], size)
    if arguments.questions:
        ask(joined_clip(Path(arguments.clips), folder, 60.0), model, mmproj, arguments.questions, arguments.fps)
    if "thumbnail" in found:
        print_ratios(found)
        compare_with_llama(clip, model, mmproj, found["thumbnail"], arguments.fps)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", help="folder of real clips to join")
    parser.add_argument("--folder", help="where the model files and the joined clip are kept (default: a temp folder)")
    parser.add_argument("--shape", choices=SHAPES, default="2B")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--fps", type=float, default=2.0)
    parser.add_argument("--modes", default=",".join(MODES), help="which to run, separated by commas")
    parser.add_argument("--questions", type=int, default=10, help="asked about a 60 s clip, against one; 0 for none")
    return parser.parse_args()


def pair(folder: Path, shape: str) -> tuple[Path, Path]:
    ready = sorted(folder.glob("*.gguf"), key=lambda path: path.name.startswith("mmproj"))
    if len(ready) == 2:
        return ready[0], ready[1]
    folder.mkdir(parents=True, exist_ok=True)
    return write_pair(folder, SHAPES[shape], "Q4_K_M")


def joined_clip(clips: Path, folder: Path, seconds: float) -> Path:
    """The first seconds of the folder's mp4 clips, one after the other, as one H.264 clip of 854 x 480 at 24 fps."""
    path = folder / f"joined-{seconds:g}s.mp4"
    if path.exists():
        return path
    count = round(24 * seconds)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 854, 480, "yuv420p"
        for source in sorted(clips.glob("*.mp4")):
            if not count:
                break
            try:
                rgb = VideoSource.open(str(source), duration=5.0).read(FrameSampling.by_fps(24), (480, 854)).rgb[:count]
            except ValueError as error:
                print(f"left out: {error}")
                continue
            count -= len(rgb)
            for picture in rgb:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    return path


def ask(clip: Path, model: Path, mmproj: Path, count: int, fps: float) -> None:
    """One question about a clip against ``count``, answers of 16 tokens, each in a process of its own."""
    walls = []
    for number in (1, count):
        questions = [f"What happens in the {n + 1}. part of the clip?" for n in range(number)]
        command = [sys.executable, "-m", "codeclens", "ask", str(clip), *questions, "--model", str(model)]
        command += ["--mmproj", str(mmproj), "--fps", str(fps), "--max-tokens", "16", "--temperature", "0"]
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        walls.append(time.perf_counter() - began)
    print(
        f"60 s clip: one question {walls[0]:.1f} s, {count} questions {walls[1]:.1f} s: {walls[1] / walls[0]:.2f}x",
        flush=True,
    )


def caption(clip: Path, model: Path, mmproj: Path, options: list[str], fps: float) -> dict:
    """Run one caption in a process of its own; its report, wall seconds and peak resident bytes."""
    command = [sys.executable, "-m", "codeclens", "caption", str(clip), "--model", str(model), "--mmproj", str(mmproj)]
    command += ["--fps", str(fps), "--max-tokens", str(OUT), "--temperature", "0", "--json", "-", *options]
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        if status:
            sys.exit(f"{' '.join(command)} failed")
        output.seek(0)
        report = json.load(output)["report"]
    seconds = report["seconds"]
    first = sum(spent for stage, spent in seconds.items() if stage != "decode") + 1 / report["tokens_per_second"]
    return report | {"first": first, "wall": wall, "peak": usage.ru_maxrss * 1024}


def print_row(mode: str, row: dict, size: int) -> None:
    stages = "  ".join(f"{stage} {spent:.2f}" for stage, spent in row["seconds"].items())
    print(
        f"{mode:10} {row['visual_tokens']:6} visual of {row['prompt_tokens']:6} tokens   {stages} s\n"
        f"{'':10} first token {row['first']:.1f} s   end to end {row['wall']:.1f} s   {row['tokens_per_second']:.1f} "
        f"tokens/s   peak {row['peak'] / 2**30:.2f} GiB = files + {(row['peak'] - size) / 2**30:.2f} GiB",
        flush=True,
    )


def print_ratios(found: dict) -> None:
    best = found["thumbnail"]
    reading, planning = (100 * best["seconds"][stage] / best["first"] for stage in ("read", "plan"))
    print(f"of thumbnail's time to first token: reading {reading:.1f} %, primitives and plan {planning:.1f} %")
    for mode, row in found.items():
        if mode != "thumbnail":
            print(f"first token: thumbnail is {row['first'] / best['first']:.2f}x as fast as {mode}")


def compare_with_llama(clip: Path, model: Path, mmproj: Path, ours: dict, fps: float) -> None:
    program = os.environ.get("LLAMA_MTMD_CLI") or shutil.which("llama-mtmd-cli")
    if program is None:
        print("llama.cpp: not compared, llama-mtmd-cli is neither on PATH nor named by LLAMA_MTMD_CLI")
        return
    with tempfile.TemporaryDirectory() as folder:
        images = frames_as_images(clip, Path(folder), fps)
        context = str(64 * ((len(images) * 300 + 1024) // 64))
        command = [program, "-m", str(model), "--mmproj", str(mmproj), "-t", str(os.cpu_count()), "-c", context]
        command += ["-n", str(OUT), "--ignore-eos", "--temp", "0", "-p", "Describe this video.", "--no-warmup"]
        for image in images:
            command += ["--image", str(image)]
        began, patience = time.perf_counter(), PATIENCE * ours["wall"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience)
        except subprocess.TimeoutExpired:
            print(f"llama.cpp, {len(images)} frames as images: stopped after {patience:.1f} s, not done")
            print(f"end to end: thumbnail is more than {PATIENCE:g}x as fast as llama.cpp")
            return
        wall = time.perf_counter() - began
    if done.returncode:
        print(f"llama.cpp: failed, {done.stderr.strip().splitlines()[-1]}")
        return
    print(f"llama.cpp, {len(images)} frames as images: end to end {wall:.1f} s")
    print(f"end to end: thumbnail is {wall / ours['wall']:.2f}x as fast as llama.cpp")


def frames_as_images(clip: Path, folder: Path, fps: float) -> list[Path]:
    source = VideoSource.open(str(clip))
    frames = source.read(FrameSampling.by_fps(fps), fit_size(source.info.width, source.info.height))
    paths = []
    for number, rgb in zip(frames.index, np.asarray(frames.rgb), strict=True):
        paths.append(folder / f"{number:06d}.png")
        Image.fromarray(rgb).save(paths[-1])
    return paths


if __name__ == "__main__":
    main()
