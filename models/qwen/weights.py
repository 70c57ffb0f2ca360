"""From the tensors of the two GGUF files to the parameters of the modules.

Source of the names: llama.cpp's ``convert_hf_to_gguf.py`` and ``gguf-py/gguf/tensor_mapping.py``. Shapes are torch's
and nothing is transposed; the one tensor that the converter takes apart is the 3-D patch embedding.
"""

import re
from dataclasses import replace
from importlib.metadata import version

import torch

from ...kernels import dequantize
from ..errors import InputError
from .families import FAMILIES
from .gguf import readable_type
from .model_file import FLOAT8, FLOATS, ModelFile, StoredTensor
from .text import TextModel
from .vision import VisionModel

TEXT_NAMES = {
    "token_embedding": "token_embd",
    "norm": "output_norm",
    "head": "output",
    "attention_norm": "attn_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
}
VISION_NAMES = {
    "patch_embedding": "v.patch_embd",
    "position_table": "v.position_embd",
    "attention_norm": "ln1",
    "query_key_value": "attn_qkv",
    "attention_output": "attn_out",
    "feed_forward_norm": "ln2",
    "up": "ffn_up",
    "down": "ffn_down",
    "merger.norm": "v.post_ln",
    "merger.first": "mm.0",
    "merger.second": "mm.2",
    "norm": "norm",
    "first": "fc1",
    "second": "fc2",
}
NUMBERED = re.compile(r"(?P<list>layers|blocks|deepstack_mergers)\.(?P<index>\d+)\.(?P<rest>.+)")


def text_tensors(model: TextModel, file: ModelFile) -> dict[str, StoredTensor]:
    """The stored tensor of every parameter of ``model``, by the parameter's name; a tied head is not among them.

    Raises InputError where a tensor is missing, left over, of another shape, or of a type that cannot be read.
    """
    family = model.config.family
    names = {parameter: gguf_text_name(parameter, family) for parameter, _ in model.named_parameters()}
    return _resolve(model, file, names, _split_fused(model, file))


def vision_tensors(model: VisionModel, file: ModelFile) -> dict[str, StoredTensor]:
    """The stored tensor of every parameter of ``model``, by the parameter's name; raises like ``text_tensors``."""
    indexes = model.config.deepstack_indexes
    names = {parameter: gguf_vision_name(parameter, indexes) for parameter, _ in model.named_parameters()}
    return _resolve(model, file, names, _join_patch_embedding(file))


def gguf_text_name(parameter: str, family: str = "qwen3vl") -> str:
    """``layers.3.attention.query.weight`` to ``blk.3.attn_q.weight``."""
    match = NUMBERED.match(parameter)
    module, kind = (match["rest"] if match else parameter).rsplit(".", 1)
    own = FAMILIES[family].tensor_names
    name = own.get(f"{module}.{kind}") or f"{own.get(module) or TEXT_NAMES[module]}.{kind}"
    return f"blk.{match['index']}.{name}" if match else name


def gguf_vision_name(parameter: str, deepstack_indexes: tuple[int, ...]) -> str:
    """``blocks.3.up.bias`` to ``v.blk.3.ffn_up.bias``; a DeepStack merger is stored under its layer's number."""
    match = NUMBERED.match(parameter)
    module, kind = (match["rest"] if match else parameter).rsplit(".", 1)
    if not match:
        return f"{VISION_NAMES[module]}.{kind}"
    if match["list"] == "blocks":
        return f"v.blk.{match['index']}.{VISION_NAMES[module]}.{kind}"
    return f"v.deepstack.{deepstack_indexes[int(match['index'])]}.{VISION_NAMES[module]}.{kind}"


def fill(model: torch.nn.Module, tensors: dict[str, StoredTensor], device=None, dtype=torch.float32) -> None:
    """Give every parameter of ``model`` (built on the meta device) its stored tensor.

    Modules of ``GGUFOperations`` take the blocks as they are. With other operations, ``torch.nn`` for one, the weights
    become dense tensors of ``dtype``: that is what asking for those operations means.
    """
    for name, stored in tensors.items():
        path, kind = name.rsplit(".", 1)
        owner = model.get_submodule(path)
        if hasattr(owner, "load"):
            if kind == "weight":
                owner.load(stored, device)
            else:
                owner.bias = torch.nn.Parameter(stored.data.float().to(device), requires_grad=False)
        else:
            setattr(owner, kind, torch.nn.Parameter(dense(stored, dtype).to(device), requires_grad=False))
    if isinstance(model, TextModel) and model.config.tied:
        model.tie()


def dense(stored: StoredTensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """The numbers of a stored tensor, in its logical shape."""
    if stored.type in FLOAT8:
        return stored.data.to(dtype) * stored.scale
    if stored.is_quantized:
        return dequantize(stored.data, stored.type, dtype)
    return stored.data.to(dtype)


def _resolve(
    model, file: ModelFile, names: dict[str, str], derived: dict[str, StoredTensor]
) -> dict[str, StoredTensor]:
    for stored in file.tensors.values():
        _require_readable(file, stored)
    available = {**file.tensors, **derived}
    needed = set(names.values())
    missing = [name for name in names.values() if name not in available]
    if missing:
        raise InputError(f"{file.path} lacks {len(missing)} tensors: {_first_three(missing)}")
    sources = {stored.name for stored in derived.values()} | {"v.patch_embd.weight.1"} & file.tensors.keys()
    sources |= _draft_tensors(model, file)
    unknown = [name for name in file.tensors if name not in needed and name not in sources]
    if unknown:
        raise InputError(f"{file.path} holds {len(unknown)} tensors that are not of its model: {_first_three(unknown)}")
    tensors = {}
    for parameter, wanted in model.named_parameters():
        stored = available[names[parameter]]
        _require_readable(file, stored)
        if stored.shape == (1, *wanted.shape) and wanted.dim() == 1:
            stored = replace(stored, shape=stored.shape[1:], data=stored.data[0])
        if stored.shape != tuple(wanted.shape):
            raise InputError(
                f"{file.path} has {stored.name!r} of shape {list(stored.shape)}, "
                f"where its metadata makes it {list(wanted.shape)}"
            )
        if stored.is_quantized and wanted.dim() == 1:
            raise InputError(f"{file.path} stores the vector {stored.name!r} as {stored.type}; F32 is needed")
        tensors[parameter] = stored
    return tensors


def _draft_tensors(model, file: ModelFile) -> set[str]:
    """The tensors of the layers that draft several tokens at once, which nothing here runs."""
    first, count = model.config.layers, getattr(model.config, "draft_layers", 0)
    prefixes = tuple(f"blk.{layer}." for layer in range(first, first + count))
    return {name for name in file.tensors if name.startswith(prefixes)}


def _first_three(names: list[str]) -> str:
    return ", ".join(repr(name[:60]) for name in names[:3]) + (", ..." if len(names) > 3 else "")


def _require_readable(file: ModelFile, stored: StoredTensor) -> None:
    if stored.type not in FLOAT8 and not readable_type(stored.type):
        raise InputError(
            f"{file.path} stores {stored.name!r} as {stored.type}, which gguf {version('gguf')} cannot read; "
            "take a file of another quantisation (Q4_K_M, Q8_0, ...)"
        )


def _split_fused(model: TextModel, file: ModelFile) -> dict[str, StoredTensor]:
    """The matrices of layers that store several as rows of one, each a view of it."""
    config, derived = model.config, {}
    for layer in range(config.layers):
        for matrix, parts in FAMILIES[config.family].fused_rows(config, layer).items():
            fused = file.tensors.get(f"blk.{layer}.{matrix}.weight")
            if fused is None:
                continue
            _require_readable(file, fused)
            rows = max(stop for _, stop in parts.values())
            if len(fused.shape) < 2 or fused.shape[-2] != rows:
                raise InputError(f"{file.path} has {fused.name!r} of shape {list(fused.shape)}; {rows} rows are needed")
            for name, (start, stop) in parts.items():
                derived[f"blk.{layer}.{name}.weight"] = fused.rows(start, stop)
    return derived


def _join_patch_embedding(file: ModelFile) -> dict[str, StoredTensor]:
    """The 3-D patch embedding as one matrix [C, 3 * 2 * side * side], from two temporal slices [C, 3, side, side]."""
    slices = [file.tensors.get(name) for name in ("v.patch_embd.weight", "v.patch_embd.weight.1")]
    if None in slices:
        missing = "v.patch_embd.weight" if slices[0] is None else "v.patch_embd.weight.1"
        raise InputError(f"{file.path} lacks the tensor {missing!r}; the patch embedding takes two, one for each frame")
    first, second = slices
    if first.shape != second.shape or first.type != second.type or first.type not in FLOATS or len(first.shape) != 4:
        raise InputError(
            f"{file.path} has patch embedding slices {list(first.shape)} {first.type} and {list(second.shape)} "
            f"{second.type}; two equal ones in F32, F16 or BF16 are needed"
        )
    joined = torch.stack([first.data, second.data], dim=2).flatten(1)
    return {first.name: StoredTensor(first.name, first.type, tuple(joined.shape), joined)}
