"""What the nodes take from the host's VIDEO, with a host of a few lines in its stead."""

import importlib
import sys
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling
from support.clips import encode, numbered


class VideoFromComponents:
    def __init__(self, components, bit_depth=8):
        self.components = components


class FileVideo:
    """A VIDEO of a file; newer hosts give it edits that its file does not show."""

    def __init__(self, path, edited=None):
        self.path = path
        if edited is not None:
            self.components = SimpleNamespace(images=edited, frame_rate=Fraction(10), audio=None)
            self.get_components = lambda: self.components
        self.has_pending_frame_edits = lambda: edited is not None

    def get_stream_source(self):
        return str(self.path)

    def get_active_trim_window(self):
        return 0.0, 0.0

    def get_bit_depth(self):
        return 8


@pytest.fixture
def host(monkeypatch):
    """The pack's ``nodes.host``, imported among stubs of the host's modules."""
    stubs = {name: ModuleType(name) for name in (
        "comfy", "comfy.model_management", "comfy.utils", "folder_paths", "server", "comfy_api", "comfy_api.latest",
        "comfy_execution", "comfy_execution.graph", "codeclens.nodes",
    )}  # fmt: skip
    stubs["comfy_api.latest"].InputImpl = SimpleNamespace(
        VideoFromComponents=VideoFromComponents, VideoFromFile=FileVideo
    )
    stubs["comfy_api.latest"].Types = SimpleNamespace(
        VideoComponents=lambda *parts: SimpleNamespace(parts=parts),
        VideoContainer=SimpleNamespace(AUTO="auto"),
        VideoCodec=SimpleNamespace(AUTO="auto", H264="h264"),
    )
    stubs["comfy_api.latest"].ui = None
    stubs["comfy_execution.graph"].ExecutionBlocker = None
    stubs["server"].PromptServer = SimpleNamespace(instance=None)
    stubs["codeclens.nodes"].__path__ = [f"{importlib.import_module('codeclens').__path__[0]}/nodes"]
    for name, module in stubs.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "codeclens.nodes.host", raising=False)
    # The module has native code ask the host whether to stop; the stubbed one is gone after the test.
    processor = importlib.import_module("codeclens.kernels.registry").current().processor
    monkeypatch.setattr(processor, "watch", processor.watch)
    yield importlib.import_module("codeclens.nodes.host")
    sys.modules.pop("codeclens.nodes.host", None)


def test_pending_edits_are_what_is_read_and_it_is_said(host, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(encode(numbered(6, 64, 96)))
    plain, images = host.video_source(FileVideo(path))
    assert images is None and plain.info.width == 96 and plain.warnings == []

    cropped = torch.from_numpy(numbered(6, 64, 96)[:, 8:40, 16:48]).float() / 255
    video = FileVideo(path, cropped)
    source, images = host.video_source(video)
    frames = source.read(FrameSampling.all())
    assert np.array_equal(frames.rgb, numbered(6, 64, 96)[:, 8:40, 16:48]) and np.allclose(np.diff(frames.pts), 0.1)
    assert images is cropped and len(source.warnings) == 1 and "read as edited" in source.warnings[0]
    shot = SimpleNamespace(first=2, last=4, start=0.2, end=0.5)
    assert np.array_equal(host.part_of(video, shot).components.parts[0], cropped[2:5])


def test_a_folder_that_the_host_names_as_datasets_is_allowed_and_nothing_outside_of_it(host, tmp_path):
    for name in ("input", "output", "data/foxes", "secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "link").symlink_to(tmp_path / "secret")
    paths = sys.modules["folder_paths"]
    paths.get_input_directory = lambda: str(tmp_path / "input")
    paths.get_output_directory = lambda: str(tmp_path / "output")
    paths.folder_names_and_paths = {}
    with pytest.raises(InputError, match="extra_model_paths.yaml may name others as datasets"):
        host.dataset_folder("datasets/foxes")
    paths.folder_names_and_paths["datasets"] = ([str(tmp_path / "data")], set())
    assert host.dataset_folder("datasets/foxes") == (tmp_path / "data" / "foxes").resolve()
    assert host.dataset_folder("datasets") == (tmp_path / "data").resolve()
    for outside in ("datasets/../secret", "datasets/link", str(tmp_path / "secret"), "datasets/none"):
        with pytest.raises(InputError, match="not there or not allowed; it must be one of .*datasets/"):
            host.dataset_folder(outside)
