"""The cost model against the real thing: calibrate, predict from each clip's plan, then caption the clip and compare.

    python tests/bench/cost.py [--model F] [--mmproj F] [--clips DIR] [--count 8] [--synth 8] [--side N] [--fps X]

No clip takes part in the calibration, which runs on synthetic pictures and tokens, so all are held out. Clips are those
of --clips or $CODECLENS_CLIPS, by default the real ones beside the checkout, and --synth rendered ones. Every clip is
captioned as thumbnails, key frames and native pairs; as thumbnails it is also asked a question the way ``ask`` does.
The length of the answer is not predicted: the answer that was written is priced. Reading is predicted twice: by how
long it took to read the clip for its plan, as ``plan --cost`` does, and from the plan alone. Memory is what the process
grows by, and is known on Linux only. Without --model it is the embedded one. Run it on an idle machine.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from codeclens.models.code.calibration import calibrate
from codeclens.models.code.conversation import converse
from codeclens.models.code.cost import Cost, predict, search_seconds
from codeclens.models.code.pipeline import CodeConfig, watch
from codeclens.models.errors import InputError
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.qwen.placement import load_placed
from codeclens.models.source.reading import FrameSampling, VideoSource, fit_size
from codeclens.models.source.sampled import SampledVideo
from codeclens.models.synthetic.clip_files import seeds_of, write_clips
from codeclens.models.video.content import content_of
from codeclens.models.video.extraction import extract
from codeclens.models.video.planning import plan
from codeclens.models.weights import FPS, SIDE, embedded_pair
from support.machine import describe_machine

MODES = ("thumbnail", "keyframes", "rgb")
STAGES = ("read", "plan", "vision", "prefill", "decode")
QUESTION = "What happens in this video?"
SHARED = Path(os.environ.get("CODECLENS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PROCESS = Path("/proc/self")


@dataclass
class Run:
    """One clip in one mode: seconds by stage as they were, as predicted, and as predicted from the plan alone."""

    clip: str
    content: str
    mode: str
    real: dict[str, float]
    predicted: Cost
    alone: Cost
    grown: int | None

    def error(self, stage: str | None = None, alone: bool = False) -> float:
        """(predicted - real) / real of a stage, or of the sum of all."""
        guess = (self.alone if alone else self.predicted).seconds
        if stage:
            return guess[stage] / max(self.real[stage], 1e-9) - 1
        return sum(guess.values()) / sum(self.real.values()) - 1


def main() -> None:
    arguments = parse()
    print(describe_machine(), flush=True)
    embedded = arguments.model is None
    files = embedded_pair() if embedded else (arguments.model, arguments.mmproj)
    side, fps = arguments.side or (SIDE if embedded else 512), arguments.fps or (FPS if embedded else 2.0)
    model = load_placed(*files, arguments.device)
    began = time.perf_counter()
    calibration = calibrate(model)
    print(
        f"{Path(files[0]).name}: calibrated in {time.perf_counter() - began:.1f} s; {fps:g} frames a second, {side} px"
    )
    for stage, seconds in asdict(calibration).items():
        print(f"  {stage:8}" + "".join(f"{value:12.3g}" for value in seconds))
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for clip in held_out(arguments, Path(folder)):
            try:
                runs += measure(clip, model, calibration, side, fps, arguments.answer_tokens)
            except InputError as error:
                print(f"left out: {error}")
    summarise(runs)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps([as_json(run) for run in runs], indent=1), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="the language model's .gguf file; default: the embedded one")
    parser.add_argument("--mmproj", default="auto")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU where there is one")
    parser.add_argument("--clips", default=os.environ.get("CODECLENS_CLIPS", str(SHARED / "clips")))
    parser.add_argument("--count", type=int, default=8, help="how many of the folder's clips, 0 for none")
    parser.add_argument("--synth", type=int, default=8, help="how many rendered clips")
    parser.add_argument("--side", type=int)
    parser.add_argument("--fps", type=float)
    parser.add_argument("--answer-tokens", type=int, default=64)
    parser.add_argument("--json", metavar="F", help="write every run as JSON")
    return parser.parse_args()


def held_out(arguments, folder: Path) -> list[Path]:
    """Real clips, spread over the folder's names, and rendered ones."""
    folder_clips = Path(arguments.clips)
    real = sorted(folder_clips.glob("*.mp4")) if folder_clips.is_dir() else []
    count = min(arguments.count, len(real))
    chosen = [real[number * len(real) // count] for number in range(count)]
    if arguments.synth:
        write_clips(folder, seeds_of("validation", 0, arguments.synth), (256, 256))
        chosen += sorted(folder.glob("*.mp4"))
    return chosen


def measure(clip: Path, model, calibration, side: int, fps: float, answer_tokens: int) -> list[Run]:
    """Plan a clip, predict every mode, then do it, each from a newly opened file."""
    source, sampling = VideoSource.open(str(clip)), FrameSampling.by_fps(fps)
    size = fit_size(source.info.width, source.info.height, side**2)
    began = time.perf_counter()
    decided = plan(extract(SampledVideo(source, sampling, size)))
    read_seconds = max(0.0, time.perf_counter() - began - search_seconds(decided, calibration))
    runs = []
    for mode in MODES:
        config = CodeConfig(mode=mode, sampling=sampling, area=side**2)
        before = start_of_growth()
        code = watch(VideoSource.open(str(clip)), model, config)
        answer = converse(model, code).ask(QUESTION, sampling=GREEDY, max_tokens=answer_tokens)
        grown = None if before is None else resident("VmHWM") - before
        written = len(answer.generation.ids)
        options = {"question": QUESTION, "answer_tokens": written}
        predicted = predict(decided, config, model, calibration, read_seconds=read_seconds, **options)
        alone = predict(decided, config, model, calibration, **options)
        if (predicted.visual_tokens, predicted.prompt_tokens) != (code.token_count, answer.prompt_tokens):
            sys.exit(f"{clip.name}, {mode}: {predicted} but the code has {code.token_count}, {answer.prompt_tokens}")
        runs.append(Run(clip.name, content_of(decided), mode, code.seconds | answer.seconds, predicted, alone, grown))
        print_run(runs[-1], weights=sum(file.size for file in model.files))
        if mode == "thumbnail":
            runs.append(asked(runs[-1], model, code, answer_tokens))
            print_run(runs[-1], weights=None)
    return runs


def asked(caption: Run, model, code, answer_tokens: int) -> Run:
    """The same code, read first and then asked, as ``ask`` does for several questions."""
    reading = converse(model, code)
    read = reading.read()
    answer = reading.fork().ask(QUESTION, sampling=GREEDY, max_tokens=answer_tokens)
    seconds = code.seconds | answer.seconds | {"prefill": read + answer.seconds["prefill"]}
    return Run(caption.clip, caption.content, "ask", seconds, caption.predicted, caption.alone, None)


def start_of_growth() -> int | None:
    """Bytes resident now; the process's peak starts anew. None where the system does not tell."""
    gc.collect()
    if not (PROCESS / "clear_refs").exists():
        return None
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    (PROCESS / "clear_refs").write_text("5")
    return resident("VmRSS")


def resident(name: str) -> int:
    lines = (PROCESS / "status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def print_run(run: Run, weights: int | None) -> None:
    stages = "  ".join(
        f"{stage} {run.real[stage]:.3g} ({100 * run.error(stage):+.0f} %)"
        for stage in STAGES
        if run.real[stage] or run.predicted.seconds[stage]
    )
    line = f"{run.clip:32.32} {run.content:11} {run.mode:9} {run.predicted.prompt_tokens:6} tokens"
    line += f"  {sum(run.real.values()):.3g} s ({100 * run.error():+.1f} %)  {stages}"
    if run.grown is not None and weights is not None:
        line += f"  grown by {run.grown / 2**20:.0f} MiB, predicted {(run.predicted.memory - weights) / 2**20:.0f}"
    print(line, flush=True)


def summarise(runs: list[Run]) -> None:
    """Mean and largest error of the total and of each stage, by mode and in all."""
    print("\nerror in %, mean (largest) of the absolute values; 'alone': reading predicted from the plan too")
    print(f"{'':10}{'runs':>5}" + "".join(f"{name:>16}" for name in ("total", "total alone", *STAGES)))
    for mode in (*MODES, "ask", "all"):
        found = [run for run in runs if mode in (run.mode, "all")]
        if not found:
            continue
        columns = [[run.error() for run in found], [run.error(alone=True) for run in found]]
        columns += [[run.error(stage) for run in found] for stage in STAGES]
        cells = [f"{100 * np.mean(np.abs(column)):.1f} ({100 * np.max(np.abs(column)):.0f})" for column in columns]
        print(f"{mode:10}{len(found):>5}" + "".join(f"{cell:>16}" for cell in cells))


def as_json(run: Run) -> dict:
    row = {"clip": run.clip, "content": run.content, "mode": run.mode, "seconds": run.real, "grown": run.grown}
    return {**row, "predicted": run.predicted.to_json(), "alone": run.alone.to_json()}


if __name__ == "__main__":
    main()
