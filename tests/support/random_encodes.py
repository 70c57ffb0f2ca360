"""Videos of random encoders, settings and containers, each made again by its seed."""

import io
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np

from .clips import scene

X264_CONTAINERS = ("mp4", "mov", "matroska", "mpegts", "flv", "avi", "asf", "h264", "fragments")
MOST = ("mp4", "mov", "matroska", "avi")


@dataclass
class RandomEncode:
    """Settings of one video; ``str`` of it says how to make it by hand."""

    codec: str
    container: str
    count: int
    size: tuple[int, int]
    rate: Fraction
    pix_fmt: str = "yuv420p"
    options: dict = field(default_factory=dict)
    ticks: np.ndarray | None = None
    cuts: tuple[int, ...] = ()


def random_encode(seed: int) -> RandomEncode:
    """Settings drawn from ``seed``."""
    random = np.random.default_rng(seed)
    pick = lambda *values: values[random.integers(len(values))]  # noqa: E731
    codec = pick(*["libx264"] * 16, *["libx265"] * 6, *["libsvtav1"] * 2, *["libvpx-vp9"] * 3, *["libvpx"] * 2, *OTHERS)
    count, rate = int(random.integers(2, 90)), pick(*map(Fraction, ("24", "25", "30", "60", "30000/1001", "2", "12.5")))
    made = RandomEncode(codec, "mp4", count, pick((64, 96), (66, 90), (96, 64), (144, 176)), rate)
    if codec == "libx264":
        _x264(made, pick, random)
    elif codec == "libx265":
        made.container = pick("mp4", "mov", "matroska", "mpegts")
        made.pix_fmt = pick("yuv420p", "yuv420p", "yuv420p10le")
        settings = {
            "keyint": pick(5, 12, 30, 250),
            "open-gop": pick(0, 1),
            "bframes": pick(0, 1, 3, 8),
            "b-pyramid": pick(0, 1),
            "ref": pick(1, 3, 5),
            "intra-refresh": pick(0, 0, 0, 1),
            "repeat-headers": pick(0, 1) or int(made.container == "mpegts"),
            "radl": pick(0, 0, 2),
            "temporal-layers": pick(1, 1, 2, 3),
            "scenecut": pick(0, 40),
        }
        if settings["intra-refresh"]:
            settings["keyint"] = max(30, settings["keyint"])  # x265 divides by zero below
        text = ":".join(f"{name}={value}" for name, value in settings.items())
        made.options = {"preset": pick("ultrafast", "superfast", "medium"), "x265-params": f"log-level=none:{text}"}
    elif codec == "libsvtav1":
        made.container = pick("mp4", "matroska", "webm", "ivf")
        made.options = {
            "preset": "12",
            "g": pick("8", "30", "-1"),
            "svtav1-params": f"scd={pick(0, 1)}:irefresh-type={pick(1, 2)}:hierarchical-levels={pick(3, 4)}",
        }
    elif codec in ("libvpx", "libvpx-vp9"):
        made.container = pick("webm", "matroska", "ivf", *["mp4"] * (codec != "libvpx"))
        made.options = {
            "cpu-used": "8",
            "deadline": pick("realtime", "good"),
            "auto-alt-ref": pick("0", "1"),
            "lag-in-frames": pick("0", "5", "16", "25"),
            "g": pick("5", "12", "40", "9999"),
            "crf": pick("20", "40"),
            "error-resilient": pick("0", "0", "1"),
        }
    else:
        containers, made.pix_fmt, bframes = OTHERS[codec]
        made.container = pick(*containers)
        made.options = {"g": pick("1", "5", "12", "60")} | ({"bf": pick("0", "1", "2", "3")} if bframes else {})
        if codec == "mpeg2video" and made.rate not in (24, 25, 30, Fraction(30000, 1001), 60):
            made.rate = Fraction(25)
        if codec == "dnxhd":
            made.size, made.rate, made.count = (1080, 1920), Fraction(25), min(count, 4)
            made.options["b"] = "36M"
    if made.container in ("mp4", "mov", "matroska", "webm", "fragments") and pick(False, False, True):
        made.ticks = np.cumsum(random.choice([1, 1, 1, 2, 3, 20], made.count)) * 10
    made.cuts = tuple(sorted(random.integers(1, made.count, 2))) if made.count > 2 else ()
    return made


OTHERS = {
    "mpeg4": ((*MOST, "asf"), "yuv420p", True),
    "mpeg2video": (("mpeg", "mpegts", "matroska", "vob"), "yuv420p", True),
    "mpeg1video": (("mpeg", "matroska"), "yuv420p", True),
    "mjpeg": (MOST, "yuvj420p", False),
    "ffv1": (("matroska", "avi"), "yuv420p", False),
    "prores_ks": (("mov", "matroska"), "yuv422p10le", False),
    "dnxhd": (("mov",), "yuv422p", False),
    "flv": (("flv", "avi"), "yuv420p", False),
    "msmpeg4": (("avi", "asf"), "yuv420p", False),
    "wmv2": (("asf",), "yuv420p", False),
    "huffyuv": (("avi",), "yuv422p", False),
    "utvideo": (("avi",), "yuv420p", False),
    "png": (("mov",), "rgb24", False),
    "qtrle": (("mov",), "rgb24", False),
}
"""Codec: its containers, its pixel format, and whether it has B frames."""


def _x264(made: RandomEncode, pick, random) -> None:
    made.container = pick(*X264_CONTAINERS)
    made.pix_fmt = pick(*["yuv420p"] * 5, "yuv444p", "yuv420p10le", "yuv422p")
    settings = {
        "keyint": pick(4, 12, 30, 250),
        "bframes": pick(0, 1, 2, 3, 6, 16),
        "b-pyramid": pick("none", "strict", "normal"),
        "b-adapt": pick(0, 1, 2),
        "open-gop": pick(0, 0, 1),
        "intra-refresh": pick(0, 0, 0, 1),
        "ref": pick(1, 2, 4, 16),
        "scenecut": pick(0, 40),
        "slices": pick(1, 1, 4),
        "weightp": pick(0, 1, 2),
        "cabac": pick(0, 1),
        "direct": pick("spatial", "temporal", "auto"),
        "aud": pick(0, 1),
        "repeat-headers": pick(0, 0, 1) or int(made.container in ("mpegts", "h264", "avi")),
        "tff": pick(0, 0, 0, 1),
        "qp": pick(18, 26, 34),
    }
    text = ":".join(f"{name}={value}" for name, value in settings.items())
    made.options = {"preset": pick("ultrafast", "veryfast", "medium"), "x264-params": text}
    if pick(*[False] * 5, True):
        made.options["tune"] = "zerolatency"


def moving(made: RandomEncode) -> np.ndarray:
    """uint8 [T, H, W, 3]: a scene that moves, another after each cut, under the frame's number in 8 squares."""
    height, width = made.size
    rgb = np.empty((made.count, height, width, 3), np.uint8)
    side = width // 8
    shot = 0
    for position in range(made.count):
        shot += position in made.cuts
        picture = np.roll(scene(height, width, seed=shot), (position, 2 * position), (0, 1))
        for bit in range(8):
            picture[:side, bit * side : (bit + 1) * side] = 235 if position >> bit & 1 else 20
        rgb[position] = picture
    return rgb


def stamped_number(picture: np.ndarray) -> int:
    """The number that :func:`moving` painted."""
    side = picture.shape[1] // 8
    middle = picture[side // 4 : side - side // 4]
    return sum(
        int(middle[:, bit * side + side // 4 : (bit + 1) * side - side // 4].mean() > 127) << bit for bit in range(8)
    )


def write(made: RandomEncode) -> bytes | None:
    """The bytes of the video, None where the encoder refuses the settings."""
    file = io.BytesIO()
    container = "mp4" if made.container == "fragments" else made.container
    options = {"movflags": "frag_keyframe+empty_moov"} if made.container == "fragments" else {}
    with av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream(made.codec, rate=made.rate)
        stream.height, stream.width = made.size
        stream.pix_fmt = made.pix_fmt
        stream.options = dict(made.options)
        if made.ticks is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        try:
            for position, picture in enumerate(moving(made)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=made.pix_fmt)
                frame.pts = position if made.ticks is None else int(made.ticks[position])
                frame.time_base = 1 / made.rate if made.ticks is None else Fraction(1, 1000)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
        except av.error.FFmpegError:
            return None
    return file.getvalue()
