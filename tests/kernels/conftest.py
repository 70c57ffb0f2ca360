"""The CPU shim, built once for all tests of the kernels."""

import pytest
from codeclens.kernels import cuda_images as images
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
