"""Run inside a Python that can import ComfyUI: print the schema of each node of the pack as JSON.

Usage: python schemas.py COMFYUI PACK --cpu
"""

import asyncio
import importlib.util
import json
import sys
from pathlib import Path


def load_pack(folder: Path):
    """Import the pack by its path under a made-up name, as ComfyUI does."""
    spec = importlib.util.spec_from_file_location(
        "pack_x_", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


async def schemas(pack) -> dict:
    extension = await pack.comfy_entrypoint()
    found = {}
    for node in await extension.get_node_list():
        schema = node.GET_SCHEMA()
        info = schema.get_v1_info(node)
        found[schema.node_id] = {**info.__dict__, "input": info.input}
    return found


if __name__ == "__main__":
    comfyui, folder = sys.argv[1:3]
    sys.argv[1:3] = []
    sys.path.insert(0, comfyui)
    import comfy.options

    comfy.options.enable_args_parsing()
    print(json.dumps(asyncio.run(schemas(load_pack(Path(folder).resolve())))))
