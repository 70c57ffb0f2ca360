"""Sizes of videos: as transformers' own processor of the family decides, from the same files."""

import json

import pytest
import torch
from codeclens.models.errors import InputError
from codeclens.models.qwen.video_limits import VideoLimits, read_video_limits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.makers_names import declare_torchvision

FILES = ("processor_config.json", "video_preprocessor_config.json", "preprocessor_config.json")
CELLS = st.integers(1, 8).map(lambda cells: 32 * cells)


@pytest.fixture(scope="module")
def makers():
    """transformers' module of the processor."""
    pytest.importorskip("transformers", minversion="5.22")
    declared = declare_torchvision()
    yield pytest.importorskip("transformers.models.qwen3_vl.video_processing_qwen3_vl", exc_type=ImportError)
    del declared


def write(folder, stated: dict, name: str = FILES[1]) -> VideoLimits:
    for other in FILES:
        (folder / other).unlink(missing_ok=True)
    (folder / name).write_text(json.dumps({"video_processor": stated} if name == FILES[0] else stated))
    return read_video_limits(folder)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    frames=st.integers(2, 13),
    size=st.tuples(CELLS, CELLS),
    edges=st.tuples(st.integers(2048, 200_000), st.integers(2048, 700_000)).map(sorted),
    cap=st.sampled_from([None, False, True]),
    tokens=st.integers(1, 40),
    name=st.sampled_from(FILES),
)
def test_a_video_is_shown_as_large_as_transformers_shows_it(makers, tmp_path, frames, size, edges, cap, tokens, name):
    stated = {"size": {"shortest_edge": edges[0], "longest_edge": edges[1]}, "max_video_tokens": tokens}
    stated |= {} if cap is None else {"cap_pixels_per_frame": cap}
    limits = write(tmp_path, stated, name)
    processor = makers.Qwen3VLVideoProcessor.from_pretrained(tmp_path)
    video = torch.zeros(frames, 3, *size, dtype=torch.uint8)
    made = processor(videos=[video], do_sample_frames=False, return_tensors="pt")["video_grid_thw"][0]
    assert tuple((16 * made[1:]).tolist()) == limits.size(frames, *size)


@given(frames=st.integers(2, 768), size=st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_defaults_are_those_of_the_published_chat_models(makers, frames, size):
    height, width = (32 * side for side in size)
    expected = makers.smart_resize(frames, height, width, 2, 32, 4096, 25_165_824)
    assert VideoLimits().size(frames, height, width) == expected


def test_what_a_folder_does_not_state_is_the_default(tmp_path, qwen35_fixtures):
    assert read_video_limits(tmp_path) == read_video_limits(qwen35_fixtures) == VideoLimits()
    assert write(tmp_path, {"max_frames": 96}) == VideoLimits(most_frames=96)
    assert write(tmp_path, {"cap_pixels_per_frame": True}).frame_tokens == 768


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"size": {"longest_edge": "much"}}, "size.longest_edge = much; a whole number"),
        ({"size": {"shortest_edge": 0}}, "size.shortest_edge = 0"),
        ({"max_frames": True}, "max_frames = True"),
        ({"cap_pixels_per_frame": True, "max_video_tokens": -1}, "max_video_tokens = -1"),
        ({"size": {"shortest_edge": 9999, "longest_edge": 4096}}, "9999 pixels at least and 4096 at most"),
    ],
)
def test_limits_that_cannot_be_are_one_sentence(tmp_path, stated, message):
    with pytest.raises(InputError, match=f"video_preprocessor_config.json .*{message}"):
        write(tmp_path, stated)
