"""Every mode on clips of the test split, answered by the embedded model: the table and the figure of the README.

    python tests/bench/evaluation.py [--clips 240] [--seed 0] [--folder CACHE] [--processes 2] [--write]

Renders the clips into CACHE (as ``codeclens synth`` does), asks every question about them in every mode (as ``codeclens
evaluate --fps 4 --side 128`` does), and prints the table, accuracy by content and kind of question, and how well faults
are told from their absence. With --write the results go beside this script's other results, as JSON and SVG.
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
from codeclens.models.code.watching import Watching
from codeclens.models.learn.comparison import summarise, table
from codeclens.models.learn.evaluation import MODES, Evaluation, evaluate, read_tasks
from codeclens.models.learn.evaluation_page import evaluation_page, lost_plans
from codeclens.models.learn.routing import ROUTER, route
from codeclens.models.learn.synthetic import seeds_of, write_clips
from codeclens.models.qwen3vl.placement import load_placed
from codeclens.models.video.reading import Sampling
from codeclens.models.weights import FPS, NAME, SIDE, embedded_pair
from support.machine import describe_machine
from support.plots import scatter

RESULTS = Path(__file__).parent / "results"
COLOURS = {"rgb": "#c26a00", "frames": "#c26a00", "thumbnail": "#0b6aa8", "paired": "#0b6aa8", "stamps": "#0b6aa8"}
COLOURS |= {ROUTER: "#7a3fb0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0, help="number of the first clip in the test split")
    parser.add_argument("--folder", default=str(Path(tempfile.gettempdir()) / "codeclens-evaluation"))
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--write", action="store_true", help="replace the committed results")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    began = time.perf_counter()
    shares = [
        (arguments.folder, arguments.seed + first, min(arguments.clips, first + count) - first)
        for count in [-(-arguments.clips // arguments.processes)]
        for first in range(0, arguments.clips, count)
    ]
    with ProcessPoolExecutor(arguments.processes, multiprocessing.get_context("spawn")) as pool:
        parts = list(pool.map(evaluate_share, shares))
    found = Evaluation(
        [o for part in parts for o in part.outcomes], {k: v for part in parts for k, v in part.plans.items()}
    )
    found.outcomes.sort(key=lambda outcome: (outcome.task.clip, list(MODES).index(outcome.mode)))
    summary = summarise(found.outcomes, route(found.outcomes, found.plans))
    print(table(summary))
    for key in ("by_content", "by_kind", "by_topic"):
        print_groups(summary, key)
    print(f"{time.perf_counter() - began:.0f} s")
    page = Path(arguments.folder) / "evaluation.html"
    page.write_text(
        evaluation_page(summary, f"{NAME} on the test split", lost_plans(summary, found.plans)), encoding="utf-8"
    )
    print(page)
    if arguments.write:
        write_results(summary, arguments)


def evaluate_share(share: tuple[str, int, int]) -> Evaluation:
    folder, first, count = share
    index = write_clips(Path(folder) / f"{first}", seeds_of("test", first, count), (SIDE, SIDE), look_fps=FPS)
    how = Watching(sampling=Sampling.by_fps(FPS), area=SIDE**2)
    model = load_placed(*embedded_pair(), "cpu")
    return evaluate(read_tasks(index), model, list(MODES), how)


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
    command = f"python tests/bench/evaluation.py --clips {arguments.clips} --seed {arguments.seed} --write"
    made = {"command": command, "machine": describe_machine(), **summary}
    (RESULTS / "evaluation.json").write_text(json.dumps(made, indent=1) + "\n")
    points = {}
    for mode, row in summary["modes"].items():
        right = 100 * row["accuracy"]
        low, high = row["against_rgb"]["interval"] if "against_rgb" in row else (0.0, 0.0)
        middle = row["against_rgb"]["difference"] if "against_rgb" in row else 0.0
        span = right + 100 * (low - middle), right + 100 * (high - middle)
        points[mode] = COLOURS.get(mode, "#666"), row["tokens"]["mean"], right, span
    (RESULTS / "evaluation.svg").write_text(scatter(points, "visual tokens a clip", "right answers, %"))


if __name__ == "__main__":
    main()
