"""A run in a folder: where it begins, the checkpoints that it leaves on its way, and when it stops."""

import time
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..progress import Progress

CHECKPOINT, LOG = "checkpoint.safetensors", "log.jsonl"
SAVE_EVERY = 300
"""Seconds between checkpoints."""


def checkpoint_path(folder: Path, resume: bool) -> Path:
    """Where the checkpoint of ``folder`` is, or will be. Raises InputError where it is there and not to be resumed."""
    path = folder / CHECKPOINT
    if path.exists() and not resume:
        raise InputError(f"{path} exists; resume it, or give another folder")
    if resume and not path.exists():
        raise InputError(f"{path} does not exist; there is nothing to resume")
    return path


def deadline_after(minutes: float | None) -> float:
    """The time of the monotonic clock at which a run stops that begins now."""
    return float("inf") if minutes is None else time.monotonic() + 60 * minutes


def run_steps(training, steps: int, advance: Callable[[], None], path: Path, deadline: float, progress: Progress):
    """Call ``advance`` until ``training.step`` is ``steps`` or the deadline has passed, at least once.

    ``training.save(path)`` is called now and then, and whatever ends the run: what raises leaves the last whole step.
    """
    saved = time.monotonic()
    try:
        while training.step < steps:
            progress(training.step, steps)
            advance()
            if time.monotonic() - saved > SAVE_EVERY:
                training.save(path)
                saved = time.monotonic()
            if time.monotonic() > deadline:
                break
    finally:
        training.save(path)
    progress(training.step, steps)
