"""Build the images: `python -m codeclens.kernels.build`, or with `--check` compare a build with the committed ones.

Needs only the wheel nvidia-cuda-nvrtc-cu12==12.8.93: no CUDA toolkit, no driver, no GPU. 12.8 is the first that
knows sm_120, and its PTX is the oldest that serves it. Two builds of one source are byte-identical.
"""

import argparse
import ctypes
import sys
import sysconfig
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from .cuda_images import (
    ARCHIVE,
    CAPABILITIES,
    FAMILIES,
    FOLDER,
    PTX_CAPABILITY,
    cubin_name,
    image_sums,
    ptx_name,
    read_sums,
    source_sums,
    write_images,
)

NVRTC_VERSION = (12, 8)
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


def build() -> dict[str, bytes]:
    """Compile every image, on all cores: file name -> bytes."""
    plan = jobs()
    with ProcessPoolExecutor() as pool:
        compiled = pool.map(compile_image, [family for _, family, _ in plan], [target for _, _, target in plan])
        return {name: image for (name, _, _), image in zip(plan, compiled, strict=True)}


def main() -> int:
    """Build, then write the archive or report what differs from it."""
    parser = argparse.ArgumentParser(prog="python -m codeclens.kernels.build", description="Build the CUDA images.")
    parser.add_argument("--check", action="store_true", help="compare with the committed sums and write nothing")
    check = parser.parse_args().check
    images = build()
    if not check:
        write_images(images)
        print(f"{len(images)} images, {sum(map(len, images.values()))} bytes")
        return 0
    built, committed = source_sums() | image_sums(images), read_sums()
    del committed[ARCHIVE]  # how zlib packs them is no difference in the images
    differing = sorted(name for name in built.keys() | committed.keys() if built.get(name) != committed.get(name))
    print("\n".join(f"differs: {name}" for name in differing) or f"all {len(images)} images match their sums")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
