"""What an encoder finished before it was stopped, so that it can go on at the next GOP."""

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..files import writing
from ..progress import Progress, no_progress
from .gops import Span
from .stream import Gop, Header, Stream, StreamError, read_stream, write_header, write_stream
from .video import CodedGop, Settings, VideoModel, encode_video


class PartialEncoding:
    """A growing stream and, beside it, the latent of each GOP in it.

    The stream is a GVCB file that ends early: any reader shows it up to its last whole GOP. Its name is a hash of
    everything but the pictures; each latent remembers the clip that it was made from, so a changed video is coded anew
    from the first GOP that differs.

    Attributes:
        path: the growing stream.
        gops: those that are finished.
    """

    def __init__(self, folder: Path, header: Header, settings: Settings, spans: Sequence[Span]):
        self.folder, self.header = folder, header
        self.key = hashlib.sha256(write_header(header) + repr((settings, spans)).encode()).hexdigest()[:16]
        self.path = folder / f"{self.key}.gvcb"
        self.gops: list[Gop] = []
        if self.path.is_file():
            try:
                self.gops = list(read_stream(self.path.read_bytes(), self.path.name, partial=True).gops)
            except StreamError:
                self.gops = []
        folder.mkdir(parents=True, exist_ok=True)
        self._keep(len(self.gops))

    def finished(self, number: int, clip: np.ndarray) -> tuple[Gop, torch.Tensor] | None:
        """The GOP made earlier from this clip, and its latent. Where there is none, later GOPs are forgotten too."""
        if number >= len(self.gops):
            return None
        try:
            with safe_open(self._latent_path(number), "pt") as file:
                if file.metadata()["clip"] == clip_digest(clip):
                    return self.gops[number], file.get_tensor("latent")
        except (OSError, SafetensorError):
            pass
        self._keep(number)
        return None

    def append(self, coded: CodedGop) -> None:
        """Keep the next GOP. The latent is written first, so that the stream never names one that is not there."""
        latent = {"latent": coded.latent.cpu().contiguous()}
        save_file(latent, self._latent_path(len(self.gops)), {"clip": clip_digest(coded.clip)})
        with self.path.open("ab") as file:
            file.write(coded.record)
        self.gops.append(coded.gop)

    def remove(self) -> None:
        """Forget everything: the encoding is whole."""
        for number in range(len(self.gops)):
            self._latent_path(number).unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def _keep(self, count: int) -> None:
        self.gops = self.gops[:count]
        with writing(self.path) as partial:
            partial.write_bytes(write_stream(Stream(self.header, tuple(self.gops))))

    def _latent_path(self, number: int) -> Path:
        return self.folder / f"{self.key}-{number:05d}.safetensors"


def encode_resumable(
    folder: Path,
    model: VideoModel,
    header: Header,
    settings: Settings,
    spans: Sequence[Span],
    clips: Iterable[np.ndarray],
    progress: Progress = no_progress,
) -> Iterator[CodedGop]:
    """:func:`.video.encode_video` that leaves what it finished in ``folder`` and goes on from what it finds there."""
    partial = PartialEncoding(folder, header, settings, spans)
    for number, coded in enumerate(encode_video(model, header, settings, spans, clips, partial.finished, progress)):
        if number == len(partial.gops):
            partial.append(coded)
        yield coded
    partial.remove()


def clip_digest(clip: np.ndarray) -> str:
    """SHA-256 of a clip's shape and pixels."""
    return hashlib.sha256(struct.pack("<4I", *clip.shape) + np.ascontiguousarray(clip).tobytes()).hexdigest()
