"""The ops on a CUDA device: check the input, ask the registry, launch; where it refuses, run the eager twin there.

Grids and shared memory follow the comments in cuda/*.cu.
"""

import torch
from torch import Tensor

from . import eager
from .registry import FLOATS, FUSED_ROWS, current

BLOCK = 16
SHARED_BYTES = 47 * 1024
"""Dynamic shared memory of a block: of the 48 KiB that every GPU grants, 1 is left to what kernels declare."""

SLICE_WEIGHTS = {"Q8_0": 16}
"""Weights that one thread decodes at a time (quants.cuh), where they are not 32."""


def threads_for(tasks: int) -> int:
    """Threads for `tasks` equal tasks: whole warps, 64 to 256, the least idle time, then the most threads."""
    return max(range(64, 257, 32), key=lambda threads: (tasks / (-(-tasks // threads) * threads), threads))


def window(radius: int) -> tuple[int, int]:
    """Values of dy that one pass of block_match covers, and the shared memory in bytes that its window and block take.

    At most 33 values: larger windows would leave a multiprocessor with few blocks.
    """
    pitch = (BLOCK + 2 * radius + 4) // 4 * 4
    strip = min(2 * radius + 1, 33, (SHARED_BYTES // 4 - BLOCK * BLOCK) // pitch - (BLOCK - 1))
    return strip, 4 * ((strip + BLOCK - 1) * pitch + BLOCK * BLOCK)


def block_match(
    current_frames: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`codeclens.kernels.block_match`."""
    eager.check_frames("block_match", current_frames, reference, radius, penalty)
    registry, device = current(), current_frames.device
    facts = {"current": current_frames, "radius": radius, "penalty": penalty}
    if registry.refusal("block_match", device, facts):
        return eager.block_match(current_frames, reference, radius, penalty, energy)
    pairs, height, width, _ = current_frames.shape
    grid = (width // BLOCK, height // BLOCK, pairs)
    shape = (pairs, grid[1], grid[0])
    vectors = torch.empty((*shape, 2), dtype=torch.int16, device=device)
    cost = torch.empty(shape, dtype=torch.float32, device=device)
    sad = torch.empty(shape, dtype=torch.int32, device=device)
    energies = torch.empty(shape if energy else 0, dtype=torch.int32, device=device)
    strip, shared_bytes = window(radius)
    threads = threads_for((2 * radius + 4) // 4 * strip)
    results = (vectors, cost, sad, energies if energy else None)
    arguments = (current_frames, reference, *results, height, width, radius, strip, penalty)
    registry.run("block_match", device, grid, threads, arguments, shared_bytes)
    return vectors, cost, sad, energies


def dequantize(blocks: Tensor, qtype: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """See :func:`codeclens.kernels.dequantize`."""
    eager.check_blocks("dequantize", blocks, qtype)
    weights, size = eager.block_shape(qtype)
    count = blocks.numel() // size
    facts = {"blocks": blocks, "qtype": qtype, "dtype": dtype, "count": count}
    registry = current()
    if registry.refusal("dequantize", blocks.device, facts):
        return eager.dequantize(blocks, qtype, dtype)
    shape = (*blocks.shape[:-1], blocks.shape[-1] // size * weights)
    values = torch.empty(shape, dtype=dtype, device=blocks.device)
    threads, slice_weights = 128, SLICE_WEIGHTS.get(qtype, 32)
    slices = values.numel() // slice_weights
    shared_bytes = threads * slice_weights * dtype.itemsize
    arguments = (blocks, values, slices, FLOATS[dtype])
    registry.run(f"dequantize_{qtype}", blocks.device, (-(-slices // threads),), threads, arguments, shared_bytes)
    return values


def quantized_linear(x: Tensor, blocks: Tensor, qtype: str, bias: Tensor | None = None, int8: bool = False) -> Tensor:
    """See :func:`codeclens.kernels.quantized_linear`."""
    eager.check_linear("quantized_linear", x, blocks, qtype, bias)
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    facts = {"x": x, "rows": rows, "blocks": blocks, "qtype": qtype}
    registry, device = current(), x.device
    if registry.refusal("quantized_linear", device, facts):
        return eager.quantized_linear(x, blocks, qtype, bias, int8, dequantize)
    (count, columns), outputs = rows.shape, blocks.shape[0]
    built = next(built for built in FUSED_ROWS if built >= count)
    y = torch.empty((count, outputs), dtype=x.dtype, device=device)
    slices = columns // SLICE_WEIGHTS.get(qtype, 32)
    grid, threads = (-(-outputs // 2),), 128 if slices >= 128 else 64
    if bias is not None:
        bias = bias.to(x.dtype).contiguous()
    tail = (blocks, bias, y, count, columns, outputs, FLOATS[x.dtype])
    if int8:
        codes = torch.empty(rows.shape, dtype=torch.int8, device=device)
        steps = torch.empty((count, columns // 32), dtype=torch.float32, device=device)
        groups = steps.numel()
        arguments = (rows, codes, steps, groups, FLOATS[x.dtype])
        registry.run("quantize_rows", device, (-(-groups // 4),), 128, arguments)
        registry.run(f"linear_int8_{qtype}_{built}", device, grid, threads, (codes, steps, *tail))
    else:
        source = rows if count == 1 else rows.float()
        registry.run(f"linear_{qtype}_{built}", device, grid, threads, (source, *tail))
    return y.view(*x.shape[:-1], outputs)


def delta_step(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """See :func:`codeclens.kernels.delta_step`."""
    eager.check_delta("delta_step", query, key, value, decay, strength, state)
    registry, device = current(), state.device
    if registry.refusal("delta_step", device, {"state": state}):
        return eager.delta_step(query, key, value, decay, strength, state)
    heads, keys, values = state.shape
    row = [part.contiguous() for part in (query, key, value, decay, strength, state)]
    output, after = torch.empty_like(row[2]), torch.empty_like(row[5])
    registry.run("delta_step", device, (heads, -(-values // 32)), 32, (*row, output, after, keys, values))
    return output, after


LOW_STAGES, HIGH_STAGES, COLUMNS = 11, 6, 32
"""Spans that one pass of the Hadamard kernels covers (codebook.cu)."""


def hadamard_passes(values: Tensor, kind: str) -> None:
    """The spans above the first 2^11 of the transform of `values` [blocks, n], in place; `kind` is int or float."""
    size = values.shape[1].bit_length() - 1
    for base in range(LOW_STAGES, size, HIGH_STAGES):
        stages = min(HIGH_STAGES, size - base)
        tile = COLUMNS << stages
        arguments = (values, base, stages)
        current().run(f"codebook_high_{kind}", values.device, (values.numel() // tile,), 256, arguments, 4 * tile)


def codebook_select(residual: Tensor, first: Tensor, second: Tensor, atoms: int, bits: int) -> tuple[Tensor, Tensor]:
    """See :func:`codeclens.kernels.codebook_select`."""
    eager.check_codebook("codebook_select", first, second, atoms, bits, residual)
    registry, device = current(), residual.device
    if registry.refusal("codebook_select", device, {"residual": residual, "atoms": atoms}):
        return eager.codebook_select(residual, first, second, atoms, bits)
    products = torch.empty(first.shape, dtype=torch.float32, device=device)
    size = first.shape[1].bit_length() - 1
    low = min(LOW_STAGES, size)
    grid, shared_bytes = (products.numel() >> low,), 4 << low
    arguments = (products, residual, first, residual.numel(), size, low)
    registry.run("codebook_low_residual", device, grid, 256, arguments, shared_bytes)
    hadamard_passes(products, "float")
    registry.run("codebook_low_float", device, grid, 256, (products, second, low), shared_bytes)
    hadamard_passes(products, "float")
    index = torch.empty(atoms, dtype=torch.int64, device=device)
    sign = torch.empty(atoms, dtype=torch.int8, device=device)
    registry.run("codebook_pick", device, (atoms,), 256, (products, index, sign, bits))
    return index, sign


def codebook_compose(index: Tensor, sign: Tensor, first: Tensor, second: Tensor, bits: int, length: int) -> Tensor:
    """See :func:`codeclens.kernels.codebook_compose`."""
    atoms = index.numel()
    eager.check_codebook("codebook_compose", first, second, atoms, bits, index, sign, length=length)
    registry, device = current(), index.device
    if registry.refusal("codebook_compose", device, {"index": index}):
        return eager.codebook_compose(index, sign, first, second, bits, length)
    values = torch.empty(first.shape, dtype=torch.int32, device=device)
    size = first.shape[1].bit_length() - 1
    low = min(LOW_STAGES, size)
    grid, shared_bytes = (values.numel() >> low,), 4 << low
    registry.run("codebook_low_atoms", device, grid, 256, (values, index, sign, atoms, bits, low), shared_bytes)
    hadamard_passes(values, "int")
    registry.run("codebook_low_int", device, grid, 256, (values, second, low), shared_bytes)
    hadamard_passes(values, "int")
    summed = torch.empty(length, dtype=torch.int32, device=device)
    arguments = (values, first, summed, length, len(first), size)
    registry.run("codebook_sum", device, (-(-length // 256),), 256, arguments)
    return summed
