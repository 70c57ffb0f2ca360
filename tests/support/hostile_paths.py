"""Run inside a Python that can import ComfyUI: give every text and choice of every node hostile paths, print what came.

Usage: python hostile_paths.py COMFYUI PACK BASE SECRETS --cpu

SECRETS is a folder outside of the host's with files that no node may open. Prints JSON: for each try the node, the
input, the value, the error; the tries that opened a secret; the files that were written outside of BASE.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from unittest.mock import MagicMock

from schemas import load_pack

OPENED: list[str] = []


def watch(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir", "os.mkdir", "os.rename") and isinstance(
        arguments[0], (str, bytes)
    ):
        OPENED.append(os.path.abspath(os.fsdecode(arguments[0])))


def hostile_values(base: Path, secrets: Path) -> list[str]:
    up = os.path.relpath(secrets, base / "input")
    names = ("tasks.jsonl", "clip.mp4", "stream.gvcb", "model.gguf", "rubric.json", "prefix")
    values = [str(secrets / name) for name in names] + [os.path.join(up, name) for name in names]
    values += [f"{os.path.join(up, 'stream.gvcb')} [output]", f"inner/../{up}/tasks.jsonl", f"{secrets}\0.jsonl"]
    # A tasks file of the host's own, whose clips lie elsewhere.
    return [*values, "tasks-of-a-stranger.jsonl", "clips-above.jsonl", "~/tasks.jsonl", "file://" + str(secrets)]


def inputs_of(inputs):
    """Every (id, type) of a schema's inputs, those of dynamic combos included."""
    for one in inputs:
        yield one
        for option in getattr(one, "options", None) or ():
            yield from inputs_of(getattr(option, "inputs", None) or ())


def tried(node, hostile: str, value: str) -> str:
    """The error of running ``node`` with ``value`` in the input ``hostile`` and anything in the others."""
    given = {}
    for one in node.GET_SCHEMA().inputs:
        default = getattr(one, "default", None)
        given[one.id] = MagicMock() if default is None else default
    given[hostile] = value
    try:
        if "fingerprint_inputs" in vars(node):
            node.fingerprint_inputs(**given)
        node.hidden = MagicMock()
        node.execute(**given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def main(pack, base: Path, secrets: Path) -> dict:
    extension = await pack.comfy_entrypoint()
    tries, opened = [], []
    for node in await extension.get_node_list():
        for one in inputs_of(node.GET_SCHEMA().inputs):
            if one.io_type not in ("STRING", "COMBO", "COMFY_MULTITYPED_V3"):
                continue
            for value in hostile_values(base, secrets):
                OPENED.clear()
                error = tried(node, one.id, value)
                tries.append([node.GET_SCHEMA().node_id, one.id, value, error])
                if any(Path(path).is_relative_to(secrets) for path in OPENED):
                    opened.append(tries[-1])
    return {"tries": tries, "opened": opened, "written": sorted(os.listdir(secrets))}


if __name__ == "__main__":
    comfyui, folder, base, secrets = sys.argv[1:5]
    sys.argv[1:5] = ["--base-directory", base]
    sys.path.insert(0, comfyui)
    import comfy.options

    comfy.options.enable_args_parsing()
    pack = load_pack(Path(folder).resolve())
    import server

    server.PromptServer.instance = MagicMock()
    sys.addaudithook(watch)
    print(json.dumps(asyncio.run(main(pack, Path(base).resolve(), Path(secrets).resolve()))))
