"""The command that measures clips without any model."""

import argparse
from pathlib import Path

from ..dataset.job import Work
from ..dataset.scoring import measure_work
from ..drawing.views import metrics_view
from ..errors import InputError
from ..files import make_folder, write_text
from ..progress import TerminalProgress
from ..source.reading import FrameSampling, VideoSource
from ..video.measurement import Measurement, measure, measurement_in_words, measurements_csv, values_csv
from .arguments import number
from .folders import add_folder_options, dry_run, is_folder, items_of, run_folder
from .video import check_folders, save_picture, warn, write_json


def add_commands(commands) -> None:
    """Add the family's parser to ``commands``."""
    parser = commands.add_parser("measure", help="motion, cuts, flicker, freezes and other metrics, without a model")
    parser.add_argument("clips", nargs="+", metavar="CLIP", help="video files, or one folder of clips")
    parser.add_argument(
        "--fps", type=number(0, 1000), default=0.0, help="frames measured each second (default 0: all of them)"
    )
    parser.add_argument("--json", metavar="F", help="write all values, of every frame too; - for standard output")
    parser.add_argument("--csv", metavar="F", help="write one line for each clip")
    parser.add_argument("--png", metavar="F", help="draw all metrics over time; a folder where several clips are given")
    add_folder_options(parser)
    parser.set_defaults(run=run_measure)


def run_measure(arguments: argparse.Namespace) -> int:
    """Measure each clip; one that cannot be read is one line on standard error and exit code 2 at the end."""
    check_folders(arguments.json, arguments.csv, arguments.png)
    sampling = sampling_of(arguments)
    if is_folder(arguments):
        return measure_folder(arguments)
    measured, failed = [], 0
    for clip in arguments.clips:
        try:
            measured.append(measure_clip(clip, sampling, arguments, len(arguments.clips)))
        except InputError as error:
            warn([str(error)])
            failed += 1
    if arguments.json:
        values = [one.to_json() for one in measured]
        write_json(values[0] if len(arguments.clips) == 1 and values else {"clips": values}, arguments.json)
    if arguments.csv:
        write_text(arguments.csv, measurements_csv(measured))
    return 2 if failed else 0


def sampling_of(arguments: argparse.Namespace) -> FrameSampling:
    """The frames that are measured."""
    return FrameSampling.by_fps(arguments.fps) if arguments.fps else FrameSampling.all()


def folder_work(arguments: argparse.Namespace) -> Work:
    """The work of measuring a folder."""
    return measure_work(sampling_of(arguments))


def measure_folder(arguments: argparse.Namespace) -> int:
    """Measure every clip of a folder, resumably."""
    if arguments.png:
        raise InputError("--png draws single clips; give clips, or --review for a page of the folder")
    folder, items = items_of(arguments, images=False)
    if arguments.dry_run:
        return dry_run(folder, items, folder_work(arguments))
    summary, code = run_folder(arguments, folder, items, folder_work(arguments), folder_work)
    rows = [row["result"] for row in summary.rows if row.get("result")]
    if arguments.json:
        write_json({"clips": rows}, arguments.json)
    if arguments.csv:
        write_text(arguments.csv, values_csv([(row["clip"], row["values"]) for row in rows]))
    return code


def measure_clip(clip: str, sampling: FrameSampling, arguments, clips: int) -> Measurement:
    source = VideoSource.open(clip)
    measurement = measure(source, sampling, TerminalProgress(source.info.name))
    warn(source.warnings)
    if arguments.png:
        path = Path(arguments.png)
        if clips > 1:
            make_folder(path)
            path = path / f"{Path(clip).stem}.png"
        save_picture(metrics_view(measurement, source), path)
    if arguments.json != "-":
        print(measurement_in_words(measurement))
    return measurement
