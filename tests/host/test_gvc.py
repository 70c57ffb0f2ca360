"""The generative codec in the real host: exact across processes for every family, and the workflows over the API."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from codeclens.models.gvc.codec import SAME_DRIFT
from codeclens.models.gvc.stream import read_stream
from support.comfyui import ROOT, find_comfyui, host_environment, why_not

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
    return json.loads(finished.stdout.split("RESULTS ")[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(encoded, decoded, folder of the streams), the two from processes that share nothing but the files."""
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


def test_models_that_cannot_be_used_are_told_why(runs):
    told = runs[1]["refusals"]
    assert "takes no image, so I2V would ignore its pictures" in told["t2v checkpoint for I2V"]
    assert "latents of 48 channels; WAN21 takes 16" in told["other VAE"]
    assert "HunyuanVideo has no FLF2V" in told["FLF2V for HunyuanVideo"]
    assert "WAN21 is not a rectified-flow model" in told["not a flow"]
