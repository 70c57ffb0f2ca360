"""What cells show is what the renderer painted there, and the loss follows its definition."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.synthetic.rendering import render_frame
from codeclens.models.synthetic.scenes import COLOURS, PATTERNS, SHAPES, SIZES, sample_clip
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.vision_targets import (
    CELL,
    KINDS,
    LENGTHS,
    OUTPUTS,
    CellBatch,
    CellCourse,
    cell_batches,
    cell_loss,
    cell_truth,
)

NONE = len(COLOURS)


def cells(values, rows, columns):
    return values.reshape(rows, columns, -1)


@pytest.mark.parametrize("size", [(128, 128), (128, 160), (64, 64)])
def test_a_figure_is_told_where_its_pixels_are(size):
    """Against the same picture without its figure."""
    aspect, told_of = (size[1] / min(size), size[0] / min(size)), 0
    for seed in range(12):
        clip = sample_clip(seed, "static", seconds=1, fps=4, aspect=aspect, most_figures=1)
        bare = replace(clip, shots=(replace(clip.shots[0], figures=()),))
        changed = (render_frame(clip, size, 0).astype(int) - render_frame(bare, size, 0)).any(2)
        rows, columns = size[0] // CELL, size[1] // CELL
        share = changed.reshape(rows, CELL, columns, CELL).mean((1, 3))
        words, lengths = (cells(values, rows, columns) for values in cell_truth(clip, size, 0))
        figure = clip.shots[0].figures[0]
        named = words[share > 0.09]
        assert (named[:, 0] == list(COLOURS).index(figure.colour)).all()
        assert (named[:, 1] == SHAPES.index(figure.shape)).all()
        assert (named[:, 3] == list(SIZES).index(figure.size)).all()
        told = figure.size == "large" and figure.shape in ("circle", "square", "ring")
        assert (named[:, 2] == (PATTERNS.index(figure.pattern) if told else -1)).all()
        bare_cells = words[share == 0]
        assert (bare_cells[:, 0] == NONE).all() and (bare_cells[:, 1:4] == -1).all()
        assert np.isnan(lengths[..., 2:4]).all()
        centre = np.array(figure.position(0)) * min(rows, columns)
        place = np.array(figure.position(0)) - np.array(aspect) / 2
        np.testing.assert_allclose(lengths[share > 0.09, 4:6], np.tile(place, ((share > 0.09).sum(), 1)), atol=1e-5)
        assert np.isnan(lengths[share == 0, 4:6]).all()
        for row, column in np.argwhere(share > 0.09):
            np.testing.assert_allclose(lengths[row, column, :2] + (column + 0.5, row + 0.5), centre, atol=1e-5)
            told_of += 1
    assert told_of > 12


def test_a_pair_tells_how_far_a_figure_moves():
    for seed in range(8):
        clip = sample_clip(seed, "moving", seconds=2, fps=4, most_figures=1)
        words, lengths = cell_truth(clip, (128, 128), 2, 3)
        figure = clip.shots[0].figures[0]
        inside = words[:, 0] != NONE
        step = 4 * (np.array(figure.position(3 / 4)) - figure.position(2 / 4))
        if inside.any() and figure.motion not in ("appears", "disappears"):
            np.testing.assert_allclose(lengths[inside, 2:4], np.tile(step, (inside.sum(), 1)), atol=1e-5)
        assert (lengths[~inside, 2:4] == 0).all()


def seen_by(kind):
    clips = (sample_clip(seed, "camera", seconds=2, fps=4, most_figures=1) for seed in range(300))
    return next(clip for clip in clips if clip.shots[0].camera.kind == kind)


@pytest.mark.parametrize(("kind", "way"), [("left", (1, 0)), ("right", (-1, 0)), ("up", (0, 1)), ("down", (0, -1))])
def test_the_ground_moves_against_a_panning_camera(kind, way):
    clip = seen_by(kind)
    words, lengths = cell_truth(clip, (128, 128), 1, 2)
    step = np.array(way) * clip.shots[0].camera.amount / clip.frames * 4
    bare = words[:, 0] == NONE
    np.testing.assert_allclose(lengths[bare, 2:4], np.tile(step, (bare.sum(), 1)), atol=1e-5)


@pytest.mark.parametrize(("kind", "sign"), [("in", 1), ("out", -1)])
def test_the_ground_moves_outwards_when_the_camera_zooms_in(kind, sign):
    clip = seen_by(kind)
    words, lengths = (cells(values, 4, 4) for values in cell_truth(clip, (128, 128), 1, 2))
    for row, column in np.argwhere(words[..., 0] == NONE):
        outwards = np.array([column - 1.5, row - 1.5])
        assert (np.sign(lengths[row, column, 2:4]) == sign * np.sign(outwards)).all()


def test_nothing_is_told_across_a_cut_or_in_the_dark():
    fades = cuts = 0
    for seed in range(60):
        clip = sample_clip(seed, "cuts", seconds=3, fps=8)
        for shot in clip.shots[1:]:
            words, lengths = cell_truth(clip, (64, 64), shot.first - 1, shot.first)
            assert (words == -1).all() and np.isnan(lengths).all()
            cuts += 1
            if shot.opening == "fade":
                assert (cell_truth(clip, (64, 64), shot.first)[0] == -1).all()
                fades += 1
            else:
                assert (cell_truth(clip, (64, 64), shot.first)[0][:, 0] >= 0).all()
    assert cuts > 30 and fades > 5


def test_faults_are_told_as_they_look():
    for seed in range(40):
        clip = sample_clip(seed, "fault", seconds=3, fps=6, fault="vanish", most_figures=1)
        words, _ = cell_truth(clip, (128, 128), clip.faults[0].first)
        assert (words[:, 0] == NONE).all()
        clip = sample_clip(seed, "fault", seconds=3, fps=6, fault="morph", most_figures=1)
        words, _ = cell_truth(clip, (128, 128), clip.faults[0].first)
        becomes = clip.faults[0].becomes
        place, name = (0, KINDS["colour"]) if becomes in COLOURS else (1, SHAPES)
        assert set(words[words[:, 1] >= 0, place]) <= {name.index(becomes)}


def test_batches_hold_one_shape_each_and_follow_from_their_seeds():
    seeds = range(10)
    batches = cell_batches(seeds, CellCourse())
    assert len({batch.pictures.shape[1:] for batch in batches}) == len(batches)
    assert sum(len(batch.pictures) for batch in batches) == 3 * len(seeds)
    for batch, again in zip(batches, cell_batches(seeds, CellCourse()), strict=True):
        _, frames, height, width, _ = batch.pictures.shape
        assert batch.count == len(batch.pictures) * (height // CELL) * (width // CELL)
        assert frames == 1 or batch.lengths[:, 2:4].isfinite().any()
        assert torch.equal(batch.pictures, again.pictures) and torch.equal(batch.words, again.words)
        assert torch.equal(batch.lengths.nan_to_num(), again.lengths.nan_to_num())
        told = batch.lengths.isfinite()
        assert told[:, :2].any() and torch.equal(told[:, 4:6], told[:, :2]) and told[:, 6:].all()


def test_brightness_is_that_of_the_pixels():
    for batch in cell_batches(range(6), CellCourse()):
        for place, at in ((6, 0), (7, -1)):
            for number, frames in enumerate(batch.pictures.float()):
                cells = frames[at].unfold(0, CELL, CELL).unfold(1, CELL, CELL).mean((2, 3, 4)).flatten()
                told = batch.lengths[number * len(cells) : (number + 1) * len(cells), place]
                torch.testing.assert_close(told, cells / 127.5 - 1, atol=1e-5, rtol=0)


def test_colours_without_a_name_are_not_told_but_shapes_are():
    course = CellCourse(sizes={(128, 128): 1}, contents={"static": 1}, most_figures=1, off_palette=1.0)
    for batch in cell_batches(range(12), course):
        figures = batch.words[:, 1] >= 0
        assert figures.any() and (batch.words[figures, 0] == -1).all() and (batch.words[~figures, 0] == NONE).all()
    named = cell_batches(range(12), replace(course, off_palette=0.0))
    assert all((batch.words[:, 0] >= 0).all() for batch in named)
    half = cell_batches(range(60), replace(course, off_palette=0.5))
    colours = torch.cat([batch.words[batch.words[:, 1] >= 0, 0] for batch in half])
    assert 0.25 < (colours == -1).float().mean() < 0.75


def test_a_colour_without_a_name_is_painted_as_it_is_given():
    clip = sample_clip(3, "static", seconds=1, fps=4, most_figures=1)
    figure = replace(clip.shots[0].figures[0], shape="square", pattern="plain", radius=0.22, colour="#c81450")
    clip = replace(clip, shots=(replace(clip.shots[0], figures=(figure,)),))
    x, y = (round(128 * place) for place in figure.position(0))
    np.testing.assert_allclose(render_frame(clip, (128, 128), 0)[y, x], (0.97 * 200, 0.97 * 20, 0.97 * 80), atol=3)


def test_loss_of_an_ignorant_head_is_known_in_closed_form():
    model = TinyQwen3VL(tiny_config("nano", 300))
    head = torch.nn.Linear(model.config.vision.output_size, OUTPUTS)
    for parameter in head.parameters():
        torch.nn.init.zeros_(parameter)
    words = torch.tensor([[NONE, -1, -1, -1, 2], [3, 1, -1, 0, 2], [3, 1, -1, 0, 2], [-1, -1, -1, -1, -1]])
    lengths = torch.full((4, LENGTHS), math.nan)
    lengths[1, :2] = torch.tensor([1.0, 0.1])
    batch = CellBatch(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8), words, lengths)
    told = sum(math.log(len(KINDS[kind])) for kind in ("colour", "shape", "size", "ground"))
    huber = ((1 - 0.125) + 0.5 * 0.1**2 / 0.25) / 2
    assert cell_loss(model.vision, head, batch).item() == pytest.approx(told + 2 * huber, rel=1e-5)
