"""What the fused kernels reach on this GPU: correctness first, then bandwidth and time. One run, under ten minutes.

    python tests/bench/kernels.py [--skip-tests]

Prints, in this order: the machine and the images used; the outcome of tests/gpu/test_kernels.py (cubins and forced
PTX); a measured copy, the yardstick of all that follows; GB/s of the quantised linear layer at the shapes of Qwen3-VL
2B, 4B and 8B; microseconds per 512 x 512 frame of motion search; dequantisation against the bytes it must move; the
codebook, patch selection and CUDA graph capture. Needs an NVIDIA GPU of compute capability 7.5 or newer.

compute-sanitizer is run apart, for it slows everything down; the commands are in tests/gpu/test_kernels.py.

THIS SCRIPT HAS NOT BEEN RUN ON A GPU YET: no number in this repository comes from it. Its aims are one row of Q4_K
and Q8_0 at 70 % of the copy, motion under 100 us a frame up to radius 32, dequantisation within 1.3 times its bytes.
What the design counts on, by arithmetic: a Q4_K weight is 0.5625 bytes and costs the exact kernel about 5
instructions (byte to float by permute and subtract, scale, multiply-add, a part of unpacking and of reading x), so a
multiprocessor that issues 128 lanes a clock asks for 128 / 5 * 0.5625 = 14 bytes a clock, and 128 of them at 2.5 GHz
for 4.6 TB/s: four times the memory of an RTX 4090, about that of an H200, where dp4a (int8=True) is the way to more.
A frame of 512 x 512 at radius 16 is 1024 blocks * 1089 displacements * 256 pixels = 285 M byte-difference
instructions; at 64 a clock on 128 multiprocessors of 2.5 GHz they take 14 us, radius 32 takes 53 us, before giving up
hopeless candidates early.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens import kernels
from codeclens.kernels import eager, launch, registry
from support.blocks import quantized_weight
from support.gguf_files import SHAPES
from support.kernel_checks import gguf_values
from support.machine import describe_machine

GPU = torch.device("cuda", 0)
LINEAR_TYPES = ("Q4_K", "Q8_0", "Q6_K", "Q5_K", "Q4_0", "IQ4_XS")
ROWS = (1, 4, 8)
AIM_LINEAR, AIM_MOTION, AIM_DEQUANTIZE = 0.70, 100.0, 1.3


def main() -> int:
    """Print every section; 1 when a test failed or a kernel was refused."""
    parser = argparse.ArgumentParser(description="Measure the fused kernels on this GPU.")
    parser.add_argument("--skip-tests", action="store_true", help="do not run tests/gpu/test_kernels.py first")
    arguments = parser.parse_args()
    unfit = launch.Machine().unfit()
    if unfit:
        print(f"nothing to measure: {unfit}", file=sys.stderr)
        return 2
    started = time.monotonic()
    print(describe_machine())
    failed = 0 if arguments.skip_tests else run_tests()
    kernels.warm(GPU)
    for row in registry.current().table():
        print(f"  {row['op']:18} {row['backend']:6} {row['image']} {row['why_not']}")
    copy = copied_bytes_per_second()
    print(f"copy: {copy / 1e9:.0f} GB/s read and written (1 GiB)")
    for shape in ("2B", "4B", "8B"):
        measure_layer(shape, copy)
    measure_int8_error()
    measure_motion()
    measure_dequantize(copy)
    measure_codebook()
    measure_captured_layer()
    refused = registry.current().refused
    print(f"refused calls: {refused or 'none'}; {time.monotonic() - started:.0f} s in all")
    return 1 if failed or refused else 0


def run_tests() -> int:
    """The tests of the GPU in a process of their own; their exit code."""
    path = Path(__file__).resolve().parents[1] / "gpu" / "test_kernels.py"
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "--no-header", str(path)], timeout=420)
    print(f"tests/gpu/test_kernels.py: {'passed' if run.returncode == 0 else 'FAILED'}", flush=True)
    return run.returncode


def seconds(work: Callable[[], object], in_a_row: int = 1) -> float:
    """Time of one `work` on the GPU: `in_a_row` of them in a CUDA graph, so that Python does not count; best of 5."""
    work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(in_a_row):
            work()
    times = []
    for _ in range(5):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3 / in_a_row)
    return min(times)


def copied_bytes_per_second() -> float:
    """Bytes read plus bytes written per second by a copy of 1 GiB."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=GPU)
    target = torch.empty_like(source)
    return 2 * source.numel() / seconds(lambda: target.copy_(source))


def copies_beyond_cache(size: int) -> int:
    """How many buffers of `size` bytes to go round so that none is still in the cache when its turn comes again."""
    cache = torch.cuda.get_device_properties(GPU).L2_cache_size
    return max(2, -(-4 * cache // size))


def layer_matrices(name: str) -> dict[str, tuple[int, int]]:
    """The matrices [out, in] of one text layer of Qwen3-VL."""
    shape = SHAPES[name]
    hidden, query, key = shape.hidden, shape.head_dim * shape.heads, shape.head_dim * shape.kv_heads
    return {
        "q": (query, hidden), "k": (key, hidden), "v": (key, hidden), "o": (hidden, query),
        "gate": (shape.intermediate, hidden), "up": (shape.intermediate, hidden), "down": (hidden, shape.intermediate),
    }  # fmt: skip


def random_blocks(qtype: str, rows: int, columns: int) -> torch.Tensor:
    """uint8 [rows, row_bytes] on the GPU: one block row, repeated. Values do not matter to time."""
    return quantized_weight(qtype, 1, columns, seed=1).to(GPU).expand(rows, -1).contiguous()


def measure_layer(name: str, copy: float) -> None:
    """GB/s of the seven products of a layer, out of cache, and of each matrix for one row of Q4_K and Q8_0."""
    matrices = layer_matrices(name)
    for qtype in LINEAR_TYPES:
        layer = {key: random_blocks(qtype, *shape) for key, shape in matrices.items()}
        size = sum(blocks.numel() for blocks in layer.values())
        layers = [layer] + [{k: b.clone() for k, b in layer.items()} for _ in range(copies_beyond_cache(size) - 1)]
        for rows in ROWS:
            x = {width: torch.randn(rows, width, device=GPU).half() for _, width in matrices.values()}
            for int8 in (False, True):

                def work(x=x, int8=int8, layers=layers, qtype=qtype):
                    for layer in layers:
                        for key, blocks in layer.items():
                            kernels.quantized_linear(x[matrices[key][1]], blocks, qtype, None, int8)

                rate = len(layers) * size / seconds(work)
                aimed = rows == 1 and qtype in ("Q4_K", "Q8_0")
                verdict = (
                    f" (aim {AIM_LINEAR:.0%}: {'met' if rate >= AIM_LINEAR * copy else 'MISSED'})" if aimed else ""
                )
                label = "int8 " if int8 else "exact"
                print(
                    f"linear {name} {qtype:6} {rows} row(s) {label} {rate / 1e9:6.0f} GB/s {rate / copy:4.0%}{verdict}"
                )
        if qtype in ("Q4_K", "Q8_0"):
            for key, blocks in layer.items():
                measure_matrix(name, qtype, key, blocks, copy)


def measure_matrix(name: str, qtype: str, key: str, blocks: torch.Tensor, copy: float) -> None:
    """GB/s of one matrix and one row, out of cache."""
    copies = [blocks.clone() for _ in range(copies_beyond_cache(blocks.numel()))]
    weights, size = eager.block_shape(qtype)
    x = torch.randn(1, blocks.shape[1] // size * weights, device=GPU).half()

    def work():
        for each in copies:
            kernels.quantized_linear(x, each, qtype)

    time_each = seconds(work) / len(copies)
    rate = blocks.numel() / time_each
    print(f"  {name} {qtype} {key:5} {time_each * 1e6:7.1f} us {rate / 1e9:6.0f} GB/s {rate / copy:4.0%}")


def measure_int8_error() -> None:
    """Relative error of int8 activations against exact ones, 1 and 8 rows of 4096 columns."""
    for qtype in ("Q4_K", "Q8_0"):
        blocks = quantized_weight(qtype, 4096, 4096, seed=2)
        x = torch.randn(8, 4096)
        exact = x.double() @ gguf_values(blocks, qtype).double().T
        for rows in (1, 8):
            for int8 in (False, True):
                found = kernels.quantized_linear(x[:rows].to(GPU), blocks.to(GPU), qtype, None, int8).cpu().double()
                error = ((found - exact[:rows]).norm() / exact[:rows].norm()).item()
                print(f"linear error {qtype} {rows} row(s) {'int8 ' if int8 else 'exact'}: {error:.1e}")


def moving_frames(pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth pictures that pan by (-14, 9) pixels under noise of one level: what a search usually meets."""
    generator = torch.Generator().manual_seed(3)
    small = torch.randint(0, 256, (pairs, 3, 32, 32), generator=generator).float()
    smooth = torch.nn.functional.interpolate(small, (512, 512), mode="bicubic").clamp(1, 254)
    reference = smooth.permute(0, 2, 3, 1).contiguous()
    noise = torch.randint(-1, 2, reference.shape, generator=generator)
    return (reference.roll((9, -14), (1, 2)) + noise).byte().to(GPU), reference.byte().to(GPU)


def measure_motion(counts: tuple[int, ...] = (1, 16)) -> None:
    """Microseconds per 512 x 512 frame, so many at once: panning pictures, and noise, where hardly any is given up."""
    for pairs in counts:
        noise = torch.randint(0, 256, (2, pairs, 512, 512, 3), dtype=torch.uint8, device=GPU)
        for content, (current, reference) in (("pan", moving_frames(pairs)), ("noise", (noise[0], noise[1]))):
            for radius in (16, 32, 64):

                def work(current=current, reference=reference, radius=radius):
                    kernels.block_match(current, reference, radius, 4.0)

                time_each = seconds(work, in_a_row=10) / pairs * 1e6
                aimed = f" (aim {AIM_MOTION:.0f}: {'met' if time_each < AIM_MOTION else 'MISSED'})"
                verdict = aimed if radius <= 32 else ""
                print(f"motion 512x512 {content:5} radius {radius} x{pairs:2}: {time_each:7.1f} us/frame{verdict}")


def measure_dequantize(copy: float) -> None:
    """Time against that of a copy of as many bytes, per type and dtype, for 4096 x 12288 weights."""
    for qtype in registry.BLOCK_ALIGNMENT:
        blocks = random_blocks(qtype, 4096, 12288)
        for dtype in (torch.float16, torch.float32):
            moved = blocks.numel() + 4096 * 12288 * dtype.itemsize
            ratio = seconds(lambda blocks=blocks, q=qtype, d=dtype: kernels.dequantize(blocks, q, d)) / (moved / copy)
            verdict = "met" if ratio <= AIM_DEQUANTIZE else "MISSED"
            print(
                f"dequantize {qtype:6} to {str(dtype)[6:]}: {ratio:.2f} x its bytes (aim {AIM_DEQUANTIZE}: {verdict})"
            )


def measure_codebook() -> None:
    """One frame and step of the generative codec (n = 2^18, 64 atoms of 14 bits)."""
    atoms, bits, length, n = 64, 14, 230400, 1 << 18
    signs = torch.randint(0, 2, (2, atoms * (1 << bits) // n, n), device=GPU, dtype=torch.int8) * 2 - 1
    residual = torch.randn(length, device=GPU)
    index, sign = kernels.codebook_select(residual, signs[0], signs[1], atoms, bits)
    select = seconds(lambda: kernels.codebook_select(residual, signs[0], signs[1], atoms, bits), 10)
    compose = seconds(lambda: kernels.codebook_compose(index, sign, signs[0], signs[1], bits, length), 10)
    print(f"codebook n = 2^18, 64 atoms: select {select * 1e6:.0f} us, compose {compose * 1e6:.0f} us")


def measure_captured_layer() -> None:
    """The seven products of an 8B layer launched one by one from Python, and replayed from a CUDA graph."""
    layer = {key: random_blocks("Q4_K", *shape) for key, shape in layer_matrices("8B").items()}
    x = {width: torch.randn(1, width, device=GPU).half() for width in (4096, 12288)}

    def work():
        for blocks in layer.values():
            kernels.quantized_linear(x[blocks.shape[1] // 144 * 256], blocks, "Q4_K")

    captured = seconds(work, in_a_row=10)
    work()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(50):
        work()
    torch.cuda.synchronize()
    launched = (time.perf_counter() - start) / 50
    print(
        f"8B Q4_K layer, weights in cache: {launched * 1e6:.0f} us launched, {captured * 1e6:.0f} us from a CUDA graph"
    )


if __name__ == "__main__":
    sys.exit(main())
