"""What the folder engine adds to captioning, and what it saves by preparing the next clip while the model works.

Captions the same rendered clips with the embedded model in turns: a bare loop over ``caption``, and the engine with its
journal and sidecars. The engine's own work is timed apart, with work that does nothing.

    python tests/bench/folders.py [--clips 12] [--rounds 3] [--size 256]
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.code.captions import Writing, caption
from codeclens.models.code.pipeline import CodeConfig
from codeclens.models.code.presets import list_presets, read_preset
from codeclens.models.dataset.captioning import Captioning, caption_work, text_sidecars
from codeclens.models.dataset.items import find_items
from codeclens.models.dataset.job import Work, run
from codeclens.models.dataset.journal import NAME, open_journal
from codeclens.models.qwen import load_qwen3vl
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import FrameSampling, VideoSource
from codeclens.models.synthetic.clip_files import write_clips
from codeclens.models.weights import FPS, SIDE, embedded_pair
from support.machine import describe_machine

CONFIG = CodeConfig(sampling=FrameSampling.by_fps(FPS), area=SIDE**2)
WRITING = Writing(GREEDY, 64)


def bare(items, model, preset) -> float:
    began = time.perf_counter()
    for item in items:
        caption(VideoSource.open(item.path), model, CONFIG, preset, WRITING)
    return time.perf_counter() - began


def engine(folder: Path, items, work: Work) -> float:
    for path in (folder / NAME, *folder.glob("*.txt")):
        path.unlink(missing_ok=True)
    began = time.perf_counter()
    with open_journal(folder / NAME) as journal:
        assert run(items, work, journal).done == len(items)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=256)
    arguments = parser.parse_args()
    print(describe_machine())
    model, preset = load_qwen3vl(*embedded_pair()), read_preset(list_presets()["plain"])
    with tempfile.TemporaryDirectory() as held:
        folder = Path(held)
        write_clips(folder, range(arguments.clips), (arguments.size, arguments.size), seconds=4, fps=24)
        items = find_items(folder)
        work = caption_work(model, Captioning(CONFIG, preset, WRITING), text_sidecars())
        nothing = Work("caption", {}, lambda item: None, lambda item, _: {"captions": ["x"]}, text_sidecars())
        bare(items[:1], model, preset)
        times = [(bare(items, model, preset), engine(folder, items, work)) for _ in range(arguments.rounds)]
        alone = statistics.median(engine(folder, items, nothing) for _ in range(arguments.rounds))
    loop, with_engine = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(one / other for other, one in times)
    print(f"{len(items)} clips of 4 s, {arguments.size}x{arguments.size}, CodecLens-Tiny")
    print(f"bare loop {loop / len(items):.3f} s a clip, engine {with_engine / len(items):.3f} s: {ratio:.2f} times")
    print(f"the engine alone {1000 * alone / len(items):.1f} ms a clip, {100 * alone / loop:.1f} % of the bare loop")


if __name__ == "__main__":
    main()
