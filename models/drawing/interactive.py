"""What the timeline in the browser is given: the plan, and all that it takes to plan again with other settings."""

import io
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from PIL import Image

from ..source.reading import Frames, VideoSource
from ..video.cuts import Cuts
from ..video.gop import GopPlan
from ..video.planning import auto_gamma, first_samples, scaled_gamma
from ..video.primitives import Primitives
from ..video.shots import cut_times
from ..video.tokens import MODES, image_tokens

COLUMNS, ROWS = 10, 10
"""Small pictures in a contact sheet."""

HEIGHTS = 36, 96
"""Least and most height of a small picture in pixels."""

PIXELS = 25e6
"""All contact sheets of a clip have about so many pixels at most: the browser holds 4 bytes for each."""

ARROWS = (9, 16)
"""(rows, columns) of the motion of a frame at most."""


def replan_data(plan: GopPlan, cuts: Iterable[int] = (), unclear: Iterable[int] = (), cap: int | None = None) -> dict:
    """The costs and tokens that ``web/rule.js`` plans from, as JSON values.

    Args:
        plan: any plan of the clip; its decisions are not part of this.
        cuts: source frame numbers that start a new shot, as they were given to the plan.
        unclear: positions of frames that show no clear picture (:func:`..video.clearness.unclear_frames`).
        cap: the cap for which gamma 'auto' is found; None leaves it out.
    """
    gammas = {"scaled": scaled_gamma(plan.size)}
    if cap is not None:
        gammas["auto"] = auto_gamma([plan.pcost], plan.size, cap)
    whole = image_tokens(plan.size)
    return {
        "pcost": [None if np.isnan(cost) else cost for cost in plan.pcost.tolist()],
        "pts": plan.pts.tolist(),
        "cuts": sorted(first_samples(plan.index, cuts)),
        "unclear": list(unclear),
        "gammas": gammas,
        "modes": {
            name: {
                "whole": whole,
                "predicted": mode.tokens(plan.size),
                "paired": mode.paired,
                "anchored": mode.anchored,
                "stamps": mode.stamps,
            }
            for name, mode in MODES.items()
        },
    }


def marks_data(source: VideoSource, cuts: Cuts) -> list[list]:
    """Each cut, fade, dissolve and wipe as [kind, first second, last second]."""
    times, spans = cut_times(source, cuts)
    return [["cut", second, second] for second in times] + [list(span) for span in spans]


def plan_data(plan: GopPlan) -> dict:
    """A plan as the timeline shows it, as JSON values: one letter a frame ('.' where dropped), and what it costs."""
    letters = np.where(plan.keep, np.array(["P", "I"])[plan.kind], ".")
    return {
        "kind": "".join(letters),
        "i_frames": plan.i_frames.tolist(),
        "why": [plan.why[position] for position in plan.i_frames],
        "index": plan.index.tolist(),
        "gamma": None if np.isnan(plan.gamma) else plan.gamma,
        "mode": plan.mode,
        "policy": plan.policy,
        "tokens_per_frame": plan.tokens.tolist(),
        "tokens": int(plan.tokens.sum()),
        "prompt_tokens": plan.prompt_tokens,
        "rgb_per_frame": plan.totals["rgb_per_frame"],
        "rgb_paired": plan.totals["rgb_paired"],
        "warnings": list(plan.warnings),
    }


class ContactSheets:
    """Small pictures of all frames of a clip, made while the frames pass by on their way elsewhere.

    Args:
        count: how many frames there will be.
        size: (H, W) of the frames in pixels.
        save: takes the bytes of a JPEG and gives the name under which the browser finds it.
    """

    def __init__(self, count: int, size: tuple[int, int], save: Callable[[bytes], str]):
        aspect = size[1] / size[0]
        height = min(HEIGHTS[1], max(HEIGHTS[0], math.isqrt(int(PIXELS / (max(count, 1) * aspect)))))
        self.width, self.height = max(8, round(height * aspect)), height
        self.save, self.names, self.sheet, self.filled = save, [], None, 0

    def passing(self, chunks: Iterable[Frames]) -> Iterator[Frames]:
        """Yield ``chunks`` as they are; after the last one all sheets are saved."""
        for chunk in chunks:
            for rgb in chunk.rgb:
                self._add(rgb)
            yield chunk
        self._finish()

    def to_json(self) -> dict:
        """Names of the sheets in order, and where the pictures are in them: row by row, ``columns`` in each."""
        return {"files": self.names, "columns": COLUMNS, "rows": ROWS, "width": self.width, "height": self.height}

    def _add(self, rgb: np.ndarray) -> None:
        if self.sheet is None:
            self.sheet, self.filled = Image.new("RGB", (COLUMNS * self.width, ROWS * self.height)), 0
        small = Image.fromarray(rgb).resize((self.width, self.height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        row, column = divmod(self.filled, COLUMNS)
        self.sheet.paste(small, (column * self.width, row * self.height))
        self.filled += 1
        if self.filled == COLUMNS * ROWS:
            self._finish()

    def _finish(self) -> None:
        if self.sheet is None:
            return
        rows = -(-self.filled // COLUMNS)
        held = io.BytesIO()
        self.sheet.crop((0, 0, self.sheet.width, rows * self.height)).save(held, "JPEG", quality=82)
        self.names.append(self.save(held.getvalue()))
        self.sheet = None


def motion_bytes(primitives: Primitives) -> tuple[bytes, tuple[int, int]]:
    """Motion of all frames for the browser, int8 [T, rows, columns, 2] as bytes, and (rows, columns).

    Each vector (dx, dy) is the mean over a few macroblocks, in units of 1/127 of 64 pixels, from a block to its match
    in the reference as in :class:`Primitives`.
    """
    mv = primitives.mv * primitives.valid[..., None]
    across = [
        np.linspace(0, side, min(side, most) + 1).astype(int) for side, most in zip(mv.shape[1:3], ARROWS, strict=True)
    ]
    pooled = mv.astype(np.float32)
    for axis, edges in zip((1, 2), across, strict=True):
        sums = np.add.reduceat(pooled, edges[:-1], axis=axis)
        shape = [1, 1, 1, 1]
        shape[axis] = -1
        pooled = sums / np.diff(edges).reshape(shape)
    scaled = np.clip(np.round(pooled * 127 / 64), -127, 127).astype(np.int8)
    return scaled.tobytes(), (scaled.shape[1], scaled.shape[2])
