"""All linear layers of Qwen3-VL-2B in Q4_K_M on this CPU: milliseconds, tokens a second, memory and error.

    python tests/bench/cpu_linear.py [--threads N] [--rows 1 8 512 2048]

Compares packed layers that keep every code ("packed"), the same with 8-bit products for Q6_K ("int8"), dense bfloat16
and, on request, the exact float32 product straight from the blocks.
Weights are random blocks of the true shapes and types. Each matrix is timed on copies that together exceed the cache,
as a pass over the whole model would find it; methods take turns and the best turn counts. One thread is timed by its
CPU time, which other load on the machine does not touch, several by the wall clock. Attention, norms and Python between
the layers are not included.
"""

import argparse
import os
import platform
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.kernels import block_shape, dequantize, pack_linear
from codeclens.kernels.eager import quantized_linear
from codeclens.kernels.packed import kernel_layout, product_dtype
from support.blocks import quantized_weight

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


def best_seconds(methods: dict, turns: int) -> dict:
    """Least time of each method, the methods taking turns."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    best = dict.fromkeys(methods, float("inf"))
    for _ in range(turns):
        for name, run in methods.items():
            start = clock()
            run()
            best[name] = min(best[name], clock() - start)
    return best


def measure(shape: tuple, rows: int, with_exact: bool) -> tuple[dict, dict]:
    """Seconds per product of one matrix for each method, and the relative errors of the packed ones."""
    qtype, out, columns = shape
    blocks = quantized_weight(qtype, out, columns, seed=1)
    forms = {"packed": pack_linear(blocks, qtype), "int8": pack_linear(blocks, qtype, int8=True)}
    copies = max(1, CACHE_BYTES // forms["packed"].nbytes) if rows < 64 else 1
    layers = {
        name: [form] + [pack_linear(blocks, qtype, int8=name == "int8") for _ in range(copies - 1)]
        for name, form in forms.items()
    }
    dense = [dequantize(blocks, qtype, torch.bfloat16) for _ in range(copies)]
    x = torch.randn(rows, columns).bfloat16()
    methods = {
        "packed": lambda: [layer(x) for layer in layers["packed"]],
        "int8": lambda: [layer(x) for layer in layers["int8"]],
        "dense": lambda: [torch.nn.functional.linear(x, weight) for weight in dense],
    }
    seconds = best_seconds(methods, turns=7 if rows < 64 else 3)
    seconds = {name: value / copies for name, value in seconds.items()}
    if with_exact:
        seconds |= best_seconds({"exact": lambda: quantized_linear(x.float(), blocks, qtype)}, turns=1)
    few = x[:16]
    wanted = quantized_linear(few.double(), blocks[:4096], qtype)
    errors = {
        name: ((form(few)[:, :4096].double() - wanted).norm() / wanted.norm()).item() for name, form in forms.items()
    }
    return seconds, errors


def report(rows: int, with_exact: bool) -> None:
    """Print the sum over the model at `rows` tokens a call."""
    shapes = {**LAYERS, HEAD: 1} if rows <= 8 else LAYERS
    totals, worst = {}, {}
    for shape, count in shapes.items():
        seconds, errors = measure(shape, rows, with_exact)
        worst = {name: max(error, worst.get(name, 0.0)) for name, error in errors.items()}
        totals = {name: totals.get(name, 0.0) + count * value for name, value in seconds.items()}
    print(f"{rows} rows a call{', with the head' if HEAD in shapes else ''}:")
    for name, value in totals.items():
        error = f"  relative error at most {worst[name]:.1e}" if name in worst else ""
        print(f"  {name:6}  {1e3 * value:8.1f} ms  {rows / value:7.1f} tokens/s{error}", flush=True)


def main() -> None:
    """Parse the arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 512, 2048])
    parser.add_argument("--exact", action="store_true", help="also time the exact product straight from the blocks")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    print(
        f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{arguments.threads} threads, load {load:.1f}, torch {torch.__version__}, {kernel_layout()}, products in "
        f"{product_dtype()}"
    )
    if kernel_layout() is None:
        print("This CPU has no vectorised int4 kernel in torch: nothing is packed.")
        return
    sizes = dict.fromkeys(("blocks", "packed", "int8"), 0)
    for (qtype, out, columns), count in {**LAYERS, HEAD: 1}.items():
        weights, size = block_shape(qtype)
        sample = torch.zeros(64, columns // weights * size, dtype=torch.uint8)
        sizes["blocks"] += count * out // 64 * sample.nbytes
        sizes["packed"] += count * out // 64 * pack_linear(sample, qtype).nbytes
        sizes["int8"] += count * out // 64 * pack_linear(sample, qtype, int8=True).nbytes
    print(", ".join(f"{name} {value / 1e6:.0f} MB = {value / sizes['blocks']:.2f} x" for name, value in sizes.items()))
    with torch.inference_mode():
        for rows in arguments.rows:
            report(rows, arguments.exact)


if __name__ == "__main__":
    main()
