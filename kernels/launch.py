"""Kernels through the CUDA driver API by ctypes: nothing but the NVIDIA driver is needed.

A library is loaded once per process and image; it belongs to no context, so one serves every GPU of its kind, and the
driver places the kernel in whichever context is current at the launch.
"""

import ctypes
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache

import torch

LIBRARY_NAME = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
OLDEST_DRIVER = 12000
"""cuLibraryLoadData came with CUDA 12.0 (driver R525)."""

ARGUMENT_TYPES = {"p": ctypes.c_void_p, "i": ctypes.c_int32, "q": ctypes.c_int64, "f": ctypes.c_float}


class DriverError(RuntimeError):
    """The driver refused a call: which one, and its own words."""


class Driver:
    """The calls of the CUDA driver that loading and launching need.

    Raises OSError when the library is missing or older than CUDA 12.0.
    """

    def __init__(self, path: str = LIBRARY_NAME):
        self.calls = ctypes.CDLL(path)
        self.check("cuInit", 0)
        version = ctypes.c_int()
        self.check("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value
        if self.version < OLDEST_DRIVER:
            supported = f"{self.version // 1000}.{self.version % 1000 // 10}"
            raise OSError(f"the NVIDIA driver supports CUDA {supported}; the kernels want 12.0 (R525) or newer")

    def check(self, name: str, *arguments) -> None:
        """Call `name`; raise DriverError unless it succeeds."""
        error = getattr(self.calls, name)(*arguments)
        if error:
            text = ctypes.c_char_p()
            self.calls.cuGetErrorString(error, ctypes.byref(text))
            raise DriverError(f"{name} failed with {error} ({(text.value or b'unknown error').decode()})")

    def load(self, image: bytes) -> ctypes.c_void_p:
        """A library from the bytes of a cubin or of NUL-terminated PTX."""
        library = ctypes.c_void_p()
        self.check("cuLibraryLoadData", ctypes.byref(library), image, None, None, 0, None, None, 0)
        return library

    def kernel(self, library: ctypes.c_void_p, name: str) -> ctypes.c_void_p:
        """The kernel `name` of a loaded library, valid in every context."""
        kernel = ctypes.c_void_p()
        self.check("cuLibraryGetKernel", ctypes.byref(kernel), library, name.encode())
        return kernel

    def prepare(self, kernel: ctypes.c_void_p) -> None:
        """Load the kernel's code into the current context now, not at the first launch."""
        function = ctypes.c_void_p()
        self.check("cuKernelGetFunction", ctypes.byref(function), kernel)

    def make_current(self, ordinal: int) -> None:
        """Give this thread the primary context of GPU `ordinal`, which torch uses, unless a context is current."""
        context, device = ctypes.c_void_p(), ctypes.c_int()
        self.check("cuCtxGetCurrent", ctypes.byref(context))
        if not context.value:
            self.check("cuDeviceGet", ctypes.byref(device), ordinal)
            self.check("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
            self.check("cuCtxSetCurrent", context)

    def launch(
        self,
        kernel: ctypes.c_void_p,
        grid: Sequence[int],
        threads: int,
        shared_bytes: int,
        stream: int,
        arguments: Sequence[ctypes._SimpleCData],
    ) -> None:
        """Queue one launch of `grid` blocks of `threads` threads on `stream` in the current context."""
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        x, y, z = (*grid, 1, 1)[:3]
        self.check(
            "cuLaunchKernel", kernel, x, y, z, threads, 1, 1, shared_bytes, ctypes.c_void_p(stream), pointers, None
        )


class Machine:
    """What a launch asks torch about the GPU of a tensor. Tests put another in its place."""

    def driver(self) -> Driver:
        """The installed driver."""
        return Driver()

    def unfit(self) -> str | None:
        """Why no kernel can run here at all, or None."""
        if torch.version.hip:
            return "this torch is built for ROCm"
        if not torch.version.cuda:
            return "this torch is built without CUDA"
        return None if torch.cuda.is_available() else "torch finds no CUDA device"

    def devices(self) -> list[torch.device]:
        """Every GPU that torch sees."""
        return [torch.device("cuda", ordinal) for ordinal in range(torch.cuda.device_count())]

    def name(self, device: torch.device) -> str:
        """The GPU's marketing name."""
        return torch.cuda.get_device_name(device)

    def capability(self, device: torch.device) -> tuple[int, int]:
        """Compute capability (major, minor)."""
        return capability_of(device.index or 0)

    def stream(self, device: torch.device) -> int:
        """Handle of the stream that torch queues work on now."""
        return torch.cuda.current_stream(device).cuda_stream

    def current(self, device: torch.device) -> AbstractContextManager:
        """A context in which `device` is the current one."""
        return torch.cuda.device(device)


@cache
def capability_of(ordinal: int) -> tuple[int, int]:
    """Compute capability of a GPU, kept because every call of every op asks for it."""
    return torch.cuda.get_device_capability(ordinal)


def packed(signature: str, arguments: Sequence) -> list[ctypes._SimpleCData]:
    """Arguments as C values, by a letter each: p pointer (a tensor or None), i int32, q int64, f float32."""
    values = [item.data_ptr() if isinstance(item, torch.Tensor) else item for item in arguments]
    return [ARGUMENT_TYPES[letter](value) for letter, value in zip(signature, values, strict=True)]
