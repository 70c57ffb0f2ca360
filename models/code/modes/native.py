"""``rgb``: Qwen3-VL's own video path, neighbouring frames in pairs, as large as the makers' processor shows them."""

from dataclasses import replace

import numpy as np

from ...video.gop import GopPlan
from ...video.tokens import image_tokens
from .encoder import Encoder
from .groups import in_pairs, kept_frames


class NativePairs(Encoder):
    """All kept frames two by two, an odd last one with itself."""

    @property
    def stamps(self) -> str:
        """Every pair is a whole picture, whatever its size."""
        return "every" if super().stamps == "whole" else super().stamps

    def limited(self, plan: GopPlan) -> GopPlan:
        """At most ``limits.most_frames``, evenly spread, and counted at the size at which they are shown."""
        if self.limits is None:
            return plan
        kept, warnings = kept_frames(plan), list(plan.warnings)
        if len(kept) > self.limits.most_frames:
            warnings.append(f"limit of {self.limits.most_frames} frames a video: {len(kept)} thinned evenly to it")
            kept = kept[np.linspace(0, len(kept) - 1, self.limits.most_frames).round().astype(int)]
        height, width = size = self.limits.size(len(kept), *plan.size)
        if size == tuple(plan.size) and len(warnings) == len(plan.warnings):
            return plan
        if size != tuple(plan.size):
            warnings.append(f"limits of a video's pixels: {len(kept)} frames are shown at {width}x{height}")
        keep, tokens = np.zeros(len(plan), bool), np.zeros(len(plan), np.int32)
        keep[kept], tokens[kept[::2]] = True, image_tokens(size)
        return replace(plan, keep=keep, tokens=tokens, warnings=tuple(warnings))

    def shown(self, plan: GopPlan):
        kept = kept_frames(plan).tolist()
        size = tuple(plan.size) if self.limits is None else self.limits.size(len(kept), *plan.size)
        return [("pair", pair, size) for pair in in_pairs(kept)]
