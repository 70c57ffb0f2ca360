"""Exhaustive block matching on 16 x 16 macroblocks of RGB."""

import torch
from torch import Tensor
from torch.nn import functional

BLOCK = 16
"""Side of a macroblock in pixels."""

MAX_RADIUS = 511
"""Largest window whose candidates a fused kernel can number in 20 bits."""


def block_match(
    current: Tensor, reference: Tensor, radius: int, penalty: float, energy: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For every macroblock the best match in the reference: the full search, and the definition of the fused op.

    The cost of a displacement is `SAD + penalty * (|dx| + |dy|)` in float32, with the SAD over the 16 x 16 x 3 samples
    (AdaCodec, arXiv 2606.02569, equation 1). Candidates are all displacements up to `radius` either way that keep the
    block inside the frame. Of equal costs the smaller |dx| + |dy| wins, then the smaller dy, then the smaller dx.

    Args:
        current: uint8 [N, H, W, 3] RGB, contiguous, sides multiples of 16.
        reference: as `current`; frame n of one is matched in frame n of the other.
        radius: largest |dx| and |dy| in pixels, 0 to 511.
        penalty: cost of a pixel of |dx| + |dy|, in 8-bit SAD units, finite and not negative.
        energy: also sum the squared differences at the winner.

    Returns mv int16 [N, H/16, W/16, 2] as (dx, dy), the block at (x, y) matches (x + dx, y + dy); cost float32, sad
    int32 and energy int32, each [N, H/16, W/16]; energy is empty unless asked for. Raises ValueError for other inputs.
    """
    check_frames("block_match", current, reference, radius, penalty)
    if current.device.type == "cpu" and len(current) > 1:  # one pair stays in the cache, a batch does not
        each = zip(current.split(1), reference.split(1), strict=True)
        return tuple(map(torch.cat, zip(*(block_match(*pair, radius, penalty, energy) for pair in each), strict=True)))
    pairs, height, width, _ = current.shape
    grid = (pairs, height // BLOCK, width // BLOCK)
    mv = torch.zeros((*grid, 2), dtype=torch.int16, device=current.device)
    cost = torch.full(grid, torch.inf, device=current.device)
    sad = torch.zeros(grid, dtype=torch.int32, device=current.device)
    each = torch.tensor(penalty, dtype=torch.float32)
    # SAD = sum |a - b| = 2 sum max(a, b) - sum a - sum b, and the last two are read from tables.
    current_sums, reference_sums = box_sums(current)[:, ::BLOCK, ::BLOCK], box_sums(reference)
    for dy, dx in displacements(radius):
        top, bottom = -(min(dy, 0) // BLOCK), (height - max(dy, 0)) // BLOCK
        left, right = -(min(dx, 0) // BLOCK), (width - max(dx, 0)) // BLOCK
        if top >= bottom or left >= right:
            continue
        y, x, rows, columns = top * BLOCK, left * BLOCK, (bottom - top) * BLOCK, (right - left) * BLOCK
        larger = torch.maximum(
            current[:, y : y + rows, x : x + columns],
            reference[:, y + dy : y + dy + rows, x + dx : x + dx + columns],
        )
        across = (bottom - top, right - left)
        sums = (
            larger.float().view(pairs, across[0], BLOCK, across[1] * BLOCK * 3).sum(2).view(pairs, *across, BLOCK * 3)
        )
        where = (slice(None), slice(top, bottom), slice(left, right))
        there = reference_sums[:, y + dy : y + dy + rows : BLOCK, x + dx : x + dx + columns : BLOCK]
        found = 2 * sums.sum(-1) - current_sums[where] - there
        total = found + float(each * (abs(dx) + abs(dy)))
        better = total < cost[where]
        cost[where] = torch.where(better, total, cost[where])
        sad[where] = torch.where(better, found.int(), sad[where])
        mv[where] = torch.where(better[..., None], mv.new_tensor((dx, dy)), mv[where])
    squares = residual_energy(current, reference, mv) if energy else sad.new_empty(0)
    return mv, cost, sad, squares


def displacements(radius: int) -> list[tuple[int, int]]:
    """Every (dy, dx) of the window, the preferred one first, so that only a strictly smaller cost replaces it."""
    span = range(-radius, radius + 1)
    return sorted(((dy, dx) for dy in span for dx in span), key=lambda d: (abs(d[0]) + abs(d[1]), d))


def box_sums(frames: Tensor) -> Tensor:
    """Sum of the samples of the 16 x 16 box at every position: uint8 [N, H, W, 3] -> float32 [N, H - 15, W - 15]."""
    table = functional.pad(frames.sum(3).cumsum(1).cumsum(2), (1, 0, 1, 0))
    tall = table[:, BLOCK:] - table[:, :-BLOCK]
    return (tall[:, :, BLOCK:] - tall[:, :, :-BLOCK]).float()


def residual_energy(current: Tensor, reference: Tensor, mv: Tensor) -> Tensor:
    """Sum of squared differences of every block to its match: int32 [N, H/16, W/16]."""
    pairs, height, width, _ = current.shape
    dx, dy = mv.long()[:, :, None, :, None].unbind(-1)
    rows = torch.arange(height, device=current.device).view(1, -1, BLOCK, 1, 1) + dy
    columns = torch.arange(width, device=current.device).view(1, 1, 1, -1, BLOCK) + dx
    match = reference[torch.arange(pairs, device=current.device).view(-1, 1, 1, 1, 1), rows, columns]
    blocks = current.view(pairs, height // BLOCK, BLOCK, width // BLOCK, BLOCK, 3)
    return (blocks.int() - match.int()).square().sum((2, 4, 5), dtype=torch.int32)


def check_frames(op: str, current: Tensor, reference: Tensor, radius: int, penalty: float) -> None:
    """Raise ValueError, in one sentence, unless `block_match` can read these frames."""
    for name, frames in (("current", current), ("reference", reference)):
        if frames.dtype != torch.uint8 or frames.dim() != 4 or frames.shape[3] != 3:
            raise ValueError(f"{op}: {name} is {frames.dtype} {tuple(frames.shape)}; wanted torch.uint8 [N, H, W, 3].")
        if frames.shape[1] % BLOCK or frames.shape[2] % BLOCK or 0 in frames.shape[1:3]:
            raise ValueError(
                f"{op}: {name} is {frames.shape[1]} x {frames.shape[2]} pixels; wanted multiples of {BLOCK}."
            )
        if not frames.is_contiguous():
            raise ValueError(f"{op}: {name} is not contiguous; wanted frames stored row after row.")
    if current.shape != reference.shape:
        raise ValueError(
            f"{op}: reference is {tuple(reference.shape)}; wanted {tuple(current.shape)}, the shape of current."
        )
    if current.device != reference.device:
        raise ValueError(
            f"{op}: current is on {current.device} and reference on {reference.device}; wanted both on one device."
        )
    if not 0 <= radius <= MAX_RADIUS:
        raise ValueError(f"{op}: radius is {radius}; wanted 0 to {MAX_RADIUS} pixels.")
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"{op}: penalty is {penalty}; wanted a finite cost that is not negative.")
