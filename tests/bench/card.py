"""All that a CUDA card can tell in a few minutes, in order of worth: one command, bounded, written as it goes.

    python tests/bench/card.py [--minutes 8] [--folder FOLDER]
    python tests/bench/card.py --rehearse

Each step is a process of its own with a bound on its time; a step that fails or runs out of time leaves its last words
and the next one starts. The report is FOLDER/card-NAME.txt, by default under tests/bench/results. Models have random
weights at the published shapes and are made first, on the processor, which takes minutes and is not counted.

--rehearse runs the same steps without a card: a tiny model on the processor, kernels on the CPU shim of the tests.

THIS SCRIPT HAS NOT BEEN RUN ON A GPU YET: no number in this repository comes from it.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from codeclens.kernels import launch
from support.machine import describe_machine

BENCH = Path(__file__).resolve().parent
LIMITS = (8, 12, 16, 24)
"""Gigabytes of the cards whose memory is pretended."""

STEPS = (
    ("equality of the kernels with their references", "equality", 150),
    ("first token, 2B", "first-token 2B", 90),
    ("decode and memory's bandwidth, 2B", "decode 2B", 60),
    ("first token, 8B", "first-token 8B", 120),
    ("decode and memory's bandwidth, 8B", "decode 8B", 60),
    ("motion search", "motion", 60),
    *((f"8B on a card of {limit} GB", f"memory 8B {limit}", 60) for limit in LIMITS),
    ("the generative codec beside the network", "codec", 60),
)
"""Title, the words of --step, seconds at most."""


def main() -> int:
    """Run every step that time is left for; 1 when one failed, 2 without a card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--folder", type=Path, default=BENCH / "results")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "codeclens-bench")
    parser.add_argument("--rehearse", action="store_true", help="on the processor and the CPU shim")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        name, *words = arguments.step.split()
        STEP_FUNCTIONS[name](*words, arguments=arguments)
        return 0
    if not arguments.rehearse and (unfit := launch.Machine().unfit()):
        print(f"nothing to measure: {unfit}; --rehearse runs the same steps on the processor", file=sys.stderr)
        return 2
    for size in ("2B", "8B"):
        model_files(size, arguments)
    card = "rehearsal" if arguments.rehearse else torch.cuda.get_device_name()
    report = arguments.folder / f"card-{re.sub(r'[^a-z0-9]+', '-', card.lower()).strip('-')}.txt"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(f"{describe_machine()}\n", encoding="utf-8")
    deadline = time.monotonic() + 60 * arguments.minutes
    failed = [title for title, step, bound in STEPS if not run_step(title, step, bound, deadline, report, arguments)]
    say(report, f"failed or out of time: {'; '.join(failed) or 'none'}")
    return 1 if failed else 0


def say(report: Path, text: str) -> None:
    """Print a line and keep it at once."""
    print(text, flush=True)
    with report.open("a", encoding="utf-8") as file:
        file.write(text + "\n")


def run_step(title: str, step: str, bound: float, deadline: float, report: Path, arguments) -> bool:
    """Run one step in a process of its own and write down what it says. False when it failed or had no time."""
    bound = min(bound, deadline - time.monotonic())
    say(report, f"\n{title}")
    if bound < 5:
        say(report, "  no time was left")
        return False
    began = time.monotonic()
    command = [sys.executable, __file__, "--step", step, "--cache", arguments.cache]
    process = subprocess.Popen(
        [*map(str, command), *["--rehearse"] * arguments.rehearse],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=bound)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        output += f"\nstopped after {bound:.0f} s"
    lines = output.strip().splitlines()
    for line in lines if process.returncode == 0 else lines[-12:]:
        say(report, f"  {line}")
    say(report, f"  {time.monotonic() - began:.0f} s, {'done' if process.returncode == 0 else 'FAILED'}")
    return process.returncode == 0


def model_files(size: str, arguments) -> tuple[Path, Path]:
    """A pair of model files with random weights, made once: of ``size``, or tiny in a rehearsal."""
    from qwen3vl import files
    from support.gguf_files import TINY, write_pair

    if not arguments.rehearse:
        return files(arguments.cache, size, "Q4_K_M")
    folder = arguments.cache / f"tiny-{size}"
    folder.mkdir(parents=True, exist_ok=True)
    return write_pair(folder, TINY, "Q4_K_M")


def loaded(size: str, arguments):
    """The model on the card, or the tiny one on the processor."""
    from codeclens.models.qwen.placement import load_placed

    return load_placed(*model_files(size, arguments), "cpu" if arguments.rehearse else "cuda")


def clip() -> bytes:
    """Ten seconds that pan over a scene, 480 x 320, 12 frames a second."""
    from support.clips import encode, scene

    wide = scene(400, 720, seed=1)
    return encode(np.stack([wide[i // 3 : i // 3 + 320, 2 * i : 2 * i + 480] for i in range(120)]), fps=12)


def equality(arguments) -> None:
    """The tests of the kernels on the card; in a rehearsal those of the shim, and the card's skip themselves."""
    tests = ["tests/kernels/test_launch.py"] * arguments.rehearse + ["tests/gpu"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", *tests]
    done = subprocess.run(command, cwd=BENCH.parents[1], capture_output=True, text=True)
    print("\n".join(done.stdout.strip().splitlines()[-8:]))
    if done.returncode:
        raise SystemExit(1)


def first_token(size: str, arguments, model=None) -> None:
    """Seconds from opening a clip to its answer's first token, the second time of two, in every untrained mode."""
    from codeclens.models.code.conversation import converse
    from codeclens.models.code.modes import ENCODERS
    from codeclens.models.code.pipeline import CodeConfig, watch
    from codeclens.models.qwen.generate import GREEDY
    from codeclens.models.source.reading import FrameSampling, VideoSource
    from codeclens.models.video.tokens import MODES

    model = model or loaded(size, arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        path.write_bytes(clip())
        for mode in (mode for mode in ENCODERS if not MODES[mode].trained):
            for _ in range(2):
                config = CodeConfig(mode=mode, sampling=FrameSampling.by_fps(1 if arguments.rehearse else 2))
                began = time.perf_counter()
                code = watch(VideoSource.open(str(path)), model, config)
                answer = converse(model, code).ask("What happens?", sampling=GREEDY, max_tokens=1)
                seconds = time.perf_counter() - began
            stages = ", ".join(f"{name} {value:.2f}" for name, value in (code.seconds | answer.seconds).items())
            print(f"{mode:10} {answer.prompt_tokens:6} tokens {seconds:7.2f} s  ({stages})")


def decode(size: str, arguments) -> None:
    """Tokens a second, and the bytes that they read as a fraction of what a copy moves."""
    from codeclens.models.qwen.cache import Cache
    from codeclens.models.qwen.generate import Context

    model, count = loaded(size, arguments), 64
    context = Context(model.text, Cache(model.config.text.layers, 512))
    context.read_ids([300] * 8)
    began = None
    for step in range(count + 8):
        if step == 8:
            began = time.perf_counter()
        context.read_ids([int(context.logits.argmax())])
    rate = count / (time.perf_counter() - began)
    read = rate * model_files(size, arguments)[0].stat().st_size
    print(f"decode {rate:.1f} tokens/s; the text file {read / 1e9:.0f} GB/s, {read / copied():.0%} of a copy")


def copied() -> float:
    """Bytes a second that a copy reads and writes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    source = torch.empty(1 << (30 if device == "cuda" else 26), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 1e9
    for _ in range(5):
        began = time.perf_counter()
        target.copy_(source)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * source.numel() / best


def memory(size: str, limit: str, arguments) -> None:
    """A whole caption where no more than ``limit`` GB may be taken: the peak, and seconds to its first token."""
    from codeclens.models.qwen.loading import load_qwen3vl
    from codeclens.models.qwen.placement import compute_dtype, to_device

    if arguments.rehearse:
        first_token(size, arguments)
        return
    device, bytes_allowed = torch.device("cuda", 0), int(limit) * 10**9
    total = torch.cuda.get_device_properties(device).total_memory
    if bytes_allowed > total:
        print(f"the card has {total / 1e9:.1f} GB")
        return
    torch.cuda.set_per_process_memory_fraction(bytes_allowed / total)
    model = load_qwen3vl(*model_files(size, arguments), dtype=compute_dtype("cuda"))
    first_token(size, arguments, to_device(model, device, free_bytes=bytes_allowed))
    print(f"peak {torch.cuda.max_memory_allocated() / 1e9:.2f} GB of {limit}")


def motion(arguments) -> None:
    """The card's search against the processor's, and its time; in a rehearsal the kernel also runs on the shim."""
    from codeclens.models.video.motion import search

    import kernels as bench

    device = "cpu" if arguments.rehearse else "cuda"
    if arguments.rehearse:
        search_on_shim()
        bench.GPU, bench.seconds = torch.device(device), lambda work, in_a_row=1: timeit.timeit(work, number=1)
    frames = bench.moving_frames(4)[0].cpu().numpy()
    for ours, theirs in zip(search(frames, 32, device=device), search(frames, 32), strict=True):
        assert (ours == theirs).all(), "card and processor differ"
    print("equal to the processor's search")
    bench.measure_motion((1,) if arguments.rehearse else (1, 16))


def search_on_shim() -> None:
    """The card's kernel as C++ on the processor, against the processor's own search."""
    from codeclens.kernels import block_match, fused
    from support import shim

    noise = torch.randint(0, 256, (2, 1, 64, 64, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        machine = shim.PretendedMachine(shim.build(Path(folder), families=("motion",)))
        with shim.pretend(machine):
            found = fused.block_match(*noise, 8, 4.0)
    assert all(torch.equal(*fields) for fields in zip(found, block_match(*noise, 8, 4.0), strict=True))


def codec(arguments) -> None:
    """What the generative codec costs beside the network's calls."""
    device = "cpu" if arguments.rehearse else "cuda"
    subprocess.run([sys.executable, BENCH / "gvc.py", "--device", device], check=True)


STEP_FUNCTIONS = {
    "equality": equality,
    "first-token": first_token,
    "decode": decode,
    "motion": motion,
    "memory": memory,
    "codec": codec,
}


if __name__ == "__main__":
    sys.exit(main())
