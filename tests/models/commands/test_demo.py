"""The newcomer's command: what it prints is the model's own answer and the truth, and the pictures are there."""

import re

import pytest
from codeclens.__main__ import main
from codeclens.models.commands.demo import fresh_clip
from codeclens.models.synthetic.clip_files import sampled_frames
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.questions import write_questions
from codeclens.models.synthetic.scenes import SPLITS
from codeclens.models.weights import FPS


def test_demo_plans_captions_asks_and_tells_the_truth(tmp_path, capsys):
    assert main(["demo", str(tmp_path), "--seed", "7"]) == 0
    printed = capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo.mp4", "demo_plan.png"]
    _, questions, caption = fresh_clip(SPLITS["test"][0] + 7)
    assert f"truth    {caption}\n" in printed and "--seed 7" in printed
    line = re.search(r"tokens   (\d+) in the prompt, (\d+) % of native pairs' (\d+); (\d+) and (\d+) of", printed)
    prompt, part, native, visual, native_visual = map(int, line.groups())
    whole, predicted = (int(number) for number in re.search(r"(\d+) whole, (\d+) predicted", printed).groups())
    assert native_visual == 16 * -(-(whole + predicted) // 2) and 16 <= visual < prompt < native
    assert part == round(100 * prompt / native) <= 45
    for question in questions:
        line = next(line for line in printed.splitlines() if line.startswith(question.question))
        marks = re.findall(r"\b(right|wrong)\b", line[len(question.question) :])
        if marks == ["right", "right"]:
            assert line.casefold().count(question.answer.casefold()) >= 2
        else:
            assert line.endswith(f"truth: {question.answer}")


@pytest.mark.parametrize("number", range(12))
def test_questions_are_of_three_kinds_and_of_what_is_seen(number):
    clip, questions, _ = fresh_clip(SPLITS["test"][0] + number)
    assert len({question.kind for question in questions}) == len(questions) == 3
    known = write_questions(clip, truth_of(clip, sampled_frames(clip, FPS)))
    assert all(question in known for question in questions)


@pytest.mark.slow
def test_painted_clip_is_planned_and_drawn(tmp_path, capsys):
    assert main(["demo", str(tmp_path), "--painted"]) == 0
    assert "26 frames" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["painted.mp4", "painted_motion.png", "painted_plan.png"]


def test_a_seed_that_the_split_does_not_have_is_refused(tmp_path, capsys):
    assert main(["demo", str(tmp_path), "--seed", "-1"]) == 2
    assert "-1" in capsys.readouterr().err
