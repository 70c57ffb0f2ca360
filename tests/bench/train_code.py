"""Training a learned code for the published sizes: memory, and seconds a step.

    python tests/bench/train_code.py [--side 256] [--frames 2]

Measured with a 2B model of random weights (tower F16, language model Q4_K_M) as far as this machine holds it: one
stretch of clips a step, one step of each stage for each mode, processor seconds of one thread. For 4B and 8B the same
is computed: weights and optimiser from the shapes, seconds by the multiplications that a step takes.
"""

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from codeclens.models.code.learned.delta_encoder import DeltaEncoder
from codeclens.models.code.learned.p_tokenizer import PTokenizer
from codeclens.models.qwen.config import VisionConfig
from codeclens.models.qwen.placement import load_placed
from codeclens.models.training.learned.alignment import Predictor
from codeclens.models.training.learned.clips import Sample
from codeclens.models.training.learned.trainer import ALIGN, ANSWER, LearnedConfig, LearnedTraining
from support.gguf_files import SHAPES, Shape, write_pair
from support.machine import describe_machine

NETWORKS = {"ptoken": PTokenizer, "delta": DeltaEncoder}
OPTIMIZED = 16
"""Bytes of a trained float32 weight: itself, its gradient and AdamW's two moments."""


class Noise:
    """Stretches of noise that moves."""

    def __init__(self, side: int):
        self.side, self.warnings = side, []

    def draw(self, draw: random.Random, count: int) -> Sample:
        wide = np.random.default_rng(0).integers(0, 256, (self.side, self.side + 8 * count, 3), np.uint8)
        rgb = np.stack([wide[:, 8 * number : 8 * number + self.side] for number in range(count)])
        return Sample(rgb, np.arange(count) / 2, (("What moves?", "The picture moves to the left."),))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--frames", type=int, default=2)
    options = parser.parse_args()
    print(describe_machine())
    print(f"pictures of {options.side} x {options.side}, stretches of {options.frames} frames, 1 a step")
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        model = load_placed(*write_pair(Path(folder), SHAPES["2B"], "Q4_K_M"), "cpu")
        for mode in NETWORKS:
            for stage in (ALIGN, ANSWER):
                seconds[mode, stage] = measured(model, mode, stage, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"2B: peak memory of all four together {peak:.0f} MiB, measured; the model's files are mapped")
    for size in ("2B", "4B", "8B"):
        computed(size, SHAPES[size], options, seconds)


def measured(model, mode: str, stage: str, options) -> float:
    """Processor seconds of a step."""
    steps = {"align_steps": 1, "answer_steps": 0} if stage == ALIGN else {"align_steps": 0, "answer_steps": 1}
    config = LearnedConfig(mode, side=options.side, frames=options.frames, rows=1, **steps)
    training = LearnedTraining.begin(config, model)
    training.code.network.checkpointed = True
    began = time.process_time()
    loss = training.advance(Noise(options.side))
    spent = time.process_time() - began
    print(f"2B, {mode}, {stage}: {spent:.1f} processor seconds a step, measured (loss {loss:.3f})", flush=True)
    return spent


def computed(size: str, shape: Shape, options, seconds: dict) -> None:
    """Print what follows from a shape: trained weights, memory, and seconds by the work of a step."""
    vision = VisionConfig(
        shape.vision_layers, shape.vision_hidden, shape.vision_intermediate, shape.vision_heads, 16, 2, shape.grid_side,
        shape.hidden, shape.deepstack, (0.5,) * 3, (0.5,) * 3, 1e-6,
    )  # fmt: skip
    values = (1 + len(shape.deepstack)) * shape.hidden
    patches = options.side**2 // 256
    for mode, network in NETWORKS.items():
        own = count(network(vision))
        helpers = sum(
            count(Predictor(values, vision.hidden_size, vision.heads, layers))
            for layers in ([4] if mode == "ptoken" else [2, 2])
        )
        states = patches * options.frames * vision.hidden_size * 4 * (vision.layers if mode == "ptoken" else 1)
        widest = patches * options.frames * 4 * (4 * vision.hidden_size + 2 * vision.intermediate_size)
        memory = OPTIMIZED * (own + helpers) + states + widest
        words = (
            f"{own / 1e6:.1f} M weights and {helpers / 1e6:.1f} M of helpers, {memory / 2**30:.2f} GiB beside the model"
        )
        if size != "2B":
            factor = work(shape) / work(SHAPES["2B"])
            guess = {stage: seconds[mode, stage] * factor for stage in (ALIGN, ANSWER)}
            words += f", {guess[ALIGN]:.0f} and {guess[ANSWER]:.0f} processor seconds a step"
        print(f"{size}, {mode}: {words}, computed")


def work(shape: Shape) -> float:
    """Multiplications of a patch in the tower and of a token in the language model, both together."""
    tower = shape.vision_layers * (4 * shape.vision_hidden**2 + 2 * shape.vision_hidden * shape.vision_intermediate)
    key = shape.kv_heads * shape.head_dim
    attention = 2 * shape.hidden * (shape.heads * shape.head_dim + key)
    return 4 * tower + shape.layers * (attention + 3 * shape.hidden * shape.intermediate)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


if __name__ == "__main__":
    main()
