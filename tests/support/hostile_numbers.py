"""Run inside a Python that can import ComfyUI: give every number of every node NaN and infinities, print what came.

Usage: python hostile_numbers.py COMFYUI PACK --cpu

Prints JSON: for each try the node, the input, the value and the error; the inputs are those of the schemas.
"""

import asyncio
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

from schemas import load_pack


def numbers_of(inputs, around=()):
    """(ids of the dynamic combos around it and its own, their keys) of each INT and FLOAT."""
    for one in inputs:
        if one.io_type in ("INT", "FLOAT"):
            yield *around, one.id
        for option in getattr(one, "options", None) or ():
            if hasattr(option, "inputs"):
                yield from numbers_of(option.inputs, (*around, (one.id, option.key)))


def given_to(schema, path, value) -> dict:
    """Arguments of a node in which the input at ``path`` is ``value`` and every other anything."""
    given = {one.id: MagicMock() for one in schema.inputs}
    *combos, name = path
    at = given
    for combo, key in combos:
        at[combo] = {combo: key}
        at = at[combo]
    at[name] = value
    if schema.is_input_list:
        given = {
            key: {k: [v] for k, v in each.items()} if isinstance(each, dict) else [each] for key, each in given.items()
        }
    return given


async def main(pack) -> list:
    extension = await pack.comfy_entrypoint()
    tries = []
    for node in await extension.get_node_list():
        schema = node.GET_SCHEMA()
        node.hidden = MagicMock()
        for path in numbers_of(schema.inputs):
            for value in (float("nan"), float("inf"), float("-inf")):
                try:
                    node.execute(**given_to(schema, path, value))
                    error = ""
                except Exception as raised:
                    error = f"{type(raised).__name__}: {raised}"
                tries.append([schema.node_id, path[-1], str(value), error])
    return tries


if __name__ == "__main__":
    comfyui, folder = sys.argv[1:3]
    sys.argv[1:3] = []
    sys.path.insert(0, comfyui)
    import comfy.options

    comfy.options.enable_args_parsing()
    pack = load_pack(Path(folder).resolve())
    import server

    server.PromptServer.instance = MagicMock()
    print(json.dumps(asyncio.run(main(pack))))
