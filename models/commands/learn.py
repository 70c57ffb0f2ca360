"""Commands that learn from synthetic clips: synth."""

import argparse

from ..errors import InputError
from ..learn.scenes import CONTENTS, FAULTS, SPLITS
from ..learn.synthetic import seeds_of, write_clips
from ..progress import TerminalProgress


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    synth = commands.add_parser("synth", help="render clips of moving figures with captions, questions and answers")
    synth.add_argument("folder", metavar="DIR", help="where the clips and clips.jsonl go")
    synth.add_argument("--n", type=int, default=10, metavar="N", help="how many clips (default 10)")
    synth.add_argument("--seed", type=int, default=0, metavar="S", help="number of the first one in its split")
    synth.add_argument(
        "--split", choices=SPLITS, default="train", help="test shows what train does not"
    )
    synth.add_argument("--size", default="128x128", metavar="WxH", help="pixels (default 128x128)")
    synth.add_argument("--seconds", type=float, help="length; default: drawn from 2 to 6")
    synth.add_argument("--fps", type=float, help="frames a second; default: drawn from 8, 12 and 24")
    synth.add_argument("--content", choices=CONTENTS, help="what happens; default: drawn")
    synth.add_argument("--fault", choices=FAULTS, help="make every clip a faulty one of this kind")
    synth.add_argument(
        "--look-fps",
        type=float,
        default=4.0,
        metavar="F",
        help="ask what so many frames a second show (default 4); 0 for all frames",
    )
    synth.set_defaults(run=run_synth)


def run_synth(arguments: argparse.Namespace) -> int:
    """Render the clips and say where their index is."""
    if arguments.fault and arguments.content not in (None, "fault"):
        raise InputError(f"--fault {arguments.fault} goes with --content fault, not with {arguments.content}")
    for name in ("seconds", "fps"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= 3600:
            raise InputError(f"--{name} is {value:g}; give a number above 0, and 3600 at most")
    index = write_clips(
        arguments.folder,
        seeds_of(arguments.split, arguments.seed, arguments.n),
        _size(arguments.size),
        look_fps=arguments.look_fps,
        content="fault" if arguments.fault else arguments.content,
        fault=arguments.fault,
        seconds=arguments.seconds,
        fps=arguments.fps,
        progress=TerminalProgress(f"rendering {arguments.n} clips"),
    )
    print(index)
    return 0


def _size(words: str) -> tuple[int, int]:
    """'640x384' to (H, W)."""
    width, _, height = words.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise InputError(f"--size is {words!r}; give WIDTHxHEIGHT in pixels, for example 128x128")
    return int(height), int(width)
