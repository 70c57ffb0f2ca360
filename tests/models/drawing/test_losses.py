"""The picture of a training run."""

import numpy as np
from codeclens.models.drawing.canvas import I_COLOUR, P_COLOUR
from codeclens.models.drawing.losses import draw_losses


def rows(*stages):
    steps = ((stage, loss) for stage, losses in stages for loss in losses)
    return [{"step": step, "stage": stage, "loss": loss} for step, (stage, loss) in enumerate(steps)]


def pixels_of(picture, colour):
    return np.argwhere((np.asarray(picture) == colour).all(-1))


def test_each_stage_has_its_panel_and_falls_as_its_losses_do():
    falling = np.linspace(2, 1, 50).tolist()
    picture = draw_losses(rows(("align", falling), ("answer", falling[::-1])), "code")
    left, right = pixels_of(picture, P_COLOUR), pixels_of(picture, I_COLOUR)
    assert left[:, 1].max() < 500 < right[:, 1].min()
    for points, falls in ((left, True), (right, False)):
        lines = points[points[:, 0] > 112]
        first, last = (lines[lines[:, 1] == pick(lines[:, 1])][:, 0].mean() for pick in (np.min, np.max))
        assert (last > first) == falls


def test_short_flat_and_broken_runs_are_drawn():
    for losses in ([1.0], [1.0, 1.0], [1.0, float("nan")], [float("nan")]):
        assert draw_losses(rows(("align", losses)), "code").size == (1000, 420)
    assert draw_losses([], "code").size == (1000, 420)
