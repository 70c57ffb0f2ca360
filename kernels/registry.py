"""Which ops have fused kernels, what those ask for, and which were refused and why.

An op is a row of data. A call either meets every constraint and its image loads, or the eager twin runs and the reason
is kept. Nothing is loaded before the first call; which image serves is decided once per GPU kind and family, and once
for the processor.
"""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import cuda_images as images
from . import launch, native
from .constraints import Aligned, Between, CapabilityAtLeast, Constraint, DtypeIn, OneOf, SizeBetween

log = logging.getLogger(__name__)

FLOATS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
"""Dtypes that kernels read and write, with their code in common.cuh."""

BLOCK_ALIGNMENT = {
    "Q4_0": 4, "Q4_1": 4, "Q5_0": 4, "Q5_1": 8, "Q8_0": 4, "Q2_K": 4, "Q3_K": 4, "Q4_K": 16, "Q5_K": 16, "Q6_K": 4,
    "IQ4_NL": 4, "IQ4_XS": 8,
}  # fmt: skip
"""Block types with kernels, and the multiple of bytes that their buffers must start at (quants.cuh)."""

TYPE_NUMBERS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
    "Q5_K": 13, "Q6_K": 14, "IQ4_NL": 20, "IQ4_XS": 23, "BF16": 30,
}  # fmt: skip
"""ggml's number of a type with native code (cpu/blocks.h)."""

FUSED_ROWS = (1, 4, 8)
"""Rows of activations that the linear kernels are built for; a call takes the smallest that fits."""

MAX_RADIUS = 128
"""Largest motion window of the kernel, 257 x 257 displacements."""

TURING = CapabilityAtLeast(*images.PTX_CAPABILITY)


@dataclass(frozen=True, slots=True)
class Op:
    """A fused op: the family that holds its kernels, their constraints on a GPU, and those of its native code."""

    name: str
    family: str
    constraints: tuple[Constraint, ...]
    native: tuple[Constraint, ...] | None = None


OPS = {
    op.name: op
    for op in (
        Op(
            "block_match",
            "motion",
            (
                TURING,
                Between("radius", 0, MAX_RADIUS),
                Between("penalty", 0.0, 1e6),
                SizeBetween("current", 0, 1, 65535),
            ),
            native=(Between("radius", 0, MAX_RADIUS), Between("penalty", 0.0, 1e6)),
        ),
        Op(
            "dequantize",
            "dequantize",
            (
                TURING,
                OneOf("qtype", tuple(BLOCK_ALIGNMENT)),
                OneOf("dtype", tuple(FLOATS)),
                Aligned("blocks", BLOCK_ALIGNMENT, by="qtype"),
                Between("count", 1, 1 << 31),
            ),
            native=(OneOf("qtype", tuple(BLOCK_ALIGNMENT)), OneOf("dtype", tuple(FLOATS))),
        ),
        Op(
            "quantized_linear",
            "linear",
            (
                TURING,
                OneOf("qtype", tuple(BLOCK_ALIGNMENT)),
                DtypeIn("x", tuple(FLOATS)),
                Aligned("blocks", BLOCK_ALIGNMENT, by="qtype"),
                SizeBetween("rows", 0, 1, FUSED_ROWS[-1]),
                Aligned("rows", 16),
                SizeBetween("blocks", 0, 1, 1 << 30),
            ),
            native=(
                OneOf("qtype", tuple(TYPE_NUMBERS)),
                DtypeIn("x", tuple(FLOATS)),
                OneOf("product", ("quantized_linear", "float_row")),
            ),
        ),
        Op(
            "delta_step",
            "delta",
            (
                TURING,
                DtypeIn("state", (torch.float32,)),
                SizeBetween("state", 1, 1, 1 << 16),
                SizeBetween("state", 2, 1, 1 << 16),
                SizeBetween("state", 0, 1, 1 << 14),
            ),
            native=(DtypeIn("state", (torch.float32,)),),
        ),
        Op(
            "codebook_select", "codebook", (TURING, DtypeIn("residual", (torch.float32,)), Between("atoms", 1, 1 << 24))
        ),
        Op("codebook_compose", "codebook", (TURING, SizeBetween("index", 0, 1, 1 << 24))),
    )
}

KERNELS = {
    "block_match": ("motion", "ppppppiiiif"),
    "delta_step": ("delta", "ppppppppii"),
    "quantize_rows": ("linear", "pppqi"),
    "codebook_low_residual": ("codebook", "pppqii"),
    "codebook_low_atoms": ("codebook", "pppiii"),
    "codebook_low_int": ("codebook", "ppi"),
    "codebook_low_float": ("codebook", "ppi"),
    "codebook_high_int": ("codebook", "pii"),
    "codebook_high_float": ("codebook", "pii"),
    "codebook_pick": ("codebook", "pppi"),
    "codebook_sum": ("codebook", "pppqii"),
    **{f"dequantize_{qtype}": ("dequantize", "ppqi") for qtype in BLOCK_ALIGNMENT},
    **{f"linear_{qtype}_{rows}": ("linear", "ppppiiii") for qtype in BLOCK_ALIGNMENT for rows in FUSED_ROWS},
    **{f"linear_int8_{qtype}_{rows}": ("linear", "pppppiiii") for qtype in BLOCK_ALIGNMENT for rows in FUSED_ROWS},
}
"""Kernel -> its family and the C types of its arguments (launch.packed)."""


class Registry:
    """The kernels of one machine: loaded images by GPU kind and family, and why the others are not.

    Args:
        machine: what is asked about the GPUs and the driver.
        folder: where the built images are.
        cubins: whether machine code may be used; without it every GPU gets PTX, as one newer than the images does.
        processor: what serves tensors in the processor's memory.
    """

    def __init__(
        self,
        machine: launch.Machine | None = None,
        folder: Path = images.FOLDER,
        cubins: bool = True,
        processor: native.Processor | None = None,
    ):
        self.machine = machine or launch.Machine()
        self.processor = processor or native.Processor()
        self.folder = folder
        self.cubins = cubins
        self.driver: launch.Driver | None = None
        self.unfit: str | None = None
        self.libraries: dict[tuple[str, tuple[int, int]], Any] = {}
        self.used: dict[tuple[str, tuple[int, int]], str] = {}
        self.kernels: dict[tuple[str, tuple[int, int]], Any] = {}
        self.missing: dict[tuple[str, tuple[int, int]], str] = {}
        self.refused: dict[str, str] = {}
        self.lock = threading.Lock()

    def refusal(self, name: str, device: torch.device, arguments: Mapping[str, Any]) -> str | None:
        """Why the op runs eagerly for these arguments on `device`, or None when its kernels will run; keeps the answer.

        What is wrong with the machine (driver, image) is said once on the log; what is special about a call is not.
        """
        op = OPS[name]
        reason = self.unavailable(op.family, device)
        if reason is None:
            reason = broken(op.constraints, {**arguments, "capability": self.machine.capability(device)})
        if reason is not None:
            self.refused[name] = reason
        return reason

    def native_refusal(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """Why the op runs eagerly for these arguments on the processor, or None when its native code will run."""
        return self.processor.unavailable() or broken(OPS[name].native, arguments)

    def unavailable(self, family: str, device: torch.device) -> str | None:
        """Why no kernel of `family` can run on `device`, or None; loads the image on the first question."""
        if self.unfit:
            return self.unfit
        key = family, self.machine.capability(device)
        if key not in self.libraries and key not in self.missing:
            with self.lock:
                if key not in self.libraries and key not in self.missing:
                    self.load(key, device)
        return self.unfit or self.missing.get(key)

    def load(self, key: tuple[str, tuple[int, int]], device: torch.device) -> None:
        """Load the best image for a GPU kind, or record in one logged line why there is none."""
        family, capability = key
        self.start()
        if self.unfit:
            return
        names = [name for name in images.candidates(family, capability) if self.cubins or name.endswith(".ptx")]
        reasons = [] if names else [f"no image fits compute capability {capability[0]}.{capability[1]}"]
        with self.machine.current(device):
            self.driver.make_current(device.index or 0)
            for name in names:
                try:
                    self.libraries[key] = self.driver.load(images.archive(self.folder).read(name))
                except OSError as error:
                    reasons.append(str(error))
                except launch.DriverError as error:
                    reasons.append(f"{name}: {error}")
                else:
                    self.used[key] = name
                    return
        reason = "; ".join(dict.fromkeys(reasons))
        if not any(other == capability for _, other in self.missing):
            kind = f"compute capability {capability[0]}.{capability[1]}"
            log.warning("CodecLens: on GPUs of %s not all CUDA kernels can be used: %s", kind, reason)
        self.missing[key] = reason

    def start(self) -> None:
        """Open the driver on first use; where that is impossible, say why once."""
        if self.driver is not None or self.unfit:
            return
        self.unfit = self.machine.unfit()
        if self.unfit is None:
            try:
                self.driver = self.machine.driver()
            except (OSError, launch.DriverError) as error:
                self.unfit = str(error)
                log.warning("CodecLens: no CUDA kernels can be used: %s", error)

    def run(self, name: str, device: torch.device, grid, threads: int, arguments, shared_bytes: int = 0) -> None:
        """Launch kernel `name` on the current stream of `device`. The family must be available there."""
        family, signature = KERNELS[name]
        with self.machine.current(device):
            self.driver.make_current(device.index or 0)
            kernel = self.kernel(name, family, self.machine.capability(device))
            stream = self.machine.stream(device)
            self.driver.launch(kernel, grid, threads, shared_bytes, stream, launch.packed(signature, arguments))

    def kernel(self, name: str, family: str, capability: tuple[int, int]):
        """The handle of a kernel for a GPU kind."""
        key = name, capability
        if key not in self.kernels:
            self.kernels[key] = self.driver.kernel(self.libraries[family, capability], name)
        return self.kernels[key]

    def warm(self, device: torch.device) -> None:
        """Load every kernel into the context of `device`: during a CUDA graph capture nothing may load."""
        for name, (family, _) in KERNELS.items():
            if self.unavailable(family, device) is None:
                with self.machine.current(device):
                    self.driver.make_current(device.index or 0)
                    self.driver.prepare(self.kernel(name, family, self.machine.capability(device)))

    def table(self) -> list[dict[str, str]]:
        """One row per op and device, the processor first: op, device, backend, image, why_not."""
        rows = [self.native_row(op) for op in OPS.values()]
        unfit = self.machine.unfit()
        if unfit:
            eager = {"device": "cuda", "backend": "eager", "image": "-", "why_not": unfit}
            return rows + [{"op": name, **eager} for name in OPS]
        return rows + [self.row(op, device) for device in self.machine.devices() for op in OPS.values()]

    def native_row(self, op: Op) -> dict[str, str]:
        """The table's row of one op on the processor."""
        why_not = "it has no native code" if op.native is None else self.processor.unavailable()
        return {
            "op": op.name,
            "device": "cpu",
            "backend": "eager" if why_not else "native",
            "image": "-" if why_not else self.processor.target.name,
            "why_not": why_not or "",
        }

    def row(self, op: Op, device: torch.device) -> dict[str, str]:
        """The table's row of one op on one GPU; where the op runs fused, why_not is the last call that did not."""
        unavailable = self.unavailable(op.family, device)
        image = self.used.get((op.family, self.machine.capability(device)), "-")
        return {
            "op": op.name,
            "device": f"{device} {self.machine.name(device)}",
            "backend": "eager" if unavailable else "cuda",
            "image": image,
            "why_not": unavailable or self.refused.get(op.name, ""),
        }


def broken(constraints: tuple[Constraint, ...], arguments: Mapping[str, Any]) -> str | None:
    """What the first of the constraints that a call does not meet says, or None."""
    return next((found for found in (constraint.refusal(arguments) for constraint in constraints) if found), None)


REGISTRY = Registry()
"""The machine that this process runs on. Tests put another in its place (:func:`use`)."""


def current() -> Registry:
    """The registry in force."""
    return REGISTRY


def use(registry: Registry) -> Registry:
    """Put `registry` in force and return the one that was."""
    global REGISTRY
    before, REGISTRY = REGISTRY, registry
    return before
