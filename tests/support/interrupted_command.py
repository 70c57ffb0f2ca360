"""Runs ``codeclens kernels`` and interrupts itself: ``interrupted_command.py MODULE|exit|end``.

In the import of MODULE, when main has returned (``exit``), or when Python has put back the system's handler and takes
the modules down (``end``).
"""

import atexit
import contextlib
import os
import runpy
import signal
import sys

when = sys.argv[1]


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


if when == "exit":
    atexit.register(interrupt)
elif when == "end":
    last = Last()
else:
    sys.meta_path.insert(0, InterruptingFinder())
sys.argv[1:] = ["kernels"]
runpy.run_module("codeclens", run_name="__main__", alter_sys=True)
