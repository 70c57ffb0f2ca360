"""What kind of content a clip is, from its plan alone."""

import numpy as np

from .gop import GopPlan
from .planning import SMALLEST_LEVELS

CONTENTS = ("static", "low motion", "high motion", "many cuts")

HIGH_LEVELS = 7.0
"""Grey levels of cost per colour sample from which on motion is high. At two frames a second talking heads, juggling
and a silent comedy have a median of 2.3 to 5.7; a camera that pans or follows, and a boxing match, of 8 to 22."""

CUT_LEVELS = 10.0
"""A new picture costs more than this ..."""

CUT_JUMP = 3.0
"""... and more than this times the cheaper of its two neighbours; a car that fills the view comes up to it in steps."""

CUT_SECONDS = 10.0
"""Many cuts are two at least, and one in so many seconds."""


def content_of(plan: GopPlan) -> str:
    """The class of a clip, one of ``CONTENTS``, from the prediction costs of its plan.

    Costs are taken as grey levels per colour sample, so the class does not depend on the size of the frames or on the
    gamma of the plan, which 'auto' fits to each clip; it does depend on the sampling, as frames further apart differ
    more. Neighbouring jumps are one cut. What is neither cut nor faster is decided by the median cost; below
    ``gop.SMALLEST_LEVELS`` differences are noise. A slow pan over smooth ground is predicted so well that it counts as
    static, and flicker resembles cuts. A plan without costs of its own (``watch`` makes such for the policies 'fixed'
    and 'frames') says nothing: everything in it is static.
    """
    levels = plan.pcost[1:] / (plan.size[0] * plan.size[1] * 3)
    levels = levels[np.isfinite(levels)]
    cuts = count_cuts(levels)
    if cuts >= max(2, (plan.pts[-1] - plan.pts[0]) / CUT_SECONDS):
        return "many cuts"
    median = float(np.median(levels)) if len(levels) else 0.0
    return "static" if median < SMALLEST_LEVELS else "low motion" if median < HIGH_LEVELS else "high motion"


def count_cuts(levels: np.ndarray) -> int:
    """New pictures among costs in grey levels per colour sample, float64 [n]."""
    if len(levels) < 2:
        return 0
    before, after = np.r_[np.inf, levels[:-1]], np.r_[levels[1:], np.inf]
    jumps = (levels > CUT_LEVELS) & (levels > CUT_JUMP * np.minimum(before, after))
    return int(np.sum(jumps & ~np.r_[False, jumps[:-1]]))
