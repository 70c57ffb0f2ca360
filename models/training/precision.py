"""Which number format this machine trains in fastest."""

import functools
import time

import torch


@functools.cache
def bfloat16_is_faster(device_type: str) -> bool:
    """Whether autocast to bfloat16 speeds a layer's step up; measured once on the CPU, taken as given elsewhere.

    A CPU without instructions for bfloat16 (AVX2) computes a step 20 times slower in it, one that has them
    (AVX512_BF16, AMX) in half the time, so the best of a few passes decides safely.
    """
    if device_type != "cpu":
        return True
    weight, states = torch.zeros(1024, 256, requires_grad=True), torch.zeros(512, 256, requires_grad=True)
    fastest = {}
    for enabled in (False, True) * 3:
        began = time.perf_counter()
        with torch.amp.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = torch.nn.functional.linear(states, weight).sum()
        torch.autograd.grad(loss, (states, weight))
        fastest[enabled] = min(time.perf_counter() - began, fastest.get(enabled, float("inf")))
    return fastest[True] < fastest[False]
