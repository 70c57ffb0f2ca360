"""The real host, started once for all tests in this folder."""

import pytest
from support.comfyui import ComfyServer, why_not


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory):
    """A running ComfyUI that loaded the pack; skips where there is none."""
    if reason := why_not():
        pytest.skip(reason)
    server = ComfyServer(tmp_path_factory.mktemp("comfyui"))
    server.start()
    yield server
    server.stop()
