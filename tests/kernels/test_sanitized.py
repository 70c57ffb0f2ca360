"""Tests of native code again, with libraries that check every access and every operation that C leaves open."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from codeclens.kernels import cpu_libraries as libraries
from support import shim
from support.native import instruction_sets

FAMILIES = {
    "motion": (("motion.c",), ("tests/kernels/test_block_match.py",)),
    "products": (
        ("linear.c", "decoder.c", "dequantize.c"),
        (
            "tests/kernels/test_native_products.py",
            "tests/kernels/test_delta_step.py",
            "tests/models/qwen/test_one_row.py",
        ),
    ),
}
"""Sources that are checked together, beside the pool's, and the tests that call them."""
MARCH = {
    "x86-64-v2": "-march=x86-64-v2",
    "x86-64-v3": "-march=x86-64-v3",
    "x86-64-v4": "-march=x86-64-v4 -mavx512vnni",
    "aarch64": "-march=armv8.2-a+dotprod",
}


def build_sanitized(target: libraries.Target, sources: tuple[str, ...], folder: Path, flags: tuple[str, ...]) -> bytes:
    """The library of a target from gcc. Working space is allocated anew for each call, so that its ends are watched."""
    objects = []
    for source in (libraries.FOLDER / name for name in (*sources, "pool.c", "processor.c")):
        fresh = [] if source.name == "pool.c" else ["-Dborrow=allocate", "-Dgive_back=release"]
        objects.append(folder / f"{source.stem}.o")
        options = ["-std=gnu11", "-O1", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-w", *flags]
        options += [*MARCH[target.instructions].split(), "-pthread", *fresh]
        subprocess.run(["gcc", *options, "-c", source, "-o", objects[-1]], check=True)
    library = folder / target.name
    subprocess.run(["gcc", "-shared", "-pthread", *flags, *objects, "-o", library], check=True)
    return library.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sanitizer", ["address", "undefined"])
def test_no_access_outside_the_arrays_and_nothing_undefined(tmp_path, sanitizer, family):
    if sys.platform != "linux" or shutil.which("gcc") is None or not libraries.targets_here():
        pytest.skip("the sanitizers need gcc on Linux")
    environment = {**os.environ, "CODECLENS_LIBRARIES": str(tmp_path), "OMP_NUM_THREADS": "1"}
    if sanitizer == "address":
        runtime = shim.address_sanitizer()
        if runtime is None:
            pytest.skip("gcc has no address sanitizer library")
        environment |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    flags = (f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all")
    targets = [target for target in libraries.targets_here() if target.instructions in instruction_sets()]
    sources, tests = FAMILIES[family]
    built = {target.name: build_sanitized(target, sources, tmp_path, flags) for target in targets}
    libraries.archive(tmp_path).write(built)
    # What raises does not reach the library, and C++ exceptions do not pass a preloaded address sanitizer.
    selected = ["-m", "not slow", "-k", "not bad_input", *tests]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert " passed" in run.stdout
