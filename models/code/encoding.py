"""From frames and a plan to a visual code."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import Frames
from ..source.sampling import CELL
from ..video.gop import GopPlan
from ..video.primitives import Primitives
from ..video.tokens import DEFAULT_MODE, MODES
from .layout import shown_tokens
from .modes import CodeOptions, encoder_of
from .modes.pictures import BATCH_PATCHES, Encoded, encode_pictures, shrink
from .visual_code import Segment, VisualCode, grid_positions


def encode_video(
    frames: Iterable[Frames],
    plan: GopPlan,
    model,
    mode: str = DEFAULT_MODE,
    *,
    name: str = "video",
    primitives: Primitives | None = None,
    batch_patches: int = BATCH_PATCHES,
    progress: Progress = no_progress,
    **options,
) -> VisualCode:
    """Encode the kept frames of a plan.

    Args:
        frames: chunks of frames in order, at the plan's size; frames the plan does not keep are skipped.
        plan: which frames are whole pictures, and which are kept.
        model: a loaded :class:`..qwen.Qwen3VL` with its vision tower.
        mode: one of :data:`.modes.ENCODERS`.
        name: what the video is called in messages.
        primitives: motion and cost of the same frames, where they are known.
        batch_patches: patches of 16 x 16 pixels encoded at once.
        progress: called with the number of groups encoded.
        options: those of :class:`.modes.CodeOptions`.

    Raises:
        InputError: a frame of the plan is not among ``frames``, or a frame is not of the plan's size.
    """
    chosen = CodeOptions(**options)
    encoded, fingerprint = _encode(
        frames, plan, model, mode, chosen, name=name, primitives=primitives,
        batch_patches=batch_patches, progress=progress,
    )  # fmt: skip
    seconds = {"vision": encoded.seconds}
    return VisualCode(
        tuple(encoded.segments),
        mode,
        name,
        fingerprint,
        plan,
        seconds,
        plan.warnings,
        words_of(encoded.segments, model),
        encoded.memory,
        chosen.learned,
    )


def extend_code(
    code: VisualCode,
    frames: Iterable[Frames],
    plan: GopPlan,
    model,
    *,
    primitives: Primitives | None = None,
    batch_patches: int = BATCH_PATCHES,
    progress: Progress = no_progress,
    **options,
) -> VisualCode:
    """Append the frames that ``plan`` has beyond the code's own plan, without encoding what is there again.

    For streams: ``plan`` is that of the streaming policy over all frames so far, ``frames`` holds the new ones. A
    conversation reads on by appending the new segments. A pair that lacked its second frame stays as it is.

    Args:
        options: those of :class:`.modes.CodeOptions` that made the code; a budget is that of the new frames alone.

    Raises:
        InputError: ``plan`` does not continue the code's plan; see also :func:`encode_video`.
    """
    known = len(code.plan)
    if len(plan) <= known or not np.array_equal(plan.index[:known], code.plan.index):
        raise InputError(f"{code.name}: the plan of {len(plan)} frames does not continue the code's {known} frames")
    if not np.array_equal(plan.kind[:known], code.plan.kind):
        raise InputError(f"{code.name}: the plan decides otherwise on frames that are encoded already; use 'streaming'")
    arrays = {name: getattr(plan, name)[known:] for name in ("kind", "why", "keep", "pcost", "index", "pts", "tokens")}
    chosen = CodeOptions(**{"learned": code.learned, **options})
    tail, fingerprint = _encode(
        frames, replace(plan, **arrays), model, code.mode, chosen, name=code.name,
        primitives=primitives, batch_patches=batch_patches, progress=progress, memory=code.memory,
    )  # fmt: skip
    digest = hashlib.blake2b((code.fingerprint + fingerprint).encode(), digest_size=16).hexdigest()
    seconds = code.seconds | {"vision": code.seconds.get("vision", 0) + tail.seconds}
    segments = (*code.segments, *tail.segments)
    words = words_of(segments, model)
    made = (segments, code.mode, code.name, digest, plan, seconds, plan.warnings, words, tail.memory, code.learned)
    return VisualCode(*made)


def _encode(frames, plan: GopPlan, model, mode: str, options: CodeOptions, **arguments) -> tuple[Encoded, str]:
    """What the mode's encoder makes, and a fingerprint of all that it was made from."""
    encoded = encoder_of(mode, options, model.config.vision.video).encode(plan, frames, model=model, **arguments)
    chosen = asdict(replace(options, learned=None)) | {"learned": options.learned and options.learned.fingerprint}
    digest = hashlib.blake2b(json.dumps([plan.to_json(), mode, chosen]).encode(), digest_size=16)
    digest.update(model.vision.merger.second.bias.float().cpu().numpy().tobytes())
    digest.update(encoded.digest)
    return encoded, digest.hexdigest()


def slice_code(code: VisualCode, start: float, stop: float, picture: Callable[[int], np.ndarray], model) -> VisualCode:
    """Return the code of the frames with start <= pts < stop (seconds), re-anchored.

    A slice that opens on a P frame, or on the second frame of a pair, has lost what it leans on: that frame is encoded
    as a whole picture, and a pair that is shown in part as a whole one. ``picture`` returns a source frame by its
    number, uint8 [H, W, 3] at the plan's size.

    Raises:
        InputError: no frame of the code lies in the span.
    """
    plan = code.plan.slice(start, stop)
    if not plan.keep.any():
        raise InputError(f"{code.name}: the plan keeps no frame within {start:g} to {stop:g} s")
    first = np.argmax(plan.keep)
    index, pts = int(plan.index[first]), float(plan.pts[first])
    inside = [segment for segment in code.segments if start <= segment.pts[0] < stop]
    whole = code.segments[0].grid
    size = (whole[0] * CELL, whole[1] * CELL)
    learned = bool(inside) and inside[0].kind == "P" and MODES[code.mode].trained
    if not inside or inside[0].index[0] != index or inside[0].grid != whole or learned:
        embeds, deepstack = encode_pictures(model, shrink(picture(index)[None], size)[None])
        anchor = still(index, pts, size, embeds[0], deepstack[:, 0])
        inside = [anchor, *(segment for segment in inside if index not in segment.index)]
    elif len(inside[0]) < whole[0] * whole[1]:
        pictures = shrink(np.stack([picture(number) for number in inside[0].index]), size)
        embeds, deepstack = encode_pictures(model, pictures[None])
        anchor = replace(still(index, pts, size, embeds[0], deepstack[:, 0]), index=inside[0].index)
        inside[0] = replace(anchor, kind="I" if len(anchor.index) == 1 else "pair", pts=inside[0].pts)
    digest = hashlib.blake2b(f"{code.fingerprint} {start} {stop}".encode(), digest_size=16).hexdigest()
    words = words_of(inside, model)
    return VisualCode(tuple(inside), code.mode, code.name, digest, plan, {}, code.warnings, words, learned=code.learned)


def words_of(segments: Sequence[Segment], model) -> int:
    """Tokens of the time stamps and markers of ``segments``."""
    return shown_tokens(segments, model.tokenizer) - sum(map(len, segments))


def encode_images(pictures: Sequence[np.ndarray], model, progress: Progress = no_progress) -> list[Segment]:
    """Encode pictures that stand outside time: uint8 [H, W, 3] of any sizes, sides multiples of 32, in their order.

    ``progress`` counts the layers of all pictures.
    """
    segments = []
    for number, rgb in enumerate(pictures):

        def watch(layer, layers, number=number):
            progress(number * layers + layer, len(pictures) * layers)

        embeds, deepstack = encode_pictures(model, np.array(rgb)[None, None], watch)
        picture = still(number, 0.0, rgb.shape[:2], embeds[0], deepstack[:, 0])
        segments.append(replace(picture, stamped=False))
    return segments


def still(index: int, pts: float, size: tuple[int, int], embeds: torch.Tensor, deepstack: torch.Tensor) -> Segment:
    """The segment of one whole picture of (H, W) pixels: ``embeds`` [n, D], ``deepstack`` [K, n, D]."""
    grid = (size[0] // CELL, size[1] // CELL)
    return Segment("I", (index,), (pts,), True, grid, grid_positions(grid), embeds, deepstack)
