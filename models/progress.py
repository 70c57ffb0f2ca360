"""Progress and cancellation, without knowing who watches.

A long job takes ``progress: Progress`` and calls it at least once per frame, token or chunk. The callback may raise
from the call to cancel the job; the job lets the exception through and leaves what it finished.
"""

import sys
import time
from collections.abc import Callable

Progress = Callable[[int, int], None]
"""``progress(done, total)``; ``total`` may grow while a job learns how much there is to do."""


def no_progress(done: int, total: int) -> None:
    """Watch nothing."""


class TerminalProgress:
    """A progress bar on standard error, drawn at most ten times a second and only on a terminal."""

    def __init__(self, label: str, stream=None):
        self.label = label
        self.stream = stream or sys.stderr
        self.shown = 0.0

    def __call__(self, done: int, total: int) -> None:
        if not self.stream.isatty():
            return
        now = time.monotonic()
        if done < total and now - self.shown < 0.1:
            return
        self.shown = now
        filled = 24 * done // max(total, 1)
        end = "\n" if done >= total else ""
        self.stream.write(f"\r{self.label} [{'#' * filled}{'.' * (24 - filled)}] {done}/{total}{end}")
        self.stream.flush()
