"""The ops on the processor: check the input, ask the registry, call the native library; else run the eager twin."""

import torch
from torch import Tensor

from . import eager
from .eager.motion import BLOCK
from .registry import current

__all__ = ["block_match"]


def block_match(
    current_frames: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`codeclens.kernels.block_match`."""
    eager.check_frames("block_match", current_frames, reference, radius, penalty)
    registry = current()
    facts = {"current": current_frames, "radius": radius, "penalty": penalty}
    if registry.native_refusal("block_match", facts):
        return eager.block_match(current_frames, reference, radius, penalty, energy)
    pairs, height, width, _ = current_frames.shape
    shape = (pairs, height // BLOCK, width // BLOCK)
    vectors = torch.empty((*shape, 2), dtype=torch.int16)
    cost = torch.empty(shape, dtype=torch.float32)
    sad = torch.empty(shape, dtype=torch.int32)
    energies = torch.empty(shape if energy else 0, dtype=torch.int32)
    results = (vectors, cost, sad, energies if energy else None)
    arguments = (current_frames, reference, *results, pairs, height, width, radius, penalty)
    registry.processor.run("block_match", arguments)
    return vectors, cost, sad, energies
