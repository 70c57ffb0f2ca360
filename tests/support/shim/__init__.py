"""The CUDA sources as C++: built with g++ over shim.h into a library that answers as the CUDA driver would."""

import contextlib
import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from codeclens.kernels import cuda_images as images
from codeclens.kernels import launch, registry

HERE = Path(__file__).parent
OPTIONS = ("-std=c++17", "-O1", "-g1", "-ffp-contract=off", "-fPIC", "-shared", "-Wno-unknown-pragmas")

ADDRESS = os.environ.get("CODECLENS_SHIM") == "address"
"""Whether this process preloads the address sanitizer, and the shim is built with it."""

MUTATED_TYPES = ("Q4_K", "Q8_0", "Q6_K")
"""One block type of each alignment, where compiling all would take too long."""


MISSING = "the CPU shim needs g++ on Linux"


def compiler() -> str | None:
    """The C++ compiler, or None where the shim cannot be built."""
    return shutil.which("g++") if sys.platform == "linux" else None


def address_sanitizer() -> str | None:
    """The address sanitizer's runtime, to be preloaded into Python, or None where g++ has none."""
    path = subprocess.run([compiler(), "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    return path if Path(path).is_absolute() else None


def build(folder: Path, sources: Path = images.FOLDER, families=images.FAMILIES) -> Path:
    """Compile the kernels of `sources` with the pretended driver into a library in `folder`."""
    parts = {family: (sources / f"{family}.cu").read_text(encoding="utf-8") for family in families}
    names = [
        name for name, (family, _) in registry.KERNELS.items() if family in families and declared(name, parts[family])
    ]
    unit = folder / "kernels.cpp"
    unit.write_text(
        "\n".join(
            [
                '#include "shim.h"',
                *(f'#include "{family}.cu"' for family in families),
                "const shim::Entry shim_entries[] = {",
                *(f'{{"{name}", shim::Unpacked<{name}>::call}},' for name in names),
                "{nullptr, nullptr}};",
                '#include "driver.cpp"',
            ]
        )
    )
    library = folder / "libcuda_shim.so"
    sanitizer = "-fsanitize=address" if ADDRESS else "-fsanitize=undefined"
    options = (*OPTIONS, sanitizer, "-fno-sanitize-recover=all", f"-I{HERE}", f"-I{sources}")
    subprocess.run([compiler(), *options, str(unit), "-o", str(library)], check=True)
    return library


def declared(kernel: str, source: str) -> bool:
    """Whether the source still declares a kernel whose name may come from a macro, such as LINEARS(Q4_K)."""
    qtype = re.search(r"I?Q\d_\w+?(?=_\d$|$)", kernel)
    return qtype is None or re.search(rf"^[A-Z]+\({qtype[0]}\)$", source, re.MULTILINE) is not None


def copy_sources(folder: Path, *shortened: str) -> None:
    """Copy the CUDA sources; those named keep the kernels of MUTATED_TYPES alone, LINEARS(Q4_K) and the like."""
    for path in images.FOLDER.glob("*.cu*"):
        source = path.read_text(encoding="utf-8")
        if path.name in shortened:
            others = f"^[A-Z]+\\((?!(?:{'|'.join(MUTATED_TYPES)})\\))I?Q\\w+\\)\\n"
            source = re.sub(others, "", source, flags=re.MULTILINE)
        (folder / path.name).write_text(source, encoding="utf-8")


class PretendedMachine(launch.Machine):
    """A machine whose GPU is the shim: CPU tensors stand for GPU tensors."""

    def __init__(self, library: Path, capability=(8, 6)):
        self.library, self.pretended_capability = library, capability
        self.calls = ctypes.CDLL(str(library))
        self.calls.shim_count.restype = ctypes.c_int64
        self.calls.shim_configure(12080, 0, 1)
        self.made_current = 0

    def driver(self):
        return launch.Driver(str(self.library))

    def unfit(self):
        return None

    def devices(self):
        return [torch.device("cpu")]

    def name(self, device):
        return "pretended GPU"

    def capability(self, device):
        return self.pretended_capability

    def stream(self, device):
        return 0x5EED

    @contextlib.contextmanager
    def current(self, device):
        self.made_current += 1
        yield


@contextlib.contextmanager
def pretend(machine: PretendedMachine, folder=images.FOLDER, reverse: bool = False):
    """Put a registry of the pretended machine in force; `reverse` runs the threads of a block from last to first."""
    machine.calls.shim_reverse(int(reverse))
    before = registry.use(registry.Registry(machine, folder))
    try:
        yield registry.current()
    finally:
        registry.use(before)
        machine.calls.shim_reverse(0)
