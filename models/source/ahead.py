"""Reading on a thread of its own, so that decoding goes on while its frames are worked on."""

import contextvars
import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 2
"""Items that wait at most, beside the one that is being read and the one that is worked on."""


def read_ahead(items: Iterable[Item], depth: int = DEPTH) -> Iterator[Item]:
    """Yield ``items`` in order while a thread reads the next ones.

    What reading raises is raised here, after the items before it. The thread ends with its last item, or, when the
    iterator is closed, with the item that it is reading.
    """
    waiting: queue.Queue = queue.Queue(depth)
    closed = threading.Event()

    def read():
        try:
            for item in items:
                waiting.put((item, None))
                if closed.is_set():
                    return
            waiting.put((None, StopIteration()))
        except BaseException as error:
            waiting.put((None, error))

    # The host knows by the context which node's progress it is.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(read,), name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
            del item  # a chunk that is done with makes room before the next one comes
    finally:
        closed.set()
        while thread.is_alive():
            try:
                waiting.get(timeout=0.01)
            except queue.Empty:
                continue
        thread.join()
