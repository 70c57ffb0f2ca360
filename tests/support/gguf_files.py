"""Random-weight GGUF pairs of the architectures of Qwen3-VL and Qwen3.5, at any size and in any mix of types.

Written with the ``gguf`` library's writer and named by its conventions, not by our loader's tables, so that a loader
that agrees with these files agrees with the library. Tensors are made one at a time: memory does not follow the file.

    python -m support.gguf_files FOLDER 2B Q4_K_M           (from tests/; used by the benches)
    python -m support.gguf_files FOLDER Qwen3.5-2B Q4_K_M
"""

import functools
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
]  # fmt: skip
USER_DEFINED = ["<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"]
ANSWER = "{{- '<|im_start|>assistant\\n' }}"
SWITCHABLE_ANSWER = (
    ANSWER
    + "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    + "{%- else %}{{- '<think>\\n' }}{%- endif %}"
)
HALF_SCALES = {
    "Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q8_0": (0,), "Q4_0": (0,),
    "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "IQ4_NL": (0,), "IQ4_XS": (0,), "IQ3_S": (0,), "IQ3_XXS": (0,),
    "IQ2_S": (0,), "IQ2_XS": (0,), "IQ2_XXS": (0,), "IQ1_S": (0,), "TQ1_0": (52,), "TQ2_0": (64,),
}  # fmt: skip
"""Where a block's float16 scale lies, and its float16 minimum or offset where it has one."""


@dataclass(frozen=True)
class Shape:
    """Every width of a model. The presets are the published ones."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    tied: bool
    vision_layers: int
    vision_hidden: int
    vision_intermediate: int
    vision_heads: int
    deepstack: tuple[int, ...]
    grid_side: int = 48
    head_dim: int = 128
    vocabulary: int = 151936
    sections: tuple[int, ...] = (24, 20, 20, 0)

    @property
    def name(self) -> str:
        return next((name for name, shape in SHAPES.items() if shape == self), "tiny")

    @property
    def architecture(self) -> str:
        return "qwen3vl"


@dataclass(frozen=True, kw_only=True)
class HybridShape(Shape):
    """Qwen3.5: delta nets with these heads but in every ``interval``-th layer; ``drafts`` layers more in the file."""

    key_heads: int
    value_heads: int
    state: int = 128
    kernel: int = 4
    interval: int = 4
    rotary: int = 64
    drafts: int = 0
    deepstack: tuple[int, ...] = ()
    head_dim: int = 256
    vocabulary: int = 248320
    sections: tuple[int, ...] = (11, 11, 10, 0)

    @property
    def architecture(self) -> str:
        return "qwen35"

    def is_recurrent(self, layer: int) -> bool:
        return layer < self.layers and (layer + 1) % self.interval != 0


@dataclass(frozen=True, kw_only=True)
class ExpertShape(HybridShape):
    """Qwen3.5's mixtures of experts: ``used`` of ``experts`` for a row, and one of ``shared`` channels for all rows."""

    experts: int
    used: int
    expert: int
    shared: int

    @property
    def architecture(self) -> str:
        return "qwen35moe"


SHAPES = {
    "2B": Shape(28, 2048, 6144, 16, 8, True, 24, 1024, 4096, 16, (5, 11, 17)),
    "4B": Shape(36, 2560, 9728, 32, 8, True, 24, 1024, 4096, 16, (5, 11, 17)),
    "8B": Shape(36, 4096, 12288, 32, 8, False, 27, 1152, 4304, 16, (8, 16, 24)),
    "32B": Shape(64, 5120, 25600, 64, 8, False, 27, 1152, 4304, 16, (8, 16, 24)),
    "Qwen3.5-0.8B": HybridShape(24, 1024, 3584, 8, 2, True, 12, 768, 3072, 12, key_heads=16, value_heads=16),
    "Qwen3.5-2B": HybridShape(24, 2048, 6144, 8, 2, True, 24, 1024, 4096, 16, key_heads=16, value_heads=16),
    "Qwen3.5-4B": HybridShape(32, 2560, 9216, 16, 4, True, 24, 1024, 4096, 16, key_heads=16, value_heads=32),
    "Qwen3.5-9B": HybridShape(32, 4096, 12288, 16, 4, False, 27, 1152, 4304, 16, key_heads=16, value_heads=32),
    "Qwen3.5-27B": HybridShape(64, 5120, 17408, 24, 4, False, 27, 1152, 4304, 16, key_heads=16, value_heads=48),
    "Qwen3.5-35B-A3B": ExpertShape(
        40,
        2048,
        0,
        16,
        2,
        False,
        27,
        1152,
        4304,
        16,
        key_heads=16,
        value_heads=32,
        experts=256,
        used=8,
        expert=512,
        shared=512,
    ),
}
TINY = Shape(
    2, 256, 256, 4, 2, True, 3, 64, 256, 2, (0, 2), grid_side=8, head_dim=64, vocabulary=512, sections=(12, 10, 10, 0)
)

TINY_HYBRID = HybridShape(
    4, 256, 256, 4, 2, True, 3, 64, 256, 2, key_heads=2, value_heads=6, state=32, rotary=32, grid_side=8, head_dim=64,
    vocabulary=512, sections=(6, 5, 5, 0), drafts=1,
)  # fmt: skip

TINY_EXPERTS = ExpertShape(
    4, 256, 0, 4, 2, False, 3, 64, 256, 2, key_heads=2, value_heads=6, state=32, rotary=32, grid_side=8, head_dim=64,
    vocabulary=512, sections=(6, 5, 5, 0), drafts=1, experts=12, used=3, expert=64, shared=96,
)  # fmt: skip

TypeChoice = str | Callable[[str, Shape], str]
"""A ggml type for all matrices, the recipe "Q4_K_M", or a function of the tensor's name."""


def write_pair(folder: Path, shape: Shape, types: TypeChoice = "F16", mmproj: TypeChoice = "F16") -> tuple[Path, Path]:
    """Write a model and its mmproj into ``folder`` and return both paths."""
    label = types if isinstance(types, str) else "mixed"
    name = shape.name if shape.architecture == "qwen35" else f"Qwen3VL-{shape.name}-Instruct"
    text = write_text(folder / f"{name}-{label}.gguf", shape, types)
    return text, write_mmproj(folder / f"mmproj-{name}-F16.gguf", shape, mmproj)


def write_text(
    path: Path,
    shape: Shape,
    types: TypeChoice = "F16",
    *,
    seed: int = 0,
    fused: bool = False,
    thinking: bool = False,
    shuffled: bool = False,
    without: Collection[str] = (),
    metadata: dict | None = None,
    parts: int = 1,
) -> Path:
    """Write a text model and return its path; the first part's with ``parts`` above 1.

    ``fused`` stores query, key and value as one matrix; ``shuffled`` writes tensors in random order; ``without`` leaves
    tensors out; ``metadata`` replaces values by key, None removing one. Equal ``seed`` and names give equal values, so
    a fused file holds the same rows as a plain one.
    """
    words = tokenizer_metadata(shape.vocabulary, thinking, shape.architecture)
    values = {**text_metadata(shape), **words, **(metadata or {})}
    tensors = [entry for entry in text_shapes(shape, fused) if entry[0] not in without]
    return _write(path, shape.architecture, values, tensors, types, shape, seed, shuffled, parts)


def write_mmproj(
    path: Path,
    shape: Shape,
    types: TypeChoice = "F16",
    *,
    seed: int = 1,
    without: Collection[str] = (),
    metadata: dict | None = None,
) -> Path:
    """Write the vision half and return its path."""
    values = {**vision_metadata(shape), **(metadata or {})}
    tensors = [entry for entry in vision_shapes(shape) if entry[0] not in without]
    return _write(path, "clip", values, tensors, types, shape, seed, False, 1)


def text_shapes(shape: Shape, fused: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape in torch's order) of every tensor of a text model."""
    if isinstance(shape, HybridShape):
        yield from hybrid_shapes(shape, fused)
        return
    query, key, width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.hidden
    yield "token_embd.weight", (shape.vocabulary, width)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,)
        if fused:
            yield block + "attn_qkv.weight", (query + 2 * key, width)
        else:
            yield block + "attn_q.weight", (query, width)
            yield block + "attn_k.weight", (key, width)
            yield block + "attn_v.weight", (key, width)
        yield block + "attn_q_norm.weight", (shape.head_dim,)
        yield block + "attn_k_norm.weight", (shape.head_dim,)
        yield block + "attn_output.weight", (width, query)
        yield block + "ffn_norm.weight", (width,)
        yield block + "ffn_gate.weight", (shape.intermediate, width)
        yield block + "ffn_up.weight", (shape.intermediate, width)
        yield block + "ffn_down.weight", (width, shape.intermediate)
    yield "output_norm.weight", (width,)
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, width)


def hybrid_shapes(shape: HybridShape, fused: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The same for Qwen3.5; the layers that draft tokens come last and attend."""
    width, keys, values = shape.hidden, shape.key_heads * shape.state, shape.value_heads * shape.state
    query, key = 2 * shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "token_embd.weight", (shape.vocabulary, width)
    for layer in range(shape.layers + shape.drafts):
        block = f"blk.{layer}."
        yield block + "attn_norm.weight", (width,)
        if shape.is_recurrent(layer):
            yield block + "ssm_a", (shape.value_heads,)
            yield block + "ssm_conv1d.weight", (2 * keys + values, shape.kernel)
            yield block + "ssm_dt.bias", (shape.value_heads,)
            yield block + "ssm_alpha.weight", (shape.value_heads, width)
            yield block + "ssm_beta.weight", (shape.value_heads, width)
            yield block + "attn_qkv.weight", (2 * keys + values, width)
            yield block + "attn_gate.weight", (values, width)
            yield block + "ssm_norm.weight", (shape.state,)
            yield block + "ssm_out.weight", (width, values)
        else:
            if fused:
                yield block + "attn_qkv.weight", (query + 2 * key, width)
            else:
                yield block + "attn_q.weight", (query, width)
                yield block + "attn_k.weight", (key, width)
                yield block + "attn_v.weight", (key, width)
            yield block + "attn_q_norm.weight", (shape.head_dim,)
            yield block + "attn_k_norm.weight", (shape.head_dim,)
            yield block + "attn_output.weight", (width, query // 2)
        if isinstance(shape, ExpertShape):
            yield from expert_shapes(shape, block, fused)
        else:
            yield block + "ffn_gate.weight", (shape.intermediate, width)
            yield block + "ffn_up.weight", (shape.intermediate, width)
            yield block + "ffn_down.weight", (width, shape.intermediate)
        yield block + "post_attention_norm.weight", (width,)
        if layer >= shape.layers:
            yield block + "nextn.eh_proj.weight", (width, 2 * width)
            for norm in ("enorm", "hnorm", "shared_head_norm"):
                yield f"{block}nextn.{norm}.weight", (width,)
    yield "output_norm.weight", (width,)
    if not shape.tied:
        yield "output.weight", (shape.vocabulary, width)


def expert_shapes(shape: ExpertShape, block: str, fused: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    width = shape.hidden
    yield block + "ffn_gate_inp.weight", (shape.experts, width)
    if fused:
        yield block + "ffn_gate_up_exps.weight", (shape.experts, 2 * shape.expert, width)
    else:
        yield block + "ffn_gate_exps.weight", (shape.experts, shape.expert, width)
        yield block + "ffn_up_exps.weight", (shape.experts, shape.expert, width)
    yield block + "ffn_down_exps.weight", (shape.experts, width, shape.expert)
    yield block + "ffn_gate_inp_shexp.weight", (width,)
    yield block + "ffn_gate_shexp.weight", (shape.shared, width)
    yield block + "ffn_up_shexp.weight", (shape.shared, width)
    yield block + "ffn_down_shexp.weight", (width, shape.shared)


def vision_shapes(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(name, shape in torch's order) of every tensor of an mmproj."""
    width, inner = shape.vision_hidden, shape.vision_intermediate

    def layer(name, *size):
        yield name + ".weight", size
        yield name + ".bias", size[:1]

    yield "v.patch_embd.weight", (width, 3, 16, 16)
    yield "v.patch_embd.weight.1", (width, 3, 16, 16)
    yield "v.patch_embd.bias", (width,)
    yield "v.position_embd.weight", (shape.grid_side**2, width)
    for index in range(shape.vision_layers):
        block = f"v.blk.{index}."
        yield from layer(block + "ln1", width)
        yield from layer(block + "attn_qkv", 3 * width, width)
        yield from layer(block + "attn_out", width, width)
        yield from layer(block + "ln2", width)
        yield from layer(block + "ffn_up", inner, width)
        yield from layer(block + "ffn_down", width, inner)
    yield from layer("v.post_ln", width)
    yield from layer("mm.0", 4 * width, 4 * width)
    yield from layer("mm.2", shape.hidden, 4 * width)
    for index in shape.deepstack:
        yield from layer(f"v.deepstack.{index}.norm", 4 * width)
        yield from layer(f"v.deepstack.{index}.fc1", 4 * width, 4 * width)
        yield from layer(f"v.deepstack.{index}.fc2", shape.hidden, 4 * width)


def text_metadata(shape: Shape) -> dict:
    if isinstance(shape, HybridShape):
        return hybrid_metadata(shape)
    return {
        "general.type": "model",
        "general.name": f"Random {shape.name}",
        "qwen3vl.block_count": shape.layers,
        "qwen3vl.context_length": 262144,
        "qwen3vl.embedding_length": shape.hidden,
        "qwen3vl.feed_forward_length": shape.intermediate,
        "qwen3vl.attention.head_count": shape.heads,
        "qwen3vl.attention.head_count_kv": shape.kv_heads,
        "qwen3vl.attention.key_length": shape.head_dim,
        "qwen3vl.attention.value_length": shape.head_dim,
        "qwen3vl.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen3vl.rope.freq_base": 5e6,
        "qwen3vl.rope.dimension_sections": list(shape.sections),
        "qwen3vl.n_deepstack_layers": len(shape.deepstack),
    }


def hybrid_metadata(shape: HybridShape) -> dict:
    values = dense_metadata(shape)
    if not isinstance(shape, ExpertShape):
        return values
    del values["qwen35.feed_forward_length"]
    values |= {
        "qwen35.expert_count": shape.experts,
        "qwen35.expert_used_count": shape.used,
        "qwen35.expert_feed_forward_length": shape.expert,
        "qwen35.expert_shared_feed_forward_length": shape.shared,
    }
    return {key.replace("qwen35.", "qwen35moe."): value for key, value in values.items()}


def dense_metadata(shape: HybridShape) -> dict:
    return {
        "general.type": "model",
        "general.name": f"Random {shape.name}",
        "qwen35.block_count": shape.layers + shape.drafts,
        "qwen35.context_length": 262144,
        "qwen35.embedding_length": shape.hidden,
        "qwen35.feed_forward_length": shape.intermediate,
        "qwen35.attention.head_count": shape.heads,
        "qwen35.attention.head_count_kv": shape.kv_heads,
        "qwen35.rope.dimension_sections": list(shape.sections),
        "qwen35.rope.freq_base": 1e7,
        "qwen35.rope.dimension_count": shape.rotary,
        "qwen35.attention.layer_norm_rms_epsilon": 1e-6,
        "qwen35.attention.key_length": shape.head_dim,
        "qwen35.attention.value_length": shape.head_dim,
        "qwen35.nextn_predict_layers": shape.drafts,
        "qwen35.ssm.conv_kernel": shape.kernel,
        "qwen35.ssm.state_size": shape.state,
        "qwen35.ssm.group_count": shape.key_heads,
        "qwen35.ssm.time_step_rank": shape.value_heads,
        "qwen35.ssm.inner_size": shape.value_heads * shape.state,
        "qwen35.attention.recurrent_layers": [shape.is_recurrent(i) for i in range(shape.layers + shape.drafts)],
        "qwen35.full_attention_interval": shape.interval,
    }


def vision_metadata(shape: Shape) -> dict:
    return {
        "general.type": "mmproj",
        "clip.has_vision_encoder": True,
        "clip.projector_type": "qwen3vl_merger",
        "clip.use_gelu": True,
        "clip.vision.projection_dim": shape.hidden,
        "clip.vision.image_size": shape.grid_side * 16,
        "clip.vision.patch_size": 16,
        "clip.vision.embedding_length": shape.vision_hidden,
        "clip.vision.feed_forward_length": shape.vision_intermediate,
        "clip.vision.block_count": shape.vision_layers,
        "clip.vision.attention.head_count": shape.vision_heads,
        "clip.vision.attention.layer_norm_epsilon": 1e-6,
        "clip.vision.spatial_merge_size": 2,
        "clip.vision.image_mean": [0.5, 0.5, 0.5],
        "clip.vision.image_std": [0.5, 0.5, 0.5],
        "clip.vision.is_deepstack_layers": [index in shape.deepstack for index in range(shape.vision_layers)],
    }


def tokenizer_metadata(vocabulary: int, thinking: bool = False, architecture: str = "qwen3vl") -> dict:
    """A byte-level tokenizer that knows every byte, pairs of small letters, Qwen's special tokens, and padding."""
    tokens = sorted(ByteLevel.alphabet())
    letters = "abcdefghijklmnopqrstuvwxyz"
    merges = [f"{first} {second}" for first in letters for second in letters]
    merges = merges[: max(0, vocabulary - len(tokens) - len(SPECIALS) - len(USER_DEFINED))]
    tokens += [merge.replace(" ", "") for merge in merges]
    types = [1] * len(tokens) + [3] * len(SPECIALS) + [4] * len(USER_DEFINED)
    tokens += [*SPECIALS, *USER_DEFINED]
    tokens += [f"[PAD{index}]" for index in range(len(tokens), vocabulary)]
    template = ANSWER.replace("assistant\\n", "assistant\\n<think>\\n") if thinking else ANSWER
    if architecture.startswith("qwen35"):
        template = SWITCHABLE_ANSWER
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen35" if architecture.startswith("qwen35") else "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types + [5] * (vocabulary - len(types)),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.chat_template": template,
    }


def q4_k_m(name: str, shape: Shape) -> str:
    """The mix that llama-quantize makes under this name, for dense models."""
    if name == "token_embd.weight":
        return "Q6_K" if shape.tied else "Q4_K"
    if name == "output.weight":
        return "Q6_K"
    if "attn_v" in name or "ffn_down" in name:
        layer, eighth = int(name.split(".")[1]), shape.layers // 8
        if layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2:
            return "Q6_K"
    return "Q4_K"


def random_blocks(qtype: str, rows: int, columns: int, generator: np.random.Generator) -> np.ndarray:
    """Valid random blocks uint8 [rows, row_bytes] of weights with deviation ``columns ** -0.5`` and a mean near 0."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[qtype]]
    blocks = np.frombuffer(generator.bytes(rows * (columns // block) * size), np.uint8).copy().reshape(-1, size)
    deviation, ratio = _unit_scales(qtype)
    scales = generator.uniform(0.5, 1.5, len(blocks)) * columns**-0.5 / deviation
    for offset, factor in zip(HALF_SCALES[qtype], (1.0, ratio), strict=False):
        blocks[:, offset : offset + 2] = (scales * factor).astype("<f2")[:, None].view(np.uint8)
    return blocks.reshape(rows, -1)


@functools.cache
def _unit_scales(qtype: str) -> tuple[float, float]:
    """Deviation of random weights of scale 1, and the minimum (or offset) that puts their mean at 0."""
    kind = gguf.GGMLQuantizationType[qtype]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    codes = np.frombuffer(np.random.default_rng(0).bytes(512 * size), np.uint8).reshape(512, size)

    def weights(*scales):
        blocks = codes.copy()
        for offset, scale in zip(HALF_SCALES[qtype], scales, strict=False):
            blocks[:, offset : offset + 2] = np.array([scale], "<f2").view(np.uint8)
        return gguf.dequantize(blocks, kind).astype(np.float64)

    if len(HALF_SCALES[qtype]) == 1:
        return float(weights(1).std()), 0.0
    ratio = -weights(1, 0).mean() / weights(0, 1).mean()
    return float(weights(1, ratio).std()), float(ratio)


def _write(path, architecture, values, tensors, types, shape, seed, shuffled, parts) -> Path:
    choose = q4_k_m if types == "Q4_K_M" else types if callable(types) else (lambda name, shape: types)
    if shuffled:
        np.random.default_rng(seed).shuffle(tensors)
    entries = [(name, size, _stored_type(name, size, choose, shape)) for name, size in tensors]
    if parts == 1:
        _write_file(path, architecture, values, entries, shape, seed)
        return path
    size = -(-len(entries) // parts)
    paths = [path.with_name(f"{path.stem}-{part + 1:05d}-of-{parts:05d}.gguf") for part in range(parts)]
    for part, target in enumerate(paths):
        split = {"split.no": part, "split.count": parts, "split.tensors.count": len(entries)}
        own = {**values, **split} if part == 0 else split
        _write_file(target, architecture, own, entries[part * size : (part + 1) * size], shape, seed)
    return paths[0]


def _stored_type(name: str, size: tuple[int, ...], choose, shape: Shape) -> str:
    if len(size) == 1 or name == "v.position_embd.weight" or "ssm_conv1d" in name or "ffn_gate_inp" in name:
        return "F32"
    qtype = choose(name, shape)
    if "patch_embd" in name:
        return "F16" if qtype == "F16" else "F32"
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[qtype]][0]
    return qtype if size[-1] % block == 0 else "F16"


def _write_file(path: Path, architecture: str, values: dict, entries: list, shape: Shape, seed: int) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in values.items():
        if value is not None:
            _add_value(writer, key, value)
    for name, size, qtype in entries:
        kind = gguf.GGMLQuantizationType[qtype]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        stored = (*size[:-1], size[-1] // block * block_bytes)
        dtype = {"F32": np.dtype(np.float32), "F16": np.dtype(np.float16)}.get(qtype, np.dtype(np.uint8))
        in_file = stored if dtype == np.uint8 else size
        writer.add_tensor_info(name, in_file, dtype, int(np.prod(stored)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, size, qtype in entries:
        writer.write_tensor_data(_values(name, size, qtype, shape, seed))
    writer.close()


def _add_value(writer: gguf.GGUFWriter, key: str, value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _values(name: str, size: tuple[int, ...], qtype: str, shape: Shape, seed: int) -> np.ndarray:
    """The stored array of one tensor; a fused matrix has the rows of the three it replaces."""
    hybrid = isinstance(shape, HybridShape)
    if "attn_qkv" in name and name.startswith("blk.") and not (hybrid and shape.is_recurrent(int(name.split(".")[1]))):
        query, key = (1 + hybrid) * shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        rows = {"attn_q": query, "attn_k": key, "attn_v": key}
        return np.concatenate(
            [
                _values(name.replace("attn_qkv", part), (count, size[1]), qtype, shape, seed)
                for part, count in rows.items()
            ]
        )
    generator = np.random.default_rng([seed, *name.encode()])
    if qtype in ("F32", "F16", "BF16"):
        inputs = size[-1] if "_exps" in name else int(np.prod(size[1:]))
        deviation = 0.1 if len(size) == 1 else inputs**-0.5
        values = generator.standard_normal(size, np.float32) * np.float32(deviation)
        if "norm.weight" in name or (len(size) == 1 and ".ln" in name and name.endswith("weight")):
            values += 1
        elif name.endswith("ssm_a"):
            values = -np.exp(10 * values)
        elif name.endswith("ssm_dt.bias"):
            values -= 2
        return gguf.quantize(values, gguf.GGMLQuantizationType[qtype])
    blocks = random_blocks(qtype, int(np.prod(size[:-1])), size[-1], generator)
    return blocks.reshape(*size[:-1], -1)


if __name__ == "__main__":
    folder, preset, mix = sys.argv[1:4]
    Path(folder).mkdir(parents=True, exist_ok=True)
    for written in write_pair(Path(folder), (SHAPES | {"tiny": TINY})[preset], mix):
        print(written)
