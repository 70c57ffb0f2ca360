"""Freed memory stays with the process, in a process of its own."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from codeclens.models.allocator import keep_freed_memory
assert {keep}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(faults() for _ in range(30)))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which this is about")
def test_later_tensors_find_their_pages_ready():
    """After some calls, in which the holes that they leave settle."""
    kept, plain = (
        [int(word) for word in subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep)]).split()]
        for keep in ("keep_freed_memory()", "keep_freed_memory")
    )
    assert kept[0] > 100 and min(plain) > 100
    assert sum(kept[-8:]) < 0.1 * sum(plain[-8:])
