"""Auxiliary targets: the table, the loss on them, and what each token, picture and event is labelled with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.synthetic.frame_truth import FigureHistory, FrameState, changes
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.rendering import render_frame
from codeclens.models.synthetic.scenes import CAMERAS, COLOURS, sample_clip
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.batches import BatchAttention, attend, collate, forward
from codeclens.models.training.examples import Mixture, corpus, make_example
from codeclens.models.training.targets import (
    AT,
    COLUMN,
    SITES,
    TARGETS,
    event_times,
    label,
    make_heads,
    picture_targets,
    target_loss,
    unknown,
)
from codeclens.models.training.vocabulary import learn_vocabulary, tokenizer_of


def column(values, site, name):
    return values[..., COLUMN[site, name]]


def test_the_table_is_sound():
    assert len({(target.site, target.name) for target in TARGETS}) == len(TARGETS)
    for target in TARGETS:
        assert target.site in SITES and target.kind in ("class", "yes/no", "number") and target.weight > 0
        assert (len(target.classes) > 1) == (target.kind == "class")
        assert target.kind == "number" or target.scale == 1
    heads = make_heads(96, 128)
    for site, targets in AT.items():
        assert heads[site].in_features == (96 if site == "vision" else 128)
        assert heads[site].out_features == sum(len(target.classes) or 1 for target in targets)


@pytest.mark.parametrize("site", SITES)
def test_loss_of_a_head_at_zero_is_known_in_closed_form(site):
    """log of the number of classes, log 2, and the smooth L1 of the values themselves."""
    generator = np.random.default_rng(0)
    values = unknown(site, 40)
    expected = 0.0
    for number, target in enumerate(AT[site]):
        drawn = generator.uniform(-2, 2, 40)
        if target.kind == "class":
            drawn, loss = generator.integers(0, len(target.classes), 40), np.log(len(target.classes))
        elif target.kind == "yes/no":
            drawn, loss = generator.integers(0, 2, 40), np.log(2)
        else:
            size = np.abs(drawn[number:])
            loss = np.where(size < 0.25, 2 * size**2, size - 0.125).mean()
        values[number:, number] = drawn[number:]
        expected += target.weight * loss
    outputs = torch.zeros(40, make_heads(8, 8)[site].out_features)
    assert target_loss(site, outputs, torch.from_numpy(values)).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_values_have_no_loss_and_no_gradient():
    outputs = torch.randn(3, make_heads(8, 8)["cell"].out_features, requires_grad=True)
    values = unknown("cell", 3)
    assert target_loss("cell", outputs, torch.from_numpy(values)).item() == 0
    label(values, (np.array([1]),), "cell", {"motion": "stops", "age": 2.0})
    target_loss("cell", outputs, torch.from_numpy(values)).backward()
    touched = outputs.grad.abs() > 0
    assert not touched[[0, 2]].any() and touched[1].sum() == len(AT["cell"][0].classes) + 1


def test_one_yes_weighs_as_much_as_many_noes():
    outputs = torch.tensor([[1.0], [-1.0], [-2.0], [-3.0]])
    values = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    noes = np.mean(np.log(1 + np.exp([-1.0, -2.0, -3.0])))
    expected = AT["order"][0].weight * (np.log(1 + np.exp(-1)) + noes) / 2
    assert target_loss("order", outputs, values).item() == pytest.approx(expected, rel=1e-5)


def test_labels_are_class_numbers_and_scaled_values():
    values = unknown("picture", 2)
    label(values, (np.array([1]),), "picture", {"camera": "in", "zoom": 0.25, "cut": True})
    assert np.isnan(values[0]).all() and np.isfinite(values[1]).sum() == 3
    assert column(values, "picture", "camera")[1] == CAMERAS.index("in")
    assert column(values, "picture", "zoom")[1] == 8 * 0.25 and column(values, "picture", "cut")[1] == 1


@pytest.mark.parametrize("content", ["moving", "camera", "cuts", "fault"])
def test_pictures_are_labelled_with_what_is_true_of_their_frames(content):
    clip = sample_clip(7, content, seconds=2, fps=4)
    frames = range(0, clip.frames - 1, 2)
    rgb = [render_frame(clip, (128, 128), frame) for frame in range(clip.frames)]
    states = [FrameState(clip, frame, pixels) for frame, pixels in enumerate(rgb)]
    pairs = [np.stack(rgb[frame : frame + 2]) for frame in frames]
    found = picture_targets(clip, [(states[frame], states[frame + 1]) for frame in frames], pairs)
    assert found["vision"].shape[0] == found["cell"].shape[0] == 16 * len(frames)
    history, before = FigureHistory(clip), None
    for number, frame in enumerate(frames):
        for name, value in changes(clip, states[frame], before, frames).items():
            if not isinstance(value, str):
                scale = AT["picture"][COLUMN["picture", name]].scale
                assert column(found["picture"], "picture", name)[number] == pytest.approx(scale * value, abs=1e-5)
        cells = found["cell"][16 * number : 16 * number + 16]
        speeds = {2 * known["speed"] for known in history.add(states[frame]).values() if "speed" in known}
        labelled = column(cells, "cell", "speed")
        assert all(min(abs(speed - one) for one in speeds) < 1e-4 for speed in labelled[np.isfinite(labelled)])
        assert (column(cells, "cell", "time") == np.float32(0.5 * frame / 4)).all()
        vision = found["vision"][16 * number : 16 * number + 16]
        for name, pixels in (("first brightness", pairs[number][0]), ("last brightness", pairs[number][1])):
            mean = pixels.reshape(4, 32, 4, 32, 3).mean((1, 3, 4)).ravel() / 127.5 - 1
            np.testing.assert_allclose(column(vision, "vision", name), mean, atol=1e-5)
        before = states[frame]
    colours = column(found["vision"], "vision", "colour")
    assert (colours[np.isfinite(colours)] <= len(COLOURS)).all() and (colours < len(COLOURS)).any()


def test_events_are_labelled_by_their_words():
    seen = 0
    for seed in range(20):
        clip = sample_clip(seed, "cuts", seconds=4, fps=8)
        frames = list(range(1, clip.frames, 2))
        found = event_times(truth_of(clip, frames), clip.fps)
        for shot in clip.shots[1:]:
            if sum(other.opening == shot.opening for other in clip.shots) == 1:
                seconds, last = shot.first / 8, frames[-1] / 8
                fraction = np.interp(seconds, [frames[0] / 8, last], [-1, 1])
                expected = [0.5 * seconds, 0.5 * (last - seconds), fraction]
                assert found[f"the {shot.opening}"] == pytest.approx(expected, abs=1e-5)
                seen += 1
            else:
                assert f"the {shot.opening}" not in found
    assert seen > 10


@pytest.mark.slow
def test_the_text_model_learns_its_targets():
    """Every batch is of clips not seen before, and their loss falls; a layer after the last site read is not moved."""
    mixture = Mixture(
        sizes={(64, 64): 1}, modes={"keyframes": 1}, contents={"fault": 1}, frames=(4, 6), sample_fps=(4,),
        figures=(1, 1), questions=0,
    )  # fmt: skip
    tokenizer = tokenizer_of(learn_vocabulary(corpus(40), 330))
    attention = BatchAttention()
    model = TinyQwen3VL(tiny_config("nano", tokenizer.size), 0, attention, attend)
    heads = make_heads(model.config.vision.output_size, model.config.text.hidden_size)
    moved = [*model.text.layers.parameters(), *model.vision.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(moved, lr=2e-3)
    losses = []
    for step in range(60):
        batch = collate([make_example(seed, mixture) for seed in range(1000 * step, 1000 * step + 16)], tokenizer)
        _, states = forward(model, attention, batch)
        loss = sum(target_loss(site, heads[site](states[site]), batch.sites[site][1]) for site in ("cell", "picture"))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert not any(parameter in optimizer.state for parameter in model.text.layers[-1].parameters())
    assert all(parameter in optimizer.state for parameter in model.text.layers[0].parameters())


def test_sites_read_the_rows_that_they_are_named_for():
    tokenizer = tokenizer_of(learn_vocabulary(corpus(40), 330))
    examples = [make_example(seed, Mixture(), mode) for seed, mode in enumerate(("rgb", "thumbnail", "keyframes"))]
    batch = collate([replace(example, questions=example.questions[:1]) for example in examples], tokenizer)
    (visual, cell), (closing, picture) = batch.sites["cell"], batch.sites["picture"]
    assert torch.equal(visual, batch.visual_rows)
    assert (batch.ids[closing] == tokenizer.token_id("<|vision_end|>")).all()
    assert len(closing) == len(picture) == sum(len(example.pictures) for example in examples)
    # The same rows in the order of the text: what each example is labelled with, in the order of its pictures.
    for rows, values, site in ((visual, cell, "cell"), (closing, picture, "picture")):
        expected = torch.from_numpy(np.concatenate([example.targets[site] for example in examples]))
        torch.testing.assert_close(values[rows.argsort()], expected, equal_nan=True)
    torch.testing.assert_close(
        batch.sites["vision"][1][visual.argsort()],
        torch.from_numpy(np.concatenate([example.targets["vision"] for example in examples])), equal_nan=True,
    )  # fmt: skip
