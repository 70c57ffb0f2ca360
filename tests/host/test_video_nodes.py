"""The video family in the real host: the shipped workflow, caching, cancelling, errors, trims, image batches."""

import io
import json
import time

import numpy as np
import pytest
from codeclens.models.synthetic.painted_clip import CUT, FPS, FRAMES
from PIL import Image
from support.workflow import load_workflow, nodes_of, to_prompt, use_clip


@pytest.fixture(scope="module")
def demo(comfyui, demo_clip):
    return comfyui.put_input(demo_clip)


@pytest.fixture
def prompt(comfyui, demo):
    """The shipped workflow on the demo clip."""
    prompt = to_prompt(load_workflow("plan_video.json"), comfyui.get("/object_info"))
    use_clip(prompt, demo)
    number = nodes_of(prompt, "CodecLensPlanGOP")[0]
    info = {"class_type": "CodecLensPlanInfo", "inputs": {"plan": [number, 0]}}
    show = {"class_type": "PreviewAny", "inputs": {"source": ["info", 0]}}
    return prompt | {"info": info, "show": show}


def one(prompt, class_type):
    (name,) = nodes_of(prompt, class_type)
    return name


def chain(file, sampling=None, extra=None):
    """Load Video -> Sample Video -> Extract -> Plan GOP -> Plan Info -> Preview Any."""
    return {
        "video": {"class_type": "LoadVideo", "inputs": {"file": file}},
        "sample": {
            "class_type": "CodecLensSampleVideo",
            "inputs": {
                "video": ["video", 0],
                "images_fps": 24.0,
                "side": 256,
                **(sampling or {"sampling": "fps", "sampling.fps": 2.0}),
            },
        },
        "extract": {
            "class_type": "CodecLensExtractCodecPrimitives",
            "inputs": {"frames": ["sample", 0], "vectors": "search"},
        },
        "plan": {
            "class_type": "CodecLensPlanGOP",
            "inputs": {
                "primitives": ["extract", 0],
                "policy": "adaptive",
                "policy.gamma": "auto",
                "policy.gamma_value": 1.0,
                "policy.cap": 16,
                "mode": "thumbnail",
                "start_at_cuts": False,
            },
        },
        "info": {"class_type": "CodecLensPlanInfo", "inputs": {"plan": ["plan", 0]}},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["info", 0]}},
        **(extra or {}),
    }


def shown_plan(result, node="show"):
    return json.loads(result.outputs[node]["text"][0])


def test_shipped_workflow_plans_the_clip_and_draws_it(comfyui, prompt):
    result = comfyui.run(prompt)
    assert result.error is None
    plan = shown_plan(result, one(prompt, "PreviewAny"))
    assert plan["kind"].startswith("I") and set(plan["kind"]) == {"I", "P"}
    assert CUT in [plan["index"][i] for i in plan["i_frames"]], "the cut became a whole picture"
    assert plan["pts"][plan["index"].index(CUT)] == pytest.approx(CUT / FPS)
    timeline = result.outputs[one(prompt, "CodecLensPlanGOP")]["codeclens_plan"][0]
    assert timeline["kind"] == plan["kind"] and timeline["tokens"] == plan["tokens"]["thumbnail"]
    drawing = [one(prompt, f"CodecLens{name}") for name in ("DrawPlan", "DrawMotion", "SelectFrames")]
    pictures = [entry for node in drawing for entry in result.outputs[node]["images"]]
    assert len(pictures) == 2 + len(plan["i_frames"])
    for entry in pictures:
        picture = np.asarray(Image.open(io.BytesIO(comfyui.view(entry))).convert("RGB"))
        assert picture.std() > 10, "the picture shows something"


def test_second_run_takes_everything_from_the_cache(comfyui, prompt):
    comfyui.run(prompt)
    again = comfyui.run(prompt)
    assert again.error is None and again.executed == []
    assert set(again.cached) == set(prompt)


def test_another_policy_computes_only_from_the_plan_on(comfyui, prompt):
    comfyui.run(prompt)
    plan = prompt[one(prompt, "CodecLensPlanGOP")]["inputs"]
    plan.update({"policy": "fixed", "policy.cap": 5})
    result = comfyui.run(prompt)
    upstream = {one(prompt, f"CodecLens{name}") for name in ("SampleVideo", "ExtractCodecPrimitives", "DrawMotion")}
    assert not upstream & set(result.executed)
    assert one(prompt, "CodecLensPlanGOP") in result.executed
    kind = shown_plan(result, one(prompt, "PreviewAny"))["kind"]
    assert kind == ("IPPPPP" * len(kind))[: len(kind)]


def test_groups_start_at_cuts_where_asked(comfyui, demo):
    prompt = chain(demo)
    asked = {"policy": "fixed", "policy.cap": 100, "mode": "thumbnail"}
    for wanted, numbers in ((False, [0]), (True, [0, CUT])):
        inputs = {"primitives": ["extract", 0], "start_at_cuts": wanted, **asked}
        prompt["plan"]["inputs"] = inputs
        plan = shown_plan(comfyui.run(prompt))
        assert [plan["index"][i] for i in plan["i_frames"]] == numbers
    assert plan["why"][plan["index"].index(CUT)] == "cut"


def test_cuts_are_found_once_a_source(comfyui, demo):
    prompt = chain(demo, {"sampling": "fps", "sampling.fps": 1.0})
    inputs = {"primitives": ["extract", 0], "start_at_cuts": True, "policy": "fixed", "mode": "thumbnail"}
    ran = []
    for cap in (100, 50):
        prompt["plan"]["inputs"] = {**inputs, "policy.cap": cap}
        result = comfyui.run(prompt)
        assert result.error is None and "plan" in result.executed
        ran.append(bool(result.progress.get("plan")))
    assert ran == [True, False]


def test_cancelling_stops_within_a_second(comfyui, demo):
    prompt = chain(demo, {"sampling": "all"})
    prompt["sample"]["inputs"]["side"] = 1024
    queued = comfyui.queue(prompt)
    assert queued.wait(lambda result: result.progress.get("extract"))
    asked = time.monotonic()
    comfyui.post("/interrupt", {})
    result = queued.finish(timeout=30)
    assert time.monotonic() - asked < 1.0
    done, total = result.progress["extract"][-1]
    assert result.interrupted and done < total // 4, "of work that takes some ten seconds"
    assert "plan" not in result.executed
    assert comfyui.run(chain(demo)).error is None, "the host works on"


def test_budget_is_kept_through_the_node(comfyui, demo):
    prompt = chain(demo)
    policy = {
        "policy": "budget",
        "policy.budget": 200,
        "policy.gamma": "auto",
        "policy.gamma_value": 1.0,
        "policy.cap": 16,
    }
    prompt["plan"]["inputs"].update(policy)
    plan = shown_plan(comfyui.run(prompt))
    assert plan["tokens"]["thumbnail"] <= 200
    assert plan["policy"] == "budget"


def test_trim_is_honoured(comfyui, demo):
    trim = {
        "trim": {
            "class_type": "Video Slice",
            "inputs": {"video": ["video", 0], "start_time": 4.0, "duration": 3.0, "strict_duration": False},
        }
    }
    prompt = chain(demo, extra=trim)
    prompt["sample"]["inputs"]["video"] = ["trim", 0]
    plan = shown_plan(comfyui.run(prompt))
    assert plan["pts"][0] == pytest.approx(4.0) and plan["pts"][-1] < 7.0
    assert plan["index"][0] == 4 * FPS


def test_images_with_their_rate_give_the_plan_of_the_video(comfyui, demo):
    parts = {"parts": {"class_type": "GetVideoComponents", "inputs": {"video": ["video", 0]}}}
    sampling = {"sampling": "every", "sampling.step": 24}
    from_video = shown_plan(comfyui.run(chain(demo, sampling)))
    prompt = chain(demo, sampling, parts)
    del prompt["sample"]["inputs"]["video"]
    prompt["sample"]["inputs"] |= {"images": ["parts", 0], "images_fps": float(FPS)}
    from_images = shown_plan(comfyui.run(prompt))
    assert from_images["kind"] == from_video["kind"] and from_images["index"] == from_video["index"]
    assert from_images["pts"] == pytest.approx(from_video["pts"])
    np.testing.assert_allclose(from_images["pcost"][1:], from_video["pcost"][1:], rtol=0.05, atol=2e5)


def test_selected_frames_carry_times_and_numbers(comfyui, demo):
    select = {
        "select": {
            "class_type": "CodecLensSelectFrames",
            "inputs": {
                "frames": ["sample", 0],
                "which": "times",
                "which.times": "0.0, 5.01, 12.9",
                "full_size": True,
            },
        },
        "images": {"class_type": "PreviewImage", "inputs": {"images": ["select", 0]}},
        "times": {"class_type": "PreviewAny", "inputs": {"source": ["select", 1]}},
        "numbers": {"class_type": "PreviewAny", "inputs": {"source": ["select", 2]}},
    }
    result = comfyui.run(chain(demo, extra=select))
    assert json.loads(result.outputs["times"]["text"][0]) == pytest.approx([0.0, 5.0, 12.875])
    assert json.loads(result.outputs["numbers"]["text"][0]) == [0, 120, 309]
    picture = Image.open(io.BytesIO(comfyui.view(result.outputs["images"]["images"][0])))
    assert picture.size == (640, 384)


def split(video, at_fades=False):
    """Split at Cuts, and for each shot the number of frames and seconds that the host itself finds in it."""
    return {
        "split": {
            "class_type": "CodecLensSplitAtCuts",
            "inputs": {"video": video, "shortest": 0.0, "at_fades": at_fades},
        },
        "parts": {"class_type": "GetVideoComponents", "inputs": {"video": ["split", 0]}},
        "size": {"class_type": "GetImageSize", "inputs": {"image": ["parts", 0]}},
        "count": {"class_type": "PreviewAny", "inputs": {"source": ["size", 2]}},
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["split", 1]}},
    }


def test_video_is_split_at_its_cut_to_the_frame(comfyui, demo):
    load = {"video": {"class_type": "LoadVideo", "inputs": {"file": demo}}}
    result = comfyui.run({**load, **split(["video", 0])})
    assert result.outputs["count"]["text"] == [str(CUT), str(FRAMES - CUT)]
    assert json.loads(result.outputs["report"]["text"][0])["cuts"] == [CUT]


def test_trim_and_images_are_split_as_well(comfyui, demo):
    load = {"video": {"class_type": "LoadVideo", "inputs": {"file": demo}}}
    window = {"start_time": 3.0, "duration": 4.0, "strict_duration": False}
    trim = {"trim": {"class_type": "Video Slice", "inputs": {"video": ["video", 0], **window}}}
    counts = comfyui.run({**load, **trim, **split(["trim", 0])}).outputs["count"]["text"]
    assert counts == [str(CUT - 3 * FPS), str(7 * FPS - CUT)]
    images = {
        "frames": {"class_type": "GetVideoComponents", "inputs": {"video": ["trim", 0]}},
        "made": {"class_type": "CreateVideo", "inputs": {"images": ["frames", 0], "fps": 24.0, "bit_depth": 8}},
    }
    assert comfyui.run({**load, **trim, **images, **split(["made", 0])}).outputs["count"]["text"] == counts


def test_real_footage_is_split_to_the_frame(comfyui, clips):
    load = {"video": {"class_type": "LoadVideo", "inputs": {"file": comfyui.put_input(clips / "pysd_counter.mp4")}}}
    assert comfyui.run({**load, **split(["video", 0])}).outputs["count"]["text"] == ["10", "10", "10"]


def test_plan_of_another_video_is_not_drawn_over_this_one(comfyui, demo, clips):
    other = {
        "other": {"class_type": "LoadVideo", "inputs": {"file": comfyui.put_input(clips / "pysd_counter.mp4")}},
        "sampled": {
            "class_type": "CodecLensSampleVideo",
            "inputs": {"video": ["other", 0], "images_fps": 24.0, "side": 256, "sampling": "all"},
        },
        "draw": {
            "class_type": "CodecLensDrawPlan",
            "inputs": {"frames": ["sampled", 0], "plan": ["plan", 0], "width": 1600, "cuts": False},
        },
        "picture": {"class_type": "PreviewImage", "inputs": {"images": ["draw", 0]}},
    }
    error = comfyui.run(chain(demo, extra=other)).error
    assert error is not None and "pysd_counter.mp4 is not the video" in error


def test_no_file_chosen_says_so(comfyui):
    error = comfyui.run(chain("")).error
    assert error is not None and "pick or upload" in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sample": {"images": ["parts", 0]}}, "exactly one"),
        ({"plan": {"policy": "frames", "policy.frames": "0, twelve"}}, "whole numbers"),
        ({"plan": {"policy": "frames", "policy.frames": "0, 999"}}, "999"),
    ],
)
def test_wrong_input_is_one_sentence_on_the_node(comfyui, demo, change, words):
    prompt = chain(demo, extra={"parts": {"class_type": "GetVideoComponents", "inputs": {"video": ["video", 0]}}})
    for node, inputs in change.items():
        prompt[node]["inputs"].update(inputs)
    error = comfyui.run(prompt).error
    assert error is not None and words in error and "\n" not in error.strip()


def test_file_that_is_no_video_is_refused_by_name(comfyui):
    (comfyui.input / "broken.mp4").write_bytes(b"this is no video" * 100)
    error = comfyui.run(chain("broken.mp4")).error
    assert error is not None and "broken.mp4" in error
