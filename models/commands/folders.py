"""What caption, judge and measure do with a folder, and the command that writes edited captions back."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from ..code.cost import Cost
from ..code.pipeline import Planned
from ..dataset.items import Item, find_items
from ..dataset.job import Summary, Work, run
from ..dataset.journal import NAME, content_hash, fingerprint, journal_keys, open_journal
from ..dataset.on_ray import Pool, on_ray
from ..dataset.review import apply_edits, read_edits, review_page
from ..dataset.sidecars import EXISTING
from ..dataset.splitting import split_folder
from ..dataset.tables import EXTENSIONS, FORMATS, Captioned, write_table
from ..dataset.text_encoders import named_tokenizer, shipped_tokenizers, token_counter
from ..dataset.trainers import TRAINERS, odd_shapes, trainer_named, trips
from ..dataset.wording import Wording, parse_replacements
from ..drawing.canvas import clock_text, grouped
from ..errors import InputError
from ..files import write_text
from ..judge.page import thumbnail_base64
from ..progress import TerminalProgress
from ..source.pictures import read_picture
from ..source.reading import FrameSampling, VideoSource
from ..video.cuts import find_cuts
from .arguments import whole
from .video import warn

COMFY = Path(__file__).absolute().parents[4] / "comfy"
"""The package of the ComfyUI that holds this pack in its custom_nodes."""


def add_commands(commands) -> None:
    """Add the family's parser to ``commands``."""
    apply = commands.add_parser("apply", help="write captions that were edited on the review page")
    apply.add_argument("edits", metavar="EDITS.json", help="what the page saved")
    apply.add_argument("folder", metavar="DIR", nargs="?", default=".", help="the folder of the clips (default: here)")
    apply.set_defaults(run=run_apply)


def add_folder_options(parser: argparse.ArgumentParser, captions: bool = False) -> None:
    """Add what holds where a folder is given instead of clips."""
    group = parser.add_argument_group("with a folder")
    group.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="leave out, such as 'old/*'")
    group.add_argument("--flat", action="store_true", help="leave out folders in the folder")
    group.add_argument("--split", metavar="OUT", help="first write each shot as a file into folder OUT, and take those")
    group.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    group.add_argument("--review", metavar="F.html", help="write a page with all clips and results")
    group.add_argument(
        "--ray", nargs="?", const="", metavar="ADDRESS",
        help="run on Ray, at this address or started here; the clips must lie under the same path on all machines",
    )  # fmt: skip
    group.add_argument(
        "--actors", type=whole(0, 10_000), default=0, metavar="N", help="with --ray (default: one on each GPU, or one)"
    )
    if not captions:
        return
    group.add_argument(
        "--existing", choices=EXISTING, default="skip", help="caption files of others: skip (default) or what to do"
    )
    group.add_argument("--format", choices=FORMATS, default="txt", help="a .txt beside each clip (default) or one file")
    group.add_argument("--out", metavar="F", help="the one file (default: captions.EXT in the folder)")
    group.add_argument(
        "--captions", type=whole(1, 100), default=1, metavar="N", help="captions of each clip (default 1)"
    )
    group.add_argument(
        "--several", choices=("numbered", "lines", "json"), default="numbered", help="where several captions go"
    )
    group.add_argument("--trigger", default="", metavar="WORD", help="stands first in each caption")
    group.add_argument("--prefix", default="", help="put before each caption")
    group.add_argument("--suffix", default="", help="put after each caption")
    group.add_argument("--replace", action="append", default=[], metavar="A=B", help="whole words, in any case")
    group.add_argument("--leave-out", action="append", default=[], metavar="WORD", help="must not be mentioned")
    group.add_argument("--longest", type=whole(0), default=0, metavar="N", help="tokens of a caption at most")
    group.add_argument(
        "--tokenizer", metavar="F|NAME",
        help="whose tokens --longest counts: a text encoder's tokenizer.json, spiece.model or umt5 .safetensors file, "
        "or the name of a tokenizer of the ComfyUI that holds this pack, such as t5 (default: the model's own)",
    )  # fmt: skip
    group.add_argument("--keep-newlines", action="store_true", help="else a caption is one line")
    group.add_argument("--trainer", choices=tuple(TRAINERS), help="warn about clips that it will trip over")


def is_folder(arguments: argparse.Namespace) -> bool:
    """Whether the clips are one folder. Raises InputError where a folder stands among others."""
    folders = [clip for clip in arguments.clips if Path(clip).is_dir()]
    if folders and len(arguments.clips) > 1:
        raise InputError(f"{folders[0]} is a folder among {len(arguments.clips)} arguments; give one folder, or clips")
    return bool(folders)


def items_of(arguments: argparse.Namespace, images: bool) -> tuple[Path, list[Item]]:
    """The folder that is worked on and what is in it; with ``--split`` that of the shots, which are written first."""
    folder = Path(arguments.clips[0])
    items = find_items(folder, not arguments.flat, arguments.exclude, images)
    if arguments.split is None or arguments.dry_run:
        return folder, items
    shots = Path(arguments.split)
    if shots.resolve() == folder.resolve() or folder.resolve() in shots.resolve().parents:
        raise InputError(f"--split {shots} lies in the folder of the clips; give one outside of it")
    warn([sentence for _, sentence in split_folder(items, shots, TerminalProgress("splitting"))])
    return shots, find_items(shots, not arguments.flat, (), images)


def wording_of(arguments: argparse.Namespace, tokenizer=None) -> Wording:
    """The rules for the text that the options ask for; lengths are counted by ``--tokenizer``, or by ``tokenizer``."""
    options = {} if tokenizer is None else {"count_tokens": lambda text: len(tokenizer.encode(text))}
    if arguments.tokenizer:
        path = named_tokenizer(arguments.tokenizer, shipped_tokenizers(COMFY))
        options = {"count_tokens": token_counter(path), "counted_by": f"{path.parent.name}/{path.name}"}
    return Wording(
        trigger=arguments.trigger,
        prefix=arguments.prefix,
        suffix=arguments.suffix,
        replace=parse_replacements(arguments.replace),
        leave_out=tuple(arguments.leave_out),
        one_line=not arguments.keep_newlines,
        longest=arguments.longest,
        **options,
    )


def device_of_work(arguments: argparse.Namespace) -> str | None:
    """Where this process has its model: on Ray only the actors run theirs, so nothing is taken from them here."""
    return None if arguments.ray is None else "cpu"


def run_folder(
    arguments: argparse.Namespace, folder: Path, items: Sequence[Item], work: Work, remake: Callable[..., Work]
) -> tuple[Summary, int]:
    """Run a folder job, say how it goes, write the page; return the summary and the exit code.

    ``remake`` makes the same work of the arguments in another process.
    """
    results = None
    if arguments.ray is not None:
        results = on_ray(partial(remake, portable(arguments)), Pool(arguments.ray, arguments.actors))
    began, existing = time.monotonic(), getattr(arguments, "existing", "skip")

    def say(item: Item, row: dict) -> None:
        number = say.count = say.count + 1
        spent = time.monotonic() - began
        left = spent / number * (len(items) - number)
        outcome = row["error"] if row.get("error") else "done"
        print(f"[{number}/{len(items)}, {clock_text(left)} left] {item.name}: {outcome}", file=sys.stderr, flush=True)

    say.count = 0
    with open_journal(folder / NAME) as journal:
        summary = run(items, work, journal, existing, on_row=say, results=results)
    for path in summary.left_alone:
        warn([f"{path} was written by somebody else and left alone; see --existing"])
    if arguments.review:
        pictures = {item.name: picture for item in items if (picture := picture_of(item))}
        write_text(arguments.review, review_page(summary.rows, pictures, f"{folder.resolve().name}: {work.kind}"))
    print(f"{folder}: {summary.in_words()}", file=sys.stderr)
    return summary, 2 if summary.failed else 0


def portable(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with absolute paths, for a process that runs in another folder."""
    named = ("model", "mmproj", "rubric", "preset", "tokenizer")
    given = {name: getattr(arguments, name, None) for name in named}
    paths = {name: str(Path(value).resolve()) for name, value in given.items() if value and Path(value).is_file()}
    return argparse.Namespace(**{**vars(arguments), **paths})


def dry_run(folder: Path, items: Sequence[Item], work: Work, price: Callable[[Planned], Cost] | None = None) -> int:
    """Say what would be done and what it would take, and write nothing; returns the exit code.

    ``price`` predicts what a planned clip takes; without it, and for images, only names are said.
    """
    known, seconds, tokens, counts = (
        journal_keys(folder / NAME),
        0.0,
        0,
        {"to do": 0, "done before": 0, "would fail": 0},
    )
    settings = fingerprint(work.settings | {"kind": work.kind})
    for item in items:
        state, detail = "to do", ""
        try:
            if (content_hash(item.path), settings) in known:
                state = "done before"
            else:
                prepared = work.prepare(item)
                if price and isinstance(prepared, Planned):
                    cost = price(prepared)
                    seconds, tokens = seconds + cost.total, tokens + cost.prompt_tokens
                    detail = f", {grouped(cost.prompt_tokens)} tokens, {cost.total:.1f} s"
        except InputError as error:
            state, detail = "would fail", f": {error}"
        counts[state] += 1
        repeats = f", {item.repeats} times an epoch" if item.repeats > 1 else ""
        print(f"{item.name} ({item.kind}{repeats}): {state}{detail}", flush=True)
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    price_words = f"; {grouped(tokens)} prompt tokens, about {clock_text(seconds)}" if price and counts["to do"] else ""
    print(f"{folder}: {words}{price_words}", file=sys.stderr)
    return 0


def warn_for_trainer(items: Sequence[Item], name: str) -> None:
    """One warning for each clip that a trainer will trip over; clips that cannot be read are left to the job."""
    trainer, sizes = trainer_named(name), []
    for item in items:
        if item.kind != "video":
            continue
        try:
            source = VideoSource.open(item.path)
            phrases = trips(source, trainer, find_cuts(source))
        except InputError:
            continue
        sizes.append((item.name, source.info.width, source.info.height))
        if phrases:
            warn([f"{item.name}, for {name}: {'; '.join(phrases)}"])
    for odd in odd_shapes(sizes):
        warn([f"{odd} lies the other way round than most of the folder"])


def write_captions(arguments: argparse.Namespace, folder: Path, items: Sequence[Item], summary: Summary) -> None:
    """Write the one file that ``--format`` asks for, of all clips that have captions."""
    if arguments.format == "txt":
        return
    path = Path(arguments.out or folder / f"captions.{EXTENSIONS[arguments.format]}")
    results = {row["name"]: row["result"]["captions"] for row in summary.rows if row.get("result")}
    rows = [Captioned(item.path, item.kind, tuple(results[item.name])) for item in items if item.name in results]
    write_table(path, rows, arguments.format)
    print(f"captions: {path}", file=sys.stderr)


def picture_of(item: Item) -> str | None:
    """A base64 JPEG of an image, or of a clip's first frame; None where it cannot be read."""
    try:
        if item.kind == "image":
            rgb = read_picture(item.path)
        else:
            rgb = VideoSource.open(item.path).read(FrameSampling.by_count(1)).rgb[0]
        return thumbnail_base64(rgb)
    except InputError:
        return None


def run_apply(arguments: argparse.Namespace) -> int:
    """Write edited captions beside their clips."""
    folder, edits = Path(arguments.folder), read_edits(Path(arguments.edits))
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder of the clips")
    # Held, so that no job writes the same files meanwhile.
    with open_journal(folder / NAME):
        paths = apply_edits(folder, edits)
    for path in paths:
        print(path)
    return 0
