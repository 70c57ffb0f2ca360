"""The commands info and trace, run as a user runs them."""

import re

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.kernels.native import Processor
from support.gguf_files import TINY, write_mmproj, write_text
from support.native import instruction_sets, on_processor


@pytest.fixture
def folder(qwen3vl_fixtures):
    return qwen3vl_fixtures / "tiny-tied"


@pytest.mark.parametrize("scenario", ["text", "image", "video", "mixed"])
def test_trace_writes_the_references_tensors(folder, tmp_path, capsys, scenario):
    inputs, out = folder / f"ref-{scenario}.npz", tmp_path / "out.npz"
    pair = ["--model", str(folder / "tiny-tied-F16.gguf"), "--mmproj", str(folder / "mmproj-tiny-tied-F16.gguf")]
    assert main(["trace", *pair, "--inputs", str(inputs), "--out", str(out)]) == 0
    assert capsys.readouterr().out == ""
    found, expected = np.load(out), np.load(inputs)
    names = [name for name in expected if name.startswith(("vis_", "txt_")) or name in ("logits", "position_ids")]
    assert sorted(found) == sorted(names)
    for name in names:
        assert found[name].shape == expected[name].shape, name
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5 * np.abs(expected[name]).max())
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_ids": None}, "no array 'input_ids'"),
        ({"input_ids": np.array([[5000]])}, "outside the vocabulary of 1024"),
        ({"position_ids": np.zeros((3, 4), np.int64)}, "4 position_ids for 45 input_ids"),
        ({"pixel_values": None}, "lacks 'pixel_values'"),
        ({"image_grid_thw": np.array([[1, 8, 8]])}, "do not fill the grids"),
        ({"mm_token_type_ids": np.ones((1, 45), np.int64)}, "45 tokens for pictures of 24 tokens"),
        ({"position_ids": None, "image_grid_thw": np.array([[1, 2, 2]])}, "does not fit together"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(folder, tmp_path, capsys, change, message):
    reference = dict(np.load(folder / "ref-image.npz"))
    np.savez(tmp_path / "in.npz", **{k: v for k, v in {**reference, **change}.items() if v is not None})
    pair = ["--model", str(folder / "tiny-tied-F16.gguf"), "--mmproj", str(folder / "mmproj-tiny-tied-F16.gguf")]
    code = main(["trace", *pair, "--inputs", str(tmp_path / "in.npz"), "--out", str(tmp_path / "out.npz")])
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out.npz").exists()


def test_files_that_are_no_arrays_are_refused(folder, tmp_path, capsys):
    (tmp_path / "in.npz").write_bytes(b"PK no archive")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "object.npz", input_ids=np.array([{}], dtype=object))
    for name in ("in.npz", "one.npy", "object.npz", "absent.npz"):
        inputs = ["--inputs", str(tmp_path / name), "--out", str(tmp_path / "out.npz")]
        assert main(["trace", "--model", str(folder / "tiny-tied-F16.gguf"), *inputs]) == 2
        assert "cannot be read as an .npz" in capsys.readouterr().err


def test_info_says_what_loads(folder, capsys):
    with on_processor(Processor("0")):
        main(["info", str(folder / "tiny-tied-Q4_K_M.gguf")])
    assert "on the processor: no native code: switched off with CODECLENS_NATIVE=0\n" in capsys.readouterr().out
    for instructions in instruction_sets():
        with on_processor(Processor(instructions)):
            main(["info", str(folder / "tiny-tied-Q4_K_M.gguf")])
        assert f"-{instructions}." in capsys.readouterr().out.partition("native code of")[2]
    assert main(["info", str(folder / "tiny-tied-Q4_K_M.gguf")]) == 0
    text = capsys.readouterr().out
    assert "tensors: 46 (24 Q4_K, 17 F32, 5 Q6_K)" in text and "Instruct chat template" in text
    assert "mmproj: mmproj-tiny-tied-F16.gguf" in text and text.endswith("loads: yes\n")
    assert main(["info", str(folder / "mmproj-tiny-tied-F16.gguf")]) == 0
    text = capsys.readouterr().out
    assert "fits: language models of width 256; DeepStack from layers 0, 2, 3\non the processor: " in text


def test_info_says_why_not(tmp_path, qwen3vl_fixtures, capsys):
    cases = {
        write_text(tmp_path / "missing.gguf", TINY, without=["output_norm.weight"]): "no; .* lacks 1 tensors",
        write_mmproj(
            tmp_path / "other.gguf", TINY, metadata={"clip.projector_type": "mlp"}
        ): "no; .*the projector 'mlp'",
        qwen3vl_fixtures / "quant-types" / "quant-types.gguf": "no; .* is a 'test' model",
    }

    for path, message in cases.items():
        assert main(["info", str(path)]) == 0
        assert re.search(f"loads: {message}", capsys.readouterr().out)
    assert main(["info", str(qwen3vl_fixtures / "README.md")]) == 2
    assert "is not a GGUF file" in capsys.readouterr().err
