"""Qwen3-VL pairs with random weights at the true shapes, in the block types and metadata of the published files.

For benchmarks: what they say is gibberish, how long it takes is not. Weights are written as random blocks of the right
spread (about 0.02), because quantising billions of numbers would take minutes and change nothing that is measured.
"""

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

VOCABULARY = 151_936
NORMAL_TOKENS = 151_643
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
SPREAD = 0.02


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of one published size."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    tied: bool
    vision_layers: int = 24
    vision_width: int = 1024
    vision_feed_forward: int = 4096
    deepstack: tuple[int, ...] = (5, 11, 17)
    kv_heads: int = 8
    head_dim: int = 128


SHAPES = {
    "2B": Shape(28, 2048, 6144, 16, tied=True),
    "4B": Shape(36, 2560, 9728, 32, tied=True),
    "8B": Shape(36, 4096, 12288, 32, False, 27, 1152, 4304, (8, 16, 24)),
}


def write_qwen3vl(folder: Path, size: str = "2B", quant: str = "Q4_K_M") -> tuple[Path, Path]:
    """Write ``Random-SIZE-QUANT.gguf`` and its F16 mmproj into ``folder``, unless they are there; return both paths.

    ``quant`` is "Q4_K_M" (llama-quantize's recipe: Q6_K for some values, downs and the embedding), "Q8_0" or "BF16".
    """
    folder.mkdir(parents=True, exist_ok=True)
    text, mmproj = folder / f"Random-{size}-{quant}.gguf", folder / f"mmproj-Random-{size}-F16.gguf"
    for path, write in ((text, _write_text), (mmproj, _write_mmproj)):
        if not path.exists():
            part = path.with_suffix(".part")
            write(part, SHAPES[size], quant)
            part.rename(path)
    return text, mmproj


def _write_text(path: Path, shape: Shape, quant: str) -> None:
    writer = gguf.GGUFWriter(path, "qwen3vl")
    writer.add_type("model")
    writer.add_name("Random")
    writer.add_block_count(shape.layers)
    writer.add_context_length(262_144)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_sections([24, 20, 20, 0])
    writer.add_rope_freq_base(5e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_uint32("qwen3vl.n_deepstack_layers", len(shape.deepstack))
    _add_tokenizer(writer)
    _write_tensors(writer, _text_tensors(shape, quant))


def _text_tensors(shape: Shape, quant: str):
    """(name, shape, ggml type) of every tensor, in the converter's order."""
    fine = {"Q4_K_M": "Q6_K"}.get(quant, quant)
    base = {"Q4_K_M": "Q4_K"}.get(quant, quant)
    query, key, width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim, shape.width
    yield "token_embd.weight", (VOCABULARY, width), fine if shape.tied else base
    if not shape.tied:
        yield "output.weight", (VOCABULARY, width), fine
    for layer in range(shape.layers):
        eighth = shape.layers // 8
        more = layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2
        block = f"blk.{layer}."
        for name in ("attn_norm", "ffn_norm"):
            yield f"{block}{name}.weight", (width,), "F32"
        for name in ("attn_q_norm", "attn_k_norm"):
            yield f"{block}{name}.weight", (shape.head_dim,), "F32"
        yield f"{block}attn_q.weight", (query, width), base
        yield f"{block}attn_k.weight", (key, width), base
        yield f"{block}attn_v.weight", (key, width), fine if more else base
        yield f"{block}attn_output.weight", (width, query), base
        yield f"{block}ffn_gate.weight", (shape.feed_forward, width), base
        yield f"{block}ffn_up.weight", (shape.feed_forward, width), base
        yield f"{block}ffn_down.weight", (width, shape.feed_forward), fine if more else base
    yield "output_norm.weight", (width,), "F32"


def _write_mmproj(path: Path, shape: Shape, quant: str) -> None:
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name("Random")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_string("clip.projector_type", "qwen3vl_merger")
    writer.add_bool("clip.use_gelu", True)
    for key, value in (
        ("projection_dim", shape.width), ("image_size", 768), ("patch_size", 16),
        ("embedding_length", shape.vision_width),
        ("feed_forward_length", shape.vision_feed_forward), ("block_count", shape.vision_layers),
        ("attention.head_count", 16), ("spatial_merge_size", 2),
    ):  # fmt: skip
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    for key in ("image_mean", "image_std"):
        writer.add_array(f"clip.vision.{key}", [0.5, 0.5, 0.5])
    flags = [layer in shape.deepstack for layer in range(shape.vision_layers)]
    writer.add_array("clip.vision.is_deepstack_layers", flags)
    _write_tensors(writer, _vision_tensors(shape))


def _vision_tensors(shape: Shape):
    width, joined = shape.vision_width, 4 * shape.vision_width

    def linear(name, rows, columns):
        yield f"{name}.weight", (rows, columns), "F16"
        yield f"{name}.bias", (rows,), "F32"

    def norm(name, size):
        yield f"{name}.weight", (size,), "F32"
        yield f"{name}.bias", (size,), "F32"

    for name in ("v.patch_embd.weight", "v.patch_embd.weight.1"):
        yield name, (width, 3, 16, 16), "F16"
    yield "v.patch_embd.bias", (width,), "F32"
    yield "v.position_embd.weight", (48 * 48, width), "F32"
    for layer in range(shape.vision_layers):
        block = f"v.blk.{layer}."
        yield from norm(f"{block}ln1", width)
        yield from norm(f"{block}ln2", width)
        yield from linear(f"{block}attn_qkv", 3 * width, width)
        yield from linear(f"{block}attn_out", width, width)
        yield from linear(f"{block}ffn_up", shape.vision_feed_forward, width)
        yield from linear(f"{block}ffn_down", width, shape.vision_feed_forward)
    for layer in shape.deepstack:
        yield from norm(f"v.deepstack.{layer}.norm", joined)
        yield from linear(f"v.deepstack.{layer}.fc1", joined, joined)
        yield from linear(f"v.deepstack.{layer}.fc2", shape.width, joined)
    yield from norm("v.post_ln", width)
    yield from linear("mm.0", joined, joined)
    yield from linear("mm.2", shape.width, joined)


def _write_tensors(writer: gguf.GGUFWriter, tensors) -> None:
    """Write the header, then one random tensor after the other, so that only one is in memory."""
    random = np.random.default_rng(0)
    tensors = list(tensors)
    for name, shape, kind in tensors:
        qtype = gguf.GGMLQuantizationType[kind]
        size = int(np.prod(shape))
        weights, size_of_block = gguf.GGML_QUANT_SIZES[qtype]
        dtype = {"F32": np.float32, "F16": np.float16}.get(kind, np.uint8)
        stored = shape if dtype != np.uint8 else (*shape[:-1], shape[-1] // weights * size_of_block)
        writer.add_tensor_info(name, stored, np.dtype(dtype), size // weights * size_of_block, qtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, shape, kind in tensors:
        writer.write_tensor_data(_random_tensor(random, name, shape, kind))
    writer.close()


def _random_tensor(random: np.random.Generator, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray:
    if "norm" in name or ".ln" in name or "post_ln" in name:
        return np.full(shape, 1.0 if name.endswith("weight") else 0.0, np.float32)
    if kind in ("F32", "F16", "BF16"):
        values = random.standard_normal(shape, np.float32) * np.float32(SPREAD)
        return gguf.quantize(values, gguf.GGMLQuantizationType[kind])
    weights, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    count = int(np.prod(shape)) // weights
    blocks = random.integers(0, 256, (count, size), np.uint8)
    jitter = random.uniform(0.7, 1.3, count) * SPREAD
    scale = {"Q4_K": jitter / (32 * 4.6), "Q6_K": jitter / (16 * 18.5), "Q8_0": jitter / 74}[kind]
    halves = scale.astype(np.float16)[:, None].view(np.uint8)
    if kind == "Q4_K":
        # six-bit scales of 32 and minimums of 60 for all eight groups, so that 4 d offsets the codes' mean of 7.5
        blocks[:, :2], blocks[:, 2:4] = halves, (4 * scale).astype(np.float16)[:, None].view(np.uint8)
        blocks[:, 4:8], blocks[:, 8:12], blocks[:, 12:16] = 32 | 2 << 6, 60 | 3 << 6, 0 | 12 << 4
    elif kind == "Q6_K":
        blocks[:, 192:208], blocks[:, 208:] = 16, halves
    else:
        blocks[:, :2] = halves
    return blocks.reshape(*shape[:-1], -1)


def _add_tokenizer(writer: gguf.GGUFWriter) -> None:
    """Qwen's vocabulary in size and layout: 256 bytes, 151,387 merges, the special tokens behind them, padding."""
    letters = _byte_letters()
    tokens = list(letters)
    pairs = [(a, b) for a in letters for b in letters]
    triples = [(a + b, c) for a, b in pairs for c in letters[33:35]]
    merges = (pairs + triples)[: NORMAL_TOKENS - len(tokens)]
    tokens += [a + b for a, b in merges]
    types = [gguf.TokenType.NORMAL] * NORMAL_TOKENS + [gguf.TokenType.CONTROL] * len(SPECIALS)
    tokens += SPECIALS
    unused = VOCABULARY - len(tokens)
    tokens += [f"[PAD{NORMAL_TOKENS + len(SPECIALS) + index}]" for index in range(unused)]
    types += [gguf.TokenType.UNUSED] * unused
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{a} {b}" for a, b in merges])
    writer.add_eos_token_id(NORMAL_TOKENS + 2)
    writer.add_pad_token_id(NORMAL_TOKENS)
    writer.add_bos_token_id(NORMAL_TOKENS)
    writer.add_add_bos_token(False)


def _byte_letters() -> list[str]:
    """The printable letters by which byte-level BPE writes the 256 bytes (Radford et al. 2019, GPT-2)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = (byte for byte in range(256) if byte not in printable)
    return [chr(byte) for byte in printable] + [chr(256 + index) for index, _ in enumerate(rest)]
