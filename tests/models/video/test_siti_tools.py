"""SI and TI against siti-tools, the VQEG's reference implementation, run as its users run it."""

import importlib.util
import json
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from codeclens.models.video import metrics
from codeclens.models.video.metrics import Step

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("siti_tools") is None, reason="siti-tools is not installed; pip install siti-tools"
)

# Raw luma of full range; by default siti-tools goes to a display's light (PQ) first.
RAW_LUMA = ["--legacy", "--color-range", "full", "--quiet"]


def lossless(path, luma):
    """An FFV1 file whose planes are exactly ``luma`` uint8 [T, H, W], and grey."""
    count, height, width = luma.shape
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, picture in enumerate(luma):
            planes = np.concatenate([picture.ravel(), np.full(picture.size // 2, 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(planes.reshape(height * 3 // 2, width), format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("seed", range(2))
def test_spatial_and_temporal_information_are_those_of_siti_tools_to_six_digits(seed, tmp_path):
    random = np.random.default_rng(seed)
    # siti-tools takes a line for as long as the picture is wide, so the width must fill whole lines of memory.
    slope = np.linspace(0, 200, 128 * 48).reshape(48, 128)
    luma = (slope[None] + random.integers(0, 56, (5, 48, 128))).astype(np.uint8)
    path = lossless(tmp_path / "clip.mkv", luma)
    command = [sys.executable, "-m", "siti_tools", *RAW_LUMA, str(path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    steps = []
    for picture in luma:
        rgb = np.repeat(picture[..., None], 3, -1)
        steps.append(Step(rgb, rgb, 1 / 25, steps[-1] if steps else None))
    assert len(found["si"]) == len(luma)
    assert [metrics.spatial_information(step) for step in steps] == pytest.approx(found["si"], rel=1e-6)
    assert [metrics.temporal_information(step) for step in steps[1:]] == pytest.approx(found["ti"][-4:], rel=1e-6)
