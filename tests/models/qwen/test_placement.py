"""Packing on the CPU, placing on a GPU, and what both say they take."""

import accelerate
import numpy as np
import pytest
import torch
from codeclens.kernels import dequantize
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.head import EXACT, quick_head
from codeclens.models.qwen.operations import GGUFOperations
from codeclens.models.qwen.placement import cache_bytes, load_placed, place, reading_bytes, seeing_bytes
from support.gguf_files import random_blocks


@pytest.fixture(scope="module")
def pair(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    return folder / "tiny-tied-Q4_K_M.gguf", folder / "mmproj-tiny-tied-F16.gguf"


def logits(model, ids=(5, 6, 7, 8)) -> torch.Tensor:
    context = Context(model.text, Cache(4))
    context.read_ids(list(ids))
    return context.logits


def test_packed_weights_keep_the_distribution(pair):
    """KL of the next token after packing and bfloat16: the error of the quick path, below llama.cpp's own 6e-3."""
    exact, quick = (
        logits(model, range(10, 60)).log_softmax(0) for model in (load_qwen3vl(*pair), load_placed(*pair, "cpu"))
    )
    assert float((exact.exp() * (exact - quick)).sum()) < 6e-3


def test_packing_and_unpacking_leave_the_file_as_it_is(pair):
    model = load_qwen3vl(*pair)
    before = logits(model)
    model.pack()
    assert all(layer.packed is not None for layer in model.linear_layers())
    model.unpack()
    assert torch.equal(logits(model), before)


@pytest.fixture(scope="module")
def head():
    layer = GGUFOperations.Linear(512, 64 * EXACT, bias=False)
    blocks = torch.from_numpy(random_blocks("Q6_K", 64 * EXACT, 512, np.random.default_rng(0)))
    layer.weight, layer.weight_type = torch.nn.Parameter(blocks, requires_grad=False), "Q6_K"
    return layer


def test_a_quick_head_is_exact_where_sampling_looks(head):
    quick = quick_head(head)
    if quick is None:
        pytest.skip("this torch has no 8-bit product")
    states = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    exact = states @ dequantize(head.weight, "Q6_K").T
    got = quick(states)
    for row, expected in zip(got, exact, strict=True):
        best = expected.topk(64).indices
        assert torch.equal(row.topk(64).indices, best)
        torch.testing.assert_close(row[best], expected[best], atol=1e-5, rtol=1e-5)
        assert float((row - expected).std() / expected.std()) < 0.02


def test_a_head_that_is_small_or_exact_anyway_is_packed_like_any_layer(head):
    small = GGUFOperations.Linear(512, 1024, bias=False)
    small.weight, small.weight_type = torch.nn.Parameter(head.weight[:1024], requires_grad=False), "Q6_K"
    assert quick_head(small) is None
    dense = GGUFOperations.Linear(64, 64 * EXACT, bias=False)
    assert quick_head(dense) is None


def test_offloaded_layers_compute_the_same(pair, monkeypatch):
    """No GPU: the CPU plays one that has room for the tower and a part of the layers; the rest travels by its hooks."""
    whole, spread = load_qwen3vl(*pair), load_qwen3vl(*pair)
    offered = []

    def plan(half, memory, no_split_module_classes):
        offered.append(memory[0])
        assert any(type(module).__name__ in no_split_module_classes for module in half.modules())
        return {name: 0 if half is spread.vision or name == "norm" else "cpu" for name, _ in half.named_children()}

    def dispatch(half, chosen, main_device):
        for name, where in chosen.items():
            if where == "cpu":
                accelerate.cpu_offload(half.get_submodule(name), torch.device("cpu"))

    monkeypatch.setattr(accelerate, "infer_auto_device_map", plan)
    monkeypatch.setattr(accelerate, "dispatch_model", dispatch)
    place(spread, torch.device("cpu"), free_bytes=1 << 30, reserve_tokens=100)
    assert offered[0] - offered[1] == sum(parameter.nbytes for parameter in spread.vision.parameters())
    assert all(parameter.is_meta for parameter in spread.text.layers.parameters())
    assert torch.equal(logits(whole), logits(spread))


def test_memory_estimates_follow_their_parts(pair):
    config = load_qwen3vl(*pair).config
    assert cache_bytes(config.text, 1000, torch.bfloat16) == 1000 * 4 * 2 * 2 * 128 * 2
    cache = Cache(config.text.layers, capacity=1024, int8=True)
    for layer in range(config.text.layers):
        cache.append(layer, torch.zeros(2, 1, 128), torch.zeros(2, 1, 128))
    assert cache.nbytes == cache_bytes(config.text, 1024, torch.bfloat16, int8=True)
    more = reading_bytes(config.text, 9000, torch.bfloat16) - reading_bytes(config.text, 8000, torch.bfloat16)
    assert more == cache_bytes(config.text, 1000, torch.bfloat16) + 1000 * 256 * 4 * 2
    seeing = [seeing_bytes(config.vision, patches, torch.float32) for patches in (1024, 2048, 3072)]
    assert seeing[2] - seeing[1] == seeing[1] - seeing[0] > 1024 * 8 * 3 * 2 * 16 * 16


def test_a_gpu_that_is_not_there_is_named(pair):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(InputError, match="'cuda'"):
        load_placed(*pair, device="cuda")
