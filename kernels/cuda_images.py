"""The built CUDA kernels: which images there are and which of them a GPU can run.

`family.sm_75.cubin` is machine code for compute capability 7.5, `family.compute_75.ptx` assembly that a driver compiles
for anything newer.
"""

from pathlib import Path

from .archive import Archive

FOLDER = Path(__file__).parent / "cuda"
FAMILIES = ("codebook", "delta", "dequantize", "linear", "motion")
CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
PTX_CAPABILITY = (7, 5)


def archive(folder: Path = FOLDER) -> Archive:
    """The images of `folder`."""
    return Archive(folder, "images.zip", ("*.cu", "*.cuh"))


def cubin_name(family: str, capability: tuple[int, int]) -> str:
    """File name of the machine code of `family` for compute capability (major, minor)."""
    return f"{family}.sm_{capability[0]}{capability[1]}.cubin"


def ptx_name(family: str) -> str:
    """File name of the PTX of `family`."""
    return f"{family}.compute_{PTX_CAPABILITY[0]}{PTX_CAPABILITY[1]}.ptx"


def candidates(family: str, capability: tuple[int, int]) -> list[str]:
    """The images that a device of `capability` can run: cubins of its major version, newest first, then PTX."""
    fitting = [built for built in CAPABILITIES if built[0] == capability[0] and built[1] <= capability[1]]
    names = [cubin_name(family, built) for built in sorted(fitting, reverse=True)]
    return names + [ptx_name(family)] if capability >= PTX_CAPABILITY else names
