"""One row through a decoder layer in native calls, against the layer's modules in torch."""

import pytest
import torch
from codeclens.kernels import native
from codeclens.models.qwen import load_qwen3vl, one_row
from codeclens.models.qwen.blocks import DecoderLayer, FeedForward
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.operations import GGUFOperations
from codeclens.models.qwen.qwen3vl.layers import SelfAttention
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import quantized_weight
from support.native import instruction_sets, on_processor

ROUNDING = 0.08
"""How far logits move, relative to their norm, where activations fall to other codes: 0.03 to 0.05 here."""


@pytest.fixture(scope="module", params=instruction_sets())
def instructions(request):
    """One of the instruction sets, in force for ops on the processor."""
    with on_processor(native.Processor(request.param)):
        yield request.param


class Widths:
    """What a layer asks of its configuration."""

    rms_epsilon = 1e-6

    def __init__(self, hidden_size, intermediate_size, heads, kv_heads, head_dim):
        self.hidden_size, self.intermediate_size = hidden_size, intermediate_size
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim


def random_layer(widths: Widths, types: list[str], seed: int) -> DecoderLayer:
    layer = DecoderLayer(SelfAttention, FeedForward, widths, 0, one_row_attend, GGUFOperations, "meta", torch.float32)
    torch.manual_seed(seed)
    for index, module in enumerate(layer.modules()):
        if isinstance(module, GGUFOperations.Linear):
            module.weight_type, module.int8 = types[index % len(types)], True
            blocks = quantized_weight(module.weight_type, module.out_features, module.in_features, seed + index)
            module.weight = torch.nn.Parameter(blocks, requires_grad=False)
        elif isinstance(module, GGUFOperations.RMSNorm):
            module.weight = torch.nn.Parameter(0.5 + torch.rand(module.weight.shape), requires_grad=False)
    return layer


def one_row_attend(query, key, value, causal):
    """Attention by its definition."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ value.repeat_interleave(groups, 1)


@settings(deadline=None, max_examples=20)
@given(
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([32, 64, 128]),
    inner=st.integers(1, 3),
    types=st.lists(st.sampled_from(["Q4_K", "Q6_K", "Q8_0", "Q5_0", "IQ4_XS"]), min_size=1, max_size=4),
    before=st.integers(0, 40),
    seed=st.integers(0, 2**20),
)
def test_both_halves_agree_with_the_modules(instructions, kv_heads, groups, head_dim, inner, types, before, seed):
    widths = Widths(256, 256 * inner, kv_heads * groups, kv_heads, head_dim)
    if widths.heads * head_dim % 256:
        types = ["Q8_0"]
    layer = random_layer(widths, types, seed)
    states, angles = torch.randn(1, 256), torch.rand(1, head_dim // 2) * 6
    stored = torch.randn(2, kv_heads, before, head_dim)
    with torch.no_grad():
        caches = [Cache(1), Cache(1)]
        for cache in caches:
            if before:
                cache.append(0, *stored)
                cache.advance(before)
        found = one_row.attention_row(layer, states, angles.cos(), angles.sin(), caches[0])
        wanted = states + layer.attention(layer.attention_norm(states), angles.cos(), angles.sin(), caches[1])
        assert_near(found, wanted)
        rows = [cache.reserve(0, torch.empty(kv_heads, 1, head_dim))[:, :, : before + 1] for cache in caches]
        assert_near(*rows)
        assert_near(
            one_row.feed_forward_row(layer, wanted), wanted + layer.feed_forward(layer.feed_forward_norm(wanted))
        )


def assert_near(found, wanted):
    # A code of an activation at the edge between two steps may fall to either side.
    assert float((found - wanted).norm()) <= 2e-3 * float(wanted.norm()) + 1e-6


@pytest.fixture(scope="module")
def model(qwen3vl_fixtures):
    found = load_qwen3vl(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-Q4_K_M.gguf", None)
    found.round_activations()
    return found


def written(model, monkeypatch=None, **cache) -> torch.Tensor:
    """Logits after each of six tokens after forty; with ``monkeypatch`` from the modules."""
    if monkeypatch is not None:
        monkeypatch.setattr(one_row.decoder, "served", lambda states: False)
    context = Context(model.text, Cache(4, **cache))
    context.read_ids(list(range(10, 50)))
    found = []
    for token in range(100, 106):
        context.read_ids([token])
        found.append(context.logits)
    return torch.stack(found)


def test_written_tokens_are_those_of_the_modules(model, monkeypatch, instructions):
    found = written(model)
    wanted = written(model, monkeypatch)
    assert not torch.equal(found, wanted)
    assert float((found - wanted).norm() / wanted.norm()) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_of_two_bytes_are_near_those_in_float32(model, qwen3vl_fixtures, dtype):
    narrow = load_qwen3vl(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-Q4_K_M.gguf", None, dtype=dtype)
    narrow.round_activations()
    found, wanted = written(narrow), written(model)
    assert float((found - wanted).norm() / wanted.norm()) < ROUNDING


def test_forks_write_apart(model):
    whole = Context(model.text, Cache(4))
    whole.read_ids(list(range(10, 30)))
    first, second = whole.fork(), whole.fork()
    first.read_ids([40])
    second.read_ids([41])
    first.read_ids([42])
    alone = Context(model.text, Cache(4))
    alone.read_ids(list(range(10, 30)))
    for token in (40, 42):
        alone.read_ids([token])
    assert torch.equal(first.logits, alone.logits)


def test_hooks_int8_caches_gradients_and_exact_products_get_the_modules(model, monkeypatch):
    calls, run = [], one_row.decoder.decoder_row

    def counted(states, layers, *arguments):
        calls.append(tuple(sum(half is not None for half in halves) for halves in zip(*layers, strict=True)))
        return run(states, layers, *arguments)

    monkeypatch.setattr(one_row.decoder, "decoder_row", counted)
    layers = len(model.text.layers)
    whole = written(model)
    assert calls == [(layers, layers)] * 6
    calls.clear()
    written(model, int8=True)
    assert calls == [(0, 1)] * 6 * layers
    calls.clear()
    hook = model.text.layers[1].feed_forward.up.register_forward_hook(lambda *arguments: None)
    in_steps = written(model)
    hook.remove()
    assert len(calls) == 6 * (2 * layers - 1)
    assert float((whole - in_steps).norm() / whole.norm()) < ROUNDING
    calls.clear()
    states = torch.zeros(1, model.config.text.hidden_size)
    with torch.enable_grad():
        assert one_row.feed_forward_row(model.text.layers[0], states) is None
    monkeypatch.setattr(model.text.layers[0].feed_forward.down, "int8", False)
    with torch.no_grad():
        assert one_row.feed_forward_row(model.text.layers[0], states) is None
    assert not calls
