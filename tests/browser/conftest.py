"""The host's own page in a real browser, in both of its renderers."""

import pytest
from support.browser import open_page, why_no_browser


@pytest.fixture(params=["litegraph", "vue"])
def page(comfyui, request):
    """The page of the running ComfyUI; skips where no browser is found."""
    if reason := why_no_browser():
        pytest.skip(reason)
    with open_page(comfyui, vue=request.param == "vue") as page:
        yield page
