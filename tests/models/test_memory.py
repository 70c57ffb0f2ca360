"""Freed memory stays with the process, in a process of its own."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from codeclens.models.memory import keep_freed_memory
assert {keep}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, second = faults(), faults()
print(first, second)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which this is about")
def test_the_second_tensor_finds_its_pages_ready():
    kept, plain = (
        [int(word) for word in subprocess.check_output([sys.executable, "-c", FAULTS.format(keep=keep)]).split()]
        for keep in ("keep_freed_memory()", "keep_freed_memory")
    )
    assert kept[0] > 100 and plain[1] > 100
    assert kept[1] < 0.1 * plain[1]
