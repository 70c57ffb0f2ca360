"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
from codeclens.models.synthetic.painted_clip import write_demo
from hypothesis import settings
from support.comfyui import ComfyServer, why_not

# Tests multiply small matrices: a second OpenMP thread only waits for the first, for seconds when a core is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A run that decides whether a change lands must not depend on the day's random examples; everybody else's may.
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

SHARED = Path(os.environ.get("CODECLENS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_modifyitems(items):
    """Tests of the real host and of its page are of the slow tier."""
    for item in items:
        if item.path.parent.name in ("host", "browser"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def clips() -> Path:
    """The folder of real clips beside the checkout; skips where it is absent."""
    folder = SHARED / "clips"
    if not (folder / "index.json").is_file():
        pytest.skip(f"real clips are not at {folder}; set CODECLENS_SHARED to the folder that holds clips/")
    return folder


@pytest.fixture(scope="session")
def faults() -> Path:
    """The folder of files that other readers fail on; skips where it is absent."""
    folder = SHARED / "faults"
    if not folder.is_dir():
        pytest.skip(
            f"the files of known faults are not at {folder}; set CODECLENS_SHARED to the folder that holds faults/"
        )
    return folder


def shared_data(family: str) -> Path:
    folder = SHARED / "data" / family
    if not folder.is_dir():
        pytest.skip(f"fixtures of {family} are not at {folder}; set CODECLENS_SHARED to the folder that holds data/")
    return folder


@pytest.fixture(scope="session")
def qwen3vl_fixtures() -> Path:
    """The folder of GGUF fixtures made by the reference implementations; skips where it is absent."""
    return shared_data("qwen3vl")


@pytest.fixture(scope="session")
def qwen35_fixtures() -> Path:
    """The same of Qwen3.5."""
    return shared_data("qwen35")


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory):
    """A running ComfyUI that loaded the pack, started once for all tests; skips where there is none."""
    if reason := why_not():
        pytest.skip(reason)
    server = ComfyServer(tmp_path_factory.mktemp("comfyui"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def demo_clip(tmp_path_factory) -> Path:
    """The clip that ``codeclens demo`` makes: a cut at frame 120, a pan to frame 216, then nothing moves."""
    return write_demo(tmp_path_factory.mktemp("demo") / "demo.mp4")
