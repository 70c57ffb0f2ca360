"""Speed of training the embedded model on this machine: clips a second of each stage of the plan, and what takes it.

    python tests/bench/training.py [mini|small|nano] [rows]

Processor seconds of one thread, so that other work on the machine weighs little; two idle cores do nearly twice that.
"""

import os
import sys
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from codeclens.models.training.examples import make_example
from codeclens.models.training.trainer import Training, TrainingPlan, batches_of
from support.machine import describe_machine


def main() -> None:
    size, rows = (sys.argv[1:] + ["mini", "24"][len(sys.argv) - 1 :])[:2]
    plan = TrainingPlan(size=size, corpus_clips=200)
    training = Training.begin(plan)
    print(describe_machine())
    print(f"{size}: {training.model.parameter_count:,} parameters")
    for number, stage in enumerate(plan.stages):
        seeds = range(1000 * number, 1000 * number + int(rows))
        began = time.process_time()
        examples = [make_example(seed, stage.course) for seed in seeds]
        rendered = time.process_time() - began
        began = time.process_time()
        training.advance(batches_of(examples, training.tokenizer))
        spent = time.process_time() - began
        visual = sum(part.rows * part.columns for example in examples for part in example.parts)
        print(
            f"stage {number + 1}: {len(examples) / (spent + rendered):.2f} clips a second "
            f"({1000 * spent / len(examples):.0f} ms of training and {1000 * rendered / len(examples):.0f} ms of "
            f"rendering a clip; {visual / len(examples):.0f} visual tokens, "
            f"{sum(len(example.questions) for example in examples) / len(examples):.1f} questions)",
            flush=True,
        )


if __name__ == "__main__":
    main()
