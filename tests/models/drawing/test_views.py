"""Which frame Draw Motion shows when none is named."""

import numpy as np
from codeclens.models.drawing.views import most_moving
from codeclens.models.video.primitives import Primitives


def primitives_of(mv, small=None):
    count, rows, columns = mv.shape[:3]
    zero = np.zeros(mv.shape[:3], np.float32)
    times = np.arange(count)
    return Primitives(
        mv.astype(np.int16), times - 1, zero, zero, np.ones(mv.shape[:3], bool), times, times / 2.0,
        (16 * rows, 16 * columns), small=small,
    )  # fmt: skip


def test_a_pan_moves_more_than_noise_of_longer_vectors():
    rng = np.random.default_rng(0)
    mv = np.zeros((4, 12, 20, 2))
    mv[1] = rng.integers(-32, 33, mv[1].shape)
    mv[2] = 9, 4
    mv[3, 3:6, 3:6] = 12, 0
    assert np.abs(mv[1]).sum() > 1.5 * np.abs(mv[2]).sum(), "by the sum of lengths the noise would be chosen"
    assert most_moving(primitives_of(mv)) == 2


def test_a_black_frame_is_not_the_one_that_moves_most():
    mv = np.zeros((3, 12, 20, 2))
    mv[1], mv[2] = 20, 9
    small = np.random.default_rng(0).integers(0, 256, (3, 18, 32), np.uint8)
    small[1] = 3
    assert most_moving(primitives_of(mv, small)) == 2
    assert most_moving(primitives_of(mv)) == 1
