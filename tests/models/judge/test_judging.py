"""A clip judged from file to page and table, and the commands that do it."""

import csv
import io
import json
from html.parser import HTMLParser

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.judge.judging import judge_clip
from codeclens.models.judge.page import judge_csv, judge_page, judgement_view, thumbnail_base64, worst_frames
from codeclens.models.judge.rubric import find_rubric
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import write_clips

CONFIG = CodeConfig(sampling=FrameSampling.all(), area=64 * 64, policy="fixed", rule={"cap": 3})


def pictures(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (8, 64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def judged(tiny_model):
    source = VideoSource.from_images(pictures(), 4, name="<b>clip & co</b>")
    rubric = find_rubric("artefacts")
    return source, judge_clip(source, tiny_model, CONFIG, rubric, with_moments=True, with_metrics=True)


def test_a_clip_is_judged_whole_and_by_moments(judged):
    source, found = judged
    assert [moment.frames for moment in found.moments] == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert found.worst_moment.verdict.score == min(moment.verdict.score for moment in found.moments)
    data = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert data["metrics"]["cuts"] is not None and len(data["questions"]) == 5 and set(data["seconds"]) >= {"encode"}
    frames = worst_frames(found, source)
    inside = [index for index in range(8) if index in found.worst_moment.frames]
    assert np.array_equal(frames, pictures()[inside])


def test_the_page_escapes_everything_and_loads_nothing(judged):
    _, found = judged
    page = judge_page([found.to_json() | {"picture": thumbnail_base64(pictures()[0])}, found.to_json()], "<i>title</i>")
    assert "<b>clip" not in page and "<i>title" not in page and "&lt;b&gt;clip &amp; co" in page

    class Links(HTMLParser):
        found = []

        def handle_starttag(self, tag, attributes):
            self.found += [value for name, value in attributes if name in ("src", "href")]

    parser = Links()
    parser.feed(page)
    assert len(parser.found) == 1 and parser.found[0].startswith("data:image/jpeg;base64,")


def test_the_table_has_a_column_for_each_question(judged):
    _, found = judged
    rows = list(csv.DictReader(io.StringIO(judge_csv([found]))))
    assert float(rows[0]["score"]) == pytest.approx(found.verdict.score, abs=1e-6)
    assert set(rows[0]) == {
        "clip",
        "rubric",
        "score",
        "pass_fraction",
        "flicker",
        "freeze",
        "vanish",
        "morph",
        "jitter",
    }


def test_the_picture_shows_bars_and_the_worst_frame(judged):
    source, found = judged
    picture = np.asarray(judgement_view(found, source))
    assert picture.shape[1] > 900 and picture.std() > 10


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, range(3), (64, 64), seconds=1.0, fps=8)
    return sorted(str(path) for path in folder.glob("*.mp4"))


def test_the_command_goes_on_after_a_bad_clip(clips, tmp_path, capsys):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    arguments = ["judge", clips[0], str(bad), clips[1], "--rubric", "artefacts", "--json", "-"]
    assert main([*arguments, "--html", str(page), "--csv", str(table)]) == 2
    captured = capsys.readouterr()
    assert "bad.mp4" in captured.err
    rows = json.loads(captured.out)["clips"]
    assert len(rows) == 2 and all(0 < row["score"] < 1 for row in rows)
    assert len(table.read_text().splitlines()) == 3 and page.read_text().count("<article>") == 2


def test_two_clips_are_compared_and_three_ranked(clips, capsys):
    assert main(["compare", clips[0], clips[1], "--json", "-"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert main(["compare", clips[1], clips[0], "--json", "-"]) == 0
    other = json.loads(capsys.readouterr().out)
    assert one["preference"] == pytest.approx(-other["preference"], abs=1e-5)
    assert main(["rank", *clips, "--by", "knock-out", "--json", "-"]) == 0
    ranking = json.loads(capsys.readouterr().out)["ranking"]
    assert sorted(row["rank"] for row in ranking) == [1, 2, 3]
    for by in ("metrics", "both"):
        assert main(["rank", *clips, "--by", by]) == 0
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 3 and ("no --model is given" in said.err) == (by == "both")


def test_calibration_needs_enough_verdicts_and_is_kept_beside_the_rubric(clips, tmp_path, capsys):
    rubric = tmp_path / "mine.json"
    rubric.write_text(json.dumps({"questions": [{"name": "still", "question": "Is anything moving?"}]}))
    labels = tmp_path / "labels.jsonl"

    def write(count):
        rows = [{"clip": clips[n % 3], "question": "still", "good": n % 3 == 0} for n in range(count)]
        labels.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(9)
    assert main(["judge", "--rubric", str(rubric), "--calibrate", str(labels)]) == 2
    assert "3 good and 6 bad verdicts" in capsys.readouterr().err
    write(30)
    assert main(["judge", "--rubric", str(rubric), "--calibrate", str(labels)]) == 0
    assert "cross-validated" in capsys.readouterr().out
    assert list(json.loads((tmp_path / "mine.calibration.json").read_text()).values())[0]["still"]["verdicts"] == 30


def test_the_embedded_model_is_asked_what_it_knows(clips, capsys):
    assert main(["judge", clips[0], "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["rubric"] == "faults"


def test_no_clip_is_one_sentence(capsys):
    assert main(["judge"]) == 2
    assert capsys.readouterr().err == "codeclens: there is no clip to judge; give at least one\n"
