"""The commands as a shell sees them: what is on stdout, what is on stderr, the exit code, the files left."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace

import av
import numpy as np
import pytest
from codeclens.__main__ import main
from codeclens.models.synthetic.painted_clip import CUT
from PIL import Image
from support.clips import encode, numbered

KEYS = {"kind", "i_frames", "why", "index", "pts", "pcost", "gamma", "tokens", "warnings"}
TOKENS = {"rgb_per_frame", "rgb_paired", "keyframes", "thumbnail", "cells", "ptoken", "delta"}


def run(*words, stdin=""):
    """Run a command in this process; what came out of it, and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(stdin))
        code = main([str(word) for word in words])
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def refused(*words):
    """The one line on stderr of a command that must refuse its input."""
    ran = run(*words)
    assert ran.returncode == 2 and ran.stdout == ""
    lines = ran.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("codeclens: "), ran.stderr
    return lines[0]


def test_plan_as_json_is_all_that_stdout_carries(demo_clip):
    ran = run("plan", demo_clip, "--json", "-")
    assert ran.returncode == 0 and ran.stderr == ""
    plan = json.loads(ran.stdout)
    assert set(plan) >= KEYS and set(plan["tokens"]) == TOKENS
    count = len(plan["kind"])
    assert count == 26 and {len(plan[key]) for key in ("why", "index", "pts", "pcost")} == {count}
    assert plan["i_frames"] == [i for i, kind in enumerate(plan["kind"]) if kind == "I"]
    assert plan["pcost"][0] is None and plan["kind"][plan["index"].index(CUT)] == "I"
    assert plan["tokens"]["rgb_per_frame"] == count * (640 // 32) * (384 // 32)
    assert plan["warnings"] == []


def test_plan_in_words_names_gops_and_both_baselines(demo_clip):
    ran = run("plan", demo_clip)
    assert ran.returncode == 0
    assert "26 frames of 640x384" in ran.stdout and "5.00 s  frame 120" in ran.stdout
    assert "every frame whole" in ran.stdout and "native frame pairs" in ran.stdout


def test_files_are_written_beside_the_words(demo_clip, tmp_path):
    ran = run("plan", demo_clip, "--json", tmp_path / "plan.json", "--png", tmp_path / "plan.png", "--policy", "fixed")
    assert ran.returncode == 0 and "fixed" in ran.stdout
    assert json.loads((tmp_path / "plan.json").read_text())["policy"] == "fixed"
    assert Image.open(tmp_path / "plan.png").size[0] == 1600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json", "plan.png"]


def test_a_group_starts_at_each_cut_where_asked(demo_clip):
    rule = ("plan", demo_clip, "--policy", "fixed", "--cap", 100, "--json", "-")
    assert json.loads(run(*rule).stdout)["i_frames"] == [0]
    plan = json.loads(run(*rule, "--cuts").stdout)
    assert [plan["index"][i] for i in plan["i_frames"]] == [0, CUT]
    assert [plan["why"][i] for i in plan["i_frames"]] == ["first", "cut"]


def test_several_clips_share_one_auto_gamma(demo_clip, tmp_path):
    half = write_half_size(demo_clip, tmp_path / "half.mp4")
    plans = json.loads(run("plan", demo_clip, half, "--json", "-").stdout)["clips"]
    assert [plan["file"] for plan in plans] == ["demo.mp4", "half.mp4"]
    levels = [plan["gamma"] / (plan["size"][0] * plan["size"][1]) for plan in plans]
    assert levels[0] == pytest.approx(levels[1])


def write_half_size(clip, path):
    with av.open(str(clip)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for frame in list(source.decode(video=0))[:96]:
            target.mux(
                stream.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24", width=320, height=192)))
            )
        target.mux(stream.encode(None))
    return path


def test_budget_is_never_exceeded(demo_clip):
    plan = json.loads(run("plan", demo_clip, "--budget", "500", "--json", "-").stdout)
    assert plan["policy"] == "budget" and plan["prompt_tokens"]["thumbnail"] <= 500


def test_costs_replace_a_clip_and_the_first_is_ignored(tmp_path):
    costs = [9e9, 1.0, 2.0, 50.0, 3.0]
    (tmp_path / "costs.json").write_text(json.dumps(costs))
    for words, stdin in (((tmp_path / "costs.json",), ""), (("-",), json.dumps([None, *costs[1:]]))):
        plan = json.loads(run("plan", "--costs", *words, "--gamma", "10", "--json", "-", stdin=stdin).stdout)
        assert plan["kind"] == "IPPIP" and plan["why"] == ["first", "", "", "cost", ""]
        assert plan["tokens"]["thumbnail"] == 2 * 256 + 3 * 16


def test_costs_equal_to_gamma_are_predicted_and_the_cap_holds(tmp_path):
    (tmp_path / "costs.json").write_text(json.dumps([0] + [10.0] * 40))
    plan = json.loads(run("plan", "--costs", tmp_path / "costs.json", "--gamma", "10", "--json", "-").stdout)
    assert plan["kind"] == ("I" + "P" * 16) * 2 + "I" + "P" * 6


def test_cuts(demo_clip, tmp_path):
    assert "5.00 s  frame 120" in run("cuts", demo_clip, "--json", tmp_path / "cuts.json").stdout
    found = json.loads((tmp_path / "cuts.json").read_text())
    assert found["cuts"] == [CUT] and found["spans"] == []


def test_motion_is_drawn_for_the_frame_asked_for(demo_clip, tmp_path):
    ran = run("motion", demo_clip, "--png", tmp_path / "motion.png", "--at", "7.2")
    assert ran.returncode == 0 and "frame 168 at 7.00 s" in ran.stdout
    assert np.asarray(Image.open(tmp_path / "motion.png")).std() > 20


def test_clip_read_in_part_exits_0_with_its_warning(clips):
    ran = run("plan", clips / "mediabunny_annexb_truncated.mp4", "--json", "-")
    assert ran.returncode == 0
    plan = json.loads(ran.stdout)
    assert len(plan["warnings"]) == 1 and "mediabunny_annexb_truncated.mp4" in plan["warnings"][0]
    assert plan["warnings"][0] in ran.stderr


@pytest.mark.parametrize("command", [("plan",), ("cuts",), ("motion", "--png", "out.png")])
def test_wrong_clips_are_refused_by_name(command, tmp_path):
    name, *options = command
    assert "missing.mp4" in refused(name, tmp_path / "missing.mp4", *options)
    (tmp_path / "text.mp4").write_text("no video " * 200)
    assert "text.mp4" in refused(name, tmp_path / "text.mp4", *options)


def test_wrong_options_are_refused_with_the_value(demo_clip, tmp_path):
    (tmp_path / "costs.json").write_text('{"costs": 1}')
    assert "list" in refused("plan", "--costs", tmp_path / "costs.json")
    assert "costs" in refused("plan")
    assert "tall" in refused("plan", demo_clip, "--gamma", "tall")
    assert "budget" in refused("plan", demo_clip, "--policy", "budget")
    assert "12" in refused("plan", demo_clip, "--budget", "12")
    assert "no_such_folder" in refused("plan", demo_clip, "--json", tmp_path / "no_such_folder" / "plan.json")


@pytest.fixture
def one_frame(tmp_path):
    """A clip of six frames, of which two a second take one; and a clip of a single frame."""
    for count in (6, 1):
        (tmp_path / f"{count}.mp4").write_bytes(encode(numbered(count, 64, 96)))
    return str(tmp_path / "6.mp4"), str(tmp_path / "1.mp4")


def test_one_sampled_frame_is_planned_and_motion_says_what_it_takes(one_frame, tmp_path):
    for clip in one_frame:
        assert json.loads(run("plan", clip, "--json", "-").stdout)["kind"] == "I"
    assert "its 6 frames come at 25 a second" in refused("motion", one_frame[0], "--png", tmp_path / "m.png")
    assert "give a clip of more than one frame" in refused("motion", one_frame[1], "--png", tmp_path / "m.png")


def test_cuts_goes_on_after_a_bad_clip(one_frame, tmp_path):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no video")
    done = run("cuts", one_frame[0], bad, tmp_path / "gone.mp4", one_frame[1])
    assert done.returncode == 2 and done.stdout.splitlines() == [
        "6.mp4: 0 hard cuts, 0 fades, dissolves or wipes (shots from 0.08 s on)",
        "1.mp4: 0 hard cuts, 0 fades, dissolves or wipes (shots from 0.08 s on)",
    ]
    assert [line.split(" ")[:2] for line in done.stderr.splitlines()] == [
        ["codeclens:", "bad.mp4"],
        ["codeclens:", "gone.mp4"],
    ]
    done = run("cuts", one_frame[0], bad, "--json", "-")
    good, wrong = json.loads(done.stdout)["clips"]
    assert (
        done.returncode == 2
        and good["cuts"] == []
        and wrong["file"] == str(bad)
        and "cannot be opened" in wrong["error"]
    )


def test_the_longest_name_can_be_written_and_a_longer_one_is_refused(one_frame, tmp_path):
    longest = tmp_path / ("n" * 250 + ".json")
    assert run("plan", one_frame[0], "--json", longest).returncode == 0 and longest.is_file()
    assert "cannot be written: File name too long" in refused("plan", one_frame[0], "--json", tmp_path / ("n" * 300))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
