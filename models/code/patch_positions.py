"""Codes as lists of patch positions (t, h, w), the interface of codec-native models such as LLaVA-OneVision-2.

One row for each 2 x 2 window of patches, the 32 x 32-pixel cell that is one visual token here: ``t`` counts the sampled
frames of the plan, ``h`` and ``w`` the rows and columns of cells of a whole picture.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from ..errors import InputError
from ..source.reading import Frames
from ..source.sampling import CELL
from ..video.gop import GopPlan
from .encoding import words_of
from .modes.groups import make_groups
from .modes.pictures import encode_groups
from .visual_code import VisualCode


def patch_positions(code: VisualCode) -> np.ndarray:
    """The layout of a code: int32 [n, 3], (t, h, w) of each visual token in order.

    A pair stands at the time of its first frame.

    Raises:
        InputError: tokens of the code are not cells of whole pictures (thumbnails, for example).
    """
    whole, rows = (code.plan.size[0] // CELL, code.plan.size[1] // CELL), []
    for segment in code:
        if segment.grid != whole:
            raise InputError(
                f"{code.name}: a picture of {segment.grid[0]} x {segment.grid[1]} cells has no patch positions in "
                f"frames of {whole[0]} x {whole[1]}; use a mode of whole pictures: rgb, keyframes or cells"
            )
        time = int(np.searchsorted(code.plan.index, segment.index[0]))
        cells = segment.positions[1:].T.cpu().numpy()
        rows.append(np.column_stack([np.full(len(cells), time), cells]))
    return np.concatenate(rows).astype(np.int32)


def kept_cells(positions: np.ndarray, plan: GopPlan) -> dict[int, np.ndarray]:
    """Read a layout that something else made: which cells of which sampled frames are shown.

    Args:
        positions: int [n, 3], (t, h, w) in any order.
        plan: the plan of the frames that ``t`` counts.

    Returns:
        bool [rows * columns] by the frame's number ``t``, ascending.

    Raises:
        InputError: a row lies outside the frames or their cells, or is there twice.
    """
    rows, columns = plan.size[0] // CELL, plan.size[1] // CELL
    positions = np.asarray(positions)
    if positions.ndim != 2 or positions.shape[1] != 3 or not np.issubdtype(positions.dtype, np.integer):
        raise InputError(
            f"patch positions have the shape {list(positions.shape)} of {positions.dtype}; [n, 3] integers are needed"
        )
    limit = np.array([len(plan), rows, columns])
    wrong = np.flatnonzero(((positions < 0) | (positions >= limit)).any(1))
    if len(wrong):
        raise InputError(
            f"patch position {wrong[0]} is {positions[wrong[0]].tolist()}; t, h and w must lie within "
            f"{len(plan)} frames of {rows} x {columns} cells"
        )
    kept: dict[int, np.ndarray] = {int(time): np.zeros(rows * columns, bool) for time in np.unique(positions[:, 0])}
    for time, row, column in positions.tolist():
        if kept[time][row * columns + column]:
            raise InputError(f"the patch position {[time, row, column]} is there twice; a frame shows a cell once")
        kept[time][row * columns + column] = True
    return kept


def encode_positions(
    frames: Iterable[Frames],
    plan: GopPlan,
    model,
    positions: np.ndarray,
    *,
    name: str = "video",
    stamps: str = "second",
) -> VisualCode:
    """Encode the cells of ``positions`` int [n, 3], each frame as a still of which only these cells are kept.

    Args:
        frames: chunks of the frames of ``plan``, at its size.
        stamps: one of :data:`.modes.STAMPS`.

    Raises:
        InputError: from :func:`kept_cells` and :func:`.encoding.encode_video`; no position is given.
    """
    kept = kept_cells(positions, plan)
    if not kept:
        raise InputError(f"{name}: there are no patch positions; at least one is needed")
    shown = [("I" if cells.all() else "P", (time,), plan.size, int(cells.sum())) for time, cells in kept.items()]
    groups = make_groups(plan, shown, stamps)
    encoded = encode_groups(groups, plan, frames, model, name=name, cells=dict(enumerate(kept.values())))
    digest = hashlib.blake2b(encoded.digest + np.ascontiguousarray(positions, np.int64).tobytes(), digest_size=16)
    return VisualCode(
        tuple(encoded.segments), "cells", name, digest.hexdigest(), plan, {"vision": encoded.seconds}, plan.warnings,
        words_of(encoded.segments, model),
    )  # fmt: skip
