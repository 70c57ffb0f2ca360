"""Every mode on clips of the test split, answered by the embedded model: the table and the figure of the README.

    python tests/bench/evaluation.py [--clips 120] [--faulty 120] [--seed 0] [--side 128]
        [--folder CACHE] [--processes 2] [--write]

Renders the clips into CACHE (as ``codeclens synth`` does), asks every question about them in every mode (as ``codeclens
evaluate --fps 4 --side SIDE`` does), and prints the table and accuracy by content and kind of question. Whether each
fault is there is also asked of as many faulty clips again. With --write the results go beside this script's
other results, as JSON and SVG.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.evaluation.paired import BUDGETS, MODES, Evaluation, evaluate, read_tasks, ways_of
from codeclens.models.evaluation.report import evaluation_page, lost_plans
from codeclens.models.evaluation.router import ROUTER, route
from codeclens.models.evaluation.statistics import summarise, table
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import FrameSampling
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.weights import FPS, NAME, SIDE, embedded_pair
from support.machine import describe_machine
from support.plots import scatter

FAULT_MODES = ("rgb", "frames", "thumbnail")
RESULTS = Path(__file__).parent / "results"
COLOURS = {"rgb": "#c26a00", "frames": "#c26a00", "thumbnail": "#0b6aa8", "paired": "#0b6aa8", "stamps": "#0b6aa8"}
COLOURS |= {ROUTER: "#7a3fb0", "cells": "#1c8a4a"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--faulty", type=int, default=120, help="clips with a fault, for the area under the curve")
    parser.add_argument("--seed", type=int, default=0, help="number of the first clip in the test split")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels on a side of clips and pictures")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "codeclens-evaluation"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help="replace the committed results")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    began = time.perf_counter()
    found = evaluate_all(arguments, arguments.seed, arguments.clips, tuple(MODES))
    summary = summarise(found.outcomes, route(found.outcomes, found.plans))
    print(table(summary))
    for key in ("by_content", "by_kind"):
        print_groups(summary, key)
    first = arguments.seed + arguments.clips
    faulty = summarise(evaluate_all(arguments, first, arguments.faulty, FAULT_MODES, "fault").outcomes)
    print_groups(faulty, "by_topic")
    summary["faults"] = {mode: row["by_topic"] for mode, row in faulty["modes"].items()}
    print(f"{time.perf_counter() - began:.0f} s")
    page = Path(arguments.folder) / "evaluation.html"
    page.write_text(
        evaluation_page(summary, f"{NAME} on the test split", lost_plans(summary, found.plans)), encoding="utf-8"
    )
    print(page)
    if arguments.write:
        write_results(summary, arguments)


def evaluate_all(arguments, first: int, clips: int, modes: tuple[str, ...], content: str | None = None) -> Evaluation:
    """All modes on ``clips`` clips of the test split, in several processes; of faulty ones only the fault is asked."""
    count = -(-clips // arguments.processes)
    parts = [
        (arguments.folder, arguments.side, first + start, min(count, clips - start), modes, content)
        for start in range(0, clips, count)
    ]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        evaluations = list(pool.map(evaluate_part, parts))
    outcomes = [outcome for part in evaluations for outcome in part.outcomes]
    ways = [str(way) for way in ways_of(modes, BUDGETS)]
    outcomes.sort(key=lambda outcome: (outcome.task.clip, ways.index(outcome.mode)))
    return Evaluation(outcomes, {clip: plan for part in evaluations for clip, plan in part.plans.items()})


def evaluate_part(part: tuple) -> Evaluation:
    folder, side, first, count, modes, content = part
    seeds = seeds_of("test", first, count)
    index = write_clips(Path(folder) / f"{side}-{first}", seeds, (side, side), sample_fps=FPS, content=content)
    tasks = [task for task in read_tasks(index) if content is None or task.kind == content]
    config = CodeConfig(sampling=FrameSampling.by_fps(FPS), area=side**2)
    return evaluate(tasks, load_placed(*embedded_pair(), "cpu"), modes, config)


def print_groups(summary: dict, key: str) -> None:
    modes = summary["modes"]
    print(f"\n{key:<14}{'asked':>6}" + "".join(f"{mode:>11}" for mode in modes))
    for group, found in modes["rgb"][key].items():
        values = [next(iter(row[key][group].values())) for row in modes.values()]
        print(f"{group:<14}{found['questions']:>6}" + "".join(f"{100 * value:>11.1f}" for value in values))


def write_results(summary: dict, arguments) -> None:
    """JSON with the command and the machine, without the lists of lost questions; and the figure."""
    for row in summary["modes"].values():
        if "against_rgb" in row:
            row["against_rgb"]["lost"] = len(row["against_rgb"]["lost"])
    counts = f"--side {arguments.side} --clips {arguments.clips} --faulty {arguments.faulty} --seed {arguments.seed}"
    command = f"python tests/bench/evaluation.py {counts} --write"
    made = {"command": command, "machine": describe_machine(), **summary}
    (RESULTS / "evaluation.json").write_text(json.dumps(made, indent=1) + "\n")
    (RESULTS / "evaluation.svg").write_text(figure(summary["modes"]))


def figure(modes: dict) -> str:
    """Right answers against tokens, each mode with the interval of its difference to native pairs."""
    points = {}
    for mode, row in modes.items():
        right = 100 * row["accuracy"]
        pair = row.get("against_rgb", {"difference": 0.0, "interval": (0.0, 0.0)})
        span = tuple(right + 100 * (bound - pair["difference"]) for bound in pair["interval"])
        points[mode] = COLOURS.get(mode.partition(" ")[0], "#666"), row["prompt_tokens"]["mean"], right, span
    return scatter(points, "prompt tokens a clip", "right answers, %")


if __name__ == "__main__":
    main()
