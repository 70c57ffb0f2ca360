"""The choice between bfloat16 and float32, on this CPU as it is and as one without bfloat16 instructions."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from codeclens.models.training.precision import bfloat16_is_faster

CHOOSE = "from codeclens.models.training.precision import bfloat16_is_faster as faster; print(faster('cpu'))"


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN can be held back on x86 alone")
def test_float32_on_a_cpu_without_bfloat16():
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", CHOOSE], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16 instructions")
def test_bfloat16_on_a_cpu_with_it():
    assert bfloat16_is_faster("cpu")
