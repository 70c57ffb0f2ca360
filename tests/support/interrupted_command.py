"""Runs ``codeclens kernels`` and interrupts itself: ``interrupted_command.py MODULE|end``.

In the import of MODULE, or at the end: when main has returned, and again when Python has put back the system's handler
and takes the modules down.
"""

import atexit
import contextlib
import os
import runpy
import signal
import sys

when = sys.argv[1]
# A shell's background job, and all that it starts, ignores the signal.
signal.signal(signal.SIGINT, signal.default_int_handler)


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


class InterruptingFinder:
    """A finder that finds nothing, and loses an exception as C++ libraries do in their imports."""

    def find_spec(self, name, path=None, target=None):
        if name == when:
            with contextlib.suppress(KeyboardInterrupt):
                interrupt()


class Last:
    """Goes with the module that holds it."""

    def __del__(self, interrupt=interrupt):
        interrupt()


if when == "end":
    atexit.register(interrupt)
    last = Last()
else:
    sys.meta_path.insert(0, InterruptingFinder())
sys.argv[1:] = ["kernels"]
runpy.run_module("codeclens", run_name="__main__", alter_sys=True)
