"""What of a sweep runs in the fast tier."""

import itertools

import pytest


def every_value_once(*axes):
    """All combinations for ``pytest.mark.parametrize``; the fast tier has so few that each value comes up."""
    fast = {tuple(axis[number % len(axis)] for axis in axes) for number in range(max(map(len, axes)))}
    return [pytest.param(*case, marks=[] if case in fast else pytest.mark.slow) for case in itertools.product(*axes)]
