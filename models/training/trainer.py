"""Training the tiny model from scratch on rendered clips: resumable, and the same for the same plan.

The order of examples, the initial weights and the learning rate follow from the plan alone, and a checkpoint holds all
that a step changes; so training in several sittings gives what one gives, bit for bit on the CPU with one number of
threads.
"""

import contextlib
import itertools
import json
import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..files import writing
from ..progress import Progress, no_progress
from ..synthetic.scenes import SPLITS
from .architecture import TinyQwen3VL, TrainingOperations, tiny_config
from .batches import Batch, BatchAttention, attend, collate, losses_and_states
from .examples import Course, Example, corpus, make_example
from .patch_embedding import whiten_stem
from .precision import bfloat16_is_faster
from .schedule import Stage, default_stages
from .text_targets import change_loss, make_heads
from .vision_targets import OUTPUTS, CellBatch, CellCourse, cell_batches, cell_loss
from .vocabulary import learn_vocabulary, tokenizer_of

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
EXAMPLES_A_STEP = 1024
"""Seeds set aside for each step, so that its examples do not depend on the batches before."""

STEM_STEP = 1 << 20
"""The step, never reached, whose seeds the patch stem starts from."""

ROWS_AT_ONCE = 8
"""Rows that are read together; a step's rows are sorted by length first, so that little is padded."""

CHANGES = 0.3
"""What the sum of the errors about changes weighs beside the answers' mean loss."""

SAVE_EVERY = 300
"""Seconds between checkpoints."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """Everything that the trained weights depend on.

    The learning rates rise over ``warmup`` steps at the beginning, and again after each stage in which they fall or
    that moves something else.

    Attributes:
        size: see ``tiny.WIDTHS``.
        rate: learning rate of AdamW (arXiv 1711.05101), which moves whatever Muon does not.
        matrix_rate: that of the matrices of the layers, which Muon moves (kellerjordan.github.io/posts/muon).
        decay: weight decay of matrices.
        vocabulary: tokens, learned from the texts of ``corpus_clips`` clips.
        stem_clips: clips whose pictures the patch stem starts from (:mod:`.stem`).
    """

    size: str = "mini"
    rate: float = 1e-3
    matrix_rate: float = 0.02
    warmup: int = 50
    decay: float = 0.05
    seed: int = 0
    vocabulary: int = 640
    corpus_clips: int = 800
    stem_clips: int = 80
    stages: tuple[Stage, ...] = field(default_factory=default_stages)

    @property
    def steps(self) -> int:
        """Optimiser steps from beginning to end."""
        return sum(stage.steps for stage in self.stages)

    @property
    def steps_alone(self) -> int:
        """Those that move the vision tower alone."""
        return sum(stage.steps for stage in self.stages if isinstance(stage.course, CellCourse))

    def stage_at(self, step: int) -> Stage:
        """The stage that a step belongs to; the last one's for steps beyond."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]

    def pace_at(self, step: int) -> float:
        """What both learning rates are multiplied with at a step, at most 1."""
        start = risen = 0
        for before, stage in zip((None, *self.stages), self.stages, strict=False):
            if before and (
                before.fall or isinstance(before.course, CellCourse) != isinstance(stage.course, CellCourse)
            ):
                risen = start
            if step < start + stage.steps:
                break
            start += stage.steps
        left = start + stage.steps - step
        return min(1.0, (step - risen + 1) / self.warmup, left / stage.fall if stage.fall else 1.0)

    def seeds_at(self, step: int) -> range:
        """The seeds that are set aside for a step, of which it takes the first that give it rows."""
        first = SPLITS["train"][0] + (self.seed << 32) + step * EXAMPLES_A_STEP
        return range(first, first + EXAMPLES_A_STEP)

    def fingerprint(self) -> str:
        """The plan as JSON text, by which a checkpoint knows it again."""
        values = asdict(self)
        for stage in values["stages"]:
            sizes = stage["course"].pop("sizes")
            stage["course"]["sizes"] = [[*size, weight] for size, weight in sizes.items()]
        return json.dumps(values, sort_keys=True)


@dataclass(slots=True)
class Training:
    """A model in training and what it is trained with.

    ``tokenizer_metadata`` as GGUF stores it. ``heads`` are no part of the model: ``tower`` reads from the tower's
    tokens what their cells show, the others from the text model's hidden states what changes (:mod:`.changes`).
    """

    plan: TrainingPlan
    model: TinyQwen3VL
    heads: torch.nn.ModuleDict
    attention: BatchAttention
    optimizers: tuple[torch.optim.Optimizer, ...]
    tokenizer_metadata: dict
    tokenizer: object
    step: int = 0

    @classmethod
    def begin(cls, plan: TrainingPlan, device="cpu", tokenizer_metadata: dict | None = None) -> "Training":
        """A new model of the plan's seed, with stem and tokenizer made from its clips.

        Where a tokenizer is given, the weights are about to be replaced, and the stem stays as drawn.
        """
        metadata = tokenizer_metadata or learn_vocabulary(corpus(plan.corpus_clips), plan.vocabulary)
        tokenizer = tokenizer_of(metadata)
        attention = BatchAttention()
        model = TinyQwen3VL(tiny_config(plan.size, tokenizer.size), plan.seed, attention, attend)
        if tokenizer_metadata is None:
            first = plan.seeds_at(STEM_STEP)[0]
            examples = [make_example(first + number, Course()) for number in range(plan.stem_clips)]
            whiten_stem(model.vision.patch_embedding, examples, model.config.vision)
        heads = make_heads(model.config.text.hidden_size)
        heads["tower"] = TrainingOperations.Linear(model.config.vision.output_size, OUTPUTS)
        for parameter in heads.parameters():
            torch.nn.init.zeros_(parameter)
        training = cls(plan, model.to(device), heads.to(device), attention, (), metadata, tokenizer)
        training.optimizers = _optimizers(training.modules, plan)
        return training

    @property
    def modules(self) -> torch.nn.ModuleDict:
        """Everything with weights that training moves."""
        return torch.nn.ModuleDict({"model": self.model, "heads": self.heads})

    def advance(self, batches: Sequence[Batch] | Sequence[CellBatch]) -> float:
        """One step on ``batches``; returns their mean loss, every question, or every cell, weighing the same."""
        pace = self.plan.pace_at(self.step)
        tower = self.plan.stage_at(self.step).tower
        self.model.vision.requires_grad_(tower > 0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * pace * (tower if group["tower"] else 1.0)
        device = next(self.model.parameters()).device
        total = sum(batch.count for batch in batches)
        mean = 0.0
        # One context for all batches: it keeps the weights that it has cast.
        with torch.amp.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16_is_faster(device.type)):
            for batch in batches:
                batch = batch.to(device)
                loss = self._loss(batch) * (batch.count / total)
                loss.backward()
                mean += loss.item()
        torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return mean

    def _loss(self, batch: Batch | CellBatch) -> torch.Tensor:
        if isinstance(batch, CellBatch):
            return cell_loss(self.model.vision, self.heads["tower"], batch)
        losses, *states = losses_and_states(self.model, self.attention, batch)
        answers = (losses * batch.weights).sum() / batch.count
        return answers + CHANGES * change_loss(self.heads, *states, batch)

    def save(self, path: Path) -> None:
        """Write weights, the optimiser's state and the plan to ``path``, whole or not at all."""
        tensors = {}
        for name, parameter in self.modules.named_parameters():
            tensors[name] = parameter.detach().contiguous()
            for key, value in self._optimizer_of(parameter).state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value.contiguous()
        state = {
            "plan": self.plan.fingerprint(),
            "step": str(self.step),
            "tokenizer": json.dumps(self.tokenizer_metadata),
        }
        with writing(path) as partial:
            save_file(tensors, partial, metadata=state)

    @classmethod
    def resume(cls, path: Path, plan: TrainingPlan, device="cpu") -> "Training":
        """Go on from ``path``; raises InputError where it is no checkpoint of ``plan``."""
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                state = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is not a checkpoint that can be read: {error}") from None
        if state.get("plan") != plan.fingerprint():
            raise InputError(f"{path} was begun with another plan; give the same options as then, or another folder")
        training = cls.begin(plan, device, json.loads(state["tokenizer"]))
        training.step = int(state["step"])
        with torch.no_grad():
            for name, parameter in training.modules.named_parameters():
                parameter.copy_(tensors[name])
                kept = {
                    key.split(".", 2)[1]: value.cpu() if key.startswith("optimizer.step.") else value
                    for key, value in tensors.items()
                    if key.startswith("optimizer.") and key.split(".", 2)[2] == name
                }
                if kept:
                    training._optimizer_of(parameter).state[parameter] = kept
        return training

    def _optimizer_of(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        return next(
            optimizer
            for optimizer in self.optimizers
            if any(parameter is own for group in optimizer.param_groups for own in group["params"])
        )


def _optimizers(modules: torch.nn.ModuleDict, plan: TrainingPlan) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the layers' matrices; AdamW for stem, tables, mergers (too wide for Muon to be cheap) and vectors."""
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"torch is {torch.__version__}; training needs 2.9 or newer, which has the Muon optimiser")
    groups = {}
    for name, parameter in modules.named_parameters():
        in_layer = ".layers." in name or ".blocks." in name
        kind = "vector" if parameter.dim() == 1 else "layer" if in_layer else "other"
        groups.setdefault((kind, name.startswith("model.vision.")), []).append(parameter)
    groups = [
        (kind, {"params": parameters, "tower": tower, "weight_decay": 0.0 if kind == "vector" else plan.decay})
        for (kind, tower), parameters in groups.items()
    ]
    return (
        torch.optim.Muon([group for kind, group in groups if kind == "layer"], lr=plan.matrix_rate),
        torch.optim.AdamW(
            [group for kind, group in groups if kind != "layer"], lr=plan.rate, betas=(0.9, 0.98), eps=1e-8
        ),
    )


def batches_of(examples: list[Example], tokenizer) -> list[Batch]:
    """Batches of at most ``ROWS_AT_ONCE`` rows of similar length."""
    ordered = sorted(examples, key=lambda example: (sum(p.rows * p.columns + 9 for p in example.parts), example.seed))
    return [collate(ordered[start : start + ROWS_AT_ONCE], tokenizer) for start in range(0, len(ordered), ROWS_AT_ONCE)]


def train(
    folder: str | os.PathLike,
    plan: TrainingPlan,
    *,
    minutes: float | None = None,
    resume: bool = False,
    device="cpu",
    workers: int = 0,
    progress: Progress = no_progress,
) -> Training:
    """Train in ``folder`` until the plan is fulfilled or ``minutes`` are over, and leave a checkpoint and a log there.

    Args:
        resume: go on from the folder's checkpoint; without it, a folder that has one is refused.
        workers: processes that render examples; 0 renders between the steps. The result does not depend on it.
        progress: told steps. Cancelling leaves a checkpoint of the last whole step.
    """
    folder = Path(folder)
    path = folder / CHECKPOINT
    if path.exists() and not resume:
        raise InputError(f"{path} exists; resume it, or give another folder")
    if resume and not path.exists():
        raise InputError(f"{path} does not exist; there is nothing to resume")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made a folder: {error.strerror}") from None
    began = saved = time.monotonic()
    training = Training.resume(path, plan, device) if resume else Training.begin(plan, device)
    try:
        with contextlib.closing(_lessons(training, workers)) as lessons:
            for batches in lessons:
                progress(training.step, plan.steps)
                started = time.monotonic()
                loss = training.advance(batches)
                _log(folder / LOG, training.step, loss, time.monotonic() - started)
                if time.monotonic() - saved > SAVE_EVERY:
                    training.save(path)
                    saved = time.monotonic()
                if minutes is not None and time.monotonic() - began > 60 * minutes:
                    break
    finally:
        training.save(path)
    progress(training.step, plan.steps)
    return training


def _lessons(training: Training, workers: int) -> Iterator[list[Batch] | list[CellBatch]]:
    """The batches of each step from the training's own on, in order."""
    plan, first = training.plan, training.step
    if not workers:
        for step in range(first, plan.steps):
            yield lesson(plan, step, training.tokenizer)
        return
    # Forking a process in which torch has started its threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (training.tokenizer_metadata,)) as pool:
        waiting = []
        ahead = 2 * workers
        try:
            for step in range(first, plan.steps + ahead):
                if step < plan.steps:
                    waiting.append(pool.submit(_lesson_of_worker, plan, step))
                if step >= first + ahead:
                    yield waiting.pop(0).result()
        finally:
            for future in waiting:
                future.cancel()


def lesson(plan: TrainingPlan, step: int, tokenizer) -> list[Batch] | list[CellBatch]:
    """The batches of a step."""
    stage, seeds = plan.stage_at(step), plan.seeds_at(step)
    if isinstance(stage.course, CellCourse):
        return cell_batches(seeds[: stage.rows], stage.course)
    # A clip of which nothing can be asked that the course asks would only be in the way.
    asked = (example for example in (make_example(seed, stage.course) for seed in seeds) if example.questions)
    return batches_of(list(itertools.islice(asked, stage.rows)), tokenizer)


def _start_worker(tokenizer_metadata: dict) -> None:
    global _worker_tokenizer
    _worker_tokenizer = tokenizer_of(tokenizer_metadata)
    torch.set_num_threads(1)


def _lesson_of_worker(plan: TrainingPlan, step: int) -> list[Batch] | list[CellBatch]:
    return lesson(plan, step, _worker_tokenizer)


def _log(path: Path, step: int, loss: float, seconds: float) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "loss": round(loss, 5), "seconds": round(seconds, 3)}) + "\n")


def shortened(plan: TrainingPlan, steps: int) -> TrainingPlan:
    """The same plan over so many steps in all, each stage and the warm-up in proportion."""
    if steps < 1:
        raise InputError(f"training takes 1 step or more, not {steps}")
    if steps == plan.steps:
        return plan
    share = steps / plan.steps
    ends = [0]
    for stage in plan.stages:
        ends.append(ends[-1] + stage.steps)
    ends = [round(end * share) for end in ends]
    stages = tuple(
        replace(stage, steps=stop - start, fall=round(stage.fall * share))
        for stage, start, stop in zip(plan.stages, ends[:-1], ends[1:], strict=True)
    )
    return replace(plan, stages=stages, warmup=max(1, round(plan.warmup * steps / plan.steps)))
