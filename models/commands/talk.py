"""Commands that talk about videos: caption, ask."""

import argparse
from dataclasses import replace
from pathlib import Path

from ..code.captions import Writing, caption
from ..code.conversation import answer_tokens, converse
from ..code.layout import question_tokens
from ..code.learned.learned_code import read_code
from ..code.modes import ENCODERS, STAMPS
from ..code.pipeline import CodeConfig, watch
from ..code.presets import Preset, list_presets, read_preset
from ..dataset.captioning import Captioning, caption_work, text_sidecars
from ..dataset.job import Work
from ..errors import InputError
from ..progress import TerminalProgress
from ..source.reading import VideoSource
from ..video.planning import CAP
from ..video.tokens import DEFAULT_MODE, MODES
from ..weights import MODE, embedded_code
from .arguments import number, whole
from .costs import pricing
from .folders import (
    add_folder_options,
    device_of_work,
    dry_run,
    is_folder,
    items_of,
    run_folder,
    warn_for_trainer,
    wording_of,
    write_captions,
)
from .model import (
    add_model_options,
    add_sampling_options,
    add_writing_options,
    files_of,
    load_model,
    mode_of,
    model_name,
    print_answer,
    sampling_of,
    sampling_of_clips,
    side_of,
    warn_of_truncation,
)
from .video import failed, going_on, number_or_word, warn, write_json

DRY_ANSWER = 64
"""Tokens of a caption that a dry run assumes."""


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    caption = commands.add_parser("caption", help="describe videos with Qwen3-VL")
    caption.add_argument("clips", nargs="+", metavar="CLIP", help="video files, or one folder of clips and images")
    caption.add_argument(
        "--preset",
        default="plain",
        metavar="NAME",
        help=f"what to write: {', '.join(list_presets())}; or a preset's .json file (default plain)",
    )
    add_code_options(caption)
    add_folder_options(caption, captions=True)
    caption.set_defaults(run=run_caption)
    ask = commands.add_parser("ask", help="ask Qwen3-VL questions about a video, which is read once for all of them")
    ask.add_argument("clip", metavar="CLIP", help="a video file")
    ask.add_argument("questions", nargs="+", metavar="QUESTION", help="each is answered on its own")
    add_code_options(ask)
    ask.set_defaults(run=run_ask)


def add_code_options(parser: argparse.ArgumentParser) -> None:
    """Add what decides how clips are shown to which model, and how it writes."""
    add_model_options(parser)
    parser.add_argument(
        "--mode",
        choices=tuple(ENCODERS),
        help=f"what a frame becomes (default {MODE} for the embedded model, else {DEFAULT_MODE})",
    )
    add_sampling_options(parser)
    parser.add_argument(
        "--budget",
        type=whole(1),
        metavar="TOKENS",
        help="stay within so many prompt tokens",
    )
    parser.add_argument("--gamma", default="auto", help="cost above which a frame is I: a number, auto or scaled")
    parser.add_argument("--cap", type=whole(0), default=CAP, help=f"most P frames in a row (default {CAP})")
    parser.add_argument("--every-frame", action="store_true", help="show every frame whole: no plan, many tokens")
    parser.add_argument(
        "--stamps", choices=("auto", *STAMPS), default="auto", help="where times are written (auto: as suits the mode)"
    )
    parser.add_argument("--pair-thumbnails", action="store_true", help="show P frames as small native pairs")
    parser.add_argument(
        "--drop", type=number(0, 0.99), default=0.0, help="fraction of tokens to prune in whole pictures (EVS)"
    )
    add_learned_options(parser)
    add_writing_options(parser)
    parser.add_argument("--json", metavar="F", help="write text and report as JSON; - for standard output")


def add_learned_options(parser: argparse.ArgumentParser) -> None:
    """Add what the modes with trained weights take."""
    parser.add_argument("--code", metavar="F", help="learned code of the mode ptoken or delta (see train-code)")
    parser.add_argument(
        "--window", type=whole(1, 64), default=1, metavar="N", help="P frames that ptoken and delta fuse (default 1)"
    )
    parser.add_argument(
        "--adaptive-window", action="store_true", help="fuse more of them where little changes, fewer where much does"
    )


def with_learned(config: CodeConfig, arguments: argparse.Namespace, model) -> CodeConfig:
    """``config`` with the learned code that ``--code`` names, for the modes that need one."""
    if not MODES[config.mode].trained:
        if arguments.code:
            raise InputError(f"--code is {arguments.code}, and the mode {config.mode} needs none; give --mode as well")
        return config
    path = arguments.code or (embedded_code(config.mode) if arguments.model is None else None)
    if path is None:
        raise InputError(f"--mode is {config.mode}, which needs trained weights; give their file as --code")
    return replace(config, learned=read_code(path, model))


def run_caption(arguments: argparse.Namespace) -> int:
    """Caption each clip. Captions are printed as they come, so an error later on does not lose those before."""
    preset = _preset(arguments.preset)
    if is_folder(arguments):
        return caption_folder(arguments)
    config, rows, sources = config_of(arguments), [], []
    for clip in arguments.clips:
        with going_on(clip, rows):
            sources.append((clip, VideoSource.open(clip)))
    if not sources:
        return failed(rows)
    model = load_model(arguments)
    config = with_learned(config, arguments, model)
    writing = Writing(sampling_of(arguments, model), arguments.max_tokens, arguments.thinking)
    for clip, source in sources:
        with going_on(clip, rows):
            found = caption(source, model, config, preset, writing, progress=TerminalProgress(source.info.name))
            warn(found.code.warnings)
            rows.append({"file": clip, **found.to_json()})
            if arguments.json != "-":
                heading = f"{clip}\n" if len(arguments.clips) > 1 else ""
                print_answer(found.answer, arguments, heading)
            warn_of_truncation(found.answer)
    rows.sort(key=lambda row: arguments.clips.index(row["file"]))
    if arguments.json:
        write_json(rows[0] if len(rows) == 1 else {"clips": rows}, arguments.json)
    return failed(rows)


def caption_folder(arguments: argparse.Namespace) -> int:
    """Caption every clip and image of a folder, resumably."""
    folder, items = items_of(arguments, images=True)
    if arguments.trainer:
        warn_for_trainer(items, arguments.trainer)
    if arguments.dry_run:
        question = _preset(arguments.preset).question()
        model, price = pricing(files_of(arguments), config_of(arguments), question, DRY_ANSWER)
        return dry_run(folder, items, folder_work(arguments, model=model), price)
    work = folder_work(arguments, device_of_work(arguments))
    summary, code = run_folder(arguments, folder, items, work, folder_work)
    write_captions(arguments, folder, items, summary)
    return code


def folder_work(arguments: argparse.Namespace, device: str | None = None, model=None) -> Work:
    """The work of captioning a folder, with ``model``, or the one that the arguments name on ``device``."""
    model = model or load_model(arguments, device=device)
    captioning = Captioning(
        with_learned(config_of(arguments), arguments, model),
        _preset(arguments.preset),
        Writing(sampling_of(arguments, model), arguments.max_tokens, arguments.thinking),
        wording_of(arguments, model.tokenizer),
        arguments.captions,
        model_name(arguments),
    )
    beside = text_sidecars(arguments.several) if arguments.format == "txt" else None
    return caption_work(model, captioning, beside)


def run_ask(arguments: argparse.Namespace) -> int:
    """Answer every question from one reading of the clip."""
    config, source = config_of(arguments), VideoSource.open(arguments.clip)
    model = load_model(arguments)
    config = with_learned(config, arguments, model)
    max_tokens = arguments.max_tokens or answer_tokens(model.tokenizer, arguments.thinking)
    longest = max(question_tokens(model.tokenizer, question) for question in arguments.questions)
    code = watch(source, model, config, reserve=max_tokens + longest, progress=TerminalProgress(source.info.name))
    warn(code.warnings)
    reading = converse(model, code)
    seconds = reading.read(TerminalProgress("reading"))
    answers = []
    for question in arguments.questions:
        answer = reading.fork().ask(
            question,
            sampling=sampling_of(arguments, model),
            max_tokens=max_tokens,
            thinking=arguments.thinking,
            progress=TerminalProgress("reading and writing"),
        )
        answers.append({"question": question, **answer.to_json(code)})
        if arguments.json != "-":
            heading = f"{question}\n" if len(arguments.questions) > 1 else ""
            print_answer(answer, arguments, heading)
        warn_of_truncation(answer)
    if arguments.json:
        write_json({"file": arguments.clip, "read_seconds": round(seconds, 3), "answers": answers}, arguments.json)
    return 0


def _preset(name: str) -> Preset:
    presets = list_presets()
    if name not in presets and not Path(name).is_file():
        raise InputError(f"preset '{name}' is neither a file nor one of {', '.join(presets)}")
    return read_preset(presets.get(name) or Path(name))


def config_of(arguments: argparse.Namespace) -> CodeConfig:
    """The settings of the way from clip to code, as the options ask."""
    rule = {"gamma": number_or_word(arguments.gamma), "cap": arguments.cap}
    every = arguments.every_frame
    config = CodeConfig(
        mode="keyframes" if every else mode_of(arguments),
        sampling=sampling_of_clips(arguments),
        area=side_of(arguments) ** 2,
        policy="fixed" if every else "adaptive",
        rule={"cap": 0} if every else rule,
        stamps=arguments.stamps,
        pair_thumbnails=arguments.pair_thumbnails,
        drop=arguments.drop,
        window=arguments.window,
        adaptive=arguments.adaptive_window,
    )
    return config if every or arguments.budget is None else config.within(arguments.budget)
