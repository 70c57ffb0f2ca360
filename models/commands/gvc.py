"""Commands of the generative codec: gvc-info, gvc-compare."""

import json
import sys
from pathlib import Path

from ..errors import InputError
from ..gvc.stream import describe, read_stream
from ..progress import TerminalProgress
from ..source.reading import FrameSampling, VideoSource
from ..video.quality import compare


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    info = commands.add_parser("gvc-info", help="what a GVCB stream says about itself, as JSON")
    info.add_argument("file", help="a .gvcb file")
    info.add_argument("--partial", action="store_true", help="accept a file that was cut and show its whole GOPs")
    info.set_defaults(run=show_info)
    quality = commands.add_parser("gvc-compare", help="PSNR and SSIM of a video against a reference, as JSON")
    quality.add_argument("reference", help="the original video")
    quality.add_argument("video", help="what is compared with it; of as many frames")
    quality.set_defaults(run=show_comparison)


def show_info(arguments) -> int:
    """Check every byte of a stream and print its description."""
    path = Path(arguments.file)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{arguments.file}: cannot be read ({error.strerror})") from None
    stream = read_stream(data, path.name, arguments.partial)
    print(json.dumps(describe(stream, len(data)), indent=1))
    if not stream.whole:
        print(f"codeclens: {path.name} is not whole", file=sys.stderr)
    return 0


def show_comparison(arguments) -> int:
    """Print the distance of a video from its reference, at the video's size."""
    reference, video = VideoSource.open(arguments.reference), VideoSource.open(arguments.video)
    size = (video.info.height, video.info.width)
    first, last = video.window()
    found = compare(
        (picture for part in reference.frames(FrameSampling.all(), size) for picture in part.rgb),
        (picture for part in video.frames(FrameSampling.all(), size) for picture in part.rgb),
        TerminalProgress("compare"),
        last - first + 1,
    )
    print(json.dumps(found.to_json()))
    return 0
