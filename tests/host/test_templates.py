"""Templates run as they are shipped, with nothing downloaded and nothing chosen."""

import pytest
from support.comfyui import ROOT
from support.workflow import load_workflow, nodes_of, to_prompt

GVC = "gvc_"
"""Workflows of the generative codec need a video model."""

READY = sorted(file.name for file in (ROOT / "workflows").glob("*.json") if not file.name.startswith(GVC))
SHOWS_ITSELF = ("CaptionVideo", "CaptionAVideo", "AskVideo", "DescribeImage", "DrawPlan", "DrawMotion", "SplitAtCuts")
SHOWS_ITSELF += ("PlanGOP", "CaptionFolder", "EvaluateModes", "JudgeAVideo", "MeasureVideo")

STAR = "A large green star waits and starts to move. A small blue circle appears. The background is striped."
SAYS = {
    "caption_a_video.json": [STAR],
    "caption_video.json": [STAR],
    "ask_video.json": ["shots are there?\n2\n", "the cut?\n1.8 seconds\n", "the purple star?\nit bounces back"],
    "describe_image.json": ["green"],
    "judge_video.json": ["71% of 7 passed", "nothing wrong  lowest"],
}
"""What is true of the clips that these draw: in judge_video's all but that it flickers, and that something is wrong."""


@pytest.mark.parametrize("name", READY)
def test_a_template_runs_green_with_nothing_chosen(comfyui, name):
    prompt = to_prompt(load_workflow(name), comfyui.get("/object_info"))
    result = comfyui.run(prompt)
    assert result.error is None
    showing = [f"CodecLens{kind}" for kind in SHOWS_ITSELF] + ["PreviewAny", "PreviewImage"]
    shown = [number for kind in showing for number in nodes_of(prompt, kind)]
    assert shown and all(number in result.outputs for number in shown)
    texts = "\n".join(text for number in shown for text in result.outputs[number].get("text", ()))
    assert [words for words in SAYS.get(name, ()) if words not in texts] == []


def test_the_embedded_model_sees_pictures_as_it_was_trained(comfyui):
    prompt = to_prompt(load_workflow("caption_video.json"), comfyui.get("/object_info"))
    (caption,) = nodes_of(prompt, "CodecLensCaptionVideo")
    prompt["report"] = {"class_type": "PreviewAny", "inputs": {"source": [caption, 3]}}
    report = comfyui.run(prompt).outputs["report"]["text"][0]
    assert '"warnings": []' in report
    (sample,) = nodes_of(prompt, "CodecLensSampleVideo")
    prompt[sample]["inputs"]["side"] = 512
    report = comfyui.run(prompt).outputs["report"]["text"][0]
    assert "CodecLens-Tiny knows only clips drawn by CodecLens, at 128x128 and 4 frames a second" in report


def test_folders_captioned_twice_are_captioned_once(comfyui):
    prompt = to_prompt(load_workflow("caption_folder.json"), comfyui.get("/object_info"))
    comfyui.run(prompt)
    captions = list((comfyui.output / "codeclens" / "test clips").glob("*.txt"))
    assert len(captions) == 4 and all(caption.read_text().strip() for caption in captions)
