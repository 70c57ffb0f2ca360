"""The command that says which fused kernels run here, and why the others do not."""

import json

from ...kernels import registry

COLUMNS = ("op", "device", "backend", "image", "why_not")


def add_commands(commands) -> None:
    """Add the family's parsers to ``commands``."""
    parser = commands.add_parser(
        "kernels",
        help="which ops run fused on each GPU, from which image, and why not",
        description="Load the kernels on every GPU and print, per op, the backend chosen, the image used and why not.",
    )
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    parser.set_defaults(run=print_kernels)


def print_kernels(arguments) -> int:
    """Print the table of ops and backends."""
    rows = registry.current().table()
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return 0
    lines = [dict(zip(COLUMNS, COLUMNS, strict=True)), *rows]
    widths = {column: max(len(line[column]) for line in lines) for column in COLUMNS}
    for line in lines:
        print("  ".join(line[column].ljust(widths[column]) for column in COLUMNS).rstrip())
    return 0
