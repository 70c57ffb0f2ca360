"""What the timeline in the browser is given: the plan, and all that it takes to plan again with other settings."""

from collections.abc import Iterable

import numpy as np

from ..video.gop import GopPlan
from ..video.planning import auto_gamma, first_samples, scaled_gamma
from ..video.tokens import MODES, image_tokens


def replan_data(plan: GopPlan, cuts: Iterable[int] = (), unclear: Iterable[int] = (), cap: int | None = None) -> dict:
    """The costs and tokens that ``web/rule.js`` plans from, as JSON values.

    Args:
        plan: any plan of the clip; its decisions are not part of this.
        cuts: source frame numbers that start a new shot, as they were given to the plan.
        unclear: positions of frames that show no clear picture (:func:`..video.clearness.unclear_frames`).
        cap: the cap for which gamma 'auto' is found; None leaves it out.
    """
    gammas = {"scaled": scaled_gamma(plan.size)}
    if cap is not None:
        gammas["auto"] = auto_gamma([plan.pcost], plan.size, cap)
    whole = image_tokens(plan.size)
    return {
        "pcost": [None if np.isnan(cost) else cost for cost in plan.pcost.tolist()],
        "pts": plan.pts.tolist(),
        "cuts": sorted(first_samples(plan.index, cuts)),
        "unclear": list(unclear),
        "gammas": gammas,
        "modes": {
            name: {
                "whole": whole,
                "predicted": mode.tokens(plan.size),
                "paired": mode.paired,
                "anchored": mode.anchored,
                "stamps": mode.stamps,
            }
            for name, mode in MODES.items()
        },
    }
