"""Reading ahead changes nothing but the thread: order, errors, the end, and how far ahead it gets."""

import contextvars
import threading
import time

import pytest
from codeclens.models.source.ahead import DEPTH, read_ahead


def test_items_come_in_order_from_another_thread():
    threads = []

    def items():
        for number in range(20):
            threads.append(threading.get_ident())
            yield number

    assert list(read_ahead(items())) == list(range(20))
    assert set(threads) != {threading.get_ident()} and len(set(threads)) == 1


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("broken")

    seen = []
    with pytest.raises(ValueError, match="broken"):
        for item in read_ahead(items()):
            seen.append(item)
    assert seen == [1, 2]


def test_no_more_is_read_than_may_wait():
    read = []

    def items():
        for number in range(100):
            read.append(number)
            yield number

    ahead = read_ahead(items())
    next(ahead)
    time.sleep(0.2)
    assert len(read) <= DEPTH + 2
    ahead.close()
    time.sleep(0.05)
    assert len(read) <= DEPTH + 3
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_the_next_item_is_read_while_one_is_worked_on():
    read = threading.Event()

    def items():
        yield 1
        read.set()
        yield 2

    ahead = read_ahead(items())
    assert next(ahead) == 1
    assert read.wait(30)
    assert next(ahead) == 2


def test_the_thread_has_the_context_of_its_caller():
    node = contextvars.ContextVar("node", default="none")
    node.set("plan")
    assert list(read_ahead(node.get() for _ in range(2))) == ["plan", "plan"]
