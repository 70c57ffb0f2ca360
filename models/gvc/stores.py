"""Latents of a video's GOPs, kept in memory or in files, and what an encoder has finished."""

from collections.abc import Iterator, MutableMapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from ..files import writing
from .records import Gop


class LatentFiles(MutableMapping):
    """float32 [C, F, H, W] by the number of a GOP, each in a file of its own: memory holds one at a time.

    Args:
        folder: where the files lie; it must exist.
        prefix: start of their names.
    """

    def __init__(self, folder: Path, prefix: str):
        self.folder, self.prefix = folder, prefix

    def path(self, number: int) -> Path:
        return self.folder / f"{self.prefix}-{number:05d}.safetensors"

    def save(self, number: int, latent: torch.Tensor, note: str) -> None:
        """Keep a latent and a note with it."""
        with writing(self.path(number)) as partial:
            save_file({"latent": latent.cpu().contiguous()}, partial, {"note": note})

    def note(self, number: int) -> str:
        """The note of a latent; raises OSError or SafetensorError where there is none."""
        with safe_open(self.path(number), "pt") as file:
            return file.metadata()["note"]

    def __setitem__(self, number: int, latent: torch.Tensor) -> None:
        self.save(number, latent, "")

    def __getitem__(self, number: int) -> torch.Tensor:
        if not self.path(number).is_file():
            raise KeyError(number)
        with safe_open(self.path(number), "pt") as file:
            return file.get_tensor("latent")

    def __delitem__(self, number: int) -> None:
        self.path(number).unlink()

    def clear(self) -> None:
        for number in list(self):
            del self[number]

    def __iter__(self) -> Iterator[int]:
        names = sorted(path.stem for path in self.folder.glob(f"{self.prefix}-*.safetensors"))
        return (int(name.rpartition("-")[2]) for name in names)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class GopStore:
    """What an encoder keeps between its passes over a video: here in memory, and forgotten afterwards.

    Attributes:
        targets: latents to code, by GOP, until they are coded.
        latents: those that a decoder will have, by GOP.
    """

    def __init__(self):
        self.targets: MutableMapping[int, torch.Tensor] = {}
        self.latents: MutableMapping[int, torch.Tensor] = {}

    def finished(self, number: int, fingerprint: str) -> Gop | None:
        """The GOP coded earlier from what ``fingerprint`` stands for, whose latent is in ``latents``."""
        return None

    def append(self, number: int, fingerprint: str, gop: Gop, record: bytes, latent: torch.Tensor) -> None:
        """Keep the next GOP."""
        self.latents[number] = latent

    def close(self) -> None:
        """The encoding is whole."""
