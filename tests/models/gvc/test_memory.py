"""Memory of encoding and decoding through files follows the GOP, not the video."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["T2V", "I2V"])
def test_ten_times_the_gops_take_hardly_more(tmp_path, variant):
    """Of 9 frames of 256x256: 36 more GOPs are 255 MB as one IMAGE. What grows is the allocator's slack."""
    worker = TESTS / "support" / "gvc_memory_worker.py"
    command = [sys.executable, str(worker), str(tmp_path), variant, "4", "40"]
    few, many = map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    assert many - few < 80
