"""Damaged videos, each made again by its number, read in this process: nothing but frames or one InputError.

    python tests/support/video_fuzz.py FIRST LAST

Prints a line for each input that did something else, then one of JSON with the counts. Each may take 60 seconds.
"""

import faulthandler
import json
import resource
import signal
import sys
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.errors import InputError
from codeclens.models.source.reading import FrameSampling, VideoSource
from support.clips import animate, encode, numbered

SECONDS, BYTES = 60, 4 << 30
QUICK, QUIET = {"cpu-used": "8"}, {"x265-params": "log-level=0"}
VIDEOS = (
    ("mp4", {}), ("mov", {}), ("matroska", {}), ("mpegts", {}), ("flv", {}), ("h264", {}),
    ("avi", {"codec": "mpeg4"}), ("asf", {"codec": "mpeg4"}), ("mpeg", {"codec": "mpeg2video"}),
    ("webm", {"codec": "libvpx", "options": QUICK}), ("ivf", {"codec": "libvpx-vp9", "options": QUICK}),
    ("mp4", {"codec": "libx265", "options": QUIET}), ("mpegts", {"codec": "libx265", "options": QUIET}),
    ("mxf", {"codec": "mpeg2video"}), ("asf", {"codec": "wmv2"}),
    ("mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
    ("avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}), ("mjpeg", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ("matroska", {"codec": "ffv1"}), ("mov", {"codec": "png", "pix_fmt": "rgb24"}),
    ("mov", {"codec": "qtrle", "pix_fmt": "rgb24"}), ("avi", {"codec": "rawvideo"}),
)  # fmt: skip
PICTURES = ("GIF", "WEBP", "PNG")


SMALL_FROM = 40_000
"""Inputs from this number on are made from clips of 5 frames of 64 x 64, which take a third of the time."""


def healthy(count: int, height: int, width: int) -> list[bytes]:
    rgb = numbered(count, height, width)
    made = []
    for container, settings in VIDEOS:
        predicted = settings.get("codec", "libx264") in ("libx264", "mpeg4", "mpeg2video")
        settings = {"options": {"bf": "2", "g": "7"} if predicted else {}, **settings}
        made.append(encode(rgb, container=container, **settings))
    return made + [animate(rgb, format=name) for name in PICTURES]


def damaged(data: bytes, random) -> bytes:
    """``data`` with bits flipped, bytes replaced, a part cut out, doubled or zeroed, or the end missing."""
    data = bytearray(data)
    for _ in range(int(random.integers(1, 4))):
        begin = int(random.integers(len(data)))
        size = int(min(len(data) - begin, random.integers(1, 400)))
        match int(random.integers(6)):
            case 0:
                data[begin] ^= 1 << int(random.integers(8))
            case 1:
                data[begin : begin + size] = random.integers(0, 256, size, np.uint8).tobytes()
            case 2:
                data[begin : begin + size] = bytes(size)
            case 3 if size < len(data) - 64:
                del data[begin : begin + size]
            case 4:
                data[begin:begin] = data[begin : begin + size]
            case _:
                # Headers and sizes, which lie at the beginning.
                data[begin % min(len(data), 300)] = int(random.choice([0, 1, 127, 128, 255]))
        if random.random() < 0.1 and len(data) > 100:
            data = data[: int(random.integers(64, len(data)))]
    return bytes(data)


def main(first: int, last: int) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError("took too long")))
    clips, counts = [healthy(20, 64, 96), healthy(5, 64, 64)], Counter()
    faulthandler.enable()
    for number in range(first, last):
        print(number, end="\r", file=sys.stderr, flush=True)
        random, originals = np.random.default_rng(number), clips[number >= SMALL_FROM]
        data = damaged(originals[number % len(originals)], random)
        signal.alarm(SECONDS)
        try:
            source = VideoSource.open(data, name="clip")
            sampling = FrameSampling.all() if random.random() < 0.5 else FrameSampling.by_fps(5)
            frames = source.read(sampling, size=(32, 48))
            assert (np.diff(frames.pts) > 0).all() and (np.diff(frames.index) > 0).all()
            counts["read with a warning" if source.warnings else "read"] += 1
        except InputError as error:
            assert "\n" not in str(error), number
            counts["refused"] += 1
        except Exception as error:
            counts["wrong"] += 1
            print(f"input {number}: {type(error).__name__}: {error}", flush=True)
        finally:
            signal.alarm(0)
    print(json.dumps(counts))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
