"""The CPU shim, built once for all tests of the kernels, and the archive that native code comes from."""

import os
from pathlib import Path

import pytest
from codeclens.kernels import cuda_images as images
from codeclens.kernels import native
from support import shim


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory):
    """The library of every kernel as C++; skips where there is no compiler for it."""
    if shim.compiler() is None:
        pytest.skip(shim.MISSING)
    folder = tmp_path_factory.mktemp("shim")
    if not shim.ADDRESS:
        return shim.build(folder)
    shim.copy_sources(folder, "linear.cu")  # dequantize.cu decodes every type
    return shim.build(folder, sources=folder, families=images.FAMILIES)


def pytest_configure():
    """Native code from another archive, where CODECLENS_LIBRARIES names its folder (test_sanitized.py)."""
    if folder := os.environ.get("CODECLENS_LIBRARIES"):
        native.Processor.__init__.__defaults__ = (None, Path(folder), Path(folder) / "cache")
