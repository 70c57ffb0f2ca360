"""The paired evaluation: what each mode shows, how choices are scored, and what the statistics say."""

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.code.choice import choose
from codeclens.models.code.conversation import converse
from codeclens.models.code.layout import shown_tokens
from codeclens.models.code.modes import group_frames
from codeclens.models.code.pipeline import CodeConfig, encode_planned, watch
from codeclens.models.errors import InputError
from codeclens.models.evaluation.paired import (
    MODES,
    Outcome,
    Task,
    check_modes,
    config_of,
    evaluate,
    plain,
    read_tasks,
    ways_of,
)
from codeclens.models.evaluation.report import evaluation_page, lost_plans
from codeclens.models.evaluation.statistics import area_under_curve, clip_names, compare, discrimination, summarise
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.training.architecture import TinyQwen3VL, tiny_config
from codeclens.models.training.examples import corpus
from codeclens.models.training.export import export_pair
from codeclens.models.training.vocabulary import learn_vocabulary
from codeclens.models.video.content import content_of
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

CONFIG = CodeConfig(sampling=FrameSampling.by_fps(4), area=128 * 128, rule={"gamma": "auto"})


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(index of three clips, path of a model with random weights)."""
    folder = tmp_path_factory.mktemp("evaluation")
    metadata = learn_vocabulary(corpus(30), 400)
    model = TinyQwen3VL(tiny_config("nano", len(metadata["tokenizer.ggml.tokens"])), 5)
    path, _ = export_pair(model, metadata, folder, "Tiny", "F16")
    return write_clips(folder, seeds_of("test", 0, 3), (128, 128), seconds=3), path


@pytest.fixture(scope="module")
def model(files):
    return load_qwen3vl(files[1])


@pytest.fixture(scope="module")
def references(files, model):
    """The adaptive thumbnails of each clip, with its source."""
    clips = dict.fromkeys(task.clip for task in read_tasks(files[0]))
    return [(VideoSource.open(clip), watch(VideoSource.open(clip), model, CONFIG)) for clip in clips]


@pytest.mark.parametrize("way", ways_of(MODES, (0.25, 0.6)), ids=str)
def test_modes_show_what_they_say_at_matched_budgets(references, model, way):
    mode = way.mode
    for source, reference in references:
        whole = 16
        count = len(reference.plan)
        code = watch(source, model, config_of(way, CONFIG, reference.plan, model.tokenizer))
        native = shown_tokens(group_frames(reference.plan, "rgb"), model.tokenizer)
        first = int((reference.plan.kind == 1).sum())
        expected = {
            "rgb": whole * ((count + 1) // 2),
            "frames": whole * count,
            "thumbnail": first * whole + count - first,
            "stamps": first * whole + count - first,
            "fixed": first * whole + count - first,
            "keyframes": first * whole,
        }.get(mode)
        if expected is not None:
            assert code.token_count == expected
        left = 0 if way.budget is None else round(way.budget * native) - shown_tokens(code, model.tokenizer)
        if mode in ("sparse", "random"):
            assert 0 <= left <= whole + 9 or code.token_count == whole
            assert code.segments[0].index == (int(reference.plan.index[0]),)
        if mode == "evs":
            assert 0 <= left <= 1 or code.token_count == whole
        if mode == "cells":
            assert left >= 0
        if mode == "paired":
            assert code.token_count <= reference.token_count
        if mode == "stamps":
            assert [segment.stamped for segment in code] == [segment.kind == "I" for segment in code]


def test_outcomes_are_the_likeliest_choices(files, model, references):
    tasks = read_tasks(files[0])[:4]
    found = evaluate(tasks, model, ["thumbnail"], CONFIG)
    code = references[0][1]
    reading = converse(model, code)
    for task, outcome in zip(tasks, found.outcomes, strict=True):
        choice = choose(reading, task.question, task.choices)
        assert outcome.task == task and outcome.chosen == choice.best
        if set(task.choices) == {"yes", "no"}:
            yes, no = (choice.logprobs[choice.options.index(word)] for word in ("yes", "no"))
            assert outcome.margin == pytest.approx(yes - no, abs=1e-4)
        assert outcome.whole_at == tuple(round(float(time), 2) for time in code.plan.pts[code.plan.kind == 1])
    assert list(found.plans) == [tasks[0].clip] and len(found.plans[tasks[0].clip]) == len(code.plan)


def test_seconds_count_everything_from_the_file_to_the_first_token(files, model, monkeypatch):
    """A clock that stands still but while the model reads or writes leaves what the code itself took."""
    made = []

    def timed(*arguments, **options):
        code = encode_planned(*arguments, **options)
        made.append(replace(code, seconds={"read": 10.0, "plan": 20.0, "vision": 40.0}))
        return made[-1]

    ticks = iter([0.0, 3.0])
    monkeypatch.setattr("codeclens.models.evaluation.paired.encode_planned", timed)
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("codeclens.models.evaluation.paired.time", clock)
    assert evaluate(read_tasks(files[0])[:1], model, ["thumbnail"], CONFIG).outcomes[0].seconds == 73.0


def test_clips_without_content_are_grouped_by_their_plan(files, model):
    task = replace(read_tasks(files[0])[0], content="")
    found = evaluate([task], model, ["keyframes"], CONFIG)
    assert found.outcomes[0].task.content == content_of(found.plans[task.clip])


def test_without_choices_the_written_answer_must_match(references, model, files):
    clip = read_tasks(files[0])[0].clip
    written = converse(model, references[0][1]).ask("What?", sampling=GREEDY, max_tokens=64, thinking=False).text
    tasks = [Task(clip, "What?", answer, ()) for answer in (f" {written.upper()}!", f"{written} else")]
    assert [found.right for found in evaluate(tasks, model, ["thumbnail"], CONFIG).outcomes] == [True, False]
    assert summarise([outcome("a", 0, "rgb", True)])["chance"] == 0.5


@pytest.mark.parametrize(
    ("one", "other"), [("It moves, and stops.", "it moves and  stops"), ("2.5 seconds", " 2.5 Seconds.")]
)
def test_plain_text_forgives_case_space_and_punctuation(one, other):
    assert plain(one) == plain(other) != plain(one + " not")


def outcome(clip, number, mode, right, kind="colour"):
    task = Task(f"{clip}.mp4", f"question {number}", "yes", ("yes", "no"), kind, "moving")
    return Outcome(task, mode, "yes" if right else "no", 10, 0.5)


def test_intervals_hold_the_true_difference_as_often_as_they_say():
    """200 simulated evaluations of two modes that differ by 0.1 in truth: about 95 % of the intervals hold it."""
    draw = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        one, two = [], []
        for clip in range(60):
            ease = draw.uniform(-0.2, 0.2)
            for number in range(3):
                one.append(outcome(clip, number, "rgb", draw.random() < 0.7 + ease))
                two.append(outcome(clip, number, "thumbnail", draw.random() < 0.6 + ease))
        low, high = compare(one, two, trial)["interval"]
        held += low <= -0.1 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_summary_counts_losses_drift_and_groups():
    one = [
        outcome("a", n, "rgb", right, kind) for n, (right, kind) in enumerate([(1, "x"), (1, "x"), (0, "y"), (0, "y")])
    ]
    two = [replace(found, mode="evs", tokens=4) for found in one]
    two[1] = replace(two[1], chosen="no")
    two[2] = replace(two[2], chosen="yes")
    summary = summarise(one + two)
    row = summary["modes"]["evs"]
    assert summary["questions"] == 4 and summary["clips"] == 1 and summary["chance"] == 0.5
    assert row["accuracy"] == 0.5 and row["tokens"] == {"mean": 4.0, "deviation": 0.0, "min": 4, "max": 4}
    assert row["by_kind"] == {"x": {"accuracy": 0.5, "questions": 2}, "y": {"accuracy": 0.5, "questions": 2}}
    against = row["against_rgb"]
    assert against["difference"] == 0 and against["drift"] == 0.5
    assert [(lost["question"], lost["chosen"]) for lost in against["lost"]] == [("question 1", "no")]


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
    st.lists(st.integers(-3, 3), min_size=1, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_area_under_the_curve_counts_pairs(positive, negative):
    won = sum(1.0 if one > two else 0.5 if one == two else 0.0 for one in positive for two in negative)
    assert area_under_curve(positive, negative) == pytest.approx(won / (len(positive) * len(negative)))


def test_topics_are_judged_by_their_margins_where_both_answers_are_asked_often_enough():
    def asked(topic, answer, margin):
        return Outcome(Task("a.mp4", "?", answer, ("yes", "no"), "fault", "", topic), "rgb", "yes", 1, 0.0, margin)

    flicker = [asked("flicker", "yes", 1.0 + n) for n in range(5)] + [asked("flicker", "no", n - 3.5) for n in range(5)]
    rare = [asked("freeze", "yes", 1.0)] * 9 + [asked("freeze", "no", 0.0)] * 4
    found = discrimination(flicker + rare)
    # Of 25 pairs only (1, 0.5) is the right way round and close; none is the wrong way round.
    assert found == {"flicker": {"auc": 1.0, "questions": 10}}
    flicker[0] = asked("flicker", "yes", -9.0)
    assert discrimination(flicker)["flicker"]["auc"] == pytest.approx(20 / 25)


class Cells(HTMLParser):
    """All text of a page, cell by cell; refuses anything that is loaded from elsewhere and tags that do not close."""

    def __init__(self, page):
        super().__init__()
        self.open, self.text, self.pictures = [], [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            head, data = dict(attributes)["src"].split(",")
            assert head == "data:image/jpeg;base64"
            self.pictures.append(Image.open(io.BytesIO(base64.b64decode(data))))
            return
        assert not {"src", "href"} & dict(attributes).keys() and tag not in ("script", "link")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_holds_every_number_and_question_and_escapes_them():
    one = [outcome("<b>", number, "rgb", True) for number in range(3)]
    two = [replace(found, mode="evs", chosen="no" if number else "yes") for number, found in enumerate(one)]
    summary = summarise(one + two)
    cells = Cells(evaluation_page(summary, "a < b & c")).text
    assert "a < b & c" in cells and cells.count("<b>.mp4") == 1
    assert "33.3 %" in cells and "-66.7" in cells
    assert {"question 1", "question 2"} <= set(cells) and "question 0" not in cells


@pytest.mark.slow
def test_page_shows_the_plan_of_every_clip_where_something_is_lost(files, model):
    found = evaluate(read_tasks(files[0]), model, ["rgb", "keyframes"], CONFIG)
    summary = summarise(found.outcomes)
    lost = summary["modes"]["keyframes"]["against_rgb"]["lost"]
    pictures = lost_plans(summary, found.plans)
    assert set(pictures) == {question["clip"] for question in lost}
    cells = Cells(evaluation_page(summary, "title", pictures))
    assert len(cells.pictures) == len(pictures) and all(picture.width == 1000 for picture in cells.pictures)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/a/one.mp4", "/a/two.mp4"], ["one.mp4", "two.mp4"]),
        (["/a/x/one.mp4", "/a/y/one.mp4", "/a/y/two.mp4"], ["x/one.mp4", "y/one.mp4", "y/two.mp4"]),
        (["one.mp4", "y/one.mp4", "one.mp4"], ["one.mp4", "y/one.mp4", "one.mp4"]),
    ],
)
def test_clips_of_one_name_are_distinguished_by_their_folders(paths, names):
    assert clip_names(paths) == dict(zip(paths, names, strict=True))


def test_command_writes_table_and_json(files, tmp_path, capsys):
    index, model = files
    words = ["evaluate", str(index), "--model", str(model), "--modes", "rgb,thumbnail", "--limit", "1"]
    assert main([*words, "--json", str(tmp_path / "all.json"), "--html", str(tmp_path / "all.html")]) == 0
    assert "thumbnail" in Cells((tmp_path / "all.html").read_text()).text
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "all.json").read_text())
    assert list(summary["modes"]) == ["rgb", "thumbnail"] and summary["clips"] == 1
    assert "too narrow" in printed and "thumbnail" in printed and f"{100 * summary['chance']:.1f} %" in printed
    with pytest.raises(InputError, match="0 modes"):
        check_modes([])
    assert len({task.clip for task in read_tasks(index, 2)}) == 2 < len({task.clip for task in read_tasks(index)})
    for modes in ("abacus", "rgb,rgb"):
        assert main([*words, "--modes", modes]) == 2
        assert repr(modes.split(",")[0]) in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no question"),
        ("{}", "line 1"),
        ("\n[1]", "line 2"),
        ("nonsense", "line 1"),
        ('{"clip": "a.mp4", "question": "?"}', "answer"),
        ('{"clip": "a.mp4", "question": "?", "answer": "x", "choices": ["y", "z"]}', "not among"),
    ],
)
def test_broken_tasks_name_their_line(tmp_path, text, message):
    path = tmp_path / "tasks.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_tasks(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_tasks(tmp_path / "absent.jsonl")
