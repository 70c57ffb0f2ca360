"""Loads a text encoder of a small size as ComfyUI does and saves it with ComfyUI's own node.

Run by tests/host/test_qwen35.py in the host's Python and folder: ``host_saving_worker.py FAMILY STATE SIZES OUTPUT``.
STATE has Hugging Face's names, SIZES is JSON with the widths that the host's tables are to have for the size that it
takes the state for. The node writes OUTPUT/clip/ComfyUI_00001_.safetensors.
"""

import json
import sys
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

family, state, sizes, output = sys.argv[1:5]
sys.argv[1:] = ["--cpu", "--output-directory", output, "--fp32-text-enc"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.sd  # noqa: E402
import comfy.text_encoders.qwen3vl as qwen3vl  # noqa: E402
import comfy.text_encoders.qwen35 as qwen35  # noqa: E402
import comfy.utils  # noqa: E402
import folder_paths  # noqa: E402
from comfy_extras.nodes_model_merging import CLIPSave  # noqa: E402

folder_paths.set_output_directory(output)
sizes = json.loads(sizes)


class NoTokenizer:
    def __init__(self, **_):
        pass

    def state_dict(self):
        return {}


if family == "qwen35":
    qwen35.QWEN35_MODELS["qwen35_2b"] = {**sizes["text"], "vision": {**sizes["vision"]}}
    qwen35.tokenizer = lambda **_: NoTokenizer
else:
    fields = [(name, type(value), field(default=value)) for name, value in sizes["text"].items()]
    base = qwen3vl.QWEN3VL_CONFIGS["qwen3vl_8b"]
    qwen3vl.QWEN3VL_CONFIGS["qwen3vl_8b"] = dataclass(make_dataclass("Small", fields, bases=(base,)))
    qwen3vl.QWEN3VL_VISION["qwen3vl_8b"] = sizes["vision"]
    qwen3vl.QWEN3VL_VISION_COMMON |= {
        name: sizes["vision"].pop(name) for name in ("num_heads", "num_position_embeddings")
    }
    qwen3vl.tokenizer = lambda **_: NoTokenizer

clip = comfy.sd.load_text_encoder_state_dicts([comfy.utils.load_torch_file(state)])
CLIPSave().save(clip, "clip/ComfyUI")
