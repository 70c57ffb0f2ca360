"""A rectified flow whose posterior mean is known in closed form: a mixture of Gaussians."""

import numpy as np
import torch


class AnalyticFlow:
    """x0 ~ uniform mixture of J Gaussians with means mu_j and one diagonal variance, a power law over the coordinates.

    E[x0 | x_t] is exact, so the codec's loop runs on a perfect denoiser in milliseconds, and reverse water-filling of
    the variances bounds from below what any codec can reach.
    """

    def __init__(self, frames=2, length=1500, components=6, exponent=1.6, power=1.57, seed=0):
        generator = np.random.default_rng(seed)
        law = np.arange(1, length + 1, dtype=np.float64) ** -exponent
        law *= power / law.mean()
        self.frames, self.length = frames, length
        self.variance = torch.from_numpy(np.stack([generator.permutation(law) for _ in range(frames)]))
        self.means = torch.from_numpy(generator.normal(0, 0.5, (components, frames, length)))

    def draw(self, seed: int) -> torch.Tensor:
        """A sample, float32 [1, F, D, 1]."""
        generator = np.random.default_rng([seed, 7])
        mean = self.means[generator.integers(len(self.means))]
        x = mean + self.variance.sqrt() * torch.from_numpy(generator.normal(size=mean.shape))
        return x.float()[None, :, :, None]

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        """E[x0 | x_sigma = x] for float32 [1, F, D, 1]."""
        x = x[0, :, :, 0].double()
        a = 1 - sigma
        total = a * a * self.variance + sigma * sigma
        weight = torch.softmax(-0.5 * ((x - a * self.means) ** 2 / total).sum((1, 2)), 0)
        posterior = self.means + a * self.variance / total * (x - a * self.means)
        mean = (weight[:, None, None] * posterior).sum(0)
        return mean.float()[None, :, :, None]

    def distortion_bound(self, bits: float) -> float:
        """Least mean squared error at ``bits`` in all, the component known: reverse water-filling of the variances."""
        variance = np.sort(self.variance.numpy().ravel())
        low, high = 0.0, variance.max()
        for _ in range(200):
            level = (low + high) / 2
            rate = 0.5 * np.log2(np.maximum(variance / level, 1)).sum()
            low, high = (level, high) if rate > bits else (low, level)
        return float(np.minimum(variance, high).mean())
