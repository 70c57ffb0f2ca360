"""Wording, tables as trainers read them, what a folder holds, the review page."""

import csv
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.code.cost import Calibration
from codeclens.models.commands import costs
from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.journal import NAME
from codeclens.models.dataset.review import read_edits, review_page
from codeclens.models.dataset.tables import Captioned, table_text
from codeclens.models.dataset.trainers import TRAINERS, odd_shapes, trips
from codeclens.models.dataset.wording import Wording, mentioned, parse_replacements
from codeclens.models.errors import InputError
from codeclens.models.source.reading import VideoSource
from codeclens.models.synthetic.clip_files import write_clips
from codeclens.models.video.cuts import Cuts
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

WORDS = st.text("abc .!,\n", max_size=60)


def test_rules_apply_in_the_order_of_the_documentation():
    wording = Wording("zzk", "A video of ", " High quality.", (("woman", "person"),), ("logo",), longest=0)
    text, notes = wording.applied("A Woman walks.\nThere is a logo. She smiles.")
    assert text == "zzk, A video of A person walks. She smiles. High quality."
    assert notes == ["sentences with logo were cut"] and wording.instructions == "Do not mention any of these: logo."


def test_a_caption_that_only_names_what_it_must_not_is_kept_and_said():
    assert Wording(leave_out=("cat",)).applied("A cat.") == ("", ["names cat"])


@given(WORDS, st.integers(1, 12))
def test_a_length_is_kept_and_whole_sentences_where_they_fit(text, longest):
    short, _ = Wording(longest=longest).applied(text)
    assert len(short.split()) <= longest and "\n" not in short
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    if len(sentences[0].split()) <= longest and len(text.split()) > longest:
        assert short.rstrip(" ,;") == " ".join(sentences)[: len(short)].rstrip(" ,;")


def test_words_are_whole_words():
    assert mentioned("A catalogue of Cats", ("cat",)) == [] and mentioned("a CAT!", ("cat",)) == ["cat"]
    assert Wording(replace=(("car", "bus"),)).applied("A car in a carpark")[0] == "A bus in a carpark"


def test_replacements_need_a_sign():
    assert parse_replacements(["a b=c", "x="]) == (("a b", "c"), ("x", ""))
    with pytest.raises(InputError, match="has no '='"):
        parse_replacements(["woman"])


ROWS = [("a.mp4", "video", ('says "hi", twice',)), ("sub/b.png", "image", ("one", "two\nlines"))]


def rows_in(folder: Path):
    return [Captioned(folder / name, kind, captions) for name, kind, captions in ROWS]


def test_musubi_reads_jsonl_of_video_path_or_image_path_and_caption(tmp_path):
    lines = [json.loads(line) for line in table_text(tmp_path / "x.jsonl", rows_in(tmp_path), "musubi").splitlines()]
    assert [set(line) for line in lines] == [{"video_path", "caption"}] + [{"image_path", "caption"}] * 2
    assert Path(lines[0]["video_path"]).is_absolute() and lines[2]["caption"] == "two\nlines"


@pytest.mark.parametrize("form", ["ltx-csv", "ltx-json", "ltx-jsonl"])
def test_ltx_reads_caption_and_media_path_relative_to_the_file(tmp_path, form):
    path = tmp_path / "out" / "captions"
    text = table_text(path, rows_in(tmp_path), form)
    if form == "ltx-csv":
        rows = list(csv.DictReader(io.StringIO(text)))
    else:
        rows = json.loads(text) if form == "ltx-json" else [json.loads(line) for line in text.splitlines()]
    assert [row["media_path"] for row in rows] == ["../a.mp4", "../sub/b.png", "../sub/b.png"]
    assert [row["caption"] for row in rows] == ['says "hi", twice', "one", "two\nlines"]


def test_one_file_for_all_has_a_line_a_caption(tmp_path):
    text = table_text(tmp_path / "c.txt", rows_in(tmp_path), "bulk")
    assert text.splitlines() == ['a.mp4: says "hi", twice', "sub/b.png: one", "sub/b.png: two lines"]


def test_a_folder_is_searched_with_kohyas_names_and_exclusions(tmp_path):
    for name in ("b.MP4", "a.png", "10_cat/c.webm", "old/d.mp4", ".hidden/e.mp4", "notes.txt", "draft_f.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_items(tmp_path, exclude=("old/*", "draft*"))
    assert [(item.name, item.kind, item.repeats) for item in found] == [
        ("10_cat/c.webm", "video", 10), ("a.png", "image", 1), ("b.MP4", "video", 1),
    ]  # fmt: skip
    assert [item.name for item in find_items(tmp_path, recursive=False, images=False)] == ["b.MP4", "draft_f.mp4"]
    with pytest.raises(InputError, match="holds no clip"):
        find_items(tmp_path / "old", exclude=("*",))
    with pytest.raises(InputError, match="is not a folder"):
        find_items(tmp_path / "missing")


def test_what_a_trainer_trips_over_is_said():
    frames = np.zeros((24, 48, 64, 3), np.uint8)
    phrases = trips(VideoSource.from_images(frames, 30), TRAINERS["ltx"], Cuts((7,), ()))
    assert phrases[0] == "24 frames, of which 17 are used" and "30 frames a second instead of 24 or 25" in phrases
    assert "64x48, not multiples of 32" in phrases and phrases[-1].startswith("1 cuts")
    assert trips(VideoSource.from_images(frames[:21], 16), TRAINERS["wan"]) == []
    assert odd_shapes([("a", 64, 32), ("b", 32, 64), ("c", 64, 32)]) == ["b"]


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.links, self.areas, self.area = [], {}, None

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.links += [values[name] for name in ("src", "href") if name in values]
        if tag == "textarea":
            self.area = values["data-clip"]

    def handle_data(self, data):
        if self.area:
            self.areas[self.area] = self.areas.get(self.area, "") + data

    def handle_endtag(self, tag):
        if tag == "textarea":
            self.area = None


def test_the_review_page_loads_nothing_and_escapes_everything():
    evil = '</textarea><script>alert("x")</script> & "quoted"'
    rows = [{"name": f"{evil}.mp4", "result": {"captions": [evil]}}, {"name": "b.mp4", "error": evil}]
    text = review_page(rows, {"b.mp4": "AAAA"}, evil)
    assert text.count("<script>") == 1
    page = Page()
    page.feed(text)
    assert page.areas == {f"{evil}.mp4": evil}
    assert page.links == ["data:image/jpeg;base64,AAAA"]


@pytest.mark.parametrize("text", ["{", "[]", '{"edits": []}', '{"edits": {"a": 1}}'])
def test_a_file_without_edits_is_one_sentence(tmp_path, text):
    path = tmp_path / "edits.json"
    path.write_text(text)
    with pytest.raises(InputError, match="holds no edits"):
        read_edits(path)


@pytest.fixture(scope="module")
def captioned(tmp_path_factory):
    """A folder of two clips, an image and a broken clip, captioned by the embedded model."""
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, range(2), (64, 64), seconds=1.0, fps=8)
    Image.new("RGB", (96, 64), (200, 30, 30)).save(folder / "still.png")
    (folder / "broken.mp4").write_text("no video")
    page = folder / "review.html"
    assert main(["caption", str(folder), "--trigger", "zzk", "--max-tokens", "24", "--review", str(page)]) == 2
    return folder


def test_the_embedded_model_captions_clips_and_images(captioned, capsys):
    for name in ("train_000000", "train_000001", "still"):
        text = (captioned / f"{name}.txt").read_text()
        assert text.startswith("zzk, ") and text.count("\n") == 1
    assert not (captioned / "broken.txt").exists()
    before = {path: path.stat().st_mtime_ns for path in captioned.glob("*.txt")}
    assert main(["caption", str(captioned), "--trigger", "zzk", "--max-tokens", "24", "--format", "ltx-jsonl"]) == 2
    assert "0 done, 3 done before, 1 failed" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in captioned.glob("*.txt")} == before
    assert len((captioned / "captions.jsonl").read_text().splitlines()) == 3


def test_edited_captions_are_written_and_kept(captioned, tmp_path, capsys):
    edits = tmp_path / "edits.json"
    edits.write_text(json.dumps({"edits": {"train_000000.mp4": "Mended by hand.\n"}}))
    assert main(["apply", str(edits), str(captioned)]) == 0
    capsys.readouterr()
    main(["caption", str(captioned), "--trigger", "zzk", "--max-tokens", "24"])
    assert "train_000000.txt was written by somebody else and left alone" in capsys.readouterr().err
    assert (captioned / "train_000000.txt").read_text() == "Mended by hand.\n"
    for outside in ("../x.mp4", "/etc/hostname", "nothing.mp4"):
        edits.write_text(json.dumps({"edits": {outside: "x"}}))
        assert main(["apply", str(edits), str(captioned)]) == 2
    capsys.readouterr()


def test_a_dry_run_says_tokens_and_minutes_and_writes_nothing(captioned, tmp_path, capsys, monkeypatch):
    calibration = Calibration((0.1, 0, 0), (1.0, 0, 0), (0.5, 0), (0.0, 0, 0), (0.0, 0, 0))
    monkeypatch.setattr(costs, "calibration_of", lambda *_: calibration)
    folder = tmp_path / "set"
    (folder / "5_dog").mkdir(parents=True)
    (folder / "5_dog" / "bad.mp4").write_text("x")
    for clip in sorted(captioned.glob("train_*.mp4")):
        shutil.copy(clip, folder)
    for command in ("caption", "judge", "measure"):
        assert main([command, str(folder), "--dry-run"]) == 0
        said = capsys.readouterr()
        assert "5_dog/bad.mp4 (video, 5 times an epoch): would fail" in said.out or command == "measure"
        assert said.out.count("to do") == 2 and "2 to do, 1 would fail" in said.err
        assert ("prompt tokens, about" in said.err) == (command != "measure")
        assert not (folder / NAME).exists()
    main(["caption", str(folder)])
    capsys.readouterr()
    main(["caption", str(folder), "--dry-run"])
    assert "2 done before, 1 would fail" in capsys.readouterr().err


def test_a_dry_run_predicts_the_tokens_that_captioning_reads(captioned, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        costs, "calibration_of", lambda *_: Calibration((0,) * 3, (0,) * 3, (0,) * 2, (0,) * 3, (0,) * 3)
    )
    clip = captioned / "train_000000.mp4"
    (tmp_path / "set").mkdir()
    shutil.copy(clip, tmp_path / "set")
    main(["caption", str(tmp_path / "set"), "--dry-run"])
    predicted = int(re.search(r"(\d[\d ]*) tokens", capsys.readouterr().out)[1].replace(" ", ""))
    main(["caption", str(clip), "--json", "-"])
    report = json.loads(capsys.readouterr().out)
    assert predicted == report["report"]["prompt_tokens"]


def test_a_folder_among_clips_is_refused(tmp_path, capsys):
    assert main(["measure", str(tmp_path), "a.mp4"]) == 2
    assert "is a folder among 2 arguments" in capsys.readouterr().err


def test_measuring_and_judging_a_folder_resume_each_on_their_own(captioned, tmp_path, capsys):
    table = tmp_path / "t.csv"
    assert main(["measure", str(captioned), "--csv", str(table)]) == 2
    assert main(["judge", str(captioned), "--rubric", "artefacts", "--csv", str(table), "--json", "-"]) == 2
    scores = json.loads(capsys.readouterr().out)["clips"]
    assert len(scores) == 2 and all(0 < row["score"] < 1 and "picture" not in row for row in scores)
    assert main(["measure", str(captioned)]) == 2
    assert "0 done, 2 done before, 1 failed" in capsys.readouterr().err
