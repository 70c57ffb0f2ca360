"""The step against closed forms: variance, the ODE, both ends of the schedule."""

import math

import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.flow import (
    SIGMA_ONE,
    euler_maruyama_step,
    exact_step,
    paper_refresh,
    shifted_sigmas,
    snap_sigmas,
)
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = [level / SIGMA_ONE for level in shifted_sigmas(20, 500)]


@settings(deadline=None, max_examples=100)
@given(st.floats(0.01, 1), st.floats(0, 0.999), st.floats(0, 1))
def test_exact_step_moves_the_interpolant_to_the_next_level(sigma, ratio, fraction):
    """With the true x0 for the estimate, x_t = (1-t) x0 + t eps becomes (1-n) x0 + noise of variance n^2."""
    following = sigma * ratio
    step = exact_step(sigma, following, fraction * following)
    assert step.denoised + step.x * (1 - sigma) == pytest.approx(1 - following, abs=1e-12)
    assert (step.x * sigma) ** 2 + step.noise**2 == pytest.approx(following**2, abs=1e-12)


@pytest.mark.parametrize("steps", [50, 200, 2000])
def test_unit_gaussian_data_keeps_its_variance_as_steps_get_small(steps):
    """For x0 ~ N(0, 1) the estimate is (1-t) x / v, v = (1-t)^2 + t^2, so the sampler's variance is a recursion.

    A first-order method: the deviation is inversely proportional to the number of steps.
    """
    variance, sigmas = 1.0, shifted_sigmas(steps, 500)
    for level, below, fraction in zip(sigmas, [*sigmas[1:], 0], paper_refresh(sigmas), strict=True):
        sigma, following = level / SIGMA_ONE, below / SIGMA_ONE
        step = exact_step(sigma, following, fraction / SIGMA_ONE * following)
        gain = step.denoised * (1 - sigma) / ((1 - sigma) ** 2 + sigma**2) + step.x
        variance = gain**2 * variance + step.noise**2
        assert variance == pytest.approx((1 - following) ** 2 + following**2, rel=6.5 / steps)


def test_no_fresh_noise_is_the_euler_step():
    for sigma, following in zip(LEVELS, [*LEVELS[1:], 0.0], strict=True):
        step = exact_step(sigma, following, 0.0)
        denoised, x = 0.3, -1.1
        euler = x - (sigma - following) * (x - denoised) / sigma
        assert step.denoised * denoised + step.x * x == pytest.approx(euler, abs=1e-12)
        assert step.noise == 0


def test_the_last_step_lands_on_the_estimate_and_the_first_sees_pure_noise():
    last = exact_step(LEVELS[-1], 0.0, 0.0)
    assert (last.denoised, last.x, last.noise) == (1.0, 0.0, 0.0)
    first = exact_step(1.0, LEVELS[1], 0.0)
    assert first.x == LEVELS[1] and first.denoised == pytest.approx(1 - LEVELS[1])


def test_euler_maruyama_leaves_the_noise_that_the_paper_leaves():
    """Noise std relative to n, from the closed form of the update with g = 3 t^2, shift 5, 20 steps."""
    refresh = paper_refresh(shifted_sigmas(20, 500))
    for step, expected in ((0, 1.0016), (5, 1.0034), (10, 1.008), (14, 1.020), (16, 1.036), (18, 1.109)):
        sigma, following = LEVELS[step], LEVELS[step + 1]
        rule = euler_maruyama_step(sigma, following, refresh[step] / SIGMA_ONE * following)
        assert math.hypot(rule.x * sigma, rule.noise) / following == pytest.approx(expected, abs=6e-4)


def test_paper_refresh_of_a_20_step_schedule():
    refresh = [value / SIGMA_ONE for value in paper_refresh(shifted_sigmas(20, 500))]
    for step, expected in ((0, 0.309), (5, 0.367), (10, 0.447), (14, 0.532), (16, 0.582), (18, 0.709)):
        assert refresh[step] == pytest.approx(expected, abs=6e-4)
    assert refresh[-1] == 0


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 60), st.integers(100, 1200))
def test_integer_schedule_is_the_nearest_multiple(steps, shift):
    for level, left in zip(shifted_sigmas(steps, shift), range(steps, 0, -1), strict=True):
        s = left / steps
        assert abs(level - SIGMA_ONE * (shift / 100 * s / (1 + (shift / 100 - 1) * s))) <= 0.5 + 1e-6


def test_snapped_sigmas_of_a_sampler():
    assert snap_sigmas([1.0, 0.5, 0.0]) == (65535, 32768)
    for sigmas, said in (
        ([0.9, 0.5, 0.0], "starts at sigma 0.9"),
        ([1.0, 0.5, 0.1], "ends at sigma 0.1"),
        ([1.0, 0.5, 0.5, 0.0], "does not fall at step 1"),
        ([14.6, 0.5, 0.0], "holds sigma 14.6"),
        ([1.0, float("nan"), 0.0], "holds sigma nan"),
        ([0.0], "has 1 sigmas"),
    ):
        with pytest.raises(InputError, match=said):
            snap_sigmas(sigmas)
