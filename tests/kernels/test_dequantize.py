"""dequantize against gguf-py, bit for bit, and against the values ggml itself wrote."""

import gguf
import numpy as np
import pytest
import torch
from codeclens.kernels import block_shape, dequantize
from codeclens.kernels.eager.blocks import FORMATS, PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st

FALLBACK = ["IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_S", "IQ1_M", "TQ1_0", "TQ2_0"]
TYPES = [*FORMATS, *PLAIN, *FALLBACK]


def random_blocks(qtype: str, rows: int, blocks: int, seed: int) -> torch.Tensor:
    """Any bytes at all: every code, negative and denormal scales, infinities and NaN."""
    _, size = block_shape(qtype)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, blocks * size), dtype=torch.uint8, generator=generator)


def by_gguf(blocks: torch.Tensor, qtype: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(blocks.numpy(), gguf.GGMLQuantizationType[qtype])


def assert_same_bits(found: torch.Tensor, wanted: np.ndarray) -> None:
    found = found.numpy()
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    number = ~np.isnan(wanted)
    assert np.array_equal(np.isnan(found), ~number)
    assert np.array_equal(found[number].view(np.int32), wanted[number].view(np.int32))


def test_every_type_the_issue_names_has_a_class():
    assert " ".join(FORMATS) == "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS"


@pytest.mark.parametrize("qtype", TYPES)
def test_block_shape_is_ggmls(qtype):
    assert block_shape(qtype) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[qtype]]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("qtype", TYPES)
@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 5), blocks=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_any_bytes_give_gguf_pys_bits(qtype, rows, blocks, seed):
    raw = random_blocks(qtype, rows, blocks, seed)
    assert_same_bits(dequantize(raw, qtype), by_gguf(raw, qtype))


@pytest.mark.parametrize("qtype", TYPES)
def test_values_are_the_ones_ggml_wrote(qtype, qwen3vl_fixtures):
    expected = np.load(qwen3vl_fixtures / "quant-types" / "expected.npz")
    tensors = gguf.GGUFReader(qwen3vl_fixtures / "quant-types" / "quant-types.gguf").tensors
    (tensor,) = [tensor for tensor in tensors if tensor.tensor_type.name == qtype]
    raw = torch.from_numpy(np.array(tensor.data)).view(torch.uint8)
    assert_same_bits(dequantize(raw, qtype), expected[qtype])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("qtype", ["Q8_0", "Q4_K", "Q6_K", "BF16", "F16"])
def test_other_dtypes_are_the_float32_value_cast(qtype, dtype):
    raw = random_blocks(qtype, 3, 4, seed=5)
    wanted = torch.from_numpy(by_gguf(raw, qtype)).to(dtype)
    assert torch.equal(dequantize(raw, qtype, dtype).nan_to_num(7), wanted.nan_to_num(7))


def test_leading_dimensions_are_kept():
    raw = random_blocks("Q5_K", 6, 2, seed=1).view(2, 3, -1)
    assert dequantize(raw, "Q5_K").shape == (2, 3, 512)


@pytest.mark.parametrize("rows, columns", [(0, 256), (2, 0)])
def test_nothing_gives_nothing(rows, columns):
    assert dequantize(torch.empty(rows, columns // 256 * 144, dtype=torch.uint8), "Q4_K").shape == (rows, columns)


@pytest.mark.parametrize(
    "blocks, qtype, message",
    [
        (torch.zeros(2, 144, dtype=torch.uint8), "Q4_X", "qtype is 'Q4_X'"),
        (torch.zeros(2, 144, dtype=torch.uint8), "I8", "qtype is 'I8'"),
        (torch.zeros(2, 143, dtype=torch.uint8), "Q4_K", "a row of blocks is 143 bytes; wanted a multiple of 144"),
        (torch.zeros(2, 144), "Q4_K", "blocks is torch.float32"),
        (torch.zeros(144, 288, dtype=torch.uint8).T[:, :144], "Q4_K", "not contiguous"),
        (torch.zeros(300, dtype=torch.uint8)[1:145], "Q4_K", "starts 1 bytes into its storage"),
        (torch.zeros((), dtype=torch.uint8), "Q4_K", "a row of blocks is 0 bytes"),
    ],
)
def test_bad_input_is_one_sentence(blocks, qtype, message):
    with pytest.raises(ValueError, match="^dequantize: ") as error:
        dequantize(blocks, qtype)
    assert message in str(error.value)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
