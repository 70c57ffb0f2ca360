"""Damaged pictures, models and JSON: success or one InputError sentence, within bounds of memory and time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COUNTS = {"picture": 3000, "gguf": 1500, "json": 4000}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
@pytest.mark.parametrize("kind", COUNTS)
def test_damaged_files_are_read_or_refused(kind):
    command = [sys.executable, "-W", "ignore", "-m", "support.fuzz", kind, "1", str(COUNTS[kind])]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    outcomes = json.loads(done.stdout.splitlines()[-1])
    print(f"{kind}: {outcomes}")
    assert sum(outcomes.values()) == COUNTS[kind] and set(outcomes) <= {"success", "InputError"}
    assert min(outcomes.values()) > COUNTS[kind] // 100
