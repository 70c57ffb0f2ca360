"""From frames and a plan to a visual code: small pictures batched by size through the vision encoder."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from ..errors import InputError
from ..progress import Progress, no_progress
from ..source.reading import Frames
from ..video.gop import GopPlan
from .modes import Group, group_frames
from .pruning import prune
from .visual_code import Segment, VisualCode

BATCH_PATCHES = 4096
"""Patches encoded at once: four pictures of 512 x 512. More is no faster and needs more memory for activations."""


def encode_video(
    frames: Iterable[Frames],
    plan: GopPlan,
    model,
    mode: str = "thumbnail",
    *,
    name: str = "video",
    stamps: str = "every",
    pair_thumbnails: bool = False,
    drop: float = 0.0,
    batch_patches: int = BATCH_PATCHES,
    progress: Progress = no_progress,
) -> VisualCode:
    """Encode the kept frames of a plan.

    Args:
        frames: chunks of frames in order, at the plan's size; frames the plan does not keep are skipped.
        plan: which frames are whole pictures, and which are kept.
        model: a loaded :class:`..qwen.Qwen3VL` with its vision tower.
        mode: see :func:`codeclens.models.code.modes.group_frames`, also for ``stamps`` and ``pair_thumbnails``.
        name: what the video is called in messages.
        drop: fraction of visual tokens to prune among the whole pictures (see :mod:`codeclens.models.code.pruning`).
        batch_patches: patches of 16 x 16 pixels encoded at once.
        progress: told the number of groups encoded.

    Raises:
        InputError: a frame of the plan is not among ``frames``, or a frame is not of the plan's size.
    """
    groups = group_frames(plan, mode, stamps=stamps, pair_thumbnails=pair_thumbnails)
    settings = [plan.to_json(), mode, stamps, pair_thumbnails, drop]
    digest = hashlib.blake2b(json.dumps(settings).encode(), digest_size=16)
    digest.update(model.vision.merger.second.bias.float().cpu().numpy().tobytes())
    encoder = _BatchedEncoder(model, groups, batch_patches, progress)
    for group, rgb in _pictures(frames, plan, groups, name):
        digest.update(rgb.tobytes())
        encoder.add(group, rgb)
    features = encoder.finish()
    segments = []
    for i, group in enumerate(groups):
        frames_shown = list(dict.fromkeys(group.frames))
        segments.append(_segment(group, plan.index[frames_shown], plan.pts[frames_shown], *features[i]))
    whole = [i for i, segment in enumerate(segments) if segment.kind == "I" or mode == "rgb"]
    for i, segment in zip(whole, prune([segments[i] for i in whole], drop), strict=True):
        segments[i] = segment
    return VisualCode(tuple(segments), mode, name, digest.hexdigest(), plan, {"vision": encoder.seconds}, plan.warnings)


def extend_code(code: VisualCode, frames: Iterable[Frames], plan: GopPlan, model, **options) -> VisualCode:
    """Append the frames that ``plan`` has beyond the code's own plan, without encoding what is there again.

    For streams: ``plan`` is that of the streaming policy over all frames so far, ``frames`` holds the new ones. A
    conversation reads on by appending the new segments. A pair that lacked its second frame stays as it is.

    Args:
        options: those of :func:`encode_video` but ``mode`` and ``drop``; the same ones that made the code.

    Raises:
        InputError: ``plan`` does not continue the code's plan; see also :func:`encode_video`.
    """
    known = len(code.plan)
    if len(plan) <= known or not np.array_equal(plan.index[:known], code.plan.index):
        raise InputError(f"{code.name}: the plan of {len(plan)} frames does not continue the code's {known} frames.")
    if not np.array_equal(plan.kind[:known], code.plan.kind):
        raise InputError(
            f"{code.name}: the plan decides otherwise on frames that are encoded already; use 'streaming'."
        )
    arrays = {name: getattr(plan, name)[known:] for name in ("kind", "why", "keep", "pcost", "index", "pts", "tokens")}
    tail = encode_video(frames, replace(plan, **arrays), model, code.mode, name=code.name, **options)
    digest = hashlib.blake2b((code.fingerprint + tail.fingerprint).encode(), digest_size=16)
    seconds = {stage: code.seconds.get(stage, 0) + tail.seconds.get(stage, 0) for stage in code.seconds | tail.seconds}
    segments = code.segments + tail.segments
    return VisualCode(segments, code.mode, code.name, digest.hexdigest(), plan, seconds, plan.warnings)


def slice_code(code: VisualCode, start: float, stop: float, picture: Callable[[int], np.ndarray], model) -> VisualCode:
    """Return the code of the frames with start <= pts < stop (seconds), re-anchored.

    A slice that opens on a P frame, or on the second frame of a pair, has lost what it leans on: that frame is encoded
    as a whole picture. ``picture`` returns a source frame by its number, uint8 [H, W, 3] at the plan's size.

    Raises:
        InputError: no frame of the code lies in the span.
    """
    plan = code.plan.slice(start, stop)
    if not plan.keep.any():
        raise InputError(f"{code.name}: the plan keeps no frame within {start:g} to {stop:g} s.")
    first = np.argmax(plan.keep)
    index, pts = int(plan.index[first]), float(plan.pts[first])
    inside = [segment for segment in code.segments if start <= segment.pts[0] < stop]
    whole = (plan.size[0] // 32, plan.size[1] // 32)
    if not inside or inside[0].index[0] != index or inside[0].grid != whole:
        embeds, deepstack = encode_pictures(model, picture(index)[None, None])
        anchor = _segment(Group("I", (0,), plan.size, stamped=True), [index], [pts], embeds[0], deepstack[:, 0])
        inside = [anchor, *(segment for segment in inside if index not in segment.index)]
    digest = hashlib.blake2b(f"{code.fingerprint} {start} {stop}".encode(), digest_size=16).hexdigest()
    return VisualCode(tuple(inside), code.mode, code.name, digest, plan, {}, code.warnings)


@torch.no_grad()
def encode_pictures(model, rgb: np.ndarray, progress: Progress = no_progress) -> tuple[torch.Tensor, torch.Tensor]:
    """Run pictures of one size, uint8 [n, f, H, W, 3], through the vision tower (:meth:`..VisionModel.encode`).

    The features are returned on the CPU: a code may outlive the model's stay on the GPU.
    """
    tokens, deepstack = model.vision.encode(torch.from_numpy(rgb).to(model.device), progress)
    return tokens.cpu(), deepstack.cpu()


def encode_images(pictures: Sequence[np.ndarray], model, progress: Progress = no_progress) -> list[Segment]:
    """Encode pictures that stand outside time: uint8 [H, W, 3] of any sizes, sides multiples of 32, in their order.

    ``progress`` counts the layers of all pictures.
    """
    segments = []
    for number, rgb in enumerate(pictures):

        def watch(layer, layers, number=number):
            progress(number * layers + layer, len(pictures) * layers)

        embeds, deepstack = encode_pictures(model, np.array(rgb)[None, None], watch)
        group = Group("I", (number,), rgb.shape[:2], stamped=False)
        segments.append(_segment(group, [number], [0.0], embeds[0], deepstack[:, 0]))
    return segments


def shrink(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [n, H, W, 3] to ``size`` (H, W): antialiased bicubic, as Qwen3-VL's own processor does."""
    if rgb.shape[1:3] == size:
        return rgb
    planes = torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, 1).float()
    small = torch.nn.functional.interpolate(planes, size, mode="bicubic", antialias=True, align_corners=False)
    return small.round_().clamp_(0, 255).byte().movedim(1, -1).contiguous().numpy()


def _pictures(frames: Iterable[Frames], plan: GopPlan, groups: list[Group], name: str):
    """Yield (group number, uint8 [f, H, W, 3]) as soon as the frames of a group have been read."""
    wanted: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for frame in dict.fromkeys(group.frames):
            wanted.setdefault(int(plan.index[frame]), []).append(number)
    waiting: dict[int, list[np.ndarray]] = {}
    for chunk in frames:
        if chunk.rgb.shape[1:3] != tuple(plan.size):
            raise InputError(f"{name}: frames are {chunk.rgb.shape[1:3]}, the plan was made for {tuple(plan.size)}.")
        for index, rgb in zip(chunk.index, chunk.rgb, strict=True):
            for number in wanted.pop(int(index), ()):
                group = groups[number]
                waiting.setdefault(number, []).append(shrink(rgb[None], group.size)[0])
                if len(waiting[number]) == len(set(group.frames)):
                    pictures = waiting.pop(number)
                    yield number, np.stack(pictures if len(pictures) == len(group.frames) else pictures * 2)
    if wanted:
        raise InputError(f"{name}: frame {min(wanted)} of the plan was not read; the plan belongs to another video.")


class _BatchedEncoder:
    """Collects pictures of equal shape and encodes them together."""

    def __init__(self, model, groups: list[Group], batch_patches: int, progress: Progress):
        self.model, self.groups, self.batch_patches, self.progress = model, groups, batch_patches, progress
        self.pending: dict[tuple, list[tuple[int, np.ndarray]]] = {}
        self.features: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self.seconds = 0.0

    def add(self, number: int, rgb: np.ndarray) -> None:
        batch = self.pending.setdefault(rgb.shape, [])
        batch.append((number, rgb))
        patches = (rgb.shape[1] // 16) * (rgb.shape[2] // 16)
        if (len(batch) + 1) * patches > self.batch_patches:
            self._encode(rgb.shape)

    def finish(self) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
        for shape in list(self.pending):
            self._encode(shape)
        return self.features

    def _encode(self, shape: tuple) -> None:
        batch = self.pending.pop(shape)
        # Told layer by layer, so that cancelling does not wait for the whole batch.
        done = len(self.features)
        began = time.perf_counter()
        pictures = np.stack([rgb for _, rgb in batch])
        embeds, deepstack = encode_pictures(self.model, pictures, lambda *_: self.progress(done, len(self.groups)))
        self.seconds += time.perf_counter() - began
        for i, (number, _) in enumerate(batch):
            self.features[number] = (embeds[i], deepstack[:, i])
        self.progress(len(self.features), len(self.groups))


def _segment(group: Group, index, pts, embeds: torch.Tensor, deepstack: torch.Tensor) -> Segment:
    return Segment(
        kind=group.kind,
        index=tuple(int(number) for number in index),
        pts=tuple(float(seconds) for seconds in pts),
        stamped=group.stamped,
        grid=(group.size[0] // 32, group.size[1] // 32),
        cell=torch.arange(embeds.shape[0], device=embeds.device),
        embeds=embeds,
        deepstack=deepstack,
    )
