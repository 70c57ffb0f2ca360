"""Folders in the real host: captioned, judged, measured, resumed; a stranger's paths refused; one node to a caption."""

import json
from pathlib import Path

import pytest
from codeclens.models.dataset.text_encoders import token_counter
from codeclens.models.judge.rubric import listed_rubric
from codeclens.models.synthetic.clip_files import write_clips
from support.comfyui import find_comfyui


@pytest.fixture(scope="module")
def folder(comfyui):
    """input/set with two clips and a broken one."""
    path = comfyui.base / "input" / "set"
    write_clips(path, range(2), (64, 64), seconds=1.0, fps=8)
    (path / "broken.mp4").write_text("no video")
    return path


def text_of(result, node):
    return "".join(result.outputs[node]["text"])


def caption(**inputs):
    given = {"folder": "input/set", "preset": "plain", "existing": "skip", "trigger": "zzk", "max_tokens": 24, **inputs}
    return {"job": {"class_type": "CodecLensCaptionFolder", "inputs": given}}


def test_a_folder_is_captioned_once(comfyui, folder):
    for outcome in ("2 done, 0 done before, 1 failed", "0 done, 2 done before, 1 failed"):
        result = comfyui.run(caption())
        assert result.error is None and outcome in text_of(result, "job")
    assert (folder / "train_000000.txt").read_text().startswith("zzk, ")
    assert result.progress["job"][-1] == (3, 3)


def test_a_folder_is_judged_and_measured(comfyui, folder):
    prompt = {
        "judge": {"class_type": "CodecLensJudgeFolder", "inputs": {"folder": "input/set", "rubric": "artefacts"}},
        "measure": {"class_type": "CodecLensMeasureFolder", "inputs": {"folder": "input/set", "fps": 4.0}},
    }
    result = comfyui.run(prompt)
    assert result.error is None
    assert text_of(result, "judge").count("train_00000") == 2 and "2 done" in text_of(result, "measure")


def test_a_judged_folder_becomes_a_page_with_metrics_and_reasons(comfyui, folder):
    inputs = {"folder": "input/set", "rubric": "artefacts", "metrics": True, "reason": True}
    prompt = {
        "judge": {"class_type": "CodecLensJudgeFolder", "inputs": inputs},
        "page": {"class_type": "PreviewAny", "inputs": {"source": ["judge", 3]}},
    }
    result = comfyui.run(prompt)
    assert result.error is None
    page = Path(text_of(result, "page"))
    assert page.is_relative_to(comfyui.base / "output")
    html = page.read_text()
    assert html.count("<article>") == html.count("<svg") == html.count("data:image/jpeg") == 2
    assert "longest freeze" in html and "broken.mp4" in html


def test_captions_keep_to_the_tokens_of_a_text_encoder_of_the_host(comfyui, folder):
    schema = comfyui.get("/object_info/CodecLensCaptionFolder")["CodecLensCaptionFolder"]
    assert "t5" in str(schema["input"]["optional"]["tokenizer"])
    result = comfyui.run(caption(longest=6, tokenizer="t5", trigger="", existing="overwrite"))
    assert result.error is None
    root = find_comfyui()
    count = token_counter(root / "comfy" / "text_encoders" / "t5_tokenizer")
    assert all(0 < count(path.read_text()) <= 6 for path in folder.glob("*.txt"))
    assert "Value not in list" in comfyui.run(caption(longest=6, tokenizer="/etc/passwd")).error


@pytest.mark.parametrize(
    "path",
    ["/", "..", "input/../..", "input/set/../../..", "models", "C:\\", "input/\0", "//host/share", "output/none"],
)
def test_a_strangers_folder_is_refused_before_any_work(comfyui, folder, path):
    error = comfyui.run(caption(folder=path)).error
    assert "not there or not allowed" in error


def test_a_link_out_of_the_folders_is_refused(comfyui, folder, tmp_path):
    link = comfyui.base / "input" / "link"
    link.symlink_to(tmp_path)
    try:
        assert "not allowed" in comfyui.run(caption(folder="input/link")).error
    finally:
        link.unlink()


def test_a_caption_is_kept_beside_its_clip(comfyui, folder):
    (folder / "train_000001.txt").unlink(missing_ok=True)

    def save(text, **inputs):
        given = {"text": ["text", 0], "clip": "input/set/train_000001.mp4", "existing": "skip", **inputs}
        prompt = {
            "text": {"class_type": "PrimitiveString", "inputs": {"value": text}},
            "save": {"class_type": "CodecLensSaveCaption", "inputs": given},
        }
        return comfyui.run(prompt)

    path = folder / "train_000001.txt"
    assert save("a fox").error is None and path.read_text() == "a fox\n"
    assert save("two foxes").error is None and path.read_text() == "two foxes\n", "our own file is replaced"
    path.write_text("by hand")
    assert "left alone" in text_of(save("three"), "save") and path.read_text() == "by hand"
    assert "not a file" in save("x", clip="input/set/none.mp4").error


@pytest.fixture(scope="module")
def talked(comfyui, folder):
    """The prompt of the two nodes that do all by themselves, and what it gave."""
    clip = comfyui.put_input(folder / "train_000000.mp4")
    prompt = {
        "video": {"class_type": "LoadVideo", "inputs": {"file": clip}},
        "caption": {
            "class_type": "CodecLensCaptionAVideo",
            "inputs": {"video": ["video", 0], "preset": "plain", "max_tokens": 32},
        },
        "judge": {
            "class_type": "CodecLensJudgeAVideo",
            "inputs": {"video": ["video", 0], "rubric": "artefacts"},
        },
        "report": {"class_type": "PreviewAny", "inputs": {"source": ["caption", 1]}},
    }
    return prompt, comfyui.run(prompt)


def test_one_node_leads_from_a_video_to_a_caption_and_one_to_a_score(talked):
    _, result = talked
    assert result.error is None
    assert "at 128x128" in text_of(result, "caption") and "knows only clips drawn" in text_of(result, "caption")
    assert "flicker" in text_of(result, "judge")
    assert json.loads(text_of(result, "report"))["visual_tokens"] > 0


def steps(result, node: str) -> set[int]:
    """The lengths of what a node counted while it ran: frames, batches, tokens read and written, questions."""
    return {total for _, total in result.progress[node]}


def test_another_preset_or_rubric_does_not_read_the_video_again(comfyui, talked):
    prompt, first = talked
    assert len(steps(first, "judge") | steps(first, "caption")) > 4, "frames, pictures and the video's tokens"
    prompt["caption"]["inputs"]["preset"], prompt["judge"]["inputs"]["rubric"] = "tags", "checklist"
    second = comfyui.run(prompt)
    assert second.error is None and "video" in second.cached
    assert steps(second, "judge") == {len(listed_rubric("checklist").questions)}, "questions alone"
    assert len(steps(second, "caption")) == 2, "the question read and the answer written"


def test_a_budget_bounds_what_a_video_costs(comfyui, talked):
    prompt, first = talked
    limit = json.loads(text_of(first, "report"))["video_prompt_tokens"] - 2
    prompt["caption"]["inputs"]["budget"] = limit
    bounded = comfyui.run(prompt)
    assert bounded.error is None
    assert 0 < json.loads(text_of(bounded, "report"))["video_prompt_tokens"] <= limit
