"""A small tokenizer of Qwen's kind: byte-level BPE learned from a text, then Qwen's special tokens.

It exists as GGUF metadata from the first moment, and is read back from there like any other model's.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from tokenizers import Regex, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as BytePairTokenizer
from tokenizers.models import BPE

from ..errors import InputError
from ..qwen.model_file import ModelFile
from ..qwen.tokenizer import CONTROL, NORMAL, QWEN2_SPLIT, USER_DEFINED, Tokenizer, read_tokenizer

CONTROLS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
    "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
DEFINED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif part.type == 'video' %}{{- '<|vision_start|><|video_pad|><|vision_end|>' }}"
    "{%- else %}{{- part.text }}{%- endif %}{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SMALLEST = 256 + 32


def learn_vocabulary(texts: Iterable[str], size: int) -> dict:
    """GGUF's metadata of a tokenizer of ``size`` tokens, special ones included, learned from ``texts``.

    Bytes come first, in the byte alphabet's order, then merges, then the special tokens. The same texts give the same
    tokenizer. Raises InputError where ``size`` has no room for bytes and special tokens.
    """
    if size < SMALLEST:
        raise InputError(f"a vocabulary of {size} tokens has no room for 256 bytes and merges; give {SMALLEST} or more")
    core = BytePairTokenizer(BPE())
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    normal = size - len(CONTROLS) - len(DEFINED)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=normal, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator(texts, trainer)
    learned = json.loads(core.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]]
    tokens = sorted(learned["vocab"], key=learned["vocab"].get) + [*CONTROLS, *DEFINED]
    kinds = [NORMAL] * len(learned["vocab"]) + [CONTROL] * len(CONTROLS) + [USER_DEFINED] * len(DEFINED)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.eos_token_id": tokens.index("<|im_end|>"),
        "tokenizer.ggml.padding_token_id": tokens.index("<|endoftext|>"),
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def tokenizer_metadata(model) -> dict:
    """The same metadata of a loaded model's file."""
    stored = model.files[0].metadata
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in stored.items()
        if key.startswith("tokenizer.")
    }


def tokenizer_of(metadata: dict) -> Tokenizer:
    """The tokenizer that :func:`learn_vocabulary` described, read as from a file."""
    kinds = np.array(metadata["tokenizer.ggml.token_type"], np.int32)
    return read_tokenizer(ModelFile(Path("vocabulary"), 0, {**metadata, "tokenizer.ggml.token_type": kinds}, {}))
