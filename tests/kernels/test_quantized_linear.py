"""quantized_linear against a float64 product with the weight that gguf-py dequantises."""

import gguf
import numpy as np
import pytest
import torch
from codeclens.kernels import quantized_linear
from codeclens.kernels.eager.blocks import FORMATS, PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import quantized_weight

QWEN3VL_2B = {
    "attn_q": (2048, 2048), "attn_k": (1024, 2048), "ffn_gate": (6144, 2048), "ffn_down": (2048, 6144),
}  # fmt: skip


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def exact(x: torch.Tensor, blocks: torch.Tensor, qtype: str) -> torch.Tensor:
    weight = gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[qtype])
    return x.double() @ torch.from_numpy(weight).double().T


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found.double() - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("qtype", [*FORMATS, *PLAIN, "IQ3_S", "TQ2_0"])
def test_every_type_multiplies_exactly(qtype):
    blocks, x = quantized_weight(qtype, 96, 512, seed=1), torch.randn(3, 512)
    assert relative_error(quantized_linear(x, blocks, qtype), exact(x, blocks, qtype)) < 1e-6


@pytest.mark.parametrize("name", QWEN3VL_2B)
@pytest.mark.parametrize("qtype", ["Q4_K", "Q6_K"])
def test_qwen3vl_2b_matrices(name, qtype):
    rows, columns = QWEN3VL_2B[name]
    blocks, x = quantized_weight(qtype, rows, columns, seed=2), torch.randn(2, columns)
    assert relative_error(quantized_linear(x, blocks, qtype), exact(x, blocks, qtype)) < 1e-6


def test_matrix_is_cut_into_tiles_and_bias_added():
    blocks, x, bias = quantized_weight("Q8_0", 5000, 1024, seed=3), torch.randn(2, 3, 1024), torch.randn(5000)
    found = quantized_linear(x, blocks, "Q8_0", bias)
    assert found.shape == (2, 3, 5000)
    assert relative_error(found, exact(x, blocks, "Q8_0") + bias.double()) < 1e-6


@pytest.mark.parametrize("dtype, error", [(torch.bfloat16, 6e-3), (torch.float16, 8e-4), (torch.float64, 1e-12)])
def test_result_has_the_dtype_of_x(dtype, error):
    blocks, x = quantized_weight("Q4_K", 64, 1024, seed=4), torch.randn(4, 1024).to(dtype)
    found = quantized_linear(x, blocks, "Q4_K", torch.zeros(64))
    assert found.dtype == dtype
    assert relative_error(found, exact(x, blocks, "Q4_K")) < error


@settings(deadline=None, max_examples=30)
@given(
    qtype=st.sampled_from(list(FORMATS)),
    lead=st.lists(st.integers(0, 3), max_size=2),
    rows=st.integers(1, 40),
    blocks=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_any_shape(qtype, lead, rows, blocks, seed):
    columns = 256 * blocks
    weight = quantized_weight(qtype, rows, columns, seed)
    x = torch.randn(*lead, columns, generator=torch.Generator().manual_seed(seed))
    found, wanted = quantized_linear(x, weight, qtype), exact(x, weight, qtype)
    assert found.shape == (*lead, rows)
    assert torch.allclose(found.double(), wanted, atol=1e-4, rtol=1e-4)


def test_int8_activations_are_codes_of_127_steps_per_32_neighbours():
    blocks, x = quantized_weight("Q4_K", 256, 2048, seed=6), torch.randn(4, 2048)
    groups = x.numpy().reshape(4, -1, 32)
    step = np.abs(groups).max(-1, keepdims=True) / np.float32(127)
    rounded = torch.from_numpy((np.round(groups / step) * step).reshape(4, 2048))
    found = quantized_linear(x, blocks, "Q4_K", int8=True)
    assert relative_error(found, exact(rounded, blocks, "Q4_K")) < 1e-6
    assert 2e-3 < relative_error(found, exact(x, blocks, "Q4_K")) < 8e-3
    assert not quantized_linear(torch.zeros(2, 2048), blocks, "Q4_K", int8=True).any()


def test_gradient_reaches_x():
    blocks = quantized_weight("Q4_K", 32, 256, seed=5)
    x = torch.randn(2, 256, requires_grad=True)
    quantized_linear(x, blocks, "Q4_K").sum().backward()
    wanted = gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType.Q4_K).sum(0)
    assert np.allclose(x.grad.numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize(
    "x, blocks, message",
    [
        (torch.zeros(2, 255), torch.zeros(8, 144, dtype=torch.uint8), "x is (2, 255); wanted 256"),
        (torch.zeros(2, 256, dtype=torch.int32), torch.zeros(8, 144, dtype=torch.uint8), "x is torch.int32"),
        (torch.zeros(2, 256), torch.zeros(8, 8, 144, dtype=torch.uint8), "blocks has 3 dimensions"),
        (torch.zeros(2, 256), torch.zeros(8, 145, dtype=torch.uint8), "a row of blocks is 145 bytes"),
        (torch.zeros(2, 256, device="meta"), torch.zeros(8, 144, dtype=torch.uint8), "x is on meta and blocks on cpu"),
    ],
)
def test_bad_input_is_one_sentence(x, blocks, message):
    with pytest.raises(ValueError, match="^quantized_linear: ") as error:
        quantized_linear(x, blocks, "Q4_K")
    assert message in str(error.value) and str(error.value).endswith(".")


def test_bad_bias_is_one_sentence():
    with pytest.raises(ValueError, match=r"^quantized_linear: bias is \(7,\); wanted \(8,\), one per row of blocks\.$"):
        quantized_linear(torch.zeros(2, 256), torch.zeros(8, 144, dtype=torch.uint8), "Q4_K", torch.zeros(7))
