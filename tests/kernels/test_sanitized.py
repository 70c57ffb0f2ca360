"""Tests of native code again, with libraries that check every access and every operation that C leaves open."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from codeclens.kernels import cpu_libraries as libraries
from support import shim
from support.native import instruction_sets

TESTS = [
    "tests/kernels/test_block_match.py",
    "tests/kernels/test_native_products.py",
    "tests/kernels/test_delta_step.py",
    "tests/models/qwen/test_one_row.py",
]
"""The tests that call native code with every shape and format."""
MARCH = {
    "x86-64-v2": "-march=x86-64-v2",
    "x86-64-v3": "-march=x86-64-v3",
    "x86-64-v4": "-march=x86-64-v4 -mavx512vnni",
    "aarch64": "-march=armv8.2-a+dotprod",
}


SANITIZERS = (
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "--param=asan-instrumentation-with-call-threshold=0",
)
"""Checks of the address sanitizer in line would take gcc several times as long."""


def compile_sanitized(target: libraries.Target, source: Path, folder: Path) -> Path:
    """An object of one source from gcc. Working space is allocated anew for each call, so that its ends are watched."""
    fresh = [] if source.name == "pool.c" else ["-Dborrow=allocate", "-Dgive_back=release"]
    made = folder / f"{target.name}-{source.stem}.o"
    options = [
        "-std=gnu11",
        "-O1",
        "-g1",
        "-fPIC",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        "-w",
        "-Wno-psabi",
        *SANITIZERS,
    ]
    options += [*MARCH[target.instructions].split(), "-pthread", *fresh]
    subprocess.run(["gcc", *options, "-c", source, "-o", made], check=True)
    return made


def build_sanitized(targets: list[libraries.Target], folder: Path) -> dict[str, bytes]:
    """The library of each target, its sources compiled on all cores: file name -> bytes."""
    sources = sorted(libraries.FOLDER.glob("*.c"), key=lambda source: -source.stat().st_size)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {
            target.name: [pool.submit(compile_sanitized, target, source, folder) for source in sources]
            for target in targets
        }
    for name, compiled in objects.items():
        made = [one.result() for one in compiled]
        subprocess.run(["gcc", "-shared", "-pthread", *SANITIZERS, *made, "-o", folder / name], check=True)
    return {target.name: (folder / target.name).read_bytes() for target in targets}


@pytest.mark.slow
def test_no_access_outside_the_arrays_and_nothing_undefined(tmp_path):
    if sys.platform != "linux" or shutil.which("gcc") is None or not libraries.targets_here():
        pytest.skip("the sanitizers need gcc on Linux")
    runtime = shim.address_sanitizer()
    if runtime is None:
        pytest.skip("gcc has no address sanitizer library")
    environment = {**os.environ, "CODECLENS_LIBRARIES": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment |= {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    targets = [target for target in libraries.targets_here() if target.instructions in instruction_sets()]
    libraries.archive(tmp_path).write(build_sanitized(targets, tmp_path))
    # What raises does not reach the library, and C++ exceptions do not pass a preloaded address sanitizer.
    selected = ["-m", "not slow", "-k", "not bad_input", *TESTS]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *selected],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert " passed" in run.stdout
