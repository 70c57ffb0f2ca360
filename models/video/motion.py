"""Motion search on macroblocks: where in the previous sampled frame does each block come from, and at what cost.

Cost of a displacement d of a block (AdaCodec, arXiv 2606.02569, equation 1): ``SAD + penalty * (|dx| + |dy|)``, the SAD
summed over the block's 16 x 16 x 3 colour samples. Only displacements that keep the block wholly inside the reference
frame are candidates: no pixel is made up. Among equal costs the shortest vector wins, then the first in raster order.

The search goes from coarse to fine: all displacements on a grid of 4 pixels at a quarter of the resolution; the
promising ones refined at half and then at full resolution; the neighbours' vectors; and for the costlier half of the
blocks, where the sum is made, a walk downhill. Zero motion is always tried. Threads take whole frames, so that they
never wait for one another inside a frame.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import InputError

BLOCK = 16
"""Side of a macroblock in pixels: one patch of the vision encoder (AdaCodec, section 3.1)."""

RADII = (16, 32, 64)
"""Search windows on offer, in pixels to each side."""

PENALTY = 4.0
"""Cost of one pixel of motion, in 8-bit SAD units: a tie-break, as 64 pixels add a third of a grey level per sample."""

COARSE_CANDIDATES = 8
"""Displacements of a block that leave the coarse search."""

HALF_PAIRS, FULL_PAIRS = 6, 3
"""Candidates that are refined at half and at full resolution, per block on average over the frame."""

SLACK = 0.3
"""A candidate is refined for being near its block's best: within this fraction of that one's cost, more or less."""

REACH = 2
"""Largest distance, in pixels of its resolution, of a refinement around its candidate."""

SLICE = 512
"""Candidates compared in one operation: their samples stay in a core's cache."""

THREADS = 8
"""Most frames searched at once; beyond that threads wait for the interpreter between operations."""


def search(
    frames: np.ndarray, radius: int = 32, penalty: float = PENALTY, previous: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Motion of each frame against the one before it.

    Args:
        frames: uint8 [T, H, W, 3] RGB, sides multiples of 16.
        radius: largest |dx| and |dy| in pixels, one of ``RADII``.
        penalty: cost of one pixel of |dx| + |dy|.
        previous: uint8 [H, W, 3], the frame before the first; None leaves the first frame without reference, all zeros.

    Returns:
        mv int16 [T, H/16, W/16, 2] (dx, dy), cost float32 [T, H/16, W/16] and sad float32 [T, H/16, W/16].
        The block at (x, y) matches (x + dx, y + dy) in the reference.

    Raises InputError for another shape, dtype or radius.
    """
    _check(frames, radius, penalty, previous)
    count, height, width, _ = frames.shape
    grid = (count, height // BLOCK, width // BLOCK)
    mv, cost, sad = np.zeros((*grid, 2), np.int16), np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    first = 1 if previous is None else 0
    with ThreadPoolExecutor(min(count, os.cpu_count() or 1, THREADS)) as pool:
        pyramids = list(pool.map(_pyramid, frames if previous is None else [previous, *frames]))
        window = _Window(height, width, radius, penalty)
        # Another search, such as an exhaustive one on a GPU, would take over here, pair by pair.
        fields = pool.map(_search_pair, pyramids[1:], pyramids[:-1], repeat(window))
        for t, field in enumerate(fields, first):
            mv[t], cost[t], sad[t] = field
    return mv, cost, sad


def predict(reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """Motion-compensated prediction: uint8 [H, W, 3], each block copied from its match in ``reference``.

    Args:
        reference: uint8 [H, W, 3].
        mv: int16 [H/16, W/16, 2], every match wholly inside the reference.
    """
    height, width, _ = reference.shape
    y, x = np.mgrid[0:height:BLOCK, 0:width:BLOCK]
    y, x = y + mv[..., 1], x + mv[..., 0]
    if y.min() < 0 or x.min() < 0 or y.max() > height - BLOCK or x.max() > width - BLOCK:
        raise InputError(f"a motion vector points outside the {width}x{height} reference frame")
    matches = _windows(reference, BLOCK, BLOCK)[y, x]
    return matches.reshape(*mv.shape[:2], BLOCK, BLOCK, 3).transpose(0, 2, 1, 3, 4).reshape(reference.shape)


def residual(current: np.ndarray, reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """int16 [H, W, 3], -255..255: what the prediction leaves, ``current - predict(reference, mv)``."""
    return current.astype(np.int16) - predict(reference, mv)


def _check(frames, radius, penalty, previous):
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise InputError(f"frames are {frames.dtype} {list(frames.shape)}; motion search needs uint8 [T, H, W, 3]")
    if frames.shape[1] % BLOCK or frames.shape[2] % BLOCK or not frames.size:
        raise InputError(f"frames are {frames.shape[2]}x{frames.shape[1]}; both sides must be multiples of {BLOCK}")
    if previous is not None and (previous.dtype, previous.shape) != (frames.dtype, frames.shape[1:]):
        raise InputError(
            f"the previous frame is {previous.dtype} {list(previous.shape)}; "
            f"it must be like the frames, uint8 {list(frames.shape[1:])}"
        )
    if radius not in RADII:
        raise InputError(f"search radius is {radius!r}; it must be one of {', '.join(map(str, RADII))} pixels")
    if not 0 <= penalty < 1024:
        raise InputError(f"motion penalty is {penalty!r}; it must be at least 0 and below 1024")


def _windows(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """View [H - rows + 1, W - columns + 1, rows, columns * 3] of every window of the image."""
    height, width, _ = image.shape
    return sliding_window_view(image.reshape(height, width * 3), (rows, columns * 3))[:, ::3]


def _blocks(image: np.ndarray, side: int) -> np.ndarray:
    """[N, side, side * 3]: the image cut into its N blocks, in raster order."""
    height, width, _ = image.shape
    cut = image.reshape(height // side, side, width // side, side * 3).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cut).reshape(-1, side, side * 3)


def _halved(image: np.ndarray) -> np.ndarray:
    """The image at half the size: rounded means of 2 x 2 pixels."""
    rows = image[0::2].astype(np.uint16) + image[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def _pyramid(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The image at full, half and quarter resolution."""
    half = _halved(image)
    return image, half, _halved(half)


class _Window:
    """The displacements that each block may take, and what each costs by itself.

    Attributes:
        price: float64 [2 * edge + 1, 2 * edge + 1], penalty of (dy, dx) plus a rank far below any step of the cost, so
            that the smallest ``SAD + price`` also settles ties.
        low, high: int64 [N, 2], smallest and largest (dx, dy) of each block.
    """

    def __init__(self, height: int, width: int, radius: int, penalty: float):
        self.grid = height // BLOCK, width // BLOCK
        self.radius, self.penalty = radius, penalty
        self.edge = radius + 2 * REACH
        steps = np.abs(np.arange(-self.edge, self.edge + 1))
        length = steps[:, None] + steps
        rank = length * length.size + np.arange(length.size).reshape(length.shape)
        self.price = penalty * length + rank * 2.0**-34
        y, x = np.mgrid[0:height:BLOCK, 0:width:BLOCK].reshape(2, -1)
        corner = np.stack([x, y], axis=1)
        self.low = np.maximum(-corner, -radius)
        self.high = np.minimum(np.array([width - BLOCK, height - BLOCK]) - corner, radius)


class _Level:
    """Blocks of the current frame against windows of the reference, at one resolution."""

    def __init__(self, current: np.ndarray, reference: np.ndarray, window: _Window):
        self.window = window
        side = self.side = current.shape[0] // window.grid[0]
        self.scale = BLOCK // side
        self.blocks = _blocks(current, side)
        # A search around a block at the border touches pixels outside; what is found there is discarded.
        self.reference = np.pad(reference, ((REACH, REACH), (REACH, REACH), (0, 0)))
        self.y, self.x = (side * axis + REACH for axis in np.divmod(np.arange(len(self.blocks)), window.grid[1]))

    def sads(self, which: np.ndarray, d: np.ndarray, reach: int) -> np.ndarray:
        """uint32 [2 * reach + 1, 2 * reach + 1, n]: SAD at this resolution, (dy, dx) steps around d."""
        steps = range(2 * reach + 1)
        sums = np.empty((len(steps), len(steps), len(which)), np.uint32)
        columns = _windows(self.reference, self.side + 2 * reach, self.side)
        for start in range(0, len(which), SLICE):
            part = slice(start, start + SLICE)
            blocks = self.blocks[which[part]]
            y = self.y[which[part]] + d[part, 1] // self.scale - reach
            x = self.x[which[part]] + d[part, 0] // self.scale - reach
            high, low = np.empty_like(blocks), np.empty_like(blocks)
            for u in steps:
                column = columns[y, x + u]
                for v in steps:
                    match = column[:, v : v + self.side]
                    np.maximum(blocks, match, out=high)
                    np.minimum(blocks, match, out=low)
                    np.subtract(high, low, out=high)
                    samples = high.reshape(len(high), blocks[0].size)
                    np.add.reduce(samples, axis=1, dtype=np.uint32, out=sums[v, u, part])
        return sums

    def best_around(self, which: np.ndarray, d: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """For blocks ``which`` [n]: the best displacement within ``reach`` pixels (of this resolution) of d [n, 2].

        Returns its key (SAD + price, in full-resolution units) float64 [n], and the displacement int64 [n, 2].
        """
        window = self.window
        steps = self.scale * np.arange(-reach, reach + 1)[:, None]
        x, y = d[:, 0] + steps, d[:, 1] + steps
        key = self.sads(which, d, reach) * float(self.scale**2)
        key += window.price[y[:, None] + window.edge, x + window.edge]
        low, high = window.low[which], window.high[which]
        outside_x, outside_y = (x < low[:, 0]) | (x > high[:, 0]), (y < low[:, 1]) | (y > high[:, 1])
        key[outside_y[:, None] | outside_x] = np.inf
        key = key.reshape(len(steps) ** 2, len(which))
        row, column = np.divmod(key.argmin(axis=0), len(steps))
        every = np.arange(len(which))
        return key[row * len(steps) + column, every], np.stack([x[column, every], y[row, every]], axis=1)


class _Best:
    """The best displacement found so far for each block, at full resolution."""

    def __init__(self, level: _Level):
        self.level = level
        self.key = np.full(len(level.blocks), np.inf)
        self.d = np.zeros((len(level.blocks), 2), np.int64)

    def take(self, which: np.ndarray, key: np.ndarray, d: np.ndarray) -> np.ndarray:
        """Take what is better than before for blocks ``which`` [n], each named once; returns bool [n]."""
        better = key < self.key[which]
        self.key[which[better]] = key[better]
        self.d[which[better]] = d[better]
        return better

    def improve(self, which: np.ndarray, d: np.ndarray, reach: int) -> np.ndarray:
        return self.take(which, *self.level.best_around(which, d, reach))

    def try_neighbours(self) -> None:
        window = self.level.window
        rows, columns = window.grid
        field = np.pad(self.d.reshape(rows, columns, 2), ((1, 1), (1, 1), (0, 0)), mode="edge")
        for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
            d = field[y : y + rows, x : x + columns].reshape(-1, 2).clip(window.low, window.high)
            which = np.flatnonzero((d != self.d).any(axis=1))
            self.improve(which, d[which], 0)

    def polish(self) -> None:
        """Walk the costlier half of the blocks downhill."""
        which = np.flatnonzero(self.key >= np.median(self.key))
        for _ in range(2):
            which = which[self.improve(which, self.d[which], REACH)]


def _search_pair(current, reference, window: _Window):
    """Motion field of one frame, from the pyramids of it and its reference: mv, cost and sad as ``search`` returns."""
    full, half = (_Level(current[i], reference[i], window) for i in (0, 1))
    best = _Best(full)
    every = np.arange(len(full.blocks))
    best.improve(every, best.d, 0)
    key, d = _coarse(current[2], reference[2], window)
    key, d = _refine(half, key, d, HALF_PAIRS, best.key, 1)
    key, d = _refine(full, key, d, FULL_PAIRS, best.key, 1)
    best.take(every, key[0], d[0])
    best.try_neighbours()
    best.polish()
    sad = np.rint(best.key - window.price[best.d[:, 1] + window.edge, best.d[:, 0] + window.edge])
    cost = sad + window.penalty * np.abs(best.d).sum(axis=1)
    return best.d.reshape(*window.grid, 2), cost.reshape(window.grid), sad.reshape(window.grid)


def _refine(level: _Level, key: np.ndarray, d: np.ndarray, pairs: int, known: np.ndarray, reach: int):
    """Refine the candidates that are worth it; returns them distinct and in order of their new keys, the rest infinite.

    A block's first candidate is always worth it; of the others, over the whole frame, those that come nearest to their
    block's first. Nearness is counted in cost, not in proportion, so effort goes where the sum is made. A candidate
    whose key is well above the cost ``known`` [N] to be in reach is not worth it: a mean over pixels loses difference,
    so at a lower resolution the key is nearly a lower bound.

    Args:
        key: float64 [K, N], in ascending order along K.
        d: int64 [K, N, 2].
        pairs: how many candidates to refine for each block, on average.
    """
    excess = key - key[0]
    worth = np.where(key <= 1.5 * known, SLACK * key[0] - excess, -np.inf)
    worth[0] = np.inf
    limit = np.partition(worth, -pairs * worth.shape[1], axis=None)[-pairs * worth.shape[1]]
    rank, which = np.nonzero((worth >= limit) & (worth > -np.inf))
    key, d = np.full_like(key, np.inf), d.copy()
    key[rank, which], d[rank, which] = level.best_around(which, d[rank, which], reach)
    order = np.argsort(key, axis=0, kind="stable")
    key, d = np.take_along_axis(key, order, axis=0), np.take_along_axis(d, order[..., None], axis=0)
    # Candidates that met at one displacement have one key, so they are next to each other.
    key[1:][(d[1:] == d[:-1]).all(axis=2)] = np.inf
    order = np.argsort(key, axis=0, kind="stable")
    return np.take_along_axis(key, order, axis=0), np.take_along_axis(d, order[..., None], axis=0)


def _coarse(current: np.ndarray, reference: np.ndarray, window: _Window) -> tuple[np.ndarray, np.ndarray]:
    """Full search on a grid of 4 pixels at a quarter of the resolution: the best few displacements of each block.

    Only the best of each 3 x 3 cell of the displacement grid competes, so that they are not all one valley's floor.

    Returns keys float64 [K, N] in full-resolution units, ascending along K, and displacements int64 [K, N, 2].
    """
    side = 2 * (window.radius // 4) + 1
    cells = -(-side // 3)
    position = np.arange(3 * cells) // 3 * cells * 9 + np.arange(3 * cells) % 3 * 3
    position = position[:, None] + np.arange(3 * cells) // 3 * 9 + np.arange(3 * cells) % 3
    price = window.price[window.edge - window.radius :: 4, window.edge - window.radius :: 4][:side, :side]
    # One integer holds cost and position (11 bits), so that a minimum brings its position along.
    key = np.full((3 * cells, 3 * cells, *window.grid), np.iinfo(np.uint32).max, np.uint32)
    low = (price / 4).astype(np.uint32) << 11 | position[:side, :side].astype(np.uint32)
    key[:side, :side] = (_coarse_sads(current, reference, window).astype(np.uint32) << 13) + low[..., None, None]
    steps = 4 * np.arange(side)[:, None] - window.radius
    low, high = (limit.reshape(*window.grid, 2) for limit in (window.low, window.high))
    outside_y = (steps < low[:, 0, 1]) | (steps > high[:, 0, 1])
    outside_x = (steps < low[0, :, 0]) | (steps > high[0, :, 0])
    key[:side, :side][outside_y[:, None, :, None] | outside_x[:, None, :]] = np.iinfo(np.uint32).max
    key = key.reshape(cells, 3, cells, 3, -1).min(axis=(1, 3)).reshape(cells * cells, -1)
    key = np.sort(key, axis=0)[:COARSE_CANDIDATES]
    cell, inner = np.divmod((key & 0x7FF).astype(np.int64), 9)
    x, y = cell % cells * 3 + inner % 3, cell // cells * 3 + inner // 3
    return (key >> 11) * 4.0, 4 * np.stack([x, y], axis=-1) - window.radius


def _coarse_sads(current: np.ndarray, reference: np.ndarray, window: _Window) -> np.ndarray:
    """uint16 [2n + 1, 2n + 1, H/16, W/16]: SAD of all blocks at all (dy, dx) of n = radius / 4 quarter-size pixels.

    Both frames are taken apart into planes, one for each position in a 4 x 4 block, so that one displacement of all
    blocks is a shift of whole planes: long runs of samples, which is what makes it fast. ``planes`` carries on for
    another block beyond the fourth position, where the next block's pixels are.
    """
    (rows, columns), reach = window.grid, window.radius // 4
    pitch = columns + reach // 2 + 1
    padded = np.pad(reference, ((reach, reach + 7), (reach, reach + 7), (0, 0)))
    planes = sliding_window_view(padded, (7, 7), axis=(0, 1))[::4, ::4][: rows + reach // 2 + 1, :pitch]
    planes = np.ascontiguousarray(planes.transpose(3, 4, 2, 0, 1)).reshape(7, 7, 3, -1)
    planes = np.pad(planes, ((0, 0), (0, 0), (0, 0), (0, pitch)))
    blocks = np.zeros((4, 4, 3, rows, pitch), np.uint8)
    blocks[..., :columns] = current.reshape(rows, 4, columns, 4, 3).transpose(1, 3, 4, 0, 2)
    blocks = blocks.reshape(4, 4, 3, rows * pitch)
    sums = np.empty((2 * reach + 1, 2 * reach + 1, rows * pitch), np.uint16)
    high, low = np.empty_like(blocks), np.empty_like(blocks)
    for v, u in np.ndindex(sums.shape[:2]):
        start = v // 4 * pitch + u // 4
        match = planes[v % 4 : v % 4 + 4, u % 4 : u % 4 + 4, :, start : start + rows * pitch]
        np.maximum(blocks, match, out=high)
        np.minimum(blocks, match, out=low)
        np.subtract(high, low, out=high)
        np.add.reduce(high.reshape(48, -1), axis=0, dtype=np.uint16, out=sums[v, u])
    return sums.reshape(2 * reach + 1, 2 * reach + 1, rows, pitch)[..., :columns]
