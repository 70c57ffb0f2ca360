"""The command line: ``codeclens COMMAND`` or ``python -m codeclens COMMAND``. The same jobs as the nodes, no host."""

import argparse
import sys

from .models.allocator import keep_freed_memory
from .models.commands import demo, gvc, judge, kernels, measure, qwen, talk, video
from .models.commands import training as learn
from .models.errors import InputError

FAMILIES = (demo, video, measure, talk, judge, qwen, kernels, gvc, learn)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 2 wrong input (one line on standard error), 130 interrupted."""
    keep_freed_memory()
    parser = argparse.ArgumentParser(prog="codeclens", description="Look at a video the way a codec does.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in FAMILIES:
        family.add_commands(commands)
    parsed = parser.parse_args(arguments)
    try:
        return parsed.run(parsed) or 0
    except InputError as error:
        print(f"codeclens: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
