"""The built libraries for processors: one for each system and instruction set, holding all sources of `cpu/`."""

import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from .archive import Archive

FOLDER = Path(__file__).parent / "cpu"


@dataclass(frozen=True, slots=True)
class Target:
    """What one library is built for.

    Attributes:
        system: "linux", "windows" or "macos".
        instructions: the instruction set, as `codeclens kernels` and CODECLENS_NATIVE name it.
        level: what processor_level() (processor.c) answers at least where the library runs.
        triple, processor: the compiler's names of system and processor.
    """

    system: str
    instructions: str
    level: int
    triple: str
    processor: str

    @property
    def name(self) -> str:
        """File name in the archive."""
        ending = {"linux": "so", "windows": "dll", "macos": "dylib"}[self.system]
        return f"{self.system}-{self.instructions}.{ending}"


X86_64 = (("x86-64-v2", 2, "x86_64_v2"), ("x86-64-v3", 3, "x86_64_v3"), ("x86-64-v4", 4, "x86_64_v4+avx512vnni"))

TARGETS = (
    *(Target("linux", name, level, "x86_64-linux-gnu.2.17", cpu) for name, level, cpu in X86_64),
    *(Target("windows", name, level, "x86_64-windows-gnu", cpu) for name, level, cpu in X86_64),
    Target("linux", "aarch64", 1, "aarch64-linux-gnu.2.17", "generic+dotprod"),
    Target("macos", "aarch64", 1, "aarch64-macos.11.0", "apple_m1"),
)
"""Every library, those of one system and architecture in order of level. The v4 libraries use VNNI, the aarch64 ones
the dot products of NEON."""


def archive(folder: Path = FOLDER) -> Archive:
    """The libraries of `folder`."""
    return Archive(folder, "libraries.zip", ("*.c", "*.h"))


def targets_here() -> list[Target]:
    """The targets of this system and architecture, lowest level first; empty where none is built."""
    system = {"linux": "linux", "win32": "windows", "darwin": "macos"}.get(sys.platform)
    machine = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
        platform.machine().lower(), "unknown"
    )
    return [target for target in TARGETS if target.system == system and target.instructions.startswith(machine)]
