"""The embedded model: there, small, whole, what it says unchanged, and mostly true."""

import json

import gguf
import pytest
from codeclens.models.code.learned.learned_code import read_code
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.evaluation.paired import evaluate, read_tasks
from codeclens.models.source.reading import FrameSampling
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.weights import FOLDER, FPS, NAME, embedded_code, embedded_pair
from support.embedded import CLIPS, RECORDED, load, said_and_true


@pytest.fixture(scope="module")
def model():
    return load()


def test_pair_is_small_and_has_its_card():
    sizes = [path.stat().st_size for path in embedded_pair()]
    assert sum(sizes) < 12e6 and max(sizes) < 10e6
    card = (FOLDER / f"{NAME}.md").read_text(encoding="utf-8")
    assert "was not finished" not in card and "It knows nothing else" in card


def test_files_are_read_by_the_formats_own_library(model):
    for path, architecture in zip(embedded_pair(), ("qwen3vl", "clip"), strict=True):
        reader = gguf.GGUFReader(path)
        assert reader.get_field("general.architecture").contents() == architecture
    named = {tensor.name for tensor in gguf.GGUFReader(embedded_pair()[0]).tensors}
    assert {f"blk.{model.config.text.layers - 1}.ffn_down.weight", "token_embd.weight"} <= named


@pytest.fixture(scope="module")
def recorded():
    rows = json.loads(RECORDED.read_text())
    assert len({row["clip"] for row in rows}) == CLIPS
    return rows


def test_answers_on_the_first_clip_have_not_changed(model, recorded):
    assert said_and_true(0, model) == [row for row in recorded if row["clip"] == 0]


@pytest.fixture(scope="module")
def answered(model):
    """The rows of all clips, answered now."""
    return [row for number in range(CLIPS) for row in said_and_true(number, model)]


@pytest.mark.slow
def test_answers_on_fixed_clips_have_not_changed(answered, recorded):
    assert answered == recorded


@pytest.mark.slow
def test_more_answers_are_true_than_a_guesser_has(answered):
    asked = [row for row in answered if not row["question"].startswith("Describe")]
    assert sum(row["answer"] == row["truth"] for row in asked) >= 0.7 * len(asked)


def test_the_learned_code_is_small_and_fits_the_pair(model):
    path = embedded_code("ptoken")
    assert path.stat().st_size < 3e6
    assert read_code(path, model).header.side == 256


@pytest.mark.slow
def test_the_learned_code_answers_from_its_tokens(model, tmp_path):
    """Six clips at 256 x 256: right well above a guesser's 37 %, and more often than with another clip's tokens."""
    index = write_clips(tmp_path, seeds_of("test", 0, 6), (256, 256), sample_fps=FPS)
    config = CodeConfig(sampling=FrameSampling.by_fps(FPS), area=256**2)
    codes = {"ptoken": read_code(embedded_code("ptoken"), model)}
    found = evaluate(read_tasks(index), model, ("ptoken",), config, controls=("foreign",), codes=codes).outcomes
    true, foreign = ([one for one in found if one.mode == mode] for mode in ("ptoken", "ptoken foreign"))
    assert sum(one.right for one in true) > 0.7 * len(true)
    assert sum(one.right for one in true) > sum(one.right for one in foreign)
