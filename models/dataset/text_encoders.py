"""Tokens of a caption as the text encoder of a video model counts them, from its tokenizer's own files.

Read are: ``tokenizer.json`` (Hugging Face), sentencepiece models (``spiece.model``, ``tokenizer.model``), the
``spiece_model`` that single-file text encoders carry (umt5 as ComfyUI takes it), and folders with one of these or with
``vocab.json`` and ``merges.txt`` (CLIP, Qwen).
"""

import json
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing

from ..errors import InputError
from ..qwen.tokenizer import QWEN2_SPLIT

Count = Callable[[str], int]

CLIP_SPLIT = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""Of OpenAI's CLIP (``simple_tokenizer.py``)."""

CARRIED = "spiece_model"
"""The tensor in which a single-file text encoder carries its sentencepiece model, uint8."""

FILES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json")
"""What a tokenizer's folder holds, the first that is there."""


def token_counter(path: Path) -> Count:
    """A function that counts the tokens of a text, those that mark its beginning and end included.

    Raises InputError where ``path``, a file or a folder, is no tokenizer that can be read.
    """
    path = Path(path)
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).is_file()), path)
    if not path.is_file():
        raise InputError(f"{path} is no tokenizer; give {', '.join(FILES[:3])}, or a folder with one of these")
    try:
        if path.suffix == ".json":
            tokenizer = _from_vocabulary(path) if path.name == "vocab.json" else Tokenizer.from_file(str(path))
            tokenizer.no_truncation()
            return lambda text: len(tokenizer.encode(text).ids)
        data = _embedded(path) if path.suffix == ".safetensors" else path.read_bytes()
        return _sentencepiece(path, data)
    except InputError:
        raise
    except Exception as error:  # the tokenizers library raises Exception itself
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(f"{path} is no tokenizer that can be read: {reason}") from None


def shipped_tokenizers(comfy: Path) -> dict[str, Path]:
    """The tokenizers that come with ComfyUI, by name: 't5', 'qwen25', 'sd1' (CLIP) and the like.

    ``comfy`` is the folder of its package ``comfy``.
    """
    folders = [*sorted((comfy / "text_encoders").glob("*_tokenizer")), comfy / "sd1_tokenizer"]
    return {
        folder.name.removesuffix("_tokenizer"): folder
        for folder in folders
        if any((folder / name).is_file() for name in FILES[:3]) or (folder / "merges.txt").is_file()
    }


def named_tokenizer(name: str, shipped: dict[str, Path]) -> Path:
    """The file or folder called ``name``, or one of ``shipped``. Raises InputError where there is neither."""
    if name in shipped:
        return shipped[name]
    if Path(name).exists():
        return Path(name)
    known = f" or one of {', '.join(shipped)}" if shipped else ""
    raise InputError(f"tokenizer {name!r} is no file; give a tokenizer.json, a spiece.model{known}")


def _from_vocabulary(path: Path) -> Tokenizer:
    """CLIP's or Qwen's byte-level BPE from ``vocab.json`` and the ``merges.txt`` beside it."""
    vocabulary = json.loads(path.read_text(encoding="utf-8"))
    lines = path.with_name("merges.txt").read_text(encoding="utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if line.strip() and not line.startswith("#version")]
    clip = "</w>" in vocabulary or any(token.endswith("</w>") for token in vocabulary)
    if not clip:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
        tokenizer.normalizer = normalizers.NFC()
        split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    else:
        unknown = "<|endoftext|>"
        tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, end_of_word_suffix="</w>"))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
        )
        split = pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True)
        ends = [(token, vocabulary[token]) for token in ("<|startoftext|>", unknown)]
        tokenizer.post_processor = TemplateProcessing(f"{ends[0][0]} $A {unknown}", special_tokens=ends)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def carries_tokenizer(path: Path) -> bool:
    """Whether a .safetensors file holds its text encoder's tokenizer; False for one that cannot be read."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return CARRIED in set(file.keys())
    except (OSError, SafetensorError):
        return False


def _embedded(path: Path) -> bytes:
    """The sentencepiece model inside a text encoder's file."""
    with safe_open(str(path), framework="pt") as file:
        if CARRIED not in set(file.keys()):
            raise InputError(f"{path} carries no tokenizer; give the model's tokenizer.json or spiece.model")
        return file.get_tensor(CARRIED).numpy().tobytes()


def _sentencepiece(path: Path, data: bytes) -> Count:
    try:
        import sentencepiece
    except ImportError:
        raise InputError(
            f"{path} needs the package sentencepiece, which comes with ComfyUI; install it, or give a tokenizer.json"
        ) from None
    model = sentencepiece.SentencePieceProcessor()
    model.LoadFromSerializedProto(data)
    # T5 puts its end after each text, Llama its beginning before it: one token either way.
    marks = 1 if model.eos_id() >= 0 or model.bos_id() >= 0 else 0
    return lambda text: len(model.encode(text)) + marks
