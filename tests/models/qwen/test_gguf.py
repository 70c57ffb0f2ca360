"""Loading: values, variants of files that must load alike, pairs, and everything that is refused."""

import struct
import time
from dataclasses import replace

import gguf
import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen import config, load_qwen3vl, load_text, load_vision
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import Context, generate
from codeclens.models.qwen.gguf import architecture_of, read_gguf
from codeclens.models.qwen.loading import find_mmproj
from codeclens.models.qwen.weights import dense
from support.gguf_files import (
    SHAPES,
    TINY,
    q4_k_m,
    text_shapes,
    tokenizer_metadata,
    vision_shapes,
    write_mmproj,
    write_pair,
    write_text,
)

UNTIED = replace(TINY, tied=False)


def logits(model, ids=(5, 17, 300, 41)):
    ids = torch.tensor(ids)
    positions = torch.arange(len(ids)).expand(3, -1)
    with torch.no_grad():
        return model.logits(model(model.embed(ids), positions))


def test_every_quant_type_has_ggmls_values_bit_for_bit(qwen3vl_fixtures):
    file = read_gguf(qwen3vl_fixtures / "quant-types" / "quant-types.gguf")
    expected = np.load(qwen3vl_fixtures / "quant-types" / "expected.npz")
    assert {name.removeprefix("t.") for name in file.tensors} == set(expected.files) and len(expected.files) == 24
    for name in expected.files:
        values = dense(file.tensors[f"t.{name}"]).numpy()
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values.view(np.uint32), expected[name].view(np.uint32), err_msg=name)


def test_metadata_equals_the_librarys(qwen3vl_fixtures):
    path = qwen3vl_fixtures / "tiny-tied" / "tiny-tied-Q4_K_M.gguf"
    ours, library = read_gguf(path), gguf.GGUFReader(path)
    fields = {name: field for name, field in library.fields.items() if not name.startswith("GGUF.")}
    assert set(ours.metadata) == set(fields)
    for name, field in fields.items():
        value = ours.metadata[name]
        assert (value.tolist() if isinstance(value, np.ndarray) else value) == field.contents(), name
    assert list(ours.tensors) == [tensor.name for tensor in library.tensors]
    for tensor in library.tensors:
        stored = ours.tensors[tensor.name]
        assert stored.type == tensor.tensor_type.name and stored.shape == tuple(tensor.shape.tolist()[::-1])
        np.testing.assert_array_equal(stored.data.numpy(), tensor.data)


@pytest.mark.parametrize("types", ["F32", "F16", "BF16", "Q8_0", "Q4_K_M", "IQ4_XS", "Q3_K"])
def test_fused_split_and_shuffled_files_are_the_same_model(tmp_path, types):
    plain = load_text(read_gguf(write_text(tmp_path / "plain.gguf", TINY, _even(types))))
    fused = load_text(read_gguf(write_text(tmp_path / "fused.gguf", TINY, _even(types), fused=True)))
    parts = load_text(read_gguf(write_text(tmp_path / "parts.gguf", TINY, _even(types), parts=3)))
    mixed = load_text(read_gguf(write_text(tmp_path / "mixed.gguf", TINY, _even(types), shuffled=True)))
    expected = logits(plain)
    assert expected.std() > 0.1
    for other in (fused, parts, mixed):
        torch.testing.assert_close(logits(other), expected, rtol=0, atol=0)


def _even(types):
    """The recipe with query, key and value of one type, so that they may be fused."""
    return types if types != "Q4_K_M" else lambda name, shape: "Q5_K" if "attn_" in name else q4_k_m(name, shape)


def test_every_part_of_a_split_model_names_all_of_it(tmp_path):
    write_text(tmp_path / "parts.gguf", TINY, parts=3)
    for part in range(1, 4):
        file = read_gguf(tmp_path / f"parts-{part:05d}-of-00003.gguf")
        assert file.architecture == "qwen3vl" and len(file.tensors) == 24
    (tmp_path / "parts-00002-of-00003.gguf").unlink()
    with pytest.raises(InputError, match=r"parts-00002-of-00003\.gguf is not beside it"):
        read_gguf(tmp_path / "parts-00001-of-00003.gguf")


def test_a_first_part_may_hold_metadata_alone(tmp_path):
    names = [name for name, _ in text_shapes(TINY)]
    first = write_text(tmp_path / "m-00001-of-00002.gguf", TINY, without=names, metadata={"split.count": 2})
    write_text(tmp_path / "m-00002-of-00002.gguf", TINY)
    whole = load_text(read_gguf(write_text(tmp_path / "whole.gguf", TINY)))
    torch.testing.assert_close(logits(load_text(read_gguf(first))), logits(whole), rtol=0, atol=0)


def test_parts_of_different_models_are_refused(tmp_path):
    first = write_text(tmp_path / "m-00001-of-00002.gguf", TINY)
    write_text(tmp_path / "m-00002-of-00002.gguf", TINY)
    with pytest.raises(InputError, match="holds tensor 'token_embd.weight' a second time"):
        read_gguf(first)
    write_text(first, TINY, without=["blk.1.attn_k.weight"], metadata={"split.count": 3})
    with pytest.raises(InputError, match="named as 2 parts, but its metadata says split.count = 3"):
        read_gguf(first)
    write_text(tmp_path / "m-00002-of-00002.gguf", TINY, without=[name for name, _ in text_shapes(TINY)])
    write_text(first, TINY, without=["blk.1.attn_k.weight"], metadata={"split.count": 2, "split.tensors.count": 24})
    with pytest.raises(InputError, match="hold 23 tensors where the metadata says 24"):
        read_gguf(first)


def test_rows_that_do_not_fill_blocks_fall_back_to_f16(tmp_path):
    """The 8B tower's MLP of 4304 is no multiple of 32: llama-quantize leaves ffn_down in F16 among Q8_0."""
    file = read_gguf(write_mmproj(tmp_path / "mmproj.gguf", replace(TINY, vision_intermediate=80), "Q8_0"))
    assert {file.tensors[f"v.blk.{layer}.ffn_down.weight"].type for layer in range(3)} == {"F16"}
    assert file.tensors["v.blk.0.ffn_up.weight"].type == "Q8_0"
    patches, grid = torch.randn(8, 1536), torch.tensor([[1, 2, 4]])
    expected = load_vision(file, operations=torch.nn)(patches, grid)[0]
    torch.testing.assert_close(load_vision(file)(patches, grid)[0], expected, rtol=1e-4, atol=1e-5)


def test_the_architecture_is_known_without_reading_on(tmp_path):
    text, tower = write_pair(tmp_path, TINY)
    assert (architecture_of(text), architecture_of(tower)) == ("qwen3vl", "clip")
    data = text.read_bytes()
    text.write_bytes(data[:200] + b"\xff" * (len(data) - 200))
    assert architecture_of(text) == "qwen3vl"
    with pytest.raises(InputError):
        read_gguf(text)


def test_an_untied_head_is_its_own_matrix(tmp_path):
    untied = load_text(read_gguf(write_text(tmp_path / "untied.gguf", UNTIED)))
    tied = load_text(read_gguf(write_text(tmp_path / "tied.gguf", TINY)))
    assert tied.head.weight is tied.token_embedding.weight
    assert untied.head.weight is not untied.token_embedding.weight
    assert (logits(untied) - logits(tied)).abs().max() > 0.1


def test_weights_are_views_of_the_file(tmp_path):
    file = read_gguf(write_text(tmp_path / "model.gguf", UNTIED, "Q4_K_M"))
    model = load_text(file)
    stored = {tensor.data.data_ptr() for tensor in file.tensors.values()}
    assert {parameter.data_ptr() for parameter in model.parameters()} == stored


def test_a_quantised_model_is_never_made_dense(tmp_path, monkeypatch):
    """The parameters take the file's bytes, and reading a token turns that token's row into numbers, no other."""
    from codeclens import kernels

    file = read_gguf(write_text(tmp_path / "model.gguf", TINY, "Q4_K_M"))
    model = load_text(file)
    held = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    assert held <= file.size
    seen = []
    unpack = kernels.dequantize
    monkeypatch.setattr(kernels, "dequantize", lambda blocks, *rest: seen.append(blocks.shape) or unpack(blocks, *rest))
    model.embed(torch.tensor([3, 4, 5]))
    assert seen == [(3, 210)]


def test_other_operations_get_dense_weights(tmp_path):
    file = read_gguf(write_text(tmp_path / "model.gguf", TINY, "Q4_K_M"))
    plain = load_text(file, operations=torch.nn)
    assert isinstance(plain.head, torch.nn.Linear) and plain.head.weight.dtype == torch.float32
    torch.testing.assert_close(logits(plain), logits(load_text(file)), rtol=1e-5, atol=1e-5)


def test_a_type_after_the_library_is_refused_by_name(tmp_path):
    path = write_text(tmp_path / "model.gguf", TINY, "Q4_0")
    data = path.read_bytes()
    name = b"blk.1.ffn_up.weight"
    at = data.index(name) + len(name) + 4 + 16
    assert struct.unpack_from("<I", data, at)[0] == gguf.GGMLQuantizationType.Q4_0
    for number, word in ((42, "Q2_0"), (99, "number 99"), (41, "Q1_0"), (24, "I8")):
        path.write_bytes(data[:at] + struct.pack("<I", number) + data[at + 4 :])
        with pytest.raises(InputError, match=f"'blk.1.ffn_up.weight' as {word}"):
            load_text(read_gguf(path))


def test_the_mmproj_beside_a_model_is_found_by_what_it_is(tmp_path):
    text, tower = write_pair(tmp_path, TINY)
    write_mmproj(tmp_path / "mmproj-of-a-wider-model.gguf", replace(TINY, hidden=512))
    write_mmproj(tmp_path / "mmproj-other-deepstack.gguf", replace(TINY, deepstack=(1,)))
    write_text(tmp_path / "another-model.gguf", TINY)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    tower.rename(tmp_path / "some other name.gguf")
    model = load_qwen3vl(text)
    assert len(model.vision.blocks) == TINY.vision_layers and model.config.vision.output_size == TINY.hidden
    write_mmproj(tmp_path / "mmproj-second.gguf", TINY)
    with pytest.raises(InputError, match="2 mmproj files .*: mmproj-second.gguf, some other name.gguf; name one"):
        load_qwen3vl(text)
    assert load_qwen3vl(text, tmp_path / "mmproj-second.gguf").vision is not None
    assert load_qwen3vl(text, None).vision is None


def test_no_fitting_mmproj_says_what_would_fit(tmp_path):
    text = write_text(tmp_path / "model.gguf", TINY)
    with pytest.raises(InputError, match="qwen3vl_merger, width 256, 2 DeepStack layers"):
        load_qwen3vl(text)


def test_a_foreign_mmproj_is_refused_with_both_numbers(tmp_path):
    text = write_text(tmp_path / "model.gguf", TINY)
    wide = write_mmproj(tmp_path / "wide.gguf", replace(TINY, hidden=512))
    with pytest.raises(InputError, match="projects to width 512 and .* has width 256"):
        load_qwen3vl(text, wide)
    shallow = write_mmproj(tmp_path / "shallow.gguf", replace(TINY, deepstack=(1,)))
    with pytest.raises(InputError, match="has 1 DeepStack mergers and .* takes 2"):
        load_qwen3vl(text, shallow)
    other = write_mmproj(tmp_path / "other.gguf", TINY, metadata={"clip.projector_type": "qwen2.5vl_merger"})
    with pytest.raises(InputError, match="projector 'qwen2.5vl_merger'; Qwen3-VL's is 'qwen3vl_merger'"):
        load_qwen3vl(text, other)


def test_files_of_another_kind_are_named(tmp_path):
    text, tower = write_pair(tmp_path, TINY)
    with pytest.raises(InputError, match="is an mmproj"):
        load_qwen3vl(tower, tower)
    with pytest.raises(InputError, match="is a language model; give its mmproj"):
        load_qwen3vl(text, text)
    llama = gguf.GGUFWriter(tmp_path / "llama.gguf", "llama")
    llama.write_header_to_file()
    llama.write_kv_data_to_file()
    llama.write_ti_data_to_file()
    llama.close()
    for wrong in ((tmp_path / "llama.gguf", None), (text, tmp_path / "llama.gguf")):
        with pytest.raises(InputError, match="is a 'llama' model"):
            load_qwen3vl(*wrong)
    experts = write_text(tmp_path / "experts.gguf", TINY, metadata={"qwen3vl.expert_count": 8})
    with pytest.raises(InputError, match="mixture-of-experts"):
        load_qwen3vl(experts, None)


def test_missing_and_unknown_tensors_are_named(tmp_path):
    gone = ["blk.0.ffn_up.weight", "blk.0.attn_k_norm.weight", "blk.1.attn_q.weight", "blk.1.ffn_up.weight"]
    path = write_text(tmp_path / "missing.gguf", TINY, without=gone)
    with pytest.raises(InputError) as refusal:
        load_qwen3vl(path, None)
    assert "lacks 4 tensors" in str(refusal.value) and sum(name in str(refusal.value) for name in gone) == 3
    path = write_text(tmp_path / "half.gguf", TINY, without=["blk.1.attn_norm.weight"])
    with pytest.raises(InputError, match="lacks 'blk.1.attn_norm.weight'"):
        load_qwen3vl(path, None)
    path = write_text(tmp_path / "short.gguf", TINY, metadata={"qwen3vl.block_count": 1})
    with pytest.raises(InputError, match="11 tensors that are not .*'blk.1.attn_norm.weight', 'blk.1.attn_q.weight'"):
        load_qwen3vl(path, None)
    path = write_mmproj(tmp_path / "one-slice.gguf", TINY, without=["v.patch_embd.weight.1"])
    with pytest.raises(InputError, match="lacks the tensor 'v.patch_embd.weight.1'"):
        load_vision(read_gguf(path))
    path = write_text(tmp_path / "wide.gguf", TINY, metadata={"qwen3vl.feed_forward_length": 512})
    with pytest.raises(InputError, match=r"'blk.0.ffn_gate.weight' of shape \[256, 256\], .* \[512, 256\]"):
        load_qwen3vl(path, None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("qwen3vl.block_count", 1 << 19, "its 24 tensors are those of 4 at most"),
        ("qwen3vl.embedding_length", 0, "a whole number from 1"),
        ("qwen3vl.embedding_length", 1 << 31, "a whole number from 1"),
        ("qwen3vl.attention.head_count", "four", "a whole number from 1"),
        ("qwen3vl.attention.head_count_kv", 3, "whole groups of query heads"),
        ("qwen3vl.rope.dimension_sections", [12, 10], "rope sections"),
        ("qwen3vl.rope.dimension_sections", [12.0, 10.0, 10.0], "whole numbers"),
        ("qwen3vl.rope.freq_base", -1.0, "a positive number"),
        ("qwen3vl.context_length", None, "lacks the metadata key 'qwen3vl.context_length'"),
        ("tokenizer.ggml.pre", "llama-bpe", "the tokenizer 'gpt2'/'llama-bpe'"),
        ("tokenizer.ggml.tokens", None, "lacks the list of strings 'tokenizer.ggml.tokens'"),
        ("tokenizer.ggml.merges", ["a bc d"], "the merge 'a bc d'"),
    ],
)
def test_metadata_that_cannot_be_is_refused(tmp_path, key, value, message):
    path = write_text(tmp_path / "model.gguf", TINY, metadata={key: value})
    with pytest.raises(InputError, match=message) as refusal:
        load_qwen3vl(path, None)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_a_file_cut_anywhere_is_refused(tmp_path):
    path = write_text(tmp_path / "model.gguf", TINY, "Q8_0")
    data = path.read_bytes()
    file = read_gguf(path)
    header = len(data) - sum(-(-t.data.numel() * t.data.element_size() // 32) * 32 for t in file.tensors.values())
    cuts = [
        *range(0, header, 23),
        *range(header - 40, header + 40),
        *np.linspace(header, len(data) - 1, 50).astype(int),
    ]
    path.unlink()
    for cut in cuts:
        path = tmp_path / f"cut at {cut}.gguf"
        path.write_bytes(data[:cut])
        with pytest.raises(InputError, match="truncated|is not a GGUF file"):
            read_gguf(path)
        path.unlink()


def header(*parts) -> bytes:
    return b"GGUF" + b"".join(struct.pack("<" + code, value) for code, value in parts)


def text(word: bytes) -> list[tuple]:
    return [("Q", len(word)), (f"{len(word)}s", word)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes"),
        (b"GGML" + bytes(100), "starts with b'GGML'"),
        (header(("I", 0x03000000), ("Q", 0), ("Q", 0)), "big-endian"),
        (header(("I", 1), ("Q", 0), ("Q", 0)), "version 1"),
        (header(("I", 3), ("Q", 2**63), ("Q", 0)) + bytes(64), "9223372036854775808 tensors do not fit"),
        (header(("I", 3), ("Q", 0), ("Q", 2**40)) + bytes(64), "keys do not fit"),
        (
            header(("I", 3), ("Q", 0), ("Q", 1), ("Q", 2**62)) + bytes(64),
            "a metadata key has 4611686018427387904 bytes",
        ),
        (
            header(("I", 3), ("Q", 0), ("Q", 1), *text(b"k"), ("I", 9), ("I", 8), ("Q", 2**61)) + bytes(64),
            "says 2305843009213693952 strings",
        ),
        (
            header(("I", 3), ("Q", 0), ("Q", 1), *text(b"k"), ("I", 9), ("I", 12), ("Q", 2**60)) + bytes(64),
            "needs 9223372036854775808 bytes",
        ),
        (
            header(("I", 3), ("Q", 0), ("Q", 1), *text(b"k"), ("I", 9), *[("I", 9), ("Q", 1)] * 500),
            "holds 1 arrays, 9 deep",
        ),
        (header(("I", 3), ("Q", 0), ("Q", 1), *text(b"k"), ("I", 77)) + bytes(64), "unknown value type 77"),
        (header(("I", 3), ("Q", 0), ("Q", 1), *text(b"\xff\xfe"), ("I", 4)) + bytes(64), "not UTF-8"),
        (header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 9)) + bytes(64), "has 9 dimensions"),
        (
            header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 1), ("Q", 0), ("I", 0), ("Q", 0)) + bytes(64),
            "empty shape",
        ),
        (
            header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 2), ("Q", 2**62), ("Q", 2**62), ("I", 0), ("Q", 0)),
            "is truncated",
        ),
        (
            header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 1), ("Q", 1), ("I", 0), ("Q", 2**63)) + bytes(64),
            "is truncated",
        ),
        (
            header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 1), ("Q", 1), ("I", 0), ("Q", 4)) + bytes(64),
            "not a multiple of 32",
        ),
        (
            header(("I", 3), ("Q", 1), ("Q", 0), *text(b"t"), ("I", 1), ("Q", 33), ("I", 8), ("Q", 0)) + bytes(64),
            "do not divide into Q8_0 blocks",
        ),
        (
            header(("I", 3), ("Q", 0), ("Q", 1), *text(b"general.alignment"), ("I", 4), ("I", 0)) + bytes(64),
            "not a power of two",
        ),
    ],
)
def test_a_hostile_header_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / "hostile.gguf"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        read_gguf(path)
    assert "\n" not in str(refusal.value) and "hostile.gguf" in str(refusal.value)


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "none.gguf", "does not exist")):
        with pytest.raises(InputError, match=words):
            read_gguf(path)


def test_official_shapes_have_the_published_sizes(tmp_path):
    """Counts of the published files: 310, 398 and 399 text tensors; 316 in the 2B mmproj."""
    assert [len(list(text_shapes(SHAPES[name]))) for name in ("2B", "4B", "8B")] == [310, 398, 399]
    assert len(list(vision_shapes(SHAPES["2B"]))) == 316
    assert config.VISION_ROPE_BASE == 10_000


def test_of_one_tower_in_several_precisions_the_best_is_taken(tmp_path):
    """As they lie beside the published models: F32 holds no more than BF16, and twice the bytes."""
    text = write_text(tmp_path / "Model.GGUF", TINY)
    named = {"general.name": "Qwen3 VL 2B Instruct"}
    for kind in ("Q8_0", "F32", "F16", "BF16"):
        write_mmproj(tmp_path / f"mmproj-{kind}.GGUF", TINY, kind, metadata=named)
        assert find_mmproj(read_gguf(text)).path.name == f"mmproj-{kind}.GGUF"
    write_mmproj(tmp_path / "mmproj-other.gguf", TINY, metadata={"general.name": "Another 2B"})
    with pytest.raises(InputError, match="5 mmproj files .* name one of them"):
        find_mmproj(read_gguf(text))


def test_a_tower_of_another_model_of_the_same_width_is_refused(tmp_path):
    """The published 30B-A3B has the width of the 2B, and its tower fits but for what it means."""
    text = write_text(tmp_path / "m.gguf", TINY, metadata={"general.name": "Qwen3-VL-2B-Instruct"})
    tower = write_mmproj(tmp_path / "t.gguf", TINY, metadata={"general.name": "Qwen3 VL 30B A3B Instruct"})
    with pytest.raises(InputError, match="the tower of a 30B-A3B model and .* itself a 2B; take the mmproj"):
        load_qwen3vl(text, tower)
    with pytest.raises(InputError, match="no mmproj file"):
        load_qwen3vl(text)


def test_parts_of_a_split_file_in_capitals_are_joined(tmp_path):
    for path in [write_text(tmp_path / "m.gguf", TINY, parts=2), tmp_path / "m-00002-of-00002.gguf"]:
        path.rename(path.with_suffix(".GGUF"))
    assert len(read_gguf(tmp_path / "m-00001-of-00002.GGUF").tensors) == 24


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"general.type": "adapter"}, "is a LoRA adapter, not a whole model"),
        ({"general.type": "imatrix"}, "is an importance matrix"),
        ({"imatrix.chunk_count": 8}, "is an importance matrix"),
    ],
)
def test_what_is_no_model_is_named(tmp_path, metadata, words):
    with pytest.raises(InputError, match=words):
        load_qwen3vl(write_text(tmp_path / "m.gguf", TINY, metadata=metadata), None)


def test_a_file_with_the_vision_inside_is_named(tmp_path, monkeypatch):
    from support import gguf_files

    both = [*gguf_files.text_shapes(TINY), *gguf_files.vision_shapes(TINY)]
    monkeypatch.setattr(gguf_files, "text_shapes", lambda shape, fused: both)
    with pytest.raises(InputError, match="is a file of Ollama's, with the vision inside"):
        load_qwen3vl(write_text(tmp_path / "m.gguf", TINY), None)


def test_fewer_embeddings_than_tokens_and_a_missing_head_are_refused(tmp_path):
    rows = write_text(tmp_path / "rows.gguf", replace(TINY, vocabulary=300), metadata=tokenizer_metadata(512))
    with pytest.raises(InputError, match="has embeddings of 300 tokens, and 512 tokens"):
        load_qwen3vl(rows, None)
    headless = write_text(tmp_path / "head.gguf", replace(TINY, hidden=4096, tied=False), without=["output.weight"])
    with pytest.raises(InputError, match="lacks 'output.weight', the head that a model of width 4096 has"):
        load_qwen3vl(headless, None)


def test_what_only_describes_a_model_does_not_damage_it(tmp_path):
    path = write_text(tmp_path / "m.gguf", TINY, metadata={"general.author": "ABCDE"})
    path.write_bytes(path.read_bytes().replace(b"ABCDE", b"AB\xff\xfeE"))
    assert read_gguf(path).metadata["general.author"] == "AB\ufffd\ufffdE"
    nested = [("I", 3), ("Q", 0), ("Q", 1), *text(b"general.tags"), ("I", 9), ("I", 9), ("Q", 2)]
    (tmp_path / "n.gguf").write_bytes(header(*nested, *[("I", 4), ("Q", 1), ("I", 7)] * 2))
    assert [list(part) for part in read_gguf(tmp_path / "n.gguf").metadata["general.tags"]] == [[7], [7]]


def test_layers_that_are_claimed_and_not_there_are_refused_at_once(tmp_path):
    """60,000 claimed layers once held info for five minutes."""
    path = write_text(tmp_path / "m.gguf", TINY, metadata={"qwen3vl.block_count": 60000})
    began = time.process_time()
    with pytest.raises(InputError, match="says it has 60000 layers; its 24 tensors are those of 4 at most"):
        load_qwen3vl(path, None)
    assert time.process_time() - began < 2


def test_weights_that_are_no_numbers_are_one_sentence(tmp_path):
    path, tower = write_pair(tmp_path, TINY)
    stored = read_gguf(path).tensors["output_norm.weight"].data.numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(stored, stored[:4] + b"\0\0\xc0\x7f" + stored[8:]))
    context = Context(load_qwen3vl(path, None).text, Cache(TINY.layers))
    context.read_ids([1, 2])
    with pytest.raises(InputError, match="computes no numbers"):
        generate(context, lambda ids: "", (), max_tokens=3)
    with pytest.raises(InputError, match="image_std = .* above 0 is needed"):
        load_qwen3vl(path, write_mmproj(tmp_path / "t.gguf", TINY, metadata={"clip.vision.image_std": [0.0, 0.5, 0.5]}))
