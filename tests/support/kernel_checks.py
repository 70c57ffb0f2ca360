"""Every fused op against a reference that has nothing in common with it: brute force, gguf-py, closed forms.

Each check runs the real fused code path (grids, packing, launch) and raises AssertionError where a value differs.
"""

import hashlib
import struct

import gguf
import numpy as np
import torch
from codeclens.kernels import fused, registry

from .blocks import quantized_weight

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BLOCK = 16


def gguf_values(blocks: torch.Tensor, qtype: str) -> torch.Tensor:
    """float32 weights by gguf-py."""
    with np.errstate(invalid="ignore"):
        return torch.from_numpy(gguf.quants.dequantize(blocks.cpu().numpy(), gguf.GGMLQuantizationType[qtype]))


def on(device, *tensors):
    """The tensors on `device`, each in an allocation of its own."""
    return [tensor.to(device).clone() for tensor in tensors]


def check_dequantize(qtype: str, device="cpu") -> None:
    """Random bytes, so scales include infinities, NaN and subnormals; equal in all bits but NaN's payload."""
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[qtype]]
    generator = torch.Generator().manual_seed(size)
    for block_count in (1, 5, 133 if weights == 32 else 19):
        (blocks,) = on(device, torch.randint(0, 256, (3, block_count * size), dtype=torch.uint8, generator=generator))
        wanted = gguf_values(blocks, qtype)
        for dtype in DTYPES:
            found = fused.dequantize(blocks, qtype, dtype).cpu()
            expected = wanted.to(dtype)
            bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
            same = (found.view(bits) == expected.view(bits)) | (found.isnan() & expected.isnan())
            assert same.all(), f"{qtype} to {dtype}: {int((~same).sum())} of {same.numel()} differ"


def rounded_to_int8(x: torch.Tensor) -> torch.Tensor:
    """Activations rounded to 8 bits in groups of 32, in float64."""
    groups = x.float().unflatten(-1, (-1, 32))
    step = groups.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(step > 0, torch.round(groups / step), 0.0)
    return (codes.double() * step.double()).flatten(-2)


def check_linear(qtype: str, device="cpu", shapes=((5, 512), (2, 256), (3, 4608))) -> None:
    """One to eight rows, odd numbers of outputs, every dtype, with and without bias, exact and with int8."""
    limits = {torch.float32: 1e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}
    # torch draws other numbers under other instruction sets.
    generator = np.random.default_rng(7)
    for rows, dtype, int8, (outputs, columns) in (
        (1, torch.float32, False, shapes[0]),
        (1, torch.bfloat16, False, shapes[1]),
        (1, torch.float16, True, shapes[0]),
        (1, torch.float32, True, shapes[2]),
        (3, torch.float32, False, shapes[1]),
        (4, torch.float16, True, shapes[1]),
        (5, torch.float32, True, shapes[0]),
        (8, torch.float16, False, shapes[0]),
        (1, torch.float32, False, shapes[2]),
    ):
        blocks = quantized_weight(qtype, outputs, columns, seed=columns)
        x = torch.from_numpy(generator.standard_normal((rows, columns), np.float32)).to(dtype)
        x[:, 32:64] = 0
        bias = torch.from_numpy(generator.standard_normal(outputs, np.float32)).to(dtype) if rows % 2 else None
        wanted = (rounded_to_int8(x) if int8 else x.double()) @ gguf_values(blocks, qtype).double().T
        if bias is not None:
            wanted += bias.double()
        placed = on(device, x, blocks) + ([None] if bias is None else on(device, bias))
        found = fused.quantized_linear(placed[0], placed[1], qtype, placed[2], int8)
        assert found.dtype == dtype
        error = ((found.cpu().double() - wanted).norm() / wanted.norm()).item()
        assert error < limits[dtype], f"{qtype}, {rows} rows of {dtype}, int8 {int8}: relative error {error:.2e}"


def best_match(current: np.ndarray, reference: np.ndarray, top: int, left: int, radius: int, penalty: float):
    """By brute force: (cost, |d|_1, dy, dx), SAD and squared error of the best displacement of one block."""
    height, width, _ = current.shape
    block = current[top : top + BLOCK, left : left + BLOCK].astype(np.int64)
    best = None
    for dy in range(max(-radius, -top), min(radius, height - BLOCK - top) + 1):
        for dx in range(max(-radius, -left), min(radius, width - BLOCK - left) + 1):
            difference = block - reference[top + dy : top + dy + BLOCK, left + dx : left + dx + BLOCK]
            sad, distance = int(np.abs(difference).sum()), abs(dx) + abs(dy)
            cost = np.float32(sad) + np.float32(penalty) * np.float32(distance)
            key = (cost, distance, dy, dx)
            if best is None or key < best[0]:
                best = key, sad, int((difference**2).sum())
    return best


def check_block_match(device="cpu") -> None:
    """Moved noise, flat pictures full of ties, and windows larger than the frame and than one strip."""
    for radius, penalty, (height, width), levels in (
        (4, 4.0, (48, 64), 256),
        (7, 0.0, (32, 80), 2),
        (3, 0.37, (16, 16), 256),
        (20, 1.5, (64, 48), 3),
        (0, 2.0, (32, 32), 256),
        (41, 0.25, (112, 32), 256),
    ):
        noise = torch.Generator().manual_seed(radius)
        reference = torch.randint(0, levels, (2, height, width, 3), dtype=torch.uint8, generator=noise)
        current = torch.roll(reference, (2, -3), (1, 2))
        current[1] = current[1] // 2
        reference[1, : height // 2] = 0
        found = fused.block_match(*on(device, current, reference), radius, penalty, True)
        mv, cost, sad, energy = (part.cpu() for part in found)
        for pair in range(2):
            for row in range(height // BLOCK):
                for column in range(width // BLOCK):
                    frames = current[pair].numpy(), reference[pair].numpy()
                    key, best_sad, squares = best_match(*frames, row * BLOCK, column * BLOCK, radius, penalty)
                    assert mv[pair, row, column].tolist() == [key[3], key[2]], (radius, pair, row, column)
                    assert cost[pair, row, column] == key[0]
                    assert sad[pair, row, column] == best_sad
                    assert energy[pair, row, column] == squares
        without = fused.block_match(*on(device, current, reference), radius, penalty, False)
        assert torch.equal(without[0].cpu(), mv) and without[3].numel() == 0


def check_delta(device="cpu") -> None:
    """Against the definition in float64: one head and several, columns that do not fill a warp, fast and slow decay."""
    for heads, keys, values in ((1, 1, 1), (3, 7, 33), (2, 128, 128), (16, 64, 40)):
        generator = torch.Generator().manual_seed(heads)
        query, key = torch.nn.functional.normalize(torch.randn(2, heads, keys, generator=generator), dim=-1)
        value = torch.randn(heads, values, generator=generator)
        decay = -torch.exp(3 * torch.randn(heads, generator=generator))
        strength = torch.rand(heads, generator=generator)
        state = torch.randn(heads, keys, values, generator=generator)
        output, after = fused.delta_step(*on(device, query, key, value, decay, strength, state))
        faded = state.double() * decay.double().exp()[:, None, None]
        error = strength.double()[:, None] * (value.double() - torch.einsum("hk,hkv->hv", key.double(), faded))
        wanted = faded + key.double()[:, :, None] * error[:, None]
        torch.testing.assert_close(after.cpu().double(), wanted, rtol=1e-5, atol=1e-6)
        read = torch.einsum("hk,hkv->hv", query.double(), wanted)
        torch.testing.assert_close(output.cpu().double(), read, rtol=1e-5, atol=1e-5)


def random_signs(seed: int, gop: int, step: int, frame: int, domain: int, blocks: int, n: int) -> torch.Tensor:
    """int8 [blocks, n]: the stream's definition of the codebook's signs, bit 1 of SHAKE-256's output is -1."""
    rows = []
    for block in range(blocks):
        key = b"GVCB1" + struct.pack("<QBIHHH", seed, domain, gop, step, frame, block)
        stream = np.frombuffer(hashlib.shake_256(key).digest(n // 8), np.uint8)
        rows.append(1 - 2 * np.unpackbits(stream, bitorder="little").astype(np.int8))
    return torch.from_numpy(np.stack(rows))


def sylvester(values: np.ndarray) -> np.ndarray:
    """H v of each row in float64, column by column of H: H[i, j] = (-1)^popcount(i & j)."""
    n = values.shape[1]
    index = np.arange(n)
    total = np.zeros(values.shape)
    for j in np.flatnonzero(values.any(0)):
        masked = index & j
        for shift in (16, 8, 4, 2, 1):
            masked = masked ^ (masked >> shift)
        total += values[:, j : j + 1] * (1 - 2 * (masked & 1))
    return total


def check_codebook(device="cpu", sizes=((100, 4, 6), (5, 3, 2), (3000, 5, 11), (5000, 3, 13))) -> None:
    """The golden vector of the stream's definition, then Sylvester matrices entry by entry."""
    check_transforms(device, sizes)
    planned = fused.LOW_STAGES, fused.HIGH_STAGES
    try:  # many short passes over memory, as a transform of 2^18 values takes long ones
        fused.LOW_STAGES, fused.HIGH_STAGES = 5, 2
        check_transforms(device, ((100, 4, 6), (1500, 2, 11)))
    finally:
        fused.LOW_STAGES, fused.HIGH_STAGES = planned


def check_transforms(device, sizes) -> None:
    """One plan of passes, for frames of (length, atoms, bits)."""
    first, second = (random_signs(42, 0, 3, 1, domain, 2, 128) for domain in (1, 2))
    index, sign = torch.tensor([5, 9, 0, 63]), torch.tensor([1, -1, 1, -1], dtype=torch.int8)
    golden = fused.codebook_compose(*on(device, index, sign, first, second), 6, 100).cpu()
    assert hashlib.sha256(golden.numpy().astype("<i4").tobytes()).hexdigest().startswith("e9f3a32a12d7f8ad")

    for length, atoms, bits in sizes:
        n = max(8, 1 << (length - 1).bit_length())
        blocks = -(-atoms // (n >> bits))
        first, second = (random_signs(1, 2, 3, 4, domain, blocks, n) for domain in (1, 2))
        generator = torch.Generator().manual_seed(length)
        index = torch.randint(0, 1 << bits, (atoms,), generator=generator)
        sign = torch.randint(0, 2, (atoms,), generator=generator, dtype=torch.int8) * 2 - 1
        sparse = np.zeros(blocks * n)
        sparse[np.arange(atoms) * (1 << bits) + index.numpy()] = sign.numpy()
        inner = sylvester(sparse.reshape(blocks, n)) if n < 8192 else butterflies(sparse.reshape(blocks, n))
        outer = butterflies(second.numpy() * inner)
        wanted = (first.numpy() * outer).sum(0)[:length]
        found = fused.codebook_compose(*on(device, index, sign, first, second), bits, length)
        assert np.array_equal(found.cpu().numpy(), wanted)

        residual = torch.randn(length, generator=generator)
        padded = np.zeros(n, np.float32)
        padded[:length] = residual.numpy()
        products = butterflies(second.numpy() * butterflies(first.numpy() * padded)).reshape(-1, 1 << bits)[:atoms]
        assert products.dtype == np.float32
        chosen, signs = fused.codebook_select(*on(device, residual, first, second), atoms, bits)
        wanted_index = np.abs(products).argmax(1)
        assert np.array_equal(chosen.cpu().numpy(), wanted_index)
        assert np.array_equal(signs.cpu().numpy(), np.where(products[np.arange(atoms), wanted_index] >= 0, 1, -1))

    # A residual of zeros ties everywhere: index 0 and sign +1.
    first, second = (random_signs(9, 0, 0, 0, domain, 1, 64) for domain in (1, 2))
    chosen, signs = fused.codebook_select(*on(device, torch.zeros(64), first, second), 4, 4)
    assert chosen.tolist() == [0] * 4 and signs.tolist() == [1] * 4


def butterflies(values: np.ndarray) -> np.ndarray:
    """The fast transform in the array's own dtype, spans 1, 2, 4, ...: the order that fixes the float32 result."""
    span = 1
    while span < values.shape[1]:
        pairs = values.reshape(len(values), -1, 2, span)
        values = np.stack((pairs[:, :, 0] + pairs[:, :, 1], pairs[:, :, 0] - pairs[:, :, 1]), 2).reshape(values.shape)
        span *= 2
    return values


def check_family(family: str, device="cpu", qtypes=tuple(registry.BLOCK_ALIGNMENT)) -> None:
    """Every check of one family's kernels; fails when the registry refused to run them."""
    checks = {
        "dequantize": lambda: [check_dequantize(qtype, device) for qtype in qtypes],
        "linear": lambda: [check_linear(qtype, device) for qtype in qtypes],
        "motion": lambda: check_block_match(device),
        "delta": lambda: check_delta(device),
        "codebook": lambda: check_codebook(device),
    }
    checks[family]()
    assert not registry.current().refused, registry.current().refused
