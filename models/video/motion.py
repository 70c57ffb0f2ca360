"""Motion search on macroblocks: where in the previous sampled frame does each block come from, and at what cost.

Cost of a displacement d of a block (AdaCodec, arXiv 2606.02569, equation 1): ``SAD + penalty * (|dx| + |dy|)``, the SAD
summed over the block's 16 x 16 x 3 colour samples. Only displacements that keep the block wholly inside the reference
frame are candidates: no pixel is made up. Among equal costs the shortest vector wins, then the first in raster order.

The search is hierarchical: all displacements on a grid of 4 pixels at a quarter of the resolution, the most promising
ones refined at half and at full resolution, then the neighbours' vectors tried and the result walked downhill. Zero
motion is always tried. Threads take whole frames, so that they never wait for one another inside a frame.
"""

import os
from concurrent.futures import ThreadPoolExecutor

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
HALF_CANDIDATES = 3

RING = [(-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)]


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
    _check(frames, radius, penalty)
    count, height, width, _ = frames.shape
    grid = (count, height // BLOCK, width // BLOCK)
    mv, cost, sad = np.zeros((*grid, 2), np.int16), np.zeros(grid, np.float32), np.zeros(grid, np.float32)
    references = [previous, *frames[:-1]]

    def one(t):
        if references[t] is not None:
            mv[t], cost[t], sad[t] = _search_pair(frames[t], references[t], radius, penalty)

    with ThreadPoolExecutor(min(count, os.cpu_count() or 1)) as pool:
        list(pool.map(one, range(count)))
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
    matches = _windows(reference, BLOCK)[y, x]
    return matches.reshape(*mv.shape[:2], BLOCK, BLOCK, 3).transpose(0, 2, 1, 3, 4).reshape(reference.shape)


def residual(current: np.ndarray, reference: np.ndarray, mv: np.ndarray) -> np.ndarray:
    """int16 [H, W, 3], -255..255: what the prediction leaves, ``current - predict(reference, mv)``."""
    return current.astype(np.int16) - predict(reference, mv)


def _check(frames, radius, penalty):
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise InputError(f"frames are {frames.dtype} {list(frames.shape)}; motion search needs uint8 [T, H, W, 3]")
    if frames.shape[1] % BLOCK or frames.shape[2] % BLOCK or not frames.size:
        raise InputError(f"frames are {frames.shape[2]}x{frames.shape[1]}; both sides must be multiples of {BLOCK}")
    if radius not in RADII:
        raise InputError(f"search radius is {radius!r}; it must be one of {', '.join(map(str, RADII))} pixels")
    if not 0 <= penalty < 1024:
        raise InputError(f"motion penalty is {penalty!r}; it must be at least 0 and below 1024")


def _windows(image: np.ndarray, side: int) -> np.ndarray:
    """View [H - side + 1, W - side + 1, side, side * 3] of every window of the image."""
    height, width, _ = image.shape
    return sliding_window_view(image.reshape(height, width * 3), (side, side * 3))[:, ::3]


def _blocks(image: np.ndarray, side: int) -> np.ndarray:
    """[N, side, side * 3]: the image cut into its N blocks, in raster order."""
    height, width, _ = image.shape
    cut = image.reshape(height // side, side, width // side, side * 3).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cut).reshape(-1, side, side * 3)


def _halved(image: np.ndarray) -> np.ndarray:
    """The image at half the size: rounded means of 2 x 2 pixels."""
    rows = image[0::2].astype(np.uint16) + image[1::2]
    return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


class _Level:
    """Block comparison at one resolution: blocks of the current frame against windows of the reference."""

    def __init__(self, current: np.ndarray, reference: np.ndarray, scale: int):
        self.scale = scale
        side = BLOCK // scale
        self.blocks = _blocks(current, side)
        self.windows = _windows(reference, side)
        columns = current.shape[1] // side
        self.y, self.x = (side * axis for axis in np.divmod(np.arange(len(self.blocks)), columns))

    def sad(self, d: np.ndarray, which) -> np.ndarray:
        """float64 [n]: SAD of blocks ``which`` displaced by d [n, 2]; pixels and SAD in full-resolution units."""
        d = d // self.scale
        match = self.windows[self.y[which] + d[:, 1], self.x[which] + d[:, 0]]
        block = self.blocks[which]
        difference = np.maximum(block, match)
        difference -= np.minimum(block, match, out=match)
        sums = np.add.reduce(difference.reshape(len(d), self.blocks[0].size), axis=1, dtype=np.uint32)
        return sums * float(self.scale**2)


class _Window:
    """The displacements that are allowed and what each costs by itself."""

    def __init__(self, height: int, width: int, radius: int, penalty: float):
        self.radius = radius
        steps = np.arange(-radius, radius + 1)
        length = np.abs(steps)[:, None] + np.abs(steps)
        order = length * length.size + np.arange(length.size).reshape(length.shape)
        # The order breaks ties: it is far below any step of the cost, and keys compare in one operation.
        self.price = penalty * length + order * 2.0**-34
        self.penalty = penalty
        y, x = np.mgrid[0:height:BLOCK, 0:width:BLOCK].reshape(2, -1)
        corner = np.stack([x, y], axis=1)
        self.low = np.maximum(-corner, -radius)
        self.high = np.minimum(np.array([width - BLOCK, height - BLOCK]) - corner, radius)

    def price_of(self, d: np.ndarray) -> np.ndarray:
        return self.price[d[:, 1] + self.radius, d[:, 0] + self.radius]


def _search_pair(current, reference, radius, penalty):
    height, width, _ = current.shape
    window = _Window(height, width, radius, penalty)
    half = _halved(current), _halved(reference)
    quarter = _halved(half[0]), _halved(half[1])
    state = _Best(_Level(current, reference, 1), window)
    candidates = _coarse(*quarter, window, COARSE_CANDIDATES)
    candidates = _refine_half(_Level(*half, 2), window, candidates, HALF_CANDIDATES)
    everything = np.arange(len(window.low))
    state.attempt(np.zeros_like(window.low), everything)
    for d in candidates:
        state.attempt(d, everything)
        for step in RING:
            state.attempt(d + step, everything)
    state.try_neighbours(height // BLOCK, width // BLOCK)
    state.descend(everything)
    return state.result(height // BLOCK, width // BLOCK)


class _Best:
    """The best displacement found so far for each block, at full resolution."""

    def __init__(self, level: _Level, window: _Window):
        self.level, self.window = level, window
        self.key = np.full(len(window.low), np.inf)
        self.d = np.zeros_like(window.low)

    def attempt(self, d: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Try d [n, 2] on blocks ``which`` [n]; returns bool [n], where it is the best so far."""
        d = np.clip(d, self.window.low[which], self.window.high[which])
        key = self.level.sad(d, which) + self.window.price_of(d)
        better = key < self.key[which]
        self.key[which[better]] = key[better]
        self.d[which[better]] = d[better]
        return better

    def try_neighbours(self, rows: int, columns: int) -> None:
        field = np.pad(self.d.reshape(rows, columns, 2), ((1, 1), (1, 1), (0, 0)), mode="edge")
        for y, x in ((0, 1), (1, 0), (1, 2), (2, 1)):
            d = field[y : y + rows, x : x + columns].reshape(-1, 2)
            which = np.flatnonzero((d != self.d).any(axis=1))
            self.attempt(d[which], which)

    def descend(self, which: np.ndarray, rounds: int = 4) -> None:
        for _ in range(rounds):
            centre = self.d[which]
            better = np.zeros(len(which), bool)
            for step in ((0, -1), (-1, 0), (1, 0), (0, 1)):
                better |= self.attempt(centre + step, which)
            which = which[better]
            if not len(which):
                break

    def result(self, rows: int, columns: int):
        """mv int16 [rows, columns, 2], cost and sad float32 [rows, columns]."""
        sad = np.rint(self.key - self.window.price_of(self.d))
        cost = sad + self.window.penalty * np.abs(self.d).sum(axis=1)
        return (
            self.d.reshape(rows, columns, 2).astype(np.int16),
            cost.reshape(rows, columns).astype(np.float32),
            sad.reshape(rows, columns).astype(np.float32),
        )


def _coarse(current: np.ndarray, reference: np.ndarray, window: _Window, keep: int) -> list[np.ndarray]:
    """Full search on a grid of 4 pixels at a quarter of the resolution: the ``keep`` best displacements, [N, 2] each.

    The best of each 3 x 3 cell of the displacement grid competes, so that the candidates are not one valley's floor.
    """
    height, width, _ = current.shape
    rows, columns, reach = height // 4, width // 4, window.radius // 4
    blocks = rows * columns
    pitch = columns + 2 * reach // 4 + 1
    padded = np.pad(reference, ((reach, reach + 7), (reach, reach + 7), (0, 0)))
    planes = sliding_window_view(padded, (7, 7), axis=(0, 1))[::4, ::4][: rows + 2 * reach // 4 + 1, :pitch]
    planes = np.ascontiguousarray(planes.transpose(3, 4, 2, 0, 1)).reshape(7, 7, 3, -1)
    planes = np.pad(planes, ((0, 0), (0, 0), (0, 0), (0, pitch)))
    span = rows * pitch
    block = np.zeros((4, 4, 3, rows, pitch), np.uint8)
    block[..., :columns] = current.reshape(rows, 4, columns, 4, 3).transpose(1, 3, 4, 0, 2)
    block = block.reshape(4, 4, 3, span)
    side = 2 * reach + 1
    cells = -(-side // 3)
    sums = np.zeros((3 * cells, 3 * cells, span), np.uint16)
    high, low = np.empty_like(block), np.empty_like(block)
    for v in range(side):
        for u in range(side):
            start = v // 4 * pitch + u // 4
            match = planes[v % 4 : v % 4 + 4, u % 4 : u % 4 + 4, :, start : start + span]
            np.maximum(block, match, out=high)
            np.minimum(block, match, out=low)
            np.subtract(high, low, out=high)
            np.add.reduce(high.reshape(48, span), axis=0, dtype=np.uint16, out=sums[v, u])
    key = np.full((3 * cells, 3 * cells, rows, columns), np.inf, np.float32)
    key[:side, :side] = sums[:side, :side].reshape(side, side, rows, pitch)[..., :columns]
    key = key.reshape(3 * cells, 3 * cells, blocks)
    price = window.price[::4, ::4].astype(np.float32) / 16
    key[:side, :side] += price[..., None]
    steps = 4 * np.arange(-reach, 3 * cells - reach)
    outside_y = (steps[:, None] < window.low[:, 1]) | (steps[:, None] > window.high[:, 1])
    outside_x = (steps[:, None] < window.low[:, 0]) | (steps[:, None] > window.high[:, 0])
    key[outside_y[:, None, :] | outside_x[None, :, :]] = np.inf
    cell = key.reshape(cells, 3, cells, 3, blocks).transpose(0, 2, 1, 3, 4).reshape(cells * cells, 9, blocks)
    inner = cell.argmin(axis=1)
    floor = np.take_along_axis(cell, inner[:, None], axis=1)[:, 0]
    keep = min(keep, cells * cells)
    chosen = np.argpartition(floor, keep - 1, axis=0)[:keep] if keep < cells * cells else np.argsort(floor, axis=0)
    candidates = []
    for c in chosen:
        i = inner[c, np.arange(blocks)]
        y = steps[c // cells * 3 + i // 3]
        x = steps[c % cells * 3 + i % 3]
        candidates.append(np.clip(np.stack([x, y], axis=1), window.low, window.high))
    return candidates


def _refine_half(level: _Level, window: _Window, candidates: list[np.ndarray], keep: int) -> list[np.ndarray]:
    """Each candidate moved to the best of its 3 x 3 neighbourhood at half resolution; the ``keep`` best of them."""
    low, high = window.low + (window.low & 1), window.high - (window.high & 1)
    everything = np.arange(len(low))
    keys, places = [], []
    for centre in candidates:
        centre = centre // 2 * 2
        best = np.full(len(low), np.inf)
        place = np.zeros_like(low)
        for step in [(0, 0), *RING]:
            d = np.clip(centre + 2 * np.array(step), low, high)
            key = level.sad(d, everything) + window.price_of(d)
            better = key < best
            best[better] = key[better]
            place[better] = d[better]
        keys.append(best)
        places.append(place)
    keys, places = np.stack(keys), np.stack(places)
    kept = []
    for _ in range(min(keep, len(candidates))):
        first = keys.argmin(axis=0)
        kept.append(places[first, everything])
        keys[(places == kept[-1]).all(axis=2)] = np.inf
    return kept
