"""Judging in the real host: scores, pairs, the best of several, and a gate whose branch does not run."""

import json

import numpy as np
import pytest
from codeclens.models.synthetic.clip_files import write_clips


@pytest.fixture(scope="module")
def clips(comfyui, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, range(3, 5), content="moving", seconds=2.0, fps=8)
    return [comfyui.put_input(path) for path in sorted(folder.glob("*.mp4"))]


def encoded(file, at):
    """Load Video -> Sample Video -> Plan -> Encode, with names that end in ``at``."""
    return {
        f"video{at}": {"class_type": "LoadVideo", "inputs": {"file": file}},
        f"sample{at}": {
            "class_type": "CodecLensSampleVideo",
            "inputs": {
                "video": [f"video{at}", 0],
                "images_fps": 24.0,
                "side": 128,
                "sampling": "fps",
                "sampling.fps": 4.0,
            },
        },
        f"extract{at}": {
            "class_type": "CodecLensExtractCodecPrimitives",
            "inputs": {"frames": [f"sample{at}", 0], "vectors": "search"},
        },
        f"plan{at}": {
            "class_type": "CodecLensPlanGOP",
            "inputs": {
                "primitives": [f"extract{at}", 0],
                "policy": "adaptive",
                "policy.gamma": "auto",
                "policy.gamma_value": 1.0,
                "policy.cap": 16,
                "mode": "thumbnail",
                "start_at_cuts": False,
            },
        },
        f"encode{at}": {
            "class_type": "CodecLensEncodeVideo",
            "inputs": {
                "model": ["model", 0],
                "frames": [f"sample{at}", 0],
                "plan": [f"plan{at}", 0],
                "mode": "thumbnail",
                "reserve": 512,
                "stamps": "every",
                "pair_thumbnails": False,
                "drop": 0.0,
            },
        },
    }


MODEL = {
    "model": {"class_type": "CodecLensLoadQwen3VL", "inputs": {"model": "CodecLens-Tiny (embedded)", "mmproj": "auto"}}
}


def show(*links):
    return {
        f"show{number}": {"class_type": "PreviewAny", "inputs": {"source": list(link)}}
        for number, link in enumerate(links)
    }


def judged(at, **inputs):
    options = {"rubric": "artefacts", "prompt": "", "moments": False, "reason": False, "custom_rubric": "", **inputs}
    return {
        f"judge{at}": {
            "class_type": "CodecLensJudgeVideo",
            "inputs": {"model": ["model", 0], "code": [f"encode{at}", 0], **options},
        }
    }


def text_of(result, node):
    return result.outputs[node]["text"][0]


def test_a_video_is_scored_twice_the_same_with_moments_and_pictures(comfyui, clips):
    scores = []
    for reason in (False, True):
        prompt = {
            **MODEL,
            **encoded(clips[0], 0),
            **judged(0, moments=True, reason=reason, metrics=reason),
            **show(("judge0", 0), ("judge0", 4), ("judge0", 5)),
            "pictures": {"class_type": "PreviewImage", "inputs": {"images": ["judge0", 2]}},
            "worst": {"class_type": "PreviewImage", "inputs": {"images": ["judge0", 3]}},
        }
        result = comfyui.run(prompt)
        assert result.error is None
        scores.append(float(text_of(result, "show0")))
        verdict = json.loads(text_of(result, "show1"))
        assert verdict["moments"] and len(verdict["questions"]) == 5
        assert ("flicker" in verdict.get("metrics", {})) == reason
        assert "flicker" in text_of(result, "show2")
        assert result.outputs["pictures"]["images"] and result.outputs["worst"]["images"]
    assert scores[0] == scores[1] and 0 < scores[0] < 1


def test_a_wrong_rubric_names_line_and_key(comfyui, clips):
    wrong = '{\n"questions": [\n{"name": "a", "question": "Is it?", "wieght": 2}]}'
    prompt = {**MODEL, **encoded(clips[0], 0), **judged(0, custom_rubric=wrong), **show(("judge0", 0))}
    error = comfyui.run(prompt).error
    assert "line 3: 'wieght' is not known" in error


def test_pairs_rank_and_the_best_is_kept(comfyui, clips):
    prompt = {
        **MODEL,
        **encoded(clips[0], 0),
        **encoded(clips[1], 1),
        "compare": {
            "class_type": "CodecLensCompareVideos",
            "inputs": {"model": ["model", 0], "code_a": ["encode0", 0], "code_b": ["encode1", 0]},
        },
        **show(("compare", 3)),
    }
    result = comfyui.run(prompt)
    assert result.error is None
    found = json.loads(text_of(result, "show0"))
    assert np.isclose(found["preference"], (found["a_first"] + found["b_first"]) / 2, atol=1e-5)


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_a_closed_gate_keeps_its_branch_from_running(comfyui, clips, limit):
    prompt = {
        **MODEL,
        **encoded(clips[0], 0),
        **judged(0),
        "late": {"class_type": "LoadVideo", "inputs": {"file": clips[1]}},
        "parts": {"class_type": "GetVideoComponents", "inputs": {"video": ["late", 0]}},
        "gate": {
            "class_type": "CodecLensGate",
            "inputs": {
                "value": ["parts", 0],
                "conditions": f"score >= {limit}\nflicker > 0",
                "verdict": ["judge0", 4],
            },
        },
        "after": {"class_type": "PreviewImage", "inputs": {"images": ["gate", 0]}},
        **show(("gate", 1), ("gate", 2)),
    }
    result = comfyui.run(prompt)
    assert result.error is None
    assert ("after" in result.outputs) == (limit == 0.0)
    assert ("parts" in result.executed) == (limit == 0.0)
    assert text_of(result, "show0").lower() == str(limit == 0.0).lower()
