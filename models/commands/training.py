"""Commands that make synthetic clips, learn from them and compare modes: synth, train-tiny, evaluate."""

import argparse
import json
from pathlib import Path

import torch

from ..code.learned.learned_code import read_code
from ..code.pipeline import CodeConfig
from ..errors import InputError
from ..evaluation.controls import ABLATIONS, CONTROLS
from ..evaluation.paired import BUDGETED, BUDGETS, LEARNED, MODES, check_controls, check_modes, evaluate, read_tasks
from ..evaluation.report import evaluation_page, lost_plans
from ..evaluation.router import route
from ..evaluation.statistics import summarise, table
from ..files import write_text
from ..progress import TerminalProgress
from ..synthetic.clip_files import seeds_of, write_clips
from ..synthetic.scenes import CONTENTS, FAULTS, SPLITS
from ..training.architecture import WIDTHS
from ..training.checkpoints import LOG
from ..training.examples import Mixture, make_example
from ..training.export import TYPES, export_pair
from ..training.model_card import model_card
from ..training.schedule import STAGES, TrainingConfig, stages_named
from ..training.trainer import Training, train
from ..training.validation import accuracy
from ..weights import NAME, embedded_code
from .arguments import number, whole
from .model import add_model_options, add_sampling_options, load_model, sampling_of_clips, side_of
from .video import check_folders, number_or_word, write_json

CARD = f"{NAME}.md"


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    synth = commands.add_parser("synth", help="render clips of moving figures with captions, questions and answers")
    synth.add_argument("folder", metavar="DIR", help="where the clips and clips.jsonl go")
    synth.add_argument("--n", type=whole(1), default=10, metavar="N", help="how many clips (default 10)")
    synth.add_argument("--seed", type=whole(0), default=0, metavar="S", help="number of the first one in its split")
    synth.add_argument("--split", choices=SPLITS, default="train", help="test shows what train does not")
    synth.add_argument("--size", default="128x128", metavar="WxH", help="pixels (default 128x128)")
    synth.add_argument("--seconds", type=number(0, 3600, above=True), help="length; default: drawn from 2 to 6")
    synth.add_argument(
        "--fps", type=number(0, 1000, above=True), help="frames a second; default: drawn from 8, 12 and 24"
    )
    synth.add_argument("--content", choices=CONTENTS, help="what happens; default: drawn")
    synth.add_argument("--fault", choices=FAULTS, help="make every clip a faulty one of this kind")
    synth.add_argument(
        "--sample-fps",
        "--look-fps",
        type=number(0, 1000),
        default=4.0,
        metavar="F",
        help="ask what so many frames a second show (default 4); 0 for all frames",
    )
    synth.set_defaults(run=run_synth)
    tiny = commands.add_parser("train-tiny", help="train a small Qwen3-VL from scratch on synthetic clips, export GGUF")
    tiny.add_argument("folder", metavar="OUT", help="where checkpoint, log, the two GGUF files and their card go")
    tiny.add_argument("--minutes", type=number(0), metavar="M", help="stop after M minutes; --resume continues")
    tiny.add_argument("--resume", action="store_true", help="continue from OUT's checkpoint, with the same options")
    tiny.add_argument("--steps", type=whole(1), default=TrainingConfig().steps, metavar="N", help="of all stages")
    tiny.add_argument("--start", default="", metavar="M.gguf", help="start from this model's weights and tokenizer")
    tiny.add_argument("--stages", metavar="NAME,...", help=f"only these of: {', '.join(one.name for one in STAGES)}")
    tiny.add_argument("--size", choices=WIDTHS, default="mini", help="widths of the model (default mini)")
    tiny.add_argument("--seed", type=whole(0, 255), default=0, metavar="S", help="of weights and examples, 0 to 255")
    tiny.add_argument("--device", default="cpu", help="cpu (default), cuda, ...")
    tiny.add_argument(
        "--workers", type=whole(0, 256), default=0, metavar="W", help="processes that render; 0: between the steps"
    )
    tiny.add_argument("--type", choices=TYPES, default="Q8_0", help="of the exported weights (default Q8_0)")
    tiny.add_argument(
        "--check", type=whole(0), default=200, metavar="N", help="validation clips the card is measured on"
    )
    tiny.set_defaults(run=run_train_tiny)
    compared = commands.add_parser("evaluate", help="compare modes on the same questions at matched token budgets")
    compared.add_argument("tasks", metavar="FILE.jsonl", help="clips, questions, answers, choices (see synth)")
    add_model_options(compared)
    compared.add_argument(
        "--modes", default=",".join(MODES), metavar="M,M,...", help=f"of {', '.join([*MODES, *LEARNED])}"
    )
    add_sampling_options(compared)
    compared.add_argument("--gamma", default="auto", help="cost above which a frame is I: a number, auto or scaled")
    compared.add_argument(
        "--budgets",
        default=",".join(map(str, BUDGETS)),
        metavar="F,F,...",
        help=f"parts of native pairs' prompt tokens that {', '.join(BUDGETED)} are held to (default %(default)s)",
    )
    compared.add_argument(
        "--controls",
        default="",
        metavar="C,C,...",
        help=f"falsify predicted frames as well: {', '.join(f'{name} ({what})' for name, what in CONTROLS.items())}; "
        f"of learned codes also {', '.join(ABLATIONS)}",
    )
    compared.add_argument("--code", action="append", default=[], metavar="F", help="a learned code, once for each mode")
    compared.add_argument("--limit", type=whole(1), metavar="N", help="only the first N clips")
    compared.add_argument("--json", metavar="F", help="write everything as JSON, lost questions too; - for output")
    compared.add_argument("--html", metavar="F", help="write a page with tables and the questions each mode loses")
    compared.set_defaults(run=run_evaluate)


def run_synth(arguments: argparse.Namespace) -> int:
    """Render the clips and say where their index is."""
    if arguments.fault and arguments.content not in (None, "fault"):
        raise InputError(f"--fault {arguments.fault} goes with --content fault, not with {arguments.content}")
    index = write_clips(
        arguments.folder,
        seeds_of(arguments.split, arguments.seed, arguments.n),
        _size(arguments.size),
        sample_fps=arguments.sample_fps,
        content="fault" if arguments.fault else arguments.content,
        fault=arguments.fault,
        seconds=arguments.seconds,
        fps=arguments.fps,
        progress=TerminalProgress(f"rendering {arguments.n} clips"),
    )
    print(index)
    return 0


def run_train_tiny(arguments: argparse.Namespace) -> int:
    """Train, measure, export the pair and its card, and name them."""
    if not 0 <= arguments.seed < 256:
        raise InputError(f"--seed is {arguments.seed}; give a whole number from 0 to 255")
    if arguments.check < 1 or arguments.workers < 0:
        raise InputError(f"--check is {arguments.check} and --workers {arguments.workers}; give 1 and 0, or more")
    folder = Path(arguments.folder)
    training = train(
        folder,
        TrainingConfig(
            size=arguments.size,
            steps=arguments.steps,
            seed=arguments.seed,
            start=arguments.start,
            stages=stages_named(arguments.stages),
        ),
        minutes=arguments.minutes,
        resume=arguments.resume,
        device=_device(arguments.device),
        workers=arguments.workers,
        progress=TerminalProgress("training"),
    )
    written = export_pair(training.model, training.metadata, folder, NAME, arguments.type)
    card = folder / CARD
    write_text(card, measured_card(training, folder, arguments.check))
    print("\n".join(str(path) for path in (*written, card)))
    return 0


def measured_card(training: Training, folder: Path, check: int) -> str:
    """The model card, with accuracy on ``check`` validation clips and the mean of the last hundred losses."""
    examples = [make_example(seed, Mixture(), "rgb") for seed in seeds_of("validation", 0, check)]
    examples = [example for example in examples if example]
    progress = TerminalProgress("measuring")
    measured = accuracy(training.model, training.attention, training.tokenizer, examples, progress)
    progress(check, check)
    log = folder / LOG
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[-100:]] if log.exists() else []
    losses = [{name: row[name] for name in ("answers", "targets")} for row in rows]
    return model_card(NAME, training, measured, losses, check, "validation")


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Compare the modes and print the table, or the JSON."""
    check_folders(None if arguments.json == "-" else arguments.json, arguments.html)
    modes = [mode.strip() for mode in arguments.modes.split(",")]
    check_modes(modes)
    tasks = read_tasks(arguments.tasks, arguments.limit)
    config = CodeConfig(
        sampling=sampling_of_clips(arguments),
        area=side_of(arguments) ** 2,
        rule={"gamma": number_or_word(arguments.gamma)},
    )
    budgets = fractions(arguments.budgets)
    controls = [name.strip() for name in arguments.controls.split(",") if name.strip()]
    check_controls(controls)
    model = load_model(arguments)
    paths = arguments.code
    if arguments.model is None:
        paths = [*filter(None, map(embedded_code, LEARNED)), *paths]
    codes = {code.header.mode: code for code in (read_code(path, model) for path in paths)}
    found = evaluate(tasks, model, modes, config, TerminalProgress("evaluating"), budgets, controls, codes)
    summary = summarise(found.outcomes, route(found.outcomes, found.plans))
    if arguments.json:
        write_json(summary, arguments.json)
    if arguments.html:
        model = Path(arguments.model).stem if arguments.model else NAME
        pictures = lost_plans(summary, found.plans, TerminalProgress("drawing plans"))
        write_text(arguments.html, evaluation_page(summary, f"{model} on {Path(arguments.tasks).name}", pictures))
    if arguments.json != "-":
        print(table(summary))
    return 0


def fractions(words: str) -> list[float]:
    """'0.2,0.4' as numbers."""
    try:
        return [float(word) for word in words.split(",")]
    except ValueError:
        raise InputError(f"--budgets is {words!r}; give fractions, for example 0.2,0.4") from None


def _device(words: str) -> torch.device:
    try:
        return torch.empty(0, device=words).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device is {words!r}, which torch cannot use here: {reason}") from None


def _size(words: str) -> tuple[int, int]:
    """'640x384' to (H, W)."""
    width, _, height = words.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise InputError(f"--size is {words!r}; give WIDTHxHEIGHT in pixels, for example 128x128")
    return int(height), int(width)
