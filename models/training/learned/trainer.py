"""Training a learned code in a folder: stages, checkpoints, a log, and the file in the end.

Samples and weights follow from the config alone and a checkpoint holds all that a step changes, so a run that was
stopped and resumed gives the weights of one that was not, bit for bit on the CPU with one number of threads.
"""

import contextlib
import json
import math
import os
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ...code.learned.changes import REFERENCES
from ...code.learned.learned_code import (
    NETWORKS,
    Header,
    LearnedCode,
    base_of,
    make_adapter,
    make_network,
    read_code,
    read_header,
    write_code,
)
from ...code.learned.p_tokenizer import PTokenizer
from ...code.modes.pictures import encode_pictures
from ...drawing.losses import draw_losses
from ...errors import InputError
from ...files import append_row, make_folder, writing
from ...progress import Progress, no_progress
from ...qwen.config import VisionConfig
from ..checkpoints import LOG, checkpoint_path, deadline_after, run_steps
from ..precision import bfloat16_is_faster
from .alignment import alignment_loss, make_predictors
from .answers import answer_loss, own_answer, plan_of, reader_for_training, segments_of

PICTURE = "losses.png"

ALIGN, ANSWER = "align", "answer"
"""The stages."""

NARROW = 512
"""Width of a tower below which the papers' networks would be larger than it."""

SMALL = {
    "ptoken": {"side": 4, "rank": 32},
    "delta": {"width": 96, "heads": 3, "layers": 2, "channels": [16, 32, 64]},
}
"""Networks for such towers; for others the papers' own are the default."""


def network_for(mode: str, vision: VisionConfig) -> dict:
    """Arguments of the network that suits a tower."""
    return dict(SMALL[mode]) if vision.hidden_size < NARROW and mode in SMALL else {}


@dataclass(frozen=True, slots=True)
class LearnedConfig:
    """Everything that the trained weights depend on, beside the model and the clips.

    Attributes:
        mode: 'ptoken' or 'delta'.
        network: arguments of the mode's network.
        side: pictures have about ``side`` x ``side`` pixels.
        fps: frames sampled a second.
        frames: most frames of a stretch.
        window: most frames fused into one set of tokens; the number is drawn for each step.
        radius: of the motion search; reference: what changes are taken against.
        align_steps, answer_steps: of the two stages.
        rows: stretches of a step; questions: most of each in the second stage.
        lr: of the first stage; answer_lr: of the second.
        motion_lr_scale: times the stage's, the learning rate of a P-tokenizer's motion kernels. They begin at zero and
            are one number for 512 weights each, so steps of an ordinary size leave them too small to matter.
        rank: of the language model's adapter; 0 for none.
        tune: train the network in the second stage as well. The papers freeze it there.
        start: a learned code to start from, none where empty: its network, and its adapter where ``rank`` and the
            language model are those that it was trained with.
    """

    mode: str = "ptoken"
    network: dict | None = None
    side: int = 512
    fps: float = 2.0
    frames: int = 9
    window: int = 1
    radius: int = 32
    reference: str = "previous"
    align_steps: int = 2000
    answer_steps: int = 500
    rows: int = 4
    questions: int = 1
    lr: float = 1e-4
    answer_lr: float = 1e-4
    motion_lr_scale: float = 64.0
    rank: int = 8
    tune: bool = False
    start: str = ""
    seed: int = 0

    def __post_init__(self):
        if self.mode not in NETWORKS:
            raise InputError(f"the mode {self.mode!r} is not learned; it must be one of {', '.join(NETWORKS)}")
        if self.reference not in REFERENCES:
            raise InputError(f"the reference is {self.reference!r}; it must be one of {', '.join(REFERENCES)}")
        if self.align_steps < 0 or self.answer_steps < 0 or not self.steps:
            raise InputError(f"training is to take {self.align_steps} and {self.answer_steps} steps; give 1 or more")
        if self.frames < 2 * self.window or self.window < 1:
            raise InputError(
                f"stretches have {self.frames} frames and windows {self.window}; give twice as many frames"
            )
        if not 0 < self.motion_lr_scale <= 4096:
            raise InputError(f"the scale of the motion kernels' rate is {self.motion_lr_scale:g}; give above 0 to 4096")
        if self.answer_steps and not self.rank and not self.tune:
            raise InputError("the second stage has nothing to train: the rank is 0 and the network is frozen")

    @property
    def steps(self) -> int:
        """Steps of both stages."""
        return self.align_steps + self.answer_steps

    def stage(self, step: int) -> str:
        """The stage that a step belongs to."""
        return ALIGN if step < self.align_steps else ANSWER

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear warm-up over 3 % of the stage, then a cosine down to a tenth."""
        first, count, most = (0, self.align_steps, self.lr)
        if self.stage(step) == ANSWER:
            first, count, most = (self.align_steps, self.answer_steps, self.answer_lr)
        at, warm = step - first, max(1, round(0.03 * count))
        falling = 0.55 + 0.45 * math.cos(math.pi * max(0, at - warm) / max(1, count - warm))
        return most * min((at + 1) / warm, falling)

    def fingerprint(self) -> str:
        """The config as JSON text, which a checkpoint carries."""
        return json.dumps(asdict(self), sort_keys=True)

    def fits(self, fingerprint: str) -> bool:
        """Whether a :meth:`fingerprint` may be this config's; settings that it lacks, as old ones do, may be any."""
        mine = json.loads(self.fingerprint())
        try:
            theirs = json.loads(fingerprint)
            return bool(theirs) and {**mine, **theirs} == mine
        except (ValueError, TypeError):
            return False


class LearnedTraining:
    """A code in training for ``model``, whose own weights stay frozen as they are stored."""

    def __init__(self, config: LearnedConfig, model, code: LearnedCode):
        self.config, self.model, self.code = config, model, code
        self.predictors = make_predictors(config.mode, model.vision, config.seed).to(model.device)
        self.step = 0
        self.optimizer, self.optimized = None, ""

    @classmethod
    def begin(cls, config: LearnedConfig, model) -> "LearnedTraining":
        """A new code of the config's seed, or the one that it starts from."""
        base = base_of(model, text=bool(config.rank and config.answer_steps))
        rank = config.rank if config.answer_steps else 0
        header = Header(
            config.mode, base, config.radius, config.side, config.window, config.reference, config.network or {}, rank,
            {"steps": [config.align_steps, config.answer_steps], "rows": config.rows, "seed": config.seed,
             "fps": config.fps, "frames": config.frames},
        )  # fmt: skip
        code = LearnedCode(header, make_network(header, model.config.vision), name=f"the {config.mode} in training")
        if config.start:
            theirs = read_header(config.start)
            continued = rank > 0 and (theirs.rank, theirs.base) == (rank, base)
            started = read_code(config.start, model, adapter=continued)
            if (theirs.mode, theirs.network) != (config.mode, header.network):
                raise InputError(f"{config.start} has another mode or network; give the options that it was made with")
            code.network.load_state_dict(started.network.state_dict())
        code.network.requires_grad_(True)
        code.network.checkpointed = model.device.type != "cpu"
        if rank:
            code.adapter = make_adapter(model.text, rank, config.seed).to(model.device)
            if config.start and continued:
                code.adapter.load_state_dict(started.adapter.state_dict())
        code.network.to(model.device)
        training = cls(config, model, code)
        if not config.start:
            training.match_scale()
        return training

    @property
    def modules(self) -> torch.nn.ModuleDict:
        """Everything that is trained."""
        found = {"network": self.code.network, "predictors": self.predictors}
        return torch.nn.ModuleDict(found if self.code.adapter is None else found | {"adapter": self.code.adapter})

    @torch.no_grad()
    def match_scale(self) -> None:
        """Let the first tokens of a delta encoder be as large as the tower's, which the language model is used to."""
        branches = [getattr(self.code.network, name, None) for name in ("motion", "residual")]
        if not all(hasattr(branch, "leave") for branch in branches):
            return
        generator = torch.Generator().manual_seed(self.config.seed)
        noise = torch.randint(0, 256, (1, 8, 8, 3), dtype=torch.uint8, generator=generator)
        picture = noise.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, None].numpy()
        tokens, deepstack = encode_pictures(self.model, picture)
        scales = torch.stack([level.float().std() for level in (tokens, *deepstack)])
        for branch in branches:
            parts = branch.leave.weight.unflatten(0, (len(scales), -1))
            # The states before it are normed, so the deviation of an output is its row's length.
            parts.mul_(scales.to(parts.device)[:, None, None] / parts.norm(dim=-1).mean(1)[:, None, None])

    def trained(self, stage: str) -> list[torch.nn.Parameter]:
        """What a stage trains."""
        if stage == ALIGN:
            return [*self.code.network.parameters(), *self.predictors.parameters()]
        chosen = list(self.code.adapter.parameters()) if self.code.adapter is not None else []
        return chosen + (list(self.code.network.parameters()) if self.config.tune else [])

    def advance(self, clips) -> float:
        """One step over samples of ``clips``; returns the loss.

        Raises:
            InputError: the loss or its gradient is not finite; the weights are as before.
        """
        config, stage = self.config, self.config.stage(self.step)
        self.prepare(stage)
        device, total = self.model.device, 0.0
        with torch.amp.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16_is_faster(device.type)):
            for row in range(config.rows):
                draw = random.Random(f"{config.seed} {self.step} {row}")
                loss = self.loss(stage, draw, clips) / config.rows
                loss.backward()
                total += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.trained(stage), 1.0).item()
        if not math.isfinite(total + norm):
            self.optimizer.zero_grad(set_to_none=True)
            raise InputError(
                f"training stopped at step {self.step}: the loss is {total:g} and its gradient {norm:g}; begin again "
                "with another seed or a lower learning rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step) * group["scale"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    def loss(self, stage: str, draw: random.Random, clips) -> torch.Tensor:
        """The loss of one sample."""
        config, code = self.config, self.code
        window = draw.randint(1, config.window)
        if stage == ALIGN:
            sample = clips.draw(draw, window * draw.randint(1, (config.frames - 1) // window) + 1)
            sampled = sample.rgb if len(sample.rgb) > window else sample.rgb[[0, -1]].repeat(window, 0)[window - 1 :]
            return alignment_loss(
                config.mode, code.network, self.predictors, self.model.vision, [sampled], config.radius, window,
                self.model.device, config.reference,
            )  # fmt: skip
        sample = clips.draw(draw, config.frames)
        asked = draw.sample(sample.questions, min(config.questions, len(sample.questions)))
        with contextlib.nullcontext() if config.tune else torch.no_grad():
            segments = segments_of(sample, plan_of(sample, draw), code, self.model, window)
        reader, losses = reader_for_training(code, self.model), []
        for question, answer in asked:
            answer = own_answer(self.model, sample, question) if answer is None else answer
            losses.append(answer_loss(reader, segments, question, answer))
        return torch.stack(losses).mean()

    def prepare(self, stage: str) -> None:
        """Make the stage's optimiser, with the papers' settings, where it is not there."""
        if self.optimized == stage:
            return
        betas, decay = ((0.9, 0.95), 0.01) if stage == ALIGN else ((0.9, 0.999), 0.0)
        for parameter in self.modules.parameters():
            parameter.requires_grad_(False)
        for parameter in self.trained(stage):
            parameter.requires_grad_(True)
        kernels = {id(self.code.network.motion)} if isinstance(self.code.network, PTokenizer) else set()
        groups = [{"params": [], "scale": 1.0}, {"params": [], "scale": self.config.motion_lr_scale}]
        for parameter in self.trained(stage):
            groups[id(parameter) in kernels]["params"].append(parameter)
        self.optimizer = torch.optim.AdamW(groups, lr=self.config.lr, betas=betas, weight_decay=decay)
        self.optimized = stage

    def save(self, path: Path) -> None:
        """Write weights, the optimiser's state and the config to ``path``, whole or not at all."""
        tensors = {name: value.detach().contiguous() for name, value in self.modules.state_dict().items()}
        if self.optimizer is not None:
            for number, parameter in enumerate(self.trained(self.optimized)):
                for key, value in self.optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{number}.{key}"] = value.contiguous()
        state = {"config": self.config.fingerprint(), "step": str(self.step), "base": json.dumps(asdict(self.base))}
        with writing(path) as partial:
            save_file(tensors, partial, metadata=state | {"stage": self.optimized})

    @property
    def base(self):
        return self.code.header.base

    @classmethod
    def resume(cls, path: Path, config: LearnedConfig, model) -> "LearnedTraining":
        """The training that ``path`` holds; raises InputError where it is no checkpoint of ``config`` and ``model``."""
        try:
            with safe_open(path, "pt", device=str(model.device)) as file:
                state = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} is no checkpoint that can be read: {error}") from None
        if not config.fits(state.get("config", "")):
            raise InputError(f"{path} has another config; give the options it was begun with, or another folder")
        training = cls.begin(config, model)
        if state.get("base") != json.dumps(asdict(training.base)):
            raise InputError(f"{path} was begun for another model; give the one it was begun with, or another folder")
        own = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
        training.modules.load_state_dict(own)
        training.step = int(state["step"])
        if state.get("stage"):
            training.prepare(state["stage"])
            parameters = training.trained(state["stage"])
            for name, value in tensors.items():
                if name.startswith("optimizer."):
                    _, number, key = name.split(".")
                    kept = training.optimizer.state.setdefault(parameters[int(number)], {})
                    kept[key] = value.cpu() if key == "step" else value
        return training


def train_code(
    folder: str | os.PathLike,
    config: LearnedConfig,
    model,
    clips,
    *,
    minutes: float | None = None,
    resume: bool = False,
    name: str = "code",
    progress: Progress = no_progress,
) -> Path:
    """Train in ``folder`` to the last step or for ``minutes``; returns the path of the learned code.

    Args:
        model: a loaded model with its tower; nothing of it is changed.
        clips: :class:`.clips.VideoClips` or :class:`.clips.RenderedClips`.
        resume: continue from the folder's checkpoint; without it, a folder that has one is refused.
        name: of the file, to which the mode is added.
        progress: called with steps. Cancelling leaves a checkpoint, the log and the code of the last whole step.

    Raises:
        InputError: the folder or its checkpoint do not fit, no clip can be read, or the loss is not finite.
    """
    folder, deadline = Path(folder), deadline_after(minutes)
    path = checkpoint_path(folder, resume)
    training = LearnedTraining.resume(path, config, model) if resume else LearnedTraining.begin(config, model)
    make_folder(folder)

    def advance():
        started, step = time.monotonic(), training.step
        loss = training.advance(clips)
        row = {"step": step, "stage": config.stage(step), "loss": round(loss, 5), "lr": round(config.rate(step), 8)}
        append_row(folder / LOG, {**row, "seconds": round(time.monotonic() - started, 3)})

    try:
        run_steps(training, config.steps, advance, path, deadline, progress)
    finally:
        written = folder / f"{name}-{config.mode}.safetensors"
        write_code(training.code, written)
        if (folder / LOG).exists():
            with writing(folder / PICTURE) as partial:
                draw_losses(read_log(folder / LOG), f"{name}: {config.mode}").save(partial, "PNG")
    return written


def read_log(path: Path) -> list[dict]:
    """The rows of a log; a step that was done again after a resumption counts once, as it was done last."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(ValueError, KeyError):
            row = json.loads(line)
            rows[row["step"]] = row
    return [rows[step] for step in sorted(rows)]
