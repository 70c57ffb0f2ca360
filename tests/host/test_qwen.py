"""Qwen3-VL in the real host: load, describe, unload, cancel, two models at once."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from codeclens.models.code.conversation import Conversation
from codeclens.models.code.encoding import encode_images
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY, REASONING
from codeclens.models.qwen.placement import compute_dtype
from codeclens.models.qwen.preprocessing import fit_picture
from codeclens.models.weights import NAME, embedded_pair
from PIL import Image
from support.comfyui import ROOT, find_comfyui, host_environment, why_not
from support.gguf_files import SHAPES, TINY, write_pair, write_text
from support.workflow import load_workflow, nodes_of, to_prompt

MODEL, MMPROJ = "tiny-tied-Q4_K_M.gguf", "mmproj-tiny-tied-F16.gguf"


@pytest.fixture(scope="module")
def models(comfyui, qwen3vl_fixtures) -> Path:
    """The host's text_encoders folder with the tiny random pair in it, and an image named picture.png."""
    folder = comfyui.base / "models" / "text_encoders" / "tiny"
    folder.mkdir(parents=True)
    for name in (MODEL, MMPROJ):
        shutil.copyfile(qwen3vl_fixtures / "tiny-tied" / name, folder / name)
    picture = Image.radial_gradient("L").resize((192, 128)).convert("RGB")
    picture.save(comfyui.input / "picture.png")
    return folder


def describing(max_tokens=8, seed=1, sampling="sample", mmproj="auto", **options) -> dict:
    """An API prompt: load the model and an image, describe it."""
    writing = {"max_tokens": max_tokens, "seed": seed, "sampling": sampling, "thinking": True}
    if sampling == "sample":
        choices = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
        choices |= {"repetition_penalty": 1.0, "presence_penalty": 0.0}
        writing |= {f"sampling.{name}": value for name, value in choices.items()}
    asked = {"question": "What is this?", "image_tokens": 64, **writing, **options}
    return {
        "load": {"class_type": "CodecLensLoadQwen3VL", "inputs": {"model": f"tiny/{MODEL}", "mmproj": mmproj}},
        "image": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},
        "describe": {
            "class_type": "CodecLensDescribeImage",
            "inputs": {"model": ["load", 0], "images": ["image", 0], **asked},
        },
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["describe", 0]}},
        "cut": {"class_type": "PreviewAny", "inputs": {"source": ["describe", 2]}},
    }


@pytest.mark.parametrize("embedded", [False, True])
def test_describe_writes_what_the_model_writes_outside_the_host(comfyui, models, embedded):
    prompt = describing(sampling="greedy")
    if embedded:
        prompt["load"]["inputs"]["model"] = f"{NAME} (embedded)"
    result = comfyui.run(prompt)
    assert result.error is None
    files = embedded_pair() if embedded else (models / MODEL,)
    model = load_qwen3vl(*files, dtype=compute_dtype("cpu"))
    with Image.open(comfyui.input / "picture.png") as picture:
        seen = encode_images([fit_picture(np.asarray(picture), 64)], model)
    expected = Conversation(model, seen).ask("What is this?", sampling=GREEDY, max_tokens=8)
    assert result.outputs["show"]["text"] == [expected.text]
    assert result.outputs["describe"]["text"] == [expected.text]
    assert result.outputs["cut"]["text"] == [str(expected.truncated)]
    shown = result.turns["describe"][-1]
    assert shown["text"] == expected.text and shown["question"] == "What is this?" and shown["tokens"] > 0


def test_a_seed_repeats_its_text_and_a_file_is_loaded_once(comfyui, models):
    first = comfyui.run(describing(seed=5))
    assert first.error is None
    comfyui.post("/free", {"free_memory": True, "unload_models": True})
    again = comfyui.run(describing(seed=5))
    if "load" not in again.executed:  # the host frees after the prompt that it has begun
        again = comfyui.run(describing(seed=5))
    assert "load" in again.executed and again.outputs["show"] == first.outputs["show"]
    other = comfyui.run(describing(seed=6))
    assert "load" in other.cached and other.outputs["show"] != first.outputs["show"]


def test_cancelling_over_the_api_stops_the_writing(comfyui, models):
    run = comfyui.queue(describing(max_tokens=20000, seed=7))
    assert run.wait(lambda result: any(high == 20000 for _, high in result.progress.get("describe", [])))
    comfyui.post("/interrupt", {})
    result = run.finish(20)
    assert result.interrupted
    assert max(done for done, high in result.progress["describe"] if high == 20000) < 10000


def test_auto_is_what_the_makers_publish_for_the_kind_of_model(comfyui, models):
    """Reasoning is sampled otherwise and needs more room than the usual 512 tokens, so that an answer comes at all."""
    write_text(models / "Thinking.gguf", TINY, thinking=True)
    prompt = describing(sampling="auto", seed=3)
    prompt["load"]["inputs"] = {"model": "tiny/Thinking.gguf", "mmproj": "none (text only)"}
    prompt["describe"] = {
        "class_type": "CodecLensGenerateText",
        "inputs": {"model": ["load", 0], "prompt": "Write.", **writing_of(prompt["describe"]["inputs"])},
    }
    result = comfyui.run(prompt)
    assert result.error is None
    model = load_qwen3vl(models / "Thinking.gguf", None, dtype=compute_dtype("cpu"))
    asked = {"sampling": replace(REASONING, seed=3), "max_tokens": 8, "thinking": True}
    expected = Conversation(model, []).ask("Write.", **asked)
    assert expected.reasoning and result.outputs["describe"]["text"] == [expected.text]

    for thinking, length in ((True, 4096), (False, 512)):
        prompt["describe"]["inputs"] |= {"max_tokens": 0, "thinking": thinking}
        run = comfyui.queue(prompt)
        assert run.wait(lambda r, n=length: any(high == n for _, high in r.progress.get("describe", [])))
        comfyui.post("/interrupt", {})
        run.finish(20)


def writing_of(inputs: dict) -> dict:
    return {name: inputs[name] for name in ("max_tokens", "seed", "sampling", "thinking")}


def test_text_alone_needs_no_mmproj_and_pictures_do(comfyui, models):
    refused = comfyui.run(describing(mmproj="none (text only)"))
    assert "without an mmproj" in refused.error
    prompt = describing(mmproj="none (text only)")
    inputs = prompt["describe"]["inputs"]
    for name in ("images", "question", "image_tokens"):
        del inputs[name]
    inputs["prompt"] = "Write."
    prompt["describe"]["class_type"] = "CodecLensGenerateText"
    assert comfyui.run(prompt).error is None


def test_a_model_of_another_kind_is_refused_in_one_sentence(comfyui, models):
    prompt = describing()
    prompt["load"]["inputs"] = {"model": f"tiny/{MODEL}", "mmproj": f"tiny/{MODEL}"}
    assert "give its mmproj file" in comfyui.run(prompt).error


def test_two_models_at_once(comfyui, models):
    shutil.copyfile(models / MODEL, models / "second.gguf")
    prompt = describing(sampling="greedy")
    other = describing(sampling="greedy")
    other["load"]["inputs"]["model"] = "tiny/second.gguf"
    for name in ("load", "describe", "show"):
        prompt[f"other {name}"] = other[name]
    prompt["other describe"]["inputs"]["model"] = ["other load", 0]
    prompt["other show"]["inputs"]["source"] = ["other describe", 0]
    result = comfyui.run(prompt)
    assert result.error is None
    assert result.outputs["show"] == result.outputs["other show"]


def test_the_shipped_workflow_runs(comfyui, models):
    prompt = to_prompt(load_workflow("describe_image.json"), comfyui.get("/object_info"))
    (load,) = nodes_of(prompt, "CodecLensLoadQwen3VL")
    (node,) = nodes_of(prompt, "CodecLensDescribeImage")
    prompt[load]["inputs"]["model"] = f"tiny/{MODEL}"
    prompt[node]["inputs"]["max_tokens"] = 5
    result = comfyui.run(prompt)
    assert result.error is None
    assert node in result.outputs


@pytest.fixture(scope="module")
def counters(tmp_path_factory) -> dict:
    """What the worker counted with a pair of 140 MB: four layers as wide as 2B's, a narrow tower."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("pair")
    shape = replace(
        SHAPES["2B"], layers=4, vocabulary=8192, vision_layers=2, deepstack=(0,), vision_hidden=256, vision_heads=4
    )
    pair = write_pair(folder, shape, "Q4_K_M")
    worker = ROOT / "tests" / "support" / "qwen_memory_worker.py"
    run = subprocess.run(
        [sys.executable, worker, *pair],
        cwd=find_comfyui(),
        env=host_environment(tmp_path_factory.mktemp("site")),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return {**json.loads(run.stdout), "files": [path.stat().st_size for path in pair]}


def test_the_host_counts_both_halves_and_its_button_unloads_them(counters):
    assert counters["loaded"] == [["VisionModel"], ["TextModel", "VisionModel"], []] * 2


def test_the_host_counts_quantised_bytes_and_a_tied_table_once(counters):
    """Position and patch tables aside, what it counts is what the file holds."""
    for counted, stored in zip(counters["sizes"], counters["files"], strict=True):
        assert 0.9 * stored < counted <= stored


def test_loading_copies_no_weights(counters):
    """What is resident grows by pages of the mapped files at most, and by the same when they are loaded again."""
    before, used, freed, used_again, freed_again = counters["resident"]
    assert used - before < sum(counters["files"]) + 60e6
    assert abs(used_again - used) < 30e6 and abs(freed_again - freed) < 30e6


def test_a_half_offloaded_model_computes_the_same(counters):
    casting, layers = counters["casting"]
    assert 0 < casting < layers
    assert counters["partial error"] == 0.0


def test_unloading_changes_no_answer(counters):
    assert counters["error after unloading"] == 0.0


def test_nothing_holds_on_to_a_dropped_model(counters):
    assert all(counters["gone"])
