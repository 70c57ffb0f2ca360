"""Where a model computes, in what dtype, and how much memory that takes."""

import torch

from .config import TextConfig, VisionConfig

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
    """Bytes of a key-value cache of ``tokens`` rows."""
    numbers = 2 * config.layers * config.kv_heads * config.head_dim * tokens
    return numbers * 34 // 32 if int8 else numbers * dtype.itemsize


def reading_bytes(config: TextConfig, tokens: int, dtype: torch.dtype, int8: bool = False, chunk: int = 512) -> int:
    """Bytes beside the weights to read and write ``tokens`` in chunks of ``chunk``.

    The cache, the embeddings of the prompt, and one layer's activations at their widest: states, normed states and
    three intermediate rows, or queries in float32 while they are rotated, and the logits of one row.
    """
    rows = min(tokens, chunk)
    wide = (2 * config.hidden_size + 3 * config.intermediate_size) * dtype.itemsize
    rotated = 3 * 4 * (config.heads + config.kv_heads) * config.head_dim
    logits = config.vocabulary * 12
    prompt = tokens * config.hidden_size * (1 + config.deepstack_layers) * dtype.itemsize
    return cache_bytes(config, tokens, dtype, int8) + rows * (wide + rotated) + logits + prompt + TILE_BYTES


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
