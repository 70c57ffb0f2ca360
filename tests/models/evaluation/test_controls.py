"""Controls: what they take from a code, and what they leave."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from codeclens.models.code.learned.learned_code import Header, LearnedCode, base_of, make_network
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.errors import InputError
from codeclens.models.evaluation.controls import ABLATIONS, CONTROLS, falsify
from codeclens.models.evaluation.paired import LEARNED, MODES, evaluate, evaluate_clips, read_tasks, ways_of
from codeclens.models.evaluation.remembered import with_memory
from codeclens.models.evaluation.report import curve_of
from codeclens.models.evaluation.statistics import summarise
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.weights import embedded_pair

CONFIG = CodeConfig(sampling=FrameSampling.by_fps(2), area=128 * 128)


@pytest.fixture(scope="module")
def model():
    return load_placed(*embedded_pair(), "cpu")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    index = write_clips(
        tmp_path_factory.mktemp("controls"), seeds_of("validation", 40, 2), (128, 128), content="moving", seconds=3
    )
    every = read_tasks(index)
    clips = dict.fromkeys(task.clip for task in every)
    return [task for clip in clips for task in [task for task in every if task.clip == clip][:2]]


@pytest.fixture(scope="module", params=["thumbnail", "cells"])
def codes(request, tasks, model):
    """The codes of two clips."""
    clips = dict.fromkeys(task.clip for task in tasks)
    config = CodeConfig(sampling=CONFIG.sampling, area=CONFIG.area, mode=request.param)
    return [watch(VideoSource.open(clip), model, config) for clip in clips]


def predicted(code):
    return [segment for segment in code if segment.kind == "P"]


def tokens_of(code):
    return torch.cat([segment.embeds for segment in predicted(code)]).float()


def test_controls_leave_whole_pictures_and_positions_as_they_are(codes, model):
    code, other = codes
    for control in ("zeroed", "shuffled", "foreign"):
        false = falsify(code, control, other, model)
        assert (false.words, false.token_count) == (code.words, code.token_count)
        for own, theirs in zip(code, false, strict=True):
            assert torch.equal(own.positions, theirs.positions) and own.pts == theirs.pts
            assert (own.kind == "P") or torch.equal(own.embeds, theirs.embeds)
        assert not torch.equal(tokens_of(false), tokens_of(code)) and false.fingerprint != code.fingerprint


def test_controls_do_what_they_say(codes, model):
    code, other = codes
    dropped = falsify(code, "dropped", other, model)
    assert not predicted(dropped) and len(dropped.segments) == len(code.segments) - len(predicted(code))
    assert dropped.prompt_tokens < code.prompt_tokens
    zeroed = falsify(code, "zeroed", other, model)
    assert not tokens_of(zeroed).any() and not any(segment.deepstack.any() for segment in predicted(zeroed))
    rows = [np.sort(tokens_of(one).numpy(), axis=0) for one in (code, falsify(code, "shuffled", other, model))]
    assert np.array_equal(*rows)
    theirs = {tuple(row) for row in tokens_of(other).tolist()}
    assert {tuple(row) for row in tokens_of(falsify(code, "foreign", other, model)).tolist()} <= theirs
    with pytest.raises(InputError, match="'halved'"):
        falsify(code, "halved", other, model)


def test_controls_follow_their_modes_at_the_middle_budget():
    ways = ways_of(("rgb", "thumbnail", "cells"), (0.2, 0.3, 0.4), ("dropped", "zeroed"))
    assert [str(way) for way in ways] == [
        *("rgb", "thumbnail", "cells 20%", "cells 30%", "cells 40%"),
        *("cells 30% dropped", "cells 30% zeroed"),
    ]


def test_clips_that_are_known_are_left_out_and_the_others_are_the_same(tasks, model):
    modes, controls = ("rgb", "cells"), tuple(CONTROLS)
    whole = list(evaluate_clips(tasks, model, modes, CONFIG, budgets=(0.4,), controls=controls))
    first, second = (clip for clip, _, _ in whole)
    rest = list(evaluate_clips(tasks, model, modes, CONFIG, budgets=(0.4,), controls=controls, done={first}))
    assert [clip for clip, _, _ in rest] == [second]
    answers = [[(one.mode, one.chosen, one.prompt_tokens) for one in found[-1][2]] for found in (whole, rest)]
    assert answers[0] == answers[1]
    summary = summarise([outcome for _, _, outcomes in whole for outcome in outcomes])
    assert summary["modes"]["cells 40% zeroed"]["what"] == f"{MODES['cells']}; {CONTROLS['zeroed']}"


def test_learned_codes_are_compared_with_what_they_are_not_shown(tasks, model):
    header = Header(
        "delta", base_of(model), radius=8, network={"width": 32, "heads": 2, "layers": 1, "channels": [16] * 3}
    )
    network = make_network(header, model.config.vision).requires_grad_(False)
    codes = {"delta": LearnedCode(header, network)}
    controls = ("zeroed", *ABLATIONS)
    found = evaluate(tasks, model, ["keyframes", "delta"], CONFIG, controls=controls, codes=codes)
    summary = summarise(found.outcomes)["modes"]
    assert list(summary) == ["keyframes", "delta", *(f"delta {control}" for control in controls)]
    assert summary["delta"]["what"] == LEARNED["delta"]
    assert summary["delta blind"]["what"] == f"{LEARNED['delta']}; nothing of the change is shown"
    marks = [mark for mark in ET.fromstring(curve_of({"modes": summary})).iter() if mark.tag.endswith("circle")]
    assert len(marks) == 2 * 2  # one in the plot and one in the legend for each mode, and none for the controls
    with pytest.raises(InputError, match="'ptoken' needs a learned code"):
        evaluate(tasks, model, ["ptoken"], CONFIG, codes=codes)


def test_unknown_and_double_controls_are_refused(tasks, model):
    for controls in (["halved"], ["zeroed", "zeroed"]):
        with pytest.raises(InputError, match="unknown or named twice"):
            evaluate(tasks, model, ["cells"], CONFIG, controls=controls)


def test_a_tower_that_remembers_gives_the_same_features_once(model):
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 2, 64, 64, 3), np.uint8))
    remembering = with_memory(model)
    expected, read = model.vision.encode(pictures), []
    remembering.vision.tower = Counting(model.vision, read)
    mixed = remembering.vision.encode(pictures[:2]), remembering.vision.encode(pictures[[2, 0, 1]])
    assert read == [2, 1] and remembering.vision.saved > 0
    for part in (0, 1):
        together = torch.cat([mixed[0][part], mixed[1][part]], dim=part)
        wanted = expected[part].index_select(part, torch.tensor([0, 1, 2, 0, 1]))
        torch.testing.assert_close(together, wanted, atol=2e-4, rtol=2e-4)
    assert remembering.vision.config is model.vision.config


class Counting:
    """A tower that notes how many pictures it reads."""

    def __init__(self, tower, read):
        self.tower, self.read = tower, read

    def __getattr__(self, name):
        return getattr(self.tower, name)

    def encode(self, pictures, progress):
        self.read.append(len(pictures))
        return self.tower.encode(pictures, progress)
