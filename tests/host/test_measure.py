"""Measure Video in the real host."""

import io
import json

from PIL import Image


def test_a_clip_is_measured_drawn_and_described(comfyui, demo_clip):
    prompt = {
        "video": {"class_type": "LoadVideo", "inputs": {"file": comfyui.put_input(demo_clip)}},
        "measure": {"class_type": "CodecLensMeasureVideo", "inputs": {"video": ["video", 0], "fps": 6.0}},
        "words": {"class_type": "PreviewAny", "inputs": {"source": ["measure", 0]}},
        "json": {"class_type": "PreviewAny", "inputs": {"source": ["measure", 2]}},
        "picture": {"class_type": "PreviewImage", "inputs": {"images": ["measure", 1]}},
    }
    result = comfyui.run(prompt)
    assert result.error is None
    values = json.loads(result.outputs["json"]["text"][0])["values"]
    assert values["cuts"] == 1 and values["longest_freeze"] > 1
    assert "longest freeze" in result.outputs["words"]["text"][0]
    (picture,) = result.outputs["picture"]["images"]
    assert Image.open(io.BytesIO(comfyui.view(picture))).width == 1600
