"""A video model of the host as the codec's protocol: guiders, a VAE and the stock conditioning nodes.

Sampling goes through ``guider.sample`` with a :class:`CodecSampler`, the layer where every model of the host returns
its estimate of x0, so that LoRA, offloading, GGUF loaders, ControlNet and guiders of any kind work as they do
elsewhere. The target is known to the trajectory alone; what the guider sees as latent image and mask is what a decoder
has too.
"""

import copy
import hashlib

import comfy.clip_vision
import comfy.latent_formats
import comfy.model_sampling
import comfy.samplers
import numpy as np
import torch

import nodes as host_nodes

from ..models.errors import InputError
from ..models.gvc.codec import Trajectory
from ..models.gvc.flow import SIGMA_ONE
from ..models.gvc.stream import Header
from . import host


class CodecSampler(comfy.samplers.Sampler):
    """Walks a trajectory with whatever model the guider hands over, up to step ``until``."""

    def __init__(self, trajectory: Trajectory, until: int, progress):
        self.trajectory, self.until, self.progress = trajectory, until, progress

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        model = comfy.samplers.KSamplerX0Inpaint(model_wrap, sigmas)
        model.latent_image, model.noise = latent_image, noise
        trajectory = self.trajectory
        if trajectory.x is None:
            noise_scale = getattr(model_wrap.inner_model.model_sampling, "noise_scale", 1.0)
            trajectory.begin(noise.device, noise_scale, latent_image[0])
        else:
            trajectory.x = trajectory.x.to(noise.device)

        def denoise(x, sigma):
            denoised = model(x[None], x.new_full((1,), sigma), denoise_mask=denoise_mask, **extra_args).float()
            if callback is not None:
                callback(trajectory.step, denoised, x[None], self.until)
            return denoised[0]

        return trajectory.advance(denoise, self.until, self.progress)[None]


class HostModel:
    """A guider's model as :class:`codeclens.models.gvc.video.VideoModel`.

    Attributes:
        guider: samples; ``guider_low`` takes over below ``switch_sigma`` (Wan 2.2's two experts).
    """

    def __init__(self, guider, vae, clip_vision=None, guider_low=None):
        """Raises InputError, naming the model, for one that is not a rectified flow over video latents."""
        self.guider, self.guider_low, self.vae, self.clip_vision = guider, guider_low, vae, clip_vision
        for one in filter(None, (guider, guider_low)):
            check_flow(one.model_patcher)
        self.model = guider.model_patcher.model
        latent_format = self.model.latent_format
        self.name = type(self.model).__name__
        self.channels = latent_format.latent_channels
        self.spatial = vae.spacial_compression_encode()
        self.temporal = vae.temporal_compression_decode() or latent_format.temporal_downscale_ratio
        if vae.latent_channels != self.channels:
            raise InputError(
                f"the VAE makes latents of {vae.latent_channels} channels; {self.name} takes {self.channels}; load the "
                "VAE that belongs to the model"
            )
        self.family = next((family for family in FAMILIES if isinstance(latent_format, family.latent_format)), Family)
        self.grid = self.family.patch * self.spatial
        self.cfg = round(100 * guider.cfg)
        self.fingerprints = {
            "model_fingerprint": model_fingerprint(*(g.model_patcher for g in (guider, guider_low) if g)),
            "conditioning_fingerprint": conditioning_fingerprint(*(g for g in (guider, guider_low) if g)),
        }

    def check_variant(self, variant: str) -> None:
        """Raise InputError where the model cannot be conditioned as ``variant`` needs."""
        if variant not in self.family.variants:
            raise InputError(
                f"{self.name} has no {variant} here; it has {' and '.join(self.family.variants)} "
                "(I2V and FLF2V need a model family whose stock image conditioning node is known)"
            )
        if variant != "T2V" and not self.family.takes_image(self.model):
            raise InputError(
                f"this {self.name} checkpoint takes no image, so {variant} would ignore its pictures; load the "
                "image-to-video checkpoint of the model, or use T2V"
            )

    def guide_frames(self, variant: str) -> int:
        return self.family.guide_frames.get(variant, 0)

    def to_latent(self, rgb: np.ndarray) -> torch.Tensor:
        return self.model.process_latent_in(self.vae.encode(host.images(rgb)).float())[0]

    def to_pixels(self, latent: torch.Tensor) -> np.ndarray:
        samples = self.model.process_latent_out(latent[None]).to(host.latent_device())
        # LTX's decoder adds noise from the global generator; the picture that a chain goes on from must not change.
        with torch.random.fork_rng():
            torch.manual_seed(0)
            pictures = self.vae.decode(samples)
        return host.pixels(pictures.reshape(-1, *pictures.shape[-3:]))

    def condition(self, shape, first, last):
        frames, height, width = shape
        pictures = {"first": first, "last": last}
        stills = {name: host.images(picture[None]) for name, picture in pictures.items() if picture is not None}
        vision = {}
        if self.clip_vision is not None:
            vision = {name: self.clip_vision.encode_image(still, crop=False) for name, still in stills.items()}
        if stills:
            size = {"vae": self.vae, "width": width, "height": height, "length": frames, "batch_size": 1}
            added, latent = self.family.condition(self.model, size, stills, vision)
        else:
            grid = (frames - 1) // self.temporal + 1, height // self.spatial, width // self.spatial
            device = host.latent_device()
            added, latent = {}, {"samples": torch.zeros(1, self.channels, *grid, device=device)}
        mask = latent.get("noise_mask")
        return (added, latent), None if mask is None else mask[0]

    def walk(self, trajectory: Trajectory, conditioned, progress) -> None:
        header: Header = trajectory.header
        added, latent = conditioned
        levels = [step.sigma / SIGMA_ONE for step in header.steps]
        switch = header.switch_sigma / SIGMA_ONE
        high = sum(level >= switch for level in levels) if self.guider_low is not None else len(levels)
        for guider, start, until in ((self.guider, 0, high), (self.guider_low, high, len(levels))):
            if start == until:
                continue
            sigmas = torch.tensor([*levels, 0.0][start : until + 1])
            with_stills(guider, added).sample(
                trajectory.noise[None],
                latent["samples"],
                CodecSampler(trajectory, until, progress),
                sigmas,
                denoise_mask=latent.get("noise_mask"),
                disable_pbar=True,
                seed=header.seed,
            )


def check_flow(patcher) -> None:
    """Raise InputError, naming the model, unless it is a rectified flow over video latents."""
    sampling, name = patcher.get_model_object("model_sampling"), type(patcher.model).__name__
    kinds = [kind.__name__ for kind in type(sampling).__mro__ if kind.__module__ == comfy.model_sampling.__name__]
    flow = isinstance(sampling, comfy.model_sampling.CONST)
    if not flow or isinstance(sampling, comfy.model_sampling.IMG_TO_IMG_FLOW):
        raise InputError(
            f"{name} is not a rectified-flow model (it samples as {' and '.join(kinds)}); the codec works with flow "
            "models such as Wan, LTX and HunyuanVideo"
        )
    latent_format = patcher.model.latent_format
    if latent_format.latent_dimensions != 3:
        raise InputError(f"{name} makes images, not video; load a video model such as Wan, LTX or HunyuanVideo")
    if isinstance(latent_format, comfy.latent_formats.LTXAV):
        raise InputError(f"{name} samples sound along with pictures, which a GVCB stream does not hold; load LTXV")


def with_stills(guider, added: dict):
    """A copy of the guider whose every conditioning also has what the stock node added."""
    conditioned = copy.copy(guider)
    conditioned.original_conds = {
        name: [{**cond, **added} for cond in conds] for name, conds in guider.original_conds.items()
    }
    return conditioned


# ============================================================================================ stock conditioning


def stock_node(name: str, **inputs):
    """Outputs of a V3 node of the host."""
    return host_nodes.NODE_CLASS_MAPPINGS[name].execute(**inputs).result


def blank() -> list:
    """A conditioning that holds nothing, to see what a stock node adds to it."""
    return [[torch.zeros(1, 1, 1), {}]]


class Family:
    """How a model family takes pictures. The base class is any flow model: text to video only."""

    latent_format: type = object
    patch = 2
    variants = ("T2V",)
    guide_frames: dict[str, int] = {}

    @staticmethod
    def takes_image(model) -> bool:
        """Whether the checkpoint has inputs for a picture."""
        return True

    @staticmethod
    def condition(model, size: dict, stills: dict, vision: dict) -> tuple[dict, dict]:
        """What the stock node adds to a conditioning, and its LATENT.

        Args:
            model: the host's BaseModel.
            size: vae, width, height, length and batch_size, as most stock nodes take them.
            stills: IMAGEs by "first" and "last".
            vision: CLIP vision outputs by the same names, empty without a CLIP vision model.
        """
        raise NotImplementedError


def has_concat_channels(model) -> bool:
    """Whether the model concatenates a conditioning latent: its first layer is wider than its latent."""
    noise = torch.zeros(1, model.latent_format.latent_channels, 1, 2, 2)
    return model.concat_cond(noise=noise, device=noise.device) is not None


class Wan21(Family):
    latent_format = comfy.latent_formats.Wan21
    variants = ("T2V", "I2V", "FLF2V")
    takes_image = staticmethod(has_concat_channels)

    @staticmethod
    def condition(model, size, stills, vision):
        common = {"positive": blank(), "negative": blank(), **size, "start_image": stills["first"]}
        if "last" in stills:
            positive, _, latent = stock_node(
                "WanFirstLastFrameToVideo",
                **common,
                end_image=stills["last"],
                clip_vision_start_image=vision.get("first"),
                clip_vision_end_image=vision.get("last"),
            )
        else:
            positive, _, latent = stock_node("WanImageToVideo", **common, clip_vision_output=vision.get("first"))
        return positive[0][1], latent


class Wan22(Family):
    latent_format = comfy.latent_formats.Wan22
    variants = ("T2V", "I2V")

    @staticmethod
    def condition(model, size, stills, vision):
        (latent,) = stock_node("Wan22ImageToVideoLatent", **size, start_image=stills["first"])
        return {}, latent


class LTXV(Family):
    latent_format = comfy.latent_formats.LTXV
    patch = 1
    variants = ("T2V", "I2V", "FLF2V")
    guide_frames = {"FLF2V": 1}

    @staticmethod
    def condition(model, size, stills, vision):
        positive, negative, latent = stock_node(
            "LTXVImgToVideo", positive=blank(), negative=blank(), image=stills["first"], strength=1.0, **size
        )
        if "last" in stills:
            positive, negative, latent = stock_node(
                "LTXVAddGuide",
                positive=positive,
                negative=negative,
                vae=size["vae"],
                latent=latent,
                image=stills["last"],
                frame_idx=-1,
                strength=1.0,
            )
        return positive[0][1], latent


class HunyuanVideo(Family):
    """Checkpoints with 33 input channels concatenate the picture, those with 16 replace the first latent frame."""

    latent_format = comfy.latent_formats.HunyuanVideo
    variants = ("T2V", "I2V")

    @staticmethod
    def condition(model, size, stills, vision):
        guidance = "v1 (concat)" if model.concat_keys else "v2 (replace)"
        positive, latent = stock_node(
            "HunyuanImageToVideo", positive=blank(), guidance_type=guidance, start_image=stills["first"], **size
        )
        return positive[0][1], latent


class HunyuanVideo15(Family):
    latent_format = comfy.latent_formats.HunyuanVideo15
    patch = 1
    variants = ("T2V", "I2V")
    takes_image = staticmethod(has_concat_channels)

    @staticmethod
    def condition(model, size, stills, vision):
        positive, _, latent = stock_node(
            "HunyuanVideo15ImageToVideo",
            positive=blank(),
            negative=blank(),
            **size,
            start_image=stills["first"],
            clip_vision_output=vision.get("first"),
        )
        return positive[0][1], latent


# Wan 2.2's latent format is a subclass of Wan 2.1's, so it is asked first.
FAMILIES = (Wan22, Wan21, LTXV, HunyuanVideo15, HunyuanVideo)


# ============================================================================================ fingerprints


def model_fingerprint(*patchers) -> bytes:
    """8 bytes that change with the architecture, the weights (some of every eighth) and every patch such as LoRA."""
    digest = hashlib.sha256()
    for patcher in patchers:
        state = patcher.model.diffusion_model.state_dict()
        for number, (key, weight) in enumerate(sorted(state.items())):
            digest.update(f"{key} {tuple(weight.shape)}".encode())
            if number % 8 == 0:
                original = patcher.backup.get(f"diffusion_model.{key}")
                weight = weight if original is None else original.weight
                digest.update(weight.flatten()[:64].float().cpu().numpy().tobytes())
        for key, patches in sorted(patcher.patches.items(), key=str):
            digest.update(f"{key} {[patch[0] for patch in patches]}".encode())
    return digest.digest()[:8]


def conditioning_fingerprint(*guiders) -> bytes:
    """8 bytes that change with the guider's kind and scales and everything in its conditionings."""
    digest = hashlib.sha256()
    for guider in guiders:
        scales = [getattr(guider, name, None) for name in ("cfg", "cfg1", "cfg2", "nested")]
        digest.update(f"{type(guider).__name__} {scales}".encode())
        for name, conds in sorted(guider.original_conds.items()):
            for cond in conds:
                for key, value in sorted(cond.items()):
                    if isinstance(value, torch.Tensor):
                        digest.update(f"{name} {key} {tuple(value.shape)}".encode())
                        digest.update(value.float().cpu().numpy().tobytes())
                    elif isinstance(value, (int, float, str, bool)):
                        digest.update(f"{name} {key} {value}".encode())
    return digest.digest()[:8]
