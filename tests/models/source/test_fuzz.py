"""Damaged videos end in frames or in one sentence, within bounds of time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

WORKER = Path(__file__).resolve().parents[2] / "support" / "video_fuzz.py"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
@pytest.mark.parametrize("first", [0, 150])
def test_damaged_videos_are_read_or_refused(first):
    done = subprocess.run(
        [sys.executable, WORKER, str(first), str(first + 150)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, counts = done.stdout.strip().splitlines()
    print(f"{first} to {first + 149}: {counts}")
    assert not wrong and sum(json.loads(counts).values()) == 150
