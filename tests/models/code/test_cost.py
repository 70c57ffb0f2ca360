"""Predictions against codes really made, against placement's figures, and against a clock that follows a formula."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from codeclens.models.code import calibration, cost, encoding
from codeclens.models.code.calibration import calibrate, fit, load, save
from codeclens.models.code.conversation import converse
from codeclens.models.code.cost import Calibration, every_frame, footage_of, predict
from codeclens.models.code.layout import question_tokens
from codeclens.models.code.modes import pictures
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.qwen.placement import reading_bytes, seeing_bytes
from codeclens.models.source import sampled
from codeclens.models.source.reading import Frames, FrameSampling, VideoSource
from codeclens.models.video import motion
from codeclens.models.video.planning import plan, plan_from_costs
from codeclens.models.video.primitives import primitives
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

NOTHING = Calibration((0, 0, 0), (0, 0, 0), (0, 0), (0, 0, 0), (0, 0, 0))


def scene(count=14, cut=5):
    """A picture that slides by three pixels a frame and changes to another one at ``cut``."""
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.integers(0, 256, (10, 14, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(2)]
    return np.stack([pictures[t >= cut][:96, 3 * t : 3 * t + 128] for t in range(count)])


@pytest.fixture
def source():
    # At one frame a second the later stamps have a digit more.
    return VideoSource.from_images(scene(), 1.0)


def small(**options):
    return CodeConfig(**({"area": 96 * 128, "sampling": FrameSampling.all(), "rule": {"gamma": 1e6}} | options))


def planned(count=20, size=(256, 256), **rule):
    return plan_from_costs(np.ones(count), size=size, **{"gamma": 10, **rule})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stamps": "whole"},
        {"stamps": "second", "pair_thumbnails": True},
        {"mode": "keyframes"},
        {"mode": "rgb"},
        {"mode": "rgb", "policy": "fixed", "rule": {"cap": 0}, "drop": 0.55},
        {"mode": "keyframes", "policy": "fixed", "rule": {"cap": 0}},
        {"drop": 0.7},
    ],
)
def test_tokens_are_those_of_the_code_really_made(tiny_model, source, options):
    config = small(**options)
    code = watch(source, tiny_model, config)
    answer = converse(tiny_model, code).ask(cost.QUESTION, sampling=GREEDY, max_tokens=1)
    found = predict(code.plan, config, tiny_model, NOTHING)
    assert (found.visual_tokens, found.prompt_tokens) == (code.token_count, answer.prompt_tokens)


def test_a_small_context_drops_the_same_gops(tiny_model, source):
    config = small(mode="keyframes", policy="fixed", rule={"cap": 0})
    text = replace(tiny_model.config.text, context_length=300)
    model = replace(tiny_model, config=replace(tiny_model.config, text=text))
    whole = plan_from_costs(np.zeros(14), "fixed", cap=0, pts=np.arange(14.0), size=(96, 128))
    question = question_tokens(model.tokenizer, cost.QUESTION)
    code = watch(source, model, config, reserve=20 + question)
    found = predict(whole, config, model, NOTHING, answer_tokens=20)
    assert found.visual_tokens == code.token_count < 14 * 12
    assert found.prompt_tokens + 20 <= 300


@pytest.mark.parametrize(
    "mode, pair", [("keyframes", False), ("thumbnail", False), ("thumbnail", True), ("rgb", False)]
)
def test_vision_is_timed_by_the_batches_that_are_encoded(tiny_model, monkeypatch, mode, pair):
    batches = []

    def record(model, rgb, progress=None):
        batches.append((rgb.shape[0], rgb.shape[2] * rgb.shape[3] // 256))
        tokens, width = rgb.shape[2] * rgb.shape[3] // 1024, model.config.text.hidden_size
        return torch.zeros(len(rgb), tokens, width), torch.zeros(1, len(rgb), tokens, width)

    monkeypatch.setattr(pictures, "encode_pictures", record)
    plan = planned(45, cap=1 if mode != "thumbnail" else 3)
    frames = VideoSource.from_images(np.zeros((45, 256, 256, 3), np.uint8), 2.0).frames(FrameSampling.all(), (256, 256))
    encoding.encode_video(frames, plan, tiny_model, mode, pair_thumbnails=pair)
    assert len(batches) > 1
    config = small(mode=mode, pair_thumbnails=pair)
    expected = np.sum([(1, n * p, n * p * p) for n, p in batches], axis=0)
    for term, number in enumerate(expected):
        weights = tuple(float(index == term) for index in range(3))
        found = predict(plan, config, tiny_model, replace(NOTHING, vision=weights))
        assert found.seconds["vision"] == found.total == number


def test_reading_and_writing_are_timed_by_chunks_and_pairs(tiny_model):
    plan, config = planned(120, (128, 128), cap=0), small(mode="keyframes")
    prompt = predict(plan, config, tiny_model, NOTHING).prompt_tokens
    assert prompt > 2048

    def seconds(stage, *weights):
        return predict(plan, config, tiny_model, replace(NOTHING, **{stage: weights}), answer_tokens=10).seconds[stage]

    assert seconds("prefill", 1, 0, 0) == math.ceil(prompt / 1024)
    assert seconds("prefill", 0, 1, 0) == prompt
    # However a prompt is cut into chunks, each token attends to all before it.
    assert seconds("prefill", 0, 0, 1) == prompt**2 / 2
    assert seconds("decode", 1, 0) == 10
    assert seconds("decode", 0, 1) == sum(prompt + written for written in range(10))


def test_search_and_reading_follow_frames_and_pixels(tiny_model, monkeypatch):
    plan, weights = planned(20, (64, 96)), replace(NOTHING, search=(1.0, 0.5, 0.25), read=(3.0, 1e-3, 1e-5))
    found = predict(plan, small(), tiny_model, weights)
    assert found.seconds["plan"] == 19 + 0.5 * 19 * 24
    assert found.seconds["read"] == pytest.approx(3 + (1e-3 + 1e-5) * 20 * 64 * 96)
    assert predict(plan, small(policy="fixed"), tiny_model, weights).seconds["plan"] == 0
    assert predict(plan, small(), tiny_model, weights, read_seconds=7).seconds["read"] == 7
    monkeypatch.setattr(sampled, "HELD_BYTES", 1000)
    assert predict(plan, small(), tiny_model, weights, read_seconds=7).seconds["read"] == 14


def test_a_window_that_widens_costs_more(tiny_model, monkeypatch):
    """A picture that slides by 3, 50 and 100 pixels a frame, and the searches that were really made for it."""
    made, weights = [], replace(NOTHING, search=(0.0, 0.0, 1.0))
    search = motion.search
    monkeypatch.setattr(
        motion, "search", lambda rgb, radius, *rest: made.append((len(rgb), radius)) or search(rgb, radius, *rest)
    )
    # Brighter from left to right, so that a window too small finds the best match on its edge.
    grain = np.random.default_rng(0).integers(0, 9, (128, 1300, 3))
    texture = (np.linspace(0, 240, 1300)[:, None] + grain).astype(np.uint8)
    for step, expected in ((3, []), (50, [(1, 64)] * 2), (100, [(1, 64), (1, 128)] * 2)):
        made.clear()
        wide = np.stack([texture[:, step * t : step * t + 1024] for t in range(3)])
        found = plan(primitives([Frames(wide, np.arange(3) / 2, np.arange(3))]), gamma=1e9)
        assert sorted(made[1:]) == sorted(expected)
        again = 8 * 64 * sum(radius / 32 for _, radius in expected)
        assert predict(found, small(), tiny_model, weights).seconds["plan"] == again


@pytest.mark.parametrize("mode, patches", [("rgb", 2560), ("keyframes", 1024), ("thumbnail", 1024)])
def test_memory_is_what_placement_says(tiny_model, mode, patches):
    plan = planned(20, (256, 256), cap=4)
    found = predict(plan, small(mode=mode), tiny_model, NOTHING, answer_tokens=30)
    config, files = tiny_model.config, sum(file.size for file in tiny_model.files)
    frames = 20 * 256 * 256 * 3
    features = found.visual_tokens * config.text.hidden_size * (1 + config.text.deepstack_layers) * 4
    seeing = seeing_bytes(config.vision, patches, torch.float32)
    reading = reading_bytes(config.text, found.prompt_tokens + 30, torch.float32)
    assert found.memory == files + frames + features + max(seeing, reading)


def test_a_minute_of_footage(tiny_model):
    found = predict(planned(20), small(), tiny_model, replace(NOTHING, search=(1.0, 0.0, 0.0)))
    assert found.footage == 10 and found.per_minute(found.total) == 6 * 19
    assert found.to_json()["tokens_per_minute"] == 6 * found.visual_tokens
    one = predict(planned(1), small(), tiny_model, NOTHING)
    assert math.isnan(one.footage) and one.to_json()["seconds_per_minute"] is None
    json.dumps(one.to_json(), allow_nan=False)
    assert footage_of(planned(3)) == 1.5


def test_every_frame_is_whole_and_kept():
    plan = planned(20, budget=220, policy="budget", cap=4)
    assert not plan.keep.all()
    whole = every_frame(plan)
    assert whole.keep.all() and whole.kind.all() and whole.totals["keyframes"] == plan.totals["rgb_per_frame"]


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_fit_is_the_nonnegative_least_squares_solution(columns, seed):
    draw = np.random.default_rng(seed)
    terms = draw.uniform(0, 1, (6, columns)) * 10.0 ** draw.integers(-3, 6, columns)
    seconds = draw.uniform(0.1, 10, 6)
    found = np.array(fit(terms, seconds))
    expected, error = nnls(terms / seconds[:, None], np.ones(6))
    assert found.min() >= 0
    assert np.linalg.norm(terms @ found / seconds - 1) == pytest.approx(error, rel=1e-6)
    assert terms @ found == pytest.approx(terms @ expected, rel=1e-4, abs=1e-6)


TRUE = Calibration((0.03, 2e-4, 3e-8), (0.2, 4e-3, 5e-7), (0.05, 2e-5), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def model_by_formula():
    """A model that does nothing but move its clock as ``TRUE`` says, and that clock."""
    time = SimpleNamespace(now=0.0)
    text = SimpleNamespace(
        layers=2, kv_heads=1, head_dim=4, hidden_size=8, deepstack_layers=1, attends=lambda layer: True
    )  # fmt: skip

    def encode(frames, progress):
        pictures, patches = frames.shape[0], frames.shape[2] * frames.shape[3] // 256
        time.now += float(np.dot(TRUE.vision, (1, pictures * patches, pictures * patches**2)))
        return torch.zeros(pictures, 1, 8), torch.zeros(1, pictures, 1, 8)

    def forward(embeds, positions, cache, deepstack=None, visual_index=None):
        rows, stored = len(embeds), cache.length
        if rows > 1:
            time.now += float(np.dot(TRUE.prefill, (1, rows, rows * stored + rows**2 / 2)))
        else:
            time.now += float(np.dot(TRUE.decode, (1, stored)))
        cache.advance(rows)
        return torch.zeros(rows, 8)

    forward.logits = lambda hidden: torch.zeros(1, 16)
    forward.embed = lambda ids: torch.zeros(len(ids), 8)
    vision, tokenizer = SimpleNamespace(encode=encode), SimpleNamespace(decode=lambda ids: "x" * len(ids))
    model = SimpleNamespace(
        config=SimpleNamespace(text=text), text=forward, vision=vision, tokenizer=tokenizer, device="cpu",
        dtype=torch.float32,
    )  # fmt: skip
    return model, lambda: time.now


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(calibration, "RUNS", 1)
    monkeypatch.setattr(calibration, "SEARCH", ((64, 1), (96, 1), (96, 2)))
    monkeypatch.setattr(calibration, "READ", ((6, 64, 2), (6, 64, 1), (6, 96, 1)))


@pytest.mark.parametrize("patience", [0.0, 1000.0])
def test_calibration_finds_the_formula(brief, monkeypatch, patience):
    monkeypatch.setattr(calibration, "PATIENCE", dict.fromkeys(calibration.PATIENCE, patience))
    model, clock = model_by_formula()
    seen = []
    found = calibrate(model, clock, lambda done, total: seen.append((done, total)))
    for stage in ("vision", "prefill", "decode"):
        assert getattr(found, stage) == pytest.approx(getattr(TRUE, stage), rel=1e-6), stage
    # The clock stands still while frames are read and searched.
    assert found.search == (0, 0, 0) and found.read == (0, 0, 0)
    assert seen[0] == (0, 5) and seen[-1] == (5, 5)


def test_calibration_runs_a_real_model(tiny_model, brief, monkeypatch):
    monkeypatch.setattr(calibration, "PATIENCE", dict.fromkeys(calibration.PATIENCE, 0.0))
    found = calibrate(tiny_model)
    for stage in Calibration.__slots__:
        assert min(getattr(found, stage)) >= 0 < max(getattr(found, stage)), stage


OWNER = {"format": 1, "files": [["a.gguf", 12]], "device": "cpu"}


def test_what_is_kept_is_what_comes_back(tmp_path):
    path = save(TRUE, OWNER, tmp_path / "new" / "folder")
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert load(OWNER, path.parent) == TRUE
    assert load({**OWNER, "device": "another"}, path.parent) is None


def test_a_calibration_of_another_owner_is_not_taken(tmp_path):
    path = save(TRUE, OWNER, tmp_path)
    other = {**OWNER, "device": "another"}
    path.rename(calibration.file_of(other, tmp_path))
    assert load(other, tmp_path) is None


@pytest.mark.parametrize(
    "seconds",
    [None, [], {}, {"vision": [1, 2, 3]}, {"prefill": [1, 2]}, {"decode": [-1, 2]}, {"decode": [float("nan"), 2]},
     {"read": "abc"}, {"search": [True, 1, 1]}, {"search": [10**400, 1, 1]}, {"more": [1]}],
)  # fmt: skip
def test_a_file_with_other_values_is_not_taken(tmp_path, seconds):
    path = save(TRUE, OWNER, tmp_path)
    kept = json.loads(path.read_text())
    kept["seconds"] = {**kept["seconds"], **seconds} if seconds and len(seconds) else seconds
    if seconds == {"vision": [1, 2, 3]}:
        del kept["seconds"]["read"]
    path.write_text(json.dumps(kept))
    assert load(OWNER, tmp_path) is None


def test_a_damaged_file_is_not_taken(tmp_path):
    path = save(TRUE, OWNER, tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 9):
        path.write_bytes(whole[:length])
        assert load(OWNER, tmp_path) is None
    for damaged in (b"[]", b"null", b"\xff\xfe", b"[" * 100_000):
        path.write_bytes(damaged)
        assert load(OWNER, tmp_path) is None
