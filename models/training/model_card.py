"""The model card: the training of the weights, and what they were measured to answer."""

from ..synthetic.scenes import HELD_OUT
from .trainer import Training

TEMPLATE = """# {name}

A Qwen3-VL of {parameters:,} parameters, trained from scratch by `codeclens train-tiny` on clips that CodecLens renders
itself. It knows nothing else: no photographs, no people, no text, no words beyond the few hundred of its questions.

## Training

{unfinished}{step} of {steps} steps on {clips:,} rendered clips of the training split, each seen once; no other data.
Muon ({matrix_lr:g}) for the matrices of the layers, AdamW ({lr:g}) for the rest, seed {seed}. Mean losses of the last
{last} steps: {losses}. Pairs of colour and shape kept out of training: {held_out}.

| stage | steps | clips a step | trained |
|---|---|---|---|
{stages}

## Measured

The likeliest of the choices, on {checked} clips of the {split} split as native frame pairs (`rgb`):

| kind | right | asked | a guesser |
|---|---|---|---|
{rows}
"""


def model_card(
    name: str, training: Training, measured: dict, losses: list[dict[str, float]], clips: int, split: str
) -> str:
    """Markdown from a training, its last losses and its accuracy (:func:`.validation.accuracy`) on ``clips`` clips."""
    config = training.config
    means = {key: sum(row[key] for row in losses) / len(losses) for key in (losses[0] if losses else ())}
    stages, clips_seen = [], 0
    for index, stage in enumerate(config.stages):
        start, stop = config.bounds(index)
        clips_seen += stage.rows * max(0, min(stop, training.step) - start)
        trained = [half for half, lr in (("vision", stage.vision), ("text", stage.text)) if lr]
        stages.append(f"| {stage.name} | {stop - start} | {stage.rows} | {' and '.join(trained)} |")
    return TEMPLATE.format(
        name=name,
        parameters=training.model.parameter_count,
        unfinished="**The training was not finished when this was exported.** " * (training.step < config.steps),
        step=training.step,
        steps=config.steps,
        clips=clips_seen,
        matrix_lr=config.matrix_lr,
        lr=config.lr,
        seed=config.seed,
        last=len(losses),
        losses=", ".join(f"{key} {mean:.3f}" for key, mean in means.items()) or "none",
        held_out=", ".join(sorted(" ".join(pair) for pair in HELD_OUT)),
        stages="\n".join(stages),
        checked=clips,
        split=split,
        rows="\n".join(
            _row(kind, *measured[kind]) for kind in sorted(measured, key=lambda kind: (kind == "all", kind))
        ),
    )


def _row(kind: str, right: int, asked: int, chance: float) -> str:
    return f"| {kind} | {100 * right / asked:.1f} % | {asked} | {100 * chance / asked:.1f} % |"
