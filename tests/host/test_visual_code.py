"""Encode, caption and ask in the real host: the same words as outside, one encoding, one reading, cancelling."""

import io
import json
import shutil

import numpy as np
import pytest
from codeclens.models.code.conversation import converse
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.drawing.code import code_view
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.qwen.placement import compute_dtype
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.painted_clip import write_demo
from PIL import Image
from support.workflow import load_workflow, nodes_of, to_prompt, use_clip

MODEL, MMPROJ = "tiny-tied-Q4_K_M.gguf", "mmproj-tiny-tied-F16.gguf"
AREA = 256 * 256


@pytest.fixture(scope="module")
def demo(comfyui, tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "demo.mp4")


@pytest.fixture(scope="module")
def prompt_of(comfyui, demo, qwen3vl_fixtures):
    """Make an API prompt: load model and clip, sample, extract, plan, encode, and the nodes given."""
    folder = comfyui.base / "models" / "text_encoders" / "talk"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MODEL, MMPROJ):
        shutil.copyfile(qwen3vl_fixtures / "tiny-tied" / name, folder / name)
    clip = comfyui.put_input(demo)

    def make(encode=(), **nodes):
        encoding = {"mode": "thumbnail", "reserve": 512, "stamps": "every", "pair_thumbnails": False, "drop": 0.0}
        return {
            "load": node("LoadQwen3VL", model=f"talk/{MODEL}", mmproj="auto"),
            "video": {"class_type": "LoadVideo", "inputs": {"file": clip}},
            "sample": node(
                "SampleVideo", video=["video", 0], images_fps=24.0, side=256, sampling="fps", **{"sampling.fps": 1.0}
            ),
            "extract": node("ExtractCodecPrimitives", frames=["sample", 0], vectors="search"),
            "plan": node(
                "PlanGOP",
                primitives=["extract", 0],
                policy="adaptive",
                mode="thumbnail",
                start_at_cuts=False,
                **{"policy.gamma": "auto", "policy.gamma_value": 1.0, "policy.cap": 16},
            ),
            "encode": node(
                "EncodeVideo", model=["load", 0], frames=["sample", 0], plan=["plan", 0], **encoding | dict(encode)
            ),
            **nodes,
        }

    return make


def node(name, **inputs):
    return {"class_type": f"CodecLens{name}", "inputs": inputs}


def show(source, output=0):
    return {"class_type": "PreviewAny", "inputs": {"source": [source, output]}}


def writing(max_tokens=6, seed=0, sampling="greedy"):
    return {"max_tokens": max_tokens, "seed": seed, "sampling": sampling, "thinking": True}


def asking(*questions, **options):
    text = "\n".join(questions)
    return node("AskVideo", model=["load", 0], code=["encode", 0], questions=text, **{"follow_up": False} | options)


@pytest.fixture(scope="module")
def outside(demo, qwen3vl_fixtures):
    """The same model and clip without the host."""
    model = load_qwen3vl(qwen3vl_fixtures / "tiny-tied" / MODEL, dtype=compute_dtype("cpu"))
    config = CodeConfig(sampling=FrameSampling.by_fps(1.0), area=AREA)
    return model, watch(VideoSource.open(str(demo)), model, config)


def test_answers_are_those_of_the_command_line(comfyui, prompt_of, outside):
    model, code = outside
    questions = ("What is it?", "How many?")
    result = comfyui.run(
        prompt_of(
            ask=asking(*questions, **writing()), answers=show("ask"), report=show("ask", 3), tokens=show("encode", 1)
        )
    )
    assert result.error is None
    expected = [converse(model, code).ask(question, sampling=GREEDY, max_tokens=6) for question in questions]
    assert result.outputs["answers"]["text"] == [answer.text for answer in expected]
    assert result.outputs["tokens"]["text"] == [str(code.token_count)]
    reports = json.loads(result.outputs["report"]["text"][0])
    assert [report["frames"] for report in reports] == [code.report()] * 2
    assert [report["prompt_tokens"] for report in reports] == [answer.prompt_tokens for answer in expected]


def test_caption_carries_text_truncation_and_report(comfyui, prompt_of):
    caption = node("CaptionVideo", model=["load", 0], code=["encode", 0], preset="tags", instructions="", **writing(5))
    result = comfyui.run(
        prompt_of(caption=caption, text=show("caption"), cut=show("caption", 2), report=show("caption", 3))
    )
    assert result.error is None
    assert result.outputs["caption"]["text"] == result.outputs["text"]["text"]
    assert result.outputs["cut"]["text"] == ["True"]
    report = json.loads(result.outputs["report"]["text"][0])
    assert report["tokens_per_second"] > 0 and {"vision", "prefill", "decode"} <= set(report["seconds"])


def test_another_question_does_not_read_the_video_again(comfyui, prompt_of, outside):
    model, code = outside

    def run(**talking):
        return comfyui.run(prompt_of({"reserve": 300}, **talking))

    def ask(question):
        return run(ask=asking(question, **writing()), answers=show("ask"))

    def rows_read(result, name="ask"):
        return max(total for _, total in result.progress[name])

    first, second = ask("What is it?"), ask("Where is it?")
    assert rows_read(first) >= code.token_count > rows_read(second), "the second question alone is read"
    expected = converse(model, code).ask("Where is it?", sampling=GREEDY, max_tokens=6)
    assert second.outputs["answers"]["text"] == [expected.text]
    caption = node("CaptionVideo", model=["load", 0], code=["encode", 0], preset="tags", instructions="", **writing(5))
    assert rows_read(run(caption=caption, text=show("caption")), "caption") < code.token_count
    comfyui.post("/free", {"unload_models": True})
    third = ask("Who is it?")
    if rows_read(third) < code.token_count:  # the host frees after the prompt that it has begun
        third = ask("When is it?")
    assert rows_read(third) >= code.token_count and "encode" in third.cached, "unloading models frees the reading"


def test_another_question_does_not_encode_again(comfyui, prompt_of):
    comfyui.run(prompt_of(ask=asking("What is it?", **writing()), answers=show("ask")))
    again = comfyui.run(prompt_of(ask=asking("Where is it?", **writing()), answers=show("ask")))
    assert {"load", "sample", "extract", "plan", "encode"} <= set(again.cached)
    assert "ask" in again.executed


def test_cancelling_over_the_api_stops_the_writing(comfyui, prompt_of):
    options = writing(20000, sampling="sample") | {
        "sampling.temperature": 5.0, "sampling.top_k": 0, "sampling.top_p": 1.0, "sampling.min_p": 0.0,
        "sampling.repetition_penalty": 1.0, "sampling.presence_penalty": 0.0,
    }  # fmt: skip
    run = comfyui.queue(prompt_of(ask=asking("Tell me all.", **options), answers=show("ask")))
    assert run.wait(lambda result: any(high == 20000 for _, high in result.progress.get("ask", [])))
    comfyui.post("/interrupt", {})
    assert run.finish(20).interrupted


def test_the_code_is_drawn(comfyui, prompt_of, outside):
    draw = node("DrawCode", code=["encode", 0], frames=["sample", 0], width=900)
    preview = {"class_type": "PreviewImage", "inputs": {"images": ["draw", 0]}}
    result = comfyui.run(prompt_of(draw=draw, preview=preview))
    assert result.error is None
    (entry,) = result.outputs["preview"]["images"]
    shown = np.asarray(Image.open(io.BytesIO(comfyui.view(entry))).convert("RGB")).astype(int)
    _, code = outside
    expected = np.asarray(code_view(code, VideoSource.open(str(comfyui.input / "demo.mp4")), 900))
    assert shown.shape == expected.shape and np.abs(shown - expected).max() <= 1


def test_images_are_asked_together(comfyui, prompt_of):
    frames = node(
        "SelectFrames", frames=["sample", 0], which="positions", full_size=False, **{"which.positions": "0, 5"}
    )
    ask = node(
        "AskImages", model=["load", 0], images=["frames", 0], questions="Which?\nWhy?", image_tokens=64, **writing()
    )
    result = comfyui.run(prompt_of(frames=frames, ask=ask, answers=show("ask"), transcript=show("ask", 1)))
    assert result.error is None
    assert len(result.outputs["answers"]["text"]) == 2
    assert result.outputs["transcript"]["text"][0].startswith("Which?\n")


def test_frames_that_an_answer_names_are_found(comfyui, prompt_of):
    def frames_for(answer):
        named = node("FramesFromAnswer", code=["encode", 0], frames=["sample", 0], answer=["text", 0], full_size=True)
        text = {"class_type": "PrimitiveStringMultiline", "inputs": {"value": answer}}
        return comfyui.run(
            prompt_of(
                text=text, named=named, times=show("named", 1), numbers=show("named", 2),
                images={"class_type": "PreviewImage", "inputs": {"images": ["named", 0]}},
            )
        )  # fmt: skip

    result = frames_for("It turns from 2.0 to 5.1 seconds, and again at frame 48.")
    assert result.error is None
    assert json.loads(result.outputs["numbers"]["text"][0]) == [48, 120]
    assert json.loads(result.outputs["times"]["text"][0]) == pytest.approx([2.0, 5.0])
    assert len(result.outputs["images"]["images"]) == 2
    nothing = frames_for("It turns.")
    assert nothing.error is None and "images" not in nothing.outputs
    assert nothing.outputs["numbers"]["text"] == nothing.outputs["times"]["text"] == ["[]"]
    assert "names no time or frame" in nothing.texts["named"][-1]


@pytest.mark.parametrize("name", ["caption_video.json", "ask_video.json"])
def test_the_shipped_workflows_run(comfyui, prompt_of, name):
    prompt = to_prompt(load_workflow(name), comfyui.get("/object_info"))
    (load,) = nodes_of(prompt, "CodecLensLoadQwen3VL")
    prompt[load]["inputs"]["model"] = f"talk/{MODEL}"
    use_clip(prompt, prompt_of()["video"]["inputs"]["file"])
    (talk,) = nodes_of(prompt, "CodecLensCaptionVideo") + nodes_of(prompt, "CodecLensAskVideo")
    prompt[talk]["inputs"] |= {"max_tokens": 4, "seed": 1}
    result = comfyui.run(prompt)
    assert result.error is None
    assert result.outputs[talk]["text"][0]


def test_a_model_without_its_tower_is_refused(comfyui, prompt_of):
    prompt = prompt_of(tokens=show("encode", 1))
    prompt["load"]["inputs"]["mmproj"] = "none (text only)"
    assert "without an mmproj file" in comfyui.run(prompt).error
