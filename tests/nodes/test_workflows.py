"""The shipped workflows as files: compact, left to right, noted, and each model named with its address."""

import json

import pytest
from support.comfyui import ROOT

FILES = sorted((ROOT / "workflows").glob("*.json"))
TITLE = 30
"""Height of a node's title bar, above its position."""


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def box(node):
    """(left, top, right, bottom) of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


@pytest.fixture(params=FILES, ids=[file.stem for file in FILES])
def workflow(request):
    return read(request.param)


def test_every_workflow_has_a_picture_for_its_card():
    for file in FILES:
        assert file.with_suffix(".jpg").is_file(), file.name


def test_a_workflow_opens_readable(workflow):
    """At 1600 x 1000 the host fits it at 0.64 and more; below 0.57 it draws no text."""
    boxes = [box(node) for node in workflow["nodes"]]
    assert max(b[2] for b in boxes) - min(b[0] for b in boxes) <= 1860
    assert max(b[3] for b in boxes) - min(b[1] for b in boxes) <= 1000


def test_no_node_lies_on_another(workflow):
    boxes = [(node["type"], box(node)) for node in workflow["nodes"]]
    for number, (name, a) in enumerate(boxes):
        for other, b in boxes[number + 1 :]:
            apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
            assert apart, f"{name} and {other}"


def test_wires_run_from_left_to_right(workflow):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for _, start, _, end, _, _ in workflow["links"]:
        assert box(nodes[start])[2] < box(nodes[end])[0], (nodes[start]["type"], nodes[end]["type"])


def test_a_short_note_stands_beside_the_first_node(workflow):
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    (text,) = note["widgets_values"]
    assert text.startswith("## ") and len(text.split()) < 70
    left = min(box(node)[0] for node in workflow["nodes"])
    assert box(note)[0] == left


def test_groups_have_titles_and_hold_nodes(workflow):
    assert workflow["groups"]
    for group in workflow["groups"]:
        x, y, width, height = group["bounding"]
        inside = [
            node for node in workflow["nodes"]
            if x <= box(node)[0] and y <= box(node)[1] and box(node)[2] <= x + width and box(node)[3] <= y + height
        ]  # fmt: skip
        assert group["title"] and inside, group["title"]


def test_loaders_name_their_files_folders_and_addresses(workflow):
    for node in workflow["nodes"]:
        files = [value for value in node.get("widgets_values") or [] if str(value).endswith((".safetensors", ".gguf"))]
        models = node["properties"].get("models", [])
        assert {model["name"] for model in models} >= set(files), node["type"]
        if node["type"] == "CodecLensLoadQwen3VL":
            assert len(models) == 2 and node["widgets_values"] == ["CodecLens-Tiny (embedded)", "auto"]
        for model in models:
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(model["name"])
            assert model["directory"] in ("text_encoders", "diffusion_models", "vae")
