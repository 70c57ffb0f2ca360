"""What every command that runs Qwen3-VL takes: the files, the sampling, the limits."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ..code.conversation import REASONING_TOKENS, Answer, default_sampling, will_reason
from ..errors import InputError
from ..qwen import Qwen3VL
from ..qwen.generate import SamplingParams
from ..qwen.placement import load_placed
from ..source.reading import FrameSampling
from ..video.tokens import DEFAULT_MODE
from ..weights import FPS, MODE, NAME, SIDE, embedded_pair
from .arguments import SIDES, number, seed, whole

EMBEDDED = f"{NAME}, which comes with CodecLens and knows only clips like those of `codeclens synth`"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--model`` and ``--mmproj``."""
    parser.add_argument("--model", metavar="F", help=f"the language model's .gguf file; default: {EMBEDDED}")
    parser.add_argument("--mmproj", default="auto", metavar="F", help="its vision tower; default: found beside it")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--fps`` and ``--side``, by default what suits the model."""
    parser.add_argument(
        "--fps",
        type=number(0, 1000),
        help=f"frames sampled each second (default 2, embedded model {FPS:g}); 0 for all",
    )
    parser.add_argument(
        "--side",
        type=whole(*SIDES),
        help=f"whole pictures have about SIDE x SIDE pixels (default 512, embedded model {SIDE})",
    )


def add_writing_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how an answer is written. Where nothing is given, the kind of model decides."""
    add_answer_options(parser)
    parser.add_argument(
        "--temperature", type=number(0, 100), help="0 takes the likeliest (default 0.7, reasoning 1, embedded model 0)"
    )
    parser.add_argument("--top-k", type=whole(0), help="choose among so many likeliest (default 20, 0 all)")
    parser.add_argument("--top-p", type=number(0, 1), help="choose among this mass (default 0.8, reasoning 0.95)")
    parser.add_argument("--min-p", type=number(0, 1), help="drop below this fraction of the likeliest (default 0)")
    parser.add_argument(
        "--repetition-penalty", type=number(0, 100, above=True), help="above 1: repeat less (default 1)"
    )
    parser.add_argument(
        "--presence-penalty", type=number(-100, 100), help="off tokens written (default 1.5, Qwen3-VL Thinking 0)"
    )


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command that writes an answer asks for: its length, the seed, reasoning."""
    parser.add_argument(
        "--max-tokens",
        type=whole(1, 1 << 20),
        metavar="N",
        help=f"length of the answer at most (default 512 or the preset's own; with reasoning {REASONING_TOKENS})",
    )
    parser.add_argument("--seed", type=seed, default=0, help="same seed, same text (default 0); -1 draws one")
    parser.add_argument("--show-reasoning", action="store_true", help="print what the model reasons, before its answer")
    add_thinking_option(parser)


def add_thinking_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--thinking`` and ``--no-thinking``; None where neither is given."""
    parser.add_argument(
        "--thinking",
        action=argparse.BooleanOptionalAction,
        help="let the model reason before it answers, where it can (default: only Thinking variants)",
    )


def sampling_of(arguments: argparse.Namespace, model: Qwen3VL) -> SamplingParams:
    """What the options of :func:`add_writing_options` ask for; where they are silent, what suits the model."""
    reasons = will_reason(model.tokenizer, arguments.thinking)
    base = default_sampling(model, reasons)
    names = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "seed")
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    if given.get("temperature") == 0:
        given.setdefault("presence_penalty", 0.0)
    return replace(base, **given)


def print_answer(answer: Answer, arguments: argparse.Namespace, heading: str = "") -> None:
    """Print an answer, and before it its reasoning where that is asked for."""
    reasoning = f"{answer.reasoning}\n\n" if arguments.show_reasoning and answer.reasoning else ""
    print(heading + reasoning + answer.text, flush=True)


def warn_of_truncation(answer: Answer) -> None:
    """Say on standard error that ``answer`` was cut off, and what helps."""
    if not answer.truncated:
        return
    reasoning = answer.reasoning and not answer.text
    where, help_ = (", while still reasoning", " or give --no-thinking") if reasoning else ("", "")
    length = len(answer.generation.ids)
    print(f"codeclens: cut off at {length} tokens{where}; raise --max-tokens{help_}", file=sys.stderr)


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


def model_name(arguments: argparse.Namespace) -> str:
    """The file name of the language model."""
    return Path(embedded_pair()[0] if arguments.model is None else arguments.model).name


def side_of(arguments: argparse.Namespace) -> int:
    """``--side``, or where it is not given what suits the model."""
    if arguments.side is not None:
        return arguments.side
    return SIDE if arguments.model is None else 512


def sampling_of_clips(arguments: argparse.Namespace) -> FrameSampling:
    """Which frames of a clip the options of :func:`add_sampling_options` ask for."""
    fps = fps_of(arguments)
    return FrameSampling.by_fps(fps) if fps else FrameSampling.all()


def mode_of(arguments: argparse.Namespace) -> str:
    """``--mode``, or where it is not given what suits the model."""
    if arguments.mode is not None:
        return arguments.mode
    return MODE if arguments.model is None else DEFAULT_MODE


def fps_of(arguments: argparse.Namespace) -> float:
    """``--fps``, or where it is not given what suits the model."""
    if arguments.fps is not None:
        return arguments.fps
    return FPS if arguments.model is None else 2.0
