"""Packed linear layers against float64 products with gguf-py's weights, and their layout against torch's own packer."""

import gguf
import pytest
import torch
from codeclens.kernels import int8_linear, packed
from codeclens.kernels.eager.blocks import FORMATS, dequantize
from codeclens.kernels.int8_linear import Int8Linear, int8_kernel, pack_int8
from codeclens.kernels.packed import FEW_ROWS, ONE_DIGIT, Layout, PackedLinear, Tile, kernel_layout, pack_linear
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import quantized_weight

pytestmark = pytest.mark.skipif(kernel_layout() is None, reason="this CPU has no vectorised int4 kernel in torch")
needs_int8 = pytest.mark.skipif(not int8_kernel(), reason="this torch has no FBGEMM")

QWEN3VL_2B = {
    "attn_q": ("Q4_K", 2048, 2048), "attn_v": ("Q6_K", 1024, 2048), "ffn_gate": ("Q4_K", 6144, 2048),
    "ffn_down": ("Q6_K", 2048, 6144),
}  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def exact(x: torch.Tensor, blocks: torch.Tensor, qtype: str) -> torch.Tensor:
    weight = gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[qtype])
    return x.double() @ torch.from_numpy(weight).double().T


def numbers(layer: PackedLinear) -> torch.Tensor:
    """The weight [out, in] that a packed layer multiplies by, whichever layout this CPU's kernel has."""
    return Tile(layer, len(layer.codes), torch.float32).transposed(0, len(layer.codes)).T


def int8_limit() -> float:
    """What products of 8-bit activations may be off; without VNNI they have 7 bits, half as many levels."""
    return 4e-2 if int8_linear.narrow_activations() else 2e-2


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("qtype", FORMATS)
def test_error_is_that_of_a_bfloat16_product(qtype, rows):
    """Not of another quantisation: no worse than rounding weights and activations to bfloat16, and multiplying."""
    blocks, x = quantized_weight(qtype, 256, 1024, seed=1), torch.randn(rows, 1024)
    wanted = exact(x, blocks, qtype)
    plain = torch.nn.functional.linear(x.bfloat16(), dequantize(blocks, qtype, torch.bfloat16))
    error = relative_error(pack_linear(blocks, qtype)(x), wanted)
    assert error < 1.5 * relative_error(plain, wanted) and error < 5e-3


@pytest.mark.parametrize("name", QWEN3VL_2B)
def test_qwen3vl_2b_matrices(name):
    qtype, rows, columns = QWEN3VL_2B[name]
    blocks, x = quantized_weight(qtype, rows, columns, seed=2), torch.randn(130, columns)
    layer, wanted = pack_linear(blocks, qtype), exact(x, blocks, qtype)
    assert relative_error(layer(x), wanted) < 4e-3
    assert relative_error(layer(x[:1]), wanted[:1]) < 4e-3


@pytest.mark.parametrize("qtype", FORMATS)
def test_codes_are_exact_and_only_scales_are_rounded(qtype):
    """With scales and minimums that bfloat16 holds, every weight comes back as it was."""
    blocks = quantized_weight(qtype, 64, 512, seed=3)
    layer = pack_linear(blocks, qtype)
    weight = numbers(layer)
    wanted = dequantize(blocks, qtype)
    assert ((weight - wanted).abs().amax(1) <= wanted.abs().amax(1) * 2**-7).all()
    assert layer.nbytes * 8 == (5 if qtype in ONE_DIGIT else 10) * wanted.numel()


@pytest.mark.parametrize("qtype", ["Q4_0", "Q5_0", "Q6_K", "Q3_K", "IQ4_NL"])
def test_types_without_minimum_are_exact_when_their_scales_are_powers_of_two(qtype):
    blocks = quantized_weight(qtype, 64, 512, seed=4).view(-1, FORMATS[qtype].size)
    offset = {"Q6_K": 208, "Q3_K": 108}.get(qtype, 0)
    blocks[:, offset : offset + 2] = torch.tensor([2.0**-10], dtype=torch.float16).view(torch.uint8)
    blocks = blocks.view(64, -1)
    weight = numbers(pack_linear(blocks, qtype))
    assert torch.equal(weight, dequantize(blocks, qtype))


@pytest.mark.parametrize("qtype", ["IQ3_S", "IQ2_XXS", "TQ2_0"])
def test_types_that_only_the_library_reads_keep_240_levels(qtype):
    blocks = quantized_weight(qtype, 64, 512, seed=5)
    weight = numbers(pack_linear(blocks, qtype))
    groups = dequantize(blocks, qtype).view(64, -1, 16)
    error = (weight.view(groups.shape) - groups).abs().amax(2)
    span = groups.amax(2) - groups.amin(2)
    assert (error <= span * (0.5 / 239) + groups.abs().amax(2) * 2**-7).all()


@settings(deadline=None, max_examples=25)
@given(
    qtype=st.sampled_from(list(FORMATS)),
    lead=st.lists(st.integers(0, 3), max_size=2),
    blocks=st.integers(1, 3),
    columns=st.integers(1, 3),
    few=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 2**31),
)
def test_any_shape_and_dtype(qtype, lead, blocks, columns, few, dtype, seed):
    weight = quantized_weight(qtype, 64 * blocks, 256 * columns, seed)
    x = torch.randn(*lead, 256 * columns, generator=torch.Generator().manual_seed(seed)).to(dtype)
    bias = torch.randn(64 * blocks)
    layer = pack_linear(weight, qtype)
    found = layer(x, bias) if few else layer(x.expand(70, *x.shape), bias)[-1]
    wanted = exact(x, weight, qtype) + bias
    assert found.dtype == dtype and found.shape == wanted.shape
    assert (found.double() - wanted).norm() <= 1e-2 * wanted.norm()


def test_float32_products_where_the_cpu_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(packed, "product_dtype", lambda: torch.float32)
    blocks, x = quantized_weight("Q6_K", 192, 1024, seed=6), torch.randn(100, 1024).bfloat16().float()
    assert relative_error(pack_linear(blocks, "Q6_K")(x), exact(x, blocks, "Q6_K")) < 3e-3


@pytest.mark.parametrize("qtype, digits", [("Q4_K", 1), ("Q6_K", 2)])
def test_one_row_more_than_few_takes_the_other_road_and_agrees(qtype, digits):
    blocks, x = quantized_weight(qtype, 128, 512, seed=7), torch.randn(FEW_ROWS[digits] + 1, 512)
    layer = pack_linear(blocks, qtype)
    many, few = layer(x), torch.cat((layer(x[:-1]), layer(x[-1:])))
    assert not torch.equal(many, few) and relative_error(many, few.double()) < 5e-3


def test_layout_is_the_one_that_torch_packs():
    codes = torch.randint(0, 16, (3 * kernel_layout().rows, 96), dtype=torch.uint8)
    wanted = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
    assert torch.equal(kernel_layout().pack(codes).flatten(), wanted.flatten())


@pytest.mark.parametrize("layout", [Layout(64, False), Layout(32, False), Layout(16, True)])
def test_unpacking_undoes_packing_in_every_layout(layout):
    codes = torch.randint(0, 16, (2 * layout.rows, 96), dtype=torch.uint8)
    found = torch.empty(2, 96, layout.rows, dtype=torch.uint8)
    layout.unpack(layout.pack(codes).contiguous(), torch.empty(2, 2, 96, layout.rows // 2, dtype=torch.uint8), found)
    assert torch.equal(found.transpose(1, 2).flatten(0, 1), codes)


def test_paired_layout_is_the_one_torch_uses_for_narrow_matrices():
    """What the kernel does everywhere on ARM it does here for fewer rows than a block."""
    codes = torch.randint(0, 16, (16, 64), dtype=torch.uint8)
    wanted = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes.int(), 1)
    assert torch.equal(Layout(16, True).pack(codes).flatten(), wanted.flatten())


@pytest.mark.parametrize("qtype, rows", [("F16", 64), ("BF16", 64), ("F32", 64)])
def test_what_cannot_be_packed_is_left(qtype, rows):
    assert pack_linear(quantized_weight(qtype, rows, 256, seed=8), qtype) is None


@needs_int8
@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("qtype", [*FORMATS, "IQ3_S"])
def test_eight_bits_are_one_to_two_percent_off_and_twice_that_without_vnni(qtype, rows):
    blocks, x, bias = quantized_weight(qtype, 96, 1280, seed=9), torch.randn(rows, 1280), torch.randn(96)
    layer = pack_int8(blocks, qtype)
    assert relative_error(layer(x), exact(x, blocks, qtype)) < int8_limit()
    assert torch.equal(layer(x, bias), layer(x) + bias)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@needs_int8
def test_eight_bits_serve_loud_and_quiet_tokens_alike():
    """One token ten thousand times louder than the rest, as first tokens are, must not drown the others."""
    blocks, x = quantized_weight("Q6_K", 128, 1024, seed=10), torch.randn(20, 1024)
    x[0] *= 1e4
    x[1] = 0
    found, wanted = pack_int8(blocks, "Q6_K")(x), exact(x, blocks, "Q6_K")
    assert not found[1].any()
    assert relative_error(found[0], wanted[0]) < 0.75 * int8_limit()
    assert relative_error(found[2:], wanted[2:]) < 0.75 * int8_limit()


@needs_int8
def test_seven_bit_activations_of_cpus_without_vnni(monkeypatch):
    monkeypatch.setattr(int8_linear, "narrow_activations", lambda: True)
    blocks, x = quantized_weight("Q6_K", 96, 1024, seed=11), torch.randn(9, 1024)
    assert relative_error(pack_int8(blocks, "Q6_K")(x), exact(x, blocks, "Q6_K")) < int8_limit()


@needs_int8
@pytest.mark.parametrize("shape", [(0, 1024), (2, 0, 1024), (1024,), (2, 3, 1024)])
def test_eight_bits_keep_leading_dimensions(shape):
    layer = pack_int8(quantized_weight("Q8_0", 32, 1024, seed=12), "Q8_0")
    assert layer(torch.zeros(shape)).shape == (*shape[:-1], 32)


@needs_int8
@pytest.mark.parametrize("qtype", ["Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q5_K", "Q6_K"])
def test_eight_bits_stay_within_the_types_own_rounding(qtype):
    """A code stands for any number within half a step: the error that llama-quantize made already, at its least."""
    if int8_linear.narrow_activations():
        pytest.skip("7-bit activations of a CPU without VNNI are coarser than that")
    blocks, x = quantized_weight(qtype, 96, 2048, seed=16), torch.randn(4, 2048)
    step = FORMATS[qtype].parts(blocks.view(-1, FORMATS[qtype].size))[1]
    own = (step.square().mean() / 12).sqrt() / dequantize(blocks, qtype).square().mean().sqrt()
    layer = pack_linear(blocks, qtype, int8=True)
    assert type(layer) is Int8Linear and relative_error(layer(x), exact(x, blocks, qtype)) < own


@needs_int8
@pytest.mark.parametrize(
    "qtype, rows, kernel, int8, kind",
    [
        ("Q4_K", 64, True, True, PackedLinear),
        ("Q8_0", 64, True, True, PackedLinear),
        ("Q6_K", 64, True, True, Int8Linear),
        ("Q6_K", 64, True, False, PackedLinear),
        ("Q4_K", 63, True, False, Int8Linear),
        ("Q8_0", 64, False, False, Int8Linear),
    ],
)
def test_which_form_a_weight_gets(monkeypatch, qtype, rows, kernel, int8, kind):
    layout = kernel_layout() if kernel else None
    monkeypatch.setattr(packed, "kernel_layout", lambda: layout)
    assert type(pack_linear(quantized_weight(qtype, rows, 256, seed=13), qtype, int8)) is kind


def test_without_any_kernel_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(packed, "kernel_layout", lambda: None)
    monkeypatch.setattr(packed, "int8_kernel", lambda: False)
    assert pack_linear(quantized_weight("Q4_K", 64, 256, seed=14), "Q4_K") is None


def test_bad_input_is_one_sentence():
    with pytest.raises(ValueError, match=r"^pack_linear: a row of blocks is 143 bytes; wanted a multiple of 144"):
        pack_linear(torch.zeros(64, 143, dtype=torch.uint8), "Q4_K")
    layer = pack_linear(quantized_weight("Q4_K", 64, 256, seed=10), "Q4_K")
    with pytest.raises(ValueError, match=r"^packed linear: x is \(2, 255\); wanted 256 in its last dimension\.$"):
        layer(torch.zeros(2, 255))


@needs_int8
def test_bad_input_to_eight_bits_is_one_sentence():
    layer = pack_int8(quantized_weight("Q8_0", 32, 1024, seed=15), "Q8_0")
    with pytest.raises(ValueError, match=r"^8-bit linear: x is \(2, 512\); wanted 1024 in its last dimension\.$"):
        layer(torch.zeros(2, 512))
