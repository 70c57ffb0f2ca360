"""A video model for tests: latents are shuffled pixels, and the flow's posterior mean is in closed form."""

import numpy as np
import torch

VARIANCE = 0.03


class PixelFlow:
    """Pixels in 4x4 blocks as channels, each latent frame the mean of its pixel frames, data ~ N(mean, VARIANCE).

    The prior's mean is the first picture where one is given, else mid-grey: conditioning matters, as in a real model.
    With ``guides`` the last picture is appended as a latent frame that is kept, as LTX does.
    ``alter``, where it is set, is applied to every estimate: a decoder that is not quite the encoder.
    """

    name, channels, spatial, temporal, grid, cfg = "pixel flow", 48, 4, 4, 8, 100

    def __init__(self, guides=False, fingerprint=b"pixels!!"):
        self.guides = guides
        self.fingerprints = {"model_fingerprint": fingerprint}
        self.walked = 0
        self.alter = None

    def guide_frames(self, variant):
        return int(self.guides and variant == "FLF2V")

    def to_latent(self, rgb):
        frames = torch.from_numpy(rgb).float() / 127.5 - 1
        pooled = torch.cat([frames[:1], frames[1:].unflatten(0, (-1, 4)).mean(1)])
        blocks = pooled.unflatten(1, (-1, 4)).unflatten(3, (-1, 4))
        return blocks.permute(2, 4, 5, 0, 1, 3).flatten(0, 2).contiguous()

    def to_pixels(self, latent):
        frames = latent.unflatten(0, (4, 4, 3)).permute(3, 4, 0, 5, 1, 2).flatten(1, 2).flatten(2, 3)
        repeated = torch.cat([frames[:1], frames[1:].repeat_interleave(4, 0)])
        return ((repeated + 1) * 127.5).round().clamp(0, 255).byte().numpy()

    def condition(self, shape, first, last):
        frames = (shape[0] - 1) // 4 + 1
        mean = torch.zeros(self.channels, frames, shape[1] // 4, shape[2] // 4)
        if first is not None:
            mean += self.to_latent(first[None])
        if not self.guides or last is None:
            return (mean, torch.ones(1)), None
        mask = torch.ones(1, frames + 1, 1, 1)
        mask[:, -1] = 0
        return (torch.cat([mean, self.to_latent(last[None])], 1), mask), mask

    def walk(self, trajectory, conditioned, progress):
        mean, mask = conditioned

        def denoise(x, sigma):
            self.walked += 1
            a = 1 - sigma
            denoised = mean + mask * (a * VARIANCE / (a * a * VARIANCE + sigma * sigma) * (x - a * mean))
            return denoised if self.alter is None else self.alter(denoised)

        trajectory.begin(torch.device("cpu"))
        trajectory.advance(denoise, progress=progress)


def moving_square(frames: int, height: int = 36, width: int = 52, start: int = 0) -> np.ndarray:
    """uint8 [T, H, W, 3]: a bright square that walks over a gradient."""
    ramp = np.linspace(40, 160, width)[None, :, None] * np.array([1.0, 0.8, 0.6])
    video = np.repeat(np.repeat(ramp, height, 0)[None], frames, 0)
    for frame in range(frames):
        left = (start + frame) % (width - 10)
        video[frame, 10:20, left : left + 10] = 230
    return video.astype(np.uint8)
