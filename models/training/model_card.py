"""The model card: what the weights were trained on, how, and what they can and cannot do, from what was measured."""

import textwrap

from ..synthetic.scenes import COLOURS, HELD_OUT, PATTERNS, SHAPES
from .trainer import Training
from .vision_targets import CellCourse

TEMPLATE = """# {name}

A Qwen3-VL of {parameters:,} parameters, trained from scratch by `codeclens train-tiny` on clips that CodecLens renders
itself. It shows what the program does and lets its modes be compared on a model that answers from what it sees; it is
not a general vision model.

## Training

* Architecture: Qwen3-VL (3-D patch stem, DeepStack, interleaved M-RoPE, QK-norm, 2x2 merger). Text model: {text_layers}
  layers, width {text_width}. Vision tower: {vision_layers} layers, width {vision_width}. {vocabulary} tokens of
  byte-level BPE, learned from the clips' own captions and questions.
* Data: seeds of the training split of `codeclens synth`; {clips:,} clips seen, each once; no other data.
* Start: the patch stem from the principal components of rendered patches, half whitened; the position table from waves;
  everything else from noise of seed {seed}.
* Steps: {step} of {steps}; {alone} of these move the vision tower alone, which is told what stands in each token's cell
  (figures and ground, where, how bright, and how they move), the others move {moved} by the language loss on
  answers and by what it is told: halfway through its layers what has changed since the picture before; before the last
  two when the events are that a question names, and before the last which of two comes first and which an answer names.
  Muon ({matrix_rate:g}) for the layers' matrices, AdamW ({rate:g}) for the rest, with warm-up and a linear fall. Same
  plan, machine and number of threads: same weights.
* Last losses (mean over {last} steps): {loss:.4f}.

## Measured

Answers chosen by likelihood among the choices, on {checked} clips of the {split} split as native frame pairs (`rgb`):

| kind | right | asked | a guesser |
|---|---|---|---|
{rows}

{warning}Learned well (nine of ten or better): {well}.
Not learned (within a tenth of a guesser): {not_learned}.
Asked too seldom to tell (fewer than {enough} times): {seldom}.

## What it was shown

{shown}

## What it was never shown

Anything else: photographs, people, text, languages other than the English of its few hundred words. Asked about these
it answers with something that it was shown.
"""
ENOUGH = 20
"""Answers from which a kind of question is said to be learned, or not."""

UNFINISHED = "**The training was not finished when this was exported.**\n\n"


def model_card(name: str, training: Training, measured: dict, losses: list[float], clips: int, split: str) -> str:
    """Markdown from a training and its accuracy (see ``scoring.accuracy``) on ``clips`` clips of ``split``."""
    plan, config = training.plan, training.model.config
    by_language = [stage for stage in plan.stages if not isinstance(stage.course, CellCourse)]
    kinds = [kind for kind in measured if kind != "all"]
    told = [kind for kind in kinds if measured[kind][1] >= ENOUGH]
    rows = [
        f"| {kind} | {100 * measured[kind][0] / measured[kind][1]:.1f} % | {measured[kind][1]} | "
        f"{100 * measured[kind][2] / measured[kind][1]:.1f} % |"
        for kind in [*kinds, *(["all"] if "all" in measured else [])]
    ]
    return TEMPLATE.format(
        name=name,
        parameters=training.model.parameter_count,
        text_layers=config.text.layers,
        text_width=config.text.hidden_size,
        vision_layers=config.vision.layers,
        vision_width=config.vision.hidden_size,
        vocabulary=config.text.vocabulary,
        clips=sum(plan.stage_at(step).rows for step in range(training.step)),
        step=training.step,
        steps=plan.steps,
        alone=plan.steps_alone,
        moved="everything" if any(stage.tower for stage in by_language) else "the text model alone",
        rate=plan.rate,
        matrix_rate=plan.matrix_rate,
        seed=plan.seed,
        last=len(losses),
        loss=sum(losses) / max(1, len(losses)),
        checked=clips,
        split=split,
        rows="\n".join(rows),
        warning=UNFINISHED if training.step < plan.steps else "",
        well=_listed(kind for kind in told if measured[kind][0] >= 0.9 * measured[kind][1]),
        not_learned=_listed(kind for kind in told if measured[kind][0] - measured[kind][2] < 0.1 * measured[kind][1]),
        enough=ENOUGH,
        seldom=_listed(kind for kind in kinds if kind not in told),
        shown=textwrap.fill(_shown(), 120),
    )


def _listed(kinds) -> str:
    return ", ".join(kinds) or "nothing"


def _shown() -> str:
    held_out = ", ".join(sorted(" ".join(pair) for pair in HELD_OUT))
    return (
        f"Figures ({', '.join(SHAPES)}) in {', '.join(COLOURS)}, {', '.join(PATTERNS)}; what they do, where, when and"
        " in what order; camera movements; cuts and fades; flicker, freezes, repeated frames, vanishing, morphing and"
        " jittering objects. The table says how much of it was learned. Pairs of colour and shape kept out of training:"
        f" {held_out}."
    )
