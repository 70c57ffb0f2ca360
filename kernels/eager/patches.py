"""Selecting the patches that changed most and packing them together."""

import torch
from torch import Tensor


def gather_patches(patches: Tensor, energy: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` rows of `patches` with the most energy, most energy first; of equal energies the lower index first.

    Args:
        patches: [N, C] of any dtype.
        energy: [N], floating without NaN or integer; residual energy as of `block_match`, for instance.
        k: how many to keep, 0 to N.

    Returns packed [k, C] in the dtype of `patches` and index int64 [k], so that `packed == patches[index]`.
    `packed[index.argsort()]` restores the order of the frame. Raises ValueError for other inputs.
    """
    check_patches("gather_patches", patches, energy, k)
    index = torch.sort(energy, descending=True, stable=True).indices[:k].clone()
    return patches[index], index


def check_patches(op: str, patches: Tensor, energy: Tensor, k: int) -> None:
    """Raise ValueError, in one sentence, unless `k` of `patches` [N, C] can be chosen by `energy` [N]."""
    if patches.dim() != 2 or not patches.is_contiguous():
        raise ValueError(f"{op}: patches is {tuple(patches.shape)}; wanted contiguous [N, C].")
    if energy.shape != patches.shape[:1] or not energy.is_contiguous():
        raise ValueError(f"{op}: energy is {tuple(energy.shape)}; wanted contiguous [{len(patches)}], one per patch.")
    if energy.dtype in (torch.bool, torch.complex64, torch.complex128):
        raise ValueError(f"{op}: energy is {energy.dtype}; wanted a floating or integer dtype.")
    if patches.device != energy.device:
        raise ValueError(
            f"{op}: patches is on {patches.device} and energy on {energy.device}; wanted both on one device."
        )
    if not 0 <= k <= len(patches):
        raise ValueError(f"{op}: k is {k}; wanted 0 to {len(patches)}, the number of patches.")
