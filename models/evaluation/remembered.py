"""A vision tower that encodes each picture once, however many modes show it."""

import hashlib
import time
from dataclasses import replace

import torch

from ..progress import Progress, no_progress


class RememberedTower:
    """A tower that keeps the features of the pictures that it has encoded, and what each took.

    Attributes:
        saved: seconds that remembering has saved so far, of those that encoding took the first time.
    """

    def __init__(self, tower):
        self.tower, self.saved = tower, 0.0
        self._known: dict[bytes, tuple[torch.Tensor, torch.Tensor, float]] = {}

    def __getattr__(self, name):
        return getattr(self.tower, name)

    def encode(self, frames: torch.Tensor, progress: Progress = no_progress) -> tuple[torch.Tensor, torch.Tensor]:
        """See :meth:`..qwen.vision.VisionModel.encode`; features are on the CPU."""
        keys = [_digest(one) for one in frames]
        new = [number for number, key in enumerate(keys) if key not in self._known]
        self.saved += sum(self._known[key][2] for key in keys if key in self._known)
        if new:
            began = time.perf_counter()
            tokens, deepstack = (part.cpu() for part in self.tower.encode(frames[new], progress))
            seconds = (time.perf_counter() - began) / len(new)
            for position, number in enumerate(new):
                self._known[keys[number]] = tokens[position], deepstack[:, position], seconds
        found = [self._known[key] for key in keys]
        return torch.stack([one[0] for one in found]), torch.stack([one[1] for one in found], dim=1)

    def forget(self) -> None:
        """Drop what is known: the next clip has other pictures."""
        self._known.clear()


def _digest(pictures: torch.Tensor) -> bytes:
    digest = hashlib.blake2b(str(tuple(pictures.shape)).encode(), digest_size=16)
    digest.update(pictures.cpu().numpy().tobytes())
    return digest.digest()


def with_memory(model):
    """A copy of ``model``, with the same weights, whose tower remembers."""
    return replace(model, vision=RememberedTower(model.vision))
