"""Reading GGUF files by memory map.

Source of the format: ggml ``docs/gguf.md`` (versions 2 and 3, little endian). The types and their block sizes come from
the ``gguf`` library. The container is read here and not by ``gguf.GGUFReader`` for two measured reasons: the library
keeps an array object per token (10 s and 525 MB for Qwen's 151,936 tokens and their merges; 0.2 s and 34 MB here), and
it trusts every count in the file, so that a damaged one allocates or loops without bound. It is imported
only where a file is read, since it brings a YAML parser and more.
"""

import functools
import math
import mmap
import os
import re
import struct
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from .model_file import FLOATS, ModelFile, StoredTensor

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
DEFAULT_ALIGNMENT = 32
MAX_KEYS = 1 << 16
MAX_TENSORS = 1 << 16
MAX_STRINGS = 1 << 22
MAX_NAME = 1 << 10
TYPES_AFTER_THE_LIBRARY = {39: "MXFP4", 40: "NVFP4", 41: "Q1_0", 42: "Q2_0"}
SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<part>\d{5})-of-(?P<parts>\d{5})(?P<end>\.gguf)$", re.IGNORECASE)
MOST_NESTED = 8


def read_gguf(path: str | os.PathLike) -> ModelFile:
    """Map the GGUF file at ``path`` and return its metadata and tensors; nothing but the header is read.

    ``path`` may name any part of a split model (``NAME-00001-of-00003.gguf``): all parts are joined.
    Raises InputError where the file is absent, no GGUF, truncated, or says something about itself that cannot be.
    """
    path = Path(path)
    paths = split_paths(path)
    parts = [_read_part(part) for part in paths]
    metadata = parts[0].metadata
    if len(parts) > 1 and str(metadata.get("split.count", len(parts))) != str(len(parts)):
        raise InputError(
            f"{path} is named as {len(parts)} parts, but its metadata says split.count = {metadata['split.count']}"
        )
    tensors = {}
    for part in parts:
        for name, tensor in part.tensors.items():
            if name in tensors:
                raise InputError(f"{part.path} holds tensor {name!r} a second time; the parts are not of one model")
            tensors[name] = tensor
    expected = metadata.get("split.tensors.count", len(tensors))
    if len(parts) > 1 and str(expected) != str(len(tensors)):
        raise InputError(f"{path} and its other parts hold {len(tensors)} tensors where the metadata says {expected}")
    return ModelFile(paths[0], sum(part.size for part in parts), metadata, tensors)


def split_paths(path: Path) -> list[Path]:
    """All parts of the model that ``path`` names: itself, or every ``-0000K-of-0000N`` beside it."""
    match = SPLIT_NAME.match(path.name)
    if match is None:
        return [path]
    count = int(match["parts"])
    paths = [path.with_name(f"{match['stem']}-{part:05d}-of-{count:05d}{match['end']}") for part in range(1, count + 1)]
    for part in paths:
        if not part.is_file():
            raise InputError(f"{path} is one of {count} parts, and the part {part.name} is not beside it")
    return paths


@functools.cache
def readable_type(name: str) -> bool:
    """Whether the ``gguf`` library can turn blocks of the ggml type ``name`` into numbers."""
    if name in FLOATS:
        return True
    try:
        import gguf

        qtype = gguf.GGMLQuantizationType[name]
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[qtype][1]), np.uint8), qtype)
    except (KeyError, NotImplementedError):
        return False
    return True


def architecture_of(path: str | os.PathLike) -> str:
    """``general.architecture`` of the file at ``path``, read no further than to that key."""
    cursor, _ = _open(Path(path))
    _, key_count = _read_counts(cursor)
    return str(_read_metadata(cursor, key_count, "general.architecture").get("general.architecture", "unknown"))


def _open(path: Path) -> tuple["_Cursor", mmap.mmap]:
    if not path.is_file():
        what = "is a folder or a device" if path.exists() else "does not exist"
        raise InputError(f"{path} {what}; give the path of a .gguf file")
    size = path.stat().st_size
    if size < 24:
        raise InputError(f"{path} is not a GGUF file: it has {size} bytes, and the header alone takes 24")
    # Copy on write, because torch refuses to view memory that it must not write.
    with path.open("rb") as opened:
        mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    return _Cursor(path, memoryview(mapping)), mapping


def _read_part(path: Path) -> ModelFile:
    cursor, mapping = _open(path)
    tensor_count, key_count = _read_counts(cursor)
    metadata = _read_metadata(cursor, key_count)
    infos = [_read_tensor_info(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or alignment < 8 or alignment & (alignment - 1):
        raise InputError(f"{path} is damaged: general.alignment is {str(alignment)[:40]}, not a power of two from 8 on")
    start = -(-cursor.offset // alignment) * alignment
    mapped = np.frombuffer(mapping, np.uint8)
    tensors = {}
    for name, type_id, shape, offset in infos:
        if name in tensors:
            raise InputError(f"{path} is damaged: tensor {name!r} stands twice")
        if offset % alignment:
            raise InputError(f"{path} is damaged: tensor {name!r} starts at {offset}, not a multiple of {alignment}")
        tensors[name] = _map_tensor(path, mapped, name, type_id, shape, start + offset)
    return ModelFile(path, mapped.size, metadata, tensors)


def _read_metadata(cursor: "_Cursor", count: int, last: str | None = None) -> dict:
    """``count`` keys with their values, or those up to the key ``last``."""
    metadata = {}
    for _ in range(count):
        key = cursor.string("a metadata key", MAX_NAME)
        if key in metadata:
            raise InputError(f"{cursor.path} is damaged: the metadata key {key!r} stands twice")
        metadata[key] = cursor.value(key)
        if key == last:
            break
    return metadata


def _read_counts(cursor: "_Cursor") -> tuple[int, int]:
    path = cursor.path
    if bytes(cursor.view[:4]) != b"GGUF":
        raise InputError(f"{path} is not a GGUF file: it starts with {bytes(cursor.view[:4])!r}, not b'GGUF'")
    cursor.offset = 4
    version = cursor.scalar("I", "the version")
    if version & 0xFFFF == 0:
        raise InputError(f"{path} is a big-endian GGUF file; only little-endian ones can be mapped")
    if version not in (2, 3):
        raise InputError(f"{path} has GGUF version {version}; versions 2 and 3 can be read")
    tensor_count = cursor.scalar("Q", "the tensor count")
    key_count = cursor.scalar("Q", "the metadata count")
    # A tensor's entry takes at least 24 bytes and a key's at least 13.
    if tensor_count > min(MAX_TENSORS, cursor.remaining // 24):
        raise InputError(f"{path} is damaged or truncated: {tensor_count} tensors do not fit {cursor.remaining} bytes")
    if key_count > min(MAX_KEYS, cursor.remaining // 13):
        raise InputError(f"{path} is damaged or truncated: {key_count} keys do not fit {cursor.remaining} bytes")
    return tensor_count, key_count


def _read_tensor_info(cursor: "_Cursor") -> tuple[str, int, tuple[int, ...], int]:
    name = cursor.string("a tensor name", MAX_NAME)
    dimensions = cursor.scalar("I", f"the rank of {name!r}")
    if not 1 <= dimensions <= 4:
        raise InputError(f"{cursor.path} is damaged: tensor {name!r} has {dimensions} dimensions, not 1 to 4")
    shape = tuple(cursor.scalar("Q", f"the shape of {name!r}") for _ in range(dimensions))[::-1]
    if min(shape) < 1:
        raise InputError(f"{cursor.path} is damaged: tensor {name!r} has the empty shape {list(shape)}")
    type_id = cursor.scalar("I", f"the type of {name!r}")
    return name, type_id, shape, cursor.scalar("Q", f"the offset of {name!r}")


def _map_tensor(path: Path, mapped: np.ndarray, name: str, type_id: int, shape: tuple[int, ...], start: int):
    import gguf

    try:
        qtype = gguf.GGMLQuantizationType(type_id)
    except ValueError:
        return StoredTensor(name, TYPES_AFTER_THE_LIBRARY.get(type_id, f"number {type_id}"), shape, None)
    block, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    if shape[-1] % block:
        raise InputError(f"{path} is damaged: rows of {shape[-1]} in {name!r} do not divide into {qtype.name} blocks")
    row_bytes = shape[-1] // block * block_bytes
    end = start + math.prod(shape[:-1]) * row_bytes
    if end > mapped.size:
        raise InputError(f"{path} is truncated: it has {mapped.size} bytes, and tensor {name!r} ends at byte {end}")
    data = torch.from_numpy(np.asarray(mapped[start:end])).view(*shape[:-1], row_bytes)
    if qtype.name in FLOATS:
        data = data.view(FLOATS[qtype.name])
    return StoredTensor(name, qtype.name, shape, data)


class _Cursor:
    """A position in the header that never reads past the file."""

    def __init__(self, path: Path, view: memoryview):
        self.path = path
        self.view = view
        self.offset = 0

    @property
    def remaining(self) -> int:
        return len(self.view) - self.offset

    def take(self, count: int, what: str) -> int:
        """Step over ``count`` bytes and return where they start."""
        if count > self.remaining:
            raise InputError(f"{self.path} is truncated or damaged: {what} needs {count} bytes of {self.remaining}")
        start = self.offset
        self.offset += count
        return start

    def scalar(self, code: str, what: str):
        layout = "<" + code
        return struct.unpack_from(layout, self.view, self.take(struct.calcsize(layout), what))[0]

    def string(self, what: str, limit: int | None = None, errors: str = "strict") -> str:
        length = self.scalar("Q", what)
        if limit is not None and length > limit:
            raise InputError(f"{self.path} is damaged: {what} has {length} bytes, more than {limit}")
        start = self.take(length, what)
        try:
            return str(self.view[start : self.offset], "utf-8", errors)
        except UnicodeDecodeError:
            raise InputError(f"{self.path} is damaged: {what} at byte {start} is not UTF-8 text") from None

    def value(self, key: str):
        """A metadata value: a scalar, a string, a list of strings, or a numpy array viewing the file."""
        kind = self.scalar("I", f"the type of {key!r}")
        if kind == STRING:
            return self.string(f"{key!r}", errors=_errors(key))
        if kind == ARRAY:
            return self.array(key)
        return self.scalar(self.code(kind, key), f"{key!r}")

    def array(self, key: str, depth: int = 0):
        kind = self.scalar("I", f"the item type of {key!r}")
        count = self.scalar("Q", f"the length of {key!r}")
        if kind == STRING:
            return self.strings(key, count)
        if kind == ARRAY:
            # An array takes at least 12 bytes.
            if depth == MOST_NESTED or count > self.remaining // 12:
                raise InputError(f"{self.path} is damaged: {key!r} holds {count} arrays, {depth + 1} deep")
            return [self.array(key, depth + 1) for _ in range(count)]
        dtype = np.dtype(self.code(kind, key)).newbyteorder("<")
        start = self.take(count * dtype.itemsize, f"{key!r}")
        return np.frombuffer(self.view, dtype, count, start)

    def strings(self, key: str, count: int) -> list[str]:
        if count > min(MAX_STRINGS, self.remaining // 8):
            raise InputError(
                f"{self.path} is truncated or damaged: {key!r} says {count} strings, {self.remaining} bytes remain"
            )
        strings, errors = [], _errors(key)
        unpack, view, offset, end = struct.Struct("<Q").unpack_from, self.view, self.offset, len(self.view)
        try:
            for _ in range(count):
                start = offset + 8
                offset = start + unpack(view, offset)[0]
                if offset > end:
                    raise InputError(f"{self.path} is truncated or damaged: a string of {key!r} ends past the file")
                strings.append(str(view[start:offset], "utf-8", errors))
        except struct.error:
            raise InputError(f"{self.path} is truncated: {key!r} says {count} strings and ends early") from None
        except UnicodeDecodeError:
            raise InputError(f"{self.path} is damaged: a string of {key!r} is not UTF-8 text") from None
        self.offset = offset
        return strings

    def code(self, kind: int, key: str) -> str:
        if kind not in SCALARS:
            raise InputError(f"{self.path} is damaged: the metadata key {key!r} holds the unknown value type {kind}")
        return SCALARS[kind]


def _errors(key: str) -> str:
    """How bytes that are not UTF-8 are read: what only describes a model does not keep it from loading."""
    return "replace" if key.startswith("general.") else "strict"
