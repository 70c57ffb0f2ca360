"""What options may be: numbers within a range and seeds, and a parser that says what is wrong in one line."""

import argparse
import math
import secrets
import sys
from collections.abc import Callable

from ..errors import InputError

SIDES = (32, 8192)
"""Sides of a picture in pixels: one cell, and more than the encoders of any video format take."""

SMALLEST = 1e-30
"""Numbers nearer to 0 are refused: computing in float32 with them overflows."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without the usage."""

    def error(self, message: str):
        raise InputError(f"{message}; see {self.prog} --help")


def whole(least: int, most: int = 1 << 31) -> Callable[[str], int]:
    """The type of an option that is a whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        value = _number(text, int)
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return value

    return read


def number(least: float, most: float = 1e9, above: bool = False) -> Callable[[str], float]:
    """The type of an option that is a number from ``least`` (with ``above``, above it) to ``most``; NaN is none."""

    def read(text: str) -> float:
        value = _number(text, float)
        if value is None or not least <= value <= most or (above and value == least):
            span = f"above {least:g} and up to" if above else f"from {least:g} to"
            raise argparse.ArgumentTypeError(f"{text!r} is not a number {span} {most:g}")
        return value

    return read


def seed(text: str) -> int:
    """The type of a seed: from 0 to 2^64 - 1, or -1 to have one drawn, which is printed on standard error."""
    value = _number(text, int)
    if value is None or not -1 <= value < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^64 - 1, or -1 to draw one")
    if value == -1:
        value = secrets.randbelow(1 << 32)
        print(f"codeclens: seed {value}", file=sys.stderr)
    return value


def _number(text: str, kind: type) -> int | float | None:
    try:
        value = kind(text)
    except ValueError:
        return None
    return value if value == 0 or SMALLEST <= abs(value) < math.inf else None
