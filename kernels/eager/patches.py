"""Keep the patches with the most residual energy."""

import torch
from torch import Tensor


def check_patches(op: str, patches: Tensor, energy: Tensor, k: int) -> None:
    """Raise ValueError, in one sentence, unless `patches` [N, C] has an energy each and at least `k` rows."""
    if patches.dim() != 2 or not patches.is_contiguous():
        raise ValueError(f"{op}: patches is {tuple(patches.shape)}; wanted a contiguous [N, C].")
    if energy.shape != patches.shape[:1] or not energy.is_contiguous():
        raise ValueError(f"{op}: energy is {tuple(energy.shape)}; wanted a contiguous [{patches.shape[0]}].")
    if energy.device != patches.device:
        raise ValueError(f"{op}: energy is on {energy.device}; wanted {patches.device}, where patches is.")
    if not 0 <= k <= patches.shape[0]:
        raise ValueError(f"{op}: k is {k}; wanted 0 to {patches.shape[0]}, the patches that there are.")


def gather_patches(patches: Tensor, energy: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """See :func:`codeclens.kernels.gather_patches`."""
    check_patches("gather_patches", patches, energy, k)
    index = torch.sort(energy, descending=True, stable=True).indices[:k].clone()
    return patches[index], index
