"""The command line: ``codeclens COMMAND`` or ``python -m codeclens COMMAND``. The same jobs as the nodes, no host."""

import contextlib
import os
import signal
import sys
from importlib import import_module

FAMILIES = {
    "demo": ("demo",),
    "video": ("plan", "motion", "cuts"),
    "measure": ("measure",),
    "talk": ("caption", "ask"),
    "judge": ("judge", "compare", "rank"),
    "folders": ("apply",),
    "qwen": ("info", "trace", "describe"),
    "kernels": ("kernels",),
    "gvc": ("gvc-info", "gvc-plan", "gvc-compare"),
    "training": ("synth", "train-tiny", "evaluate"),
    "learned": ("train-code",),
}
"""Modules of models/commands and the commands that each adds: what one command needs is imported for it alone."""


def run() -> None:
    """The process of one command: ends with the exit code of :func:`main`, which no later interruption changes."""
    code = 130
    with contextlib.suppress(KeyboardInterrupt):
        code = main()
        # Ignored rather than handled: Python takes handlers away before it and the libraries have ended.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: the system refused something, output for one. 2: wrong input. 130: interrupted. 141: whoever read the
    output has gone. All but the first say why in one line on standard error.
    """
    for stream in (sys.stdout, sys.stderr):
        # A console that lacks a character shows its number rather than losing a finished answer.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _failed(130, "interrupted")
    except BrokenPipeError:
        _discard_output()
        return _failed(141, "standard output was closed before everything was written")
    except OSError as error:
        _discard_output()
        return _failed(1, f"{error.filename or 'standard output'}: {error.strerror or error}")


def _run(arguments: list[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    with _interruptions_after():
        from .models.allocator import keep_freed_memory
        from .models.commands.arguments import Parser
        from .models.errors import InputError, one_line

        asked = [family for family, names in FAMILIES.items() if arguments and arguments[0] in names]
        families = [import_module(f".models.commands.{family}", __package__) for family in asked or FAMILIES]
    keep_freed_memory()
    parser = Parser(prog="codeclens", description="Read a video the way a codec does.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in families:
        family.add_commands(commands)
    try:
        parsed = parser.parse_args(arguments)
        return parsed.run(parsed) or 0
    except InputError as error:
        return _failed(2, one_line(str(error)))


@contextlib.contextmanager
def _interruptions_after():
    """Let an interruption wait for the end of the block; a second one does not wait.

    Imports of C++ libraries abort on an interruption, or lose it.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    came = []

    def remember(number, frame):
        came.append(number)
        signal.signal(number, signal.default_int_handler)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if came:
        raise KeyboardInterrupt


def _discard_output() -> None:
    """Python flushes once more at its end, and would fail a second time."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _failed(code: int, sentence: str) -> int:
    print(f"codeclens: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    run()
