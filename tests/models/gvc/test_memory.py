"""Memory of encoding and decoding through files follows the GOP, not the video."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


def peak(folder: Path, variant: str, gops: int) -> int:
    """MiB of a process that encodes and decodes so many GOPs of 9 frames of 256x256."""
    folder.mkdir()
    worker = TESTS / "support" / "gvc_memory_worker.py"
    environment = dict(os.environ, PYTHONPATH=os.environ.get("PYTHONPATH", ""))
    command = [sys.executable, str(worker), str(folder), variant, str(gops)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["T2V", "I2V"])
def test_ten_times_the_gops_take_hardly_more(tmp_path, variant):
    """36 more GOPs are 255 MB as one IMAGE; what grows is the allocator's slack (malloc_trim gives all of it back)."""
    assert peak(tmp_path / "long", variant, 40) - peak(tmp_path / "short", variant, 4) < 80
