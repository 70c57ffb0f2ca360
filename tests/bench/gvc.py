"""What the codec's own work costs beside the network, at the size of a 720p latent of Wan 2.1.

    python tests/bench/gvc.py [--device cuda] [--network-seconds S]

For one latent frame of 16x90x160 values and one step: choosing atoms, composing them, the sketch, and all of it as a
trajectory's step does it, at the rate of the paper (960 bits a step). Memory is the peak of one step over what the
trajectory holds, beside what a table of the codebook would take. With --network-seconds (seconds of one model call for
a 33-frame GOP) the fraction of the whole is printed.
"""

import argparse
import platform
import resource
import statistics
import time
from fractions import Fraction

import torch
from codeclens.models.gvc.codebook import NoiseKey, block_signs, compose, select
from codeclens.models.gvc.codec import EncodingTrajectory
from codeclens.models.gvc.flow import shifted_sigmas
from codeclens.models.gvc.rate import plan_schedule
from codeclens.models.gvc.stream import Header

SHAPE, FRAMES, STEP_BITS = (16, 90, 160), 9, 960
LENGTH = 16 * 90 * 160


def timed(repeats: int, device: torch.device, action, *arguments) -> float:
    """Least seconds of ``repeats`` calls: what the work takes when nothing disturbs it."""
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        action(*arguments)
        synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_codebook(repeats: int, device: torch.device) -> None:
    """Print a table of choosing and composing for three codebooks of equal length."""
    torch.manual_seed(0)
    residual, key = torch.randn(LENGTH, device=device), NoiseKey(42, 0, 0, 0)
    print("| atoms | index bits | blocks | choose (s) | compose (s) |\n|---|---|---|---|---|")
    for atoms, bits in ((64, 8), (64, 14), (256, 12)):
        index, sign = select(residual, key, atoms, bits)
        choosing = timed(repeats, device, select, residual, key, atoms, bits)
        composing = timed(repeats, device, compose, index, sign, key, bits, LENGTH)
        blocks = len(block_signs(key, LENGTH, atoms, bits)[0])
        print(f"| {atoms} | {bits} | {blocks} | {choosing:.4f} | {composing:.4f} |")


def time_steps(device: torch.device) -> list[float]:
    """Seconds of each of the 19 coded steps of a GOP at the encoder, the network's call left out."""
    schedule = plan_schedule(shifted_sigmas(20, 500), 1, LENGTH, 19 * STEP_BITS)
    header = Header("T2V", 16, FRAMES, *SHAPE[1:], 33, 720, 1280, Fraction(16), schedule, 20, 1)
    target = torch.randn(16, FRAMES, *SHAPE[1:])
    trajectory = EncodingTrajectory(header, 0, target, adapt=False)
    trajectory.begin(device)
    estimate = 0.9 * target.to(device)
    before = memory(device)
    seconds = [timed(1, device, trajectory.advance, lambda x, sigma: estimate, step + 1) for step in range(19)]
    table = 16384 * LENGTH * 4 / 2**30
    print(f"memory of a step: {(memory(device) - before) / 2**20:.0f} MiB; a table of 16384 atoms: {table:.1f} GiB")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--network-seconds", type=float)
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} CPU threads, least of {chosen.repeats} runs")
    time_codebook(chosen.repeats, device)
    seconds = time_steps(device)
    step = statistics.median(seconds)
    print(f"a step of the encoder without the network: {step / FRAMES:.4f} s a frame (median of 19; least "
          f"{min(seconds) / FRAMES:.4f}, most {max(seconds) / FRAMES:.4f})")  # fmt: skip
    if chosen.network_seconds:
        fraction = step / (step + chosen.network_seconds)
        print(f"fraction of the whole beside a network call of {chosen.network_seconds:g} s: {100 * fraction:.2f} %")


def memory(device: torch.device) -> int:
    """Peak bytes so far: of the device's allocator, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
