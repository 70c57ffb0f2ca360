"""Examples: what a mixture draws, in every mode, and what is asked and labelled."""

import random
from dataclasses import replace

import numpy as np
from codeclens.models.synthetic.scenes import COLOURS, SPLITS
from codeclens.models.training.examples import CAPTION, STILL, Mixture, make_example
from codeclens.models.training.targets import COLUMN

MIXTURE = Mixture(frames=(2, 9), questions=4)
MODES = ("rgb", "thumbnail", "keyframes", "cells", STILL)


def test_pictures_have_the_grids_of_their_parts():
    for seed in range(24):
        example = make_example(seed, MIXTURE)
        assert len(example.parts) == len(example.pictures)
        for part, picture in zip(example.parts, example.pictures, strict=True):
            assert picture.dtype == np.uint8 and picture.shape[1:] == (32 * part.rows, 32 * part.columns, 3)
            assert picture.shape[0] == (2 if example.mode == "rgb" else 1) or example.mode == "thumbnail"
        stamps = [part.seconds for part in example.parts if part.seconds is not None]
        assert stamps == sorted(stamps) and (example.mode != STILL or not stamps)


def test_mixtures_give_modes_rates_lengths_and_sizes():
    examples = [make_example(seed, Mixture()) for seed in range(60)]
    assert {example.mode for example in examples} == set(Mixture().modes)
    sizes = {picture.shape[1:3] for example in examples for picture in example.pictures}
    assert {(32, 32), (128, 128), (96, 96)} <= sizes
    mixed = [example for example in examples if len({picture.shape[1:3] for picture in example.pictures}) > 1]
    assert len(mixed) >= 10
    lengths = {len(example.parts) for example in examples}
    assert len(lengths) >= 6
    kinds = {question.kind for example in examples for question in example.questions}
    assert CAPTION in kinds and len(kinds) >= 16


def test_an_example_is_that_of_its_seed_and_test_clips_are_shown_in_any_mode():
    first = SPLITS["test"][0]
    for mode in MODES:
        one, other = make_example(first + 4, MIXTURE, mode), make_example(first + 4, MIXTURE, mode)
        assert one.mode == mode and one.questions == other.questions
        assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def test_only_the_kinds_of_the_mixture_are_asked():
    draw = random.Random(0)
    for seed in range(10):
        kinds = tuple(draw.sample(("colour", "shape", "count", "motion"), 2))
        example = make_example(seed, Mixture(kinds=dict.fromkeys(kinds, 1), other_kinds=0))
        assert example is None or {question.kind for question in example.questions} <= set(kinds)


def test_clips_without_a_required_question_are_skipped():
    mixture = Mixture(
        contents={"moving": 1}, modes={"keyframes": 1}, frames=(12, 16), i_frames=(1.0,), questions=40, figures=(3, 4)
    )
    skipped = 0
    for seed in range(12):
        every, required = make_example(seed, mixture), make_example(seed, replace(mixture, required={"order": 1.0}))
        if any(question.kind == "order" for question in every.questions):
            assert {q.question for q in required.questions} == {q.question for q in every.questions}
        else:
            assert required is None
            skipped += 1
    assert 0 < skipped < 12
    some = [make_example(seed, replace(mixture, required={"order": 0.5})) for seed in range(12)]
    assert 0 < some.count(None) < skipped
    faulty = replace(mixture, contents={"fault": 1}, required={"order": 1.0})
    asked = [{question.kind for question in make_example(seed, faulty).questions} for seed in range(6)]
    assert all(asked) and any("order" not in kinds for kinds in asked)


def test_key_frames_can_be_all_there_are():
    mixture = Mixture(contents={"static": 1}, modes={"keyframes": 1}, frames=(9, 9), i_frames=(1.0,))
    assert all(len(make_example(seed, mixture).parts) == 9 for seed in range(5))


def test_faults_can_be_weighted():
    mixture = Mixture(
        contents={"fault": 1}, frames=(16, 16), sample_fps=(4,), kinds={"fault": 1}, other_kinds=0,
        faults={"flicker": 1},
    )  # fmt: skip
    examples = filter(None, (make_example(seed, mixture) for seed in range(12)))
    topics = {question.topic for example in examples for question in example.questions if question.answer == "yes"}
    assert topics - {""} == {"flicker"}


def test_every_token_and_every_picture_has_its_targets():
    for seed in range(12):
        example = make_example(seed, Mixture(), MODES[seed % 5])
        tokens = sum(part.rows * part.columns for part in example.parts)
        assert len(example.targets["vision"]) == tokens == sum(map(len, example.kept))
        assert len(example.targets["cell"]) == sum(kept.sum() for kept in example.kept)
        assert len(example.targets["picture"]) == len(example.parts) == len(example.pictures)
        if example.mode == STILL:
            assert all(np.isnan(values).all() for values in example.targets.values())


def test_nothing_is_asked_where_no_questions_are_wanted():
    examples = [make_example(seed, Mixture(questions=0)) for seed in range(8)]
    assert all(example.pictures and not example.questions for example in examples)


def test_colours_without_a_name_are_not_labelled_but_shapes_are():
    mixture = Mixture(contents={"static": 1}, modes={"rgb": 1}, questions=0, unnamed_colours=1.0)
    for fraction, expected in ((1.0, {True}), (0.0, {False}), (0.5, {True, False})):
        unknown = set()
        for seed in range(12):
            values = make_example(seed, replace(mixture, unnamed_colours=fraction)).targets["vision"]
            colours, shapes = (values[:, COLUMN["vision", name]] for name in ("colour", "shape"))
            figures = np.isfinite(shapes)
            assert (colours[~figures] == len(COLOURS)).all() and figures.any()
            unknown |= set(np.isnan(colours[figures]).tolist())
        assert unknown == expected


def test_partial_pictures_show_what_changed_of_whole_pairs():
    mixture, partial = Mixture(contents={"moving": 1}, frames=(8, 12), sizes={(128, 128): 1}), 0
    for seed in range(12):
        example, pairs = make_example(seed, mixture, "cells"), make_example(seed, mixture, "rgb")
        assert example.kept[0].all() and all(kept.any() for kept in example.kept)
        assert np.array_equal(example.pictures[0], pairs.pictures[0])
        assert all(any(np.array_equal(one, other) for other in pairs.pictures) for one in example.pictures)
        for part, kept in zip(example.parts, example.kept, strict=True):
            assert part.tokens == kept.sum()
            if part.positions is not None:
                assert (part.positions[1] * part.columns + part.positions[2]).tolist() == np.flatnonzero(kept).tolist()
                partial += 1
    assert partial > 20
