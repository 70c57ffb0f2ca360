"""Models from .safetensors files: equal to the GGUF pair of the same weights, whichever program saved them."""

import json
import struct
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from codeclens.models.commands.qwen import run_info
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.checkpoint import family_of, read_checkpoint
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.safetensors import read_header
from codeclens.models.qwen.trace import trace
from codeclens.models.qwen.video_limits import VideoLimits
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support.gguf_files import TINY, TINY_HYBRID, HybridShape, Shape, write_mmproj, write_text
from support.makers_names import reference_state

FIXTURE = HybridShape(
    8, 128, 160, 4, 2, True, 3, 96, 192, 2, key_heads=2, value_heads=4, state=64, grid_side=16, vocabulary=1024
)
SHAPES = {"qwen3vl": TINY, "qwen35": replace(TINY_HYBRID, drafts=0)}


def config_of(shape: Shape) -> dict:
    """The parts of ``config.json`` that tensors do not tell."""
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": shape.sections[:3]}
    if isinstance(shape, HybridShape):
        rope |= {"rope_theta": 1e7, "partial_rotary_factor": shape.rotary / shape.head_dim}
    text = {"num_hidden_layers": shape.layers, "rms_norm_eps": 1e-6, "rope_parameters": rope}
    vision = {"num_heads": shape.vision_heads, "deepstack_visual_indexes": list(shape.deepstack)}
    return {"text_config": text, "vision_config": vision, "tie_word_embeddings": shape.tied}


def write_tokenizer(file, folder) -> None:
    """The tokenizer of a GGUF file as the three files that ComfyUI keeps."""
    tokens, types = file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.token_type"]
    normal = {token: index for index, token in enumerate(tokens) if types[index] == 1}
    added = {
        str(index): {"content": token, "special": bool(types[index] == 3)}
        for index, token in enumerate(tokens)
        if types[index] in (3, 4)
    }
    merges = "#version: 0.2\n" + "\n".join(file.metadata["tokenizer.ggml.merges"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(normal), encoding="utf-8")
    (folder / "merges.txt").write_text(merges, encoding="utf-8")
    template = file.metadata["tokenizer.chat_template"]
    stored = {"added_tokens_decoder": added, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(stored), encoding="utf-8")


class Saved:
    """A GGUF pair and the same weights by the makers' names."""

    def __init__(self, folder, shape, types="F32"):
        self.folder, self.shape = folder, shape
        text, tower = (
            write_text(folder / "model.gguf", shape, types),
            write_mmproj(folder / "mmproj.gguf", shape, "F32"),
        )
        self.pair = text, tower
        self.state = reference_state(shape, read_gguf(text), read_gguf(tower))
        if shape.tied:
            del self.state["lm_head.weight"]
        self.config, self.tokenizer = config_of(shape), read_gguf(text)

    def save(self, name="model.safetensors", state=None, config=True, tokenizer=True):
        """Write the files and return the path of the model's."""
        folder = self.folder / "saved"
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            left.unlink()
        state = self.state if state is None else state
        save_file({key: value.contiguous() for key, value in state.items()}, folder / name)
        if config:
            (folder / "config.json").write_text(json.dumps(self.config))
        if tokenizer:
            write_tokenizer(self.tokenizer, folder)
        return folder / name


@pytest.fixture(params=["qwen3vl", "qwen35"])
def saved(tmp_path, request):
    return Saved(tmp_path, SHAPES[request.param])


def inputs_of(model) -> dict[str, np.ndarray]:
    """A prompt with one picture of 2 x 3 tokens."""
    tokenizer, draw = model.tokenizer, np.random.default_rng(0)
    ids = [5, 9, 30, tokenizer.vision_start, *[tokenizer.image_pad] * 6, tokenizer.vision_end, *range(40, 80)]
    return {
        "input_ids": np.array([ids]),
        "pixel_values": draw.standard_normal((24, 1536), np.float32),
        "image_grid_thw": np.array([[1, 4, 6]]),
    }


def assert_equal(found, expected, bound=1e-5):
    for name, values in trace(expected, inputs_of(expected)).items():
        ours = trace(found, inputs_of(found))[name]
        assert ours.shape == values.shape, name
        assert (ours - values).abs().max() <= bound * values.abs().max(), name


def test_a_file_equals_the_gguf_pair_of_the_same_weights(saved):
    expected, found = load_qwen3vl(*saved.pair), load_qwen3vl(saved.save())
    assert_equal(found, expected)
    assert found.tokenizer.encode("Hello<|im_end|>") == expected.tokenizer.encode("Hello<|im_end|>")
    assert found.tokenizer.thinks == expected.tokenizer.thinks
    assert found.tokenizer.end_ids == expected.tokenizer.end_ids
    assert len(found.files) == 1


def test_the_fixture_of_the_reference_equals_its_own_figures(qwen35_fixtures, tmp_path):
    """Value heads in the makers' order, a tokenizer in Hugging Face's form, and no pair to compare with."""
    files = [read_gguf(qwen35_fixtures / f"{name}tiny-hybrid-F16.gguf") for name in ("", "mmproj-")]
    state = reference_state(FIXTURE, *files)
    del state["lm_head.weight"]
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((qwen35_fixtures / name).read_bytes())
    model = load_qwen3vl(tmp_path)
    assert model.config.text.grouped and model.tokenizer.thinks
    for scenario in ("text", "image", "video", "mixed"):
        reference = dict(np.load(qwen35_fixtures / f"ref-{scenario}.npz"))
        found, logits = trace(model, reference)["logits"], torch.as_tensor(reference["logits"])
        assert (found - logits).abs().max() < 1e-4 * logits.abs().max()


def as_host(name: str) -> str:
    """How ComfyUI names the tensors inside its text encoder."""
    for theirs, hosts in (
        ("model.language_model.", "model."),
        ("model.visual.", "visual."),
        ("lm_head.", "model.lm_head."),
    ):
        if name.startswith(theirs):
            return "qwen3vl_4b.transformer." + hosts + name.removeprefix(theirs)
    return name


def test_a_folder_states_what_a_video_may_cost(saved):
    path = saved.save()
    assert load_qwen3vl(path).config.vision.video == load_qwen3vl(*saved.pair).config.vision.video == VideoLimits()
    stated = {"size": {"shortest_edge": 2048, "longest_edge": 500_000}, "max_frames": 12}
    (path.parent / "video_preprocessor_config.json").write_text(json.dumps(stated))
    assert load_qwen3vl(path).config.vision.video == VideoLimits(2048, 500_000, 12)


@pytest.mark.parametrize("rename", [as_host, lambda name: as_host(name).removeprefix("qwen3vl_4b.transformer.")])
def test_the_hosts_names_are_the_same_model(saved, rename):
    state = {rename(name): value for name, value in saved.state.items()} | {"qwen3vl_4b.logit_scale": torch.ones(())}
    assert_equal(load_qwen3vl(saved.save(state=state)), load_qwen3vl(*saved.pair))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_are_read_as_they_are(saved, dtype):
    state = {name: value.to(dtype) for name, value in saved.state.items()}
    rounded = {name: value.to(dtype).float() for name, value in saved.state.items()}
    half, full = load_qwen3vl(saved.save(state=state)), load_qwen3vl(saved.save("full.safetensors", rounded))
    assert half.text.layers[0].feed_forward.up.weight.dtype == dtype
    assert_equal(half, full)


def in_float8(saved, scale_name: str, quantisation: dict | None = None, dtype=torch.float8_e4m3fn):
    """The state with most matrices in 8-bit floats, and the numbers that these stand for."""
    state, numbers = {}, {}
    for name, value in saved.state.items():
        state[name] = numbers[name] = value
        layer = name.removesuffix(".weight")
        if value.dim() == 2 and (".layers." in name or ".blocks." in name or "embed_tokens" in name):
            scale = value.abs().max() / torch.finfo(dtype).max
            state[name] = (value / scale).to(dtype)
            numbers[name] = state[name].float() * scale
            state[f"{layer}.{scale_name}"] = scale
            state[f"{layer}.input_scale"] = torch.ones(())
            if quantisation:
                state[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(quantisation).encode()), dtype=torch.uint8)
    return state, numbers


@pytest.mark.parametrize(
    ("scale_name", "quantisation", "dtype"),
    [
        ("scale_weight", None, torch.float8_e4m3fn),
        ("weight_scale", {"format": "float8_e4m3fn"}, torch.float8_e4m3fn),
        ("weight_scale", {"format": "float8_e5m2", "full_precision_matrix_mult": True}, torch.float8_e5m2),
    ],
)
def test_eight_bit_floats_stay_so_in_memory(saved, scale_name, quantisation, dtype):
    state, numbers = in_float8(saved, scale_name, quantisation, dtype)
    found = load_qwen3vl(saved.save(state=state))
    expected = load_qwen3vl(saved.save("numbers.safetensors", numbers))
    assert_equal(found, expected, 3e-5)
    up = found.text.layers[0].feed_forward.up
    assert up.weight.dtype == dtype
    dense = load_qwen3vl(saved.folder / "saved" / "numbers.safetensors", operations=torch.nn)
    assert_equal(dense, expected, 3e-5)


def test_shards_and_their_folder_are_one_model(saved):
    path = saved.save()
    names = list(saved.state)
    for part, chosen in enumerate((names[: len(names) // 2], names[len(names) // 2 :]), 1):
        shard = {name: saved.state[name].contiguous() for name in chosen}
        save_file(shard, path.with_name(f"model-{part:05d}-of-00002.safetensors"))
    path.unlink()
    expected = load_qwen3vl(*saved.pair)
    for given_path in (path.parent, path.with_name("model-00002-of-00002.safetensors")):
        assert_equal(load_qwen3vl(given_path), expected)
    path.with_name("model-00001-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match="one of 2 shards, and model-00001-of-00002"):
        load_qwen3vl(path.parent)


def test_a_tokenizer_is_taken_from_the_host_or_asked_for(saved, tmp_path):
    path = saved.save(tokenizer=False)
    with pytest.raises(InputError, match="without its tokenizer, and none is beside it or in ComfyUI"):
        load_qwen3vl(path)
    folder = "qwen35_tokenizer" if isinstance(saved.shape, HybridShape) else "qwen25_tokenizer"
    host = tmp_path / "comfy" / "text_encoders"
    write_tokenizer(saved.tokenizer, host / folder)
    # The model lies below the host's folder, as ComfyUI/models/text_encoders does.
    assert load_qwen3vl(path).tokenizer.thinks == isinstance(saved.shape, HybridShape)
    (tmp_path / "comfy").rename(tmp_path / "elsewhere")
    assert load_qwen3vl(path, tokenizers=tmp_path / "elsewhere" / "text_encoders").tokenizer.encode("Hi")


def without(state, *parts):
    return {name: value for name, value in state.items() if not any(part in name for part in parts)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "visual."), "saved without its vision tower"),
        (lambda s: without(s, "layers.1.", "layers.2.", "layers.3."), r"cannot write: it has 1 of \d layers"),
        (lambda s: without(s, "language_model.norm."), "its last norm is missing"),
        (lambda s: without(s, "layers.0.mlp.up_proj"), "lacks 1 tensors: 'blk.0.ffn_up.weight'"),
        (lambda s: {"encoder.block.0.weight": torch.zeros(2)}, "not a Qwen3-VL or Qwen3.5 model"),
        (lambda s: s | {"model.language_model.layers.0.mlp.experts.0.up.weight": torch.zeros(2)}, "mixture of experts"),
        (lambda s: s | {"model.language_model.layers.0.mlp.up_proj.weight_scale_inv": torch.zeros(2)}, "8-bit floats"),
        (lambda s: s | {"model.language_model.layers.0.self_attn.q_proj.lora": torch.zeros(2)}, "are not of its model"),
    ],
)
def test_what_is_no_whole_model_is_refused_and_info_says_so(saved, change, message, capsys):
    path = saved.save(state=change(saved.state))
    with pytest.raises(InputError, match=message):
        load_qwen3vl(path)
    run_info(SimpleNamespace(file=str(path)))
    said = capsys.readouterr().out
    assert "loads: no; " in said and path.name in said


def test_other_quantisations_are_named(saved):
    state, _ = in_float8(saved, "weight_scale", {"format": "nvfp4"})
    with pytest.raises(InputError, match="as nvfp4; bf16, fp16 and fp8 with one scale"):
        load_qwen3vl(saved.save(state=state))


def test_an_untied_model_without_its_head_was_cut(tmp_path):
    saved = Saved(tmp_path, replace(TINY, tied=False))
    assert_equal(load_qwen3vl(saved.save()), load_qwen3vl(*saved.pair))
    with pytest.raises(InputError, match="its head is missing"):
        load_qwen3vl(saved.save(state=without(saved.state, "lm_head")))


def test_an_unpublished_size_needs_its_config(saved):
    with pytest.raises(InputError, match="no published size; put its config.json beside it"):
        load_qwen3vl(saved.save(config=False))


def test_info_says_what_a_checkpoint_is(saved, capsys):
    path = saved.save()
    run_info(SimpleNamespace(file=str(path)))
    said = capsys.readouterr().out
    name = "Qwen3.5" if isinstance(saved.shape, HybridShape) else "Qwen3-VL"
    assert said.startswith(f"{path.name}: .safetensors, ") and f"text model: {name}, " in said
    assert said.endswith("loads: yes\n")
    assert family_of(path) == ("qwen35" if name == "Qwen3.5" else "qwen3vl")


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_damage_is_refused_in_one_sentence(tmp_path_factory, data):
    """Bytes of the header changed anywhere, or the file cut: an InputError or a header, nothing else."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_file({"a.weight": torch.zeros(4, 3), "b": torch.zeros(2, dtype=torch.bfloat16)}, path)
    stored = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(stored[: data.draw(st.integers(0, len(stored)))])
    try:
        assert isinstance(read_header(path), dict)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    assert family_of(path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a .safetensors file"),
        (struct.pack("<Q", 1 << 40) + b"{}", "its header does not fit its 10 bytes"),
        (struct.pack("<Q", 2) + b"[]", "no JSON object"),
        (struct.pack("<Q", 8) + b'{"a": 1}', "its entry of 'a' is incomplete"),
    ],
)
def test_what_is_no_file_of_the_format_is_named(tmp_path, content, message):
    path = tmp_path / "file.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)
