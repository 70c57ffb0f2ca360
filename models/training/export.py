"""A trained model as the ordinary pair of GGUF files, named as the official converter names things.

Sources: llama.cpp's ``convert_hf_to_gguf.py`` (tensor and key names of Qwen3-VL), the ``gguf`` library (the file).
"""

import os
from pathlib import Path

import gguf
import numpy as np
import torch

from ..errors import InputError
from ..files import writing
from ..qwen.config import TextConfig, VisionConfig
from ..qwen.weights import gguf_text_name, gguf_vision_name

TYPES = {
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "F32": gguf.LlamaFileType.ALL_F32,
}


def export_pair(model, tokenizer: dict, folder: str | os.PathLike, name: str, kind: str = "Q8_0") -> tuple[Path, Path]:
    """Write ``NAME-KIND.gguf`` and ``mmproj-NAME-KIND.gguf`` into ``folder``, whole or not at all, and return both.

    Args:
        model: a :class:`.tiny.TinyQwen3VL`.
        tokenizer: metadata from :func:`.vocabulary.learn_vocabulary`.
        kind: of matrices whose rows divide into its blocks: "Q8_0", "F16" or "F32". Vectors and the position table
            are F32 and the patch embedding F16 at least, as the converter has them.
    """
    if kind not in TYPES:
        raise InputError(f"the type of the exported weights is {kind!r}; it must be one of {', '.join(TYPES)}")
    folder = Path(folder)
    text, vision = folder / f"{name}-{kind}.gguf", folder / f"mmproj-{name}-{kind}.gguf"
    config = model.config
    values = {**text_metadata(config.text), **tokenizer}
    tensors = {gguf_text_name(parameter): value for parameter, value in model.text.named_parameters()}
    write_file(text, "qwen3vl", {**_general(name, "model", kind), **values}, tensors, kind)
    tensors = {}
    for parameter, value in model.vision.named_parameters():
        stored = gguf_vision_name(parameter, config.vision.deepstack_indexes)
        tensors.update(
            split_patch_embedding(value, config.vision) if stored == "v.patch_embd.weight" else {stored: value}
        )
    values = {**_general(name, "mmproj", kind), **vision_metadata(config.vision)}
    write_file(vision, "clip", values, tensors, kind)
    return text, vision


def _general(name: str, role: str, kind: str) -> dict:
    return {
        "general.type": role,
        "general.name": name,
        "general.file_type": int(TYPES[kind]),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
    }


def text_metadata(config: TextConfig) -> dict:
    """The keys of a language model; a section of 0 frequencies is for the axis that Qwen3-VL does not have."""
    return {
        "qwen3vl.block_count": config.layers,
        "qwen3vl.context_length": config.context_length,
        "qwen3vl.embedding_length": config.hidden_size,
        "qwen3vl.feed_forward_length": config.intermediate_size,
        "qwen3vl.attention.head_count": config.heads,
        "qwen3vl.attention.head_count_kv": config.kv_heads,
        "qwen3vl.attention.key_length": config.head_dim,
        "qwen3vl.attention.value_length": config.head_dim,
        "qwen3vl.attention.layer_norm_rms_epsilon": config.rms_epsilon,
        "qwen3vl.rope.freq_base": config.rope_base,
        "qwen3vl.rope.dimension_sections": [*config.rope_sections, 0],
        "qwen3vl.n_deepstack_layers": config.deepstack_layers,
        "qwen3vl.vocab_size": config.vocabulary,
    }


def vision_metadata(config: VisionConfig) -> dict:
    """The keys of a vision tower."""
    return {
        "clip.has_vision_encoder": True,
        "clip.projector_type": "qwen3vl_merger",
        "clip.use_gelu": True,
        "clip.vision.projection_dim": config.output_size,
        "clip.vision.image_size": config.grid_side * config.patch_size,
        "clip.vision.patch_size": config.patch_size,
        "clip.vision.embedding_length": config.hidden_size,
        "clip.vision.feed_forward_length": config.intermediate_size,
        "clip.vision.block_count": config.layers,
        "clip.vision.attention.head_count": config.heads,
        "clip.vision.attention.layer_norm_epsilon": config.epsilon,
        "clip.vision.spatial_merge_size": config.merge_size,
        "clip.vision.image_mean": list(config.image_mean),
        "clip.vision.image_std": list(config.image_std),
        "clip.vision.is_deepstack_layers": [index in config.deepstack_indexes for index in range(config.layers)],
    }


def split_patch_embedding(weight: torch.Tensor, config: VisionConfig) -> dict[str, torch.Tensor]:
    """The patch embedding [C, 3 * 2 * side * side] as one slice [C, 3, side, side] for each of the two frames."""
    side = config.patch_size
    frames = weight.unflatten(1, (3, 2, side, side)).unbind(2)
    return dict(zip(("v.patch_embd.weight", "v.patch_embd.weight.1"), frames, strict=True))


def stored_type(name: str, shape: tuple[int, ...], kind: str) -> str:
    """The ggml type of a tensor in a file of ``kind``."""
    if len(shape) == 1 or name == "v.position_embd.weight":
        return "F32"
    if "patch_embd" in name or (kind == "Q8_0" and shape[-1] % 32):
        return "F32" if kind == "F32" else "F16"
    return kind


def write_file(path: Path, architecture: str, values: dict, tensors: dict[str, torch.Tensor], kind: str) -> None:
    """Write metadata and tensors to ``path``, whole or not at all."""
    with writing(path) as partial:
        writer = gguf.GGUFWriter(partial, architecture)
        for key, value in values.items():
            add_value(writer, key, value)
        for name, tensor in tensors.items():
            array = tensor.detach().float().cpu().contiguous().numpy()
            qtype = gguf.GGMLQuantizationType[stored_type(name, array.shape, kind)]
            writer.add_tensor(name, gguf.quantize(array, qtype), raw_dtype=qtype)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def add_value(writer: gguf.GGUFWriter, key: str, value) -> None:
    """Add a metadata value in the type that llama.cpp reads: bool, uint32, float32, string, or an array of these."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value.tolist() if isinstance(value, np.ndarray) else value)
