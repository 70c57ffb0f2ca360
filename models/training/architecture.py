"""Qwen3-VL at a few million parameters, ready to be trained from scratch.

The modules are those that read the official files; only the widths are small, and the rotary base fits contexts of
hundreds of tokens (Qwen3-VL's 5e6 is for hundreds of thousands).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..qwen.attention import attention
from ..qwen.config import Qwen3VLConfig, TextConfig, VisionConfig
from ..qwen.text import TextModel
from ..qwen.vision import VisionModel, patches_of

WIDTHS = {
    "nano": {"text": (3, 96, 256, 3, 1), "vision": (3, 96, 256, 3, (0, 1))},
    "mini": {"text": (6, 256, 640, 8, 4), "vision": (4, 192, 512, 6, (1, 2))},
    "small": {"text": (6, 256, 640, 8, 4), "vision": (6, 192, 512, 6, (1, 3))},
}
"""Text model: (layers, width, inner width, heads, key heads); vision tower: (layers, width, inner width, heads, layers
with DeepStack). Heads are 32 wide in both."""

HEAD_DIM = 32
LEAST_VARIANCE = 1e-4
"""Variance of pixels in -1 to 1 below which a principal component is noise."""


class TrainingOperations:
    """``torch.nn``'s layers, but for an RMSNorm in its input's dtype, without which autocast has no fused one."""

    Linear = torch.nn.Linear
    Embedding = torch.nn.Embedding
    LayerNorm = torch.nn.LayerNorm

    class RMSNorm(torch.nn.RMSNorm):
        """RMSNorm (arXiv 1910.07467)."""

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return F.rms_norm(states, self.normalized_shape, self.weight.to(states.dtype), self.eps)


def tiny_config(size: str, vocabulary: int) -> Qwen3VLConfig:
    """The configuration of one of ``WIDTHS`` with a vocabulary of so many tokens."""
    if size not in WIDTHS:
        raise InputError(f"the model size is {size!r}; it must be one of {', '.join(WIDTHS)}")
    layers, width, inner, heads, kv_heads = WIDTHS[size]["text"]
    vision_layers, vision_width, vision_inner, vision_heads, deepstack = WIDTHS[size]["vision"]
    text = TextConfig(
        layers=layers,
        hidden_size=width,
        intermediate_size=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=HEAD_DIM,
        vocabulary=vocabulary,
        context_length=8192,
        rms_epsilon=1e-6,
        rope_base=1e4,
        rope_sections=(6, 5, 5),
        deepstack_layers=len(deepstack),
        tied=True,
    )
    vision = VisionConfig(
        layers=vision_layers,
        hidden_size=vision_width,
        intermediate_size=vision_inner,
        heads=vision_heads,
        patch_size=16,
        merge_size=2,
        grid_side=16,
        output_size=width,
        deepstack_indexes=deepstack,
        image_mean=(0.5, 0.5, 0.5),
        image_std=(0.5, 0.5, 0.5),
        epsilon=1e-6,
    )
    return Qwen3VLConfig(text, vision)


class TinyQwen3VL(torch.nn.Module):
    """Both halves as one module with trainable weights, drawn from ``seed``.

    Weights are normal with a deviation of one over the root of their inputs (at these widths the customary 0.02 leaves
    the layers next to silent); those that write to the residual stream are divided by the root of twice the number of
    layers (GPT-2), those of DeepStack by 10, so that the tower first learns by its last tokens. Biases are 0 and norms
    1. The position table starts as :func:`position_waves`.
    """

    def __init__(self, config: Qwen3VLConfig, seed: int = 0, attend_text=attention, attend_vision=attention):
        super().__init__()
        self.config = config
        self.text = TextModel(config.text, TrainingOperations, attend=attend_text)
        self.vision = VisionModel(config.vision, TrainingOperations, attend=attend_vision)
        generator = torch.Generator().manual_seed(seed)
        depth = {"text": config.text.layers, "vision": config.vision.layers}
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.dim() == 1:
                    parameter.fill_(float("norm" in name and name.endswith("weight")))
                    continue
                deviation = parameter.shape[1] ** -0.5
                if name.endswith(("attention.output.weight", "attention_output.weight", "down.weight")):
                    deviation /= (2 * depth[name.partition(".")[0]]) ** 0.5
                if "deepstack" in name and name.endswith("second.weight"):
                    deviation /= 10
                parameter.normal_(0, deviation, generator=generator)
            waves = position_waves(config.vision.grid_side, config.vision.hidden_size)
            self.vision.position_table.weight.copy_(waves)

    @property
    def parameter_count(self) -> int:
        """Trainable numbers; the tied head counts once."""
        return sum(parameter.numel() for parameter in self.parameters())


def position_waves(side: int, width: int) -> torch.Tensor:
    """A position table [side * side, width], row by row: half of the width encodes rows, half columns.

    Sines and cosines of wavelengths from 4 to 64 patches, of amplitude 0.5 (Vaswani et al. 2017, section 3.5, with
    wavelengths for pictures; they stay true when the table is interpolated).
    """
    lengths = torch.logspace(math.log10(4), math.log10(64), width // 4)
    angles = 2 * math.pi * torch.arange(side)[:, None] / lengths
    along = 0.5 * torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = along[:, None].expand(side, side, -1), along[None].expand(side, side, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1)


@torch.no_grad()
def whiten_patch_embedding(layer: torch.nn.Linear, pictures: Sequence[np.ndarray], config: VisionConfig) -> None:
    """Start a patch embedding from the principal components of the patches of ``pictures``, uint8 [f, H, W, 3] each.

    Random weights pass on little but mean colours, and textures and outlines are then learned last. Each component is
    divided by the fourth root of its variance: full whitening would drown the colours instead (Coates and Ng 2012,
    section 3). The outputs have a mean square of 1.
    """
    cut = [patches_of(torch.from_numpy(picture), config, still=len(picture) == 1)[0] for picture in pictures]
    patches = torch.cat(cut).double()
    mean = patches.mean(0)
    variance, vectors = torch.linalg.eigh(torch.cov((patches - mean).T))
    kept = slice(-layer.out_features, None)
    scale = variance[kept].clamp(min=LEAST_VARIANCE)
    weight = (vectors[:, kept] / scale**0.25).T / scale.sqrt().mean().sqrt()
    layer.weight.copy_(weight)
    layer.bias.copy_(-weight @ mean)
