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


def test_script_is_served_once(comfyui):
    assert [path for path in comfyui.get("/extensions") if "codeclens" in path] == [
        "/extensions/codeclens/codeclens.js"
    ]


def test_script_finds_the_host_under_a_sub_path(comfyui):
    """A proxy that serves ComfyUI below a path moves every absolute address out of it."""
    script = (ROOT / "web" / "codeclens.js").read_text(encoding="utf-8")
    (imported,) = re.findall(r'from "(.*)"', script)
    assert urljoin("http://host/sub/extensions/codeclens/codeclens.js", imported) == "http://host/sub/scripts/app.js"


def test_workflows_are_offered_as_templates_with_a_picture(comfyui):
    offered = comfyui.get("/workflow_templates")["codeclens"]
    assert "plan_video" in offered
