"""A saved workflow as the prompt that the host's API takes, without a browser."""

import json

from .comfyui import ROOT

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
NOTES = {"MarkdownNote", "Note"}


def load_workflow(name: str) -> dict:
    return json.loads((ROOT / "workflows" / name).read_text(encoding="utf-8"))


def to_prompt(workflow: dict, object_info: dict) -> dict:
    """The prompt of ``workflow``; ``object_info`` (the host's /object_info) gives the order of the widgets."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in NOTES:
            continue
        inputs = widget_values(object_info[node["type"]], list(node.get("widgets_values") or []))
        inputs |= {entry["name"]: sources[entry["link"]] for entry in node["inputs"] if entry.get("link") is not None}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def widget_values(info: dict, values: list) -> dict:
    found = {}
    for group in ("required", "optional"):
        take_widgets(info["input"].get(group, {}), "", values, found)
    return found


def take_widgets(group: dict, prefix: str, values: list, found: dict) -> None:
    for name, definition in group.items():
        kind = "COMBO" if isinstance(definition[0], list) else definition[0]
        if kind not in WIDGETS or not values or (len(definition) > 1 and definition[1].get("forceInput")):
            continue
        found[prefix + name] = values.pop(0)
        if len(definition) > 1 and definition[1].get("control_after_generate"):
            values.pop(0)
        if kind == "COMFY_DYNAMICCOMBO_V3":
            option = next(option for option in definition[1]["options"] if option["key"] == found[prefix + name])
            for nested in option["inputs"].values():
                take_widgets(nested, f"{prefix}{name}.", values, found)


def use_clip(prompt: dict, name: str) -> None:
    """Put Load Video with the clip ``name`` in the place of Test Videos, as a user does."""
    (number,) = nodes_of(prompt, "CodecLensTestVideos")
    prompt[number] = {"class_type": "LoadVideo", "inputs": {"file": name}}


def nodes_of(prompt: dict, class_type: str) -> list[str]:
    """Ids of the nodes of a class."""
    return [name for name, node in prompt.items() if node["class_type"] == class_type]
