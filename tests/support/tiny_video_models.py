"""Tiny random video models with the key names of the real ones, so that the host's own loaders detect them.

Runs in the host's Python. Weights are random and small: such a model paints nothing, but it is a deterministic flow
with the real architecture, which is all that the codec's exactness depends on.
"""

import json

import comfy.ldm.hunyuan_video.model
import comfy.ldm.lightricks.model
import comfy.ldm.wan.model
import comfy.ldm.wan.vae
import comfy.ops
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from safetensors.torch import save_file

OPERATIONS = {"operations": comfy.ops.disable_weight_init}
LTX_VAE_CONFIG = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "latent_channels": 128,
    "blocks": [["res_x", 1], ["compress_all", 1], ["compress_all", 1], ["compress_all", 1], ["res_x", 1]],
    "encoder_base_channels": 8,
    "decoder_base_channels": 8,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "causal_decoder": False,
}


def random_weights(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Matrices of unit gain, norms at 1, biases at 0."""
    torch.manual_seed(seed)
    weights = {}
    for name, value in module.state_dict().items():
        if value.dim() > 1 and value.numel() > max(value.shape):
            weights[name] = torch.randn(value.shape) / value[0].numel() ** 0.5
        elif name.endswith(("weight", "gamma", "std-of-means")):
            weights[name] = torch.ones(value.shape)
        else:
            weights[name] = torch.zeros(value.shape)
    return weights


def wan(channels=16, in_channels=16, seed=1) -> dict[str, torch.Tensor]:
    """Wan 2.1 (16 channels; 36 inputs for image to video as in Wan 2.2 14B) or Wan 2.2 5B (48 channels)."""
    sizes = {"dim": 128, "ffn_dim": 128, "num_heads": 1, "num_layers": 2}
    model = comfy.ldm.wan.model.WanModel(
        model_type="t2v", in_dim=in_channels, out_dim=channels, **sizes, **OPERATIONS
    )  # fmt: skip
    return random_weights(model, seed)


def wan_lora(seed=5) -> dict[str, torch.Tensor]:
    """A LoRA of rank 2 on one layer."""
    torch.manual_seed(seed)
    key = "diffusion_model.blocks.0.ffn.2"
    return {f"{key}.lora_A.weight": torch.randn(2, 128), f"{key}.lora_B.weight": torch.randn(128, 2)}


def wan_vae(seed=2) -> dict[str, torch.Tensor]:
    vae = comfy.ldm.wan.vae.WanVAE(
        dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], image_channels=3, dropout=0.0,
    )  # fmt: skip
    return random_weights(vae, seed)


def ltx(seed=3) -> dict[str, torch.Tensor]:
    model = comfy.ldm.lightricks.model.LTXVModel(
        cross_attention_dim=128, attention_head_dim=4, num_attention_heads=32, num_layers=2, **OPERATIONS
    )
    return random_weights(model, seed)


def ltx_vae(seed=4) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Weights and the metadata that gives the host their shape."""
    weights = random_weights(VideoVAE(0, LTX_VAE_CONFIG), seed)
    return weights, {"config": json.dumps({"vae": LTX_VAE_CONFIG})}


def hunyuan_video(seed=6) -> dict[str, torch.Tensor]:
    model = comfy.ldm.hunyuan_video.model.HunyuanVideo(
        in_channels=16, out_channels=16, vec_in_dim=768, context_in_dim=64, hidden_size=128, mlp_ratio=4.0, num_heads=1,
        depth=1, depth_single_blocks=1, axes_dim=[16, 56, 56], theta=256, patch_size=[1, 2, 2], qkv_bias=True,
        guidance_embed=True, byt5=False, meanflow=False, use_cond_type_embedding=False, vision_in_dim=None,
        meanflow_sum=False, **OPERATIONS,
    )  # fmt: skip
    return random_weights(model, seed)


class BlockVAE:
    """Stands for a VAE whose real architecture has no small form: latents are block means, seen by a random matrix.

    It has what the codec and the stock nodes ask of the host's VAE class, and nothing else.
    """

    def __init__(self, channels: int, spatial: int, temporal: int = 4, seed=8):
        self.latent_channels, self.spatial, self.temporal = channels, spatial, temporal
        self.downscale_index_formula = (temporal, spatial, spatial)
        self.matrix = torch.randn(3, channels, generator=torch.Generator().manual_seed(seed))

    def spacial_compression_encode(self):
        return self.spatial

    def temporal_compression_decode(self):
        return self.temporal

    def encode(self, images):
        frames = torch.cat([images[:1], images[1:].unflatten(0, (-1, self.temporal)).mean(1)])
        blocks = frames.unflatten(1, (-1, self.spatial)).unflatten(3, (-1, self.spatial)).mean((2, 4))
        return (2 * blocks - 1).matmul(self.matrix).movedim(-1, 0)[None]

    def decode(self, latent):
        blocks = (latent[0].movedim(0, -1).matmul(torch.linalg.pinv(self.matrix)) + 1) / 2
        frames = blocks.repeat_interleave(self.spatial, 1).repeat_interleave(self.spatial, 2)
        return torch.cat([frames[:1], frames[1:].repeat_interleave(self.temporal, 0)])[None].clamp(0, 1)


def save_all(folder) -> None:
    """Write the checkpoints where a host with base directory ``folder`` finds them."""
    for kind in ("diffusion_models", "vae", "loras"):
        (folder / "models" / kind).mkdir(parents=True, exist_ok=True)
    save_file(wan(), folder / "models/diffusion_models/tiny_wan_t2v.safetensors")
    save_file(wan(in_channels=36), folder / "models/diffusion_models/tiny_wan_i2v.safetensors")
    save_file(ltx(), folder / "models/diffusion_models/tiny_ltx.safetensors")
    save_file(wan_vae(), folder / "models/vae/tiny_wan_vae.safetensors")
    weights, metadata = ltx_vae()
    save_file(weights, folder / "models/vae/tiny_ltx_vae.safetensors", metadata)
    save_file(wan_lora(), folder / "models/loras/tiny_wan_lora.safetensors")
