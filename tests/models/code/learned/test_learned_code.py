"""The file of a learned code: what comes back, and what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from codeclens.models.code.learned.learned_code import LearnedCode, base_of, hash_of, read_code, read_header, write_code
from codeclens.models.errors import InputError
from codeclens.models.qwen import load_qwen3vl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from .conftest import random_code


@pytest.fixture
def path(code, tmp_path):
    write_code(code, tmp_path / "code.safetensors")
    return tmp_path / "code.safetensors"


def test_what_was_written_comes_back_rounded_to_half(code, path, tiny_model):
    found = read_code(path, tiny_model)
    assert found.header == code.header and found.name == "code.safetensors"
    assert found.tensors().keys() == code.tensors().keys()
    for name, value in code.tensors().items():
        torch.testing.assert_close(found.tensors()[name], value.half().float())


def test_an_adapter_comes_back_and_binds_the_language_model(tiny_model, mode, tmp_path):
    code = random_code(tiny_model, mode, rank=3)
    write_code(code, tmp_path / "code.safetensors", torch.float32)
    found = read_code(tmp_path / "code.safetensors", tiny_model)
    assert found.fingerprint == code.fingerprint
    other = replace(code.header, base=replace(code.header.base, text="0" * 32))
    write_code(LearnedCode(other, code.network, code.adapter), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="an adapter for the language model 00000000"):
        read_code(tmp_path / "other.safetensors", tiny_model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "qwen9"}, "trained for a qwen9 tower"),
        ({"widths": (1, 2, 3, 4)}, "1 layers of 2, tokens of 3 and 4 DeepStack levels"),
        ({"tower": "0" * 32}, "the vision tower 00000000"),
    ],
)
def test_another_model_is_refused_in_one_sentence(code, tiny_model, tmp_path, change, message):
    header = replace(code.header, base=replace(code.header.base, **change))
    write_code(LearnedCode(header, code.network), tmp_path / "code.safetensors")
    with pytest.raises(InputError, match=message) as raised:
        read_code(tmp_path / "code.safetensors", tiny_model)
    assert "\n" not in str(raised.value) and str(raised.value).startswith("code.safetensors")


def test_the_hash_is_that_of_a_model_at_any_precision_and_of_no_other(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    models = [
        load_qwen3vl(folder / f"tiny-tied-{kind}.gguf", folder / "mmproj-tiny-tied-F16.gguf")
        for kind in ("F16", "Q8_0", "Q4_K_M")
    ]
    first, *others = (base_of(model, text=True) for model in models)
    assert all(other == first for other in others)
    with torch.no_grad():
        models[0].vision.blocks[0].up.bias[0] += 1e-3
    assert hash_of(models[0].vision) != first.tower and hash_of(models[0].text) == first.text


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cut_or_flipped_file_is_refused(path, tiny_model, data):
    content = path.read_bytes()
    if data.draw(st.booleans()):
        damaged = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        damaged = bytearray(content)
        damaged[at] ^= 1 << data.draw(st.integers(0, 7))
    broken = path.with_name("broken.safetensors")
    broken.write_bytes(damaged)
    try:
        found = read_code(broken, tiny_model)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        # A flipped bit of white space in the JSON of the container changes nothing.
        assert found.fingerprint == read_code(path, tiny_model).fingerprint


def test_other_files_are_refused(tmp_path, tiny_model, code, path):
    with pytest.raises(InputError, match="does not exist"):
        read_code(tmp_path / "none.safetensors", tiny_model)
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="no learned code"):
        read_header(tmp_path / "other.safetensors")
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header = json.loads(metadata["header"])
    wrong = [{"radius": 0}, {"radius": "8"}, {"window": -1}, {"network": []}, {"base": {}}, {"colour": 1}]
    for values in [*wrong, {"reference": "next"}]:
        words = json.dumps(header | values)
        save_file(tensors, tmp_path / "other.safetensors", metadata=metadata | {"header": words})
        with pytest.raises(InputError, match="damaged or no learned code"):
            read_header(tmp_path / "other.safetensors")


def test_a_weight_that_is_not_finite_is_not_written(code, tmp_path):
    next(code.network.parameters()).data.flatten()[0] = 1e6
    with pytest.raises(InputError, match="not finite"):
        write_code(code, tmp_path / "code.safetensors")
    assert not list(tmp_path.iterdir())
