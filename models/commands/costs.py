"""What ``plan --cost`` adds: every way to read the clips, with its tokens, seconds and memory."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..code.calibration import cache_folder, calibrate, identity, load, save
from ..code.cost import Calibration, Cost, every_frame, predict, search_seconds
from ..code.pipeline import CodeConfig, Planned
from ..code.presets import list_presets, read_preset
from ..drawing.canvas import clock_text, grouped
from ..errors import InputError
from ..progress import TerminalProgress
from ..qwen.loading import Qwen3VL, load_qwen3vl
from ..qwen.placement import best_device, compute_dtype, load_placed
from ..video.content import CONTENTS, content_of
from ..video.gop import GopPlan
from .arguments import whole
from .model import add_model_options, files_of

WAYS = {
    "every frame whole": CodeConfig(mode="keyframes", policy="fixed", rule={"cap": 0}),
    "native frame pairs": CodeConfig(mode="rgb"),
    "keyframes": CodeConfig(mode="keyframes"),
    "thumbnail": CodeConfig(mode="thumbnail"),
    "changed cells": CodeConfig(mode="cells"),
}
"""Ways in which ``caption`` may read a clip."""

BASELINES = ("every frame whole", "native frame pairs")
"""They read every sampled frame, whatever the plan leaves out."""

STAGES = ("read", "plan", "vision", "prefill", "decode")


def add_cost_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--cost`` and its options."""
    parser.add_argument(
        "--cost", action="store_true", help="predict tokens, seconds and memory of every way to read the clips"
    )
    add_model_options(parser)
    parser.add_argument(
        "--answer-tokens", type=whole(0, 1 << 20), default=64, metavar="N", help="length of the answer (default 64)"
    )
    parser.add_argument("--recalibrate", action="store_true", help="time the model again; else once for each machine")


class Pricing:
    """Predicts for the model that the options name; the first time on a machine, that model is timed."""

    def __init__(self, arguments: argparse.Namespace):
        self.answer_tokens, self.anew = arguments.answer_tokens, arguments.recalibrate
        self.question = read_preset(list_presets()["plain"]).prompt
        self.files, self.device = files_of(arguments), best_device()
        # As it lies in the files, a model is there at once; only to be timed it has to be made ready.
        self.model = load_qwen3vl(*self.files, dtype=compute_dtype(self.device))
        self.owner = identity(self.model, self.device)

    def calibration(self) -> Calibration:
        """That of the model on this machine; see :func:`calibration_of`."""
        return calibration_of(self.model, self.files, self.device, self.anew)

    def price(self, plans: Sequence[tuple[str, GopPlan]], took: Sequence[float] | None) -> "Prices":
        """Predict every way for each (name, plan); ``took``: seconds in which each was read and searched."""
        calibration, clips = self.calibration(), []
        for number, (name, plan) in enumerate(plans):
            read = None if took is None else max(0.0, took[number] - search_seconds(plan, calibration))
            costs = {}
            for way, config in WAYS.items():
                asked = every_frame(plan) if way in BASELINES else plan
                costs[way] = predict(
                    asked,
                    config,
                    self.model,
                    calibration,
                    question=self.question,
                    answer_tokens=self.answer_tokens,
                    read_seconds=read,
                    name=name,
                )
            clips.append((name, content_of(plan), costs))
        owner = self.owner
        machine = owner["processor"] if owner["device"] == "cpu" else f"{owner['device']}, {owner['processor']}"
        return Prices(clips, f"{owner['files'][0][0]} on {machine}, {owner['threads']} threads", self.answer_tokens)


def pricing(files, config: CodeConfig, question: str, answer_tokens: int) -> tuple[Qwen3VL, Callable[[Planned], Cost]]:
    """The model in ``files`` as it lies there, and what predicts the cost of a planned clip that is asked ``question``.

    The first time on a machine, the model is timed.
    """
    device = best_device()
    model = load_qwen3vl(*files, dtype=compute_dtype(device))

    def price(planned: Planned) -> Cost:
        calibration = calibration_of(model, files, device)
        return predict(planned.plan, config, model, calibration, question=question, answer_tokens=answer_tokens)

    return model, price


def calibration_of(model: Qwen3VL, files, device: str, anew: bool = False) -> Calibration:
    """What this machine takes for ``model``, which lies in ``files``: the one that was kept, or a new one.

    With ``anew`` the model is timed again. What is measured is kept, once for each machine.
    """
    owner = identity(model, device)
    kept = None if anew else load(owner, cache_folder())
    if kept is not None:
        return kept
    name = model.files[0].path.name
    print(f"codeclens: timing {name}, once for this machine; let it do nothing else", file=sys.stderr)
    measured = calibrate(load_placed(*files, device), progress=TerminalProgress("timing"))
    try:
        save(measured, owner, cache_folder())
    except InputError as error:
        print(f"codeclens: warning: the timing is not kept: {error}", file=sys.stderr)
    return measured


@dataclass(frozen=True, slots=True)
class Prices:
    """(name, content, cost of each way) of every clip, and whose they are."""

    clips: list[tuple[str, str, dict[str, Cost]]]
    whose: str
    answer_tokens: int

    def to_json(self) -> list[dict]:
        """What each clip's JSON gains."""
        return [
            {"content": content, "cost_of": self.whose, "cost": {way: cost.to_json() for way, cost in costs.items()}}
            for _, content, costs in self.clips
        ]

    def in_words(self) -> str:
        """A table for each clip, and for several one of what a minute of footage takes, by clip and by content."""
        lines = [f"predicted for {self.whose}, an answer of {self.answer_tokens} tokens"]
        for name, content, costs in self.clips:
            lines += ["", f"{name}: {content}", _heading()]
            lines += [_row(way, cost) for way, cost in costs.items()]
        if len(self.clips) > 1:
            lines += ["", *self._by_content()]
        return "\n".join(lines)

    def _by_content(self) -> list[str]:
        lines = [
            "per minute of footage, visual tokens and seconds",
            f"  {'':<24}{'footage':>9}" + "".join(f"{way:>22}" for way in WAYS),
        ]
        known = [clip for clip in self.clips if not np.isnan(clip[2]["thumbnail"].footage)]
        lines += [_minute_row(name, [costs]) for name, _, costs in known]
        for content in CONTENTS:
            alike = [costs for _, found, costs in known if found == content]
            if alike:
                lines.append(_minute_row(f"{content} ({len(alike)})", alike))
        return lines


def _heading() -> str:
    stages = "".join(f"{stage:>9}" for stage in (*STAGES, "total"))
    return f"  {'':<20}{'visual':>9}{'prompt':>9}{stages}{'memory':>10}   a minute: visual, seconds"


def _row(way: str, cost: Cost) -> str:
    spent = "".join(f"{_short(seconds):>9}" for seconds in (*(cost.seconds[stage] for stage in STAGES), cost.total))
    row = f"  {way:<20}{grouped(cost.visual_tokens):>9}{grouped(cost.prompt_tokens):>9}{spent}"
    row += f"{cost.memory / 2**30:>6.2f} GiB"
    if np.isnan(cost.footage):
        return row
    minute = grouped(round(cost.per_minute(cost.visual_tokens)))
    return f"{row}{minute:>19}{_short(cost.per_minute(cost.total)):>9}"


def _minute_row(label: str, clips: list[dict[str, Cost]]) -> str:
    footage = sum(costs["thumbnail"].footage for costs in clips)
    cells = []
    for way in WAYS:
        tokens = 60 * sum(costs[way].visual_tokens for costs in clips) / footage
        seconds = 60 * sum(costs[way].total for costs in clips) / footage
        cells.append(f"{grouped(round(tokens)):>13}{_short(seconds):>9}")
    return f"  {label:<24.24}{clock_text(footage, 1):>9}" + "".join(cells)


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.1f} s" if seconds >= 10 else f"{seconds:.2f} s"
