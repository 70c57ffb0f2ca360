"""What a fused kernel asks of its arguments, as data. Each constraint says in words why a call does not meet it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class DtypeIn:
    """The tensor has one of these dtypes."""

    argument: str
    dtypes: tuple[torch.dtype, ...]

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None."""
        tensor = arguments[self.argument]
        if tensor.dtype in self.dtypes:
            return None
        return f"{self.argument} is {tensor.dtype}, the kernel takes {' or '.join(map(str, self.dtypes))}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """The argument is one of these values."""

    argument: str
    values: tuple

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None."""
        value = arguments[self.argument]
        return None if value in self.values else f"{self.argument} is {value}, which has no kernel"


@dataclass(frozen=True, slots=True)
class Between:
    """The number lies in low..high."""

    argument: str
    low: float
    high: float

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None."""
        value = arguments[self.argument]
        if self.low <= value <= self.high:
            return None
        return f"{self.argument} is {value}, the kernel takes {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class SizeBetween:
    """One dimension of the tensor has low..high entries."""

    argument: str
    dimension: int
    low: int
    high: int

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None."""
        size = arguments[self.argument].shape[self.dimension]
        if self.low <= size <= self.high:
            return None
        return f"dimension {self.dimension} of {self.argument} is {size}, the kernel takes {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Aligned:
    """The tensor starts at a multiple of so many bytes: one number, or one per value of the argument `by`."""

    argument: str
    multiple: int | Mapping[str, int]
    by: str = ""

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None."""
        multiple = self.multiple[arguments[self.by]] if self.by else self.multiple
        rest = arguments[self.argument].data_ptr() % multiple
        return f"{self.argument} starts {rest} bytes after a multiple of {multiple}" if rest else None


@dataclass(frozen=True, slots=True)
class CapabilityAtLeast:
    """The GPU is of this compute capability or newer."""

    major: int
    minor: int

    def refusal(self, arguments: Mapping[str, Any]) -> str | None:
        """Why the call falls outside, or None. The registry puts the GPU's capability among the arguments."""
        major, minor = arguments["capability"]
        if (major, minor) >= (self.major, self.minor):
            return None
        return f"the GPU has compute capability {major}.{minor}, the kernel wants {self.major}.{self.minor}"


Constraint = DtypeIn | OneOf | Between | SizeBetween | Aligned | CapabilityAtLeast
