"""Templates that need nothing run as they are shipped."""

import pytest
from support.workflow import load_workflow, nodes_of, to_prompt

READY = ["caption_a_video.json", "judge_video.json", "best_of_n.json"]


@pytest.mark.parametrize("name", READY)
def test_a_template_runs_green_with_nothing_chosen(comfyui, name):
    prompt = to_prompt(load_workflow(name), comfyui.get("/object_info"))
    result = comfyui.run(prompt, timeout=400)
    assert result.error is None
    shown = [number for kind in ("PreviewAny", "PreviewImage") for number in nodes_of(prompt, kind)]
    assert shown and all(number in result.outputs for number in shown)


def test_the_folder_template_captions_what_lies_in_input(comfyui, demo_clip):
    comfyui.put_input(demo_clip)
    prompt = to_prompt(load_workflow("caption_folder.json"), comfyui.get("/object_info"))
    (job,) = nodes_of(prompt, "CodecLensCaptionFolder")
    result = comfyui.run(prompt, timeout=400)
    assert result.error is None and "done" in result.outputs[job]["text"][0]
