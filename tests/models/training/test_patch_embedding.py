"""Where the tower starts: the stem's outputs are the patches' components, and the position table tells places apart."""

import numpy as np
import pytest
import torch
from codeclens.models.qwen.vision import patches_of
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config, waves
from codeclens.models.training.examples import Course, make_example
from codeclens.models.training.patch_embedding import FLOOR, whiten_stem

COURSE = Course(sizes={(64, 64): 1}, frames=(4, 8))
WIDTH = 96


@pytest.fixture(scope="module")
def stem():
    """(stem, the patches it was made from, float64 [n, 1536])."""
    config = tiny_config("nano", 400).vision
    examples = [make_example(seed, COURSE) for seed in range(60)]
    layer = torch.nn.Linear(1536, WIDTH)
    whiten_stem(layer, examples, config)
    cut = [patches_of(torch.from_numpy(p), config, still=len(p) == 1)[0] for e in examples for p in e.pictures]
    return layer, torch.cat(cut).double().numpy()


def test_outputs_are_uncorrelated_and_half_whitened(stem):
    layer, patches = stem
    outputs = layer(torch.from_numpy(patches).float()).detach().double().numpy()
    assert np.abs(outputs.mean(0)).max() < 1e-3 and np.mean(outputs**2) == pytest.approx(1, rel=0.01)
    covariance = np.cov(outputs.T)
    spread = covariance.diagonal()
    correlation = covariance / np.sqrt(np.outer(spread, spread))
    assert np.abs(correlation - np.eye(WIDTH)).max() < 0.01
    variances = np.linalg.svd(patches - patches.mean(0), compute_uv=False)[:WIDTH] ** 2 / (len(patches) - 1)
    assert variances[-1] > FLOOR
    expected = np.sqrt(variances) / np.sqrt(variances).mean()
    np.testing.assert_allclose(np.sort(spread)[::-1], expected, rtol=0.01)


def test_waves_tell_places_apart_and_stay_true_between_them():
    table = waves(16, WIDTH).view(16, 16, WIDTH)
    flat = table.flatten(0, 1)
    assert torch.cdist(flat, flat).fill_diagonal_(9).min() > 0.3
    # Halfway between two places lies nearly what is between them: the table may be interpolated.
    lengths = torch.logspace(np.log10(4), np.log10(64), WIDTH // 4)
    exact = 0.5 * torch.sin(2 * torch.pi * 7.5 / lengths)
    between = (table[7, 0, : WIDTH // 4] + table[8, 0, : WIDTH // 4]) / 2
    assert (between - exact)[lengths > 10].abs().max() < 0.03
    model = TinyQwen3VL(tiny_config("nano", 400))
    torch.testing.assert_close(model.vision.position_table.weight.detach(), flat)
