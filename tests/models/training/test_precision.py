"""The choice between bfloat16 and float32, on this CPU as it is and as one without bfloat16 instructions."""

import os
import platform
import subprocess
import sys

import pytest
import torch

CHOOSE = "from codeclens.models.training.precision import bfloat16_is_faster as faster; print(faster('cpu'))"


def choice(**environment) -> str:
    done = subprocess.run([sys.executable, "-c", CHOOSE], env={**os.environ, **environment}, capture_output=True)
    return done.stdout.decode().strip()


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="oneDNN can be held back on x86 alone")
def test_float32_on_a_cpu_without_bfloat16():
    assert choice(ONEDNN_MAX_CPU_ISA="AVX2") == "False"


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16 instructions")
def test_bfloat16_on_a_cpu_with_it():
    assert choice() == "True"
