"""Speed of training the embedded model on this machine: clips a second of each stage of the plan, and what takes it.

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

from codeclens.models.training.trainer import Training, TrainingPlan, lesson
from support.machine import describe_machine


def main() -> None:
    size, rows = (sys.argv[1:] + ["mini", "24"][len(sys.argv) - 1 :])[:2]
    stages = tuple(replace(stage, steps=1, rows=int(rows)) for stage in TrainingPlan().stages)
    plan = TrainingPlan(size=size, corpus_clips=200, stages=stages)
    training = Training.begin(plan)
    print(describe_machine())
    print(f"{size}: {training.model.parameter_count:,} parameters")
    for step, stage in enumerate(stages):
        began = time.process_time()
        batches = lesson(plan, step, training.tokenizer)
        rendered = time.process_time() - began
        began = time.process_time()
        training.advance(batches)
        spent = time.process_time() - began
        print(
            f"stage {step + 1}: {stage.rows / (spent + rendered):.2f} clips a second "
            f"({1000 * spent / stage.rows:.0f} ms of training and {1000 * rendered / stage.rows:.0f} ms of rendering "
            f"a clip; {sum(batch.count for batch in batches) / stage.rows:.1f} questions or cells)",
            flush=True,
        )


if __name__ == "__main__":
    main()
