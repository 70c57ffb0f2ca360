"""Speed of training the embedded model on this machine: clips a second of each stage, and what takes the time.

    python tests/bench/training.py [mini|small|nano] [rows]

Processor seconds of one thread, so that other work on the machine weighs little; two idle cores do nearly twice that.
"""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.training.schedule import TrainingConfig
from codeclens.models.training.trainer import StepBatches, Training
from support.machine import describe_machine


def main() -> None:
    size, rows = (sys.argv[1:] + ["mini", "24"][len(sys.argv) - 1 :])[:2]
    stages = tuple(replace(stage, fraction=1, rows=int(rows)) for stage in TrainingConfig().stages)
    config = TrainingConfig(size=size, vocabulary_clips=200, steps=len(stages), stages=stages)
    training = Training.begin(config)
    print(describe_machine())
    print(f"{size}: {training.model.parameter_count:,} parameters")
    for step, stage in enumerate(stages):
        began = time.process_time()
        batches = StepBatches(config, training.metadata)[step]
        rendered = time.process_time() - began
        began = time.process_time()
        training.advance(batches)
        spent = time.process_time() - began
        tokens, questions = (sum(counts) for counts in zip(*map(counted, batches), strict=True))
        print(
            f"{stage.name}: {stage.rows / (spent + rendered):.2f} clips a second "
            f"({1000 * spent / stage.rows:.0f} ms of training and {1000 * rendered / stage.rows:.0f} ms of rendering "
            f"a clip; {tokens / stage.rows:.0f} visual tokens, {questions / stage.rows:.1f} questions)",
            flush=True,
        )


def counted(batch) -> tuple[int, int]:
    """Visual tokens and questions of a batch."""
    return len(batch.visual_rows), len(set(batch.branch.tolist()))


if __name__ == "__main__":
    main()
