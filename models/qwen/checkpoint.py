"""A model as Hugging Face and ComfyUI save it, in .safetensors files, read as its pair of GGUF files would be.

Names of tensors: Hugging Face's ``Qwen3VLForConditionalGeneration`` and ``Qwen3_5ForConditionalGeneration``; ComfyUI
0.29 (``comfy/text_encoders/qwen3vl.py``, ``qwen35.py``, ``comfy/ops.py``) for the same under its own prefixes, and for
the scales of 8-bit floats. What is transformed is what llama.cpp's converter transforms, but for the value heads of
Qwen3.5, which stay in the makers' order.
"""

import json
import math
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .model_file import FLOAT8, ModelFile, StoredTensor
from .safetensors import map_tensors, read_header, shards
from .video_limits import read_video_limits
from .vocabulary_files import read_json, vocabulary_metadata

PREFIXES = {
    "model.language_model.": "text.", "language_model.model.": "text.", "model.visual.": "visual.",
    "visual.": "visual.", "language_model.lm_head.": "text.lm_head.", "model.lm_head.": "text.lm_head.",
    "lm_head.": "text.lm_head.", "model.mtp.": "mtp.", "mtp.": "mtp.", "model.": "text.",
}  # fmt: skip
OTHERS = re.compile(r"mtp\.|.*(logit_scale|text_projection(\.weight)?|input_scale|scale_input|scaled_fp8|inv_freq)$")
"""What is left out: layers that draft several tokens, and what hosts keep beside a model."""

TEXT = {
    "embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": {"qwen3vl": "ffn_norm", "qwen35": "post_attention_norm"}, "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "linear_attn.in_proj_qkv": "attn_qkv",
    "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_b": "ssm_beta",
    "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
}  # fmt: skip
VISION = {
    "pos_embed": "v.position_embd", "norm1": "ln1", "norm2": "ln2", "attn.qkv": "attn_qkv", "attn.proj": "attn_out",
    "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down", "merger.norm": "v.post_ln", "merger.linear_fc1": "mm.0",
    "merger.linear_fc2": "mm.2", "norm": "norm", "linear_fc1": "fc1", "linear_fc2": "fc2",
    "patch_embed.proj": "v.patch_embd",
}  # fmt: skip
PUBLISHED = {
    ("qwen3vl", 2048): (28, True), ("qwen3vl", 2560): (36, True), ("qwen3vl", 4096): (36, False),
    ("qwen3vl", 5120): (64, False), ("qwen35", 1024): (24, True), ("qwen35", 2048): (24, True),
    ("qwen35", 2560): (32, True), ("qwen35", 4096): (32, False), ("qwen35", 5120): (64, False),
}  # fmt: skip
"""Layers of the published sizes by family and width, and whether the head is the embedding."""

ROTARY = {
    "qwen3vl": {"rope_theta": 5e6, "mrope_section": [24, 20, 20]},
    "qwen35": {"rope_theta": 1e7, "mrope_section": [11, 11, 10], "partial_rotary_factor": 0.25},
}
TOWER_HEADS = {768: 12, 1024: 16, 1152: 16}
DEEPSTACK = {24: (5, 11, 17), 27: (8, 16, 24)}


def family_of(path: str | Path) -> str | None:
    """The family of the model in the .safetensors file at ``path`` by its header alone; None for anything else."""
    try:
        return _family({_canonical(name) for name in read_header(Path(path))})
    except InputError:
        return None


def read_checkpoint(path: str | Path, host: Path | None = None) -> ModelFile:
    """The model at ``path``: a .safetensors file, one of its shards, or their folder; matrices are mapped, not read.

    Constants of the published sizes are known; other sizes need their ``config.json`` in the folder. ``host`` is where
    the host keeps its tokenizers (ComfyUI's ``comfy/text_encoders``), for a folder without one. Raises InputError for
    a model of another kind, without its vision tower, or cut before its last layers.
    """
    paths = shards(Path(path))
    tensors = {}
    for part in paths:
        tensors |= {_canonical(name): tensor for name, tensor in map_tensors(part).items()}
    family = _require_family(paths[0], tensors)
    tensors = _with_scales(paths[0], tensors)
    config = read_json(paths[0].with_name("config.json"))
    shape = _Shape(paths[0], tensors, config)
    metadata = shape.text(family) | vocabulary_metadata(paths[0], family, shape.of("text.embed_tokens.weight")[0], host)
    common = {"path": paths[0], "size": sum(part.stat().st_size for part in paths)}
    tower = ModelFile(metadata=shape.vision(), tensors=_vision_tensors(tensors, shape.deepstack()), **common)
    text = dict(_text_tensor(name, tensor, family) for name, tensor in tensors.items() if name.startswith("text."))
    return ModelFile(metadata=metadata, tensors=text, tower=tower, **common)


def _canonical(name: str) -> str:
    name = re.sub(r"^(\w+\.)?transformer\.", "", name)
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), None)
    return name if prefix is None else PREFIXES[prefix] + name.removeprefix(prefix)


def _family(names) -> str | None:
    if any(name.startswith("text.layers.0.linear_attn.") for name in names):
        return "qwen35"
    if "text.layers.0.self_attn.q_norm.weight" in names and "visual.merger.linear_fc2.weight" in names:
        return "qwen3vl"
    return None


def _require_family(path: Path, tensors) -> str:
    family = _family(tensors)
    if any(".mlp.experts." in name or ".mlp.gate.weight" in name for name in tensors):
        raise InputError(f"{path} is a mixture of experts; only the dense models of its family are supported")
    if family is None and "text.layers.0.self_attn.q_norm.weight" not in tensors:
        raise InputError(
            f"{path} is not a Qwen3-VL or Qwen3.5 model; its tensors begin with {min(tensors, default='')!r}"
        )
    if not any(name.startswith("visual.merger.") for name in tensors):
        raise InputError(f"{path} is a text encoder saved without its vision tower; take the model's whole file")
    return family


def _with_scales(path: Path, tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """The tensors that stand for weights, those in 8-bit floats with their scales."""
    kept = {}
    for name, tensor in tensors.items():
        if OTHERS.match(name) or name.endswith((".weight_scale", ".scale_weight", ".comfy_quant")):
            continue
        layer = name.removesuffix(".weight")
        quantised = tensors.get(layer + ".comfy_quant")
        kind = "" if quantised is None else str(json.loads(bytes(quantised.data.numpy())).get("format"))
        if name.endswith("_scale_inv") or not re.match(r"(float8_e\dm\d.*)?$", kind):
            raise InputError(
                f"{path} stores {layer!r} as {kind or 'blocks of 8-bit floats'}; bf16, fp16 and fp8 with one scale a "
                "matrix can be read"
            )
        if kind and tensor.type == "U8":
            name8 = "F8_E5M2" if "e5m2" in kind else "F8_E4M3"
            tensor = replace(tensor, type=name8, data=tensor.data.view(FLOAT8[name8]).view(tensor.shape))
        scale = tensors.get(layer + ".weight_scale", tensors.get(layer + ".scale_weight"))
        if tensor.type in FLOAT8 and scale is not None:
            if math.prod(scale.shape) != 1:
                raise InputError(f"{path} has {list(scale.shape)} scales of {layer!r}; one scale a matrix can be read")
            tensor = replace(tensor, scale=float(scale.data.float()))
        kept[name] = tensor
    return kept


def _text_tensor(name: str, tensor: StoredTensor, family: str) -> tuple[str, StoredTensor]:
    """The name that GGUF has for a tensor, and the tensor as GGUF has it."""
    layer, rest = re.fullmatch(r"text\.(?:layers\.(\d+)\.)?(.+)", name).groups()
    block = "" if layer is None else f"blk.{layer}."
    if rest == "linear_attn.A_log":
        return _vector(block + "ssm_a", tensor, lambda values: -values.exp())
    if rest == "linear_attn.dt_bias":
        return _vector(block + "ssm_dt.bias", tensor)
    module, _, kind = rest.rpartition(".")
    stored = TEXT.get(module, module)
    stored = f"{block}{stored if isinstance(stored, str) else stored[family]}.{kind}"
    if module == "linear_attn.conv1d":
        return _vector(stored, tensor, lambda values: values.flatten(1))
    if family == "qwen35" and module.endswith("norm") and module != "linear_attn.norm":
        return _vector(stored, tensor, lambda values: values + 1)
    return stored, replace(tensor, name=stored)


def _vector(name: str, tensor: StoredTensor, change=lambda values: values) -> tuple[str, StoredTensor]:
    values = change(tensor.data.float() * tensor.scale)
    return name, StoredTensor(name, "F32", tuple(values.shape), values)


def _vision_tensors(tensors: dict[str, StoredTensor], deepstack: tuple[int, ...]) -> dict[str, StoredTensor]:
    named = {}
    for name, tensor in tensors.items():
        if not name.startswith("visual."):
            continue
        part, index, rest = re.fullmatch(r"visual\.(?:(blocks|deepstack_merger_list)\.(\d+)\.)?(.+)", name).groups()
        if part == "deepstack_merger_list":
            block = f"v.deepstack.{deepstack[int(index)]}."
        else:
            block = "" if part is None else f"v.blk.{index}."
        module, _, kind = rest.rpartition(".")
        stored = f"{block}{VISION.get(module, module)}.{kind}"
        if stored == "v.patch_embd.weight":
            for frame, suffix in ((0, ""), (1, ".1")):
                data = tensor.data[:, :, frame]
                named[stored + suffix] = replace(tensor, name=stored + suffix, shape=tuple(data.shape), data=data)
        else:
            named[stored] = replace(tensor, name=stored)
    return named


class _Shape:
    """What a model's tensors and its ``config.json`` say of it, under GGUF's keys."""

    def __init__(self, path: Path, tensors: dict[str, StoredTensor], config: dict):
        self.path, self.tensors, self.config = path, tensors, config
        self.text_config, self.vision_config = config.get("text_config", {}), config.get("vision_config", {})
        self.layers = self.count(r"text\.layers\.(\d+)\.")

    def of(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors:
            raise InputError(
                f"{self.path} lacks {name.partition('.')[2]!r}; it is incomplete, or was cut for another use"
            )
        return self.tensors[name].shape

    def count(self, pattern: str) -> int:
        return 1 + max((int(match[1]) for match in map(re.compile(pattern).match, self.tensors) if match), default=-1)

    def text(self, family: str) -> dict:
        hidden = self.of("text.embed_tokens.weight")[1]
        self.require_whole(family, hidden)
        recurrent = [f"text.layers.{layer}.linear_attn.A_log" in self.tensors for layer in range(self.layers)]
        attending = f"text.layers.{recurrent.index(False) if False in recurrent else 0}.self_attn."
        head_dim = self.of(attending + "q_norm.weight")[0]
        rotary = self.rotary(family)
        values = {
            "block_count": self.layers,
            "context_length": self.text_config.get("max_position_embeddings", 262144),
            "embedding_length": hidden,
            "feed_forward_length": self.of("text.layers.0.mlp.gate_proj.weight")[0],
            "attention.head_count": self.of(attending + "o_proj.weight")[1] // head_dim,
            "attention.head_count_kv": self.of(attending + "k_proj.weight")[0] // head_dim,
            "attention.key_length": head_dim,
            "attention.layer_norm_rms_epsilon": self.text_config.get("rms_norm_eps", 1e-6),
            "rope.freq_base": float(rotary["rope_theta"]),
            "rope.dimension_sections": np.array(rotary["mrope_section"]),
            "n_deepstack_layers": len(self.deepstack()),
        }
        if rotary.get("rope_type", "default") != "default":
            values |= {"rope.scaling.type": rotary["rope_type"], "rope.scaling.factor": rotary.get("factor")}
            values["rope.scaling.original_context_length"] = rotary.get("original_max_position_embeddings")
        if family == "qwen35":
            values |= self.delta_nets(recurrent)
            values["rope.dimension_count"] = int(head_dim * rotary["partial_rotary_factor"])
        named = {f"{family}.{key}": value for key, value in values.items() if value is not None}
        return {"general.architecture": family, **named}

    def require_whole(self, family: str, hidden: int) -> None:
        """Raise InputError unless all layers and the head are there, as far as that can be known."""
        if self.text_config:
            layers = self.text_config.get("num_hidden_layers", self.layers)
            tied = self.config.get("tie_word_embeddings", self.text_config.get("tie_word_embeddings", False))
        elif (family, hidden) in PUBLISHED:
            layers, tied = PUBLISHED[family, hidden]
        else:
            raise InputError(f"{self.path} is {hidden} wide, which is no published size; put its config.json beside it")
        missing = [] if self.layers == layers else [f"it has {self.layers} of {layers} layers"]
        missing += [] if "text.norm.weight" in self.tensors else ["its last norm is missing"]
        missing += [] if tied or "text.lm_head.weight" in self.tensors else ["its head is missing"]
        if missing:
            raise InputError(f"{self.path} was cut for use as a text encoder and cannot write: {', '.join(missing)}")

    def rotary(self, family: str) -> dict:
        """Rotary constants: the family's, and over these what ``config.json`` says in its older or newer form."""
        config = self.text_config
        given = {"rope_theta": config.get("rope_theta"), **(config.get("rope_scaling") or {})}
        given |= config.get("rope_parameters") or {}
        return ROTARY[family] | {key: value for key, value in given.items() if value is not None}

    def delta_nets(self, recurrent: list[bool]) -> dict:
        net = f"text.layers.{recurrent.index(True)}.linear_attn."
        (value_heads,), (size,) = self.of(net + "A_log"), self.of(net + "norm.weight")
        channels, *_, kernel = self.of(net + "conv1d.weight")
        key_heads = (channels - value_heads * size) // (2 * size)
        return {
            "attention.recurrent_layers": np.array(recurrent),
            "ssm.conv_kernel": kernel,
            "ssm.state_size": size,
            "ssm.group_count": key_heads,
            "ssm.time_step_rank": value_heads,
            "ssm.inner_size": value_heads * size,
            "ssm.grouped_heads": value_heads != key_heads,
        }

    def deepstack(self) -> tuple[int, ...]:
        """The layers of the tower after which its DeepStack mergers read."""
        count, layers = self.count(r"visual\.deepstack_merger_list\.(\d+)\."), self.count(r"visual\.blocks\.(\d+)\.")
        indexes = tuple(self.vision_config.get("deepstack_visual_indexes", DEEPSTACK.get(layers, ()) if count else ()))
        if len(indexes) != count:
            raise InputError(f"{self.path} has {count} DeepStack mergers; put its config.json beside it")
        return indexes

    def vision(self) -> dict:
        hidden, layers = self.of("visual.patch_embed.proj.bias")[0], self.count(r"visual\.blocks\.(\d+)\.")
        heads = self.vision_config.get("num_heads", TOWER_HEADS.get(hidden))
        if heads is None:
            raise InputError(
                f"{self.path} has a tower of width {hidden}, no published one; put its config.json beside it"
            )
        picture = read_json(self.path.with_name("preprocessor_config.json"))
        deepstack = self.deepstack()
        values = {
            "block_count": layers,
            "embedding_length": hidden,
            "feed_forward_length": self.of("visual.blocks.0.mlp.linear_fc1.bias")[0],
            "attention.head_count": heads,
            "patch_size": self.of("visual.patch_embed.proj.weight")[-1],
            "projection_dim": self.of("visual.merger.linear_fc2.bias")[0],
            "image_mean": np.array(picture.get("image_mean", [0.5] * 3), np.float32),
            "image_std": np.array(picture.get("image_std", [0.5] * 3), np.float32),
            "is_deepstack_layers": np.array([layer in deepstack for layer in range(layers)]),
        }
        limits = asdict(read_video_limits(self.path.parent))
        values |= {f"video.{name}": value for name, value in limits.items()}
        common = {"general.architecture": "clip", "clip.projector_type": "qwen3vl_merger"}
        return common | {f"clip.vision.{key}": value for key, value in values.items()}
