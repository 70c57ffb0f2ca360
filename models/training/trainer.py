"""Training the tiny model from scratch on rendered clips.

Examples, initial weights and learning rates follow from the config alone, and a checkpoint holds all that a step
changes. So a run that was stopped and resumed gives the weights of one that was not, bit for bit on the CPU with one
number of threads.
"""

import itertools
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.utils.data
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..errors import InputError
from ..files import append_row, make_folder, writing
from ..progress import Progress, no_progress
from ..qwen.loading import load_qwen3vl
from .architecture import TinyQwen3VL, tiny_config, whiten_patch_embedding
from .batches import Batch, BatchAttention, attend, collate, forward
from .checkpoints import LOG, checkpoint_path, deadline_after, run_steps
from .examples import Example, Mixture, corpus, make_example
from .precision import bfloat16_is_faster
from .schedule import TrainingConfig
from .targets import make_heads, target_loss
from .vocabulary import learn_vocabulary, tokenizer_metadata, tokenizer_of

WHITENING_STEP = 1 << 20
"""The step, never reached, whose seeds the patch embedding starts from."""

ROWS_A_BATCH, PAIRS_A_BATCH = 8, 2 << 20
"""Most rows that are read together, and most pairs of tokens in them, which decide the memory."""


@dataclass(slots=True)
class Training:
    """A model in training; ``heads`` predict the auxiliary targets, ``metadata`` is the tokenizer as GGUF stores it."""

    config: TrainingConfig
    model: TinyQwen3VL
    heads: torch.nn.ModuleDict
    attention: BatchAttention
    optimizers: tuple[torch.optim.Optimizer, ...]
    metadata: dict
    tokenizer: object
    step: int = 0

    @classmethod
    def begin(cls, config: TrainingConfig, device="cpu", metadata: dict | None = None) -> "Training":
        """A new model of the config's seed; with the ``metadata`` of a checkpoint, whose weights are loaded next."""
        resumed = metadata is not None
        started = load_qwen3vl(config.start, operations=torch.nn) if config.start and not resumed else None
        metadata = metadata or (tokenizer_metadata(started) if started else None)
        metadata = metadata or learn_vocabulary(corpus(config.vocabulary_clips), config.vocabulary)
        tokenizer = tokenizer_of(metadata)
        attention = BatchAttention()
        model = TinyQwen3VL(tiny_config(config.size, tokenizer.size), config.seed, attention, attend)
        if started:
            _copy_weights(started, model, config)
        elif not resumed and config.whitening_clips:
            seeds = config.seeds(WHITENING_STEP)[: config.whitening_clips]
            examples = [make_example(seed, Mixture(questions=0)) for seed in seeds]
            pictures = [picture for example in examples for picture in example.pictures]
            whiten_patch_embedding(model.vision.patch_embedding, pictures, model.config.vision)
        heads = make_heads(model.config.vision.output_size, model.config.text.hidden_size).to(device)
        training = cls(config, model.to(device), heads, attention, (), metadata, tokenizer)
        training.optimizers = _optimizers(training.modules, config)
        return training

    @property
    def modules(self) -> torch.nn.ModuleDict:
        """Everything with weights."""
        return torch.nn.ModuleDict({"model": self.model, "heads": self.heads})

    def advance(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One optimiser step; returns the mean losses of "answers" and "targets", every question weighing the same.

        Raises:
            InputError: the loss or its gradient is not finite; the weights are as before.
        """
        stage = self.config.stages[self.config.stage_of(self.step)]
        factor = self.config.lr_factor(self.step)
        # 1. Freeze what the stage freezes, and set the learning rates.
        self.model.vision.requires_grad_(stage.vision > 0)
        self.model.text.requires_grad_(stage.text > 0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = optimizer.defaults["lr"] * factor * (stage.vision if group["vision"] else stage.text)
        # 2. Accumulate the gradient over the batches. One autocast context keeps the weights that it has cast.
        device = next(self.model.parameters()).device
        total, means = sum(batch.count for batch in batches), {"answers": 0.0, "targets": 0.0}
        with torch.amp.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16_is_faster(device.type)):
            for batch in batches:
                losses = self._losses(batch.to(device), stage)
                (sum(losses.values()) * (batch.count / total)).backward()
                for name, loss in losses.items():
                    means[name] += loss.item() * batch.count / total
        # 3. Clip the gradient and step.
        norm = torch.nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0).item()
        if not math.isfinite(sum(means.values()) + norm):
            raise InputError(
                f"training stopped at step {self.step}: the loss is {sum(means.values()):g} and its gradient {norm:g}; "
                "begin again with another seed or a lower learning rate"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return means

    def _losses(self, batch: Batch, stage) -> dict[str, torch.Tensor]:
        losses, states = forward(self.model, self.attention, batch, text=stage.text > 0)
        if not stage.vision:
            states.pop("vision")
        answers = (losses * batch.weights).sum() / batch.count
        targets = sum(target_loss(site, self.heads[site](read), batch.sites[site][1]) for site, read in states.items())
        return {"answers": answers, "targets": stage.targets * targets}

    def save(self, path: Path) -> None:
        """Write weights, the optimisers' state and the config to ``path``, whole or not at all."""
        tensors = {}
        for name, parameter in self.modules.named_parameters():
            tensors[name] = parameter.detach().contiguous()
            for key, value in self._optimizer_of(parameter).state.get(parameter, {}).items():
                tensors[f"optimizer.{key}.{name}"] = value.contiguous()
        state = {"config": self.config.fingerprint(), "step": str(self.step), "tokenizer": json.dumps(self.metadata)}
        with writing(path) as partial:
            save_file(tensors, partial, metadata=state)

    @classmethod
    def resume(cls, path: Path, config: TrainingConfig, device="cpu") -> "Training":
        """The training that ``path`` holds; raises InputError where it is no checkpoint of ``config``."""
        try:
            with safe_open(path, "pt", device=str(device)) as file:
                state = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is no checkpoint that can be read: {error}") from None
        if state.get("config") != config.fingerprint():
            raise InputError(f"{path} has another config; give the options it was begun with, or another folder")
        training = cls.begin(config, device, json.loads(state["tokenizer"]))
        training.step = int(state["step"])
        parameters = dict(training.modules.named_parameters())
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, key, name = name.split(".", 2)
                state = training._optimizer_of(parameters[name]).state.setdefault(parameters[name], {})
                state[key] = value.cpu() if key == "step" else value
        return training

    def _optimizer_of(self, parameter: torch.nn.Parameter) -> torch.optim.Optimizer:
        return next(
            optimizer
            for optimizer in self.optimizers
            if any(parameter is own for group in optimizer.param_groups for own in group["params"])
        )


def _copy_weights(started, model: TinyQwen3VL, config: TrainingConfig) -> None:
    """Load the weights of a GGUF pair; raises InputError where it has other widths."""
    try:
        model.text.load_state_dict(started.text.state_dict())
        model.vision.load_state_dict(started.vision.state_dict())
    except RuntimeError:
        raise InputError(f"{config.start} has other layers or widths than size {config.size!r}") from None


def _optimizers(modules: torch.nn.ModuleDict, config: TrainingConfig) -> tuple[torch.optim.Optimizer, ...]:
    """Muon (kellerjordan.github.io/posts/muon) for the matrices of the layers, AdamW (arXiv 1711.05101) for all else.

    The mergers' matrices are too wide for Muon to be cheap.
    """
    if not hasattr(torch.optim, "Muon"):
        raise InputError(f"torch is {torch.__version__}; training needs 2.9 or newer, for its Muon optimiser")
    groups = {}
    for name, parameter in modules.named_parameters():
        in_layer = ".layers." in name or ".blocks." in name
        kind = "vector" if parameter.dim() == 1 else "layer" if in_layer else "other"
        groups.setdefault((kind, name.startswith(("model.vision.", "heads.vision."))), []).append(parameter)
    layers, others = [], []
    for (kind, vision), parameters in groups.items():
        decay = 0.0 if kind == "vector" else config.weight_decay
        group = {"params": parameters, "vision": vision, "weight_decay": decay}
        (layers if kind == "layer" else others).append(group)
    return (
        torch.optim.Muon(layers, lr=config.matrix_lr),
        torch.optim.AdamW(others, lr=config.lr, betas=(0.9, 0.98), eps=1e-8),
    )


def train(
    folder: str | os.PathLike,
    config: TrainingConfig,
    *,
    minutes: float | None = None,
    resume: bool = False,
    device="cpu",
    workers: int = 0,
    progress: Progress = no_progress,
) -> Training:
    """Train in ``folder`` to the last step or for ``minutes``, and leave a checkpoint and a log there.

    Args:
        resume: continue from the folder's checkpoint; without it, a folder that has one is refused.
        workers: processes that render examples; 0 renders between the steps. The result does not depend on it.
        progress: called with steps. Cancelling leaves a checkpoint of the last whole step.

    Raises:
        InputError: the folder or its checkpoint do not fit, or the loss is not finite.
    """
    # 1. The checkpoint.
    folder, deadline = Path(folder), deadline_after(minutes)
    path = checkpoint_path(folder, resume)
    # 2. The model, and a folder for it.
    training = Training.resume(path, config, device) if resume else Training.begin(config, device)
    make_folder(folder)
    # 3. The steps. Forking a process in which torch has started its threads may hang, so workers are spawned.
    loader = torch.utils.data.DataLoader(
        StepBatches(config, training.metadata), batch_size=None, sampler=range(training.step, config.steps),
        num_workers=workers, multiprocessing_context="spawn" if workers else None,
    )  # fmt: skip
    batches = iter(loader)

    def advance():
        batch = next(batches)
        started = time.monotonic()
        losses = training.advance(batch)
        _log(folder / LOG, config, training.step, losses, time.monotonic() - started)

    run_steps(training, config.steps, advance, path, deadline, progress)
    return training


class StepBatches(torch.utils.data.Dataset):
    """The batches of every step of a config, rendered when they are asked for."""

    def __init__(self, config: TrainingConfig, metadata: dict):
        self.config, self.metadata = config, metadata
        self.tokenizer = None

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> list[Batch]:
        # The tokenizer is made in the process that needs it.
        self.tokenizer = self.tokenizer or tokenizer_of(self.metadata)
        stage = self.config.stages[self.config.stage_of(step)]
        examples = filter(None, (make_example(seed, stage.mixture) for seed in self.config.seeds(step)))
        return batches_of(list(itertools.islice(examples, stage.rows)), self.tokenizer)


def batches_of(examples: list[Example], tokenizer) -> list[Batch]:
    """Batches of rows of similar length, so that little is padding."""
    batches: list[list[Example]] = []
    for example in sorted(examples, key=lambda example: (_length(example), example.seed)):
        rows = 1 + len(batches[-1]) if batches else 0
        if not rows or rows > ROWS_A_BATCH or rows * _length(example) ** 2 > PAIRS_A_BATCH:
            batches.append([])
        batches[-1].append(example)
    return [collate(batch, tokenizer) for batch in batches]


def _length(example: Example) -> int:
    """Tokens of an example's row, about: a stamp and two markers for each picture, 32 for each question."""
    return sum(part.tokens + 9 for part in example.parts) + 32 * len(example.questions)


def _log(path: Path, config: TrainingConfig, step: int, losses: dict[str, float], seconds: float) -> None:
    row = {name: round(loss, 5) for name, loss in losses.items()}
    row |= {"lr": round(config.lr * config.lr_factor(step - 1), 8), "seconds": round(seconds, 3)}
    stage = config.stages[config.stage_of(step - 1)].name
    append_row(path, {"step": step, "stage": stage, **row})
