"""What a process keeps of the memory that it has freed."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""glibc's ``M_TRIM_THRESHOLD`` and ``M_MMAP_THRESHOLD`` (malloc.h)."""


def keep_freed_memory(size: int = 1 << 30) -> bool:
    """Let glibc keep up to ``size`` bytes of freed memory for the next tensor; False where the C library is another.

    By default it hands large tensors back to the kernel one by one, which fills their pages with zeros when the next
    one comes: a fifth of a training step on the CPU, and a tenth of a prefill. This concerns the whole process, so it
    is for the command line and not for the host.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return all([library.mallopt(option, size) for option in (TRIM_THRESHOLD, MMAP_THRESHOLD)])
