"""``rgb``: Qwen3-VL's own video path, neighbouring frames in pairs."""

from ...video.gop import GopPlan
from .encoder import Encoder
from .groups import in_pairs, kept_frames


class NativePairs(Encoder):
    """All kept frames two by two, an odd last one with itself."""

    def shown(self, plan: GopPlan):
        return [("pair", pair, plan.size) for pair in in_pairs(kept_frames(plan).tolist())]
