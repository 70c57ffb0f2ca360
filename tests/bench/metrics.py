"""Which metric answers to which fault: rendered clips with and without one fault, all faults by all metrics.

Prints, as the table of the documentation, each metric's mean and noise on clean clips and how much each fault typically
changes it, in the metric's own unit.

    python tests/bench/metrics.py [--clips 8] [--size 128]
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.fault_table import fault_table, markdown
from support.machine import describe_machine


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--size", type=int, default=128)
    arguments = parser.parse_args()
    print(describe_machine())
    print(f"{arguments.clips} clips of each fault, {arguments.size}x{arguments.size}, 3 s at 12 frames a second\n")
    print(markdown(fault_table(arguments.clips, arguments.size)))


if __name__ == "__main__":
    main()
