"""Where a model computes, in what dtype, and how much memory that takes."""

import re
from pathlib import Path

import torch

from ..errors import InputError
from .config import TextConfig, VisionConfig
from .generate import PREFILL_CHUNK
from .loading import Qwen3VL, load_qwen3vl
from .operations import GGUFOperations

TILE_BYTES = 128 << 20
"""What dequantising one tile of a weight takes beside the activations."""


def compute_dtype(device: torch.device | str) -> torch.dtype:
    """The dtype for states on ``device``: bfloat16 where it is fast, else float32.

    Never float16: Qwen's residual stream has outliers beyond its range.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if kind == "cpu":
        return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32
    return torch.bfloat16


def cache_bytes(config: TextConfig, tokens: int, dtype: torch.dtype, int8: bool = False) -> int:
    """Bytes that a cache of ``tokens`` rows keeps: keys and values, and the states of recurrent layers."""
    attending = sum(map(config.attends, range(config.layers)))
    numbers = 2 * attending * config.kv_heads * config.head_dim * tokens
    return config.state_bytes + (numbers * 34 // 32 if int8 else numbers * dtype.itemsize)


def reading_bytes(
    config: TextConfig, tokens: int, dtype: torch.dtype, int8: bool = False, chunk: int = PREFILL_CHUNK
) -> int:
    """Bytes beside the weights to read and write ``tokens`` in chunks of ``chunk``.

    The cache and the states of a fork of it, the embeddings of the prompt, one layer's activations at their widest
    (states, normed states and three intermediate rows, or what its attention holds), and the logits of one row.
    """
    rows = min(tokens, chunk)
    wide = rows * (2 * config.hidden_size + 3 * config.intermediate_size) * dtype.itemsize
    layer = wide + config.attention_bytes(rows, dtype.itemsize)
    logits = config.vocabulary * 12
    prompt = tokens * config.hidden_size * (1 + config.deepstack_layers) * dtype.itemsize
    kept = cache_bytes(config, tokens, dtype, int8) + config.state_bytes
    return kept + layer + logits + prompt + TILE_BYTES


def seeing_bytes(config: VisionConfig, patches: int, dtype: torch.dtype) -> int:
    """Bytes beside the weights to run ``patches`` patches through the vision tower at once.

    The patches themselves in float32, the states, queries, keys and values (float32 while rotated), the MLP's two
    intermediate rows, and the merged tokens of every DeepStack level.
    """
    width = config.hidden_size
    levels = 1 + len(config.deepstack_indexes)
    merged = levels * config.output_size * dtype.itemsize // config.merge_size**2
    attention = 3 * width * (dtype.itemsize + 4)
    feed_forward = 2 * config.intermediate_size * dtype.itemsize
    states = 2 * width * dtype.itemsize
    return patches * (8 * config.patch_values + states + max(attention, feed_forward) + merged) + TILE_BYTES


def best_device() -> str:
    """The device on which a model runs where none is named: the first GPU, the CPU where there is none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def load_placed(path: str | Path, mmproj: str | Path | None = "auto", device: str | None = None) -> Qwen3VL:
    """Load a model, ready to run as fast as ``device`` allows: the first GPU by default, the CPU where there is none.

    On the CPU weights stay in the mapped file and activations are rounded to 8 bits
    (:meth:`.loading.Qwen3VL.round_activations`). On a GPU they are placed by :func:`to_device`.
    """
    device = device or best_device()
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", device) is None:
        raise InputError(f"the device is {device[:40]!r}; 'cpu', 'cuda' or one of several ('cuda:1') is needed")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"the device is {device!r}, and torch {torch.__version__} finds no GPU here; use 'cpu'")
    if device.startswith("cuda") and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise InputError(f"the device is {device!r}, and there are {torch.cuda.device_count()} GPUs here; use 'cuda'")
    model = load_qwen3vl(path, mmproj, dtype=compute_dtype(device))
    if device == "cpu":
        model.round_activations()
        return model
    return to_device(model, torch.device(device))


def to_device(
    model: Qwen3VL, device: torch.device, free_bytes: int | None = None, reserve_tokens: int = 16384
) -> Qwen3VL:
    """Spread a model that was loaded on the CPU over ``device`` and the CPU, the language model first, by free memory.

    What does not fit stays quantised in the memory map and is copied to ``device`` for each pass, layer by layer: the
    tower's once for each batch of pictures, about 15 times for 30 s of video, the language model's for every token
    written. By the byte its layers all count alike, delta nets and attention.
    ``reserve_tokens`` is the context for which memory is left free; ``free_bytes`` is asked of the device by default.
    """
    import accelerate

    index = device.index or 0
    if free_bytes is None:
        free_bytes = torch.cuda.mem_get_info(device)[0]
    budget = free_bytes - reading_bytes(model.config.text, reserve_tokens, model.dtype)
    for half, unsplit in ((model.text, "DecoderLayer"), (model.vision, "VisionBlock")):
        if half is None:
            continue
        for layer in half.modules():
            if isinstance(layer, (GGUFOperations.Embedding, GGUFOperations.Experts)):
                layer.stay(device)
        memory = {index: max(budget, 0), "cpu": 1 << 50}
        chosen = accelerate.infer_auto_device_map(half, memory, no_split_module_classes=[unsplit])
        budget -= sum(
            parameter.nbytes
            for name, where in chosen.items()
            if where == index
            for parameter in half.get_submodule(name).parameters()
        )
        accelerate.dispatch_model(half, chosen, main_device=index)
    model.device = device
    return model
