"""The CUDA sources compiled as C++ (tests/support/shim), through the real registry, packing and launch code.

Built with the undefined-behaviour sanitizer, which stops at a load that a GPU would refuse for its alignment. The last
test runs this file again under the address sanitizer.
"""

import faulthandler
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from codeclens.kernels import images, registry
from support import kernel_checks, shim
from support.shim import ADDRESS, MUTATED_TYPES
from support.shim.mutations import MUTATIONS

OVERRUNS = {"a word too many past the last block", "the row after the last one is read"}
ALL_TYPES = tuple(registry.BLOCK_ALIGNMENT)

pytestmark = pytest.mark.skipif(shim.compiler() is None, reason="g++ is not installed; the CPU shim is C++")


@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
@pytest.mark.parametrize("family", images.FAMILIES)
def test_family_agrees_with_its_references(shim_library, family, reverse):
    if ADDRESS and reverse:
        pytest.skip("the same addresses are touched in either order")
    with shim.pretend(shim.PretendedMachine(shim_library), reverse=reverse):
        kernel_checks.check_family(family, qtypes=MUTATED_TYPES if ADDRESS and family == "linear" else ALL_TYPES)


def agrees(library, family) -> None:
    """In a process of its own: exit 0 when the family agrees with its references in both orders."""
    torch.set_num_threads(1)
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    for reverse in (False, True):
        with shim.pretend(shim.PretendedMachine(library), reverse=reverse):
            kernel_checks.check_family(family, qtypes=MUTATED_TYPES)
    os._exit(0)


def exit_code_with(folder, family, name="", text="", replacement="") -> int:
    """Build `family` with one text of one source replaced, and run its checks."""
    shim.copy_sources(folder, f"{family}.cu")
    if name:
        source = (folder / name).read_text(encoding="utf-8")
        assert source.count(text) == 1, f"{name} has changed: the text to replace is there {source.count(text)} times"
        (folder / name).write_text(source.replace(text, replacement), encoding="utf-8")
    library = shim.build(folder, sources=folder, families=(family,))
    child = multiprocessing.get_context("fork").Process(target=agrees, args=(library, family))
    child.start()
    child.join()
    return child.exitcode


def test_source_without_a_mistake_passes_the_same_way(tmp_path):
    assert exit_code_with(tmp_path, "dequantize") == 0


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_mistake_in_the_source_is_caught(mistake, tmp_path):
    if (mistake in OVERRUNS) != ADDRESS:
        pytest.skip("caught without the address sanitizer" if ADDRESS else "caught under the address sanitizer, below")
    assert exit_code_with(tmp_path, *MUTATIONS[mistake]) != 0


@pytest.mark.skipif(ADDRESS, reason="this is the run under the address sanitizer")
def test_address_sanitizer_finds_nothing_here_and_the_overruns_planted(tmp_path):
    runtime = shim.address_sanitizer()
    if runtime is None:
        pytest.skip("g++ has no address sanitizer library")
    options = {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "CODECLENS_SHIM": "address"}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, **options, "OMP_NUM_THREADS": "1"},
        cwd=images.FOLDER.parents[1],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert f"{len(images.FAMILIES) + 1 + len(OVERRUNS)} passed" in run.stdout
