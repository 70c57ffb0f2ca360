"""``keyframes``: the I frames alone, each a still."""

from ...video.gop import GopPlan
from .encoder import Encoder
from .groups import kept_gops


class Keyframes(Encoder):
    """I frames; P frames are left out."""

    def shown(self, plan: GopPlan):
        return [("I", (frame,), plan.size) for whole, _ in kept_gops(plan) for frame in whole]
