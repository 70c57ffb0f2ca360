"""delta_step against the definition, row by row in float64: native on every instruction set, and the eager twin."""

import pytest
import torch
from codeclens.kernels import delta_step, native
from hypothesis import given, settings
from hypothesis import strategies as st
from support.native import instruction_sets, on_processor


@pytest.fixture(scope="module", params=["0", *instruction_sets()], autouse=True)
def instructions(request):
    """No native code, or one of the instruction sets, in force for ops on the processor."""
    with on_processor(native.Processor(request.param)):
        yield request.param


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 20), st.integers(1, 150), st.integers(0, 100))
def test_a_row_follows_the_definition(heads, keys, values, seed):
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.randn(2, heads, keys, generator=generator)
    value = torch.randn(heads, values, generator=generator)
    decay, strength = -torch.rand(heads, generator=generator), torch.rand(heads, generator=generator)
    state = torch.randn(heads, keys, values, generator=generator)
    before = state.clone()
    output, after = delta_step(query, key, value, decay, strength, state)
    assert torch.equal(state, before)
    for head in range(heads):
        faded = state[head].double() * decay[head].double().exp()
        error = strength[head].double() * (value[head].double() - faded.T @ key[head].double())
        wanted = faded + torch.outer(key[head].double(), error)
        torch.testing.assert_close(after[head].double(), wanted, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(output[head].double(), wanted.T @ query[head].double(), rtol=1e-4, atol=1e-4)


ROW = {
    "query": torch.zeros(2, 3), "key": torch.zeros(2, 3), "value": torch.zeros(2, 4), "decay": torch.zeros(2),
    "strength": torch.zeros(2), "state": torch.zeros(2, 3, 4),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": torch.zeros(2, 3)}, "state is (2, 3); wanted [H, K, V]"),
        ({"key": torch.zeros(2, 4)}, "key is (2, 4); wanted (2, 3)"),
        ({"value": torch.zeros(2, 3)}, "value is (2, 3); wanted (2, 4)"),
        ({"strength": torch.zeros(3)}, "strength is (3,); wanted (2,)"),
        ({"decay": torch.zeros(2).half()}, "decay is torch.float16"),
        ({"query": torch.zeros(2, 3, device="meta")}, "query is torch.float32 on meta"),
    ],
)
def test_bad_input_is_one_sentence(change, message):
    with pytest.raises(ValueError, match="^delta_step: ") as error:
        delta_step(**ROW | change)
    assert message in str(error.value) and str(error.value).endswith(".")
