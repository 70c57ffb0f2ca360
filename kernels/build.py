"""Build all machine code: `python -m codeclens.kernels.build`, or with `--check` compare with what is committed.

`cuda` or `cpu` as an argument builds that half alone. Each half is one zip beside its sources, with their sums:

* `cuda/images.zip` needs the wheel nvidia-cuda-nvrtc-cu12==12.8.93: no CUDA toolkit, no driver, no GPU. 12.8 is the
  first that knows sm_120, and its PTX is the oldest that serves it.
* `cpu/libraries.zip` needs the wheel ziglang==0.17.1, whose C compiler builds for every system from any. All of
  `cpu/*.c` goes into each library: a new source needs no entry here.

Two builds of one source are byte-identical, on any machine. After a merge conflict in a zip or its sums, take either
side, merge the sources and build again.
"""

import argparse
import ctypes
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

from . import cpu_libraries as libraries
from . import cuda_images as images
from .cpu_libraries import Target
from .cuda_images import CAPABILITIES, FAMILIES, FOLDER, PTX_CAPABILITY, cubin_name, ptx_name

NVRTC_VERSION = (12, 8)
ZIG_VERSION = "0.17.1"
C_OPTIONS = (
    "-std=gnu11",
    "-O3",
    "-s",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Werror",
)
OPTIONS = ("--std=c++17", "-fmad=false", "-default-device")


def nvrtc() -> ctypes.CDLL:
    """The NVRTC library of the installed wheel. Raises OSError where it is absent or of another version."""
    folder = Path(sysconfig.get_path("platlib")) / "nvidia" / "cuda_nvrtc"
    found = [*folder.glob("lib/libnvrtc.so.12"), *folder.glob("bin/nvrtc64_120_0.dll")]
    if not found:
        raise OSError(f"NVRTC is not in {folder}; the build needs nvidia-cuda-nvrtc-cu12==12.8.93")
    library = ctypes.CDLL(str(found[0]))
    major, minor = ctypes.c_int(), ctypes.c_int()
    library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    if (major.value, minor.value) != NVRTC_VERSION:
        raise OSError(f"NVRTC is {major.value}.{minor.value}; the build needs nvidia-cuda-nvrtc-cu12==12.8.93")
    return library


def fetched(program, size_of, copy) -> bytes:
    """One of a program's outputs, through NVRTC's pair of calls for its size and its bytes."""
    size = ctypes.c_size_t()
    size_of(program, ctypes.byref(size))
    output = ctypes.create_string_buffer(size.value)
    copy(program, output)
    return output.raw


def compile_image(family: str, architecture: str, folder: Path = FOLDER) -> bytes:
    """Compile `family`.cu for "sm_XY" (a cubin) or "compute_XY" (PTX, ending in NUL as the driver wants it).

    Raises ValueError with the compiler's log when the source does not compile.
    """
    library = nvrtc()
    headers = {path.name.encode(): path.read_text(encoding="utf-8").encode() for path in sorted(folder.glob("*.cuh"))}
    source = (folder / f"{family}.cu").read_text(encoding="utf-8").encode()
    strings = ctypes.c_char_p * len(headers)
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(
        ctypes.byref(program),
        source,
        f"{family}.cu".encode(),
        len(headers),
        strings(*headers.values()),
        strings(*headers),
    )
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={architecture}")]
    failed = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    if failed:
        log = fetched(program, library.nvrtcGetProgramLogSize, library.nvrtcGetProgramLog)
        raise ValueError(f"{family}.cu does not compile for {architecture}:\n{log.rstrip(bytes(1)).decode()}")
    if architecture.startswith("sm_"):
        image = fetched(program, library.nvrtcGetCUBINSize, library.nvrtcGetCUBIN)
    else:
        image = fetched(program, library.nvrtcGetPTXSize, library.nvrtcGetPTX)
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return image


def jobs(families: tuple[str, ...] = FAMILIES) -> list[tuple[str, str, str]]:
    """(image name, family, architecture) of every image, the longest compilations first."""
    slow_first = sorted(families, key=lambda family: -(FOLDER / f"{family}.cu").stat().st_size)
    plan = []
    for family in slow_first:
        plan += [(cubin_name(family, c), family, f"sm_{c[0]}{c[1]}") for c in CAPABILITIES]
        plan.append((ptx_name(family), family, f"compute_{PTX_CAPABILITY[0]}{PTX_CAPABILITY[1]}"))
    return plan


def build_images() -> dict[str, bytes]:
    """Compile every CUDA image, on all cores: file name -> bytes."""
    plan = jobs()
    with ProcessPoolExecutor() as pool:
        compiled = pool.map(compile_image, [family for _, family, _ in plan], [target for _, _, target in plan])
        return {name: image for (name, _, _), image in zip(plan, compiled, strict=True)}


def zig() -> list[str]:
    """The command of the installed C compiler. Raises OSError where it is absent or of another version."""
    if importlib.util.find_spec("ziglang") is None or metadata.version("ziglang") != ZIG_VERSION:
        raise OSError(f"the build of native code needs the wheel ziglang=={ZIG_VERSION}")
    return [sys.executable, "-m", "ziglang", "cc"]


def compile_library(target: Target, folder: Path = libraries.FOLDER) -> bytes:
    """Compile all C sources of `folder` into the library of `target`.

    They are linked for the first processor of the system, so that the compiler's own library is built once for all.

    Raises ValueError with the compiler's log when they do not compile.
    """
    first = next(other for other in libraries.TARGETS if other.triple == target.triple)
    # A dylib holds a name of its own, by default the path it was linked to.
    named = ["-install_name", f"@rpath/{target.name}"] if target.system == "macos" else []
    with tempfile.TemporaryDirectory() as scratch:

        def compiled(processor: str, output: str, *options: str) -> str:
            command = [*zig(), "-target", target.triple, f"-mcpu={processor}", *C_OPTIONS, *options]
            path = os.path.join(scratch, output)
            made = subprocess.run([*command, "-o", path], cwd=folder, capture_output=True, text=True)
            if made.returncode:
                raise ValueError(f"the C sources do not compile for {target.name}:\n{made.stderr.rstrip()}")
            return path

        sources = sorted(path.name for path in folder.glob("*.c"))
        objects = [compiled(target.processor, f"{source}.o", "-c", source) for source in sources]
        return Path(compiled(first.processor, target.name, "-shared", *named, *objects)).read_bytes()


def build_libraries() -> dict[str, bytes]:
    """Compile the library of every target: file name -> bytes."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        compiled = pool.map(compile_library, libraries.TARGETS)
        return {target.name: library for target, library in zip(libraries.TARGETS, compiled, strict=True)}


HALVES = {"cuda": (images.archive, build_images), "cpu": (libraries.archive, build_libraries)}


def main() -> int:
    """Build, then write the archives or report what differs from them."""
    parser = argparse.ArgumentParser(prog="python -m codeclens.kernels.build", description="Build the machine code.")
    parser.add_argument("halves", nargs="*", metavar="half", help="cuda or cpu; both when not given")
    parser.add_argument("--check", action="store_true", help="compare with the committed sums and write nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.halves) - set(HALVES):
        parser.error(f"{', '.join(sorted(unknown))} is neither cuda nor cpu")
    status = 0
    for half in arguments.halves or HALVES:
        archive, build = HALVES[half]
        members = build()
        if not arguments.check:
            archive().write(members)
            print(f"{half}: {len(members)} files, {sum(map(len, members.values()))} bytes")
            continue
        differing = archive().differences(members)
        print("\n".join(f"{half} differs: {name}" for name in differing) or f"{half}: all files match their sums")
        status |= bool(differing)
    return status


if __name__ == "__main__":
    sys.exit(main())
