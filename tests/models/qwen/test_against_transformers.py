"""Models of other shapes than the fixtures' against Hugging Face's own, where ``transformers`` 5 is installed.

Several pictures and videos of random sizes stand in random order in one prompt. The reference gets its weights by
Hugging Face's names and its positions by its own ``get_rope_index``.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.cache import Cache
from codeclens.models.qwen.generate import GREEDY, Context, generate
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.trace import trace
from support.gguf_files import (
    TINY,
    TINY_EXPERTS,
    TINY_HYBRID,
    ExpertShape,
    HybridShape,
    Shape,
    write_mmproj,
    write_text,
)
from support.makers_names import declare_torchvision, reference_state

DEEP = replace(
    TINY, tied=False, layers=5, heads=8, kv_heads=2, head_dim=128, sections=(24, 20, 20, 0), vision_layers=6,
    deepstack=(1, 2, 4), grid_side=12, vision_intermediate=80,
)  # fmt: skip
WIDE = replace(
    TINY, tied=False, layers=4, heads=6, kv_heads=6, hidden=512, intermediate=768, vision_layers=4,
    deepstack=(0, 1, 3), vision_hidden=96, vision_heads=3, grid_side=7,
)  # fmt: skip
ONE_KEY_HEAD = replace(TINY, layers=4, kv_heads=1, deepstack=(0, 1, 2))
EQUAL_HEADS = replace(TINY_HYBRID, tied=False, layers=5, key_heads=4, value_heads=4, kernel=3, interval=3, drafts=0)
WIDE_HYBRID = replace(
    TINY_HYBRID, layers=8, heads=6, kv_heads=3, head_dim=128, rotary=64, sections=(11, 11, 10, 0), key_heads=3,
    value_heads=6, state=64, vision_layers=4, vision_hidden=96, vision_heads=3, grid_side=7,
)  # fmt: skip
MANY_EXPERTS = replace(TINY_EXPERTS, layers=8, experts=40, used=8, expert=32, shared=32, drafts=0)


@pytest.fixture(scope="module")
def reference_classes():
    pytest.importorskip("transformers", minversion="5.0")
    declared = declare_torchvision()
    try:
        from transformers import (
            Qwen3_5ForConditionalGeneration,
            Qwen3_5MoeForConditionalGeneration,
            Qwen3VLForConditionalGeneration,
        )
    except ImportError as missing:
        pytest.skip(f"transformers lacks one of the families here: {missing}")
    yield {
        Shape: Qwen3VLForConditionalGeneration,
        HybridShape: Qwen3_5ForConditionalGeneration,
        ExpertShape: Qwen3_5MoeForConditionalGeneration,
    }
    del declared


def reference_config(shape: Shape, tokenizer, attention: str = "eager", **scaling):
    from transformers import Qwen3_5Config, Qwen3_5MoeConfig, Qwen3VLConfig

    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": shape.sections[:3], "mrope_interleaved": True}
    rope |= scaling
    text = {
        "vocab_size": shape.vocabulary, "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "rms_norm_eps": 1e-6, "rope_parameters": rope, "tie_word_embeddings": shape.tied,
    }  # fmt: skip
    vision = {
        "depth": shape.vision_layers, "hidden_size": shape.vision_hidden, "num_heads": shape.vision_heads,
        "intermediate_size": shape.vision_intermediate, "out_hidden_size": shape.hidden,
        "num_position_embeddings": shape.grid_side**2, "deepstack_visual_indexes": list(shape.deepstack),
    }  # fmt: skip
    config = Qwen3VLConfig
    if isinstance(shape, HybridShape):
        config = Qwen3_5Config
        text["rope_parameters"] = rope | {
            "rope_theta": 1e7, "partial_rotary_factor": shape.rotary / shape.head_dim
        }  # fmt: skip
        text |= {
            "linear_num_key_heads": shape.key_heads, "linear_num_value_heads": shape.value_heads,
            "linear_key_head_dim": shape.state, "linear_value_head_dim": shape.state,
            "linear_conv_kernel_dim": shape.kernel, "attn_output_gate": True,
            "layer_types": [("full", "linear")[shape.is_recurrent(i)] + "_attention" for i in range(shape.layers)],
        }  # fmt: skip
    if isinstance(shape, ExpertShape):
        config = Qwen3_5MoeConfig
        del text["intermediate_size"]
        text |= {
            "num_experts": shape.experts, "num_experts_per_tok": shape.used, "moe_intermediate_size": shape.expert,
            "shared_expert_intermediate_size": shape.shared,
        }  # fmt: skip
    return config(
        text_config=text, vision_config=vision, tie_word_embeddings=shape.tied, attn_implementation=attention,
        image_token_id=tokenizer.image_pad, video_token_id=tokenizer.video_pad,
        vision_start_token_id=tokenizer.vision_start, vision_end_token_id=tokenizer.vision_end,
    )  # fmt: skip


def random_inputs(seed: int, tokenizer) -> dict[str, np.ndarray]:
    """Three images and two videos of random sizes in random order, with text between."""
    generator = np.random.default_rng(seed)
    images = [(1, 2 * int(rows), 2 * int(columns)) for rows, columns in generator.integers(1, 7, (3, 2))]
    videos = [(int(t), 2 * int(rows), 2 * int(columns)) for t, rows, columns in generator.integers(1, 5, (2, 3))]
    ids: list[int] = []
    kinds: list[int] = []

    def write(tokens, kind=0):
        ids.extend(tokens)
        kinds.extend([kind] * len(tokens))

    media = [*((1, tokenizer.image_pad, grid) for grid in images), *((2, tokenizer.video_pad, grid) for grid in videos)]
    waiting = {kind: [entry for entry in media if entry[0] == kind] for kind in (1, 2)}
    for number in generator.permutation(len(media)):
        kind, pad, (groups, rows, columns) = waiting[media[number][0]].pop(0)
        for _ in range(groups):
            write(generator.integers(0, 250, generator.integers(1, 5)).tolist())
            write([tokenizer.vision_start])
            write([pad] * (rows * columns // 4), kind)
            write([tokenizer.vision_end])
    write(generator.integers(0, 250, 5).tolist())
    sizes = [sum(int(np.prod(grid)) for grid in grids) for grids in (images, videos)]
    return {
        "input_ids": np.array([ids]),
        "mm_token_type_ids": np.array([kinds], np.int32),
        "pixel_values": generator.standard_normal((sizes[0], 1536), np.float32),
        "image_grid_thw": np.array(images),
        "pixel_values_videos": generator.standard_normal((sizes[1], 1536), np.float32),
        "video_grid_thw": np.array(videos),
    }


def reference_model(classes, shape: Shape, model, text, tower):
    """Hugging Face's model with the weights of both files."""
    # Built in bfloat16 by default, which would round the weights on their way in.
    reference = classes[type(shape)](reference_config(shape, model.tokenizer)).float().eval()
    outcome = reference.load_state_dict(reference_state(shape, read_gguf(text), read_gguf(tower)), strict=False)
    assert not outcome.unexpected_keys and not outcome.missing_keys
    return reference


@pytest.mark.parametrize(
    ("shape", "types", "mmproj", "fused"),
    [
        (TINY, "F16", "F16", False),
        (DEEP, "Q4_K_M", "Q8_0", False),
        (WIDE, "Q6_K", "BF16", True),
        (ONE_KEY_HEAD, "BF16", "F32", True),
        (ONE_KEY_HEAD, "IQ3_S", "F16", False),
        (TINY_HYBRID, "F16", "F16", False),
        (EQUAL_HEADS, "Q4_K_M", "F16", True),
        (WIDE_HYBRID, "Q8_0", "BF16", False),
        (TINY_EXPERTS, "F16", "F16", False),
        (MANY_EXPERTS, "Q8_0", "F16", True),
    ],
    ids=[
        "tiny", "untied, Q4_K_M, F16 among Q8_0", "as many key heads, fused", "one key head, BF16", "IQ3_S",
        "Qwen3.5", "Qwen3.5, untied, equal heads, fused", "Qwen3.5, Q8_0",
        "experts", "many experts, fused, Q8_0",
    ],
)  # fmt: skip
def test_logits_and_positions_equal_transformers(tmp_path, reference_classes, shape, types, mmproj, fused):
    text = write_text(tmp_path / "model.gguf", shape, types, fused=fused)
    tower = write_mmproj(tmp_path / "mmproj.gguf", shape, mmproj)
    model = load_qwen3vl(text, tower)
    reference = reference_model(reference_classes, shape, model, text, tower)
    inputs = random_inputs(len(types), model.tokenizer)
    tensors = {name: torch.from_numpy(values) for name, values in inputs.items()}
    grids = {name: tensors[name] for name in ("image_grid_thw", "video_grid_thw", "mm_token_type_ids")}
    with torch.no_grad():
        positions, _ = reference.model.get_rope_index(tensors["input_ids"], **grids)
        expected = reference(**tensors, attention_mask=torch.ones_like(tensors["input_ids"])).logits[0]
    found = trace(model, inputs)
    assert torch.equal(found["position_ids"], positions[:, 0])
    assert expected.std() > 0.1
    # The delta rule in chunks rounds more than attention does; a random net amplifies that.
    bound = 5e-5 if isinstance(shape, HybridShape) else 1e-5
    assert (found["logits"] - expected).abs().max() < bound * expected.abs().max()


SCALINGS = {
    "linear": ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}),
    "yarn": (
        {"type": "yarn", "factor": 4.0, "original_context_length": 1024},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    ),
    "yarn with betas": (
        {
            "type": "yarn", "factor": 8.0, "original_context_length": 2000, "yarn_beta_fast": 16.0,
            "yarn_beta_slow": 2.0, "yarn_ext_factor": 1.0, "attn_factor": 1.0, "finetuned": True,
        },
        {
            "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 2000, "beta_fast": 16.0,
            "beta_slow": 2.0,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("tokens", [64, pytest.param(6000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SCALINGS)
def test_scaled_rotary_embeddings_equal_transformers(tmp_path, reference_classes, name, tokens):
    """The 1M files that are published carry YaRN; without it the logits are off by as much as they deviate."""
    ours, theirs = SCALINGS[name]
    written = {f"qwen3vl.rope.scaling.{key}": value for key, value in ours.items()}
    shape = replace(TINY, vocabulary=512)
    text = write_text(tmp_path / "model.gguf", shape, "F32", metadata=written)
    plain = write_text(tmp_path / "plain.gguf", shape, "F32")
    tower = write_mmproj(tmp_path / "mmproj.gguf", shape, "F32")
    models = [load_qwen3vl(path, tower) for path in (text, plain)]
    reference = reference_classes[Shape](reference_config(shape, models[0].tokenizer, "sdpa", **theirs)).float().eval()
    reference.load_state_dict(reference_state(shape, read_gguf(text), read_gguf(tower)))
    ids = torch.from_numpy(np.random.default_rng(tokens).integers(0, 250, tokens))
    with torch.no_grad():
        expected = reference(input_ids=ids[None]).logits[0, -64:]
        found, unscaled = (
            model.text.logits(model.text(model.text.embed(ids), torch.arange(tokens).expand(3, -1))[-64:])
            for model in models
        )
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
    assert (unscaled - expected).abs().max() > 0.1 * expected.abs().max()


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param(TINY_HYBRID, id="tiny"),
        pytest.param(EQUAL_HEADS, id="equal heads", marks=pytest.mark.slow),
        pytest.param(TINY_EXPERTS, id="experts", marks=pytest.mark.slow),
    ],
)
def test_200_greedy_tokens_equal_transformers(tmp_path, reference_classes, shape):
    text, tower = write_text(tmp_path / "model.gguf", shape), write_mmproj(tmp_path / "mmproj.gguf", shape)
    model = load_qwen3vl(text, tower)
    reference = reference_model(reference_classes, shape, model, text, tower)
    ids = list(range(20, 50))
    written = reference.generate(
        torch.tensor([ids]), max_new_tokens=200, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    context = Context(model.text, Cache(shape.layers))
    context.read_ids(ids)
    ours = generate(context, model.tokenizer.decode, (), GREEDY, 200).ids
    assert list(ours) == written[0, len(ids) :].tolist()
    assert len(set(ours)) > 10
