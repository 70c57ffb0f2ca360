"""The language model against the reference and llama.cpp, in one piece and in chunks."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from codeclens.models.qwen import load_qwen3vl, load_text
from codeclens.models.qwen import text as text_module
from codeclens.models.qwen.attention import attention
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.rope import frequencies, mrope_angles
from codeclens.models.qwen.trace import trace
from hypothesis import given, settings
from hypothesis import strategies as st
from support.deviation import divergence, error
from support.gguf_files import TINY, write_text

SCENARIOS = ("text", "image", "video", "mixed")


@pytest.fixture(scope="module")
def models(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    return {name: load_qwen3vl(folder / f"tiny-tied-{name}.gguf") for name in ("F16", "Q8_0", "Q4_K_M")}


@pytest.fixture(scope="module")
def references(qwen3vl_fixtures):
    return {name: dict(np.load(qwen3vl_fixtures / "tiny-tied" / f"ref-{name}.npz")) for name in SCENARIOS}


@pytest.fixture(scope="module")
def quantised(qwen3vl_fixtures):
    return dict(np.load(qwen3vl_fixtures / "tiny-tied" / "ref-quants.npz"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load_text(read_gguf(write_text(tmp_path_factory.mktemp("text") / "model.gguf", TINY)))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_traced_tensor_and_logit_equals_the_reference(models, references, scenario):
    reference = references[scenario]
    found = trace(models["F16"], reference)
    names = {name for name in reference if name.startswith(("vis_", "txt_")) or name in ("logits", "position_ids")}
    assert set(found) == names
    for name, states in found.items():
        assert error(states.double(), reference[name]) < 1e-5, name


@pytest.mark.parametrize("scenario", ["text", "image", "video"])
@pytest.mark.parametrize("types", ["F16", "Q8_0", "Q4_K_M"])
def test_quantised_weights_equal_dequantised_ones(models, references, quantised, types, scenario):
    logits = trace(models[types], references[scenario])["logits"][-8:]
    assert error(logits, quantised[f"{types}/{scenario}/torch_fp32"]) < 1e-5
    assert divergence(quantised[f"{types}/{scenario}/llama_cpp"], logits) < (1e-5 if types == "F16" else 6e-3)


def test_ids_alone_are_enough(models, references):
    """Positions and the rows of pictures follow from the ids."""
    reference = references["mixed"]
    given_less = {name: reference[name] for name in reference if name not in ("position_ids", "mm_token_type_ids")}
    found = trace(models["F16"], given_less)
    assert error(found["logits"], reference["logits"]) < 1e-5


def prepared(model, reference):
    """Embeddings with the reference's pictures in place, positions, DeepStack features and their rows."""
    ids = torch.from_numpy(reference["input_ids"][0])
    rows = torch.from_numpy(np.flatnonzero(reference["mm_token_type_ids"][0]))
    embeds, deepstack = model.embed(ids), None
    if len(rows):
        embeds = embeds.index_copy(0, rows, torch.from_numpy(reference["vis_merger"]).to(embeds.dtype))
        deepstack = [torch.from_numpy(reference[f"vis_deepstack_{i}"]) for i in range(3)]
    return embeds, torch.from_numpy(reference["position_ids"]), deepstack, rows


@pytest.mark.parametrize("scenario", ["text", "mixed"])
@pytest.mark.parametrize("chunk", [1, 7, 32, 1000])
def test_chunks_through_the_cache_give_the_same_logits(models, references, scenario, chunk):
    model, reference = models["F16"].text, references[scenario]
    embeds, positions, deepstack, rows = prepared(model, reference)
    cache, logits = Cache(model.config.layers), []
    for start in range(0, len(embeds), chunk):
        stop = min(start + chunk, len(embeds))
        inside = (rows >= start) & (rows < stop)
        part = [features[inside] for features in deepstack] if deepstack else None
        hidden = model(embeds[start:stop], positions[:, start:stop], cache, part, rows[inside] - start)
        assert cache.length == stop
        logits.append(model.logits(hidden))
    assert error(torch.cat(logits), reference["logits"]) < 1e-5


def dense_attention(query, key, value, causal):
    """Softmax attention with the whole mask, in float64."""
    groups, queries, keys = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
    key, value = (states.double().repeat_interleave(groups, dim=1) for states in (key, value))
    scores = query.double() @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    if causal:
        hidden = torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries + 1)
        scores = scores.masked_fill(hidden, -torch.inf)
    return scores.softmax(-1) @ value


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 2), st.integers(1, 3), st.integers(1, 3), st.integers(1, 40), st.integers(0, 40), st.booleans(),
    st.sampled_from([1.0, 30.0]),
)  # fmt: skip
def test_attention_equals_the_dense_definition(batch, kv_heads, groups, count, stored, causal, scale):
    generator = torch.Generator().manual_seed(count * 41 + stored)
    query = scale * torch.randn(batch, kv_heads * groups, count, 16, generator=generator)
    key, value = torch.randn(2, batch, kv_heads, count + stored, 16, generator=generator)
    found = attention(query, key, value, causal=causal)
    # float32 scores are off by their size, and with them the weights: by up to 3.4e-5 at scale 30, on any CPU.
    expected = dense_attention(query, key, value, causal)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=4e-6 * scale)


def test_gradients_flow_through_a_chunk_after_a_prefix():
    """The fused kernels' log-sum-exp has no gradient, so training takes the definition."""
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 5, 16, generator=generator).requires_grad_()
    key, value = (torch.randn(1, 2, 12, 16, generator=generator).requires_grad_() for _ in range(2))
    found = torch.autograd.grad(attention(query, key, value, True).square().sum(), (query, key, value))
    expected = torch.autograd.grad(dense_attention(query, key, value, True).square().sum(), (query, key, value))
    for ours, dense in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, dense, rtol=1e-4, atol=1e-5)


def test_half_precision_chunks_stay_close():
    query, (key, value) = torch.randn(1, 4, 9, 64), torch.randn(2, 1, 2, 40, 64)
    halves = [states.bfloat16() for states in (query, key, value)]
    found = attention(*halves, causal=True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), dense_attention(*halves, True), rtol=0.03, atol=0.03)


def test_no_mask_is_built_in_prefill(small, monkeypatch):
    """Neither for a whole prompt nor for a chunk after a prefix."""
    attend = F.scaled_dot_product_attention

    def without_mask(query, key, value, attn_mask=None, **options):
        assert attn_mask is None
        return attend(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", without_mask)
    cache = Cache(TINY.layers)
    ids = torch.arange(24)
    whole = small(small.embed(ids), ids.expand(3, -1))
    parts = [small(small.embed(ids[at : at + 8]), ids[at : at + 8].expand(3, -1), cache) for at in (0, 8, 16)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-4)


def test_memory_of_a_long_chunk_is_linear(small):
    """8192 tokens after 8192: a mask or score matrix would be 256 MB per head, the states are 8 MB."""
    from torch.profiler import ProfilerActivity, profile

    query = torch.randn(1, 1, 8192, 16)
    key, value = torch.randn(2, 1, 1, 16384, 16)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as watched:
        attention(query, key, value, causal=True)
    largest = max(event.cpu_memory_usage for event in watched.events())
    assert 0 < largest < 16 << 20


def test_bfloat16_states_stay_close(qwen3vl_fixtures, references):
    model = load_qwen3vl(qwen3vl_fixtures / "tiny-tied" / "tiny-tied-F16.gguf", dtype=torch.bfloat16)
    reference = references["video"]
    embeds, positions, deepstack, rows = prepared(model.text, reference)
    assert model.text.embed(torch.tensor([1])).dtype == torch.bfloat16
    logits = model.text.logits(model.text(embeds.bfloat16(), positions, None, deepstack, rows))
    assert logits.dtype == torch.bfloat16
    assert divergence(reference["logits"], logits) < 0.02


def chunked_mrope(positions, base, head_dim, sections, scaling):
    """Qwen2-VL's layout: the first frequencies turn with time, the next with height, the last with width."""
    angles = positions[..., None].float() * frequencies(base, head_dim)
    axis = torch.repeat_interleave(torch.arange(3), torch.tensor(sections))
    return angles.gather(0, axis.expand(1, *angles.shape[1:])).squeeze(0)


def scenarios_that_reveal(run, references) -> set[str]:
    """The scenarios whose logits ``run(reference)`` gets wrong by more than rounding."""
    return {name for name in SCENARIOS if error(run(references[name]), references[name]["logits"]) > 5e-5}


SEEING = {"image", "video", "mixed"}


@pytest.mark.parametrize(
    ("angles", "revealed_by"),
    [
        (chunked_mrope, SEEING),
        (lambda positions, *rest: mrope_angles(positions[:1].expand(3, -1), *rest), SEEING),
        (lambda positions, *rest: mrope_angles(torch.arange(positions.shape[1]).expand(3, -1), *rest), SEEING),
        (lambda positions, *rest: mrope_angles(positions[[0, 2, 1]], *rest), SEEING),
        (lambda positions, base, *rest: mrope_angles(positions, base / 10, *rest), set(SCENARIOS)),
    ],
    ids=["chunked", "time alone", "one-dimensional", "height and width swapped", "base"],
)
def test_what_reveals_wrong_positions(models, references, monkeypatch, angles, revealed_by):
    """Text alone cannot tell the layouts of M-RoPE apart: its three positions are equal."""
    monkeypatch.setattr(text_module, "mrope_angles", angles)
    assert scenarios_that_reveal(lambda r: trace(models["F16"], r)["logits"], references) == revealed_by


def with_deepstack(change):
    def run(model, reference):
        embeds, positions, deepstack, rows = prepared(model, reference)
        return model.logits(model(embeds, positions, None, *change(deepstack, rows)))

    return run


@pytest.mark.parametrize(
    "change",
    [
        lambda deepstack, rows: (None, None),
        lambda deepstack, rows: (deepstack and deepstack[::-1], rows),
        lambda deepstack, rows: (deepstack and deepstack[:2], rows),
        lambda deepstack, rows: (deepstack, rows - 1),
        lambda deepstack, rows: (deepstack and [torch.zeros_like(deepstack[0]), *deepstack], rows),
    ],
    ids=["none", "reversed", "one missing", "one row early", "one layer late"],
)
def test_what_reveals_wrong_deepstack(models, references, change):
    model = models["F16"].text
    assert scenarios_that_reveal(lambda r: with_deepstack(change)(model, r), references) == SEEING
    right = with_deepstack(lambda deepstack, rows: (deepstack, rows))
    assert scenarios_that_reveal(lambda r: right(model, r), references) == set()


def test_what_reveals_a_missing_query_key_norm(models, references):
    wrong = copy.deepcopy(models["F16"])
    for layer in wrong.text.layers:
        layer.attention.query_norm = torch.nn.Identity()
    assert scenarios_that_reveal(lambda r: trace(wrong, r)["logits"], references) == set(SCENARIOS)


def test_attention_can_be_replaced(tmp_path):
    path = write_text(tmp_path / "model.gguf", TINY)
    calls = []

    def hosts(query, key, value, causal):
        calls.append(causal)
        return dense_attention(query, key, value, causal).to(query.dtype)

    ids = torch.arange(9)
    ours, other = load_text(read_gguf(path)), load_text(read_gguf(path), attend=hosts)
    found, expected = (model.logits(model(model.embed(ids), ids.expand(3, -1))) for model in (other, ours))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert calls == [True] * TINY.layers
