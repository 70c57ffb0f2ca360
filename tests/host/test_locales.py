"""The English texts in locales/ are those of the schemas, complete, in the form that the host merges."""

import json

import pytest
from support.comfyui import ROOT, why_not
from support.locales import COMPILED, FILE, node_definitions, read_schemas


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    if reason := why_not():
        pytest.skip(reason)
    return node_definitions(read_schemas(tmp_path_factory.mktemp("site")))


def test_the_english_texts_are_those_of_the_schemas(definitions):
    assert json.loads(FILE.read_text(encoding="utf-8")) == definitions, "run python tests/support/locales.py"


def test_names_and_descriptions_hold_no_syntax_of_the_page(definitions):
    for name, definition in definitions.items():
        texts = [definition["display_name"], definition["description"]]
        texts += [entry["name"] for entry in (*definition["inputs"].values(), *definition["outputs"].values())]
        assert not [text for text in texts if set(text) & set(COMPILED)], name


def test_the_host_merges_them(comfyui, definitions):
    english = comfyui.get("/i18n")["en"]
    assert definitions.items() <= english["nodeDefs"].items()
    main = json.loads((ROOT / "locales" / "en" / "main.json").read_text(encoding="utf-8"))
    assert english["templateWorkflows"]["category"]["codeclens"] == "CodecLens"
    types = {kind for node in comfyui.get("/object_info").values() for kind in node["output"] if "CODECLENS" in kind}
    assert types <= set(main["dataTypes"])
