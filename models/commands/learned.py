"""The command that trains a learned code: train-code."""

import argparse
from pathlib import Path

import torch

from ..code.learned.changes import REFERENCES
from ..code.learned.learned_code import NETWORKS, read_header
from ..dataset.items import find_items
from ..errors import InputError
from ..progress import TerminalProgress
from ..qwen import load_qwen3vl
from ..qwen.placement import load_placed
from ..training.architecture import TrainingOperations
from ..training.learned.clips import RenderedClips, VideoClips, read_pairs
from ..training.learned.trainer import LearnedConfig, network_for, train_code
from ..weights import FPS, SIDE
from .arguments import SIDES, number, whole
from .model import add_model_options, files_of, model_name
from .video import warn

DENSE_BYTES = 256 << 20
"""A model whose files are smaller is trained beside dense weights on the CPU: decoding its blocks would take longer."""


def add_commands(commands) -> None:
    """Add the family's parser to ``commands``."""
    default = LearnedConfig()
    parser = commands.add_parser("train-code", help="train a learned code (ptoken or delta) for a model, on any clips")
    parser.add_argument("folder", metavar="CLIPS", help="folder of video files; 'rendered' draws clips instead")
    parser.add_argument("out", metavar="OUT", help="where checkpoint, log, picture of the losses and the code go")
    parser.add_argument("--mode", choices=tuple(NETWORKS), default="ptoken", help="which code (default ptoken)")
    add_model_options(parser)
    parser.add_argument("--device", help="cpu, cuda, ... (default: the first GPU, or the CPU)")
    parser.add_argument("--questions", metavar="F.jsonl", help="answers to train on; default: the model's own answers")
    parser.add_argument("--fps", type=number(0, 240, above=True), help=f"frames a second (default 2, embedded {FPS:g})")
    parser.add_argument("--side", type=whole(*SIDES), help=f"pixels of pictures (default 512, embedded {2 * SIDE})")
    parser.add_argument("--frames", type=whole(2, 256), default=default.frames, help="most frames of a stretch")
    parser.add_argument("--window", type=whole(1, 64), default=1, help="most frames fused into one set of tokens")
    parser.add_argument(
        "--reference",
        choices=REFERENCES,
        default=default.reference,
        help="what changes are taken against: the frame before, the I frame, or the better of those before and after",
    )
    parser.add_argument("--align-steps", type=whole(0), default=default.align_steps, metavar="N", help="first stage")
    parser.add_argument("--answer-steps", type=whole(0), default=default.answer_steps, metavar="N", help="second stage")
    parser.add_argument("--rows", type=whole(1, 1024), default=default.rows, help="stretches of a step")
    parser.add_argument("--most-questions", type=whole(1, 64), default=1, metavar="N", help="of a stretch (default 1)")
    parser.add_argument("--lr", type=number(0, 1, above=True), default=default.lr, help="of the first stage")
    parser.add_argument("--answer-lr", type=number(0, 1, above=True), default=default.answer_lr, help="of the second")
    parser.add_argument(
        "--motion-lr-scale",
        type=number(0, 4096, above=True),
        default=default.motion_lr_scale,
        metavar="X",
        help=f"times the rate, for ptoken's motion kernels, which begin at zero (default {default.motion_lr_scale:g})",
    )
    parser.add_argument("--rank", type=whole(0, 256), default=default.rank, help="of the language model's adapter")
    parser.add_argument("--tune", action="store_true", help="train the network in the second stage, too")
    parser.add_argument("--start", default="", metavar="F", help="start from this learned code")
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S")
    parser.add_argument("--minutes", type=number(0), metavar="M", help="stop after M minutes; --resume continues")
    parser.add_argument("--resume", action="store_true", help="continue from OUT's checkpoint, with the same options")
    parser.set_defaults(run=run_train_code)


def run_train_code(arguments: argparse.Namespace) -> int:
    """Train, and name the file of the code."""
    embedded = arguments.model is None
    fps, side = arguments.fps or (FPS if embedded else 2.0), arguments.side or (2 * SIDE if embedded else 512)
    clips = clips_of(arguments, fps, side)
    model = model_for_training(arguments)
    if model.vision is None:
        raise InputError(f"{arguments.model} has no vision tower beside it; give its mmproj file as --mmproj")
    network = network_for(arguments.mode, model.config.vision)
    if arguments.start:
        network = read_header(arguments.start).network
    config = LearnedConfig(
        mode=arguments.mode,
        network=network,
        side=side,
        fps=fps,
        frames=arguments.frames,
        window=arguments.window,
        reference=arguments.reference,
        align_steps=arguments.align_steps,
        answer_steps=arguments.answer_steps,
        rows=arguments.rows,
        questions=arguments.most_questions,
        lr=arguments.lr,
        answer_lr=arguments.answer_lr,
        motion_lr_scale=arguments.motion_lr_scale,
        rank=arguments.rank,
        tune=arguments.tune,
        start=arguments.start,
        seed=arguments.seed,
    )
    written = train_code(
        arguments.out, config, model, clips, minutes=arguments.minutes, resume=arguments.resume,
        name=Path(model_name(arguments)).stem, progress=TerminalProgress("training"),
    )  # fmt: skip
    warn(clips.warnings)
    print(written)
    return 0


def clips_of(arguments: argparse.Namespace, fps: float, side: int) -> VideoClips | RenderedClips:
    """What the folder names: its video files, or clips that are rendered."""
    if arguments.folder == "rendered":
        if arguments.questions:
            raise InputError(f"--questions is {arguments.questions}; rendered clips have questions of their own")
        return RenderedClips(fps, side // 32 * 32)
    paths = [item.path for item in find_items(Path(arguments.folder), images=False)]
    return VideoClips(paths, fps, side, read_pairs(arguments.questions) if arguments.questions else None)


def model_for_training(arguments: argparse.Namespace):
    """The model that the options name, frozen; a small one with dense weights on the CPU."""
    path, tower = files_of(arguments)
    small = sum(Path(one).stat().st_size for one in (path,) if Path(one).is_file()) < DENSE_BYTES
    on_cpu = arguments.device == "cpu" or (arguments.device is None and not torch.cuda.is_available())
    if small and on_cpu:
        return load_qwen3vl(path, tower, operations=TrainingOperations)
    return load_placed(path, tower, arguments.device)
