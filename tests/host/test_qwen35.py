"""Qwen3.5 in the real host, and models that the host itself has saved."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import Conversation
from codeclens.models.code.encoding import encode_images
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.placement import compute_dtype
from codeclens.models.qwen.preprocessing import fit_picture
from codeclens.models.qwen.safetensors import read_header
from codeclens.models.qwen.trace import trace
from PIL import Image
from safetensors.torch import save_file
from support.comfyui import ROOT, find_comfyui, host_environment, why_not
from support.gguf_files import TINY_EXPERTS, HybridShape, Shape, write_mmproj, write_text
from support.makers_names import reference_state
from support.workflow import load_workflow, nodes_of, to_prompt, use_clip

SHAPES = {
    "qwen35": HybridShape(
        8, 128, 160, 4, 2, True, 3, 96, 192, 2, key_heads=2, value_heads=4, state=64, grid_side=16, vocabulary=1024
    ),
    "qwen3vl": Shape(4, 256, 256, 4, 2, True, 5, 128, 256, 2, (0, 2, 3), grid_side=16, vocabulary=1024),
}


@pytest.fixture(scope="module")
def models(comfyui, qwen35_fixtures):
    """The host's text_encoders folder with the fixture's pair, and an image named hybrid.png."""
    folder = comfyui.base / "models" / "text_encoders" / "hybrid"
    folder.mkdir(parents=True)
    for name in ("tiny-hybrid-Q8_0.gguf", "mmproj-tiny-hybrid-F16.gguf"):
        shutil.copyfile(qwen35_fixtures / name, folder / name)
    experts = comfyui.base / "models" / "text_encoders" / "experts"
    experts.mkdir()
    write_text(experts / "experts.gguf", TINY_EXPERTS, "Q8_0")
    write_mmproj(experts / "mmproj.gguf", TINY_EXPERTS)
    Image.radial_gradient("L").resize((192, 128)).convert("RGB").save(comfyui.input / "hybrid.png")
    return folder


def describing(model: str, thinking: bool) -> dict:
    asked = {"question": "What is this?", "image_tokens": 64, "max_tokens": 8, "seed": 1, "sampling": "greedy"}
    inputs = {"model": ["load", 0], "images": ["image", 0], "thinking": thinking, **asked}
    return {
        "load": {"class_type": "CodecLensLoadQwen3VL", "inputs": {"model": model, "mmproj": "auto"}},
        "image": {"class_type": "LoadImage", "inputs": {"image": "hybrid.png"}},
        "describe": {"class_type": "CodecLensDescribeImage", "inputs": inputs},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["describe", 0]}},
        "thought": {"class_type": "PreviewAny", "inputs": {"source": ["describe", 1]}},
    }


@pytest.mark.parametrize(
    ("file", "thinking"),
    [("hybrid/tiny-hybrid-Q8_0.gguf", False), ("hybrid/tiny-hybrid-Q8_0.gguf", True), ("experts/experts.gguf", True)],
)
def test_describe_writes_what_the_model_writes_outside_the_host(comfyui, models, file, thinking):
    result = comfyui.run(describing(file, thinking))
    assert result.error is None
    model = load_qwen3vl(models.parent / file, dtype=compute_dtype("cpu"))
    model.round_activations()
    with Image.open(comfyui.input / "hybrid.png") as picture:
        seen = encode_images([fit_picture(np.asarray(picture), 64)], model)
    expected = Conversation(model, seen).ask("What is this?", sampling=GREEDY, max_tokens=8, thinking=thinking)
    assert result.outputs["show"]["text"] == [expected.text]
    assert result.outputs["thought"]["text"] == [expected.reasoning]
    assert bool(expected.reasoning) is thinking


def test_a_video_is_captioned_asked_about_and_judged(comfyui, models, demo_clip):
    prompt = to_prompt(load_workflow("caption_video.json"), comfyui.get("/object_info"))
    (load,), (caption,), (encode,) = (
        nodes_of(prompt, name) for name in ("CodecLensLoadQwen3VL", "CodecLensCaptionVideo", "CodecLensEncodeVideo")
    )
    prompt[load]["inputs"]["model"] = "hybrid/tiny-hybrid-Q8_0.gguf"
    use_clip(prompt, comfyui.put_input(demo_clip))
    prompt[caption]["inputs"]["max_tokens"] = 5
    shown = {"model": [load, 0], "code": [encode, 0]}
    writing = {"max_tokens": 5, "seed": 0, "sampling": "greedy", "thinking": False}
    asked = {"questions": "What is it?\nWhen?", "follow_up": True, **writing}
    judged = {"rubric": "artefacts", "prompt": "", "moments": False, "reason": False, "custom_rubric": ""}
    prompt |= {
        "ask": {"class_type": "CodecLensAskVideo", "inputs": shown | asked},
        "judge": {"class_type": "CodecLensJudgeVideo", "inputs": shown | judged},
        "answers": {"class_type": "PreviewAny", "inputs": {"source": ["ask", 0]}},
        "score": {"class_type": "PreviewAny", "inputs": {"source": ["judge", 0]}},
    }
    result = comfyui.run(prompt)
    assert result.error is None
    assert result.outputs["answers"]["text"][0]
    assert 0 < float(result.outputs["score"]["text"][0]) < 1


@pytest.fixture(scope="module", params=SHAPES)
def saved(request, qwen3vl_fixtures, qwen35_fixtures, tmp_path_factory):
    """(folder, the file that the host's node wrote, the fixture's folder)."""
    if reason := why_not():
        pytest.skip(reason)
    family, shape, folder = request.param, SHAPES[request.param], tmp_path_factory.mktemp(request.param)
    fixtures = qwen35_fixtures if family == "qwen35" else qwen3vl_fixtures / "tiny-tied"
    stem = "tiny-hybrid" if family == "qwen35" else "tiny-tied"
    files = [read_gguf(fixtures / f"{name}{stem}-F16.gguf") for name in ("", "mmproj-")]
    state = reference_state(shape, *files)
    del state["lm_head.weight"]
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "state.safetensors")
    text = {
        "vocab_size": 1024, "hidden_size": shape.hidden, "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads, "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim, "lm_head": False,
    }  # fmt: skip
    if family == "qwen35":
        text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4}
        text |= {"linear_key_head_dim": 64, "linear_value_head_dim": 64}
    vision = {
        "hidden_size": shape.vision_hidden, "num_heads": shape.vision_heads, "depth": shape.vision_layers,
        "intermediate_size": shape.vision_intermediate, "num_position_embeddings": 256,
        "deepstack_visual_indexes": list(shape.deepstack),
    }  # fmt: skip
    worker = ROOT / "tests" / "support" / "host_saving_worker.py"
    sizes = json.dumps({"text": text, "vision": vision})
    run = subprocess.run(
        [sys.executable, worker, family, folder / "state.safetensors", sizes, folder],
        cwd=find_comfyui(), env=host_environment(tmp_path_factory.mktemp("site")), capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-3000:]
    (path,) = (folder / "clip").glob("*.safetensors")
    config = {
        "text_config": {
            "num_hidden_layers": shape.layers,
            "rope_parameters": {"mrope_section": shape.sections[:3]},
        },
        "vision_config": {"num_heads": shape.vision_heads, "deepstack_visual_indexes": list(shape.deepstack)},
        "tie_word_embeddings": True,
    }
    (path.parent / "config.json").write_text(json.dumps(config))
    shutil.copyfile(fixtures / "tokenizer.json", path.parent / "tokenizer.json")
    return path, fixtures


def test_a_model_that_the_host_saved_equals_the_reference(saved):
    path, fixtures = saved
    assert any(name.endswith(".transformer.visual.merger.norm.weight") for name in read_header(path))
    model = load_qwen3vl(path)
    for scenario in ("text", "image", "video"):
        reference = dict(np.load(fixtures / f"ref-{scenario}.npz"))
        found, logits = trace(model, reference)["logits"], torch.as_tensor(reference["logits"])
        assert (found - logits).abs().max() < 1e-4 * logits.abs().max(), scenario


def test_the_node_lists_and_runs_what_the_host_saved(comfyui, models, saved):
    path, _ = saved
    folder = models.parent / path.parents[1].name
    shutil.copytree(path.parent, folder)
    save_file({"encoder.weight": torch.zeros(2)}, folder / "another.safetensors")
    name = f"{folder.name}/{path.name}"
    inputs = comfyui.get("/object_info/CodecLensLoadQwen3VL")["CodecLensLoadQwen3VL"]["input"]["required"]
    listed = inputs["model"][1]["options"]
    assert name in listed and f"{folder.name}/another.safetensors" not in listed
    result = comfyui.run(describing(name, False))
    assert result.error is None and result.outputs["show"]["text"]
