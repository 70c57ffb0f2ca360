"""Every help page has a picture, and every picture and page that a page names is there."""

import re

import pytest
from support.comfyui import ROOT

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_names_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ")
    for name in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / name).exists(), name


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.stem.startswith("CodecLens")], ids=lambda page: page.stem
)
def test_a_node_is_shown(page):
    assert re.search(r"!\[[^\]]+\]\([^)]+\.(jpg|png|svg)\)", page.read_text(encoding="utf-8"))
