"""Seeds, splits and what they may show."""

from collections import Counter

import pytest
from codeclens.models.errors import InputError
from codeclens.models.synthetic.scenes import COLOURS, CONTENTS, FAULTS, HELD_OUT, SHAPES, SPLITS, sample_clip, split_of


def pairs(clip):
    found = {(figure.colour, figure.shape) for shot in clip.shots for figure in shot.figures}
    for fault in clip.faults:
        if fault.becomes:
            figure = clip.shots[0].figures[fault.figure]
            found.add((fault.becomes, figure.shape) if fault.becomes in COLOURS else (figure.colour, fault.becomes))
    return found


def test_splits_are_disjoint_and_cover_their_seeds():
    ranges = sorted(SPLITS.values())
    assert all(first < stop for first, stop in ranges)
    assert all(earlier[1] <= later[0] for earlier, later in zip(ranges, ranges[1:], strict=False))
    for name, (first, stop) in SPLITS.items():
        assert split_of(first) == split_of(stop - 1) == name
    for seed in (-1, ranges[-1][1]):
        with pytest.raises(InputError, match=str(seed)):
            split_of(seed)


def test_only_the_test_split_shows_held_out_pairs_and_every_clip_of_it_does():
    assert len(HELD_OUT) == len(COLOURS) and {shape for _, shape in HELD_OUT} == set(SHAPES)
    for number in range(250):
        for name in ("train", "validation"):
            assert not pairs(sample_clip(SPLITS[name][0] + number)) & HELD_OUT
        assert pairs(sample_clip(SPLITS["test"][0] + number)) & HELD_OUT


def test_a_seed_is_a_clip():
    assert sample_clip(5) == sample_clip(5)
    assert len({sample_clip(seed) for seed in range(50)}) == 50
    assert sample_clip(SPLITS["train"][0]).shots != sample_clip(SPLITS["validation"][0]).shots


@pytest.mark.parametrize("content", CONTENTS)
def test_content_is_what_was_asked_for(content):
    for seed in range(40):
        clip = sample_clip(seed, content, seconds=4)
        assert bool(clip.faults) == (content == "fault")
        assert (len(clip.shots) > 1) == (content == "cuts")
        assert all((shot.camera.kind != "still") == (content == "camera") for shot in clip.shots)
        figures = [figure for shot in clip.shots for figure in shot.figures]
        assert figures
        if content == "static":
            assert all(figure.motion == "still" and figure.spin == 0 for figure in figures)


def test_shots_follow_each_other_and_no_two_figures_of_one_share_their_name():
    for seed in range(200):
        clip = sample_clip(seed)
        assert clip.shots[0].first == 0 and clip.shots[-1].stop == clip.frames
        assert all(one.stop == other.first for one, other in zip(clip.shots, clip.shots[1:], strict=False))
        for shot in clip.shots:
            assert len({figure.name for figure in shot.figures}) == len(shot.figures)


def test_figures_stay_in_the_picture_at_rest_and_in_motion():
    for seed in range(60):
        clip = sample_clip(seed, "moving", aspect=(1.5, 1.0))
        for figure in clip.shots[0].figures:
            for frame in range(clip.frames):
                x, y = figure.position(frame / clip.fps)
                assert x - figure.radius >= -1e-9 and x + figure.radius <= 1.5 + 1e-9
                assert y - figure.radius >= -1e-9 and y + figure.radius <= 1 + 1e-9


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_lie_inside_the_clip(kind):
    for seed in range(60):
        for seconds, fps in ((0.5, 8), (3, 12)):
            clip = sample_clip(seed, "fault", fault=kind, seconds=seconds, fps=fps)
            (fault,) = clip.faults
            assert fault.kind == kind and 0 < fault.first < fault.stop <= clip.frames


def test_what_figures_do_and_how_many_there_are_can_be_weighed():
    wanted = {"stops": 1.0, "appears": 3.0, "moves": 0.0}
    clips = [sample_clip(seed, "moving", motions=wanted, fewest_figures=2, most_figures=2) for seed in range(150)]
    done = Counter(figure.motion for clip in clips for figure in clip.shots[0].figures)
    assert set(done) == {"stops", "appears"} and done["appears"] / done.total() == pytest.approx(0.75, abs=0.1)
    assert all(len(clip.shots[0].figures) <= 2 for clip in clips)
    assert sum(len(clip.shots[0].figures) == 2 for clip in clips) > 100  # a second one may find no room
    still = sample_clip(0, "static", motions=wanted)
    assert all(figure.motion == "still" for figure in still.shots[0].figures)
    assert sample_clip(7, "moving", motions={}) == sample_clip(7, "moving")


@pytest.mark.parametrize("wrong", [{"content": "dance"}, {"fault": "rust"}])
def test_unknown_words_are_refused(wrong):
    with pytest.raises(InputError, match="must be one of"):
        sample_clip(0, **wrong)
