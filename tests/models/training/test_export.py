"""The exported pair, read by the very loader of the official files and by the gguf library, equals what was trained."""

import copy

import gguf
import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.loading import load_text
from codeclens.models.qwen.prompt import lay_out
from codeclens.models.qwen.vision import patches_of
from codeclens.models.training.architecture import WIDTHS, TinyQwen3VL, tiny_config
from codeclens.models.training.batches import BatchAttention, answer_losses, collate
from codeclens.models.training.examples import Mixture, corpus, make_example
from codeclens.models.training.export import export_pair
from codeclens.models.training.vocabulary import learn_vocabulary, tokenizer_of
from support.gguf_files import TINY, text_shapes, vision_shapes


@pytest.fixture(scope="module")
def metadata():
    return learn_vocabulary(corpus(30), 400)


@pytest.fixture(scope="module")
def model(metadata):
    """Weights as after some training: nothing at its initial 0 or 1."""
    network = TinyQwen3VL(tiny_config("nano", len(metadata["tokenizer.ggml.tokens"])), 5)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return network


def logits_of(text, vision, tokenizer, example):
    """Logits after the pictures and the first question: [n, V]."""
    question = example.questions[0].question + "<|im_end|>\n<|im_start|>assistant\n"
    prompt = lay_out(["<|im_start|>user\n", *example.parts, question], tokenizer)
    cut = [patches_of(torch.from_numpy(p), vision.config, still=p.shape[0] == 1) for p in example.pictures]
    with torch.no_grad():
        tokens, deepstack = vision(torch.cat([patches for patches, _ in cut]), torch.cat([grid for _, grid in cut]))
        embeds = text.embed(torch.tensor(prompt.ids)).index_copy(0, prompt.visual_index, tokens)
        return text.logits(text(embeds, prompt.positions, None, deepstack, prompt.visual_index))


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("mode", ["rgb", "thumbnail"])
def test_the_loaded_pair_has_the_logits_of_the_stored_weights(tmp_path, model, metadata, kind, mode):
    path, _ = export_pair(model, metadata, tmp_path, "Tiny", kind)
    loaded = load_qwen3vl(path)
    stored = copy.deepcopy(model)
    with torch.no_grad():
        for half in (stored.text, stored.vision):
            for name, parameter in half.named_parameters():
                kept = parameter.dim() == 1 or "position_table" in name
                if not kept and (kind == "F16" or "patch_embedding" in name) and kind != "F32":
                    parameter.copy_(parameter.half())
                elif not kept and kind == "Q8_0":
                    blocks = gguf.quantize(parameter.numpy(), gguf.GGMLQuantizationType.Q8_0)
                    parameter.copy_(torch.from_numpy(gguf.dequantize(blocks, gguf.GGMLQuantizationType.Q8_0)))
    example = make_example(4, Mixture(frames=(4, 6)), mode)
    mine = logits_of(stored.text, stored.vision, tokenizer_of(metadata), example)
    theirs = logits_of(loaded.text, loaded.vision, loaded.tokenizer, example)
    torch.testing.assert_close(theirs, mine, rtol=2e-3, atol=2e-3)
    trained = logits_of(model.text, model.vision, tokenizer_of(metadata), example)
    relative = (theirs - trained).norm() / trained.norm()
    assert relative < {"F32": 1e-5, "F16": 2e-3, "Q8_0": 0.05}[kind]


def test_training_and_loaded_files_give_the_same_losses(tmp_path, model, metadata):
    path, _ = export_pair(model, metadata, tmp_path, "Tiny", "F32")
    attention = BatchAttention()
    loaded = load_qwen3vl(path, operations=torch.nn)
    loaded.text = load_text(loaded.files[0], torch.nn, attend=attention)
    trained = TinyQwen3VL(model.config, 0, attention)
    trained.load_state_dict(model.state_dict())
    batch = collate([make_example(seed, Mixture(frames=(2, 4))) for seed in (2, 6)], tokenizer_of(metadata))
    with torch.no_grad():
        torch.testing.assert_close(
            answer_losses(loaded, attention, batch), answer_losses(trained, attention, batch),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip


def test_files_are_named_and_typed_as_the_converter_has_them(tmp_path, model, metadata):
    """Against the names that the test suite's own writer knows from the gguf library's tables."""
    text, vision = export_pair(model, metadata, tmp_path, "Tiny", "Q8_0")
    readers = {path: gguf.GGUFReader(path) for path in (text, vision)}
    layers, _, _, _, deepstack = WIDTHS["nano"]["vision"]
    from dataclasses import replace

    shape = replace(TINY, layers=layers, vision_layers=layers, deepstack=deepstack)
    expected = {text: text_shapes(shape), vision: vision_shapes(shape)}
    for path, reader in readers.items():
        assert {tensor.name for tensor in reader.tensors} == {name for name, _ in expected[path]}
        for tensor in reader.tensors:
            if len(tensor.shape) == 1 or "position_embd" in tensor.name:
                assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
            elif "patch_embd" in tensor.name:
                assert tensor.tensor_type == gguf.GGMLQuantizationType.F16
            else:
                assert tensor.tensor_type == gguf.GGMLQuantizationType.Q8_0
    fields = readers[text].fields
    assert fields["general.architecture"].contents() == "qwen3vl"
    assert fields["qwen3vl.rope.dimension_sections"].contents() == [6, 5, 5, 0]
    assert fields["tokenizer.ggml.tokens"].contents() == metadata["tokenizer.ggml.tokens"]
    assert readers[vision].fields["clip.vision.is_deepstack_layers"].contents() == [True, True, False]


def test_the_small_model_fits_twelve_megabytes(tmp_path, metadata):
    network = TinyQwen3VL(tiny_config("small", 640))
    tokens = [*metadata["tokenizer.ggml.tokens"], *(f"[PAD{index}]" for index in range(240))]
    padded = {**metadata, "tokenizer.ggml.tokens": tokens}
    padded["tokenizer.ggml.token_type"] = [*metadata["tokenizer.ggml.token_type"], *[5] * 240]
    assert sum(path.stat().st_size for path in export_pair(network, padded, tmp_path, "Tiny")) < 12e6


def test_a_failed_export_leaves_what_was_there(tmp_path, model, metadata):
    text, vision = export_pair(model, metadata, tmp_path, "Tiny")
    before = text.read_bytes()
    broken = {**metadata, "tokenizer.ggml.merges": [object()]}
    with pytest.raises(Exception):  # noqa: B017 - whatever the library raises
        export_pair(model, broken, tmp_path, "Tiny")
    assert text.read_bytes() == before and sorted(tmp_path.iterdir()) == sorted([text, vision])
    with pytest.raises(InputError, match="'Q4_K'"):
        export_pair(model, metadata, tmp_path, "Tiny", "Q4_K")
    with pytest.raises(InputError, match="cannot be written"):
        export_pair(model, metadata, tmp_path / "absent", "Tiny")


def test_stem_slices_are_the_frames(model):
    from codeclens.models.training.export import split_patch_embedding

    config = model.config.vision
    weight = torch.arange(2 * config.patch_values).view(2, -1)
    slices = split_patch_embedding(weight, config)
    frame = weight.view(2, 3, 2, 16, 16)
    for index, name in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        np.testing.assert_array_equal(slices[name].numpy(), frame[:, :, index].numpy())
