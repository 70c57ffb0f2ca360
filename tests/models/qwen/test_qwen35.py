"""Qwen3.5 against the reference and llama.cpp: logits, layers, states, forks, and what reveals a wrong order."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gguf
import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import default_sampling
from codeclens.models.commands.qwen import run_info
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl, load_text
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.families import read_text_config
from codeclens.models.qwen.generate import GREEDY, Context, generate
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.model_file import ModelFile, StoredTensor
from codeclens.models.qwen.operations import GGUFOperations
from codeclens.models.qwen.placement import cache_bytes, reading_bytes
from codeclens.models.qwen.qwen35 import delta_rule
from codeclens.models.qwen.tokenizer import QWEN2_SPLIT, QWEN35_SPLIT, read_tokenizer
from codeclens.models.qwen.trace import trace
from codeclens.models.qwen.weights import dense
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.deviation import divergence, error
from support.gguf_files import (
    SHAPES,
    TINY_EXPERTS,
    TINY_HYBRID,
    q4_k_m,
    text_metadata,
    text_shapes,
    vision_shapes,
    write_text,
)
from tokenizers import Regex, pre_tokenizers

SCENARIOS = ("text", "image", "video", "mixed")


@pytest.fixture(scope="module")
def models(qwen35_fixtures):
    mmproj = qwen35_fixtures / "mmproj-tiny-hybrid-F16.gguf"
    return {name: load_qwen3vl(qwen35_fixtures / f"tiny-hybrid-{name}.gguf", mmproj) for name in ("F16", "Q8_0")}


@pytest.fixture(scope="module")
def references(qwen35_fixtures):
    return {name: dict(np.load(qwen35_fixtures / f"ref-{name}.npz")) for name in (*SCENARIOS, "long", "quants")}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load_text(read_gguf(write_text(tmp_path_factory.mktemp("hybrid") / "model.gguf", TINY_HYBRID)))


def read(model, ids, cache=None, start=0) -> torch.Tensor:
    """Logits of the tokens ``ids`` at positions from ``start`` on."""
    ids = torch.as_tensor(ids)
    with torch.no_grad():
        positions = torch.arange(start, start + len(ids)).expand(3, -1)
        return model.logits(model(model.embed(ids), positions, cache))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_traced_tensor_and_logit_equals_the_reference(models, references, scenario):
    reference = references[scenario]
    found = trace(models["F16"], reference)
    names = {name for name in reference if name.startswith(("vis_", "txt_")) or name in ("logits", "position_ids")}
    assert names <= set(found)
    for name in names:
        assert error(found[name].double(), reference[name]) < 5e-5, name


@pytest.mark.parametrize("pieces", [[2000], [100] * 20, [64, 1, 511, 1024, 400]], ids=["whole", "hundreds", "uneven"])
def test_a_long_text_in_pieces_equals_the_reference(models, references, pieces):
    reference, model, cache = references["long"], models["F16"].text, Cache(8)
    for piece in torch.as_tensor(reference["input_ids"][0]).split(pieces):
        logits = read(model, piece, cache, cache.length)
    assert float((logits[-8:] - torch.as_tensor(reference["logits_last8"])).abs().max()) < 1e-4


def test_states_after_a_prompt_and_the_logits_of_each_next_token_equal_the_reference(models, references):
    reference, model, cache = references["text"], models["F16"].text, Cache(8)
    logits = read(model, reference["input_ids"][0], cache)[-1:]
    in_file_order = [0, 2, 1, 3]
    for layer in (0, 1, 2, 4, 5, 6):
        state, inputs = cache.state(layer)
        assert state.dtype == torch.float32
        assert error(state, reference[f"state_recurrent_{layer}"][in_file_order]) < 1e-5
        grouped = torch.as_tensor(reference[f"state_conv_{layer}"])[:, 1:]
        values = grouped[256:].view(4, 64, 3)[in_file_order].flatten(0, 1)
        assert error(inputs.T, torch.cat([grouped[:256], values])) < 1e-5
    assert all(cache.state(layer) is None for layer in (3, 7))
    for token, expected in zip(reference["greedy_ids"], reference["greedy_logits"], strict=True):
        assert int(logits.argmax()) == token
        logits = read(model, [int(token)], cache, cache.length)
        assert float((logits[0] - torch.as_tensor(expected)).abs().max()) < 1e-4


@pytest.mark.parametrize("scenario", ["text", "image", "video"])
@pytest.mark.parametrize("types", ["F16", "Q8_0"])
def test_quantised_weights_equal_dequantised_ones(models, references, types, scenario):
    logits = trace(models[types], references[scenario])["logits"][-8:]
    assert error(logits, references["quants"][f"{types}/{scenario}/torch_fp32"]) < 1e-4
    assert divergence(references["quants"][f"{types}/{scenario}/llama_cpp"], logits) < (2e-4 if types == "F16" else 0.1)


def reordered(model, name: str):
    """A copy of ``model`` in which one tensor of every delta net has its value heads in the makers' order."""
    wrong = copy.deepcopy(model)
    heads = torch.tensor([0, 2, 1, 3])
    for layer in wrong.layers:
        if not hasattr(layer.attention, "rate"):
            continue
        module, kind = name.rsplit(".", 1)
        owner = layer.attention.get_submodule(module)
        weight, keys = getattr(owner, kind).detach().clone(), 256 if module in ("query_key_value", "convolution") else 0
        if module == "read_out":
            weight = weight.unflatten(1, (4, 64))[:, heads].flatten(1)
        else:
            values = weight[keys:].unflatten(0, (4, -1))[heads].flatten(0, 1)
            weight = torch.cat([weight[:keys], values])
        setattr(owner, kind, torch.nn.Parameter(weight, requires_grad=False))
    return wrong


EIGHT = (
    "query_key_value.weight", "gate.weight", "decay.weight", "strength.weight", "rate.weight", "rate.bias",
    "convolution.weight", "read_out.weight",
)  # fmt: skip


@pytest.mark.parametrize("name", EIGHT)
def test_what_reveals_a_wrong_order_of_value_heads(models, references, name):
    reference, model = references["text"], models["F16"].text
    assert divergence(reference["logits"], read(model, reference["input_ids"][0])) < 1e-8
    assert divergence(reference["logits"], read(reordered(model, name), reference["input_ids"][0])) > 0.1


def test_the_makers_order_of_value_heads_is_the_same_when_all_eight_tensors_have_it(models, references):
    reference, model = references["text"], models["F16"].text
    for name in EIGHT:
        model = reordered(model, name)
    for layer in model.layers:
        if hasattr(layer.attention, "rate"):
            layer.attention.config = replace(layer.attention.config, grouped=True)
    assert error(read(model, reference["input_ids"][0]), reference["logits"]) < 5e-5


def rows(count: int, heads: int, size: int, values: int, seed: int):
    """Random arguments of the delta rule: keys of unit length, fading slow and fast."""
    generator = torch.Generator().manual_seed(seed)
    query, key = torch.nn.functional.normalize(torch.randn(2, count, heads, size, generator=generator), dim=-1)
    value = torch.randn(count, heads, values, generator=generator)
    decay = -torch.exp(4 * torch.randn(count, heads, generator=generator) - 3)
    strength = torch.rand(count, heads, generator=generator)
    return query, key, value, decay, strength, torch.randn(heads, size, values, generator=generator)


@settings(deadline=None, max_examples=40)
@example(700, 2, 16, 16, 64)
@given(st.integers(1, 150), st.integers(1, 3), st.sampled_from([4, 16]), st.sampled_from([16, 24]), st.integers(1, 64))
def test_chunks_equal_the_recurrence(count, heads, size, values, chunk):
    arguments = rows(count, heads, size, values, count)
    exact = delta_rule.recurrent(*(argument.double() for argument in arguments))
    found = delta_rule.chunked(*arguments, chunk=chunk)
    quick = delta_rule.recurrent(*arguments)
    for result in (found, quick):
        for ours, expected in zip(result, exact, strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_state_that_faded_to_nothing_stays_finite():
    query, key, value, decay, strength, state = rows(130, 2, 8, 8, 0)
    for form in (delta_rule.recurrent, delta_rule.chunked):
        output, after = form(query, key, value, decay - 200, strength, state)
        assert output.isfinite().all() and after.isfinite().all()


def test_the_rule_writes_nothing_in_place():
    arguments = rows(70, 2, 8, 8, 1)
    before = [argument.clone() for argument in arguments]
    for form in (delta_rule.recurrent, delta_rule.chunked):
        form(*arguments)
    assert all(torch.equal(now, then) for now, then in zip(arguments, before, strict=True))


def test_forks_equal_fresh_readings_bit_for_bit(small):
    generator = torch.Generator().manual_seed(0)
    prompt, *questions = (torch.randint(0, 256, (n,), generator=generator) for n in (150, 9, 30, 1))
    video = Cache(TINY_HYBRID.layers)
    read(small, prompt, video)
    for question in (*questions, *questions):
        fresh = Cache(TINY_HYBRID.layers)
        read(small, prompt, fresh)
        expected = read(small, question, fresh, len(prompt))
        assert torch.equal(read(small, question, video.fork(), len(prompt)), expected)


def test_an_interrupted_pass_can_be_read_again(small):
    ids, cache = torch.arange(20), Cache(TINY_HYBRID.layers)
    read(small, ids[:10], cache)
    expected = read(small, ids[10:], cache.fork(), 10)
    hook = small.layers[2].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        read(small, ids[10:], cache, 10)
    hook.remove()
    assert cache.length == 10 and torch.equal(read(small, ids[10:], cache, 10), expected)


def test_pieces_equal_one_pass(small):
    ids = torch.randint(0, 256, (300,), generator=torch.Generator().manual_seed(1))
    whole = read(small, ids)
    for size in (1, 7, 64, 299):
        cache = Cache(TINY_HYBRID.layers)
        logits = torch.cat([read(small, piece, cache, cache.length) for piece in ids.split(size)])
        assert error(logits, whole) < 1e-4


def test_layers_that_draft_tokens_are_counted_and_not_read(models, small):
    assert models["Q8_0"].config.text.draft_layers == 1 and models["F16"].config.text.draft_layers == 0
    assert len(models["Q8_0"].text.layers) == 8
    assert len(small.layers) == 4 and small.config.draft_layers == 1


def test_rows_of_fused_matrices_equal_separate_ones(small, tmp_path):
    fused = load_text(read_gguf(write_text(tmp_path / "fused.gguf", TINY_HYBRID, fused=True)))
    ids = torch.arange(50)
    assert torch.equal(read(fused, ids), read(small, ids))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"qwen35.ssm.time_step_rank": 5}, "whole groups"),
        ({"qwen35.ssm.inner_size": 100}, "fill the channels"),
        ({"qwen35.ssm.state_size": None}, "lacks the metadata key 'qwen35.ssm.state_size'"),
        ({"qwen35.rope.dimension_sections": [6, 5, 4, 0]}, "three that add up to 16"),
        ({"qwen35.attention.recurrent_layers": [True]}, "marks 1 of 4 layers"),
        ({"qwen35.expert_count": 8}, "mixture-of-experts Qwen3.5"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, metadata, message):
    path = write_text(tmp_path / "model.gguf", TINY_HYBRID, metadata=metadata)
    with pytest.raises(InputError, match=message):
        load_text(read_gguf(path))


def test_the_interval_stands_in_for_the_list_of_layers(tmp_path):
    metadata = {"qwen35.attention.recurrent_layers": None}
    config = read_text_config(read_gguf(write_text(tmp_path / "model.gguf", TINY_HYBRID, metadata=metadata)))
    assert config.recurrent == (True, True, True, False)


def test_a_file_of_draft_layers_alone_is_named(tmp_path):
    trunk = tuple(f"blk.{layer}." for layer in range(4))
    without = [name for name, _ in text_shapes(TINY_HYBRID) if name.startswith(trunk)]
    path = write_text(tmp_path / "mtp.gguf", TINY_HYBRID, without=without)
    with pytest.raises(InputError, match="draft several tokens"):
        load_text(read_gguf(path))


def test_words_are_split_as_the_reference_splits_them(qwen35_fixtures):
    stored = json.loads((qwen35_fixtures / "pretokenizer-vectors.json").read_text(encoding="utf-8"))
    for vector in stored["vectors"]:
        for name, pattern in (("qwen35", QWEN35_SPLIT), ("qwen2", QWEN2_SPLIT)):
            pieces = pre_tokenizers.Split(Regex(pattern), behavior="isolated").pre_tokenize_str(vector["text"])
            assert [piece for piece, _ in pieces] == vector[name]


def test_ids_equal_the_makers_tokenizer(qwen35_fixtures):
    from tokenizers import Tokenizer

    ours = read_tokenizer(read_gguf(qwen35_fixtures / "tiny-hybrid-F16.gguf"))
    theirs = Tokenizer.from_file(str(qwen35_fixtures / "tokenizer.json"))
    vectors = json.loads((qwen35_fixtures / "pretokenizer-vectors.json").read_text(encoding="utf-8"))["vectors"]
    for text in [*(vector["text"] for vector in vectors), "<|im_start|>user\nHi<|im_end|>\n<think>\n\n</think>\n\n"]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
    assert ours.thinks


def test_a_bfloat16_model_keeps_float32_states(qwen35_fixtures, references):
    model = load_qwen3vl(qwen35_fixtures / "tiny-hybrid-F16.gguf", None, dtype=torch.bfloat16)
    cache = Cache(8)
    logits = read(model.text, references["text"]["input_ids"][0], cache)
    assert cache.state(0)[0].dtype == torch.float32 and cache.state(0)[1].dtype == torch.bfloat16
    assert model.text.layers[0].attention.rate.weight.dtype == torch.float32
    assert divergence(references["text"]["logits"], logits) < 0.2


def test_greedy_text_is_the_same_after_forks_and_in_one_go(models, references):
    model, ids = models["F16"], references["text"]["input_ids"][0].tolist()
    read_once = Context(model.text, Cache(8))
    read_once.read_ids(ids)
    texts = [generate(read_once.fork(), model.tokenizer.decode, (), GREEDY, 24).ids for _ in range(2)]
    assert texts[0] == texts[1] and texts[0][:16] == tuple(references["text"]["greedy_ids"])


def published(name: str):
    """The configuration of a published size, from metadata and shapes alone."""
    shape = SHAPES[name]
    metadata = {
        key: np.array(value) if isinstance(value, list) else value for key, value in text_metadata(shape).items()
    }
    tensors = {tensor: StoredTensor(tensor, "F32", size, None) for tensor, size in text_shapes(shape)}
    return read_text_config(ModelFile(Path(name), 0, {"general.architecture": shape.architecture, **metadata}, tensors))


@pytest.mark.parametrize(
    ("name", "state", "inputs", "row", "tensors"),
    [
        ("Qwen3.5-0.8B", 18, 1.27, 12, 320), ("Qwen3.5-2B", 18, 1.27, 12, 320), ("Qwen3.5-4B", 48, 2.25, 32, 426),
        ("Qwen3.5-9B", 48, 2.25, 32, 427), ("Qwen3.5-27B", 144, 5.62, 64, 851),
    ],
)  # fmt: skip
def test_published_sizes_keep_what_the_reference_says(name, state, inputs, row, tensors):
    """MiB of states and of convolution inputs at any length, and KiB of keys and values a token in 16 bits."""
    config = published(name)
    assert config.state_bytes / 2**20 == pytest.approx(state + inputs, abs=0.01)
    assert cache_bytes(config, 1000, torch.bfloat16) - config.state_bytes == 1000 * row * 1024
    assert len(list(text_shapes(SHAPES[name]))) == tensors


def q4_k_m_bytes(shape, entries, kind) -> int:
    """Bytes of tensors in the mix of Q4_K_M, or in F16."""
    total = 0
    for name, size in entries:
        stored = "F32" if len(size) == 1 or "conv1d" in name or "position" in name else kind or q4_k_m(name, shape)
        block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[stored]]
        total += math.prod(size) // block * block_bytes
    return total


@pytest.mark.parametrize(("name", "most"), [("Qwen3.5-9B", 7.2e9), ("Qwen3.5-2B", 2.6e9), ("Qwen3.5-35B-A3B", 3.1e9)])
def test_weights_and_a_reading_of_30_seconds_fit_a_small_card(name, most):
    """Computed from shapes, not measured: 9B in Q4_K_M, its tower in F16, and 60 whole frames (15 120 tokens).

    What stays in main memory is left out: the embedding, where it is not the head as well, and experts.
    """
    shape, config = SHAPES[name], published(name)
    on_card = [
        (tensor, size)
        for tensor, size in text_shapes(shape)
        if (shape.tied or tensor != "token_embd.weight") and "_exps." not in tensor
    ]
    weights = q4_k_m_bytes(shape, on_card, "") + q4_k_m_bytes(shape, vision_shapes(shape), "F16")
    assert weights + reading_bytes(config, 16384, torch.bfloat16) < most < 12e9


def test_a_cache_takes_what_was_estimated(small):
    cache = Cache(TINY_HYBRID.layers, capacity=256)
    read(small, torch.arange(30), cache)
    assert cache.nbytes == cache_bytes(small.config, 256, torch.float32)
    more = reading_bytes(small.config, 9000, torch.bfloat16) - reading_bytes(small.config, 8000, torch.bfloat16)
    assert more == 1000 * (2 * 2 * 64 * 2 + 256 * 2)


def test_info_says_what_the_files_are(qwen35_fixtures, capsys):
    run_info(SimpleNamespace(file=str(qwen35_fixtures / "tiny-hybrid-Q8_0.gguf")))
    run_info(SimpleNamespace(file=str(qwen35_fixtures / "mmproj-tiny-hybrid-F16.gguf")))
    said = capsys.readouterr().out
    for line in (
        "text model: Qwen3.5, 8 layers of width 128", "delta nets: 6 of these layers",
        "skipped: 1 layers more, which draft several tokens at once", "a reading keeps: 4 KiB a token, 0.4 MiB at any",
        "thinking on request", "mmproj: mmproj-tiny-hybrid-F16.gguf", "width 128; no DeepStack",
    ):  # fmt: skip
        assert line in said
    assert said.count("loads: yes") == 2


def test_sampling_is_what_the_makers_publish(models):
    model = models["F16"]
    chosen = [default_sampling(model, reasons) for reasons in (False, True)]
    assert [(c.temperature, c.top_p, c.top_k, c.presence_penalty) for c in chosen] == [
        (0.7, 0.8, 20, 1.5), (1.0, 0.95, 20, 1.5),
    ]  # fmt: skip
    text = SimpleNamespace(family="qwen3vl")
    thinking = SimpleNamespace(config=SimpleNamespace(text=text), files=[SimpleNamespace(path=Path("a.gguf"))])
    assert default_sampling(thinking, True).presence_penalty == 0


def test_a_mixture_of_experts_reads_as_it_is_stored(tmp_path, capsys):
    """Blocks against the dense weights, 8-bit activations near both, and a row at a time as all rows at once."""
    path = write_text(tmp_path / "experts.gguf", TINY_EXPERTS, "Q8_0")
    file = read_gguf(path)
    numbers = {n: replace(t, type="F32", data=dense(t), shape=t.shape) for n, t in file.tensors.items()}
    model, exact = load_text(file), load_text(replace(file, tensors=numbers))
    ids = np.random.default_rng(0).integers(0, 250, 40)
    expected = read(exact, ids)
    assert error(read(model, ids), expected) < 1e-5
    cache = Cache(TINY_EXPERTS.layers)
    rows = torch.cat([read(model, ids[at : at + 1], cache, at) for at in range(len(ids))])
    assert error(rows, expected) < 5e-5
    for layer in model.modules():
        layer.int8 = True
    assert divergence(expected, read(model, ids)) < 0.05
    taken = torch.cat([layer.feed_forward.router(torch.randn(64, 256)).topk(3).indices for layer in model.layers])
    assert len(taken.unique()) == TINY_EXPERTS.experts
    run_info(SimpleNamespace(file=str(path)))
    said = capsys.readouterr().out
    assert "3 of 12 experts of 64 and one of 96 for all" in said and "loads: yes" in said


def test_experts_that_stay_give_the_same(tmp_path):
    """As on a card they are too large for: the matrices of the experts asked for travel."""
    model = load_text(read_gguf(write_text(tmp_path / "experts.gguf", TINY_EXPERTS, "Q4_K_M")))
    ids = np.random.default_rng(1).integers(0, 250, 9)
    expected = read(model, ids)
    held = sum(parameter.nbytes for parameter in model.parameters())
    for layer in model.modules():
        if isinstance(layer, GGUFOperations.Experts):
            layer.stay("cpu")
    assert torch.equal(read(model, ids), expected)
    assert sum(parameter.nbytes for parameter in model.parameters()) < 0.6 * held


@pytest.mark.parametrize(("key", "value", "words"), [
    ("expert_used_count", 13, "a whole number from 1 to 12"), ("expert_used_count", 0, "a whole number from 1 to 12"),
    ("expert_feed_forward_length", 48, "where its metadata makes it"), ("expert_count", 11, "makes it"),
    ("expert_group_count", 2, "is not known here"), ("expert_shared_feed_forward_length", None, "lacks the metadata"),
])  # fmt: skip
def test_experts_that_cannot_be_are_refused(tmp_path, key, value, words):
    path = write_text(tmp_path / "experts.gguf", TINY_EXPERTS, metadata={f"qwen35moe.{key}": value})
    with pytest.raises(InputError, match=words):
        load_text(read_gguf(path))


def test_experts_in_a_dense_architecture_are_refused(tmp_path):
    path = write_text(tmp_path / "model.gguf", TINY_HYBRID, metadata={"qwen35.expert_count": 8})
    with pytest.raises(InputError, match="mixture-of-experts"):
        read_text_config(read_gguf(path))
