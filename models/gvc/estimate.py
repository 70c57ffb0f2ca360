"""What an encoding will take before it starts: model calls, arithmetic, time and memory, computed from geometry.

Nothing here was measured: the figures follow from the shapes of the published models. A call's floating-point
operations are 2 x weights x tokens + 4 x layers x tokens^2 x width (attention); its seconds are those over a GPU's
sustained rate.
"""

from dataclasses import dataclass

import numpy as np

from .gops import Span

ACTIVATION_BYTES, LATENT_BYTES, PICTURE_BYTES = 2, 4, 4
LIVE_WIDTHS = 12
"""Activations of a transformer block that are held at once, in model widths: states, norms, q, k, v, MLP."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A published video model.

    Attributes:
        name: for people; the key in GEOMETRIES is what commands take.
        weights: of the transformer that runs in a step.
        layers, width: of it.
        channels, spatial, temporal: of its latents, see :class:`.video.VideoModel`.
        patch: latent positions a side of a token.
        variants: that the codec can condition it for.
    """

    name: str
    weights: float
    layers: int
    width: int
    channels: int
    spatial: int
    temporal: int
    patch: int
    variants: tuple[str, ...] = ("T2V", "I2V")
    cfg: int = 100

    @property
    def grid(self) -> int:
        """Pictures are padded to multiples of this."""
        return self.patch * self.spatial

    @property
    def fingerprints(self) -> dict:
        """Of no weights."""
        return {}

    def guide_frames(self, variant: str) -> int:
        """See :class:`.video.VideoModel`."""
        return int(self.name.startswith("LTX") and variant == "FLF2V")


ALL = ("T2V", "I2V", "FLF2V")
GEOMETRIES = {
    "wan2.1-1.3b": Geometry("Wan 2.1 1.3B", 1.3e9, 30, 1536, 16, 8, 4, 2, ("T2V",)),
    "wan2.1-14b": Geometry("Wan 2.1 14B", 14e9, 40, 5120, 16, 8, 4, 2, ALL),
    "wan2.2-14b": Geometry("Wan 2.2 A14B (one expert at a time)", 14e9, 40, 5120, 16, 8, 4, 2, ALL),
    "wan2.2-5b": Geometry("Wan 2.2 5B", 5e9, 30, 3072, 48, 16, 4, 2),
    "ltxv-2b": Geometry("LTX-Video 2B", 1.9e9, 28, 2048, 128, 32, 8, 1, ALL),
    "ltxv-13b": Geometry("LTX-Video 13B", 13e9, 48, 4096, 128, 32, 8, 1, ALL),
    "hunyuan": Geometry("HunyuanVideo", 13e9, 60, 3072, 16, 8, 4, 2),
    "hunyuan1.5": Geometry("HunyuanVideo 1.5", 8.3e9, 54, 2048, 32, 16, 4, 1),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one direction, encoding or decoding.

    Attributes:
        gops, calls: model calls are gops x steps x (2 where cfg is not 1).
        tokens: of the longest GOP.
        operations: floating-point operations of all model calls.
        seconds: at the rate given.
        weight_bytes: of the transformer, at the bytes a weight given.
        activation_bytes: of a block over the longest GOP; attention that builds no table is assumed.
        latent_bytes, picture_bytes: of a GOP as float32; the whole video is never held.
        whole_picture_bytes: what the decoded video would take as one IMAGE.
    """

    gops: int
    calls: int
    tokens: int
    operations: float
    seconds: float
    weight_bytes: int
    activation_bytes: int
    latent_bytes: int
    picture_bytes: int
    whole_picture_bytes: int

    @property
    def device_bytes(self) -> int:
        """Least device memory with all weights resident, the VAE left out; offloading trades it for time."""
        return self.weight_bytes + self.activation_bytes + 4 * self.latent_bytes


def estimate(
    model: Geometry,
    spans: tuple[Span, ...],
    size: tuple[int, int],
    steps: int,
    *,
    teraflops: float = 30.0,
    weight_bytes: float = 1.0,
) -> Estimate:
    """Compute what coding takes.

    Args:
        model: its geometry.
        spans: of the GOPs.
        size: (height, width) in pixels.
        steps: model calls of a GOP.
        teraflops: 10^12 operations a second that the GPU sustains; about half of what its maker names.
        weight_bytes: bytes a weight: 2 for bfloat16, 1 for fp8 and Q8, 0.6 for Q4.
    """
    latent = [-(-side // model.grid) * model.grid // model.spatial for side in size]
    area = latent[0] * latent[1] // model.patch**2
    guided = 1 if model.cfg == 100 else 2
    tokens = np.array([span.latent_frames * area for span in spans], np.float64)
    call = 2 * model.weights * tokens + 4 * model.layers * tokens**2 * model.width
    operations = float(call.sum()) * steps * guided
    longest = max(span.latent_frames for span in spans)
    clip = (longest - 1) * model.temporal + 1
    frame = 3 * size[0] * size[1] * PICTURE_BYTES
    return Estimate(
        gops=len(spans),
        calls=len(spans) * steps * guided,
        tokens=int(tokens.max()),
        operations=operations,
        seconds=operations / (teraflops * 1e12),
        weight_bytes=round(model.weights * weight_bytes),
        activation_bytes=int(tokens.max()) * model.width * LIVE_WIDTHS * ACTIVATION_BYTES,
        latent_bytes=longest * model.channels * latent[0] * latent[1] * LATENT_BYTES,
        picture_bytes=clip * frame,
        whole_picture_bytes=sum(span.frames for span in spans) * frame,
    )
