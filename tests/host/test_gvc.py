"""The generative codec in the real host: exact across processes for every family, and the workflows over the API."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from codeclens.models.gvc.codec import SAME_DRIFT
from codeclens.models.gvc.stream import read_stream
from support.comfyui import ROOT, ComfyServer, find_comfyui, host_environment, why_not
from support.pixel_flow import moving_square
from support.workflow import load_workflow, nodes_of, to_prompt

CASES = (
    "wan_t2v", "wan_t2v_cfg3", "wan_t2v_lora", "wan_dual_cfg", "wan_two_experts", "wan_i2v", "wan_flf2v", "wan22_i2v",
    "ltx_t2v", "ltx_i2v", "ltx_flf2v", "hunyuan_t2v", "hunyuan_i2v",
)  # fmt: skip


def work(task: str, folder: Path) -> dict:
    """What tests/support/gvc_worker.py found out, in a process of its own."""
    finished = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "gvc_worker.py"), task, str(folder)],
        cwd=find_comfyui(), env=host_environment(folder / "site"), capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.partition("RESULTS ")[2] or "null")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(encoded, decoded, folder of the streams), the two from processes that have nothing but the files in common."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("gvc")
    return work("encode", folder), work("decode", folder), folder


@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_decodes_the_identical_latent(runs, case):
    encoded, decoded, folder = runs
    assert len(encoded[case]["latents"]) == 2
    assert decoded[case]["latents"] == encoded[case]["latents"]
    assert decoded[case]["pictures"] == encoded[case]["pictures"]
    assert decoded[case]["drift"] == [0.0, 0.0]
    assert read_stream((folder / f"{case}.gvcb").read_bytes()).whole


@pytest.mark.parametrize(
    ("case", "kept"), [("wan22_i2v", [0]), ("hunyuan_i2v", [0]), ("ltx_i2v", [0]), ("ltx_flf2v", [0, 2])]
)
def test_latent_frames_that_the_host_masks_cost_no_bits(runs, case, kept):
    for weights in runs[0][case]["weights"]:
        assert [frame for frame, weight in enumerate(weights) if weight == 0] == kept


def test_settings_of_the_model_reach_the_stream(runs):
    folder = runs[2]
    headers = {case: read_stream((folder / f"{case}.gvcb").read_bytes()).header for case in CASES}
    assert headers["wan_t2v_cfg3"].cfg == 300 and headers["wan_t2v"].cfg == 100
    assert headers["wan_two_experts"].switch_sigma == round(0.875 * 65535)
    prints = [headers[case].texts["model_fingerprint"] for case in ("wan_t2v", "wan_t2v_lora", "wan_two_experts")]
    assert len(set(prints)) == 3
    assert headers["wan_t2v"].texts["model"] == "WAN21" and headers["ltx_t2v"].texts["model"] == "LTXV"
    assert (headers["wan22_i2v"].channels, headers["ltx_t2v"].channels) == (48, 128)


@pytest.mark.parametrize("wrong", ["without LoRA", "other prompt"])
def test_a_wrong_lora_or_prompt_shows_as_drift(runs, wrong):
    assert max(runs[1][wrong]["drift"]) > SAME_DRIFT


def test_models_that_cannot_be_used_are_refused(runs):
    refused = runs[1]["refusals"]
    assert "takes no image, so I2V would ignore its pictures" in refused["t2v checkpoint for I2V"]
    assert "latents of 48 channels; WAN21 takes 16" in refused["other VAE"]
    assert "HunyuanVideo has no FLF2V" in refused["FLF2V for HunyuanVideo"]
    assert "WAN21 is not a rectified-flow model" in refused["not a flow"]


TEXT_NODE = """
import torch


class TinyText:
    CATEGORY, FUNCTION, RETURN_TYPES = "tests", "run", ("CONDITIONING",)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text):
        generator = torch.Generator().manual_seed(len(text))
        return ([[torch.randn(1, 3, 4096, generator=generator), {}]],)


NODE_CLASS_MAPPINGS = {"TinyText": TinyText}
"""
"""A text encoder of no size: the prompt's length is its meaning."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A host with tiny video models, a text encoder of no size, and clip.mkv: 9 frames with a cut after 5."""
    if reason := why_not():
        pytest.skip(reason)
    server = ComfyServer(tmp_path_factory.mktemp("gvc_host"))
    work("models", server.base)
    (server.base / "custom_nodes" / "tiny_text.py").write_text(TEXT_NODE)
    write_video(server.input / "clip.mkv", np.concatenate([moving_square(5, 32, 32), 255 - moving_square(4, 32, 32)]))
    server.start()
    yield server
    server.stop()


def write_video(path: Path, frames: np.ndarray) -> None:
    """Lossless FFV1 at 24000/1001 frames per second, and a tone."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(24000, 1001))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        track = container.add_stream("pcm_s16le", rate=48000, layout="mono")
        tone = (20000 * np.sin(np.arange(48000 * len(frames) // 24) / 20)).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate = 48000
        for packet in [*track.encode(sound), *track.encode()]:
            container.mux(packet)
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())


def tiny_prompt(server, name: str, **encoding) -> dict:
    """The shipped workflow's prompt on the tiny models and the short clip."""
    prompt = to_prompt(load_workflow(name), server.get("/object_info"))
    image_to_video = "i2v" if "i2v" in name or "flf2v" in name else "t2v"
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "UNETLoader":
            inputs["unet_name"] = f"tiny_wan_{image_to_video}.safetensors"
        elif node["class_type"] == "VAELoader":
            inputs["vae_name"] = "tiny_wan_vae.safetensors"
        elif node["class_type"] == "LoadVideo":
            inputs["file"] = "clip.mkv"
        elif node["class_type"] == "CLIPTextEncode":
            node["class_type"] = "TinyText"
            del inputs["clip"]
        elif node["class_type"] == "CodecLensEncodeVideoGVC":
            for key in [key for key in inputs if key.startswith("target.")]:
                del inputs[key]
            inputs |= {"target": "bits per pixel", "target.bits_per_pixel": 1.0, "target.still_quality": 80}
            inputs |= {"steps": 3, "gop_frames": 5, "width": 32, "height": 32, **encoding}
    prompt = {number: node for number, node in prompt.items() if node["class_type"] != "CLIPLoader"}
    for kind, slot in (("EncodeVideoGVC", 2), ("CompareVideo", 3), ("DecodeVideoGVC", 2)):
        for number in nodes_of(prompt, f"CodecLens{kind}"):
            prompt[f"show {kind}"] = {"class_type": "PreviewAny", "inputs": {"source": [number, slot]}}
    return prompt


def shown(result, prompt, source: str, slot: int) -> str:
    """The text that a PreviewAny shows of a node's output."""
    (number,) = [n for n in nodes_of(prompt, "PreviewAny") if prompt[n]["inputs"]["source"] == [source, slot]]
    return result.outputs[number]["text"][0]


@pytest.mark.parametrize("name", ["gvc_t2v.json", "gvc_i2v.json", "gvc_flf2v.json"])
def test_the_shipped_workflows_encode_and_decode(server, name):
    prompt = tiny_prompt(server, name, prompt="a square", note=name)
    result = server.run(prompt)
    assert result.error is None
    (encode,), (decode,), (compare,), (save,) = (
        nodes_of(prompt, f"CodecLens{kind}")
        for kind in ("EncodeVideoGVC", "DecodeVideoGVC", "CompareVideo", "SaveStream")
    )
    report = json.loads(shown(result, prompt, encode, 2))
    compared = json.loads(shown(result, prompt, compare, 3))
    assert float(shown(result, prompt, decode, 1)) == 0.0
    assert report["frames"] == compared["frames"] == 9 and report["gop_frames"] == [5, 4]
    assert report["psnr"] == compared["psnr"] and report["bytes"] == compared["bytes"]
    assert report["frames_per_second"] == pytest.approx(24000 / 1001, abs=1e-4)
    folder, _, size = result.outputs[save]["text"][0].rpartition(": ")
    data = (server.output / folder).read_bytes()
    assert size == f"{len(data)} bytes" and len(data) == report["bytes"]
    assert read_stream(data).header.texts["prompt"] == "a square"
    assert result.progress[encode][-1] == (6, 6)
    assert any(text.startswith(f"about {report['bytes_expected'] / 1000:.1f} kB") for text in result.texts[encode])
    assert report["bytes"] == pytest.approx(report["bytes_expected"], rel=0.15)
    assert not report["variable_rate"] and report["sound"] and report["bytes_sound"] > 500
    saved = max((server.output / "gvc").glob("decoded*"), key=lambda path: path.stat().st_mtime)
    with av.open(str(saved)) as container:
        assert container.streams.video[0].codec.name == "h264" and container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 9
    assert not list((server.output / "gvc_unfinished").iterdir())


def test_a_saved_stream_is_loaded_and_decoded_with_its_own_prompt(server):
    encoding = tiny_prompt(server, "gvc_t2v.json", prompt="four")
    (encode,) = nodes_of(encoding, "CodecLensEncodeVideoGVC")
    positive, _ = nodes_of(encoding, "TinyText")
    encoding[positive]["inputs"]["text"] = "four"
    (save,) = nodes_of(encoding, "CodecLensSaveStream")
    kept = {number: node for number, node in encoding.items() if node["class_type"] in
            ("UNETLoader", "VAELoader", "LoadVideo", "TinyText", "CFGGuider")}  # fmt: skip
    result = server.run({**kept, encode: encoding[encode], save: encoding[save]})
    assert result.error is None
    written = server.output / result.outputs[save]["text"][0].rpartition(": ")[0]
    (server.input / "sent.gvcb").write_bytes(written.read_bytes())
    decoding = tiny_prompt(server, "gvc_decode.json")
    (load,), (decode,) = nodes_of(decoding, "CodecLensLoadStream"), nodes_of(decoding, "CodecLensDecodeVideoGVC")
    decoding[load]["inputs"]["file"] = "sent.gvcb"
    result = server.run(decoding)
    assert result.error is None
    report = json.loads(shown(result, decoding, decode, 2))
    assert report["drift_per_gop"] == [0.0, 0.0] and report["warnings"] == []
    (info,) = nodes_of(decoding, "CodecLensStreamInfo")
    assert "prompt: four" in result.outputs[info]["text"][0]

    positive = decoding[nodes_of(decoding, "CFGGuider")[0]]["inputs"]["positive"][0]
    decoding[positive]["inputs"]["text"] = "quite another prompt"
    report = json.loads(shown(server.run(decoding), decoding, decode, 2))
    assert "is not the one that the stream was encoded with" in report["warnings"][0]
    assert report["warnings"][1].startswith("the conditioning fingerprint is ")

    decoding[load]["inputs"]["file"] = "../models/vae/tiny_wan_vae.safetensors"
    assert "Value not in list" in server.run(decoding).error
    decoding[load]["inputs"]["file"] = "sent.gvcb"
    damaged = bytearray(written.read_bytes())
    damaged[-30] ^= 4
    (server.input / "sent.gvcb").write_bytes(damaged)
    assert "sent.gvcb: the checksum of GOP 1 is " in server.run(decoding).error
    (server.input / "sent.gvcb").write_bytes(written.read_bytes()[:-30])
    assert "sent.gvcb: the stream ends at byte " in server.run(decoding).error
    decoding[load]["inputs"]["partial"] = True
    report = json.loads(shown(server.run(decoding), decoding, decode, 2))
    assert report["frames"] == 5 and "not whole: 5 of 9 frames" in report["warnings"][-1]


def test_a_cancelled_encoding_goes_on_where_it_stopped(server):
    prompt = tiny_prompt(server, "gvc_t2v.json", steps=100, seed=7)
    (encode,) = nodes_of(prompt, "CodecLensEncodeVideoGVC")
    run = server.queue(prompt)
    assert run.wait(lambda result: any(done > 105 for done, _ in result.progress.get(encode, [])))
    server.post("/interrupt", {})
    result = run.finish(60)
    assert result.interrupted
    (left,) = (server.output / "gvc_unfinished").glob("*.gvcb")
    assert [gop.frames for gop in read_stream(left.read_bytes(), partial=True).gops] == [5]
    again = server.run(prompt)
    assert again.error is None
    steps = [done for done, total in again.progress[encode] if total == 200 and done]
    assert min(steps) >= 100 and not list((server.output / "gvc_unfinished").iterdir())


def test_a_model_for_text_is_not_fed_pictures(server):
    prompt = tiny_prompt(server, "gvc_i2v.json")
    for number in nodes_of(prompt, "UNETLoader"):
        prompt[number]["inputs"]["unet_name"] = "tiny_wan_t2v.safetensors"
    assert "takes no image, so I2V would ignore its pictures" in server.run(prompt).error
