"""Numbers that reach a node are numbers: what the host lets pass is refused before the node runs.

The host compares a constant with the bounds of its input, which NaN passes, and checks nothing that comes over a link.
"""

import functools
import math
from collections.abc import Iterator
from typing import Any

from comfy_api.latest import io

from ..models.errors import InputError


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """``node``, whose ``execute`` raises InputError where an INT or FLOAT input is NaN or infinite."""
    execute = node.execute.__func__

    @functools.wraps(execute)
    def execute_checked(cls, **given):
        # The host executes a clone of the class that it has locked.
        schema = node.SCHEMA or node.GET_SCHEMA()
        for number, value in numbers_in(schema.inputs, given):
            if isinstance(value, float) and not math.isfinite(value):
                raise InputError(
                    f"{schema.display_name}: {number.id} is {value}; a number from "
                    f"{number.min} to {number.max} is needed"
                )
        return execute(cls, **given)

    node.execute = classmethod(execute_checked)
    return node


def numbers_in(inputs: list[io.Input], given: dict[str, Any]) -> Iterator[tuple[io.Input, Any]]:
    """Each INT and FLOAT among ``inputs`` with its value, or with every one of a list; those of dynamic combos too."""
    for one in inputs:
        value = given.get(one.id)
        if isinstance(one, (io.Int.Input, io.Float.Input)):
            yield from ((one, each) for each in (value if isinstance(value, list) else [value]))
        elif isinstance(one, io.DynamicCombo.Input) and isinstance(value, dict):
            for option in one.options:
                yield from numbers_in(option.inputs, value)
