"""The real registry and ctypes calls against a driver that the CPU shim pretends (tests/support/shim)."""

import ctypes
import logging
import shutil
import threading

import pytest
import torch
from codeclens.kernels import cuda_images as images
from codeclens.kernels import eager, fused, launch, registry
from codeclens.kernels.archive import SUMS
from support import shim
from support.blocks import quantized_weight

CPU = torch.device("cpu")
KERNELS_LOADED, LAUNCHES, LAST_STREAM = range(3)


@pytest.fixture
def machine(shim_library):
    return shim.PretendedMachine(shim_library)


@pytest.fixture
def blocks():
    return quantized_weight("Q8_0", 2, 64, seed=1)


def launches(machine) -> int:
    return machine.calls.shim_count(LAUNCHES)


def test_launch_uses_the_current_device_and_stream(machine, blocks):
    with shim.pretend(machine):
        before = launches(machine)
        fused.dequantize(blocks, "Q8_0")
        assert launches(machine) == before + 1
        assert machine.calls.shim_count(LAST_STREAM) == machine.stream(CPU)
        assert machine.made_current


def test_thread_without_a_context_gets_the_primary_one(machine, blocks):
    wanted, found = eager.dequantize(blocks, "Q8_0"), []
    with shim.pretend(machine):
        machine.calls.shim_configure(12080, 0, 0)
        worker = threading.Thread(target=lambda: found.append(fused.dequantize(blocks, "Q8_0")))
        worker.start()
        worker.join()
    assert torch.equal(found[0], wanted)


@pytest.mark.parametrize(
    "capability, image",
    [
        ((7, 5), "sm_75.cubin"), ((8, 0), "sm_80.cubin"), ((8, 6), "sm_86.cubin"), ((8, 7), "sm_86.cubin"),
        ((8, 9), "sm_89.cubin"), ((9, 0), "sm_90.cubin"), ((10, 0), "compute_75.ptx"), ((12, 0), "sm_120.cubin"),
        ((12, 1), "sm_120.cubin"), ((13, 0), "compute_75.ptx"),
    ],
)  # fmt: skip
def test_gpu_gets_its_newest_image(machine, blocks, capability, image):
    machine.pretended_capability = capability
    with shim.pretend(machine) as current:
        assert torch.equal(fused.dequantize(blocks, "Q8_0"), eager.dequantize(blocks, "Q8_0"))
        assert current.used == {("dequantize", capability): f"dequantize.{image}"}
        assert not current.refused


def test_forced_ptx(machine, blocks):
    with shim.pretend(machine) as current:
        current.cubins = False
        assert torch.equal(fused.dequantize(blocks, "Q8_0"), eager.dequantize(blocks, "Q8_0"))
        assert list(current.used.values()) == ["dequantize.compute_75.ptx"]


def test_image_that_the_driver_refuses_gives_way_to_the_next(machine, blocks):
    machine.pretended_capability = (8, 9)
    with shim.pretend(machine) as current:
        machine.calls.shim_configure(12080, 1, 1)
        fused.dequantize(blocks, "Q8_0")
        assert list(current.used.values()) == ["dequantize.sm_86.cubin"]


def refuse_all(machine, folder):
    machine.calls.shim_configure(12080, 99, 1)
    return "no kernel image is available for execution on the device"


def old_driver(machine, folder):
    machine.calls.shim_configure(11080, 0, 1)
    return "the NVIDIA driver supports CUDA 11.8; the kernels want 12.0"


def old_gpu(machine, folder):
    machine.pretended_capability = (7, 0)
    return "no image fits compute capability 7.0"


def damage(machine, folder):
    spoilt = bytearray((folder / "images.zip").read_bytes())
    spoilt[len(spoilt) // 2] ^= 4
    (folder / "images.zip").write_bytes(spoilt)
    return "images.zip is damaged"


def remove(machine, folder):
    (folder / "images.zip").unlink()
    return "No such file"


@pytest.mark.parametrize("spoil", [refuse_all, old_driver, old_gpu, damage, remove])
def test_fallback_is_eager_with_one_line_once(machine, blocks, tmp_path, caplog, spoil):
    for name in ("images.zip", SUMS):
        shutil.copy(images.FOLDER / name, tmp_path)
    frames = torch.zeros(1, 16, 16, 3, dtype=torch.uint8)
    with shim.pretend(machine, folder=tmp_path) as current, caplog.at_level(logging.WARNING):
        reason = spoil(machine, tmp_path)
        before = launches(machine)
        for _ in range(3):
            assert torch.equal(fused.dequantize(blocks, "Q8_0"), eager.dequantize(blocks, "Q8_0"))
            fused.block_match(frames, frames, 1, 0.0)
        assert launches(machine) == before
        assert reason in current.refused["dequantize"]
        assert len(caplog.records) == 1
        assert "\n" not in caplog.records[0].getMessage()
        row = next(row for row in current.table() if row["op"] == "dequantize" and "GPU" in row["device"])
        assert (row["backend"], row["image"]) == ("eager", "-") and reason in row["why_not"]


def test_refused_call_runs_eagerly_and_its_reason_is_kept(machine):
    frames = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    with shim.pretend(machine) as current:
        before = launches(machine)
        found = fused.block_match(frames, frames, 2, 2e6)
        assert launches(machine) == before
        assert current.refused == {"block_match": "penalty is 2000000.0, the kernel takes 0.0 to 1000000.0"}
        assert torch.equal(found[0], eager.block_match(frames, frames, 2, 2e6)[0])
        row = next(row for row in current.table() if row["op"] == "block_match" and "GPU" in row["device"])
        assert row["backend"] == "cuda" and row["why_not"].startswith("penalty is 2000000.0")


@pytest.mark.parametrize("qtype, offset", [("Q4_K", 8), ("Q5_1", 4), ("Q8_0", 0)])
def test_start_of_the_blocks_decides(machine, qtype, offset):
    blocks = quantized_weight(qtype, 3, 512, seed=2)
    shifted = torch.empty(blocks.numel() + 16, dtype=torch.uint8)[offset : offset + blocks.numel()].view_as(blocks)
    shifted.copy_(blocks)
    with shim.pretend(machine) as current:
        assert torch.equal(fused.dequantize(shifted, qtype), eager.dequantize(blocks, qtype))
        assert ("dequantize" in current.refused) == bool(offset)


def test_warming_places_every_kernel(machine):
    with shim.pretend(machine) as current:
        before = machine.calls.shim_count(KERNELS_LOADED)
        current.warm(CPU)
        assert machine.calls.shim_count(KERNELS_LOADED) == before + len(registry.KERNELS)


def test_two_gpu_kinds_load_their_own_images(machine, blocks):
    with shim.pretend(machine) as current:
        for capability in ((8, 6), (12, 0), (8, 6)):
            machine.pretended_capability = capability
            fused.dequantize(blocks, "Q8_0")
        assert sorted(current.used.values()) == ["dequantize.sm_120.cubin", "dequantize.sm_86.cubin"]


def test_arguments_keep_their_widths():
    values = launch.packed("pqif", (None, 1 << 40, -3, 0.5))
    assert [type(value) for value in values] == [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int32, ctypes.c_float]
    assert [value.value for value in values] == [None, 1 << 40, -3, 0.5]


def test_driver_error_names_the_call(machine):
    with pytest.raises(launch.DriverError, match="cuLibraryGetKernel failed with 500"):
        machine.driver().kernel(ctypes.c_void_p(1), "absent")
