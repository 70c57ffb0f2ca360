"""Deviations of what was found from a reference."""

import torch


def error(found: torch.Tensor, expected) -> float:
    """Largest deviation relative to the largest value."""
    expected = torch.as_tensor(expected)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def divergence(expected, found) -> float:
    """Mean Kullback-Leibler divergence KL(expected || found) over the rows, in nats."""
    expected, found = (torch.as_tensor(logits).double().log_softmax(-1) for logits in (expected, found))
    return float((expected.exp() * (expected - found)).sum(-1).mean())
