"""What an encoder is: one for each mode, from a plan to groups and from frames to segments."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...progress import Progress, no_progress
from ...qwen.video_limits import VideoLimits
from ...source.reading import Frames
from ...video.gop import GopPlan
from ...video.primitives import Primitives
from ...video.tokens import Mode, image_tokens
from ..learned.learned_code import LearnedCode
from ..pruning import prune
from .groups import Group, make_groups
from .pictures import BATCH_PATCHES, Encoded, batch_plan, encode_groups


@dataclass(frozen=True, slots=True)
class CodeOptions:
    """What a user may choose of how a plan is shown.

    Attributes:
        stamps: where times are written: before 'every' group, before 'whole' pictures, or once a 'second'; 'auto' is
            the mode's own.
        pair_thumbnails: show two neighbouring thumbnails as one native pair.
        drop: fraction of the tokens of whole pictures that Efficient Video Sampling drops.
        budget: prompt tokens of the video at most, in modes that choose how many they spend; by default what
            :meth:`Encoder.groups` come to.
        learned: trained weights, for the modes that need them ('ptoken' and 'delta').
        window: P frames that these modes fuse into one set of tokens; with ``adaptive`` so many on average, more where
            little changes and fewer where much does.
        reference: what a change is taken against, of :data:`..learned.changes.REFERENCES`; by default what the code was
            trained with.
        inputs: what of a change is shown to the network: 'both', 'motion', 'residual' or 'none'; for comparisons.
    """

    stamps: str = "auto"
    pair_thumbnails: bool = False
    drop: float = 0.0
    budget: int | None = None
    learned: LearnedCode | None = None
    window: int = 1
    adaptive: bool = False
    reference: str = ""
    inputs: str = "both"


class Encoder:
    """Shows whole pictures, small ones and pairs through the stock vision tower.

    A mode subclasses this in a file of its own: :meth:`shown` says what its groups are. A mode whose tokens are no
    picture overrides :meth:`encode` as well.

    Args:
        mode: the mode's record.
        options: what the user chose.
        limits: what the model's makers let one video cost, which native pairs keep to; None for no limits.
    """

    def __init__(self, mode: Mode, options: CodeOptions, limits: VideoLimits | None = None):
        self.mode, self.options, self.limits = mode, options, limits

    @property
    def stamps(self) -> str:
        """Where times are written."""
        return self.mode.stamps if self.options.stamps == "auto" else self.options.stamps

    def limited(self, plan: GopPlan) -> GopPlan:
        """The plan within ``limits``, with a warning where that changes anything."""
        return plan

    def shown(self, plan: GopPlan) -> list[tuple[str, tuple[int, ...], tuple[int, int]]]:
        """(kind, positions of the frames, (H, W)) of each group of the plan, in order of time."""
        raise NotImplementedError

    def groups(self, plan: GopPlan) -> list[Group]:
        """The groups of a plan's kept frames.

        Raises:
            InputError: the stamps are not one of :data:`.groups.STAMPS`, or the plan keeps no frame.
        """
        shown = [(kind, frames, size, image_tokens(size)) for kind, frames, size in self.shown(plan)]
        return make_groups(plan, shown, self.stamps)

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
        memory: object = None,
    ) -> Encoded:
        """The segments of a plan's groups.

        Args:
            frames: chunks of frames in order, at the plan's size. A mode may read them more than once.
            primitives: motion and cost of the same frames; None where the plan was made without.
            model: a loaded model with its vision tower.
            name: what the video is called in messages.
            memory: that of the code which this one continues (:class:`.pictures.Encoded`).
        """
        encoded = encode_groups(
            self.groups(plan), plan, frames, model, name=name, batch_patches=batch_patches, progress=progress
        )
        whole = [number for number, segment in enumerate(encoded.segments) if self.prunes(segment.kind)]
        pruned = prune([encoded.segments[number] for number in whole], self.options.drop)
        for number, segment in zip(whole, pruned, strict=True):
            encoded.segments[number] = segment
        return encoded

    def batches(self, groups: Sequence[Group]) -> list[tuple[int, ...]]:
        """Which groups (by number) are encoded together, for an estimate of what that costs."""
        return batch_plan(groups)

    def pruned_tokens(self, groups: Sequence[Group]) -> int:
        """Tokens of ``groups`` that pruning drops, as :func:`..pruning.prune` does: the first is never pruned."""
        prunable = [group.tokens for group in groups if self.prunes(group.kind)]
        if not self.options.drop or not prunable:
            return 0
        return sum(prunable) - max(prunable[0], int(sum(prunable) * (1 - self.options.drop)))

    def prunes(self, kind: str) -> bool:
        """Whether groups of ``kind`` lose tokens to ``options.drop``: whole pictures and whole pairs do."""
        return self.mode.prunable and (kind == "I" or self.mode.paired)
