"""Tokens as text encoders count them, against transformers and sentencepiece on the same files."""

import json

import numpy as np
import pytest
import torch
from codeclens.__main__ import main
from codeclens.models.dataset.text_encoders import named_tokenizer, shipped_tokenizers, token_counter
from codeclens.models.dataset.wording import Wording
from codeclens.models.errors import InputError
from codeclens.models.synthetic.clip_files import write_clips
from safetensors.torch import save_file
from support.comfyui import find_comfyui
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

TEXTS = [
    "A red fox runs through deep snow, its breath visible in the cold air.",
    "It's 24 frames/second: caf\u00e9, na\u00efve \u2014 \u72d0\u72f8\u5728\u96ea\u5730\u91cc  and  spaces",
    "",
    "a" * 300,
]


@pytest.fixture(scope="module")
def shipped():
    root = find_comfyui()
    if root is None:
        pytest.skip("ComfyUI is not found; set COMFYUI_PATH")
    return shipped_tokenizers(root / "comfy")


@pytest.mark.parametrize(
    ("name", "kind", "marks"),
    [("t5", "T5TokenizerFast", True), ("sd1", "CLIPTokenizer", True), ("qwen25", "Qwen2Tokenizer", False)],
)
def test_shipped_tokenizers_count_as_transformers_does(name, kind, marks, shipped):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed; it comes with ComfyUI")
    reference = getattr(transformers, kind).from_pretrained(str(shipped[name]))
    count = token_counter(shipped[name])
    for text in TEXTS:
        assert count(text) == len(reference(text, add_special_tokens=marks).input_ids), text


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    sentencepiece = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed; ComfyUI brings it")
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text.txt").write_text("\n".join(f"{text} {number}" for number in range(60) for text in TEXTS[:2]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(folder / "spiece"), vocab_size=90, character_coverage=0.99,
        hard_vocab_limit=False, bos_id=-1, eos_id=1, unk_id=2, pad_id=0, minloglevel=2,
    )  # fmt: skip
    return folder / "spiece.model"


def test_a_sentencepiece_model_counts_its_pieces_and_the_end(pieces, tmp_path):
    import sentencepiece

    reference = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    carrier = tmp_path / "umt5.safetensors"
    data = torch.from_numpy(np.frombuffer(pieces.read_bytes(), np.uint8).copy())
    save_file({"spiece_model": data, "shared.weight": torch.zeros(2)}, carrier)
    for path in (pieces, pieces.parent, carrier):
        count = token_counter(path)
        assert all(count(text) == len(reference.encode(text)) + 1 for text in TEXTS)


def word_tokenizer(path):
    tokenizer = Tokenizer(models.WordLevel(unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(["a b , ."], trainers.WordLevelTrainer(special_tokens=["?", "</s>"]))
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_truncation(4)
    tokenizer.save(str(path))
    return path


def test_a_truncating_tokenizer_counts_all_tokens(tmp_path):
    assert token_counter(word_tokenizer(tmp_path / "tokenizer.json"))("one two, three four.") == 7


@pytest.mark.parametrize(
    ("longest", "kept"),
    [
        (99, "One fox runs. In deep snow, under a sky, it stops."),
        (9, "One fox runs."),
        (13, "One fox runs."),
        (4, "One fox"),
    ],
)
def test_a_caption_is_cut_at_the_end_of_a_sentence(longest, kept, tmp_path):
    count = token_counter(word_tokenizer(tmp_path / "tokenizer.json"))
    text, _ = Wording(longest=longest, count_tokens=count).applied("One fox runs. In deep snow, under a sky, it stops.")
    assert text == kept or (longest == 4 and count(text) <= 4)


def test_a_long_first_sentence_is_cut_at_a_comma(tmp_path):
    count = token_counter(word_tokenizer(tmp_path / "tokenizer.json"))
    text, notes = Wording(longest=8, count_tokens=count).applied("In deep snow, under a sky, it stops.")
    assert text == "In deep snow, under a sky" and notes == ["cut to 8 tokens"] and count(text) == 8


@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model", "vocab.json", "model.safetensors"])
def test_files_that_are_no_tokenizer_are_one_sentence(name, tmp_path):
    for content in (b"", b"{}", b"nothing of the kind", json.dumps({"a": 1}).encode()):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError) as error:
            token_counter(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_a_name_is_a_file_or_a_shipped_tokenizer(tmp_path):
    assert named_tokenizer("t5", {"t5": tmp_path}) == tmp_path
    with pytest.raises(InputError, match="'t6' is no file; .* or one of t5"):
        named_tokenizer("t6", {"t5": tmp_path})
    with pytest.raises(InputError, match="is no tokenizer; give tokenizer.json"):
        token_counter(tmp_path)


def test_captions_keep_to_a_text_encoders_length_and_another_length_is_done_again(tmp_path, capsys):
    folder, tokenizer = tmp_path / "clips", word_tokenizer(tmp_path / "tokenizer.json")
    write_clips(folder, range(2), (64, 64), seconds=1.0, fps=8)
    count = token_counter(tokenizer)
    for longest, done in ((6, 2), (5, 2), (5, 0)):
        assert main(["caption", str(folder), "--longest", str(longest), "--tokenizer", str(tokenizer)]) == 0
        assert f"{done} done" in capsys.readouterr().err
        assert all(0 < count(path.read_text()) <= longest for path in folder.glob("*.txt"))
