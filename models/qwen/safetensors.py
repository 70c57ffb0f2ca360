"""Reading .safetensors files by memory map.

Source of the format: Hugging Face's ``safetensors`` (little endian: the header's length, the header as JSON, the data).
The container is read here and not by that library because its errors do not say what is wrong with which file, and
because pages of a map of our own can be given back.
"""

import json
import math
import mmap
import re
import struct
from pathlib import Path

import torch

from ..errors import InputError
from .model_file import FLOAT8, FLOATS, StoredTensor

SIZES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
MAX_HEADER = 100 << 20
SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.safetensors$")


def shards(path: Path) -> list[Path]:
    """All files of the model that ``path`` names: a file, one of its shards, or the folder that holds them."""
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        if not found:
            raise InputError(f"{path} is a folder without .safetensors files; give a model's file or its folder")
        path = found[0]
    match = SHARD_NAME.match(path.name)
    if match is None:
        return [path]
    count = int(match["parts"])
    paths = [path.with_name(f"{match['stem']}-{part:05d}-of-{count:05d}.safetensors") for part in range(1, count + 1)]
    for part in paths:
        if not part.is_file():
            raise InputError(f"{path} is one of {count} shards, and {part.name} is not beside it")
    return paths


def read_header(path: Path) -> dict[str, dict]:
    """The entries of the file's tensors by name, checked against its size; its data is not touched.

    Raises InputError where the file is absent, no .safetensors file, or truncated.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give the path of a .safetensors file")
    size = path.stat().st_size
    with path.open("rb") as opened:
        start = opened.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise InputError(
                f"{path} is not a .safetensors file, or truncated: its header does not fit its {size} bytes"
            )
        try:
            header = json.loads(opened.read(length))
        except (ValueError, RecursionError):
            raise InputError(f"{path} is not a .safetensors file: its header is no JSON text") from None
    if not isinstance(header, dict):
        raise InputError(f"{path} is damaged: its header is no JSON object")
    header.pop("__metadata__", None)
    for name, entry in header.items():
        _check_entry(path, name, entry, size - 8 - length)
        entry["data_offsets"] = [8 + length + offset for offset in entry["data_offsets"]]
    return header


def _check_entry(path: Path, name: str, entry, room: int) -> None:
    try:
        dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged: its entry of {name[:60]!r} is incomplete")
    if stop > room:
        raise InputError(f"{path} is truncated: {name[:60]!r} ends at byte {stop} of {room} bytes of data")
    if stop - start != math.prod(shape) * SIZES.get(dtype, 1) or start > stop:
        raise InputError(f"{path} is damaged: {name[:60]!r} has {stop - start} bytes, not those of its shape")


def map_tensors(path: Path) -> dict[str, StoredTensor]:
    """Every tensor of one file by its own name, viewing the mapped file. Other types than floats are uint8."""
    header = read_header(path)
    # Copy on write, because torch refuses to view memory that it must not write.
    with path.open("rb") as opened:
        mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors = {}
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        data = torch.frombuffer(mapping, dtype=torch.uint8, count=stop - start, offset=start) if stop > start else None
        kind, shape = entry["dtype"], tuple(entry["shape"])
        dtype = (FLOATS | FLOAT8).get(kind)
        if data is not None and dtype is not None:
            if start % dtype.itemsize:
                data = data.clone()
            data = data.view(dtype).view(shape)
        tensors[name] = StoredTensor(name, kind, shape, data)
    return tensors
