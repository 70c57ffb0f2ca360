"""From a source to its code: plan and encoding see the same frames, and a context that is too small drops GOPs."""

from dataclasses import replace

import numpy as np
import pytest
from codeclens.models.code.conversation import converse
from codeclens.models.code.encoding import slice_code
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.errors import InputError
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.qwen.video_limits import VideoLimits
from codeclens.models.source import sampled
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.video.planning import plan
from codeclens.models.video.primitives import primitives


def scene(count=16, cut=8):
    """A picture that slides by three pixels a frame and changes to another one at ``cut``."""
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (12, 20, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(2)]
    return np.stack([pictures[t >= cut][:128, 3 * t : 3 * t + 192] for t in range(count)])


@pytest.fixture
def source():
    return VideoSource.from_images(scene(), 2.0)


def small(**options):
    return CodeConfig(**({"area": 128 * 192, "sampling": FrameSampling.all(), "rule": {"gamma": 2e6}} | options))


def test_the_code_follows_the_plan(tiny_model, source):
    code = watch(source, tiny_model, small())
    found = primitives(source.frames(FrameSampling.all(), (128, 192)))
    expected = plan(found, gamma=2e6)
    assert code.plan.to_json() == expected.to_json()
    assert [segment.kind for segment in code] == ["PI"[kind] for kind in expected.kind]
    assert expected.kind.nonzero()[0].tolist() == [0, 8]
    assert code.token_count == expected.totals["thumbnail"]
    assert set(code.seconds) == {"read", "plan", "vision"} and min(code.seconds.values()) > 0


def test_a_video_too_long_to_hold_is_read_twice_and_codes_alike(tiny_model, source, monkeypatch):
    once = watch(source, tiny_model, small())
    monkeypatch.setattr(sampled, "HELD_BYTES", 100_000)
    assert watch(source, tiny_model, small()).fingerprint == once.fingerprint


def test_every_frame_whole_without_search(tiny_model, source):
    code = watch(source, tiny_model, small(mode="keyframes", policy="fixed", rule={"cap": 0}))
    assert code.token_count == 16 * 24 == code.plan.totals["rgb_per_frame"]


def test_a_small_context_drops_gops_evenly_and_says_so(tiny_model, source):
    config = small(mode="keyframes", policy="fixed", rule={"cap": 0})
    context = 400
    model = replace(
        tiny_model, config=replace(tiny_model.config, text=replace(tiny_model.config.text, context_length=context))
    )
    code = watch(source, model, config, reserve=100)
    kept = np.flatnonzero(code.plan.keep)
    assert code.warnings == (f"context of {context} tokens: {16 - len(kept)} of 16 GOPs dropped",)
    assert 2 <= len(kept) < 16 and np.ptp(np.diff(kept)) <= 1
    talk = converse(model, code)
    answer = talk.ask("What is it?", sampling=GREEDY, max_tokens=4)
    assert answer.prompt_tokens + 4 <= context
    fuller = watch(source, model, config, reserve=0)
    assert fuller.plan.keep.sum() > len(kept)


def test_a_context_below_one_gop_is_refused(tiny_model, source):
    text = replace(tiny_model.config.text, context_length=40)
    tiny = replace(tiny_model, config=replace(tiny_model.config, text=text))
    with pytest.raises(InputError, match="a single GOP does not fit the model's context of 40 tokens beside 30"):
        watch(source, tiny, small(), reserve=30)


def test_a_budget_below_one_picture_is_refused(tiny_model, source):
    with pytest.raises(InputError, match="budget is 10 tokens; it must hold at least one picture of 32 tokens"):
        watch(source, tiny_model, small(policy="budget", rule={"budget": 10}))


@pytest.mark.parametrize("mode", ["cells", "thumbnail"])
def test_a_budget_bounds_the_tokens_of_the_prompt(tiny_model, source, mode):
    full, budget = watch(source, tiny_model, small(mode=mode)), 120
    bounded = watch(source, tiny_model, small(mode=mode).within(budget))
    assert budget / 2 < bounded.prompt_tokens <= budget < full.prompt_tokens


def test_a_clip_of_one_frame(tiny_model):
    code = watch(VideoSource.from_images(scene(1), 8.0), tiny_model, small())
    assert [(segment.kind, segment.index, segment.pts) for segment in code] == [("I", (0,), (0.0,))]
    native = watch(VideoSource.from_images(scene(1), 8.0), tiny_model, small(mode="rgb"))
    assert [(segment.kind, segment.index) for segment in native] == [("pair", (0,))]


def limited(model, **limits):
    vision = replace(model.config.vision, video=VideoLimits(**limits))
    return replace(model, config=replace(model.config, vision=vision))


def test_native_pairs_keep_to_the_limits_of_the_models_makers(tiny_model, source):
    native = small(mode="rgb", policy="fixed", rule={"cap": 0})
    full = watch(source, tiny_model, native)
    assert {segment.grid for segment in full} == {(4, 6)} and full.warnings == ()
    model = limited(tiny_model, most_pixels=10 * 64 * 96, most_frames=10)
    code = watch(source, model, native)
    assert {segment.grid for segment in code} == {(2, 3)} and len(code.segments) == 5
    assert [index for segment in code for index in segment.index] == [0, 2, 3, 5, 7, 8, 10, 12, 13, 15]
    assert code.token_count == int(code.plan.tokens.sum()) == 30
    assert [warning.split(":")[0] for warning in code.warnings] == [
        "limit of 10 frames a video", "limits of a video's pixels",
    ]  # fmt: skip
    part = slice_code(code, 1.6, 5.0, lambda index: scene()[index], model)
    assert {segment.grid for segment in part} == {(2, 3)} and part.segments[0].index == (5,)
    assert converse(model, part).ask("What?", sampling=GREEDY, max_tokens=2).prompt_tokens > 0
    assert {segment.grid for segment in watch(source, model, small(mode="keyframes"))} == {(4, 6)}
