"""What all that runs in a process has in common, and what must not be left changed."""

import hashlib
import os
import random
import signal
import threading

import numpy as np
import psutil
import torch
from torch.nn.modules import module


def process_state() -> dict:
    """Settings, random states, hooks and threads of this process, as JSON values that compare equal when unchanged."""
    backends = torch.backends
    return {
        "torch threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "python threads": sorted(thread.name for thread in threading.enumerate()),
        "native threads": psutil.Process().num_threads(),
        "processes": len(psutil.Process().children(recursive=True)),
        "cores": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "default dtype and device": [str(torch.get_default_dtype()), str(torch.get_default_device())],
        "matmul precision": torch.get_float32_matmul_precision(),
        "matmul on CUDA": [
            backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
            backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        ],
        "attention on CUDA": [
            backends.cuda.flash_sdp_enabled(),
            backends.cuda.mem_efficient_sdp_enabled(),
            backends.cuda.math_sdp_enabled(),
            backends.cuda.cudnn_sdp_enabled(),
        ],
        "cuDNN": [backends.cudnn.enabled, backends.cudnn.benchmark, backends.cudnn.deterministic],
        "oneDNN": backends.mkldnn.enabled,
        "deterministic": [
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ],
        "autocast": [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "gradients": [torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()],
        "denormals": float(torch.tensor([1e-38]) / 1024),
        "random": [
            _digest(torch.get_rng_state().numpy().tobytes()),
            _digest(np.random.get_state()[1].tobytes()),
            _digest(repr(random.getstate()).encode()),
        ],
        "hooks of all modules": [
            len(module._global_forward_pre_hooks),
            len(module._global_forward_hooks),
            len(module._global_forward_hooks_always_called),
            len(module._global_backward_hooks),
        ],
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "numpy errors": np.geterr(),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)],
        "environment": _digest(repr(sorted(os.environ.items())).encode()),
    }


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()
