"""Initial weights: the patch embedding gives principal components, and the position table separates positions."""

import numpy as np
import pytest
import torch
from codeclens.models.qwen.vision import patches_of
from codeclens.models.training.architecture import (
    LEAST_VARIANCE,
    TinyQwen3VL,
    position_waves,
    tiny_config,
    whiten_patch_embedding,
)
from codeclens.models.training.examples import Mixture, make_example

MIXTURE = Mixture(sizes={(64, 64): 1}, frames=(4, 8), questions=0)
WIDTH = 96


@pytest.fixture(scope="module")
def whitened():
    """(patch embedding, the patches it was made from, float64 [n, 1536])."""
    config = tiny_config("nano", 400).vision
    pictures = [picture for seed in range(24) for picture in make_example(seed, MIXTURE).pictures]
    layer = torch.nn.Linear(1536, WIDTH)
    whiten_patch_embedding(layer, pictures, config)
    cut = [patches_of(torch.from_numpy(picture), config, still=len(picture) == 1)[0] for picture in pictures]
    return layer, torch.cat(cut).double().numpy()


def test_outputs_are_uncorrelated_and_half_whitened(whitened):
    layer, patches = whitened
    outputs = layer(torch.from_numpy(patches).float()).detach().double().numpy()
    assert np.abs(outputs.mean(0)).max() < 1e-3 and np.mean(outputs**2) == pytest.approx(1, rel=0.01)
    covariance = np.cov(outputs.T)
    spread = covariance.diagonal()
    correlation = covariance / np.sqrt(np.outer(spread, spread))
    assert np.abs(correlation - np.eye(WIDTH)).max() < 0.01
    variances = np.linalg.svd(patches - patches.mean(0), compute_uv=False)[:WIDTH] ** 2 / (len(patches) - 1)
    assert variances[-1] > LEAST_VARIANCE
    expected = np.sqrt(variances) / np.sqrt(variances).mean()
    np.testing.assert_allclose(np.sort(spread)[::-1], expected, rtol=0.01)


def test_position_waves_differ_everywhere_and_can_be_interpolated():
    table = position_waves(16, WIDTH).view(16, 16, WIDTH)
    flat = table.flatten(0, 1)
    assert torch.cdist(flat, flat).fill_diagonal_(9).min() > 0.3
    # Halfway between two positions the mean of both is nearly the wave's value.
    lengths = torch.logspace(np.log10(4), np.log10(64), WIDTH // 4)
    exact = 0.5 * torch.sin(2 * torch.pi * 7.5 / lengths)
    between = (table[7, 0, : WIDTH // 4] + table[8, 0, : WIDTH // 4]) / 2
    assert (between - exact)[lengths > 10].abs().max() < 0.03
    model = TinyQwen3VL(tiny_config("nano", 400))
    torch.testing.assert_close(model.vision.position_table.weight.detach(), flat)
