"""Encodes or decodes small clips with real guiders of the host and prints what came out, as JSON.

Run by tests/host/test_gvc.py in the host's Python: ``gvc_worker.py encode|decode|models FOLDER``. Encoding writes
CASE.gvcb files; decoding, in another process, has nothing but those files and the same models. ``models`` saves tiny
checkpoints for a host whose base directory is FOLDER.
"""

import asyncio
import hashlib
import importlib.util
import json
import sys
from fractions import Fraction
from pathlib import Path

task, folder = sys.argv[1], Path(sys.argv[2])
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, str(Path.cwd()))
TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy_extras.nodes_custom_sampler as custom_sampler  # noqa: E402
import comfy_extras.nodes_hunyuan as nodes_hunyuan  # noqa: E402
import comfy_extras.nodes_lt as nodes_lt  # noqa: E402
import comfy_extras.nodes_wan as nodes_wan  # noqa: E402
import numpy as np  # noqa: E402
import support.tiny_video_models as tiny  # noqa: E402
import torch  # noqa: E402

import nodes  # noqa: E402

spec = importlib.util.spec_from_file_location(
    "pack", TESTS.parent / "__init__.py", submodule_search_locations=[str(TESTS.parent)]
)
sys.modules["pack"] = importlib.util.module_from_spec(spec)

from pack.models.gvc.gops import cut_clips, plan_gops  # noqa: E402
from pack.models.gvc.stream import read_stream, write_header  # noqa: E402
from pack.models.gvc.video import Settings, decode_video, encode_video, make_header  # noqa: E402
from pack.nodes.gvc_model import HostModel, InputError  # noqa: E402


def text(dimension=4096, tokens=3, seed=0):
    """A conditioning, as a text encoder would give it."""
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.randn(1, 768, generator=generator)
    values = {"pooled_output": pooled, "attention_mask": torch.ones(1, tokens)}
    return [[torch.randn(1, tokens, dimension, generator=generator), values]]


def guider(weights, cfg=1.0, dimension=4096, lora=None, seed=0):
    patcher = comfy.sd.load_diffusion_model_state_dict(dict(weights))
    if lora is not None:
        patcher, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    made = comfy.samplers.CFGGuider(patcher)
    made.set_conds(text(dimension, seed=seed), text(dimension, seed=100 + seed))
    made.set_cfg(cfg)
    return made


def dual(weights):
    made = custom_sampler.Guider_DualCFG(comfy.sd.load_diffusion_model_state_dict(dict(weights)))
    made.set_conds(text(seed=1), text(seed=2), text(seed=3))
    made.set_cfg(2.0, 1.5)
    return made


def models() -> dict:
    """(model, variant, pixel size, GOP length) by case."""
    wan, wan_i2v, ltx = tiny.wan(), tiny.wan(in_channels=36), tiny.ltx()
    wan_vae = comfy.sd.VAE(sd=tiny.wan_vae())
    weights, metadata = tiny.ltx_vae()
    ltx_vae = comfy.sd.VAE(sd=weights, metadata=metadata)
    second, blocks, ltx_blocks = tiny.wan(seed=11), tiny.BlockVAE(16, 8), tiny.BlockVAE(128, 32, 8)
    hunyuan = tiny.hunyuan_video()
    return {
        "wan_t2v": (HostModel(guider(wan), wan_vae), "T2V", (24, 40), 5),
        "wan_t2v_cfg3": (HostModel(guider(wan, 3.0), blocks), "T2V", (32, 32), 5),
        "wan_t2v_lora": (HostModel(guider(wan, lora=tiny.wan_lora()), blocks), "T2V", (32, 32), 5),
        "wan_dual_cfg": (HostModel(dual(wan), blocks), "T2V", (32, 32), 5),
        "wan_two_experts": (HostModel(guider(wan), blocks, guider_low=guider(second)), "T2V", (32, 32), 5),
        "wan_i2v": (HostModel(guider(wan_i2v), blocks), "I2V", (32, 48), 5),
        "wan_flf2v": (HostModel(guider(wan_i2v), wan_vae), "FLF2V", (32, 32), 5),
        "wan22_i2v": (HostModel(guider(tiny.wan(48, 48)), tiny.BlockVAE(48, 16)), "I2V", (64, 64), 5),
        "ltx_t2v": (HostModel(guider(ltx), ltx_blocks), "T2V", (64, 64), 9),
        "ltx_i2v": (HostModel(guider(ltx), ltx_blocks), "I2V", (64, 64), 9),
        "ltx_flf2v": (HostModel(guider(ltx), ltx_vae), "FLF2V", (64, 64), 9),
        "hunyuan_t2v": (HostModel(guider(hunyuan, dimension=64), blocks), "T2V", (32, 32), 5),
        "hunyuan_i2v": (HostModel(guider(hunyuan, dimension=64), blocks), "I2V", (32, 32), 5),
    }


def clip(size, frames):
    """uint8 [frames, H, W, 3]: a square that walks over a gradient."""
    video = np.linspace(30, 180, size[1])[None, None, :, None] * np.ones((frames, size[0], 1, 3))
    for frame in range(frames):
        video[frame, 8:20, 4 + frame : 16 + frame] = (220, 120, 40)
    return video.astype(np.uint8)


def digest(array) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def encode(model, variant, size, length, seed=42):
    model.check_variant(variant)
    switch = 0.875 if model.guider_low is not None else 0.0
    frame_bits = size[0] * size[1] * length / ((length - 1) // model.temporal + 1)
    settings = Settings(variant, frame_bits, 4, image_codec="PNG", switch_sigma=switch, seed=seed)
    video = clip(size, 2 * length - 1)
    spans = plan_gops(len(video), length, model.temporal, variant != "T2V")
    header = make_header(model, settings, spans, size, Fraction(16))
    coded = list(encode_video(model, header, settings, spans, cut_clips([video], spans)))
    return write_header(header) + b"".join(gop.record for gop in coded), coded


def refusals() -> dict:
    """The refusals of models that cannot be used."""
    wan, blocks = tiny.wan(), tiny.BlockVAE(16, 8)
    refusals = {}

    def attempt(name, action):
        try:
            action()
        except InputError as error:
            refusals[name] = str(error)

    plain = HostModel(guider(wan), blocks)
    attempt("t2v checkpoint for I2V", lambda: plain.check_variant("I2V"))
    attempt("other VAE", lambda: HostModel(guider(wan), tiny.BlockVAE(48, 16)))
    hunyuan = HostModel(guider(tiny.hunyuan_video(), dimension=64), blocks)
    attempt("FLF2V for HunyuanVideo", lambda: hunyuan.check_variant("FLF2V"))
    discrete = guider(wan)
    other = type("EpsSampling", (comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS), {})
    discrete.model_patcher.add_object_patch("model_sampling", other())
    attempt("not a flow", lambda: HostModel(discrete, blocks))
    return refusals


async def run():
    if task == "models":
        tiny.save_all(folder)
        return
    for module in (nodes_hunyuan, nodes_lt, nodes_wan):
        for node in await (await module.comfy_entrypoint()).get_node_list():
            nodes.NODE_CLASS_MAPPINGS[node.GET_SCHEMA().node_id] = node
    results = {}
    for name, (model, variant, size, length) in models().items():
        path = folder / f"{name}.gvcb"
        if task == "encode":
            data, coded = encode(model, variant, size, length)
            path.write_bytes(data)
            results[name] = {
                "latents": [digest(gop.latent) for gop in coded],
                "pictures": [digest(gop.pictures) for gop in coded],
                "weights": [gop.gop.weights.tolist() for gop in coded],
            }
        else:
            stream = read_stream(path.read_bytes())
            found = list(decode_video(model, stream))
            results[name] = {
                "latents": [digest(latent) for _, latent, _ in found],
                "pictures": [digest(pictures) for pictures, _, _ in found],
                "drift": [drift for _, _, drift in found],
            }
    if task == "decode":
        stream = read_stream((folder / "wan_t2v_lora.gvcb").read_bytes())
        blocks = tiny.BlockVAE(16, 8)
        wrong = {"without LoRA": guider(tiny.wan()), "other prompt": guider(tiny.wan(), lora=tiny.wan_lora(), seed=7)}
        for name, one in wrong.items():
            results[name] = {"drift": [drift for _, _, drift in decode_video(HostModel(one, blocks), stream)]}
        results["refusals"] = refusals()
    print("RESULTS " + json.dumps(results))


with torch.inference_mode():
    asyncio.run(run())
