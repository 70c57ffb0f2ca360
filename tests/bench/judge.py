"""How well faults are found by the metrics alone, by the embedded model alone and by both; ranking; cost of a rubric.

Every faulty clip has a twin without its fault, from seeds that no training has seen. Areas under the ROC curve; 'both'
is the mean of the two ranks. Ranking: twelve clips with no to three faults; Kendall's tau with the truth.

    python tests/bench/judge.py [--clips 20] [--mode rgb] [--parts faults ranking cost] [--out results/judge.txt]
"""

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.code.conversation import converse
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.judge.calibration import area_under_curve, calibration_error, fit_question
from codeclens.models.judge.ranking import rank_by_both, rank_by_metrics, rank_by_score
from codeclens.models.judge.rubric import Question, Rubric, find_rubric
from codeclens.models.judge.scoring import judge
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.questions import FAULT_QUESTIONS
from codeclens.models.synthetic.rendering import render
from codeclens.models.synthetic.scenes import SPLITS, sample_clip
from codeclens.models.video.measurement import measure
from codeclens.models.weights import FPS, SIDE, embedded_pair
from scipy.stats import kendalltau, rankdata
from support.machine import describe_machine

METRIC = {
    "flicker": "flicker",
    "freeze": "longest_freeze",
    "vanish": "sudden_change",
    "morph": "sudden_change",
    "jitter": "jitter",
}
PARTS = ("faults", "ranking", "cost")
FIRST_SEED = SPLITS["test"][0] + 700_000


def fault_rubric(faults) -> Rubric:
    questions = [
        Question(fault, FAULT_QUESTIONS[fault][0], options=("Yes", "No"), values=(0.0, 1.0), bias="none")
        for fault in faults
    ]
    return Rubric("faults", "Faults", tuple(questions))


def source_of(clip) -> VideoSource:
    return VideoSource.from_images(np.stack(list(render(clip, (SIDE, SIDE)))), clip.fps)


def reading_of(clip, model, mode):
    config = CodeConfig(mode=mode, sampling=FrameSampling.by_fps(FPS), area=SIDE**2)
    reading = converse(model, watch(source_of(clip), model, config))
    reading.read()
    return reading


def badness(clip, model, mode, faults):
    """{fault: (its metric, probability that the model sees it)}."""
    values = measure(source_of(clip)).clip
    scores = judge(reading_of(clip, model, mode), fault_rubric(faults)).scores
    return {s.question.name: (values[METRIC[s.question.name]], 1 - s.value) for s in scores}


def find_faults(model, mode, count, say):
    say(f"{'fault':<10}{'metric':<18}{'metric alone':>13}{'model alone':>13}{'both':>8}{'clips':>8}")
    calibrations = []
    for fault in METRIC:
        rows, faulty = [], []
        for number in range(count):
            clip = sample_clip(FIRST_SEED + number, "fault", fault=fault, seconds=3, fps=12)
            for one, bad in ((clip, True), (dataclasses.replace(clip, faults=()), False)):
                rows.append(badness(one, model, mode, [fault])[fault])
                faulty.append(bad)
        rows, faulty = np.array(rows), np.array(faulty)
        ranks = [rankdata(column) for column in rows.T]
        areas = [area_under_curve(score, faulty) for score in (*rows.T, ranks[0] + ranks[1])]
        say(f"{fault:<10}{METRIC[fault]:<18}{areas[0]:>13.2f}{areas[1]:>13.2f}{areas[2]:>8.2f}{len(rows):>8}")
        calibrations.append((fault, 1 - rows[:, 1], ~faulty))
    return calibrations


def calibrate_halves(calibrations, say):
    for fault, values, good in calibrations:
        half = np.arange(len(values)) % 4 < 2
        fit = fit_question(fault, values[half], good[half])
        after = np.array([fit.apply(value) for value in values[~half]])
        before, y = values[~half], good[~half].astype(float)
        say(
            f"calibration of {fault}: expected calibration error on the held-out half "
            f"{calibration_error(before, y):.3f} -> {calibration_error(after, y):.3f}"
        )


def rank_twelve(model, mode, say):
    """Three clips with each of no, one, two and three faults, ranked as ``rank --by`` does with the rubric 'faults'."""
    faults, metrics, scores = list(METRIC), [], []
    for number in range(12):
        base = sample_clip(FIRST_SEED + 5000 + number, "fault", fault="flicker", seconds=4, fps=12)
        chosen = [faults[(number + k) % len(faults)] for k in range(number % 4)]
        held = []
        for fault in chosen:
            held += sample_clip(FIRST_SEED + 5000 + number, "fault", fault=fault, seconds=4, fps=12).faults
        clip = dataclasses.replace(base, faults=tuple(held))
        metrics.append(measure(source_of(clip)).clip)
        scores.append(judge(reading_of(clip, model, mode), find_rubric("faults")).score)
    truth = [number % 4 for number in range(12)]
    rankings = {
        "metrics": rank_by_metrics(metrics), "model": rank_by_score(scores), "both": rank_by_both(scores, metrics),
    }  # fmt: skip
    for name, ranking in rankings.items():
        tau = kendalltau(-ranking.strength, truth).statistic
        say(f"ranking of 12 clips by {name}: Kendall's tau {tau:.2f}")


def cost_of_ten(model, mode, say):
    clip = sample_clip(FIRST_SEED, "moving", seconds=6, fps=12)
    many = [
        dataclasses.replace(question, name=f"{question.name} {number}")
        for number in range(2)
        for question in fault_rubric(METRIC).questions
    ]
    times = {1: [], len(many): []}
    for _ in range(5):
        for count, spent in times.items():
            began = time.process_time()
            judge(reading_of(clip, model, mode), Rubric("r", "R", tuple(many[:count])))
            spent.append(time.process_time() - began)
    one, ten = (statistics.median(spent) for spent in times.values())
    say(f"ten questions cost {ten / one:.2f} times one ({1000 * one:.0f} ms of CPU with encoding and reading)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--mode", default="rgb")
    parser.add_argument(
        "--parts", nargs="+", choices=("faults", "ranking", "cost"), default=("faults", "ranking", "cost")
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = []

    def say(words):
        print(words, flush=True)
        lines.append(words)

    say(describe_machine())
    say(f"CodecLens-Tiny, mode {arguments.mode}; every faulty clip beside its twin without the fault")
    model = load_qwen3vl(*embedded_pair())
    if "faults" in arguments.parts:
        calibrations = find_faults(model, arguments.mode, arguments.clips, say)
        if 2 * arguments.clips >= 40:
            calibrate_halves(calibrations, say)
    if "ranking" in arguments.parts:
        rank_twelve(model, arguments.mode, say)
    if "cost" in arguments.parts:
        cost_of_ten(model, arguments.mode, say)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
