"""The pack as ComfyUI loads it."""

import re
from urllib.parse import urljoin

from support.comfyui import ROOT


def test_host_loads_the_pack_without_complaint(comfyui):
    loading = comfyui.log().partition("To see the GUI go to")[0]
    about_us = [line for line in loading.splitlines() if "codeclens" in line.lower()]
    assert about_us, "the pack is among the import times"
    assert not [line for line in about_us if "FAILED" in line or "rror" in line or "arning" in line]


def test_nodes_are_registered_under_the_pack(comfyui):
    nodes = {name: info for name, info in comfyui.get("/object_info").items() if name.startswith("CodecLens")}
    assert {info["python_module"] for info in nodes.values()} == {"custom_nodes.codeclens"}
    assert len(nodes) >= 8


def test_scripts_are_served_once(comfyui):
    served = [path for path in comfyui.get("/extensions") if "codeclens" in path]
    assert sorted(served) == sorted(f"/extensions/codeclens/{path.name}" for path in (ROOT / "web").glob("*.js"))


def test_scripts_find_the_host_under_a_sub_path():
    """A proxy that serves ComfyUI below a path moves every absolute address out of it."""
    known = {f"http://host/sub/scripts/{name}.js" for name in ("app", "api")}
    known |= {f"http://host/sub/extensions/codeclens/{path.name}" for path in (ROOT / "web").glob("*.js")}
    for script in (ROOT / "web").glob("*.js"):
        imported = re.findall(r'from "(.*)"', script.read_text(encoding="utf-8"))
        assert {urljoin(f"http://host/sub/extensions/codeclens/{script.name}", path) for path in imported} <= known


def test_workflows_are_offered_as_templates_with_a_picture(comfyui):
    offered = comfyui.get("/workflow_templates")["codeclens"]
    assert "plan_video" in offered
