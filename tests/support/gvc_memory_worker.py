"""Encodes and decodes clips of so many GOPs through files, as the nodes do; prints the peak memory after each in MiB.

python tests/support/gvc_memory_worker.py FOLDER VARIANT GOPS...
"""

import resource
import sys
from fractions import Fraction
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.gvc.gops import cut_clips, plan_gops
from codeclens.models.gvc.records import Stream
from codeclens.models.gvc.resume import PartialEncoding
from codeclens.models.gvc.stores import LatentFiles
from codeclens.models.gvc.video import Settings, decode_video, encode_video, make_header
from codeclens.models.video.lossless import LosslessWriter
from support.pixel_flow import PixelFlow, moving_square

SIDE, GOP_FRAMES = 256, 9


def main() -> None:
    torch.set_num_threads(1)
    for gops in sys.argv[3:]:
        folder = Path(sys.argv[1]) / gops
        folder.mkdir()
        through_files(folder, sys.argv[2], int(gops))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def through_files(folder: Path, variant: str, gops: int) -> None:
    frames = GOP_FRAMES * gops if variant == "T2V" else (GOP_FRAMES - 1) * gops + 1
    settings = Settings(variant, 3000.0, 2, tail_fraction=0.0)
    spans = plan_gops(frames, GOP_FRAMES, 4, variant != "T2V")
    header = make_header(PixelFlow(), settings, spans, (SIDE, SIDE), Fraction(24))
    clips = cut_clips((moving_square(1, SIDE, SIDE, number) for number in range(frames)), spans)
    coded, at = [], 0
    with LosslessWriter(folder / "encoded.mp4", (SIDE, SIDE), Fraction(24)) as file:
        store = PartialEncoding(folder, header, settings, spans)
        for gop in encode_video(PixelFlow(), header, settings, spans, clips, store):
            at = write(file, gop.pictures, at)
            coded.append(gop.gop)
    latents, at = LatentFiles(folder, "decoded"), 0
    with LosslessWriter(folder / "decoded.mp4", (SIDE, SIDE), Fraction(24)) as file:
        for pictures, _, _ in decode_video(PixelFlow(), Stream(header, tuple(coded)), latents=latents):
            at = write(file, pictures, at)


def write(file: LosslessWriter, pictures, first: int) -> int:
    """Write pictures 1/24 s apart, the first of them number ``first``; return the number of the next."""
    file.write(pictures, [(first + at) / 24 for at in range(len(pictures))])
    return first + len(pictures)


if __name__ == "__main__":
    main()
