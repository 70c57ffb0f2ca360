"""What every command that runs Qwen3-VL takes: the files, the sampling, the limits."""

import argparse
import sys
from pathlib import Path

from ..errors import InputError
from ..qwen import Qwen3VL
from ..qwen.generate import SamplingParams
from ..qwen.placement import load_placed
from ..source.reading import FrameSampling
from ..weights import FPS, NAME, SIDE, embedded_pair

EMBEDDED = f"{NAME}, which comes with CodecLens and knows only clips like those of `codeclens synth`"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` and ``--mmproj``."""
    parser.add_argument("--model", metavar="F", help=f"the language model's .gguf file; default: {EMBEDDED}")
    parser.add_argument("--mmproj", default="auto", metavar="F", help="its vision tower; default: found beside it")


def add_looking_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--fps`` and ``--side``, by default what suits the model."""
    parser.add_argument(
        "--fps", type=float, help=f"frames sampled each second (default 2, embedded model {FPS:g}); 0 for all"
    )
    parser.add_argument(
        "--side", type=int, help=f"whole pictures have about SIDE x SIDE pixels (default 512, embedded model {SIDE})"
    )


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides the wording of an answer."""
    parser.add_argument("--max-tokens", type=int, metavar="N", help="length of the answer at most")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same text (default 0)")
    parser.add_argument("--temperature", type=float, help="0 takes the likeliest token (default 0.7, embedded model 0)")
    parser.add_argument("--top-k", type=int, default=20, help="choose among so many likeliest (default 20, 0 all)")
    parser.add_argument("--top-p", type=float, default=0.8, help="choose among this probability mass (default 0.8)")
    parser.add_argument("--min-p", type=float, default=0.0, help="drop below this fraction of the likeliest")
    parser.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: repeat less (default 1)")
    parser.add_argument("--presence-penalty", type=float, default=1.5, help="off tokens written (default 1.5)")
    add_thinking_option(parser)


def add_thinking_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--thinking`` and ``--no-thinking``; None where neither is given."""
    parser.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        help="let the model reason before it answers, where it can (default: only Thinking variants)",
    )


def sampling_of(arguments: argparse.Namespace) -> SamplingParams:
    """What the options of :func:`add_writing_options` ask for."""
    temperature = arguments.temperature
    if temperature is None:
        temperature = 0.0 if arguments.model is None else 0.7
    return SamplingParams(
        temperature=temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        min_p=arguments.min_p,
        repetition_penalty=arguments.repetition_penalty,
        presence_penalty=arguments.presence_penalty if temperature else 0,
        seed=arguments.seed,
    )


def load_model(arguments: argparse.Namespace, sees: bool = True, device: str | None = None) -> Qwen3VL:
    """The model that the options of :func:`add_model_options` name, on ``device`` or where this machine runs it best.

    Without ``sees`` its vision tower is left out.
    """
    path, tower = files_of(arguments)
    return load_placed(path, tower if sees else None, device)


def files_of(arguments: argparse.Namespace) -> tuple[str | Path, str | Path]:
    """The language model's file and its tower's ("auto": to be found beside it); which ones by default is said."""
    if arguments.model is not None:
        return arguments.model, arguments.mmproj
    if arguments.mmproj != "auto":
        raise InputError(
            f"--mmproj is {arguments.mmproj}, without the model that it belongs to; give its --model as well"
        )
    print(f"codeclens: no --model is given; this is {EMBEDDED}", file=sys.stderr)
    return embedded_pair()


def side_of(arguments: argparse.Namespace) -> int:
    """``--side``, or where it is not given what suits the model."""
    if arguments.side is not None:
        return arguments.side
    return SIDE if arguments.model is None else 512


def sampling_of_clips(arguments: argparse.Namespace) -> FrameSampling:
    """Which frames of a clip the options of :func:`add_looking_options` ask for."""
    fps = fps_of(arguments)
    return FrameSampling.by_fps(fps) if fps else FrameSampling.all()


def fps_of(arguments: argparse.Namespace) -> float:
    """``--fps``, or where it is not given what suits the model."""
    if arguments.fps is not None:
        return arguments.fps
    return FPS if arguments.model is None else 2.0
