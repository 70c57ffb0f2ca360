"""Groups of pictures through the vision tower, batched by size: what every mode on stock weights does."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...errors import InputError
from ...progress import Progress, no_progress
from ...source.reading import Frames
from ...video.gop import GopPlan
from ..visual_code import Segment, grid_positions
from .groups import Group

BATCH_PATCHES = 4096
"""Patches encoded at once: four pictures of 512 x 512. More is no faster and needs more memory for activations."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """What an encoder made.

    Attributes:
        segments: in order of time.
        digest: hash of the pictures that were encoded.
        seconds: what the vision tower took.
        memory: what the mode has to know to go on where the frames end; None where that is nothing.
    """

    segments: list[Segment]
    digest: bytes
    seconds: float
    memory: object = None


def batch_plan(groups: Sequence[Group], batch_patches: int = BATCH_PATCHES) -> list[tuple[int, ...]]:
    """Which groups (by number) the tower encodes together: equal shapes, as many as ``batch_patches`` allow.

    Batches are in the order in which their last group is read.
    """
    batches, filling = [], {}
    for number, group in enumerate(groups):
        shape = (len(group.frames), group.size)
        batch = filling.setdefault(shape, [])
        batch.append(number)
        if (len(batch) + 1) * group.patches > batch_patches:
            batches.append(tuple(filling.pop(shape)))
    return sorted([*batches, *map(tuple, filling.values())], key=lambda batch: batch[-1])


@torch.no_grad()
def encode_pictures(model, rgb: np.ndarray, progress: Progress = no_progress) -> tuple[torch.Tensor, torch.Tensor]:
    """Run pictures of one size, uint8 [n, f, H, W, 3], through the vision tower (:meth:`..VisionModel.encode`).

    The features are returned on the CPU: a code may outlive the model's stay on the GPU.
    """
    tokens, deepstack = model.vision.encode(torch.from_numpy(rgb).to(model.device), progress)
    return tokens.cpu(), deepstack.cpu()


def encode_groups(
    groups: Sequence[Group],
    plan: GopPlan,
    frames: Iterable[Frames],
    model,
    *,
    name: str = "video",
    cells: Mapping[int, np.ndarray] | None = None,
    batch_patches: int = BATCH_PATCHES,
    progress: Progress = no_progress,
) -> Encoded:
    """Encode each group's pictures at the group's size.

    Args:
        frames: chunks of frames in order, at the plan's size; frames of no group are skipped.
        cells: bool [rows * columns] by the number of a group: the tokens of it that are kept. Others are kept whole.
        batch_patches: patches of 16 x 16 pixels encoded at once.
        progress: called with the number of groups encoded.

    Raises:
        InputError: a frame of a group is not among ``frames``, or a frame is not of the plan's size.
    """
    batch_of = {number: batch for batch in batch_plan(groups, batch_patches) for number in batch}
    digest = hashlib.blake2b(digest_size=16)
    waiting: dict[int, np.ndarray] = {}
    segments: dict[int, Segment] = {}
    seconds = 0.0
    for number, rgb in pictures_of(frames, plan, groups, name):
        digest.update(rgb.tobytes())
        waiting[number] = rgb
        batch = batch_of[number]
        if not all(member in waiting for member in batch):
            continue
        began, done = time.perf_counter(), len(segments)
        pictures = np.stack([waiting.pop(member) for member in batch])
        # Called layer by layer, so that cancelling does not wait for the whole batch.
        embeds, deepstack = encode_pictures(model, pictures, lambda *_, done=done: progress(done, len(groups)))
        seconds += time.perf_counter() - began
        for position, member in enumerate(batch):
            segment = make_segment(groups[member], plan, embeds[position], deepstack[:, position])
            if cells is not None and member in cells:
                segment = segment.keep(torch.from_numpy(cells[member]))
            segments[member] = segment
        progress(len(segments), len(groups))
    return Encoded([segments[number] for number in range(len(groups))], digest.digest(), seconds)


def make_segment(group: Group, plan: GopPlan, embeds: torch.Tensor, deepstack: torch.Tensor) -> Segment:
    """The segment of a group's picture: ``embeds`` [n, D] and ``deepstack`` [K, n, D] on the group's whole grid."""
    shown = list(dict.fromkeys(group.frames))
    return Segment(
        kind=group.kind,
        index=tuple(plan.index[shown].tolist()),
        pts=tuple(plan.pts[shown].tolist()),
        stamped=group.stamped,
        grid=group.grid,
        positions=grid_positions(group.grid),
        embeds=embeds,
        deepstack=deepstack,
    )


def shrink(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 [n, H, W, 3] to ``size`` (H, W): antialiased bicubic, as Qwen3-VL's own processor does."""
    if rgb.shape[1:3] == size:
        return rgb
    planes = torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, 1).float()
    small = torch.nn.functional.interpolate(planes, size, mode="bicubic", antialias=True, align_corners=False)
    return small.round_().clamp_(0, 255).byte().movedim(1, -1).contiguous().numpy()


def pictures_of(
    frames: Iterable[Frames], plan: GopPlan, groups: Sequence[Group], name: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (group number, uint8 [f, H, W, 3]) as soon as the frames of a group have been read."""
    wanted: dict[int, list[int]] = {}
    for number, group in enumerate(groups):
        for frame in dict.fromkeys(group.frames):
            wanted.setdefault(int(plan.index[frame]), []).append(number)
    waiting: dict[int, list[np.ndarray]] = {}
    for chunk in frames:
        if chunk.rgb.shape[1:3] != tuple(plan.size):
            raise InputError(f"{name}: frames are {chunk.rgb.shape[1:3]}, the plan was made for {tuple(plan.size)}")
        for index, rgb in zip(chunk.index, chunk.rgb, strict=True):
            for number in wanted.pop(int(index), ()):
                group = groups[number]
                waiting.setdefault(number, []).append(shrink(rgb[None], group.size)[0])
                if len(waiting[number]) == len(set(group.frames)):
                    pictures = waiting.pop(number)
                    yield number, np.stack(pictures if len(pictures) == len(group.frames) else pictures * 2)
    if wanted:
        raise InputError(f"{name}: frame {min(wanted)} of the plan was not read; the plan belongs to another video")
