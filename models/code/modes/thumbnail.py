"""``thumbnail``: a small still for each P frame (AdaCodec, arXiv 2606.02569, table 5)."""

from ...video.gop import GopPlan
from ...video.tokens import thumbnail_size
from .encoder import Encoder
from .groups import in_pairs, kept_gops


class Thumbnails(Encoder):
    """I frames whole, P frames small; with ``pair_thumbnails`` neighbouring P frames of a GOP as one small pair."""

    def shown(self, plan: GopPlan):
        small, found = thumbnail_size(plan.size), []
        for whole, predicted in kept_gops(plan):
            found += [("I", (frame,), plan.size) for frame in whole]
            if self.options.pair_thumbnails:
                found += [("pair", pair, small) for pair in in_pairs(predicted)]
            else:
                found += [("P", (frame,), small) for frame in predicted]
        return found
