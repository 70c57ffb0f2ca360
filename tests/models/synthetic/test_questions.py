"""Answers derived a second time, from the clip's description and the words of each question alone."""

import json
import re
from collections import Counter

import numpy as np
import pytest
from codeclens.models.synthetic.clip_files import sampled_frames
from codeclens.models.synthetic.ground_truth import truth_of
from codeclens.models.synthetic.questions import KINDS, write_caption, write_questions
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import COLOURS, FAULTS, HELD_OUT, SHAPES, SPLITS, sample_clip

DOES = {
    "still": "stays still", "moves": "keeps moving", "stops": "stops", "starts": "waits", "speeds up": "speeds up",
    "slows down": "slows down", "bounces": "bounces", "appears": "appears", "disappears": "disappears",
}  # fmt: skip
CAMERA = {
    "still": "still", "left": "left", "right": "right", "up": "up", "down": "down", "in": "zooms in",
    "out": "zooms out", "shake": "shakes",
}  # fmt: skip
FAULT_WORDS = {
    "flicker": r"flicker|brightness", "freeze": "freeze|stand still", "duplicate": "repeat|shown twice",
    "vanish": "vanish|gone", "morph": "change|turn into", "jitter": "jitter|tremble",
}  # fmt: skip


@pytest.fixture(scope="module")
def asked():
    """(clip, sampled frames, questions) of 160 clips seen at several rates."""
    rows = []
    for seed in range(160):
        clip = sample_clip(seed)
        frames = sampled_frames(clip, (2, 4, 8, None)[seed % 4])
        rows.append((clip, frames, write_questions(clip, truth_of(clip, frames))))
    return rows


def figures_of(clip):
    return [figure for shot in clip.shots for figure in shot.figures]


def named(clip, words):
    (figure,) = [figure for figure in figures_of(clip) if f"{figure.colour} {figure.shape}" in words]
    return figure


def moment_of(clip, clause):
    if clause in ("the cut", "the fade"):
        (first,) = [shot.first for shot in clip.shots if shot.opening == clause[4:]]
        return first / clip.fps
    return named(clip, clause).moment


def travelled(figure):
    return np.subtract(figure.legs[0].end, figure.legs[0].begin)


def derive(clip, frames, question):
    """The answer as the description has it."""
    kind, words = question.kind, question.question.split(" Choose:")[0]
    figures = figures_of(clip)
    if kind in ("colour", "shape") and "object" in words and {"small", "large"} & set(words.split()):
        (figure,) = [figure for figure in figures if (figure.radius > 0.15) == ("large" in words)]
        return figure.colour if kind == "colour" else figure.shape
    if kind == "colour":
        (figure,) = [figure for figure in figures if f" {figure.shape}" in words]
        stated = [colour for colour in COLOURS if f" {colour}?" in words]
        return ("yes" if stated == [figure.colour] else "no") if stated else figure.colour
    if kind == "shape":
        (figure,) = [figure for figure in figures if f" {figure.colour} " in words]
        return figure.shape
    if kind == "size":
        return "large" if named(clip, words).radius > 0.15 else "small"
    if kind == "pattern":
        return named(clip, words).pattern
    if kind == "count":
        colours = [colour for colour in COLOURS if f" {colour} " in words]
        shapes = [shape for shape in SHAPES if f" {shape}s " in words or f" {shape}es " in words]
        chosen = [f for f in figures if f.colour in (colours or COLOURS) and f.shape in (shapes or SHAPES)]
        return str(len(chosen))
    if kind == "existence":
        return "yes" if any(f" {f.colour} {f.shape}?" in words for f in figures) else "no"
    if kind == "position":
        seconds = (frames[0] if "start" in words else frames[-1]) / clip.fps
        x, y = named(clip, words).position(seconds)
        if "left or right" in words:
            return "left" if x < clip.aspect[0] / 2 else "right"
        return "top" if y < clip.aspect[1] / 2 else "bottom"
    if kind == "direction":
        angle = np.degrees(np.arctan2(*travelled(named(clip, words))[::-1])) % 360
        assert min(abs(angle - axis) for axis in (0, 90, 180, 270, 360)) < 25
        return ("right", "down", "left", "up", "right")[round(angle / 90)]
    if kind == "speed":
        figure = named(clip, words)
        speed = np.hypot(*travelled(figure)) / (figure.legs[0].stop - figure.legs[0].start)
        assert speed > 0.35 or speed < 0.2
        return "fast" if speed > 0.3 else "slow"
    if kind == "motion":
        (answer,) = [choice for choice in question.choices if f" {DOES[named(clip, words).motion]}" in choice]
        return answer
    if kind == "rotation":
        return "yes" if named(clip, words).spin else "no"
    if kind == "occlusion":
        back, front = sorted((f for f in figures if f"{f.colour} {f.shape}" in words), key=figures.index)
        assert words.index(front.name) < words.index(back.name)
        times = [frame / clip.fps for frame in frames]
        near = min(np.hypot(*np.subtract(back.position(t), front.position(t))) for t in times)
        return "yes" if near < 0.6 * (back.radius + front.radius) else "no"
    if kind == "order":
        events = words.split(": ")[1].rstrip("?").split(", ") if question.form == "yes/no" else question.choices
        one, other = (moment_of(clip, event) for event in events)
        assert abs(one - other) > 0.6
        if question.form == "yes/no":
            return "yes" if one < other else "no"
        return question.choices[int((one > other) == ("first" in words))]
    if kind == "when":
        seconds = moment_of(clip, words.split(": ")[1].rstrip("?"))
        if "At what time" in words:
            return min(question.choices, key=lambda choice: abs(float(choice.split()[0]) - seconds))
        return f"in the {'first' if seconds < (frames[0] + frames[-1]) / clip.fps / 2 else 'second'} half"
    if kind == "camera":
        camera = clip.shots[0].camera.kind
        if question.form == "yes/no":
            return "no" if camera == "still" else "yes"
        (answer,) = [choice for choice in question.choices if CAMERA[camera] in choice]
        return answer
    if kind == "cuts":
        if question.form == "yes/no":
            return "yes" if len(clip.shots) > 1 else "no"
        if "after" in words:
            (answer,) = [c for c in question.choices if c in {figure.name for figure in clip.shots[1].figures}]
            return answer
        return str(len(clip.shots))
    if kind == "fault":
        present = [fault.kind for fault in clip.faults]
        if question.form == "yes/no":
            (meant,) = [kind for kind in FAULTS if re.search(FAULT_WORDS[kind], words)]
            return "yes" if meant in present else "no"
        if not present:
            return "nothing"
        (answer,) = [choice for choice in question.choices if re.search(FAULT_WORDS[present[0]], choice)]
        return answer
    assert kind == "background"
    return clip.shots[0].ground.kind


def test_every_answer_follows_from_the_description(asked):
    for clip, frames, questions in asked:
        for question in questions:
            assert question.answer == derive(clip, frames, question), (clip.seed, question)


def test_answers_are_among_choices_that_all_differ(asked):
    for _, _, questions in asked:
        for question in questions:
            assert question.answer in question.choices
            assert 2 <= len(set(question.choices)) == len(question.choices) <= 4
            if question.form == "choice":
                assert all(choice in question.question for choice in question.choices)


def test_every_kind_is_asked_and_no_answer_is_the_only_one(asked):
    answers = {kind: Counter() for kind in KINDS}
    for _, _, questions in asked:
        for question in questions:
            answers[question.kind][question.answer] += 1
    assert all(len(found) >= 2 for found in answers.values()), answers
    # Occlusions are rare; of everything else no single answer may be right nearly always.
    for kind, found in answers.items():
        if kind != "occlusion":
            assert max(found.values()) < 0.7 * sum(found.values()), (kind, found)


def test_nothing_is_asked_about_what_cannot_be_seen(asked):
    """An object named in a question fills, at its best, most of its area in some sampled frame."""
    for clip, frames, questions in asked:
        visible = {figure.name: max(figure.visible) for figure in truth_of(clip, frames).figures}
        for question in questions:
            if question.kind in ("colour", "shape", "size", "pattern", "direction", "motion", "speed", "rotation"):
                assert all(fraction > 0.65 for name, fraction in visible.items() if name in question.question)


def test_hidden_faults_are_not_asked_about():
    """Frames shown twice cannot be distinguished from every other frame, nor a flicker from one."""
    clips = (sample_clip(seed, "fault", fault="duplicate", fps=12) for seed in range(30))
    clip = next(clip for clip in clips if truth_of(clip).faults)
    every, some = truth_of(clip), truth_of(clip, sampled_frames(clip, 6))
    assert every.faults == ("duplicate",) and some.hidden_faults == ("duplicate",)
    assert any(question.kind == "fault" and question.answer == "yes" for question in write_questions(clip, every))
    assert not any(question.kind == "fault" for question in write_questions(clip, some))


def test_shown_faults_are_in_the_pixels_of_the_sampled_frames():
    for seed in range(60):
        clip = sample_clip(seed, "fault", fault="freeze")
        frames = sampled_frames(clip, 4)
        if truth_of(clip, frames).faults:
            inside = [frame for frame in frames if clip.faults[0].first <= frame < clip.faults[0].stop]
            pictures = np.stack(list(render(clip, (32, 32), inside)))
            assert len(inside) >= 3 and (pictures == pictures[0]).all()


def test_questions_and_captions_are_the_same_each_time_and_few_words_suffice(asked):
    words = set()
    for clip, frames, questions in asked:
        truth = truth_of(clip, frames)
        assert write_questions(clip, truth) == questions
        for text in (write_caption(clip, truth), *(question.question for question in questions)):
            words |= {word for word in re.findall(r"[a-z]+", text.lower())}
    assert len(words) < 250


def test_captions_name_every_figure_and_the_fault(asked):
    for clip, frames, _ in asked:
        truth = truth_of(clip, frames)
        caption = write_caption(clip, truth)
        for figure in truth.figures:
            assert (figure.name in caption) or not figure.seen
        assert caption.count("Then there is a") == len(clip.shots) - 1
        for kind in truth.faults:
            assert re.search(FAULT_WORDS[kind], caption.lower().split("background")[-1])


def test_truth_becomes_json(asked):
    for clip, frames, questions in asked[:20]:
        truth = truth_of(clip, frames)
        again = json.loads(json.dumps(truth.to_json()))
        assert again["frames"] == frames and len(again["figures"]) == len(truth.figures)
        assert [question.to_json()["answer"] for question in questions] == [q.answer for q in questions]


def test_pairs_kept_for_the_test_are_not_denied_before_it():
    """Neither asked after nor offered: a model must not learn that there are none."""
    denied = {"train": 0, "test": 0}
    for split in denied:
        for seed in range(SPLITS[split][0], SPLITS[split][0] + 150):
            clip = sample_clip(seed)
            for question in write_questions(clip, truth_of(clip, sampled_frames(clip, 4))):
                texts = [question.question, *question.choices]
                if question.kind == "colour" and question.form == "yes/no":
                    shape, colour = re.fullmatch(r"Is the (\w+) (\w+)\?", question.question).groups()
                    texts.append(f"{colour} {shape}")
                denied[split] += any(f"{colour} {shape}" in text for colour, shape in HELD_OUT for text in texts)
    assert denied["train"] == 0 and denied["test"] > 100
