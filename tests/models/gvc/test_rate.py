"""From bits per pixel to atoms: the budget is kept, spent, and spent better than the paper's codebook spends it."""

from fractions import Fraction

import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.gvc.codebook import padded_length
from codeclens.models.gvc.codec import encode_gop
from codeclens.models.gvc.flow import shifted_sigmas
from codeclens.models.gvc.rate import MOST_BLOCKS, plan_schedule
from codeclens.models.gvc.records import Header, check_header, payload_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from support.analytic_flow import AnalyticFlow
from support.gaussian_codebook import reference_bits, reference_codec


def header_of(schedule, frames, length, deterministic=1):
    return Header(
        "T2V", 1, frames, length, 1, 5, length, 1, Fraction(16), schedule, len(schedule), deterministic
    )  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(st.integers(2, 60), st.integers(8, 60000), st.floats(3.0, 300.0), st.floats(0, 3), st.data())
def test_a_budget_is_kept_and_spent(steps, length, step_bits, exponent, data):
    deterministic = data.draw(st.integers(1, steps - 1))
    coded = steps - deterministic
    budget = step_bits * coded
    schedule = plan_schedule(shifted_sigmas(steps, 300), deterministic, length, budget, late_exponent=exponent)
    header = header_of(schedule, 1, length, deterministic)
    check_header(header)
    spent = payload_bits(header, [16])
    assert budget - 15 <= spent <= budget
    most = max((step.atoms << step.bits) / padded_length(length) for step in schedule)
    assert most <= MOST_BLOCKS or min(step.bits for step in schedule[:coded]) == 2


def test_the_papers_rate_at_720p_needs_four_blocks():
    schedule = plan_schedule(shifted_sigmas(20, 500), 1, 16 * 90 * 160, 19 * 960.0)
    assert {step.bits for step in schedule[:19]} <= {12, 13, 14}
    assert schedule[18].atoms > 2 * schedule[5].atoms


def test_budgets_that_cannot_be():
    sigmas = shifted_sigmas(20, 500)
    with pytest.raises(InputError, match="50 bits for a latent frame are too few for 19 coded steps"):
        plan_schedule(sigmas, 1, 1500, 50.0)
    with pytest.raises(InputError, match="the codebook has 8191; lower the rate"):
        plan_schedule(sigmas, 1, 230400, 1e9)
    with pytest.raises(InputError, match="nan bits"):
        plan_schedule(sigmas, 1, 1500, float("nan"))


def test_less_error_than_the_papers_codebook_at_every_rate():
    flow = AnalyticFlow(frames=2, length=1500)
    targets = [flow.draw(seed) for seed in range(3)]
    paper = reference_codec(flow, targets, (1, 4, 16, 64))
    for chosen, reference in paper.items():
        budget = reference_bits(flow.frames, chosen)
        schedule = plan_schedule(shifted_sigmas(20, 500), 1, flow.length, budget / flow.frames)
        header = header_of(schedule, flow.frames, flow.length)
        coded = [encode_gop(flow.denoise, header, 0, target, 5, adapt=False) for target in targets]
        assert all(8 * len(gop.payload) <= budget + 7 for gop, _ in coded)
        latents = [latent for _, latent in coded]
        error = np.mean([float((a - b).square().mean()) for a, b in zip(latents, targets, strict=True)])
        assert flow.distortion_bound(budget) < error < (0.92 if chosen == 1 else 0.8) * reference
