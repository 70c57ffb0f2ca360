"""What is said of single frames is what the scene does and what the renderer painted."""

from dataclasses import replace

import numpy as np
import pytest
from codeclens.models.synthetic.frame_truth import FigureHistory, FrameState, cell_contents, changes
from codeclens.models.synthetic.ground_truth import LEAST_STEP, truth_of
from codeclens.models.synthetic.rendering import render_frame
from codeclens.models.synthetic.scenes import COLOURS, FAULTS, SHAPES, sample_clip

WORDS = ("colour", "shape", "size", "pattern", "background")


def states_of(clip, size=(128, 128)):
    return [FrameState(clip, frame, render_frame(clip, size, frame)) for frame in range(clip.frames)]


def histories(clip):
    """For each frame, the values of each visible figure."""
    history = FigureHistory(clip)
    return [history.add(state) for state in states_of(clip)]


def compared(clip):
    """For each frame, its values compared with the frame before."""
    states, frames = states_of(clip), range(clip.frames)
    return [changes(clip, now, before, frames) for before, now in zip([None, *states], states, strict=False)]


def contents(clip, frame, following=None, size=(128, 128)):
    """The values of each cell by name: arrays [rows, columns], NaN where nothing is known."""
    grid = size[0] // 32, size[1] // 32
    states = [FrameState(clip, one, render_frame(clip, size, one)) for one in (frame, following) if one is not None]
    found = {}
    for cells, known in cell_contents(clip, *states, *[None] * (2 - len(states)), grid):
        for name, value in known.items():
            blank = np.full(grid, np.nan, object if name in WORDS else float)
            found.setdefault(name, blank)[(*cells, ...)] = value
    return found


def moving(seed):
    return sample_clip(seed, "moving", seconds=2, fps=4, most_figures=1)


def first_clip(content, suits):
    clips = (sample_clip(seed, content, seconds=2, fps=4, most_figures=1) for seed in range(300))
    return next(clip for clip in clips if suits(clip.shots[0]))


@pytest.mark.parametrize("size", [(128, 128), (128, 160), (64, 64)])
def test_a_figure_is_in_the_cells_where_its_pixels_are(size):
    """Against the same picture without its figure."""
    aspect, checked = (size[1] / min(size), size[0] / min(size)), 0
    for seed in range(12):
        clip = sample_clip(seed, "static", seconds=1, fps=4, aspect=aspect, most_figures=1)
        bare = replace(clip, shots=(replace(clip.shots[0], figures=()),))
        changed = (render_frame(clip, size, 0).astype(int) - render_frame(bare, size, 0)).any(2)
        cover = changed.reshape(size[0] // 32, 32, size[1] // 32, 32).mean((1, 3))
        figure, found = clip.shots[0].figures[0], contents(clip, 0, size=size)
        inside = cover > 0.09
        for name in ("colour", "shape", "size"):
            assert (found[name][inside] == getattr(figure, name)).all()
        assert (found["colour"][cover == 0] == "none").all()
        assert (found["background"] == clip.shots[0].ground.kind).all()
        assert not any(isinstance(value, str) for value in found["shape"][cover == 0])
        if figure.size == "large" and figure.shape in ("circle", "square", "ring"):
            assert (found["pattern"][inside] == figure.pattern).all()
        else:
            assert not any(isinstance(value, str) for value in found["pattern"][inside])
        centre = np.array(figure.position(0)) * min(size) / 32
        for row, column in np.argwhere(inside):
            offset = found["offset x"][row, column], found["offset y"][row, column]
            assert offset == pytest.approx(centre - (column + 0.5, row + 0.5))
            position = found["position x"][row, column], found["position y"][row, column]
            assert position == pytest.approx(np.array(figure.position(0)) - np.array(aspect) / 2)
            checked += 1
        assert np.isnan(found["offset x"][cover == 0]).all() and "step x" not in found
    assert checked > 12


def test_a_pair_says_how_far_a_figure_moves():
    for seed in range(8):
        clip = moving(seed)
        figure, found = clip.shots[0].figures[0], contents(clip, 2, 3)
        inside = found["colour"] != "none"
        step = 4 * (np.array(figure.position(3 / 4)) - figure.position(2 / 4))
        if inside.any() and figure.motion not in ("appears", "disappears"):
            for axis, name in enumerate("xy"):
                np.testing.assert_allclose(found[f"step {name}"][inside], step[axis], atol=1e-5)
        assert not found["step x"][~inside].any() and not found["step y"][~inside].any()


@pytest.mark.parametrize(("kind", "way"), [("left", (1, 0)), ("right", (-1, 0)), ("up", (0, 1)), ("down", (0, -1))])
def test_the_background_moves_against_a_panning_camera(kind, way):
    clip = first_clip("camera", lambda shot: shot.camera.kind == kind)
    found = contents(clip, 1, 2)
    step = np.array(way) * clip.shots[0].camera.amount / clip.frames * 4
    bare = found["colour"] == "none"
    for axis, name in enumerate("xy"):
        np.testing.assert_allclose(found[f"step {name}"][bare], step[axis], atol=1e-5)


@pytest.mark.parametrize(("kind", "sign"), [("in", 1), ("out", -1)])
def test_the_background_moves_outwards_when_the_camera_zooms_in(kind, sign):
    clip = first_clip("camera", lambda shot: shot.camera.kind == kind)
    found = contents(clip, 1, 2)
    for row, column in np.argwhere(found["colour"] == "none"):
        assert np.sign(found["step x"][row, column]) == sign * np.sign(column - 1.5)
        assert np.sign(found["step y"][row, column]) == sign * np.sign(row - 1.5)


def test_nothing_is_known_across_a_cut_or_in_the_dark():
    fades = cuts = 0
    for seed in range(60):
        clip = sample_clip(seed, "cuts", seconds=3, fps=8)
        for shot in clip.shots[1:]:
            assert not contents(clip, shot.first - 1, shot.first, (64, 64))
            cuts += 1
            assert (not contents(clip, shot.first, size=(64, 64))) == (shot.opening == "fade")
            fades += shot.opening == "fade"
    assert cuts > 30 and fades > 5


def test_vanished_and_morphed_figures_are_labelled_as_painted():
    for seed in range(40):
        clip = sample_clip(seed, "fault", seconds=3, fps=6, fault="vanish", most_figures=1)
        assert (contents(clip, clip.faults[0].first)["colour"] == "none").all()
        clip = sample_clip(seed, "fault", seconds=3, fps=6, fault="morph", most_figures=1)
        found, becomes = contents(clip, clip.faults[0].first), clip.faults[0].becomes
        assert becomes in SHAPES or becomes in COLOURS
        inside = found["colour"] != "none"
        assert set(found["colour" if becomes in COLOURS else "shape"][inside]) <= {becomes}


def test_a_figure_goes_where_the_scene_moves_it():
    seen = 0
    for seed in range(12):
        clip = moving(seed)
        figure = clip.shots[0].figures[0]
        if figure.motion in ("appears", "disappears"):
            continue
        centres = np.array([figure.position(frame / 4) for frame in range(clip.frames)])
        for frame, found in list(enumerate(histories(clip)))[1:]:
            known, step, path = found[0], centres[frame] - centres[frame - 1], centres[frame] - centres[0]
            assert not known["new"] and known["speed"] == pytest.approx(4 * np.hypot(*step))
            assert (known["step x"], known["step y"]) == pytest.approx(tuple(step))
            assert (known["path x"], known["path y"]) == pytest.approx(tuple(path))
            steps = np.hypot(*np.diff(centres[: frame + 1], axis=0).T)
            assert known["rests"] == (steps[-1] < LEAST_STEP)
            assert known["has moved"] == (steps >= LEAST_STEP).any()
            seen += 1
        assert [known["figures"] for known in compared(clip)] == [1] * clip.frames
    assert seen > 50


def test_motions_are_known_from_their_moment_on():
    before = {"stops": "moves", "bounces": "moves", "starts": "still"}
    seen = set()
    for seed in range(60):
        clip = moving(seed)
        figure = clip.shots[0].figures[0]
        if figure.motion not in (*before, "moves", "still"):
            continue
        frames = list(zip(histories(clip), compared(clip), strict=True))
        for frame, (found, known) in list(enumerate(frames))[1:]:
            passed = figure.moment is None or frame / 4 >= figure.moment
            just = passed and figure.moment is not None and (frame - 1) / 4 < figure.moment
            assert found[0]["motion"] == (figure.motion if passed else before[figure.motion])
            assert found[0]["age"] == pytest.approx(frame / 4 - figure.moment if passed and figure.moment else 0)
            assert found[0]["happens"] == known["happens"] == just
            seen.add((figure.motion, passed))
    assert len(seen) == 8


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_known_once_they_show(kind):
    for seed in range(6):
        clip = sample_clip(seed, "fault", seconds=3, fps=8, fault=kind, most_figures=2)
        found, known = histories(clip), compared(clip)
        pictures = np.stack([state.rgb for state in states_of(clip)]).astype(float)
        (fault,) = clip.faults
        assert {name for name in FAULTS if known[-1][name]} == set(truth_of(clip).faults) == {kind}
        shows = [values[kind] for values in known[1:]]
        since = shows.index(True) + 1
        assert fault.first <= since <= fault.first + 1 and all(shows[since - 1 :])
        same = [(one == other).all() for one, other in zip(pictures, pictures[1:], strict=False)]
        assert [values["repeats"] for values in known[1:]] == same
        assert any(same) or kind not in ("freeze", "duplicate")
        light = np.diff(pictures.mean((1, 2, 3)))
        clear = np.abs(light) > 0.1
        assert (np.sign([values["light"] for values in known[1:]]) == np.sign(light))[clear].all()
        assert clear.any() or kind != "flicker"
        figures = [values for frame in found for values in frame.values()]
        assert any(values.get("jitters") for values in figures) == (kind == "jitter")
        assert any(values.get("morphed") for values in figures) == (kind == "morph")


def test_shots_are_counted_and_nothing_is_compared_across_a_cut():
    for seed in range(8):
        clip = sample_clip(seed, "cuts", seconds=4, fps=4)
        number = [clip.shots.index(clip.shot_at(frame)) for frame in range(clip.frames)]
        known, found = compared(clip), histories(clip)
        assert [values["shots"] for values in known] == number
        for frame in range(1, clip.frames):
            age = (frame - clip.shots[number[frame]].first) / 4 if number[frame] else 0
            cut = number[frame] != number[frame - 1]
            assert known[frame]["cut age"] == pytest.approx(age) and known[frame]["cut"] == cut
            if cut:
                assert "camera" not in known[frame] and "zoom" not in known[frame]
                assert all("step x" not in values and "new" not in values for values in found[frame].values())


@pytest.mark.parametrize(("kind", "name", "sign"), [("left", "pan x", 1), ("down", "pan y", -1), ("in", "zoom", 1)])
def test_cameras_are_known_by_what_they_do(kind, name, sign):
    clip = first_clip("camera", lambda shot: shot.camera.kind == kind)
    for known in compared(clip)[1:]:
        assert known["camera"] == kind
        for other in ("pan x", "pan y", "zoom"):
            assert np.sign(round(known[other], 6)) == (sign if other == name else 0)


def test_what_appears_is_new_once():
    clip = first_clip("moving", lambda shot: shot.figures[0].motion == "appears")
    there = [values["figures"] > 0 for values in compared(clip)]
    news = [found[0]["new"] for found in histories(clip) if found]
    assert not there[0] and there[-1] and news == [True] + [False] * (sum(there) - 1)


def test_the_seconds_since_a_figure_disappeared():
    clip = first_clip("moving", lambda shot: shot.figures[0].motion == "disappears")
    moment = clip.shots[0].figures[0].moment
    known = compared(clip)
    ages = [values["gone age"] for values in known[1:]]
    assert ages == pytest.approx([max(0, number / 4 - moment) for number in range(1, clip.frames)])
    assert ages[-1] > 0 and known[-1]["figures"] == 0


def test_the_first_frame_is_compared_with_nothing():
    clip = moving(1)
    assert compared(clip)[0] == {"figures": 1, "shots": 0} and histories(clip)[0] == {}
