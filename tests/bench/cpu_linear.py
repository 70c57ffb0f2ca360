"""All linear layers of Qwen3-VL-2B in Q4_K_M on this CPU, on every instruction set that it has.

    python tests/bench/cpu_linear.py [--threads N] [--rows 1 8 512 2048]

Prints milliseconds, tokens a second and how far 8-bit activations move the products; with one row also the bytes of
weights read per second. Weights are random blocks of the true shapes and types. Each matrix is timed on copies that
together exceed the cache, as a pass over the whole model would find it; instruction sets take turns and the best turn
counts. One thread is timed by its CPU time, which other load on the machine does not touch, several by the wall clock.
Attention, norms and Python between the layers are not included.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.kernels import native, quantized_linear
from support.blocks import quantized_weight
from support.native import instruction_sets, on_processor

LAYERS = {
    ("Q4_K", 2048, 2048): 28 * 2,
    ("Q4_K", 1024, 2048): 28 + 14,
    ("Q6_K", 1024, 2048): 14,
    ("Q4_K", 6144, 2048): 28 * 2,
    ("Q4_K", 2048, 6144): 14,
    ("Q6_K", 2048, 6144): 14,
}
"""(type, out, in) of the 28 layers and how many there are: llama.cpp's Q4_K_M mix."""

HEAD = ("Q6_K", 151936, 2048)
"""The tied head: once per answered token, never per token of a prompt."""

CACHE_BYTES = 64 << 20


def measure(shape: tuple, rows: int, processors: dict) -> tuple[dict, float, int]:
    """Seconds per product of one matrix on each instruction set, the error of 8-bit activations, the weight's bytes."""
    qtype, out, columns = shape
    blocks = quantized_weight(qtype, out, columns, seed=1)
    copies = [blocks.clone() for _ in range(max(1, CACHE_BYTES // blocks.nbytes))] if rows < 64 else [blocks]
    x = torch.randn(rows, columns)
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(processors, float("inf"))
    for _ in range(7 if rows < 64 else 3):
        for name, processor in processors.items():
            with on_processor(processor):
                start = clock()
                for copy in copies:
                    quantized_linear(x, copy, qtype, int8=True)
                best[name] = min(best[name], (clock() - start) / len(copies))
    few, part = x[:16], blocks[:4096]
    wanted = quantized_linear(few.double(), part, qtype)
    error = (quantized_linear(few, part, qtype, int8=True) - wanted).norm() / wanted.norm()
    return best, error.item(), blocks.nbytes


def report(rows: int, processors: dict) -> None:
    """Print the sum over the model at `rows` tokens a call."""
    shapes = {**LAYERS, HEAD: 1} if rows <= 8 else LAYERS
    totals, worst, read = dict.fromkeys(processors, 0.0), 0.0, 0
    for shape, count in shapes.items():
        seconds, error, size = measure(shape, rows, processors)
        worst, read = max(worst, error), read + count * size
        totals = {name: total + count * seconds[name] for name, total in totals.items()}
    print(f"{rows} rows a call{', with the head' if HEAD in shapes else ''}; relative error at most {worst:.1e}:")
    for name, total in totals.items():
        rate = f"  {read / total / 1e9:5.1f} GB/s of weights" if rows == 1 else ""
        print(f"  {name:10}  {1e3 * total:8.1f} ms  {rows / total:7.1f} tokens/s{rate}", flush=True)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 512, 2048])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, load {load:.1f}")
    processors = {name: native.Processor(name) for name in instruction_sets()}
    with torch.inference_mode():
        for rows in arguments.rows:
            report(rows, processors)


if __name__ == "__main__":
    main()
