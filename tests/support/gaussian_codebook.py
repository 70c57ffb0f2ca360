"""GVCC's own codebook (arXiv 2603.26571), to measure against: K Gaussian atoms, the M best, signs, Euler-Maruyama.

Seeds, schedule, deterministic tail and normalisation are the release's. Its indices are counted as one combinadic
number per record, ceil(log2 binomial(K, M)) bits, a third less than the release writes: the codebook is compared, not
the file format.
"""

import math

import torch
from codeclens.models.gvc.flow import SIGMA_ONE, euler_maruyama_step, exact_step, paper_refresh, shifted_sigmas

ATOMS, STEPS, DETERMINISTIC, SHIFT = 1024, 20, 3, 500


def reference_bits(frames: int, chosen: int) -> int:
    """Bits of a GOP that sends ``chosen`` atoms per step and frame."""
    return (STEPS - DETERMINISTIC) * frames * (math.ceil(math.log2(math.comb(ATOMS, chosen))) + chosen)


def reference_codec(flow, targets, choices, rule=euler_maruyama_step) -> dict[int, float]:
    """Mean squared error over the targets for each number of atoms in ``choices``.

    All trajectories run in step, so that every codebook is drawn once.
    """
    sigmas = shifted_sigmas(STEPS, SHIFT)
    refresh = paper_refresh(sigmas)
    start = torch.randn(targets[0].shape, generator=torch.Generator().manual_seed(42))
    runs = {(chosen, number): start for chosen in choices for number in range(len(targets))}
    for step, level in enumerate(sigmas):
        sigma = level / SIGMA_ONE
        following = sigmas[step + 1] / SIGMA_ONE if step + 1 < STEPS else 0.0
        denoised = {key: flow.denoise(x, sigma) for key, x in runs.items()}
        stochastic = step < STEPS - DETERMINISTIC
        now = rule(sigma, following, refresh[step] / SIGMA_ONE * following) if stochastic else None
        plain = exact_step(sigma, following, 0.0)
        noise = {key: torch.zeros_like(x) for key, x in runs.items()}
        for frame in range(flow.frames if stochastic else 0):
            generator = torch.Generator().manual_seed(42 * 100003 + step * 10007 + frame)
            atoms = torch.randn(ATOMS, flow.length, generator=generator)
            for (chosen, number), z in noise.items():
                products = atoms @ (targets[number] - denoised[chosen, number])[0, frame, :, 0]
                best = products.abs().topk(chosen).indices
                summed = torch.where(products[best] >= 0, 1.0, -1.0) @ atoms[best]
                z[0, frame, :, 0] = summed / summed.std()
        taken = now or plain
        runs = {key: taken.denoised * denoised[key] + taken.x * x + taken.noise * noise[key] for key, x in runs.items()}
    return {
        chosen: sum(float((runs[chosen, n] - target).square().mean()) for n, target in enumerate(targets))
        / len(targets)
        for chosen in choices
    }
