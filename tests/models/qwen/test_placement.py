"""Products on the CPU, placing on a GPU, and what both say they take."""

import accelerate
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.placement import (
    cache_bytes,
    compute_dtype,
    load_placed,
    reading_bytes,
    seeing_bytes,
    to_device,
)


@pytest.fixture(scope="module")
def pair(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    return folder / "tiny-tied-Q4_K_M.gguf", folder / "mmproj-tiny-tied-F16.gguf"


def logits(model, ids=(5, 6, 7, 8)) -> torch.Tensor:
    context = Context(model.text, Cache(4))
    context.read_ids(list(ids))
    return context.logits


def test_rounded_activations_keep_the_distribution(pair):
    """Mean KL of the next token with 8-bit activations and quick states: near llama.cpp's own on this file, 4.8e-3."""
    models = load_qwen3vl(*pair), load_placed(*pair, "cpu")
    found = []
    for start in range(10, 410, 50):
        exact, quick = (logits(model, range(start, start + 50)).log_softmax(0) for model in models)
        found.append(float((exact.exp() * (exact - quick)).sum()))
    assert 0 < sum(found) / len(found) < 6e-3


def test_float_products_on_request(pair, monkeypatch):
    monkeypatch.setenv("CODECLENS_EXACT", "1")
    exact = load_qwen3vl(*pair, dtype=compute_dtype("cpu"))
    assert torch.equal(logits(load_placed(*pair, "cpu")), logits(exact))
    monkeypatch.setenv("CODECLENS_EXACT", "0")
    assert not torch.equal(logits(load_placed(*pair, "cpu")), logits(exact))


def test_loading_copies_no_matrix(pair):
    """Weights of two dimensions are views of the mapped files."""
    model = load_placed(*pair, "cpu")
    stored = {tensor.data.data_ptr() for file in model.files for tensor in file.tensors.values()}
    for half in (model.text, model.vision):
        for name, weight in half.named_parameters():
            assert weight.dim() < 2 or name == "patch_embedding.weight" or weight.data_ptr() in stored, name


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
    to_device(spread, torch.device("cpu"), free_bytes=1 << 30, reserve_tokens=100)
    assert offered[0] - offered[1] == spread.text.norm.weight.nbytes
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
