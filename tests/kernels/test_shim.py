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
from codeclens.kernels import cuda_images as images
from codeclens.kernels import eager, fused, registry
from hypothesis import given, settings
from hypothesis import strategies as st
from support import kernel_checks, shim
from support.shim import ADDRESS, MUTATED_TYPES
from support.shim.mutations import MUTATIONS
from support.tiers import every_value_once

OVERRUNS = {"a word too many past the last block", "the row after the last one is read"}
ALL_TYPES = tuple(registry.BLOCK_ALIGNMENT)

pytestmark = pytest.mark.skipif(shim.compiler() is None, reason=shim.MISSING)


@pytest.mark.parametrize("family, reverse", every_value_once(images.FAMILIES, [False, True]))
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


FIRST = {family: mistake for mistake, (family, *_) in reversed(MUTATIONS.items()) if mistake not in OVERRUNS}
"""One mistake of each family; building the others too takes most of a minute."""


@pytest.mark.parametrize(
    "mistake", [pytest.param(one, marks=[] if one in FIRST.values() else pytest.mark.slow) for one in MUTATIONS]
)
def test_mistake_in_the_source_is_caught(mistake, tmp_path):
    if (mistake in OVERRUNS) != ADDRESS:
        pytest.skip("caught without the address sanitizer" if ADDRESS else "caught under the address sanitizer, below")
    assert exit_code_with(tmp_path, *MUTATIONS[mistake]) != 0


def same(found, wanted) -> None:
    """Bit for bit, tensor by tensor."""
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == theirs.dtype and torch.equal(ours, theirs)


@pytest.mark.skipif(ADDRESS, reason="the fixed sizes above cover the edges")
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_random_calls_equal_their_eager_twins(shim_library, data):
    def integer(low, high, name):
        return data.draw(st.integers(low, high), label=name)

    generator = torch.Generator().manual_seed(integer(0, 1 << 30, "seed"))
    with shim.pretend(
        shim.PretendedMachine(shim_library), reverse=data.draw(st.booleans(), label="reverse")
    ) as current:
        op = data.draw(st.sampled_from(["block_match", "dequantize", "codebook"]), label="op")
        if op == "block_match":
            shape = (integer(1, 2, "pairs"), 16 * integer(1, 3, "rows"), 16 * integer(1, 3, "columns"), 3)
            levels = data.draw(st.sampled_from([1, 2, 256]), label="levels")
            frames = torch.randint(0, levels, (2, *shape), dtype=torch.uint8, generator=generator)
            rest = (integer(0, 128, "radius"), data.draw(st.sampled_from([0.0, 0.3, 4.0, 1e6]), label="penalty"), True)
            same(fused.block_match(*frames, *rest), eager.block_match(*frames, *rest))
        elif op == "dequantize":
            qtype = data.draw(st.sampled_from(ALL_TYPES), label="qtype")
            weights, size = eager.block_shape(qtype)
            shape = (integer(1, 3, "rows"), integer(1, 5 if weights > 32 else 40, "blocks") * size)
            blocks = torch.randint(0, 120, shape, dtype=torch.uint8, generator=generator)  # no scale is NaN
            dtype = data.draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]), label="dtype")
            same([fused.dequantize(blocks, qtype, dtype)], [eager.dequantize(blocks, qtype, dtype)])
        else:
            size, bits = integer(3, 12, "size"), integer(0, 3, "bits")
            blocks = integer(1, 2, "blocks")
            first, second = torch.randint(0, 2, (2, blocks, 1 << size), generator=generator, dtype=torch.int8) * 2 - 1
            atoms, length = integer(1, min(40, blocks << (size - bits)), "atoms"), integer(1, 1 << size, "length")
            residual = torch.randn(length, generator=generator)
            chosen = fused.codebook_select(residual, first, second, atoms, bits)
            same(chosen, eager.codebook_select(residual, first, second, atoms, bits))
            rest = (first, second, bits, length)
            same([fused.codebook_compose(*chosen, *rest)], [eager.codebook_compose(*chosen, *rest)])
        assert not current.refused


@pytest.mark.slow
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
