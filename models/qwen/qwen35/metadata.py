"""What the file of a Qwen3.5 language model says about it, and what it calls its tensors."""

from dataclasses import dataclass

from ...errors import InputError
from ..config import Metadata, TextConfig, text_fields
from .delta_rule import CHUNK, SEGMENT

TENSOR_NAMES = {
    "feed_forward_norm": "post_attention_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.gate": "attn_gate",
    "attention.strength": "ssm_beta",
    "attention.convolution": "ssm_conv1d",
    "attention.decay": "ssm_alpha",
    "attention.rate.weight": "ssm_a",
    "attention.rate.bias": "ssm_dt.bias",
    "attention.norm": "ssm_norm",
    "attention.read_out": "ssm_out",
}


EXPERT_NAMES = {
    "feed_forward.router": "ffn_gate_inp",
    "feed_forward.gate": "ffn_gate_exps",
    "feed_forward.up": "ffn_up_exps",
    "feed_forward.down": "ffn_down_exps",
    "feed_forward.shared.gate": "ffn_gate_shexp",
    "feed_forward.shared.up": "ffn_up_shexp",
    "feed_forward.shared.down": "ffn_down_shexp",
    "feed_forward.shared_gate": "ffn_gate_inp_shexp",
}
"""The feed-forward part of a mixture of experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridConfig(TextConfig):
    """The language model of Qwen3.5, in which most layers are gated delta nets.

    Attributes:
        recurrent: for each layer whether it is a delta net; the others attend.
        key_heads, value_heads: of a delta net; value heads are whole groups of key heads.
        state_size: channels of each of these heads.
        kernel_size: rows that the convolution of a delta net spans.
        grouped: value heads of one key head are side by side, as in the makers' files; else they are
            ``key_heads`` apart, as in GGUF files.
        experts, experts_used: of a mixture of experts, and how many of them a row takes; 0 in a dense model.
        expert_size, shared_expert_size: inner channels of one of these, and of the one that all rows take.
    """

    recurrent: tuple[bool, ...]
    key_heads: int
    value_heads: int
    state_size: int
    kernel_size: int
    grouped: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_size: int = 0
    shared_expert_size: int = 0

    def attends(self, layer: int) -> bool:
        """Whether ``layer`` keeps keys and values; a delta net keeps a state instead."""
        return not self.recurrent[layer]

    @property
    def state_bytes(self) -> int:
        """Bytes of all delta nets' states and convolution inputs, however many rows were read."""
        state = self.value_heads * self.state_size**2
        inputs = (self.kernel_size - 1) * (2 * self.key_heads + self.value_heads) * self.state_size
        return 4 * sum(self.recurrent) * (state + inputs)

    def attention_bytes(self, rows: int, itemsize: int) -> int:
        """Bytes at the widest: in softmax attention with its gate, in the convolution, or in the delta rule.

        The rule has the channels, queries and keys in float32, and for a segment of rows ten times its values and four
        products of a chunk.
        """
        attention = TextConfig.attention_bytes(self, rows, itemsize) + rows * self.heads * self.head_dim * itemsize
        values = self.value_heads * self.state_size
        channels = 2 * self.key_heads * self.state_size + values
        convolution = rows * channels * (3 * itemsize + 8)
        segment = min(rows, SEGMENT) * 4 * (10 * values + 4 * CHUNK * self.value_heads)
        return max(attention, convolution, rows * (5 * channels + 8 * values) + segment)


def read_config(get: Metadata) -> HybridConfig:
    """The configuration; raises InputError where a value is missing or cannot be."""
    path = get.file.path
    blocks, skipped = get.count("block_count"), get.count("nextn_predict_layers", 0, least=0)
    if skipped and not any(name.startswith("blk.0.") for name in get.file.tensors):
        raise InputError(f"{path} holds only the layers that draft several tokens at once; give the model's own file")
    layers = max(blocks - skipped, 1)
    key_heads, value_heads = get.count("ssm.group_count"), get.count("ssm.time_step_rank")
    state_size, inner = get.count("ssm.state_size"), get.count("ssm.inner_size")
    if value_heads % key_heads or inner != value_heads * state_size:
        raise InputError(
            f"{path} has delta nets of {key_heads} key heads, {value_heads} value heads of {state_size} and "
            f"{inner} channels; value heads must be whole groups of key heads and fill the channels"
        )
    rotary_dim = get.count("rope.dimension_count")
    experts = _expert_fields(get) if get.file.architecture == "qwen35moe" else {}
    active = experts["experts_used"] * experts["expert_size"] + experts["shared_expert_size"] if experts else None
    return HybridConfig(
        **text_fields(get, layers, rotary_dim, active),
        **experts,
        family=get.file.architecture,
        rotary_dim=rotary_dim,
        draft_layers=skipped,
        deepstack_layers=get.count("n_deepstack_layers", 0, least=0),
        recurrent=_recurrent_layers(get, layers),
        key_heads=key_heads,
        value_heads=value_heads,
        state_size=state_size,
        kernel_size=get.count("ssm.conv_kernel", least=2, most=64),
        grouped=get.flag("ssm.grouped_heads", False),
    )


def _expert_fields(get: Metadata) -> dict[str, int]:
    experts = get.count("expert_count")
    return {
        "experts": experts,
        "experts_used": get.count("expert_used_count", most=experts),
        "expert_size": get.count("expert_feed_forward_length"),
        "shared_expert_size": get.count("expert_shared_feed_forward_length"),
    }


def _recurrent_layers(get: Metadata, layers: int) -> tuple[bool, ...]:
    """Which layers are delta nets: by the list that newer files have, else all but every so manieth."""
    interval = get.count("full_attention_interval", 4)
    if get.has("attention.recurrent_layers"):
        flags = get.array("attention.recurrent_layers")
        if len(flags) < layers:
            raise InputError(f"{get.file.path} marks {len(flags)} of {layers} layers in attention.recurrent_layers")
        return tuple(bool(flag) for flag in flags[:layers])
    return tuple((layer + 1) % interval != 0 for layer in range(layers))


def fused_rows(config: HybridConfig, layer: int) -> dict[str, dict[str, tuple[int, int]]]:
    """Query with its gate, key and value of a layer that attends, and both matrices into each expert.

    A delta net has one matrix to begin with.
    """
    query, key, inner = 2 * config.heads * config.head_dim, config.kv_heads * config.head_dim, config.expert_size
    fused = {}
    if config.experts:
        fused["ffn_gate_up_exps"] = {"ffn_gate_exps": (0, inner), "ffn_up_exps": (inner, 2 * inner)}
    if not config.recurrent[layer]:
        values = (query + key, query + 2 * key)
        fused["attn_qkv"] = {"attn_q": (0, query), "attn_k": (query, query + key), "attn_v": values}
    return fused
