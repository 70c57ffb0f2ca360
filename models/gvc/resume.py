"""What an encoder finished before it was stopped, so that it can go on at the next GOP."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from ..files import make_folder, refusals_of, writing
from .gops import Span
from .records import Gop, Header, Stream, StreamError
from .stores import GopStore, LatentFiles
from .stream import read_stream, write_header, write_stream
from .video import Settings


class PartialEncoding(GopStore):
    """A growing stream and, beside it, the latent of each GOP in it.

    The stream is a GVCB file that ends early: any reader shows it up to its last whole GOP. Its name is a hash of
    everything but the pictures; each latent remembers the clip that it was made from, so a changed video is coded anew
    from the first GOP that differs.

    Attributes:
        path: the growing stream.
        gops: those that are finished.
    """

    def __init__(self, folder: Path, header: Header, settings: Settings, spans: Sequence[Span], sound: bytes = b""):
        self.folder, self.header, self.sound = folder, header, sound
        everything = write_header(header) + repr((settings, spans)).encode() + sound
        self.key = hashlib.sha256(everything).hexdigest()[:16]
        self.path = folder / f"{self.key}.gvcb"
        self.targets = LatentFiles(folder, f"{self.key}-target")
        self.latents = LatentFiles(folder, f"{self.key}-coded")
        self.gops: list[Gop] = []
        if self.path.is_file():
            try:
                self.gops = list(read_stream(self.path.read_bytes(), self.path.name, partial=True).gops)
            except StreamError:
                self.gops = []
        make_folder(folder)
        self._keep(len(self.gops))

    def finished(self, number: int, fingerprint: str) -> Gop | None:
        """The GOP made earlier from the same. Where there is none, later GOPs are forgotten too."""
        if number >= len(self.gops):
            return None
        try:
            if self.latents.note(number) == fingerprint:
                return self.gops[number]
        except (OSError, KeyError, SafetensorError):
            pass
        self._keep(number)
        return None

    def append(self, number: int, fingerprint: str, gop: Gop, record: bytes, latent: torch.Tensor) -> None:
        """Keep the next GOP. The latent is written first, so that the stream never names one that is not there."""
        self.latents.save(number, latent, fingerprint)
        with refusals_of(self.path), self.path.open("ab") as file:
            file.write(record)
        self.gops.append(gop)

    def close(self) -> None:
        """Forget everything: the encoding is whole."""
        for latents in (self.targets, self.latents):
            latents.clear()
        self.path.unlink(missing_ok=True)

    def _keep(self, count: int) -> None:
        self.gops = self.gops[:count]
        with writing(self.path) as partial:
            partial.write_bytes(write_stream(Stream(self.header, tuple(self.gops), self.sound)))
