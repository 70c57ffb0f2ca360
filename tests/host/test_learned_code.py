"""Train Learned Code and Load Learned Code in the real host: train, encode, ask, load again, refuse, cancel, go on."""

import json

import pytest
from codeclens.models.code.learned.learned_code import read_header
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.training.checkpoints import CHECKPOINT, LOG

EMBEDDED = "CodecLens-Tiny (embedded)"


@pytest.fixture(scope="module")
def clips(comfyui):
    folder = comfyui.base / "input" / "train"
    write_clips(folder, seeds_of("train", 0, 2), (64, 64), seconds=2, fps=8)
    return "input/train"


@pytest.fixture
def codes(comfyui):
    return comfyui.base / "output" / "codeclens" / "codes"


def node(kind, **inputs):
    return {"class_type": f"CodecLens{kind}", "inputs": inputs}


def show(source, output=0):
    return {"class_type": "PreviewAny", "inputs": {"source": [source, output]}}


def training(folder, mode, name, **options):
    given = {
        "folder": folder, "mode": mode, "name": name, "align_steps": 1, "answer_steps": 1, "rows": 1, "questions": "",
        "side": 64, "fps": 4.0, "frames": 3, "window": 1, "reference": "previous", "rank": 2,
        "tune": False, "learning_rate": 1e-4, "seed": 0,
    }  # fmt: skip
    return {
        "load": node("LoadQwen3VL", model=EMBEDDED, mmproj="auto"),
        "train": node("TrainLearnedCode", model=["load", 0], **given | options),
        "path": show("train", 2),
    }


def encoding(mode, **learned):
    return {
        "load": node("LoadQwen3VL", model=EMBEDDED, mmproj="auto"),
        "test": node("TestVideos", seed=1, count=1, content="moving", fault="none", seconds=2.0),
        "sample": node(
            "SampleVideo", video=["test", 0], images_fps=24.0, side=64, sampling="fps", **{"sampling.fps": 4.0}
        ),
        "extract": node("ExtractCodecPrimitives", frames=["sample", 0], vectors="search"),
        "plan": node(
            "PlanGOP", primitives=["extract", 0], policy="adaptive", mode=mode, start_at_cuts=False,
            **{"policy.gamma": "auto", "policy.gamma_value": 1.0, "policy.cap": 16},
        ),
        "encode": node(
            "EncodeVideo", model=["load", 0], frames=["sample", 0], plan=["plan", 0], mode=mode, reserve=256,
            stamps="auto", pair_thumbnails=False, drop=0.0, **learned,
        ),
        "ask": node(
            "AskVideo", model=["load", 0], code=["encode", 0], questions="What moves?", follow_up=False, max_tokens=4,
            seed=0, sampling="greedy", thinking=False,
        ),
        "answer": show("ask"),
        "report": show("ask", 3),
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["ptoken", "delta"])
def test_a_code_is_trained_read_and_loaded_again(comfyui, clips, codes, mode):
    trained = comfyui.run({**training(clips, mode, f"mine {mode}"), **encoding(mode, learned=["train", 0])})
    assert trained.error is None
    path = codes / f"mine {mode}" / f"mine {mode}-{mode}.safetensors"
    assert trained.outputs["path"]["text"] == [str(path)] and read_header(path).rank == 2
    report = json.loads(trained.outputs["report"]["text"][0])[0]
    assert report["mode"] == mode and {row["kind"] for row in report["frames"]} == {"I", "P"}
    name = f"codeclens/codes/mine {mode}/{path.name} [output]"
    again = {**encoding(mode, learned=["code", 0]), "code": node("LoadLearnedCode", code=name), "info": show("code", 1)}
    loaded = comfyui.run(again)
    assert loaded.error is None
    assert loaded.outputs["answer"] == trained.outputs["answer"]
    assert json.loads(loaded.outputs["info"]["text"][0])["mode"] == mode


def test_wrong_inputs_are_one_sentence(comfyui, clips):
    assert "connect Load Learned Code" in comfyui.run(encoding("ptoken")).error
    assert "a plain name" in comfyui.run(training(clips, "delta", "../out")).error
    assert "not there or not allowed" in comfyui.run(training("/etc", "delta", "out")).error


def test_a_cancelled_training_goes_on_where_it_was(comfyui, clips, codes):
    many = training(clips, "delta", "long", align_steps=60, answer_steps=0)
    run = comfyui.queue(many)
    assert run.wait(lambda result: any(done > 2 for done, _ in result.progress.get("train", [])))
    comfyui.post("/interrupt", {})
    assert run.finish(60).interrupted
    log = codes / "long" / LOG
    first = len(log.read_text().splitlines())
    assert first and (codes / "long" / CHECKPOINT).is_file()
    run = comfyui.queue(many)
    assert run.wait(lambda result: any(done > first for done, _ in result.progress.get("train", [])))
    comfyui.post("/interrupt", {})
    run.finish(60)
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(len(steps))) and len(steps) > first
