"""A patch stem that starts where the patches vary: their principal components, half whitened.

Noise in its place passes on little but mean colours, which vary most by far, and textures and outlines are then learned
last. Fully whitened components would drown the colours instead (Coates and Ng 2012, section 3, on whitening).
"""

import torch

from ..qwen.config import VisionConfig
from ..qwen.vision import patches_of
from .examples import Example

FLOOR = 1e-4
"""Variance of pixels in -1 to 1 below which a component is noise."""


@torch.no_grad()
def whiten_stem(stem, examples: list[Example], config: VisionConfig) -> None:
    """Set weight and bias of ``stem``, a linear layer, from the pictures of ``examples``.

    Component by component in order of variance, each scaled by the fourth root of its variance, and all so that the
    stem's outputs have a mean square of 1.
    """
    patches = [
        patches_of(torch.from_numpy(picture), config, still=picture.shape[0] == 1)[0]
        for example in examples
        for picture in example.pictures
    ]
    patches = torch.cat([found.flatten(0, -2) for found in patches]).double()
    mean = patches.mean(0)
    variance, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    kept = slice(-stem.out_features, None)
    scale = variance[kept].clamp(min=FLOOR)
    weight = (vectors[:, kept] / scale**0.25).T / scale.sqrt().mean().sqrt()
    stem.weight.copy_(weight)
    stem.bias.copy_(-weight @ mean)
