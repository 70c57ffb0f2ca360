"""Ten thousand damaged files: each loads or is refused by InputError, quickly and without a large allocation."""

import contextlib
import random
import struct
import sys
import time
from dataclasses import replace

import pytest
from codeclens.models.errors import InputError
from codeclens.models.qwen import config
from codeclens.models.qwen.families import read_text_config
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.text import TextModel
from codeclens.models.qwen.tokenizer import read_tokenizer
from codeclens.models.qwen.vision import VisionModel
from codeclens.models.qwen.weights import text_tensors, vision_tensors
from support.gguf_files import TINY, write_mmproj, write_text

SMALL = replace(
    TINY, layers=1, hidden=32, intermediate=32, heads=2, kv_heads=1, head_dim=16, sections=(4, 2, 2, 0), vocabulary=290,
    vision_layers=1, vision_hidden=8, vision_intermediate=8, vision_heads=1, deepstack=(0,), grid_side=2,
)  # fmt: skip
resource = pytest.importorskip("resource", reason="address space can only be limited on POSIX systems")
FREQUENCIES = (4, 4, 4, 4, 1, 4, 1)
EXTREMES = [0, 1, 2, 7, 9, 127, 255, 256, 65535, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


def mutated(data: bytes, header: int, generator: random.Random) -> bytes:
    """One to three changes within the header: bits, bytes, extreme integers, copied and lost and moved stretches."""
    changed = bytearray(data)
    for _ in range(generator.randint(1, 3)):
        at, kind = generator.randrange(header), generator.choices(range(7), FREQUENCIES)[0]
        if kind == 0:
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            changed[at] = generator.randrange(256)
        elif kind == 2:
            changed[at : at + 8] = struct.pack("<Q", generator.choice(EXTREMES))
        elif kind == 3:
            changed[at : at + 4] = struct.pack("<I", generator.choice(EXTREMES) & 0xFFFFFFFF)
        elif kind == 4:
            del changed[at : at + generator.randint(1, 40)]
        elif kind == 5:
            source = generator.randrange(header)
            changed[at : at + 16] = changed[source : source + 16]
        else:
            del changed[at + 1 :]
        header = min(header, len(changed))
    return bytes(changed)


def integers_of(data: bytes, header: int) -> list[int]:
    """Where the header's small integers stand: lengths, counts, types and sizes, the fields that steer a reader."""
    return [at for at in range(4, header - 8) if 0 < struct.unpack_from("<Q", data, at)[0] < 2**16]


@contextlib.contextmanager
def address_space(extra: int):
    """Allow this process only ``extra`` more bytes of address space, where the system can."""
    if sys.platform != "linux":
        yield
        return
    with open("/proc/self/statm") as status:
        used = int(status.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + extra, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def load_text_header(path):
    file = read_gguf(path)
    model = TextModel(read_text_config(file), device="meta")
    read_tokenizer(file)
    text_tensors(model, file)


def load_vision_header(path):
    file = read_gguf(path)
    vision_tensors(VisionModel(config.read_vision_config(file), device="meta"), file)


@pytest.mark.parametrize(
    ("write", "load", "count"),
    [
        (write_text, load_text_header, 1000),
        (write_mmproj, load_vision_header, 500),
        pytest.param(write_text, load_text_header, 7000, marks=pytest.mark.slow),
        pytest.param(write_mmproj, load_vision_header, 3000, marks=pytest.mark.slow),
    ],
)
def test_damaged_headers_are_read_or_refused(tmp_path, write, load, count):
    path = write(tmp_path / "whole.gguf", SMALL)
    data = path.read_bytes()
    load(path)
    header = len(data) - sum(
        -(-stored.data.numel() * stored.data.element_size() // 32) * 32 for stored in read_gguf(path).tensors.values()
    )
    steering = integers_of(data, header)
    generator = random.Random(count)
    target = tmp_path / "damaged.gguf"
    refused = slowest = 0
    with address_space(512 << 20):
        for number in range(count):
            damaged = mutated(data, header, generator)
            if number % 3 == 0:
                damaged = bytearray(data)
                at = generator.choice(steering)
                damaged[at : at + 8] = struct.pack("<Q", generator.choice(EXTREMES))
            target.unlink(missing_ok=True)
            target.write_bytes(damaged)
            began = time.process_time()
            try:
                load(target)
            except InputError as refusal:
                refused += 1
                assert "\n" not in str(refusal), refusal
            slowest = max(slowest, time.process_time() - began)
    assert refused > count / 2
    assert slowest < 2.0
