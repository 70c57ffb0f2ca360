"""Exhaustive block matching: the displacement of least cost, over every displacement that keeps the block in the frame."""

import math

import torch
from torch import Tensor

BLOCK = 16


def check_frames(op: str, current: Tensor, reference: Tensor, radius: int, penalty: float) -> None:
    """Raise ValueError, in one sentence, unless the frames are two equal batches of whole macroblocks of 8-bit RGB."""
    for name, frames in (("current", current), ("reference", reference)):
        if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[3] != 3:
            raise ValueError(
                f"{op}: {name} is {frames.dtype} {tuple(frames.shape)}; wanted torch.uint8 of shape [N, H, W, 3]."
            )
        if not frames.is_contiguous():
            raise ValueError(f"{op}: {name} is not contiguous; wanted rows of RGB pixels back to back.")
    height, width = current.shape[1:3]
    if height % BLOCK or width % BLOCK or not height or not width:
        raise ValueError(f"{op}: current is {height} x {width} pixels; wanted multiples of {BLOCK}.")
    if reference.shape != current.shape:
        raise ValueError(
            f"{op}: reference is {tuple(reference.shape)}; wanted {tuple(current.shape)}, the shape of current."
        )
    if reference.device != current.device:
        raise ValueError(f"{op}: reference is on {reference.device}; wanted {current.device}, where current is.")
    if radius < 0:
        raise ValueError(f"{op}: radius is {radius}; wanted 0 or more pixels.")
    if not 0 <= penalty < math.inf:
        raise ValueError(f"{op}: penalty is {penalty}; wanted a finite number of at least 0.")


def displacements(radius: int) -> list[tuple[int, int]]:
    """Every (dy, dx) of the window, the order in which the first of equal costs wins: |d|_1, then raster order."""
    window = range(-radius, radius + 1)
    return sorted(((dy, dx) for dy in window for dx in window), key=lambda d: (abs(d[0]) + abs(d[1]), d))


def inside(displacement: int, size: int) -> tuple[slice, slice]:
    """Blocks along one axis of `size` pixels that stay inside when displaced, and the pixels they cover."""
    first = max(0, -(displacement // BLOCK)) if displacement < 0 else 0
    last = (size - displacement) // BLOCK if displacement > 0 else size // BLOCK
    return slice(first, max(first, last)), slice(first * BLOCK, max(first, last) * BLOCK)


def block_match(
    current: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See :func:`codeclens.kernels.block_match`."""
    check_frames("block_match", current, reference, radius, penalty)
    pairs, height, width, _ = current.shape
    shape, device = (pairs, height // BLOCK, width // BLOCK), current.device
    mv = torch.zeros((*shape, 2), dtype=torch.int16, device=device)
    cost = torch.full(shape, math.inf, device=device)
    sad = torch.zeros(shape, dtype=torch.int32, device=device)
    ours, theirs = current.short(), reference.short()
    each = torch.tensor(penalty, dtype=torch.float32)
    for dy, dx in displacements(radius):
        (rows, y), (columns, x) = inside(dy, height), inside(dx, width)
        if rows.start == rows.stop or columns.start == columns.stop:
            continue
        moved = theirs[:, y.start + dy : y.stop + dy, x.start + dx : x.stop + dx]
        difference = (ours[:, y, x] - moved).abs_().flatten(2).unflatten(1, (-1, BLOCK))
        found = difference.sum(2, dtype=torch.int16).unflatten(2, (-1, 3 * BLOCK)).sum(3, dtype=torch.int32)
        candidate = found.float() + float(each * (abs(dy) + abs(dx)))
        better = candidate < cost[:, rows, columns]
        cost[:, rows, columns] = torch.where(better, candidate, cost[:, rows, columns])
        sad[:, rows, columns] = torch.where(better, found, sad[:, rows, columns])
        vector = torch.tensor((dx, dy), dtype=torch.int16, device=device)
        mv[:, rows, columns] = torch.where(better[..., None], vector, mv[:, rows, columns])
    return mv, cost, sad, squared_error(ours, theirs, mv) if energy else sad.new_empty(0)


def squared_error(current: Tensor, reference: Tensor, mv: Tensor) -> Tensor:
    """int32 [N, H/16, W/16]: sum of squared differences of each block from its match; frames int16 [N, H, W, 3]."""
    pairs, height, width, _ = current.shape
    by_pixel = mv.long().repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    y = torch.arange(height, device=mv.device)[:, None] + by_pixel[..., 1]
    x = torch.arange(width, device=mv.device) + by_pixel[..., 0]
    pair = torch.arange(pairs, device=mv.device)[:, None, None]
    squares = (current - reference[pair, y, x]).int().square_()
    return squares.flatten(2).view(pairs, height // BLOCK, BLOCK, -1, 3 * BLOCK).sum((2, 4), dtype=torch.int32)
