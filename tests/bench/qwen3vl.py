"""Speed and memory of a model with random weights at a published shape, beside llama.cpp on the same two files.

    python tests/bench/qwen3vl.py [--size 2B] [--quant Q4_K_M] [--threads 2] [--rounds 3] [--cache FOLDER]
    python tests/bench/qwen3vl.py --family qwen35 --size 2B
    python tests/bench/qwen3vl.py --busy --writing
    python tests/bench/qwen3vl.py --device cuda --size 8B

Both engines run in turns within each round and the best of each is kept, so that a busy machine slows both alike. On a
very busy one use --busy: one thread, and CPU seconds instead of the clock's, for both.
llama.cpp is used where llama-bench and llama-mtmd-cli are on the path or in the folder $LLAMA_CPP names. Memory is
resident memory, mapped pages included.

What stands in web/docs/numbers.md and tests/bench/results comes from these, on a machine that does nothing else (else
with --busy), with $LLAMA_CPP set to a build for that machine:
    python tests/bench/qwen3vl.py                       "Qwen3-VL beside llama.cpp", results/qwen3vl.txt
    python tests/bench/qwen3vl.py --writing --rounds 5  its rows of writing
    CODECLENS_NATIVE=x86-64-v3 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python tests/bench/qwen3vl.py
                                                        the same held to AVX2 (llama.cpp needs a build of its own)
    python tests/bench/qwen3vl.py --family qwen35       "Qwen3.5 beside llama.cpp", results/qwen35.txt
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
import torch
from codeclens.models.allocator import keep_freed_memory
from codeclens.models.code.encoding import encode_images
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.placement import load_placed
from PIL import Image
from support.gguf_files import SHAPES, write_mmproj, write_text
from tokenizers.pre_tokenizers import ByteLevel

PREFILLS = {512: 3, 2048: 1}
"""Tokens, and how often each engine reads them in a round; its best counts."""

WARM = 512
DECODED = 32
SIDES = [512, 1024]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="qwen3vl", choices=("qwen3vl", "qwen35"))
    parser.add_argument("--size", default="2B", help="2B, 4B, 8B, 32B; of Qwen3.5 0.8B, 2B, 4B, 9B, 27B")
    parser.add_argument("--quant", default="Q4_K_M", help="Q4_K_M or a ggml type: Q8_0, BF16 ...")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--busy", action="store_true", help="count CPU seconds of one thread")
    parser.add_argument("--writing", action="store_true", help="measure writing alone")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "codeclens-bench")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.busy:
        arguments.threads = 1
    if arguments.writing:
        PREFILLS.clear()
        SIDES.clear()
    if arguments.measure:
        clock = time.process_time if arguments.busy else time.perf_counter
        print(json.dumps(measure(*arguments.measure, arguments.threads, arguments.device, clock)))
        return
    size = arguments.size if arguments.family == "qwen3vl" else f"Qwen3.5-{arguments.size}"
    if size not in SHAPES:
        parser.error(f"--size is {arguments.size}; the published sizes are {', '.join(SHAPES)}")
    print(machine(arguments.threads), "(CPU seconds)" if arguments.busy else "")
    model, mmproj = files(arguments.cache, size, arguments.quant)
    ours, theirs = [], []
    for number in range(arguments.rounds):
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        ours.append(run_ourselves(model, mmproj, arguments))
        if arguments.device == "cpu":
            theirs.append(run_llama(model, mmproj, arguments.threads, arguments.busy))
    report(best(ours), best(theirs), model)


def machine(threads: int) -> str:
    """One line about what this runs on."""
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{name}{gpu}, {threads} of {os.cpu_count()} threads{busy}, torch {torch.__version__}, {platform.platform()}"


def files(folder: Path, size: str, quant: str) -> tuple[Path, Path]:
    """The pair, made once, with a vocabulary and merges as many as Qwen's."""
    folder.mkdir(parents=True, exist_ok=True)
    model, mmproj = folder / f"Random-{size}-{quant}.gguf", folder / f"mmproj-Random-{size}-F16.gguf"
    if not model.exists():
        vocabulary = qwen_sized_vocabulary(SHAPES[size].vocabulary)
        part = write_text(folder / "text.part", SHAPES[size], quant, metadata=vocabulary)
        part.rename(model)
    if not mmproj.exists():
        write_mmproj(folder / "mmproj.part", SHAPES[size]).rename(mmproj)
    return model, mmproj


def qwen_sized_vocabulary(size: int) -> dict:
    """Metadata of a byte-level vocabulary of ``size`` tokens: 256 bytes, merges, special tokens, padding."""
    letters = sorted(ByteLevel.alphabet())
    pairs = [(first, second) for first in letters for second in letters]
    merges = (pairs + [(a + b, c) for a, b in pairs for c in letters[33:36]])[: size - 549]
    tokens = letters + [first + second for first, second in merges]
    names = ["endoftext", "im_start", "im_end", "vision_start", "vision_end", "vision_pad", "image_pad", "video_pad"]
    tokens += [f"<|{name}|>" for name in names]
    types = [1] * (256 + len(merges)) + [3] * len(names)
    unused = size - len(tokens)
    return {
        "tokenizer.ggml.tokens": tokens + [f"[PAD{index}]" for index in range(unused)],
        "tokenizer.ggml.token_type": types + [5] * unused,
        "tokenizer.ggml.merges": [f"{first} {second}" for first, second in merges],
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
    }


def run_ourselves(model: Path, mmproj: Path, arguments) -> dict:
    """One measurement in a fresh process, for load time and memory to mean something."""
    command = [sys.executable, __file__, "--measure", model, mmproj, "--threads", str(arguments.threads)]
    command += ["--device", arguments.device, *["--busy"] * arguments.busy, *["--writing"] * arguments.writing]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(path: str, mmproj: str, threads: int, device: str, clock) -> dict:
    """Everything about one load of the model. Speeds in tokens a second, memory in bytes."""
    torch.set_num_threads(threads)
    keep_freed_memory()  # as the command line does

    def seconds(work) -> float:
        started = clock()
        with torch.no_grad():
            work()
        if device != "cpu":
            torch.cuda.synchronize()
        return clock() - started

    found, made = {}, []
    found["load s"] = seconds(lambda: made.append(load_placed(path, mmproj, device)))
    (model,) = made
    found["memory loaded"] = memory(device)
    layers = model.config.text.layers
    busy = clock is not time.perf_counter
    if not busy:  # as llama-bench does
        seconds(lambda: Context(model.text, Cache(layers, WARM + 1)).read_ids([300] * WARM))
    for count, repeats in PREFILLS.items():
        ids = np.random.default_rng(0).integers(300, 100_000, count).tolist()
        contexts = [Context(model.text, Cache(layers, count + DECODED + 1)) for _ in range(1 if busy else repeats)]
        best = min(seconds(lambda context=context, ids=ids: context.read_ids(ids)) for context in contexts)
        found[f"prefill {count}"] = count / best
    if PREFILLS:
        found["memory after 2048"] = memory(device)
    context = Context(model.text, Cache(layers, 512))
    context.read_ids([300] * 8)
    steps = [seconds(lambda: context.read_ids([int(context.logits.argmax())])) for _ in range(DECODED)]
    found["decode"], found["decode, quickest"] = DECODED / sum(steps), 1 / min(steps)
    for side in SIDES:
        picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        found[f"vision {side}"] = (side // 32) ** 2 / seconds(lambda picture=picture: encode_images([picture], model))
    return found


def memory(device: str) -> int:
    if device != "cpu":
        return torch.cuda.memory_allocated()
    return psutil.Process().memory_info().rss


def llama_binary(name: str) -> str | None:
    folder = os.environ.get("LLAMA_CPP")
    return shutil.which(name, path=folder) if folder else shutil.which(name)


def run_llama(model: Path, mmproj: Path, threads: int, busy: bool) -> dict:
    """The same from llama-bench and llama-mtmd-cli; empty where they are absent."""
    found = {}
    if binary := llama_binary("llama-bench"):
        command = [binary, "-m", model, "-t", threads, "-r", "1", "-o", "json", *["--no-warmup"] * busy]
        # CPU seconds are those of the whole process, so what loading takes must be subtracted.
        idle = run_watched([*command, "-p", 1, "-n", 0]).cpu_seconds if busy and PREFILLS else 0
        for count, repeats in PREFILLS.items():
            done = run_watched([*command, "-p", count, "-n", 0, *([] if busy else ["-r", repeats])])
            speed = count / (done.cpu_seconds - idle) if busy else max(json.loads(done.output)[0]["samples_ts"])
            found[f"prefill {count}"], found["memory after 2048"] = speed, done.peak
        short, long = (run_watched([*command, "-p", 0, "-n", count]) for count in (DECODED, 4 * DECODED))
        spent = (long.cpu_seconds - short.cpu_seconds) / (3 * DECODED)
        found["decode"] = 1 / spent if busy else json.loads(long.output)[0]["avg_ts"]
    if SIDES and (binary := llama_binary("llama-mtmd-cli")):
        command = [
            binary,
            "-m",
            model,
            "--mmproj",
            mmproj,
            "-p",
            "x",
            "-n",
            1,
            "-t",
            threads,
            "-c",
            4096,
            "--no-warmup",
        ]
        for side in SIDES:
            with tempfile.NamedTemporaryFile(suffix=".png") as file:
                Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)).save(file.name)
                done = run_watched([*command, "--no-warmup", "--image", file.name])
            if spent := re.search(r"(?:encoded|encoding done) in (\d+) ms", done.errors):
                fraction = done.cpu_seconds / done.seconds if busy else 1
                found[f"vision {side}"] = (side // 32) ** 2 / (int(spent[1]) / 1000 * fraction)
    return found


class Watched(NamedTuple):
    """What a command printed, the most memory it had resident, and the time it took."""

    output: str
    errors: str
    peak: int
    seconds: float
    cpu_seconds: float


def run_watched(command: list) -> Watched:
    # A model of random weights says bytes that are no text.
    opened = {"mode": "w+", "encoding": "utf-8", "errors": "replace"}
    with tempfile.TemporaryFile(**opened) as output, tempfile.TemporaryFile(**opened) as errors:
        started, peak, spent = time.perf_counter(), 0, None
        process = psutil.Popen([str(word) for word in command], stdout=output, stderr=errors, stdin=subprocess.DEVNULL)
        while process.poll() is None:
            try:
                peak, spent = max(peak, process.memory_info().rss), process.cpu_times()
            except psutil.NoSuchProcess:
                break
            time.sleep(0.05)
        process.wait()
        output.seek(0)
        errors.seek(0)
        return Watched(
            output.read(),
            errors.read(),
            peak,
            time.perf_counter() - started,
            spent.user + spent.system if spent else 0.0,
        )


def best(runs: list[dict]) -> dict:
    """The best of every figure: the fastest speed, the shortest time, the least memory."""
    names = {name for run in runs for name in run}
    choose = {name: min if name.startswith(("load", "memory")) else max for name in names}
    return {name: choose[name](run[name] for run in runs if name in run) for name in names}


def report(ours: dict, theirs: dict, model: Path) -> None:
    """One line for each figure, with llama.cpp's beside it and the ratio."""
    size = model.stat().st_size
    print(f"{model.name}: {size / 1e9:.2f} GB\n")
    print(f"{'':24}{'CodecLens':>12}{'llama.cpp':>12}{'ratio':>8}")
    theirs = theirs | ({"decode, quickest": theirs["decode"]} if "decode" in theirs else {})
    speeds = [
        *(f"prefill {count}" for count in PREFILLS),
        "decode",
        "decode, quickest",
        *(f"vision {side}" for side in SIDES),
    ]
    for name in speeds:
        line = f"{name + ' tokens/s':24}{ours[name]:12.1f}"
        if name in theirs:
            line += f"{theirs[name]:12.1f}{ours[name] / theirs[name]:8.2f}"
        print(line)
    print(f"{'load s':24}{ours['load s']:12.1f}")
    for name in filter(ours.__contains__, ("memory loaded", "memory after 2048")):
        line = f"{name + ' GB':24}{ours[name] / 1e9:12.2f}"
        print(line + (f"{theirs[name] / 1e9:12.2f}{ours[name] / theirs[name]:8.2f}" if name in theirs else ""))
    if not theirs:
        print("\nllama.cpp was not measured: llama-bench and llama-mtmd-cli are not on the path or in $LLAMA_CPP")


if __name__ == "__main__":
    main()
