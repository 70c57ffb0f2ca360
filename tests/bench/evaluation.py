"""Every mode on clips of the test split, answered by the embedded model: the table and the figure of the README.

    python tests/bench/evaluation.py [--side 256] [--clips 120] [--seed 0] [--questions 8] [--minutes 60]
        [--folder CACHE] [--write]

Renders the clips into CACHE (as ``codeclens synth`` does), asks as many questions about each, of as many kinds as it
has, in every mode at three budgets and under every control (as ``codeclens evaluate --fps 4 --side SIDE`` does), and
prints the table, accuracy by content and by kind, and differences between modes. Each clip is written to a journal in
CACHE when it is done: another run of the same command goes on there, and ``--minutes`` bounds a run. With --write the
clips that are done go beside this script's other results, as JSON and SVG.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens.models.code.learned.learned_code import read_code, read_header
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.evaluation.controls import ABLATIONS, CONTROLS
from codeclens.models.evaluation.paired import (
    BUDGETS,
    LEARNED,
    MODES,
    Evaluation,
    Outcome,
    Task,
    evaluate_clips,
    read_tasks,
    ways_of,
)
from codeclens.models.evaluation.report import curve_of, evaluation_page
from codeclens.models.evaluation.router import route
from codeclens.models.evaluation.statistics import compare, summarise, table
from codeclens.models.progress import TerminalProgress
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import FrameSampling
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.video.gop import GopPlan
from codeclens.models.weights import FPS, NAME, embedded_code, embedded_pair
from support.machine import describe_machine

RESULTS = Path(__file__).parent / "results"
LEFT_OUT = ("paired", "stamps", "fixed")
"""Variants of thumbnails that are not in the table."""

FALSIFIED = (*CONTROLS, *ABLATIONS)
"""What is done to predicted frames."""

CHUNK = 4
"""Clips rendered at once: each is the control of the one after it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=256, help="pixels on a side of clips and pictures")
    parser.add_argument("--clips", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0, help="number of the first clip in the test split")
    parser.add_argument("--questions", type=int, default=8, help="of each clip at most")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no further clip after so many")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "codeclens-evaluation"))
    parser.add_argument("--write", action="store_true", help="replace the committed results")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    journal = journal_of(arguments)
    print(journal, flush=True)
    run(arguments, journal)
    found = read_journal(journal)
    summary = summarise(found.outcomes, route(found.outcomes, found.plans))
    print(table(summary))
    for key in ("by_content", "by_kind"):
        print_groups(summary, key)
    print_pairs(found.outcomes)
    page = journal.with_suffix(".html")
    page.write_text(evaluation_page(summary, f"{NAME} on the test split"), encoding="utf-8")
    print(page)
    if arguments.write:
        write_results(summary, arguments)


def shown(side: int) -> tuple[str, ...]:
    """Modes of the table, those of learned codes where the embedded model has one for pictures of this size."""
    codes = {mode: embedded_code(mode) for mode in LEARNED}
    learned = tuple(mode for mode, path in codes.items() if path and read_header(path).side == side)
    return tuple(mode for mode in MODES if mode not in LEFT_OUT) + learned


def journal_of(arguments) -> Path:
    """The journal of these options, weights and modes; others have another."""
    digest = hashlib.blake2b(digest_size=6)
    codes = (embedded_code(mode) for mode in LEARNED)
    for path in (*embedded_pair(), *filter(None, codes)):
        digest.update(Path(path).read_bytes())
    digest.update(" ".join(map(str, ways_of(shown(arguments.side), BUDGETS, FALSIFIED))).encode())
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{arguments.side}-{arguments.seed}-{arguments.questions}-{digest.hexdigest()}.jsonl"


def run(arguments, journal: Path) -> None:
    """Evaluate what the journal lacks, until the time is up."""
    began, size = time.monotonic(), (arguments.side, arguments.side)
    model = load_placed(*embedded_pair(), "cpu")
    modes = shown(arguments.side)
    codes = {mode: read_code(embedded_code(mode), model) for mode in modes if mode in LEARNED}
    config = CodeConfig(sampling=FrameSampling.by_fps(FPS), area=arguments.side**2)
    done = {json.loads(line)["clip"] for line in journal.open(encoding="utf-8")} if journal.exists() else set()
    progress = TerminalProgress("clips")
    for first in range(0, arguments.clips, CHUNK):
        progress(first, arguments.clips)
        seeds = seeds_of("test", arguments.seed + first, min(CHUNK, arguments.clips - first))
        index = write_clips(journal.parent / f"{arguments.side}-{seeds[0]}", seeds, size, sample_fps=FPS)
        tasks = list(drawn(read_tasks(index), arguments.questions))
        for clip, plan, outcomes in evaluate_clips(
            tasks, model, modes, config, controls=FALSIFIED, codes=codes, done=done
        ):
            row = {"clip": clip, "plan": plan.to_json(), "outcomes": [asdict(outcome) for outcome in outcomes]}
            with journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            if time.monotonic() - began > 60 * arguments.minutes:
                return
    progress(arguments.clips, arguments.clips)


def drawn(tasks: list[Task], most: int) -> Iterator[Task]:
    """At most so many questions of each clip, of every kind in turn."""
    clips: dict[str, dict[str, list[Task]]] = {}
    for task in tasks:
        clips.setdefault(task.clip, {}).setdefault(task.kind, []).append(task)
    for clip, kinds in clips.items():
        draw = random.Random(Path(clip).name)
        queues = [draw.sample(kinds[kind], len(kinds[kind])) for kind in draw.sample(sorted(kinds), len(kinds))]
        rounds = (queue[turn] for turn in range(max(map(len, queues))) for queue in queues if turn < len(queue))
        yield from list(rounds)[:most]


def read_journal(journal: Path) -> Evaluation:
    """The clips that are done."""
    outcomes, plans = [], {}
    for line in journal.open(encoding="utf-8"):
        row = json.loads(line)
        plans[row["clip"]] = GopPlan.from_json(row["plan"])
        for values in row["outcomes"]:
            task = values.pop("task")
            task["choices"] = tuple(task["choices"])
            outcomes.append(Outcome(Task(**task), **values))
    return Evaluation(outcomes, plans)


def print_groups(summary: dict, key: str) -> None:
    modes = summary["modes"]
    print(f"\n{key:<14}{'asked':>6} " + " ".join(f"{mode:>8}" for mode in modes))
    for group, found in modes["rgb"][key].items():
        values = [next(iter(row[key][group].values())) for row in modes.values()]
        print(
            f"{group:<14}{found['questions']:>6} "
            + " ".join(f"{100 * value:>{max(8, len(mode))}.1f}" for mode, value in zip(modes, values, strict=True))
        )


PAIRS = (
    *((f"cells {part}%", f"{other} {part}%") for other in ("sparse", "evs") for part in (20, 30, 40)),
    *(("ptoken", other) for other in ("keyframes", "sparse 40%", "cells 40%")),
    *(("ptoken", f"ptoken {control}") for control in FALSIFIED),
)
"""Modes of which one is set beside the other."""


def print_pairs(outcomes: list[Outcome]) -> None:
    """Differences in points between modes other than native pairs, where both were evaluated."""
    by_mode: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_mode.setdefault(outcome.mode, []).append(outcome)
    print()
    for one, other in PAIRS:
        if {one, other} <= by_mode.keys():
            found = compare(by_mode[other], by_mode[one])
            low, high = (100 * bound for bound in found["interval"])
            print(f"{one} against {other}: {100 * found['difference']:+.1f} ({low:+.1f} to {high:+.1f})")


def write_results(summary: dict, arguments) -> None:
    """JSON with the command and the machine, without the lists of lost questions; and the figure."""
    for row in summary["modes"].values():
        if "against_rgb" in row:
            row["against_rgb"]["lost"] = len(row["against_rgb"]["lost"])
    options = ("side", "clips", "seed", "questions")
    given = " ".join(f"--{name} {getattr(arguments, name)}" for name in options)
    made = {"command": f"python tests/bench/evaluation.py {given} --write", "machine": describe_machine(), **summary}
    (RESULTS / f"evaluation_{arguments.side}.json").write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"evaluation_{arguments.side}.svg").write_text(curve_of(summary), encoding="utf-8")


if __name__ == "__main__":
    main()
