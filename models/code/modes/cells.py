"""``cells``: of each native pair the 32 x 32-pixel cells that changed since the model last saw them.

No published method: the selection is a codec's (conditional replenishment, as H.261's skipped macroblocks), the tokens
are the stock tower's own at their own coordinates, as Efficient Video Sampling keeps them.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...errors import InputError
from ...progress import Progress, no_progress
from ...source.reading import Frames
from ...video.gop import GopPlan
from ...video.primitives import Primitives
from ...video.tokens import image_tokens
from ..layout import shown_tokens
from .encoder import Encoder
from .groups import Group, in_pairs, kept_stretches, make_groups, stamp_groups
from .pictures import BATCH_PATCHES, Encoded, encode_groups, pictures_of
from .selection import Selection, describe_cells, groups_with, meet_budget


@dataclass(frozen=True, slots=True)
class CellMemory:
    """What a continued code has to know: the cells as last sent, float32 [cells, values]."""

    shown: np.ndarray


class ChangedCells(Encoder):
    """The first pair of every kept stretch whole, then the cells that changed, as many as the budget allows.

    A group that sends no cell is left out, with its time. The tower reads every pair whole, so this saves the language
    model's reading, not the tower's.
    """

    def shown(self, plan: GopPlan):
        raise NotImplementedError("groups of cells do not cost their whole grid; see groups()")

    def groups(self, plan: GopPlan) -> list[Group]:
        """Native pairs. Those after the first of a stretch are counted with the tokens that they get on average."""
        whole, average, found = image_tokens(plan.size), self.mode.tokens(plan.size), []
        for stretch in kept_stretches(plan):
            for number, pair in enumerate(in_pairs(stretch)):
                # A stream's continuation opens with a P frame: what it leans on was sent before.
                opens = number == 0 and bool(plan.kind[stretch[0]])
                found.append(("pair" if opens else "P", pair, plan.size, whole if opens else average))
        return make_groups(plan, found, self.stamps)

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
        memory: CellMemory | None = None,
    ) -> Encoded:
        """See :meth:`.encoder.Encoder.encode`; ``frames`` are read twice, first to select and then to encode."""
        if isinstance(frames, Iterator):
            raise InputError(f"{name}: the mode 'cells' reads frames twice; give a list or a sampled video")
        groups = self.groups(plan)
        budget = self.options.budget or shown_tokens(groups, model.tokenizer)
        selection = self.select(groups, plan, frames, model.tokenizer, budget, name, memory)
        sent = self._sent(groups, selection.kept, plan)
        if self.options.stamps == "auto":
            # Where less has changed than the budget allows, the rest tells more exactly when.
            stamped = stamp_groups(sent, plan, "every")
            sent = stamped if shown_tokens(stamped, model.tokenizer) <= budget else sent
        cells = {position: selection.kept[number] for position, number in enumerate(groups_with(selection.kept))}
        encoded = encode_groups(
            sent, plan, frames, model, name=name, cells=cells, batch_patches=batch_patches, progress=progress
        )
        return replace(encoded, memory=CellMemory(selection.shown))

    def select(
        self,
        groups: Sequence[Group],
        plan: GopPlan,
        frames: Iterable[Frames],
        tokenizer,
        budget: int,
        name: str = "video",
        memory: CellMemory | None = None,
    ) -> Selection:
        """The cells of ``groups`` to send within ``budget`` prompt tokens."""
        described: dict[int, np.ndarray] = {}
        for number, rgb in pictures_of(frames, plan, groups, name):
            described[number] = describe_cells(rgb)
        return meet_budget(
            [described[number] for number in range(len(groups))],
            [group.kind == "pair" for group in groups],
            budget,
            lambda kept: shown_tokens(self._sent(groups, kept, plan), tokenizer),
            None if memory is None else memory.shown,
        )

    def _sent(self, groups: Sequence[Group], kept: np.ndarray, plan: GopPlan) -> list[Group]:
        counts = kept.sum(1).tolist()
        sent = [replace(group, tokens=count) for group, count in zip(groups, counts, strict=True) if count]
        return stamp_groups(sent, plan, self.stamps)
