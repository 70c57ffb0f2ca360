"""Loads and frees a Qwen3-VL pair by ComfyUI's own memory manager and prints its counters, as JSON.

Run by tests/host/test_qwen.py in the host's Python and folder: ``qwen_memory_worker.py MODEL MMPROJ``.
"""

import gc
import importlib.util
import json
import sys
import weakref
from pathlib import Path

path, mmproj = sys.argv[1:3]
sys.argv[1:] = ["--cpu"]
sys.path.insert(0, str(Path.cwd()))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management  # noqa: E402
import psutil  # noqa: E402
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
sys.modules["pack"] = importlib.util.module_from_spec(spec)

from pack.models.qwen.cache import Cache  # noqa: E402
from pack.models.qwen.generate import Context  # noqa: E402
from pack.nodes.model_placement import HostedQwen3VL  # noqa: E402


def resident() -> int:
    return psutil.Process().memory_info().rss


def read(model) -> torch.Tensor:
    context = Context(model.text, Cache(model.config.text.layers))
    context.read_ids([300 + i for i in range(40)])
    return context.logits


def loaded() -> list[str]:
    return [type(patcher.model).__name__ for patcher in comfy.model_management.loaded_models()]


gc.disable()
with torch.inference_mode():
    report = {"loaded": [], "resident": [resident()]}
    hosted = HostedQwen3VL(path, mmproj)
    report["sizes"] = [hosted.text.model_size(), hosted.vision.model_size()]
    for _ in range(2):
        hosted.for_vision(64)
        report["loaded"].append(loaded())
        model = hosted.for_reading(100)
        report["loaded"].append(loaded())
        whole = read(model)
        hosted.for_reading(100)
        report["resident"].append(resident())
        comfy.model_management.unload_all_models()
        report["loaded"].append(loaded())
        report["resident"].append(resident())

    again = read(model)
    report["error after unloading"] = float((whole - again).abs().max())
    hosted.text.patch_model(torch.device("cpu"), lowvram_model_memory=hosted.text.model_size() // 2)
    casting = [layer for layer in model.text.modules() if getattr(layer, "comfy_cast_weights", False)]
    report["casting"] = [len(casting), len([m for m in model.text.modules() if hasattr(m, "comfy_cast_weights")])]
    report["partial error"] = float((read(model) - again).abs().max())
    hosted.text.detach()

    gone = [weakref.ref(hosted), weakref.ref(model.text), weakref.ref(hosted.text)]
    del hosted, model, casting
    report["gone"] = [reference() is None for reference in gone]
print(json.dumps(report))
