"""What the file of a Qwen3-VL language model says about it, and what it calls its tensors."""

from ..config import Metadata, TextConfig, text_fields

TENSOR_NAMES = {"feed_forward_norm": "ffn_norm"}


def read_config(get: Metadata) -> TextConfig:
    """The configuration; raises InputError where a value is missing or cannot be."""
    return TextConfig(
        **text_fields(get, get.count("block_count")), deepstack_layers=get.count("n_deepstack_layers", 0, least=0)
    )


def fused_rows(config: TextConfig, layer: int) -> dict[str, dict[str, tuple[int, int]]]:
    """Query, key and value as one matrix, ``attn_qkv``."""
    query, key = config.heads * config.head_dim, config.kv_heads * config.head_dim
    values = (query + key, query + 2 * key)
    return {"attn_qkv": {"attn_q": (0, query), "attn_k": (query, query + key), "attn_v": values}}
