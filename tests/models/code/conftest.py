"""The small random models, one of each family, that the tests of the visual code talk to."""

import pytest
from codeclens.models.qwen import load_qwen3vl


@pytest.fixture(scope="package", params=["qwen3vl", "qwen35"])
def tiny_folder(request, qwen3vl_fixtures, qwen35_fixtures):
    """The folder of a family's model and of what its reference computes."""
    return {"qwen3vl": qwen3vl_fixtures / "tiny-tied", "qwen35": qwen35_fixtures}[request.param]


@pytest.fixture(scope="package")
def tiny_model(tiny_folder):
    name = "tiny-tied-F16" if tiny_folder.name == "tiny-tied" else "tiny-hybrid-F16"
    return load_qwen3vl(tiny_folder / f"{name}.gguf", tiny_folder / f"mmproj-{name}.gguf")
