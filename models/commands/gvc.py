"""Commands of the generative codec: gvc-info, gvc-plan, gvc-compare."""

import json
import sys
from pathlib import Path

from ..errors import InputError
from ..gvc.budget import TARGETS, Target
from ..gvc.estimate import GEOMETRIES, estimate
from ..gvc.planning import plan_encoding
from ..gvc.records import VARIANTS
from ..gvc.stream import describe, read_stream
from ..gvc.video import Settings
from ..progress import TerminalProgress
from ..source.reading import FrameSampling, VideoSource
from ..video.cuts import find_cuts
from ..video.quality import compare


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    info = commands.add_parser("gvc-info", help="what a GVCB stream says about itself, as JSON")
    info.add_argument("file", help="a .gvcb file")
    info.add_argument("--partial", action="store_true", help="accept a file that was cut and show its whole GOPs")
    info.set_defaults(run=show_info)
    plan = commands.add_parser(
        "gvc-plan", help="what encoding a video would take: bytes, model calls, time and memory, as JSON"
    )
    plan.add_argument("video", help="the video to encode")
    plan.add_argument(
        "--model", choices=sorted(GEOMETRIES), default="wan2.2-14b", help="whose geometry is computed with"
    )
    plan.add_argument("--variant", choices=VARIANTS, default="T2V")
    plan.add_argument("--target", choices=TARGETS, default="quality", help="what --value is")
    plan.add_argument("--value", type=float, default=50.0, help="quality 1 to 100, or the size of the whole file")
    plan.add_argument("--still-fraction", type=float, default=0.5, help="of the bytes, for stills")
    plan.add_argument("--still-every", type=int, default=4, help="GOPs after which an I2V chain starts afresh")
    plan.add_argument("--steps", type=int, default=20)
    plan.add_argument("--gop-frames", type=int, default=33)
    plan.add_argument("--size", help="WIDTHxHEIGHT to encode at; the video's if not given")
    plan.add_argument("--cuts", action="store_true", help="find the cuts, which start GOPs; reads the whole video")
    plan.add_argument("--teraflops", type=float, default=30.0, help="10^12 operations a second that the GPU sustains")
    plan.add_argument("--weight-bytes", type=float, default=1.0, help="bytes a weight: 2 bf16, 1 fp8, 0.6 Q4")
    plan.set_defaults(run=show_plan)
    quality = commands.add_parser("gvc-compare", help="PSNR and SSIM of a video against a reference, as JSON")
    quality.add_argument("reference", help="the original video")
    quality.add_argument("video", help="what is compared with it; of as many frames")
    quality.add_argument("--flip", action="store_true", help="add FLIP, a perceptual measure; needs flip-evaluator")
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


def show_plan(arguments) -> int:
    """Print what encoding a video would take, computed and not measured."""
    model = GEOMETRIES[arguments.model]
    if arguments.variant not in model.variants:
        raise InputError(f"{model.name} has no {arguments.variant} here; it has {' and '.join(model.variants)}")
    for name in ("teraflops", "weight_bytes", "still_fraction"):
        value = getattr(arguments, name)
        if not 0 < value < (1 if name == "still_fraction" else float("inf")):
            raise InputError(
                f"--{name.replace('_', '-')} is {value:g}; it must be above 0 and finite, a fraction below 1"
            )
    source = VideoSource.open(arguments.video)
    planned = plan_encoding(
        model, source, Target(arguments.target, arguments.value, arguments.still_fraction),
        Settings(arguments.variant, steps=arguments.steps, image_codec="auto"), gop_frames=arguments.gop_frames,
        size=size_of(arguments.size), still_every=arguments.still_every,
        cuts=find_cuts(source, TerminalProgress("cuts")).cuts if arguments.cuts else (),
    )  # fmt: skip
    found = estimate(
        model, planned.spans, planned.size, planned.header.step_count,
        teraflops=arguments.teraflops, weight_bytes=arguments.weight_bytes,
    )  # fmt: skip
    budget = planned.budget
    facts = {
        "model": model.name,
        "computed": f"not measured: {arguments.teraflops:g} teraflops, {arguments.weight_bytes:g} bytes a weight",
        "frames": planned.header.frames,
        "gops": found.gops,
        "bytes": budget.total,
        "bytes_codebook": budget.codebook,
        "bytes_stills": budget.stills,
        "bytes_tails": budget.tail,
        "still_quality": budget.still_quality,
        "model_calls": found.calls,
        "tokens": found.tokens,
        "petaflop": round(found.operations / 1e15, 1),
        "minutes": round(found.seconds / 60, 1),
        "gigabytes_of_weights": round(found.weight_bytes / 1e9, 2),
        "gigabytes_on_device": round(found.device_bytes / 1e9, 2),
        "gigabytes_of_a_gops_pictures": round(found.picture_bytes / 1e9, 2),
        "gigabytes_as_one_image": round(found.whole_picture_bytes / 1e9, 2),
    }
    print(json.dumps(facts, indent=1))
    return 0


def size_of(text: str | None) -> tuple[int, int] | None:
    """(height, width) of WIDTHxHEIGHT."""
    if text is None:
        return None
    width, _, height = text.partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise InputError(f"--size is {text!r}; WIDTHxHEIGHT would be right, such as 832x480")
    if not (16 <= int(width) <= 16384 and 16 <= int(height) <= 16384):
        raise InputError(f"--size is {text}; each side must be 16 to 16384")
    return int(height), int(width)


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
        arguments.flip,
    )
    print(json.dumps(found.to_json()))
    return 0
