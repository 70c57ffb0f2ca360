"""The machine that a benchmark's numbers come from, in one line."""

import os
import platform
from pathlib import Path

import torch


def describe_machine() -> str:
    """Processor, cores, memory, GPU and the versions that decide speed."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    parts = [f"{processor or platform.processor() or platform.machine()}, {os.cpu_count()} cores"]
    if hasattr(os, "sysconf"):
        parts.append(f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB")
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    parts.append(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
    parts.append(f"{torch.backends.cpu.get_cpu_capability()}, Python {platform.python_version()}, {platform.system()}")
    return "machine: " + ", ".join(parts)
