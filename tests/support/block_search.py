"""Motion search by trying everything, written to be obvious."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def exhaustive(current, reference, radius=32, penalty=4.0, blocks=None):
    """Best displacement of each 16 x 16 block over all that keep it inside the reference frame.

    Args:
        current, reference: uint8 [H, W, 3].
        blocks: (row, column) of the blocks to search; all when None.

    Returns mv int64 [n, 2] (dx, dy), cost float64 [n] and sad int64 [n], in the order of ``blocks`` (raster for all).
    """
    height, width, _ = current.shape
    if blocks is None:
        blocks = list(np.ndindex(height // 16, width // 16))
    mv, cost, sad = np.zeros((len(blocks), 2), np.int64), np.zeros(len(blocks)), np.zeros(len(blocks), np.int64)
    for i, (row, column) in enumerate(blocks):
        y, x = 16 * row, 16 * column
        top, left = max(y - radius, 0), max(x - radius, 0)
        area = reference[top : y + radius + 16, left : x + radius + 16].astype(np.int16)
        block = current[y : y + 16, x : x + 16].astype(np.int16).transpose(2, 0, 1)
        sads = np.abs(sliding_window_view(area, (16, 16), axis=(0, 1)) - block).sum(axis=(2, 3, 4), dtype=np.int64)
        dy, dx = np.mgrid[: sads.shape[0], : sads.shape[1]]
        dy, dx = (dy + top - y).ravel(), (dx + left - x).ravel()
        length = np.abs(dx) + np.abs(dy)
        costs = sads.ravel() + penalty * length
        best = np.lexsort((dx, dy, length, costs))[0]
        mv[i], cost[i], sad[i] = (dx[best], dy[best]), costs[best], sads.ravel()[best]
    return mv, cost, sad


def exhaustive_frame(current, reference, radius=32, penalty=4.0):
    """Cost float64 and SAD int64 [H/16, W/16] of the best displacement of every block, a whole frame at a time."""
    height, width, _ = current.shape
    rows, columns = height // 16, width // 16
    padded = np.pad(reference, ((radius, radius), (radius, radius), (0, 0)))
    row, column = 16 * np.arange(rows), 16 * np.arange(columns)
    cost, sad = np.full((rows, columns), np.inf), np.zeros((rows, columns), np.int64)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            match = padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width]
            difference = np.maximum(current, match) - np.minimum(current, match)
            sums = np.add.reduce(difference.reshape(rows, 16, width * 3), axis=1, dtype=np.uint16)
            sums = sums.reshape(rows, columns, 48).sum(axis=2, dtype=np.int64)
            inside = ((row + dy >= 0) & (row + dy <= height - 16))[:, None]
            inside = inside & (column + dx >= 0) & (column + dx <= width - 16)
            better = inside & (sums + penalty * (abs(dx) + abs(dy)) < cost)
            cost[better] = sums[better] + penalty * (abs(dx) + abs(dy))
            sad[better] = sums[better]
    return cost, sad
