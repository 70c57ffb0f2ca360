"""What every reader makes of a file: named tensors and metadata."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

FLOATS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
FLOAT8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
"""Types of .safetensors files of which a weight is ``scale`` times the numbers stored."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as it lies in the file.

    ``type`` is ggml's name ("Q4_K"), ``shape`` the logical shape in torch's order (rows before columns). ``data`` views
    the memory map: float types in that shape and dtype; block types uint8 [..., row_bytes]; None when this version of
    the ``gguf`` library does not know the type's size. ``scale`` multiplies what is stored in 8-bit floats.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    data: torch.Tensor | None
    scale: float = 1.0

    @property
    def is_quantized(self) -> bool:
        return self.type not in FLOATS

    def rows(self, start: int, stop: int) -> "StoredTensor":
        """The same tensor cut to rows ``start`` to ``stop`` of its matrix or matrices, still a view of the file."""
        return replace(self, shape=(*self.shape[:-2], stop - start, self.shape[-1]), data=self.data[..., start:stop, :])


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model's file, or all parts of a split one: its metadata and its tensors by name, both as GGUF names them.

    ``tower`` is the vision half where the same file holds both.
    """

    path: Path
    size: int
    metadata: dict
    tensors: dict[str, StoredTensor] = field(repr=False)
    tower: "ModelFile | None" = field(repr=False, default=None)

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", "unknown"))

    def __deepcopy__(self, memo) -> "ModelFile":
        """Copies of a model share its file."""
        return self

    @property
    def type_counts(self) -> Counter:
        """How many tensors are stored in each ggml type."""
        return Counter(tensor.type for tensor in self.tensors.values())
