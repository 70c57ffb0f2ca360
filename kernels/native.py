"""The native library of this processor: taken from the archive into the user's cache, loaded and called by ctypes.

CODECLENS_NATIVE=0 switches it off; the name of an instruction set, such as x86-64-v3, asks for that one. A library that
cannot be used is no error: the eager twins serve, and `codeclens info` and `codeclens kernels` say why.
"""

import atexit
import ctypes
import hashlib
import logging
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from . import cpu_libraries as libraries
from .cpu_libraries import Target
from .launch import packed

log = logging.getLogger(__name__)

SWITCH = "CODECLENS_NATIVE"
DONE, CANCELLED, NO_MEMORY = range(3)
"""What a native function returns (common.h)."""

FUNCTIONS = {
    "block_match": "ppppppqiiif",
    "decoder_row": "pppppqqqqif",
    "delta_step": "ppppppppqqq",
    "dequantize": "ppiiq",
    "float_row": "ppppqqii",
    "quantized_linear": "ppppqqqii",
}
"""Exported function -> the C types of its arguments (launch.packed), without the number of threads at the end."""

POLL = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_int))


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "codeclens"


def unpacked(content: bytes, name: str, folder: Path) -> Path:
    """The file of `folder` that holds exactly `content`, named for its hash; written whole or not at all.

    Raises OSError, which names the folder, where it cannot be written.
    """
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}-{name}"
    if path.is_file() and path.read_bytes() == content:
        return path
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(partial, 0o700)
            os.replace(partial, path)
        except BaseException:
            os.unlink(partial)
            raise
    except OSError as error:
        raise OSError(f"the cache folder {folder} cannot be written: {error.strerror or error}") from error
    return path


class Processor:
    """The processor that this process runs on and its native library, loaded on the first question.

    Args:
        choice: the instruction set to use, "0" for none, "" for the best; None reads CODECLENS_NATIVE.
        folder: where the archive is.
        cache: where libraries are unpacked to.
    """

    def __init__(self, choice: str | None = None, folder: Path = libraries.FOLDER, cache: Path | None = None):
        self.choice, self.folder, self.cache = choice, folder, cache
        self.library: ctypes.CDLL | None = None
        self.target: Target | None = None
        self.unfit: str | None = None
        self.watch: Callable[[], None] | None = None
        self.raised: dict[int, BaseException] = {}
        self.lock = threading.Lock()

    def unavailable(self) -> str | None:
        """Why no native code can run here, or None; loads the library on the first question."""
        if self.library is None and self.unfit is None:
            with self.lock:
                if self.library is None and self.unfit is None:
                    try:
                        self.load()
                    except OSError as error:
                        self.unfit = str(error)
                        log.warning("CodecLens: no native code can be used: %s", error)
        return self.unfit

    def describe(self) -> str:
        """Which library serves, or why none does."""
        why_not = self.unavailable()
        return f"no native code: {why_not}" if why_not else f"native code of {self.target.name}"

    def load(self) -> None:
        """Load the library that was chosen or the best one that runs here. Raises OSError where there is none."""
        choice = os.environ.get(SWITCH, "") if self.choice is None else self.choice
        if choice == "0":
            self.unfit = f"switched off with {SWITCH}=0"
            return
        targets = libraries.targets_here()
        if not targets:
            raise OSError(f"no native library is built for {sys.platform} on {platform.machine()}")
        level = self.opened(targets[0]).processor_level()
        fitting = [target for target in targets if target.level <= level]
        if choice:
            fitting = [target for target in fitting if target.instructions == choice]
        if not fitting:
            wanted = f"{choice}, which {SWITCH} asks for" if choice else targets[0].instructions
            raise OSError(f"the processor does not report what {wanted} needs")
        library = self.opened(fitting[-1])
        self.poll = POLL(self.asked)  # kept: the library calls it for as long as it computes
        atexit.register(library.set_poll, None)  # a daemon thread that computes must not enter Python after its end
        self.library, self.target = library, fitting[-1]

    def opened(self, target: Target) -> ctypes.CDLL:
        """The loaded library of a target, from a file that is checked against the archive's."""
        content = libraries.archive(self.folder).read(target.name)
        return ctypes.CDLL(str(unpacked(content, target.name, self.cache or cache_folder())))

    def asked(self, go_on) -> None:
        """What a native function calls every 50 ms on the thread that computes: it goes on unless something raises.

        Python delivers signals here, before the first line; then ctypes reports the exception and `go_on` stays 0.
        """
        try:
            if self.watch is not None:
                self.watch()
            go_on[0] = 1
        except BaseException as error:
            self.raised[threading.get_ident()] = error

    def run(self, name: str, arguments: Sequence) -> None:
        """Call a function of FUNCTIONS on as many threads as torch may use. The library must be available.

        Raises MemoryError, what `watch` raised, or KeyboardInterrupt where Python was interrupted.
        """
        # Another processor of the same library, gone by now, may have left its own callback there.
        self.library.set_poll(self.poll)
        threads = ctypes.c_int32(torch.get_num_threads())
        result = getattr(self.library, name)(*packed(FUNCTIONS[name], arguments), threads)
        if result == NO_MEMORY:
            raise MemoryError(f"{name} found no memory for its working space")
        if result == CANCELLED:
            raise self.raised.pop(threading.get_ident(), None) or KeyboardInterrupt()
