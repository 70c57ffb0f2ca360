"""What pictures are told about changes is what the scene does and what their pixels show."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.synthetic.ground_truth import LEAST_STEP, truth_of
from codeclens.models.synthetic.rendering import render_frame
from codeclens.models.synthetic.scenes import CAMERAS, FAULTS, MOTIONS, sample_clip
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.batches import BatchAttention, attend, collate, losses_and_states
from codeclens.models.training.examples import CAPTION, Course, corpus, make_example
from codeclens.models.training.text_targets import (
    AGES,
    CELL_OUTPUTS,
    CELL_VALUES,
    MENTION_VALUES,
    MENTIONS,
    PAIRS,
    PATHS,
    PICTURE_OUTPUTS,
    PICTURE_VALUES,
    STEPS,
    _loss,
    change_loss,
    changes,
    make_heads,
    moments,
)
from codeclens.models.training.vocabulary import learn_vocabulary, tokenizer_of

GRID = 4, 4


def told(clip, frames=None, size=(128, 128), grid=GRID):
    """(cells by name: [n, rows * columns], pictures by name: [n], the pictures themselves)."""
    frames = range(clip.frames) if frames is None else frames
    pictures = [render_frame(clip, size, frame) for frame in frames]
    cells, wholes = changes(clip, list(frames), [grid] * len(pictures), pictures)
    cells = cells.reshape(len(pictures), -1, len(CELL_VALUES))
    return (
        {name: cells[..., place] for place, name in enumerate(CELL_VALUES)},
        {name: wholes[:, place] for place, name in enumerate(PICTURE_VALUES)},
        np.stack(pictures).astype(float),
    )


def moving(seed):
    return sample_clip(seed, "moving", seconds=2, fps=4, most_figures=1)


def test_a_figure_goes_where_the_scene_moves_it():
    seen = 0
    for seed in range(12):
        clip = moving(seed)
        figure = clip.shots[0].figures[0]
        if figure.motion in ("appears", "disappears"):
            continue
        cells, wholes, _ = told(clip)
        places = np.array([figure.position(frame / 4) for frame in range(clip.frames)])
        for frame in range(1, clip.frames):
            inside = np.isfinite(cells["speed"][frame])
            assert inside.any() and (cells["new"][frame][inside] == 0).all()
            step, path = places[frame] - places[frame - 1], places[frame] - places[0]
            for axis, name in enumerate("xy"):
                np.testing.assert_allclose(cells[f"step {name}"][frame][inside], STEPS * step[axis], atol=1e-4)
                np.testing.assert_allclose(cells[f"path {name}"][frame][inside], PATHS * path[axis], atol=1e-4)
            np.testing.assert_allclose(cells["speed"][frame][inside], PATHS * 4 * np.hypot(*step), atol=1e-3)
            steps = np.hypot(*np.diff(places[: frame + 1], axis=0).T)
            assert (cells["rests"][frame][inside] == (steps[-1] < LEAST_STEP)).all()
            assert (cells["moved"][frame][inside] == (steps >= LEAST_STEP).any()).all()
            seen += inside.sum()
        assert (wholes["figures"] == 0.5).all()
    assert seen > 100


def test_motions_are_told_from_their_moment_on():
    before = {"stops": "moves", "bounces": "moves", "starts": "still"}
    seen = set()
    for seed in range(60):
        clip = moving(seed)
        figure = clip.shots[0].figures[0]
        cells, wholes, _ = told(clip)
        for frame in range(1, clip.frames):
            found = {MOTIONS[int(number)] for number in cells["motion"][frame] if np.isfinite(number)}
            passed = figure.moment is None or frame / 4 >= figure.moment
            if figure.motion in (*before, "moves", "still"):
                assert found == {figure.motion if passed else before[figure.motion]}
                ages = cells["age"][frame][np.isfinite(cells["age"][frame])]
                assert ages == pytest.approx(AGES * (frame / 4 - figure.moment) if passed and figure.moment else 0)
                just = passed and figure.moment is not None and (frame - 1) / 4 < figure.moment
                assert (cells["happens"][frame][np.isfinite(cells["age"][frame])] == just).all()
                assert wholes["happens"][frame] == just
                seen.add((figure.motion, passed))
    assert len(seen) == 8


@pytest.mark.parametrize("kind", ["freeze", "duplicate", "flicker", "jitter", "morph", "vanish"])
def test_faults_are_told_once_they_show(kind):
    for seed in range(6):
        clip = sample_clip(seed, "fault", seconds=3, fps=8, fault=kind, most_figures=2)
        cells, wholes, pictures = told(clip)
        (fault,) = clip.faults
        assert wholes[kind][1] == 0
        assert {name for name in FAULTS if wholes[name][-1] == 1} == set(truth_of(clip).faults) == {kind}
        since = int(np.flatnonzero(wholes[kind] == 1)[0])
        assert fault.first <= since <= fault.first + 1 and (wholes[kind][since:] == 1).all()
        same = [(one == other).all() for one, other in zip(pictures, pictures[1:], strict=False)]
        assert (wholes["repeats"][1:] == same).all() and (kind not in ("freeze", "duplicate") or any(same))
        light = np.diff(pictures.mean((1, 2, 3)))
        clear = np.abs(light) > 0.1
        assert (np.sign(wholes["light"][1:][clear]) == np.sign(light[clear])).all()
        assert clear.any() or kind != "flicker"
        jitters = cells["jitters"][np.isfinite(cells["jitters"])]
        assert (jitters.max() == 1) == (kind == "jitter")
        assert (np.nanmax(cells["morphed"]) == 1) == (kind == "morph")


def test_shots_are_counted_and_nothing_is_compared_across_a_cut():
    for seed in range(8):
        clip = sample_clip(seed, "cuts", seconds=4, fps=4)
        cells, wholes, _ = told(clip)
        number = [clip.shots.index(clip.shot_at(frame)) for frame in range(clip.frames)]
        assert wholes["shots"].tolist() == number
        opened = [AGES * (frame - clip.shots[shot].first) / 4 if shot else 0 for frame, shot in enumerate(number)]
        assert wholes["cut age"][1:] == pytest.approx(opened[1:])
        cut = np.diff(number) > 0
        assert (wholes["cut"][1:] == cut).all() and cut.any()
        assert np.isnan(wholes["camera"][1:][cut]).all() and np.isnan(wholes["zoom"][1:][cut]).all()
        assert np.isnan(cells["step x"][1:][cut]).all() and np.isnan(cells["new"][1:][cut]).all()


@pytest.mark.parametrize(("kind", "name", "sign"), [("left", "pan x", 1), ("down", "pan y", -1), ("in", "zoom", 1)])
def test_cameras_are_told_by_what_they_do(kind, name, sign):
    clips = (sample_clip(seed, "camera", seconds=2, fps=4) for seed in range(300))
    clip = next(clip for clip in clips if clip.shots[0].camera.kind == kind)
    _, wholes, _ = told(clip)
    assert (wholes["camera"][1:] == CAMERAS.index(kind)).all()
    for other in ("pan x", "pan y", "zoom"):
        assert (np.sign(np.round(wholes[other][1:], 6)) == (sign if other == name else 0)).all()


def test_what_appears_is_new_once():
    clips = (moving(seed) for seed in range(300))
    clip = next(clip for clip in clips if clip.shots[0].figures[0].motion == "appears")
    cells, wholes, _ = told(clip)
    there = wholes["figures"] > 0
    news = [np.nanmax(cells["new"][frame]) for frame in np.flatnonzero(there)]
    assert not there[0] and there[-1] and news[0] == 1 and not any(news[1:])


def test_what_disappears_is_told_for_how_long():
    clips = (moving(seed) for seed in range(300))
    clip = next(clip for clip in clips if clip.shots[0].figures[0].motion == "disappears")
    _, wholes, _ = told(clip)
    moment = clip.shots[0].figures[0].moment
    assert wholes["gone age"][1:] == pytest.approx([AGES * max(0, n / 4 - moment) for n in range(1, clip.frames)])
    assert wholes["gone age"][-1] > 0 and wholes["figures"][-1] == 0


def test_events_are_told_when_they_are_by_their_words():
    seen = 0
    for seed in range(20):
        clip = sample_clip(seed, "cuts", seconds=4, fps=8)
        frames = list(range(1, clip.frames, 2))
        found = moments(truth_of(clip, frames), clip.fps)
        for shot in clip.shots[1:]:
            if sum(other.opening == shot.opening for other in clip.shots) == 1:
                seconds, last = shot.first / 8, frames[-1] / 8
                share = np.interp(seconds, [frames[0] / 8, last], [-1, 1])
                expected = [AGES * seconds, AGES * (last - seconds), share]
                assert found[f"the {shot.opening}"] == pytest.approx(expected, abs=1e-5)
                seen += 1
            else:
                assert f"the {shot.opening}" not in found
    assert seen > 10


def test_the_first_picture_and_a_still_are_told_of_nothing_before():
    cells, wholes, _ = told(moving(1))
    assert all(np.isnan(values[0]).all() for name, values in cells.items() if name != "time")
    assert (cells["time"] == AGES * np.arange(len(wholes["shots"]))[:, None] / 4).all()
    assert {name for name, values in wholes.items() if np.isfinite(values[0])} == {"figures", "shots"}
    example = make_example(5, Course(), form="still")
    assert np.isnan(example.cells).all() and np.isnan(example.wholes).all()


@pytest.mark.parametrize("form", ["rgb", "keyframes", "thumbnail"])
def test_examples_are_told_of_each_token_and_each_picture(form):
    for seed in range(6):
        example = make_example(seed, Course(), form=form)
        assert len(example.cells) == sum(part.rows * part.columns for part in example.parts)
        assert len(example.wholes) == len(example.parts) == len(example.pictures)


def test_loss_follows_its_definition():
    outputs = torch.tensor([[2.0, 0.0, 0.0, 1.0, 3.0], [0.0, 1.0, 0.0, -2.0, 0.5]], requires_grad=True)
    values = torch.tensor([[0.0, 1.0, 1.0], [torch.nan, 0.0, torch.nan]])
    word = np.log(np.exp(2) + 2) - 2
    yes = (np.log(1 + np.exp(-1)) + np.log(1 + np.exp(-2))) / 2
    number = 2 - 0.125
    loss = _loss(outputs, values, words=3, answers=1)
    assert loss.item() == pytest.approx(word + yes + number, abs=1e-5)
    loss.backward()
    assert outputs.grad.isfinite().all() and not outputs.grad[1, :3].any() and not outputs.grad[1, 4]
    assert _loss(outputs, torch.full((2, 3), torch.nan), words=3, answers=1).item() == 0


def test_a_seldom_yes_weighs_as_much_as_many_noes():
    outputs = torch.tensor([[0.0, 1.0], [0.0, -1.0], [0.0, -2.0], [0.0, -3.0]])
    values = torch.tensor([[torch.nan, 1.0], [torch.nan, 0.0], [torch.nan, 0.0], [torch.nan, 0.0]])
    noes = np.mean(np.log(1 + np.exp([-1.0, -2.0, -3.0])))
    loss = _loss(outputs, values, words=1, answers=1)
    assert loss.item() == pytest.approx((np.log(1 + np.exp(-1)) + noes) / 2, abs=1e-5)


@pytest.mark.slow
def test_the_text_model_learns_what_it_is_told():
    """Every batch is of clips not seen before, and their loss falls; without the name of an event, no layer behind the
    halfway is moved."""
    course = Course(
        sizes={(64, 64): 1}, forms={"keyframes": 1}, contents={"fault": 1}, frames=(4, 6), look_fps=(4,),
        most_figures=1, kinds=(CAPTION,),
    )  # fmt: skip
    tokenizer = tokenizer_of(learn_vocabulary(corpus(40), 330))
    attention = BatchAttention()
    model = TinyQwen3VL(tiny_config("nano", tokenizer.size), 0, attention, attend)
    heads = make_heads(model.config.text.hidden_size)
    outputs = [heads[name].out_features for name in ("cells", "wholes", "mentions", "later", "second")]
    assert outputs == [CELL_OUTPUTS, PICTURE_OUTPUTS, len(MENTION_VALUES), 1, 1]
    moved = [*model.text.layers.parameters(), *model.vision.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(moved, lr=2e-3)
    losses = []
    for step in range(60):
        batch = batch_of(range(1000 * step, 1000 * step + 16), course, tokenizer)
        loss = change_loss(heads, *losses_and_states(model, attention, batch)[1:], batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    assert not any(parameter in optimizer.state for parameter in model.text.layers[-1].parameters())
    assert all(parameter in optimizer.state for parameter in model.text.layers[0].parameters())


def test_mentions_weigh_what_is_said_of_them():
    """Heads of nothing but biases: the errors in closed form, of the moments and, where two are named, of the order."""
    course = Course(
        sizes={(64, 64): 1}, forms={"rgb": 1}, contents={"moving": 1}, frames=(10, 14), look_fps=(4,), kinds=("order",),
        fewest_figures=3, needs={"order": 1.0},
    )  # fmt: skip
    tokenizer = tokenizer_of(learn_vocabulary(corpus(40), 330))
    examples = (make_example(seed, course) for seed in range(200))
    batch = collate([next(example for example in examples if example.questions)], tokenizer)
    heads = make_heads(8)
    for parameter in heads.parameters():
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(heads["later"].bias, 0.5)
    torch.nn.init.constant_(heads["second"].bias, 0.25)
    states = [torch.zeros(len(batch.ids), 8)] * 3
    loss = change_loss(heads, *states, batch).item()
    later = batch.mentions[:, -1].numpy()
    size = np.abs(batch.mentions[:, :-1].numpy())
    moments = np.where(size < 0.25, 2 * size**2, size - 0.125).mean()
    choices = np.mean([np.log1p(np.exp(-0.25 if said else 0.25)) for said in batch.second.tolist()])
    batch.mention_rows, batch.mentions = batch.mention_rows[:0], batch.mentions[:0]
    batch.choosing_rows, batch.second = batch.choosing_rows[:0], batch.second[:0]
    order = np.mean([np.log1p(np.exp(-0.5 if said else 0.5)) for said in later[np.isfinite(later)]])
    assert loss - change_loss(heads, *states, batch).item() == pytest.approx(
        MENTIONS * moments + PAIRS * (order + choices), rel=1e-4
    )


def batch_of(seeds, course, tokenizer):
    examples = [make_example(seed, course) for seed in seeds]
    return collate([replace(example, questions=example.questions[:1]) for example in examples], tokenizer)


def test_rows_behind_pictures_close_them():
    tokenizer = tokenizer_of(learn_vocabulary(corpus(40), 330))
    examples = [make_example(seed, Course(), form) for seed, form in enumerate(("rgb", "thumbnail", "keyframes"))]
    batch = collate(examples, tokenizer)
    assert (batch.ids[batch.behind_rows] == tokenizer.token_id("<|vision_end|>")).all()
    assert len(batch.behind_rows) == len(batch.wholes) == sum(len(example.pictures) for example in examples)
    assert len(batch.visual_rows) == len(batch.cells)
    # The same rows in the order of the text: what each example was told, in the order of its pictures.
    order, behind = batch.visual_rows.argsort(), batch.behind_rows.argsort()
    torch.testing.assert_close(
        batch.cells[order], torch.from_numpy(np.concatenate([e.cells for e in examples])), equal_nan=True
    )
    torch.testing.assert_close(
        batch.wholes[behind], torch.from_numpy(np.concatenate([e.wholes for e in examples])), equal_nan=True
    )
