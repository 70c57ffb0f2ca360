"""The small random Qwen3-VL that the tests of judging ask."""

import pytest
from codeclens.models.qwen import load_qwen3vl


@pytest.fixture(scope="package")
def tiny_model(qwen3vl_fixtures):
    folder = qwen3vl_fixtures / "tiny-tied"
    return load_qwen3vl(folder / "tiny-tied-F16.gguf", folder / "mmproj-tiny-tied-F16.gguf")
