"""One row through a decoder layer in native calls, against the layer's modules in torch."""

import statistics
from types import SimpleNamespace

import pytest
import torch
from codeclens.kernels import native
from codeclens.kernels.eager.blocks import PLAIN
from codeclens.models.qwen import load_qwen3vl, load_text, one_row
from codeclens.models.qwen.blocks import DecoderLayer, FeedForward
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.operations import GGUFOperations
from codeclens.models.qwen.qwen3vl.layers import SelfAttention
from codeclens.models.qwen.qwen35.layers import CausalConvolution, DecayRate, GatedAttention, GatedDeltaNet
from hypothesis import given, settings
from hypothesis import strategies as st
from support.blocks import quantized_weight
from support.gguf_files import TINY_HYBRID, write_text
from support.native import instruction_sets, on_processor

TIED = "tiny-tied/tiny-tied-Q4_K_M.gguf"

FLIPPED = {torch.float32: 2e-3, torch.float16: 5e-2, torch.bfloat16: 6e-2}
"""How far a row may move, relative to its norm. A code of an activation at the edge between two steps may fall to
either side: in float32 such a row is 1e-4 to 1e-3 off, others 1e-7; two bytes are also rounded between modules."""

ROUNDING = 0.08
"""How far logits move, relative to their norm, where activations fall to other codes: 0.03 to 0.05 here."""


@pytest.fixture(scope="module", params=instruction_sets())
def instructions(request):
    """One of the instruction sets, in force for ops on the processor."""
    with on_processor(native.Processor(request.param)):
        yield request.param


def widths(**sizes) -> SimpleNamespace:
    """What a layer asks of its configuration."""
    return SimpleNamespace(hidden_size=256, intermediate_size=256, rms_epsilon=1e-6, **sizes)


def random_layer(mixer: type, sizes: SimpleNamespace, types: list[str], seed: int) -> DecoderLayer:
    layer = DecoderLayer(mixer, FeedForward, sizes, 0, one_row_attend, GGUFOperations, "meta", torch.float32)
    torch.manual_seed(seed)
    for index, module in enumerate(layer.modules()):
        if isinstance(module, GGUFOperations.Linear):
            module.weight_type, module.int8 = types[index % len(types)], True
            module.weight = parameter(random_weight(module, seed + index))
        elif isinstance(module, GGUFOperations.RMSNorm):
            module.weight = parameter(0.5 + torch.rand(module.weight.shape))
        elif isinstance(module, DecayRate):
            module.weight = parameter(-torch.rand(module.weight.shape).mul(4).exp())
            module.bias = parameter(torch.randn(module.bias.shape) * 3)
        elif isinstance(module, CausalConvolution):
            module.weight = parameter(torch.randn(module.weight.shape))
    return layer


def random_weight(linear: GGUFOperations.Linear, seed: int) -> torch.Tensor:
    if linear.weight_type in PLAIN:
        return torch.randn(linear.out_features, linear.in_features).mul(0.1).to(PLAIN[linear.weight_type])
    return quantized_weight(linear.weight_type, linear.out_features, linear.in_features, seed)


def parameter(values: torch.Tensor) -> torch.nn.Parameter:
    return torch.nn.Parameter(values, requires_grad=False)


def one_row_attend(query, key, value, causal):
    """Attention by its definition."""
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).mT * query.shape[-1] ** -0.5
    return scores.softmax(-1) @ value.repeat_interleave(groups, 1)


types_of_blocks = st.lists(st.sampled_from(["Q4_K", "Q6_K", "Q8_0", "Q5_0", "IQ4_XS"]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=20)
@given(
    mixer=st.sampled_from([SelfAttention, GatedAttention]),
    kv_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    head_dim=st.sampled_from([32, 64, 128]),
    turned=st.sampled_from([16, 32]),
    types=types_of_blocks,
    before=st.integers(0, 40),
    seed=st.integers(0, 2**20),
)
def test_attention_agrees_with_the_modules(
    instructions, mixer, kv_heads, groups, head_dim, turned, types, before, seed
):
    sizes = widths(heads=kv_heads * groups, kv_heads=kv_heads, head_dim=head_dim)
    if sizes.heads * head_dim % 256:
        types = ["Q8_0"]
    layer = random_layer(mixer, sizes, types, seed)
    states, angles = torch.randn(1, 256), torch.rand(1, turned // 2) * 6
    stored = torch.randn(2, kv_heads, before, head_dim)
    caches = [Cache(1), Cache(1)]
    for cache in caches:
        if before:
            cache.append(0, *stored)
            cache.advance(before)
    found, wanted = attended(layer, states, angles, caches)
    assert_near(found, wanted)
    rows = [cache.reserve(0, torch.empty(kv_heads, 1, head_dim))[:, :, : before + 1] for cache in caches]
    assert_near(*rows)


def attended(layer, states, angles, caches) -> tuple[torch.Tensor, torch.Tensor]:
    """``states`` after the attention of ``layer`` by native code, and by its modules; each with a cache of its own."""
    with torch.no_grad():
        found = one_row.attention_row(layer, states, angles.cos(), angles.sin(), caches[0])
        added = layer.attention(layer.attention_norm(states), angles.cos(), angles.sin(), caches[1])
    return found, states + added


@settings(deadline=None, max_examples=20)
@given(
    key_heads=st.integers(1, 3),
    groups=st.integers(1, 3),
    size=st.sampled_from([8, 24, 32, 40, 64, 128]),
    kernel=st.integers(2, 5),
    grouped=st.booleans(),
    types=types_of_blocks,
    small=st.sampled_from(["Q8_0", "Q4_K", "F32", "F16", "BF16"]),
    dtype=st.sampled_from([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 2**20),
)
def test_a_delta_net_agrees_with_its_modules(
    instructions, key_heads, groups, size, kernel, grouped, types, small, dtype, seed
):
    heads = key_heads * groups * (1 if size % 32 == 0 else 4)
    channels = (2 * key_heads + heads) * size
    sizes = widths(key_heads=key_heads, value_heads=heads, state_size=size, kernel_size=kernel, grouped=grouped)
    layer = random_layer(GatedDeltaNet, sizes, ["Q8_0"] if heads * size % 256 else types, seed)
    for linear in (layer.attention.decay, layer.attention.strength):
        linear.weight_type = small
        linear.weight = parameter(random_weight(linear, seed))
    kept = torch.randn(heads, size, size), torch.randn(kernel - 1, channels).to(dtype)
    before = [part.clone() for part in kept]
    caches = [Cache(1), Cache(1)]
    for cache in caches:
        cache.keep(0, kept)
        cache.advance(8)
    found, wanted = attended(layer, torch.randn(1, 256).to(dtype), torch.zeros(1, 0), caches)
    assert all(torch.equal(*parts) for parts in zip(kept, before, strict=True))
    assert all(cache.state(0) is kept for cache in caches)
    for cache in caches:
        cache.advance(1)
    for result in ((found, wanted), *zip(*(cache.state(0) for cache in caches), strict=True)):
        assert_near(*result, stream=dtype)
    assert torch.equal(caches[0].state(0)[1][:-1], kept[1][1:])


@pytest.mark.parametrize("bias", [-100.0, -30.0, -9.0, -1.0, 0.0, 1.0, 9.0, 30.0, 100.0])
def test_a_state_fades_as_the_rate_says(instructions, bias):
    sizes = widths(key_heads=2, value_heads=4, state_size=16, kernel_size=4, grouped=False)
    layer = random_layer(GatedDeltaNet, sizes, ["Q8_0"], 0)
    net = layer.attention
    for linear in (net.query_key_value, net.decay):
        linear.weight = parameter(torch.zeros_like(linear.weight))
    net.rate.weight, net.rate.bias = (
        parameter(torch.tensor([-0.01, -0.3, -2.0, -8.0])),
        parameter(torch.full((4,), bias)),
    )
    state, cache = torch.randn(4, 16, 16), Cache(1)
    cache.keep(0, (state, torch.zeros(3, 128)))
    cache.advance(1)
    with torch.no_grad():
        one_row.attention_row(layer, torch.randn(1, 256), torch.zeros(1, 0), torch.zeros(1, 0), cache)
    cache.advance(1)
    fade = (net.rate.weight.double() * torch.nn.functional.softplus(net.rate.bias.double())).exp()
    expected = state * fade[:, None, None]
    torch.testing.assert_close(cache.state(0)[0].double(), expected, rtol=2e-6, atol=1e-9)


@settings(deadline=None, max_examples=20)
@given(types=types_of_blocks, inner=st.integers(1, 3), seed=st.integers(0, 2**20))
def test_the_feed_forward_part_agrees_with_its_modules(instructions, types, inner, seed):
    sizes = widths(heads=1, kv_heads=1, head_dim=256)
    sizes.intermediate_size = 256 * inner
    layer = random_layer(SelfAttention, sizes, types, seed)
    states = torch.randn(1, 256)
    with torch.no_grad():
        found = one_row.feed_forward_row(layer, states)
        assert_near(found, states + layer.feed_forward(layer.feed_forward_norm(states)))


def assert_near(found, wanted, stream=torch.float32):
    """Near as rows are, or states made from a row, of the dtype ``stream``."""
    assert found.dtype == wanted.dtype
    assert deviation(found, wanted) <= FLIPPED[stream]


def deviation(found, wanted) -> float:
    return float((found - wanted).float().norm() / wanted.float().norm().clamp(min=1e-6))


@pytest.mark.parametrize("mixer", [SelfAttention, GatedAttention, GatedDeltaNet])
def test_most_rows_are_those_of_the_modules_in_float32(instructions, mixer):
    found = []
    for seed in range(9):
        sizes = widths(
            heads=4, kv_heads=2, head_dim=64, key_heads=2, value_heads=4, state_size=64, kernel_size=4, grouped=seed % 2
        )
        layer = random_layer(mixer, sizes, ["Q8_0", "Q4_K", "Q6_K"], seed)
        rows, state, caches = (
            torch.randn(2, 2, 20, 64),
            (torch.randn(4, 64, 64), torch.randn(3, 512)),
            [Cache(1), Cache(1)],
        )
        for cache in caches:
            cache.append(0, *rows)
            cache.keep(0, state)
            cache.advance(20)
        found.append(deviation(*attended(layer, torch.randn(1, 256), torch.rand(1, 16) * 6, caches)))
    assert statistics.median(found) < 1e-6


@pytest.fixture(scope="module", params=["qwen3vl", "qwen35"])
def text(request, tmp_path_factory):
    """A language model of each family with 8-bit activations."""
    if request.param == "qwen3vl":
        model = load_text(read_gguf(request.getfixturevalue("qwen3vl_fixtures") / TIED))
    else:
        path = write_text(tmp_path_factory.mktemp("hybrid") / "model.gguf", TINY_HYBRID, "Q8_0")
        model = load_text(read_gguf(path))
    for module in model.modules():
        if isinstance(module, GGUFOperations.Linear):
            module.int8 = True
    return model


def written(text, monkeypatch=None, **cache) -> torch.Tensor:
    """Logits after each of six tokens after forty; with ``monkeypatch`` from the modules."""
    if monkeypatch is not None:
        monkeypatch.setattr(one_row.decoder, "served", lambda states: False)
    context = Context(text, Cache(4, **cache))
    context.read_ids(list(range(10, 50)))
    found = []
    for token in range(100, 106):
        context.read_ids([token])
        found.append(context.logits)
    return torch.stack(found)


def test_written_tokens_are_those_of_the_modules(text, monkeypatch, instructions):
    found = written(text)
    wanted = written(text, monkeypatch)
    assert not torch.equal(found, wanted)
    assert float((found - wanted).norm() / wanted.norm()) < ROUNDING


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_states_of_two_bytes_are_near_those_in_float32(qwen3vl_fixtures, dtype):
    models = [load_qwen3vl(qwen3vl_fixtures / TIED, None, dtype=kind) for kind in (dtype, torch.float32)]
    for model in models:
        model.round_activations()
    found, wanted = (written(model.text) for model in models)
    assert float((found - wanted).norm() / wanted.norm()) < ROUNDING


def test_forks_write_apart(text):
    whole = Context(text, Cache(4))
    whole.read_ids(list(range(10, 30)))
    first, second = whole.fork(), whole.fork()
    first.read_ids([40])
    second.read_ids([41])
    first.read_ids([42])
    alone = Context(text, Cache(4))
    alone.read_ids(list(range(10, 30)))
    for token in (40, 42):
        alone.read_ids([token])
    assert torch.equal(first.logits, alone.logits)


def test_an_interrupted_row_can_be_read_again(text, monkeypatch):
    context = Context(text, Cache(4))
    context.read_ids(list(range(10, 30)))
    expected = context.fork()
    expected.read_ids([40])

    def interrupted(*arguments):
        run(*arguments)
        raise KeyboardInterrupt

    run = one_row.decoder.decoder_row
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(one_row.decoder, "decoder_row", interrupted)
        context.read_ids([41])
    context.read_ids([40])
    assert context.cache.length == 21 and torch.equal(context.logits, expected.logits)


def test_hooks_int8_caches_gradients_and_exact_products_get_the_modules(text, monkeypatch):
    calls, run = [], one_row.decoder.decoder_row

    def counted(states, halves, *arguments):
        calls.append("".join("anf"[half[0]] for half in halves))
        return run(states, halves, *arguments)

    monkeypatch.setattr(one_row.decoder, "decoder_row", counted)
    mixers = "".join("n" if isinstance(layer.attention, GatedDeltaNet) else "a" for layer in text.layers)
    whole = written(text)
    assert calls == ["".join(mixer + "f" for mixer in mixers)] * 6
    calls.clear()
    written(text, int8=True)
    assert "".join(calls) == "".join(mixer.strip("a") + "f" for mixer in mixers) * 6
    calls.clear()
    first = text.layers[0]
    for module in (first.feed_forward.up, first.attention, first.attention_norm):
        hook = module.register_forward_hook(lambda *arguments: None)
        in_steps = written(text)
        hook.remove()
        assert len(calls) == 6 * (2 * len(mixers) - 1)
        assert float((whole - in_steps).norm() / whole.norm()) < ROUNDING
        calls.clear()
    states = torch.zeros(1, text.config.hidden_size)
    with torch.enable_grad():
        assert one_row.feed_forward_row(first, states) is None
    monkeypatch.setattr(first.feed_forward.down, "int8", False)
    with torch.no_grad():
        assert one_row.feed_forward_row(first, states) is None
    assert not calls


def test_shapes_and_types_without_native_code_get_the_modules():
    sizes = widths(key_heads=2, value_heads=4, state_size=16, kernel_size=4, grouped=False)
    layer = random_layer(GatedDeltaNet, sizes, ["Q8_0"], 0)
    states, angle = torch.zeros(1, 256), torch.zeros(1, 0)
    kept = torch.zeros(4, 16, 16), torch.zeros(3, 128)

    def row(*kept):
        cache = Cache(1)
        if kept:
            cache.keep(0, kept)
            cache.advance(1)
        return one_row.attention_row(layer, states, angle, angle, cache)

    with torch.no_grad():
        assert row(*kept) is not None
        assert row() is None  # before the first row
        assert row(kept[0].half(), kept[1]) is None
        assert row(kept[0].mT, kept[1]) is None
        assert row(kept[0], kept[1].half()) is None
        assert one_row.attention_row(layer, states, angle, angle, None) is None
        layer.attention.decay.weight_type = "IQ2_XXS"
        assert row(*kept) is None
        odd = widths(key_heads=4, value_heads=8, state_size=12, kernel_size=4, grouped=False)
        layer = random_layer(GatedDeltaNet, odd, ["Q8_0"], 0)
        assert row(torch.zeros(8, 12, 12), torch.zeros(3, 192)) is None
