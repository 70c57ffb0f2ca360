"""Qwen's byte-level BPE tokenizer, rebuilt from GGUF metadata alone.

GGUF stores the tokens, their types and the merges, and names the rest by one word, ``tokenizer.ggml.pre``: the NFC
normaliser and the splitting expressions of Qwen2's and Qwen3.5's ``tokenizer.json``, which stand below.
"""

import functools
import re
from collections.abc import Sequence

import numpy as np
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BytePairTokenizer

from ..errors import InputError
from .model_file import ModelFile

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN35_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Marks belong to the letters before them, which matters in Hindi, Thai, Tamil and vowelled Arabic and Hebrew."""
SPLITS = {"qwen2": QWEN2_SPLIT, "qwen35": QWEN35_SPLIT}
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
TYPED = "\ufdd0"
"""Marks what was typed: a code point that stands for no character (Unicode 16, 23.7). Special tokens begin with <."""

PRECLOSED = re.compile(r"assistant(?:\n|\\n)<think>(?:\s|\\n)*</think>")


def typed(text: str) -> str:
    """``text`` that a user or a file wrote: special tokens written out in it are text to :meth:`Tokenizer.encode`."""
    return text.replace(TYPED, "").replace("<", "<" + TYPED)


class Tokenizer:
    """Text to token ids and back, and the ids of the tokens that the prompt is built from."""

    def __init__(self, core: BytePairTokenizer, size: int, end_ids: frozenset[int], chat_template: str):
        self.core = core
        self.size = size
        self.end_ids = end_ids
        self.chat_template = chat_template
        self.image_pad = self.token_id("<|image_pad|>")
        self.video_pad = self.token_id("<|video_pad|>")
        self.vision_start = self.token_id("<|vision_start|>")
        self.vision_end = self.token_id("<|vision_end|>")

    @property
    def thinks(self) -> bool:
        """Whether answers begin with reasoning, or with an empty one: in Thinking variants and in Qwen3.5."""
        marks = (r"assistant\n<think>", "assistant\n<think>", "enable_thinking")
        return any(mark in self.chat_template for mark in marks)

    @property
    def reasons_unasked(self) -> bool:
        """Whether the model is made to reason first, a Thinking variant.

        Its chat template has no switch for it, and does not close the reasoning where it opens it.
        """
        closed = "enable_thinking" in self.chat_template or PRECLOSED.search(self.chat_template)
        return self.thinks and not closed

    def token_id(self, token: str) -> int:
        """The id of ``token`` itself, not of its text; raises InputError when the vocabulary has no such token."""
        index = self.core.token_to_id(token)
        if index is None:
            raise InputError(f"the tokenizer has no token {token!r}; this GGUF file is not of a Qwen3-VL model")
        return index

    def encode(self, text: str) -> list[int]:
        """The ids of ``text``; special tokens written out in it are recognised, but not in what :func:`typed` marked.

        Raises InputError for text that is not Unicode, as the command line makes of bytes that are not UTF-8.
        """
        try:
            text.encode()
        except UnicodeEncodeError as error:
            around = ascii(text[max(0, error.start - 10) : error.end + 10])
            raise InputError(f"the text has bytes that are not UTF-8 ({around}); give it as UTF-8") from None
        if TYPED not in text:
            return self.core.encode(text, add_special_tokens=False).ids
        ids = []
        for between, special in self._special.findall(text):
            ids += self._encode_plain(between.replace(TYPED, ""))
            ids += [self.core.token_to_id(special)] if special else []
        return ids

    @functools.cached_property
    def _special(self) -> re.Pattern:
        """Finds (text, the special token after it or '') one after another."""
        added = sorted(
            (token.content for token in self.core.get_added_tokens_decoder().values()), key=len, reverse=True
        )
        return re.compile(f"(.*?)({'|'.join(map(re.escape, added))}|\\Z)", re.DOTALL)

    def _encode_plain(self, text: str) -> list[int]:
        """The ids of ``text`` in which no special token is seen."""
        pieces = self.core.pre_tokenizer.pre_tokenize_str(self.core.normalizer.normalize_str(text))
        return [token.id for piece, _ in pieces for token in self.core.model.tokenize(piece)]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """The text of ``ids``; bytes that end in the middle of a character become U+FFFD."""
        return self.core.decode(list(ids), skip_special_tokens=skip_special)


def read_tokenizer(file: ModelFile) -> Tokenizer:
    """The tokenizer that ``file``'s metadata describes; raises InputError where it is not Qwen's."""
    metadata = file.metadata
    kind, split = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if str(kind) != "gpt2" or str(split) not in SPLITS:
        raise InputError(
            f"{file.path} has the tokenizer {str(kind)[:20]!r}/{str(split)[:20]!r}; "
            f"Qwen's is 'gpt2'/{' or '.join(map(repr, SPLITS))}"
        )
    tokens, merges = (_strings(file, key) for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges"))
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, np.ndarray) or len(types) != len(tokens):
        raise InputError(f"{file.path} does not give one type for each of its {len(tokens)} tokens")
    core = BytePairTokenizer(_byte_pairs(file, tokens, types, merges))
    core.normalizer = normalizers.NFC()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLITS[split]), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    _add_tokens(file, core, tokens, types)
    ends = {core.token_to_id(token) for token in ("<|im_end|>", "<|endoftext|>")} - {None}
    end = metadata.get("tokenizer.ggml.eos_token_id")
    if type(end) is int and 0 <= end < len(tokens):
        ends.add(end)
    return Tokenizer(core, len(tokens), frozenset(ends), str(metadata.get("tokenizer.chat_template", "")))


def _byte_pairs(file: ModelFile, tokens: list[str], types: np.ndarray, merges: list[str]) -> models.BPE:
    vocabulary = {token: index for index, token in enumerate(tokens) if types[index] == NORMAL}
    if len(vocabulary) != np.count_nonzero(types == NORMAL):
        raise InputError(f"{file.path} lists the same token under two ids")
    pairs = [tuple(merge.split(" ")) for merge in merges]
    for pair in pairs:
        if len(pair) != 2 or pair[0] not in vocabulary or pair[1] not in vocabulary or "".join(pair) not in vocabulary:
            raise InputError(f"{file.path} has the merge {' '.join(pair)[:40]!r}, whose parts are not all tokens")
    return models.BPE(vocab=vocabulary, merges=pairs)


def _add_tokens(file: ModelFile, core: BytePairTokenizer, tokens: list[str], types: np.ndarray) -> None:
    """Add the control and user-defined tokens under the ids that the file gives them."""
    added = [index for index in range(len(tokens)) if types[index] in (CONTROL, USER_DEFINED)]
    normal = core.get_vocab_size(with_added_tokens=False)
    # The library numbers added tokens onward from the vocabulary, so they must come right after it in the file.
    core.add_tokens([AddedToken(tokens[i], special=bool(types[i] == CONTROL), normalized=False) for i in added])
    if added != list(range(normal, normal + len(added))) or any(core.token_to_id(tokens[i]) != i for i in added):
        raise InputError(f"{file.path} does not list its special tokens right after its {normal} normal ones")


def _strings(file: ModelFile, key: str) -> list[str]:
    value = file.metadata.get(key)
    if not isinstance(value, list):
        raise InputError(f"{file.path} lacks the list of strings {key!r}; it holds no tokenizer")
    return value
