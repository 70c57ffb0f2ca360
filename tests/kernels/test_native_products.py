"""Native dequantisation and products on every instruction set that this machine runs.

Dequantisation against gguf-py, bit for bit. Products with 8-bit activations against float64 products of the rounded
activations, which leaves only the order of sums, and against exact ones, which shows what the rounding costs.
"""

import os
import shutil
import subprocess
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from codeclens.kernels import block_shape, build, cpu_libraries, dequantize, native, quantized_linear, registry
from codeclens.kernels.eager.blocks import FORMATS
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import quantized_weight
from support.kernel_checks import gguf_values, rounded_to_int8
from support.native import instruction_sets, on_processor

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

QWEN3VL_2B = {
    "attn_q": ("Q4_K", 2048, 2048), "attn_v": ("Q6_K", 1024, 2048), "ffn_gate": ("Q4_K", 6144, 2048),
    "ffn_down": ("Q6_K", 2048, 6144),
}  # fmt: skip

ROUNDING = 8e-3
"""Most that 8-bit activations move a product of normal numbers, relative to its norm.

A group's step is its largest magnitude / 127, 2.1 deviations / 127 on average over 32 normal numbers, and rounding errs
by step / sqrt(12) on average: 0.5 % of a deviation. It is the same for every type, since weights are exact."""


@pytest.fixture(scope="module", params=instruction_sets())
def instructions(request):
    """One of the instruction sets, in force for ops on the processor."""
    with on_processor(native.Processor(request.param)):
        yield request.param


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def exact(x: torch.Tensor, blocks: torch.Tensor, qtype: str) -> torch.Tensor:
    return x.double() @ gguf_values(blocks, qtype).double().T


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


def product(x, blocks, qtype, bias=None):
    """The native product, not the eager twin's."""
    facts = {"x": x, "qtype": qtype, "product": "quantized_linear"}
    assert registry.current().native_refusal("quantized_linear", facts) is None
    return quantized_linear(x, blocks, qtype, bias, int8=True)


@pytest.mark.parametrize("qtype", FORMATS)
def test_any_bytes_are_dequantised_to_gguf_pys_bits(instructions, qtype):
    """Random bytes: scales include infinities, NaN and subnormals; spans of eight blocks and what is left of one."""
    _, size = block_shape(qtype)
    for count in (1, 7, 8, 33):
        blocks = torch.randint(0, 256, (3, count * size), dtype=torch.uint8)
        wanted = gguf_values(blocks, qtype)
        for dtype in DTYPES:
            found, expected = dequantize(blocks, qtype, dtype), wanted.to(dtype)
            bits = {4: torch.int32, 2: torch.int16}[dtype.itemsize]
            assert ((found.view(bits) == expected.view(bits)) | (found.isnan() & expected.isnan())).all()


@pytest.mark.parametrize("rows", [1, 2, 19])
@pytest.mark.parametrize("qtype", FORMATS)
def test_products_are_those_of_rounded_activations(instructions, qtype, rows):
    blocks, x = quantized_weight(qtype, 67, 768, seed=1), torch.randn(rows, 768)
    x[:, 32:64] = 0
    found = product(x, blocks, qtype)
    assert relative_error(found, exact(rounded_to_int8(x), blocks, qtype)) < 2e-6
    assert 1e-3 < relative_error(found, exact(x, blocks, qtype)) < ROUNDING


@pytest.mark.parametrize("qtype", FORMATS)
def test_error_stays_within_its_bound(instructions, qtype):
    """Half a step times the sum of the weights' magnitudes in each group, and the rounding of float32 sums."""
    blocks, x = quantized_weight(qtype, 40, 1024, seed=8), torch.randn(6, 1024) * torch.logspace(-3, 3, 1024)
    weight = gguf_values(blocks, qtype).double()
    half_steps = x.double().unflatten(1, (-1, 32)).abs().amax(2) / 254
    bound = half_steps @ weight.unflatten(1, (-1, 32)).abs().sum(2).T
    error = (product(x, blocks, qtype).double() - x.double() @ weight.T).abs()
    assert (error <= bound * (1 + 1e-5) + 3e-6 * (x.double().abs() @ weight.abs().T)).all()


@pytest.mark.parametrize("name", QWEN3VL_2B)
def test_qwen3vl_2b_matrices(instructions, name):
    qtype, outputs, columns = QWEN3VL_2B[name]
    blocks, x = quantized_weight(qtype, outputs, columns, seed=2), torch.randn(9, columns)
    wanted = exact(rounded_to_int8(x), blocks, qtype)
    assert relative_error(product(x, blocks, qtype), wanted) < 2e-6
    assert relative_error(product(x[:1], blocks, qtype), wanted[:1]) < 2e-6


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_shape_and_dtype(instructions, data):
    qtype = data.draw(st.sampled_from(list(FORMATS)))
    lead = data.draw(st.lists(st.integers(0, 5), max_size=2))
    outputs, blocks = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 11))
    dtype, seed = data.draw(st.sampled_from(DTYPES)), data.draw(st.integers(0, 2**31))
    columns = blocks * block_shape(qtype)[0]
    weight, generator = quantized_weight(qtype, outputs, columns, seed), torch.Generator().manual_seed(seed)
    x = torch.randn(*lead, columns, generator=generator).to(dtype)
    bias = torch.randn(outputs, generator=generator).to(dtype) if data.draw(st.booleans()) else None
    found = product(x, weight, qtype, bias)
    assert found.dtype == dtype and found.shape == (*lead, outputs)
    if not found.numel():
        return
    wanted = exact(rounded_to_int8(x), weight, qtype)
    scale = (rounded_to_int8(x).abs() @ gguf_values(weight, qtype).double().T.abs()).clamp_min(1e-30)
    if bias is not None:
        wanted, scale = wanted + bias.double(), scale + bias.double().abs()
    # Float32 sums, then one rounding to the dtype.
    allowed = scale * 3e-6 + wanted.abs() * {torch.float32: 0, torch.float16: 2**-11, torch.bfloat16: 2**-8}[dtype]
    assert ((found.double() - wanted).abs() <= allowed + 1e-7).all()


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_nothing(instructions, threads):
    blocks, x = quantized_weight("Q4_K", 200, 512, seed=3), torch.randn(21, 512)
    wanted, before = product(x, blocks, "Q4_K"), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(product(x, blocks, "Q4_K"), wanted)
        assert torch.equal(product(x[:1], blocks, "Q4_K"), product(x[:1].clone(), blocks, "Q4_K"))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("qtype", ["Q8_0", "IQ4_NL", "Q6_K"])
def test_extreme_codes_and_activations_do_not_overflow(instructions, qtype):
    """All codes at their ends, all activations at the largest magnitude: sums of 16 bits would wrap or saturate."""
    _, size = block_shape(qtype)
    for byte in (0x80, 0x7F, 0xFF, 0x00):
        blocks = torch.full((17, 8 * size), byte, dtype=torch.uint8)
        scale = {"Q6_K": (208, 210)}.get(qtype, (0, 2))
        blocks.view(17, 8, size)[..., scale[0] : scale[1]] = torch.tensor([0.01]).half().view(torch.uint8)
        columns = 8 * block_shape(qtype)[0]
        for x in (
            torch.ones(5, columns),
            -torch.ones(5, columns),
            torch.ones(columns).where(torch.arange(columns) % 2 == 0, -1.0),
        ):
            wanted = exact(x, blocks, qtype)
            assert torch.allclose(product(x, blocks, qtype).double(), wanted, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_no_number_shows(instructions, value):
    blocks, x = quantized_weight("Q4_K", 16, 512, seed=4), torch.randn(4, 512)
    x[2, 100] = value
    found = product(x, blocks, "Q4_K")
    assert found[2].isnan().all() and found[[0, 1, 3]].isfinite().all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("qtype", ["F32", "F16", "BF16"])
def test_one_row_with_floats_is_multiplied_in_float32(instructions, qtype, dtype):
    weight = quantized_weight(qtype, 37, 1003 if qtype == "F32" else 1004, seed=5)
    x, bias = torch.randn(gguf_values(weight, qtype).shape[1]).to(dtype), torch.randn(37).to(dtype)
    found = quantized_linear(x, weight, qtype, bias)
    limit = {torch.float32: 1e-6, torch.float16: 5e-4, torch.bfloat16: 4e-3}[dtype]
    assert found.dtype == dtype and relative_error(found, exact(x, weight, qtype) + bias.double()) < limit


def test_gradients_and_exact_products_do_without_rounding(instructions):
    blocks, x = quantized_weight("Q5_K", 32, 256, seed=6), torch.randn(2, 256, requires_grad=True)
    found = quantized_linear(x, blocks, "Q5_K")
    found.sum().backward()
    assert relative_error(found.detach(), exact(x.detach(), blocks, "Q5_K")) < 1e-6
    wanted = gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType.Q5_K).sum(0)
    assert np.allclose(x.grad.numpy(), wanted, atol=1e-5)


def emulated(names: tuple[str, ...], package: str, target: str, sources: tuple[str, ...], folder: Path, *options):
    """A command that runs native_products.c, built for ``target``, by an emulator; skips where there is none."""
    emulator = next((path for path in map(shutil.which, names) if path), None)
    if emulator is None:
        pytest.skip(f"{names[0]} is not installed (Debian's {package})")
    try:
        compiler = build.zig()
    except OSError as error:
        pytest.skip(str(error))
    program = Path(__file__).parents[1] / "support" / "native_products.c"
    flags = ["-target", target, *options, "-std=gnu11", "-O3", "-ffp-contract=off", "-I", cpu_libraries.FOLDER]
    linked = [cpu_libraries.FOLDER / name for name in sources]
    subprocess.run([*compiler, *flags, "-o", folder / "products.exe", program, *linked], check=True)
    return [emulator, "products.exe"]


@pytest.mark.slow
def test_products_on_neon_by_an_emulator(tmp_path):
    """The dot products of aarch64, in a program of their own under qemu."""
    names, sources = ("qemu-aarch64", "qemu-aarch64-static"), ("linear.c", "dequantize.c", "pool.c")
    options = ("-mcpu=generic+dotprod", "-static")
    command = emulated(names, "qemu-user", "aarch64-linux-musl", sources, tmp_path, *options)
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("type") == len(FORMATS)


@pytest.mark.slow
def test_products_of_the_windows_libraries_under_wine(tmp_path):
    """The committed libraries of Windows that this processor can run, loaded by a program of Windows."""
    # With the options of the first library of Windows, whose build compiled the C library of these options already.
    options = ("-mcpu=x86_64_v2", "-s")
    command = emulated(("wine64", "wine"), "wine64", "x86_64-windows-gnu", (), tmp_path, *options)
    environment = {**os.environ, "WINEPREFIX": str(tmp_path / "wine"), "WINEDEBUG": "-all", "DISPLAY": ""}
    environment["WINEDLLOVERRIDES"] = "mscoree,mshtml="  # else a new prefix asks whether to install them, for ever
    levels = [name for name in instruction_sets() if name.startswith("x86-64")]
    for target in cpu_libraries.TARGETS:
        if target.system != "windows" or target.instructions not in levels:
            continue
        (tmp_path / target.name).write_bytes(cpu_libraries.archive().read(target.name))
        run = subprocess.run([*command, target.name], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert run.returncode == 0, target.name + run.stdout + run.stderr
        assert run.stdout.count("type") == len(FORMATS)


def test_without_the_library_the_twin_serves():
    blocks, x = quantized_weight("Q6_K", 20, 512, seed=7), torch.randn(3, 512)
    found = product(x, blocks, "Q6_K")
    with on_processor(native.Processor("0")):
        assert relative_error(quantized_linear(x, blocks, "Q6_K", int8=True), found.double()) < 2e-6
