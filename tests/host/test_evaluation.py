"""Evaluate Modes in the real host: the numbers of the command line, and a page in the output folder."""

import json
import shutil

import pytest
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.evaluation.paired import check_modes, evaluate, read_tasks
from codeclens.models.evaluation.router import route
from codeclens.models.evaluation.statistics import summarise, table
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.placement import compute_dtype
from codeclens.models.source.reading import FrameSampling
from codeclens.models.synthetic.clip_files import seeds_of, write_clips

MODEL, MMPROJ = "tiny-tied-Q4_K_M.gguf", "mmproj-tiny-tied-F16.gguf"
MODES = ["rgb", "thumbnail"]


@pytest.fixture(scope="module")
def prompt(comfyui, qwen3vl_fixtures):
    folder = comfyui.base / "models" / "text_encoders" / "evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, MMPROJ):
        shutil.copyfile(qwen3vl_fixtures / "tiny-tied" / name, folder / name)
    index = write_clips(comfyui.base / "input" / "asked", seeds_of("test", 0, 2), (128, 128), seconds=2, fps=8)
    return index, {
        "load": {
            "class_type": "CodecLensLoadQwen3VL",
            "inputs": {"model": f"evaluation/{MODEL}", "mmproj": "auto"},
        },
        "evaluate": {
            "class_type": "CodecLensEvaluateModes",
            "inputs": {
                "model": ["load", 0],
                "tasks": "asked/clips.jsonl",
                "modes": ", ".join(MODES),
                "fps": 4.0,
                "side": 128,
                "limit": 0,
                "filename_prefix": "codeclens/evaluation",
            },
        },
    }


def test_node_says_what_the_library_says_and_writes_the_page(comfyui, prompt, qwen3vl_fixtures):
    index, nodes = prompt
    result = comfyui.run(nodes)
    assert result.error is None
    model = load_qwen3vl(qwen3vl_fixtures / "tiny-tied" / MODEL, dtype=compute_dtype("cpu"))
    found = evaluate(read_tasks(index), model, MODES, CodeConfig(sampling=FrameSampling.by_fps(4.0), area=128 * 128))
    expected = summarise(found.outcomes, route(found.outcomes, found.plans))
    shown = result.outputs["evaluate"]["text"][0]
    assert shown.splitlines()[0] == table(expected).splitlines()[0]
    pages = list((comfyui.base / "output" / "codeclens").glob("evaluation_*.html"))
    report = json.loads(pages[0].with_suffix(".json").read_text())
    # Random weights leave near ties, which two processes of other thread counts may break in two ways.
    near = 2.5 / sum(bool(task.choices) for task in read_tasks(index))
    for mode in expected["modes"]:
        assert report["modes"][mode]["accuracy"] == pytest.approx(expected["modes"][mode]["accuracy"], abs=near)
        assert report["modes"][mode]["tokens"] == expected["modes"][mode]["tokens"]
    assert pages[0].read_text(encoding="utf-8").startswith("<!doctype html>")


def test_missing_tasks_are_one_sentence(comfyui, prompt):
    _, nodes = prompt
    inputs = {**nodes["evaluate"]["inputs"], "tasks": "absent.jsonl"}
    result = comfyui.run({**nodes, "evaluate": {**nodes["evaluate"], "inputs": inputs}})
    assert "absent.jsonl does not exist" in result.error


def test_an_unknown_mode_is_one_sentence_before_any_clip_is_read(comfyui, prompt):
    _, nodes = prompt
    inputs = {**nodes["evaluate"]["inputs"], "modes": "rgb, thumbnails", "tasks": "absent.jsonl"}
    result = comfyui.run({**nodes, "evaluate": {**nodes["evaluate"], "inputs": inputs}})
    assert "thumbnails" in result.error and "absent" not in result.error


def test_modes_as_shipped_are_a_text_of_known_names(comfyui):
    definition = comfyui.get("/object_info/CodecLensEvaluateModes")["CodecLensEvaluateModes"]
    kind, options = definition["input"]["required"]["modes"]
    assert kind == "STRING"
    check_modes(options["default"].split(", "))
