"""How long a machine takes for a model: a few runs of the real thing, and the coefficients that explain them.

The coefficients are kept in the user's cache folder, one file for each model, device and number of threads.
"""

import hashlib
import io
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np
import torch

from ..files import make_folder, write_text
from ..progress import Progress, no_progress
from ..qwen.cache import Cache
from ..qwen.generate import Context, SamplingParams, generate
from ..source.reading import Frames, FrameSampling, VideoSource
from ..video.motion import START_RADIUS
from ..video.planning import plan_from_costs
from ..video.primitives import primitives
from . import cost
from .cost import Calibration
from .modes.pictures import encode_pictures

FORMAT = 2

VISION = ((1, 64), (1, 128), (1, 256), (8, 128), (1, 512), (4, 512))
"""(pictures, side in pixels) of the batches that are timed, cheapest first as in all of these."""

PREFILL = ((64, 0), (256, 0), (256, 4096), (512, 0), (1024, 0), (1024, 4096))
"""(rows of the chunk, rows before it)."""

DECODE = ((16,), (2048,), (4096,))
"""(rows before the token)."""

SEARCH = ((128, 1), (256, 1), (512, 2), (512, 1))
"""(side in pixels, times the window that a search begins with)."""

READ = ((24, 128, 6), (24, 128, 1), (24, 512, 6), (24, 512, 1))
"""(frames of the clip, side in pixels, one frame in so many is sampled)."""

TOKENS, SEARCHED = 6, 8
"""Tokens written, and frames searched, in one run."""

PATIENCE = {"vision": 6.0, "prefill": 16.0, "decode": 4.0, "search": 2.0, "read": 2.0}
"""Seconds after which a stage takes no further size, once it has as many as coefficients."""

RUN_SECONDS, RUNS = 0.5, 25
"""A size is run again until it has taken so long in all, or so often; its median counts."""


def calibrate(model, clock: Callable[[], float] = time.perf_counter, progress: Progress = no_progress) -> Calibration:
    """Time ``model`` on synthetic pictures and tokens, and this machine at reading and searching.

    Sizes go up until a stage's :data:`PATIENCE` ends, 30 s in all and the last size of each stage; a small model is
    through with them sooner. Nothing else should run meanwhile.

    Args:
        model: a loaded :class:`..qwen.Qwen3VL` with its vision tower, ready to run.
        clock: returns seconds.
        progress: called with stages, before every run.
    """
    stages = {
        "vision": (VISION, lambda *size: _encode(model, *size), _vision_terms),
        "prefill": (PREFILL, lambda *size: _read_rows(model, *size), cost.prefill_terms),
        "decode": (DECODE, lambda *size: _write(model, *size), _decode_terms),
        "search": (SEARCH, _search, _search_terms),
        "read": (READ, _read, _read_terms),
    }
    found = {}
    for done, (stage, (sizes, prepare, terms)) in enumerate(stages.items()):

        def watch(done=done):
            progress(done, len(stages))

        found[stage] = _time_stage(sizes, prepare, terms, PATIENCE[stage], clock, watch)
    progress(len(stages), len(stages))
    return Calibration(**found)


def fit(terms: Sequence[Sequence[float]], seconds: Sequence[float]) -> tuple[float, ...]:
    """Coefficients of at least 0 that explain ``seconds`` [n] by ``terms`` [n, k] with the least relative error.

    Of all subsets of the columns, the least-squares solution without a negative coefficient that errs least; that is
    the nonnegative least-squares solution (Lawson and Hanson 1974, chapter 23), and few columns make few subsets.
    """
    weight = 1 / np.maximum(np.asarray(seconds, np.float64), 1e-9)
    rows, wanted = np.asarray(terms, np.float64) * weight[:, None], np.asarray(seconds) * weight
    # Columns differ by many orders of magnitude.
    scale = np.maximum(np.abs(rows).max(axis=0), 1e-300)
    rows, count = rows / scale, rows.shape[1]
    best, least = np.zeros(count), float(wanted @ wanted)
    for size in range(1, count + 1):
        for chosen in itertools.combinations(range(count), size):
            found = np.linalg.lstsq(rows[:, chosen], wanted, rcond=None)[0]
            error = float(np.sum((rows[:, chosen] @ found - wanted) ** 2))
            if found.min() >= 0 and error < least:
                best, least = np.zeros(count), error
                best[list(chosen)] = found
    return tuple((best / scale).tolist())


def _time_stage(sizes, prepare, terms, patience: float, clock, watch) -> tuple[float, ...]:
    rows, seconds, began = [], [], clock()
    watch()
    # The first run of anything also allocates, and compiles where a GPU is used.
    prepare(*sizes[0])()
    for size in sizes:
        if rows and len(rows) >= len(rows[0]) and clock() - began > patience:
            break
        run = prepare(*size)
        spent = []
        while not spent or (sum(spent) < RUN_SECONDS and len(spent) < RUNS):
            watch()
            start = clock()
            run()
            spent.append(clock() - start)
        rows.append(terms(*size))
        seconds.append(statistics.median(spent))
    return fit(rows, seconds)


def _encode(model, pictures: int, side: int) -> Callable[[], object]:
    rgb = np.random.default_rng(0).integers(0, 256, (pictures, 1, side, side, 3), np.uint8)
    return lambda: encode_pictures(model, rgb)


def _vision_terms(pictures: int, side: int):
    return cost.vision_terms(pictures, (side // 16) ** 2)


def _after_stored(model, stored: int) -> Context:
    """A context that seems to have read ``stored`` rows: attention takes as long whatever they hold."""
    config = model.config.text
    context = Context(model.text, Cache(config.layers, capacity=stored + 2048))
    if stored:
        rows = torch.randn(config.kv_heads, stored, config.head_dim, device=model.device).to(model.dtype)
        for layer in filter(config.attends, range(config.layers)):
            context.cache.append(layer, rows, rows)
        context.cache.advance(stored)
    context.position = stored
    context.hidden = torch.zeros(1, config.hidden_size, device=model.device, dtype=model.dtype)
    return context


def _read_rows(model, rows: int, stored: int) -> Callable[[], object]:
    config, base = model.config.text, _after_stored(model, stored)
    embeds = torch.randn(rows, config.hidden_size, device=model.device).to(model.dtype)
    deepstack = embeds.expand(config.deepstack_layers, -1, -1)
    positions = torch.arange(stored, stored + rows).expand(3, -1)

    def run():
        context = base.fork()
        context.read(embeds, positions, deepstack, torch.arange(rows), chunk=rows)
        # A GPU has done its work only once a number of it is here.
        context.hidden[:, 0].cpu()

    return run


def _write(model, stored: int) -> Callable[[], object]:
    base = _after_stored(model, stored)
    return lambda: generate(base.fork(), model.tokenizer.decode, (), SamplingParams(), TOKENS)


def _decode_terms(stored: int):
    return np.sum([cost.decode_terms(stored + written) for written in range(TOKENS)], axis=0)


def _moving_picture(frames: int, side: int) -> np.ndarray:
    """uint8 [frames, side, side, 3]: blobs under grain that slide by 3 pixels a frame."""
    draw = np.random.default_rng(0)
    blobs = np.kron(draw.integers(0, 200, (side // 16 + 12, side // 16 + 12, 3)), np.ones((16, 16, 1)))
    scene = (blobs + draw.integers(0, 40, blobs.shape)).astype(np.uint8)
    return np.stack([scene[3 * t : 3 * t + side, 3 * t : 3 * t + side] for t in range(frames)])


def _search(side: int, wider: int) -> Callable[[], object]:
    rgb = _moving_picture(SEARCHED + 1, side)
    numbers = np.arange(len(rgb))
    return lambda: primitives([Frames(rgb, numbers / 2.0, numbers)], wider * START_RADIUS)


def _search_terms(side: int, wider: int):
    # A window that is wider from the start costs what the further search in it does, and no first one.
    first, again = (SEARCHED, 0.0) if wider == 1 else (0, wider * SEARCHED)
    return cost.search_terms(first, (side, side), again)


def _read(frames: int, side: int, step: int) -> Callable[[], object]:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for rgb in _moving_picture(frames, side):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    clip = file.getvalue()
    return lambda: VideoSource.open(clip).read(FrameSampling.every(step), (side, side))


def _read_terms(frames: int, side: int, step: int):
    index = np.arange(0, frames, step)
    return cost.read_terms(plan_from_costs(np.zeros(len(index)), "fixed", index=index, size=(side, side)))


def identity(model, device: str) -> dict:
    """What a calibration belongs to, as JSON values: another value of any of these may take another time."""
    return {
        "format": FORMAT,
        "files": [[file.path.name, file.size] for file in model.files],
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "dtype": str(model.dtype).removeprefix("torch."),
        "torch": torch.__version__,
    }


def processor() -> str:
    """The name of the CPU, as far as the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    named = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return f"{named or platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def cache_folder() -> Path:
    """Where calibrations are kept: ``codeclens`` in $XDG_CACHE_HOME, by default ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "codeclens"


def file_of(owner: dict, folder: Path) -> Path:
    """The file of the calibration that belongs to ``owner``, as :func:`identity` gives it."""
    digest = hashlib.blake2b(json.dumps(owner).encode(), digest_size=8).hexdigest()
    return folder / f"calibration-{digest}.json"


def load(owner: dict, folder: Path) -> Calibration | None:
    """The calibration that was kept for ``owner``; None where there is none, or where the file is not such a one."""
    try:
        kept = json.loads(file_of(owner, folder).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(kept, dict) or kept.get("owner") != owner or not isinstance(kept.get("seconds"), dict):
        return None
    lengths = {"vision": 3, "prefill": 3, "decode": 2, "search": 3, "read": 3}
    seconds = kept["seconds"]
    if seconds.keys() != lengths.keys():
        return None
    for stage, length in lengths.items():
        if not _are_seconds(seconds[stage], length):
            return None
    return Calibration(**{stage: tuple(map(float, seconds[stage])) for stage in lengths})


def _are_seconds(values, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    return all(type(value) in (int, float) and 0 <= value < 1e9 for value in values)


def save(calibration: Calibration, owner: dict, folder: Path) -> Path:
    """Keep ``calibration`` for ``owner``, whole or not at all.

    Raises:
        InputError: the folder cannot be made, or the file cannot be written.
    """
    path = file_of(owner, make_folder(folder))
    write_text(path, json.dumps({"owner": owner, "seconds": asdict(calibration)}, indent=1))
    return path
