"""``ptoken`` and ``delta``: P frames as the tokens of a learned code, from their motion and residual."""

import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...errors import InputError
from ...progress import Progress, no_progress
from ...source.reading import Frames
from ...video.gop import GopPlan, I
from ...video.primitives import Primitives
from ...video.tokens import image_tokens
from ..learned.changes import INPUTS, REFERENCES, Change, as_tensors, change_of
from ..visual_code import Segment
from .encoder import Encoder
from .groups import Group, kept_gops, make_groups
from .pictures import BATCH_PATCHES, Encoded, batch_plan, encode_groups, make_segment


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a continued code has to know: the last frames, uint8 [H, W, 3], and how many followed the I frame."""

    previous: np.ndarray
    whole: np.ndarray
    steps: int


@dataclass(frozen=True, slots=True)
class Window:
    """A group of predicted frames.

    Attributes:
        group: its number.
        last: position of the frame that it leads to.
        reference: position of the frame that it starts from; ``PREVIOUS`` or ``WHOLE`` of the code that is continued.
        step: frames since the I frame.
        span: frames of the group.
    """

    group: int
    last: int
    reference: int
    step: int
    span: int


PREVIOUS, WHOLE = -1, -2


class PredictedFrames(Encoder):
    """I frames whole, as stills; P frames, one or a window of several together, as tokens of ``options.learned``."""

    def shown(self, plan: GopPlan):
        raise NotImplementedError("tokens of a learned code are no picture's; see groups()")

    def cells(self, size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the tokens of a window of frames of (H, W) pixels."""
        if self.options.learned is not None:
            return self.options.learned.network.grid(size)
        count = self.mode.tokens(size)
        return (2, count // 2) if count % 2 == 0 else (1, count)

    def groups(self, plan: GopPlan) -> list[Group]:
        """I frames and windows of P frames, as many tokens as the learned code has, or by default the mode."""
        cells, size = self.cells(plan.size), plan.size
        whole_tokens = image_tokens(size)
        found = []
        for whole, predicted in kept_gops(plan):
            found += [("I", (frame,), size, whole_tokens) for frame in whole]
            found += [("P", window, size, cells[0] * cells[1]) for window in self.windows(predicted, plan)]
        groups = make_groups(plan, found, self.stamps)
        return [replace(group, cells=cells) if group.kind == "P" else group for group in groups]

    def windows(self, predicted: Sequence[int], plan: GopPlan) -> list[tuple[int, ...]]:
        """The P frames of a GOP in windows of ``options.window``.

        ``options.adaptive`` fuses more of them while little changes and fewer while much does: as long as their summed
        cost stays within that of so many median P frames of the plan, and at most four times as many.
        """
        size = self.options.window
        if not 1 <= size <= 64:
            raise InputError(f"the window is {size}; it must be 1 to 64 frames")
        if not self.options.adaptive or size == 1:
            return [tuple(predicted[start : start + size]) for start in range(0, len(predicted), size)]
        costs = np.nan_to_num(plan.pcost)
        among = costs[(plan.kind == 0) & plan.keep]
        most, windows, spent = size * float(np.median(among)), [], 0.0
        for frame in predicted:
            if windows and len(windows[-1]) < 4 * size and spent + costs[frame] <= most:
                windows[-1] += (frame,)
                spent += costs[frame]
            else:
                windows.append((frame,))
                spent = costs[frame]
        return windows

    def encode(
        self,
        plan: GopPlan,
        frames: Iterable[Frames],
        primitives: Primitives | None,
        model,
        *,
        name: str = "video",
        batch_patches: int = BATCH_PATCHES,
        progress: Progress = no_progress,
        memory: Continuation | None = None,
    ) -> Encoded:
        """See :meth:`.encoder.Encoder.encode`; ``frames`` are read twice, I frames first."""
        learned = self.options.learned
        if learned is None:
            raise InputError(
                f"{name}: the mode '{self.mode.name}' needs a learned code; give the file that train-code or Train "
                "Learned Code wrote for this model"
            )
        if learned.header.mode != self.mode.name:
            raise InputError(f"{learned.name} is a code of the mode '{learned.header.mode}', not '{self.mode.name}'")
        learned.require_model(model)
        if isinstance(frames, Iterator):
            raise InputError(f"{name}: the mode '{self.mode.name}' reads frames twice; give a list or a sampled video")
        groups = self.groups(plan)
        numbers = [number for number, group in enumerate(groups) if group.kind == "I"]
        whole = encode_groups(
            [groups[number] for number in numbers], plan, frames, model, name=name, batch_patches=batch_patches,
            progress=lambda done, _: progress(done, len(groups)),
        )  # fmt: skip
        segments = dict(zip(numbers, whole.segments, strict=True))
        digest, seconds = hashlib.blake2b(whole.digest, digest_size=16), whole.seconds
        batch_of = {number: batch for batch in batch_plan_of(groups, batch_patches) for number in batch}
        waiting: dict[int, Change] = {}
        reader = self.reader(groups, plan, memory)
        began = time.perf_counter()
        for number, change in reader.read(frames, primitives, name):
            digest.update(change.residual.tobytes() + change.mv.tobytes())
            waiting[number] = change
            if all(member in waiting for member in batch_of[number]):
                members = batch_of[number]
                made = self.segments(groups, members, [waiting.pop(member) for member in members], plan, model)
                segments.update(zip(members, made, strict=True))
                progress(len(segments), len(groups))
        seconds += time.perf_counter() - began
        ordered = [segments[number] for number in range(len(groups))]
        return Encoded(ordered, digest.digest(), seconds, reader.continuation())

    @torch.no_grad()
    def segments(
        self, groups, members: Sequence[int], changes: Sequence[Change], plan: GopPlan, model
    ) -> list[Segment]:
        """The segments of a batch of windows; features are returned on the CPU."""
        if self.options.inputs not in INPUTS:
            raise InputError(f"the inputs are '{self.options.inputs}'; they must be one of {', '.join(INPUTS)}")
        learned = self.options.learned
        tensors = as_tensors(changes, learned.header.radius, model.device, self.options.inputs)
        tokens, deepstack = learned.network.to(model.device)(model.vision, *tensors)
        tokens, deepstack = tokens.cpu(), deepstack.cpu()
        return [make_segment(groups[member], plan, tokens[at], deepstack[:, at]) for at, member in enumerate(members)]

    @property
    def reference(self) -> str:
        """What changes are taken against: what was chosen, or what the code was trained with."""
        chosen = self.options.reference or self.options.learned.header.reference
        if chosen not in REFERENCES:
            raise InputError(f"the reference is '{chosen}'; it must be one of {', '.join(REFERENCES)}")
        return chosen

    def reader(self, groups: Sequence[Group], plan: GopPlan, memory: Continuation | None) -> "ChangeReader":
        """What reads the changes of the groups of kind P."""
        windows, radius = self.changed(groups, plan, memory), self.options.learned.header.radius
        return ChangeReader(windows, plan, radius, memory, self.reference == "both")

    def changed(self, groups: Sequence[Group], plan: GopPlan, memory: Continuation | None) -> list[Window]:
        """The windows of P frames and what each is taken against."""
        # Frames of the continued code have positions below 0.
        windows, whole = [], None if memory is None else -1 - memory.steps
        for number, group in enumerate(groups):
            first, last = group.frames[0], group.frames[-1]
            if group.kind == "I":
                whole = first
            elif whole is None:
                raise InputError("the plan opens with a P frame, and no code is given that it continues")
            else:
                reference = first - 1 if self.reference != "whole" else whole if whole >= 0 else WHOLE
                windows.append(Window(number, last, reference, last - whole, len(group.frames)))
        return windows


class ChangeReader:
    """The changes of windows from frames that are read once, in order; holds no frame longer than it is needed."""

    def __init__(
        self, windows: Sequence[Window], plan: GopPlan, radius: int, memory: Continuation | None, both: bool = False
    ):
        self.plan, self.radius, self.both = plan, radius, both
        self.ending = {window.last: window for window in windows}
        self.needed = {window.reference: window.last for window in windows}
        self.held = {} if memory is None else {PREVIOUS: memory.previous, WHOLE: memory.whole}
        self.whole = None if memory is None else memory.whole
        self.steps = 0 if memory is None else memory.steps
        self.previous: np.ndarray | None = None

    def read(self, frames: Iterable[Frames], primitives: Primitives | None, name: str) -> Iterator[tuple[int, Change]]:
        """Yield (group number, change) as soon as the frames of a window have been read."""
        plan, searched, waiting = self.plan, self.searched(primitives), None
        position_of = {int(index): position for position, index in enumerate(plan.index)}
        for chunk in frames:
            for index, rgb in zip(chunk.index.tolist(), chunk.rgb, strict=True):
                position = position_of.pop(index, None)
                if position is None:
                    continue
                if waiting is not None:
                    yield self.change(*waiting, after=rgb)
                    waiting = None
                window = self.ending.get(position)
                if window is not None:
                    mv = searched.get(index) if window.reference == position - 1 else None
                    waiting = window, rgb, self.held[window.reference], mv
                    if not self.both:
                        yield self.change(*waiting)
                        waiting = None
                self.hold(position, rgb)
        if waiting is not None:
            yield self.change(*waiting)
        if position_of:
            raise InputError(f"{name}: frame {min(position_of)} of the plan was not read; the plan is another video's")

    def change(self, window: Window, rgb, reference, mv, after=None) -> tuple[int, Change]:
        """A window's group and its change."""
        return window.group, change_of(rgb, reference, window.step, self.radius, mv, after, window.span)

    def hold(self, position: int, rgb: np.ndarray) -> None:
        """Keep a frame for those that refer to it, and forget those that nobody refers to any more."""
        self.previous, self.steps = rgb, self.steps + 1
        if self.plan.kind[position] == I:
            self.whole, self.steps = rgb, 0
        if position in self.needed:
            self.held[position] = rgb
        self.held = {at: kept for at, kept in self.held.items() if self.needed.get(at, -1) > position}

    def searched(self, primitives: Primitives | None) -> dict[int, np.ndarray]:
        """The motion that a search found from the sample before, by frame number; a bitstream's is of other frames."""
        if primitives is None or primitives.source != "search" or tuple(primitives.size) != tuple(self.plan.size):
            return {}
        rows = range(1, len(primitives))
        return {int(primitives.index[row]): primitives.mv[row] for row in rows if primitives.ref[row] == row - 1}

    def continuation(self) -> Continuation:
        """What the code that continues this one has to know, once all frames are read."""
        return Continuation(self.previous.copy(), self.whole.copy(), self.steps)


def batch_plan_of(groups: Sequence[Group], batch_patches: int) -> list[tuple[int, ...]]:
    """Which windows of P frames (by number) are read together: as many as ``batch_patches`` allow."""
    numbers = [number for number, group in enumerate(groups) if group.kind == "P"]
    alike = [replace(groups[number], frames=groups[number].frames[-1:]) for number in numbers]
    return [tuple(numbers[at] for at in batch) for batch in batch_plan(alike, batch_patches)]
