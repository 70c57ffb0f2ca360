"""The table of modes that the help pages show, written from the records."""

from codeclens.models.video.tokens import MODES

HEADER = "| mode | a predicted frame (P) becomes | tokens of it at 512x512 | needs |\n|---|---|---|---|\n"


def mode_table(names) -> str:
    """Markdown: one row for each of these modes."""
    return HEADER + "".join(row(MODES[name]) for name in names)


def row(mode) -> str:
    tokens = f"{mode.tokens((512, 512))}{' a pair' if mode.paired else ''}{' on average' if mode.anchored else ''}"
    weights = "trained weights" if mode.trained else "stock weights"
    return f"| `{mode.name}` | {mode.predicted} | {tokens} | {weights} |\n"
