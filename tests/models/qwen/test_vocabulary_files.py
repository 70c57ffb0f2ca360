"""The tokenizers that ComfyUI ships for both families, against transformers' own classes on the same files."""

import json
import shutil
import unicodedata

import pytest
from codeclens.models.qwen.model_file import ModelFile
from codeclens.models.qwen.tokenizer import read_tokenizer
from codeclens.models.qwen.vocabulary_files import HOST_FOLDERS, vocabulary_metadata
from support.comfyui import find_comfyui
from tokenizers import pre_tokenizers

ROWS = {"qwen3vl": 151_936, "qwen35": 248_320}
FIRST = {"qwen3vl": 151_643, "qwen35": 248_044}
"""The ids of the first special tokens, as published."""

MAKERS = {"qwen3vl": "Qwen2Tokenizer", "qwen35": "Qwen3_5Tokenizer"}
SPECIAL = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|vision_start|>": 9, "<|vision_end|>": 10}
SPECIAL |= {"<|image_pad|>": 12, "<|video_pad|>": 13}
"""Counted from the first special token, as both families number them."""


@pytest.fixture(params=ROWS)
def family(request):
    return request.param


@pytest.fixture
def shipped(family, tmp_path):
    """A copy of the host's folder of tokenizers with the family's alone."""
    root = find_comfyui()
    if root is None:
        pytest.skip("ComfyUI is not found; set COMFYUI_PATH")
    host = tmp_path / "text_encoders"
    folder = host / HOST_FOLDERS[family]
    shutil.copytree(root / "comfy" / "text_encoders" / folder.name, folder)
    if not (folder / "vocab.json").is_file():
        # A checkout without its large files lacks this one. Merges are in order of their ids, so these come close; the
        # tokens that no merge makes are not known, and only counted.
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
        merges = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
        tokens = dict.fromkeys([*letters, *(line.replace(" ", "") for line in merges if line[:8] != "#version")])
        numbered = {token: index for index, token in enumerate(filter(None, tokens))}
        numbered |= {f"unknown {index}": index for index in range(len(numbered), FIRST[family])}
        (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    return host


@pytest.mark.slow
def test_the_hosts_tokenizers_read_as_the_makers_do(family, shipped, tmp_path, qwen35_fixtures):
    transformers = pytest.importorskip("transformers", minversion="5.22")
    model = tmp_path / "models" / "model.safetensors"
    metadata = vocabulary_metadata(model, family, ROWS[family], shipped)
    ours = read_tokenizer(ModelFile(model, 0, metadata, {}))
    vocabulary = json.loads((shipped / HOST_FOLDERS[family] / "vocab.json").read_text(encoding="utf-8"))
    merges = [tuple(line.split(" ")) for line in metadata["tokenizer.ggml.merges"]]
    theirs = getattr(transformers, MAKERS[family])(vocab=vocabulary, merges=merges)
    stored = json.loads((qwen35_fixtures / "pretokenizer-vectors.json").read_text(encoding="utf-8"))
    for vector in stored["vectors"]:
        ids = ours.encode(vector["text"])
        assert ids == theirs.encode(vector["text"], add_special_tokens=False)
        if unicodedata.is_normalized("NFC", vector["text"]):  # the vectors were split without normalising
            assert ids == [one for piece in vector[metadata["tokenizer.ggml.pre"]] for one in ours.encode(piece)]
    first = FIRST[family]
    for token, offset in SPECIAL.items():
        assert ours.encode(token) == [first + offset]
    assert ours.end_ids == {first, first + 2}
    assert ours.thinks is (family == "qwen35")
