"""Every node's schema, asked for as ComfyUI asks: one that raises would silently end the registration of the rest."""

import json
import re
import subprocess
import sys

import pytest
from support.comfyui import ROOT, find_comfyui, host_environment, why_not


@pytest.fixture(scope="module")
def schemas(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    script = ROOT / "tests" / "support" / "schemas.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(find_comfyui()), str(ROOT), "--cpu"],
        env=host_environment(tmp_path_factory.mktemp("site")),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return json.loads(ran.stdout)


def test_every_number_refuses_nan_and_infinities_in_one_sentence(schemas, tmp_path):
    """Through a link, or as JSON's NaN, which no comparison with bounds stops."""
    script = ROOT / "tests" / "support" / "hostile_numbers.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(find_comfyui()), str(ROOT), "--cpu"],
        env=host_environment(tmp_path),
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    tries = json.loads(ran.stdout.splitlines()[-1])
    numbers = {(node, name) for node, schema in schemas.items() for name, kind in inputs(schema) if kind[0] in NUMBERS}
    assert {(node, name) for node, name, _, _ in tries} == numbers and len(numbers) > 60
    for node, name, value, error in tries:
        assert error.startswith("InputError: ") and f": {name} is {value}; a number from" in error, (node, name, error)
        assert "\n" not in error


NUMBERS = ("INT", "FLOAT")


def inputs(schema):
    """(name, definition) of each input, those inside dynamic combos included."""
    for group in ("required", "optional"):
        yield from inputs_of(schema["input"].get(group, {}))


def inputs_of(group):
    for name, definition in group.items():
        yield name, definition
        for option in definition[1].get("options", []) if len(definition) > 1 else []:
            if isinstance(option, dict) and "inputs" in option:
                for nested in option["inputs"].values():
                    yield from inputs_of(nested)


def test_nodes_are_those_of_the_video_family_and_carry_the_prefix(schemas):
    assert {
        "CodecLensSampleVideo",
        "CodecLensExtractCodecPrimitives",
        "CodecLensPlanGOP",
        "CodecLensDrawPlan",
        "CodecLensDrawMotion",
        "CodecLensSelectFrames",
        "CodecLensSplitAtCuts",
        "CodecLensPlanInfo",
    } <= set(schemas)
    assert all(name.startswith("CodecLens") for name in schemas)


def test_each_node_and_input_teaches(schemas):
    for name, schema in schemas.items():
        assert len(schema["description"]) > 40, name
        assert schema["category"].startswith("CodecLens"), name
        for field, definition in inputs(schema):
            assert len(definition) > 1 and len(definition[1].get("tooltip") or "") > 10, f"{name}.{field}"


def test_input_and_output_names_do_not_collide(schemas):
    for name, schema in schemas.items():
        names = {field for group in schema["input"].values() for field in group}
        assert not names & set(schema["output_name"]) - {"model"}, name


HOST_TYPES = {"VIDEO", "IMAGE", "MASK", "AUDIO", "STRING", "INT", "FLOAT", "BOOLEAN", "COMBO", "MODEL", "CLIP", "VAE"}
HOST_TYPES |= {"LATENT", "CONDITIONING", "CLIP_VISION", "GUIDER", "SAMPLER", "SIGMAS", "NOISE"}


def test_sockets_of_our_own_carry_the_prefix(schemas):
    types = {kind for schema in schemas.values() for kind in schema["output"]}
    types |= {definition[0] for schema in schemas.values() for _, definition in inputs(schema)}
    assert {kind for kind in types - HOST_TYPES if not kind.startswith(("CODECLENS_", "COMFY_"))} == set()


@pytest.mark.parametrize(
    "typed",
    [
        "qwen", "vlm", "caption", "describe", "video caption", "describe video", "prompt from video", "judge", "score",
        "rank", "gop", "motion vectors", "shot", "scene cut",
    ],
)  # fmt: skip
def test_what_people_type_finds_a_node(schemas, typed):
    found = [
        name
        for name, schema in schemas.items()
        if any(words.lower().startswith(typed) for words in [schema["display_name"], *schema["search_aliases"]])
    ]
    assert found


def test_display_names_are_those_of_no_core_node(schemas):
    files = [find_comfyui() / "nodes.py", *find_comfyui().glob("comfy_extras/*.py")]
    core = set()
    for file in files:
        text = file.read_text(encoding="utf-8")
        core |= set(re.findall(r'display_name="([^"]+)"', text)) | set(re.findall(r'^ +"\w+": "([^"]+)",$', text, re.M))
    assert "Generate Text" in core and "Load Image" in core
    assert not {schema["display_name"] for schema in schemas.values()} & core


def test_every_node_has_a_help_page(schemas):
    pages = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    assert {page for page in pages if page.startswith("CodecLens")} == set(schemas)
