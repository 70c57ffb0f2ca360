"""Commands that measure a video: plan, motion, cuts."""

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..drawing.canvas import clock_text, grouped, short_number
from ..drawing.views import most_moving, motion_view, timeline_view
from ..errors import InputError, one_line
from ..files import make_folder, write_text, writing
from ..progress import TerminalProgress
from ..source.reading import FrameSampling, VideoSource, fit_size
from ..source.sampled import SampledVideo
from ..video import planning
from ..video.cuts import cuts_of
from ..video.extraction import VECTORS, extract
from ..video.gop import POLICIES, GopPlan
from ..video.planning import CAP, auto_gamma, plan_from_costs
from ..video.primitives import Primitives
from ..video.shots import cuts_in_words
from ..video.tokens import DEFAULT_MODE, MODES
from .arguments import SIDES, number, whole
from .costs import Pricing, add_cost_options
from .model import fps_of, side_of

REFERENCE_SIZE = (512, 512)
"""Size at which clips of different sizes have one auto gamma in common: costs grow with the number of pixels."""


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    plan = commands.add_parser("plan", help="choose whole pictures (I) and predicted ones (P), count visual tokens")
    plan.add_argument("clips", nargs="*", metavar="CLIP", help="video files; several get one auto gamma in common")
    plan.add_argument("--costs", metavar="FILE.json", help="plan from a JSON list of prediction costs, not from a clip")
    add_reading_options(plan)
    plan.add_argument("--policy", choices=POLICIES, help="adaptive by default; budget where --budget is given")
    plan.add_argument("--budget", type=whole(1), metavar="TOKENS", help="stay within so many prompt tokens")
    plan.add_argument(
        "--gamma", default="auto", help="cost above which a frame is I: a number, auto (default) or scaled"
    )
    plan.add_argument("--cap", type=whole(0), default=CAP, help=f"most P frames in a row (default {CAP})")
    plan.add_argument(
        "--frames", metavar="N,N,...", help="for --policy frames: positions of I among the sampled frames"
    )
    plan.add_argument("--cuts", action="store_true", help="start a group at each hard cut, found at full frame rate")
    plan.add_argument(
        "--mode", choices=tuple(MODES), default=DEFAULT_MODE, help="whose tokens to count (default %(default)s)"
    )
    add_cost_options(plan)
    plan.add_argument("--json", metavar="F", help="write the plan as JSON; - for standard output")
    plan.add_argument("--png", metavar="F", help="draw the plan; a folder where several clips are given")
    plan.set_defaults(run=run_plan, fps=None, side=None)

    motion = commands.add_parser("motion", help="draw motion vectors, prediction and residual of one frame")
    motion.add_argument("clip", metavar="CLIP")
    motion.add_argument("--png", metavar="F", required=True, help="the picture to write")
    motion.add_argument(
        "--at", type=number(-1e9), metavar="SECONDS", help="the frame on screen then; default: the most moving"
    )
    add_reading_options(motion)
    motion.set_defaults(run=run_motion)

    cuts = commands.add_parser("cuts", help="find hard cuts, fades, dissolves and wipes at the clip's own frame rate")
    cuts.add_argument("clips", nargs="+", metavar="CLIP")
    cuts.add_argument("--json", metavar="F", help="write them as JSON; - for standard output")
    cuts.set_defaults(run=run_cuts)


def add_reading_options(parser) -> None:
    parser.add_argument(
        "--fps", type=number(0, 1000), default=2.0, help="frames sampled each second (default 2); 0 for all"
    )
    parser.add_argument(
        "--side", type=whole(*SIDES), default=512, help="frames are resized to about SIDE x SIDE (default 512)"
    )
    parser.add_argument(
        "--source",
        choices=VECTORS,
        default="search",
        help="vectors from our own search (default) or those the file carries",
    )


def run_plan(arguments: argparse.Namespace) -> int:
    if bool(arguments.clips) == bool(arguments.costs):
        raise InputError("give plan either clips or --costs FILE.json")
    if arguments.costs and arguments.png:
        raise InputError("--png draws frames, which a list of costs does not have; give a clip")
    if arguments.costs and arguments.cuts:
        raise InputError("--cuts needs frames, which a list of costs does not have; give a clip")
    if arguments.model and not arguments.cost:
        raise InputError("--model says whose time and memory to predict; give --cost as well")
    check_folders(arguments.json, arguments.png)
    # The embedded model reads smaller and more frames than others; without --cost no model is meant.
    arguments.side = side_of(arguments) if arguments.cost else 512 if arguments.side is None else arguments.side
    arguments.fps = fps_of(arguments) if arguments.cost else 2.0 if arguments.fps is None else arguments.fps
    rule = planning_rule(arguments)
    pricing = Pricing(arguments) if arguments.cost else None
    if arguments.costs:
        decided = plan_from_costs(read_costs(arguments.costs), size=(arguments.side, arguments.side), **rule)
        report([(arguments.costs, decided, None)], arguments, pricing)
        return 0
    searched, took = [], []
    for clip in arguments.clips:
        began = time.perf_counter()
        searched.append(search_clip(clip, arguments))
        took.append(time.perf_counter() - began)
    planned = []
    for primitives, gamma in zip(searched, shared_gammas(searched, rule), strict=True):
        video = primitives.video
        cuts = cuts_of(video.source, TerminalProgress(video.name)).cuts if arguments.cuts else ()
        decided = planning.plan(primitives, cuts=cuts, **{**rule, "gamma": gamma})
        planned.append((video.name, decided, video.source))
    report(planned, arguments, pricing, took if arguments.source == "search" else None)
    return 0


def planning_rule(arguments) -> dict:
    """The keyword arguments of :func:`plan_from_costs` that the options ask for."""
    policy = arguments.policy or (
        "budget" if arguments.budget is not None else "frames" if arguments.frames else "adaptive"
    )
    if policy == "budget" and arguments.budget is None:
        raise InputError("--policy budget needs --budget TOKENS")
    return {
        "policy": policy,
        "budget": arguments.budget,
        "gamma": number_or_word(arguments.gamma),
        "cap": arguments.cap,
        "frames": positions(arguments.frames or ""),
        "mode": arguments.mode,
    }


def number_or_word(gamma: str) -> float | str:
    if gamma in ("auto", "scaled"):
        return gamma
    try:
        value = float(gamma)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise InputError(f"--gamma is {gamma!r}; give a number, auto or scaled")
    return value


def positions(words: str) -> list[int]:
    try:
        return [int(word) for word in words.replace(",", " ").split()]
    except ValueError:
        raise InputError(f"--frames is {words!r}; give whole numbers, for example 0,12,30") from None


def read_costs(path: str) -> list:
    """The list of costs in a JSON file; '-' reads standard input."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
        costs = json.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(costs, list):
        raise InputError(f"{path} holds a JSON {type(costs).__name__}; it must be a list of costs")
    return costs


def search_clip(clip: str, arguments) -> Primitives:
    """The primitives of one clip, read as the options ask."""
    source = VideoSource.open(clip)
    sampling = FrameSampling.by_fps(arguments.fps) if arguments.fps else FrameSampling.all()
    size = fit_size(source.info.width, source.info.height, arguments.side**2)
    video = SampledVideo(source, sampling, size)
    return extract(video, arguments.source, progress=TerminalProgress(video.name))


def shared_gammas(searched: list[Primitives], rule: dict) -> list:
    """One gamma for each clip. 'auto' is found over all of them at once, with costs brought to one size."""
    if rule["gamma"] != "auto" or len(searched) == 1:
        return [rule["gamma"]] * len(searched)
    area = REFERENCE_SIZE[0] * REFERENCE_SIZE[1]
    scales = [primitives.size[0] * primitives.size[1] / area for primitives in searched]
    costs = [primitives.pcost / scale for primitives, scale in zip(searched, scales, strict=True)]
    gamma = auto_gamma(costs, REFERENCE_SIZE, rule["cap"], searched[0].source)
    return [gamma * scale for scale in scales]


def run_motion(arguments: argparse.Namespace) -> int:
    check_folders(arguments.png)
    primitives = search_clip(arguments.clip, arguments)
    source = primitives.video.source
    if arguments.at is None:
        position = most_moving(primitives)
    else:
        position = max(1, int(np.searchsorted(primitives.pts, arguments.at, side="right")) - 1)
    save_picture(motion_view(primitives, source, position), arguments.png)
    seconds, number = primitives.pts[position], primitives.index[position]
    print(f"{arguments.png}: {source.info.name}, frame {number} at {seconds:.2f} s")
    warn(source.warnings)
    return 0


def run_cuts(arguments: argparse.Namespace) -> int:
    check_folders(arguments.json)
    clips = []
    for clip in arguments.clips:
        with going_on(clip, clips):
            source = VideoSource.open(clip)
            found = cuts_of(source, TerminalProgress(source.info.name))
            warn(source.warnings)
            clips.append({"file": source.info.name, **found.to_json(), "warnings": source.warnings})
            if arguments.json != "-":
                print(cuts_in_words(source, found), flush=True)
    if arguments.json:
        write_json(clips[0] if len(clips) == 1 else {"clips": clips}, arguments.json)
    return failed(clips)


@contextmanager
def going_on(clip: str, rows: list[dict]) -> Iterator[None]:
    """Print what is wrong with ``clip``, note it in ``rows`` and go on with the next one."""
    try:
        yield
    except InputError as error:
        print(f"codeclens: {error}", file=sys.stderr)
        rows.append({"file": clip, "error": str(error)})


def failed(rows: list[dict]) -> int:
    """The exit code: 2 where a clip was wrong."""
    return 2 if any("error" in row for row in rows) else 0


def report(
    planned: list[tuple[str, GopPlan, VideoSource | None]],
    arguments,
    pricing: Pricing | None = None,
    took: list[float] | None = None,
) -> None:
    """Write what was asked for: pictures, JSON, and the plans in words unless standard output carries the JSON.

    ``took`` are the seconds in which each clip was read and searched, where that is known.
    """
    prices = pricing.price([(name, plan) for name, plan, _ in planned], took) if pricing else None
    for name, plan, source in planned:
        warn([*plan.warnings, *(source.warnings if source else ())])
        if arguments.png:
            path = Path(arguments.png)
            if len(planned) > 1:
                make_folder(path)
                path = path / f"{Path(name).stem}.png"
            progress = TerminalProgress(f"drawing {path.name}")
            save_picture(timeline_view(plan, source, cuts_of(source, progress), progress=progress), path)
    if arguments.json:
        plans = [{"file": name, **plan_json(plan, source)} for name, plan, source in planned]
        if prices:
            plans = [{**plan, **price} for plan, price in zip(plans, prices.to_json(), strict=True)]
        write_json(plans[0] if len(plans) == 1 else {"clips": plans}, arguments.json)
    if arguments.json != "-":
        print("\n\n".join(plan_in_words(name, plan, source) for name, plan, source in planned))
        if prices:
            print(f"\n{prices.in_words()}")
        if arguments.png:
            print(f"\npicture: {arguments.png}")


def plan_json(plan: GopPlan, source: VideoSource | None) -> dict:
    """The plan as JSON values, with what reading had to say among the warnings."""
    data = plan.to_json()
    return {**data, "warnings": [*data["warnings"], *(source.warnings if source else ())]}


def plan_in_words(name: str, plan: GopPlan, source: VideoSource | None) -> str:
    """The plan for a reader: one line a GOP, then the tokens of every mode beside both baselines."""
    lines = [name]
    if source:
        info = source.info
        lines[0] += f"   {info.codec}, {info.width}x{info.height}, {info.fps:.4g} fps"
    whole = int(np.sum((plan.kind == 1) & plan.keep))
    gamma = "" if math.isnan(plan.gamma) else f", gamma {short_number(plan.gamma)}"
    lines.append(
        f"{len(plan)} frames of {plan.size[1]}x{plan.size[0]}: {whole} I + {int(plan.keep.sum()) - whole} P"
        f"   ({plan.policy}{gamma})"
    )
    lines.append("")
    for start, stop in plan.gops:
        cost = plan.pcost[start]
        why = plan.why[start] + (f", {short_number(cost)}" if plan.why[start] == "cost" else "")
        frames = "I" + "P" * (stop - start - 1) if plan.keep[start] else f"(dropped, {stop - start} frames)"
        time = clock_text(float(plan.pts[start]), 0.01)
        lines.append(f"  {time:>9}  frame {plan.index[start]:<7} {why:<14} {frames}")
    totals, visual = plan.prompt_totals, plan.totals
    every, pairs = totals["rgb_per_frame"], totals["rgb_paired"]
    lines += ["", f"  {'tokens':<20}{'visual':>10}{'prompt':>10}   of every frame   of native pairs"]
    names = {"rgb_per_frame": "every frame whole", "rgb_paired": "native frame pairs"}
    for mode, tokens in totals.items():
        mark = " <" if mode == plan.mode else ""
        label = names.get(mode, mode)
        spent = f"{grouped(visual[mode]):>10}{grouped(tokens):>10}"
        lines.append(f"  {label:<20}{spent} {100 * tokens / every:>14.1f} % {100 * tokens / pairs:>14.1f} %{mark}")
    return "\n".join(lines)


def check_folders(*paths: str | None) -> None:
    """Refuse a file to write whose folder does not exist, before the work is done."""
    for path in paths:
        if path and not Path(path).parent.is_dir():
            raise InputError(f"{path} cannot be written: there is no folder {Path(path).parent}")


def warn(sentences) -> None:
    for sentence in sentences:
        print(f"codeclens: warning: {one_line(sentence)}", file=sys.stderr)


def write_json(value, path: str) -> None:
    """Write JSON to a file, whole or not at all, or to standard output for '-'."""
    text = json.dumps(value, indent=1, allow_nan=False)
    if path == "-":
        print(text)
        return
    write_text(path, text + "\n")


def save_picture(picture, path) -> None:
    with writing(path) as partial:
        picture.save(partial, format="PNG")
