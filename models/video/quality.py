"""How close one video is to another: FFmpeg's PSNR and SSIM of every frame, and pictures of both side by side."""

import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ..errors import InputError
from ..progress import Progress, no_progress
from .perceptual import flip

IDENTICAL = 100.0
"""PSNR in decibels of equal pictures, whose true value is infinite."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Quality of T frames.

    Attributes:
        mse: float64 [T], mean squared error over R, G and B, 0..65025.
        ssim: float64 [T], structural similarity as FFmpeg's filter computes it on R, G and B.
        flip: float64 [T], mean FLIP error of :mod:`.perceptual`, where it was asked for; else None.
    """

    mse: np.ndarray
    ssim: np.ndarray
    flip: np.ndarray | None = None

    @property
    def psnr(self) -> np.ndarray:
        """float64 [T] decibels, IDENTICAL at most."""
        return decibels(self.mse)

    @property
    def mean_psnr(self) -> float:
        """PSNR of the mean squared error of all frames: how codecs are compared."""
        return float(decibels(self.mse.mean()))

    def in_words(self, pts: np.ndarray) -> str:
        """Means, and the worst frame with its time; ``pts`` are the seconds of the frames."""
        worst = int(self.mse.argmax())
        lines = [
            f"{len(self.mse)} frames: PSNR {self.mean_psnr:.2f} dB, SSIM {self.ssim.mean():.4f}",
            f"worst at {pts[worst]:.2f} s, frame {worst}: {self.psnr[worst]:.2f} dB",
        ]
        if self.flip is not None:
            lines.append(f"FLIP {self.flip.mean():.4f} (0 looks the same)")
        return "\n".join(lines)

    def to_json(self) -> dict:
        """Means, the worst frame, and the value of every frame."""
        seen = {}
        if self.flip is not None:
            seen = {"flip": round(float(self.flip.mean()), 5), "flip_per_frame": self.flip.round(5).tolist()}
        return {
            "frames": len(self.mse),
            "psnr": round(self.mean_psnr, 3),
            "ssim": round(float(self.ssim.mean()), 5),
            "worst_frame": int(self.mse.argmax()),
            "worst_psnr": round(float(self.psnr.min()), 3),
            "psnr_per_frame": self.psnr.round(3).tolist(),
            "ssim_per_frame": self.ssim.round(5).tolist(),
            **seen,
        }


def decibels(mse):
    """PSNR of 8-bit pictures with this mean squared error."""
    return np.minimum(10 * np.log10(255**2 / np.maximum(mse, 1e-12)), IDENTICAL)


def compare(
    reference: Iterable[np.ndarray],
    other: Iterable[np.ndarray],
    progress: Progress = no_progress,
    frames: int = 0,
    perceptual: bool = False,
) -> Comparison:
    """Compare two videos frame by frame.

    Args:
        reference, other: uint8 [H, W, 3] frames of one size, read once.
        progress: called for every frame, with ``frames`` for the total.
        perceptual: measure FLIP too, about a second for a frame of 720p.

    Raises:
        InputError: if the sizes or the numbers of frames differ, or FLIP is not installed.
    """
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder) / "metrics.txt"
        pairs = zip_frames(reference, other)
        graph, flips = None, []
        for number, pair in enumerate(pairs):
            if graph is None:
                graph, sources = _filters(*pair[0].shape[:2], printed)
            for source, picture in zip(sources, pair, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(
                    format="gbrp"
                )
                frame.pts, frame.time_base = number, Fraction(1, 1)
                source.push(frame)
            graph.pull()
            if perceptual:
                flips.append(flip(*pair))
            progress(number + 1, max(frames, number + 1))
        if graph is None:
            raise InputError("the two videos have 0 frames in common to compare; give at least one frame of each")
        del graph, sources
        found = _read_metrics(printed.read_text())
        return replace(found, flip=np.array(flips)) if perceptual else found


def zip_frames(reference: Iterable[np.ndarray], other: Iterable[np.ndarray]):
    """Yield pairs of frames; raise InputError where one video ends first or their sizes differ."""
    reference, other = iter(reference), iter(other)
    count = 0
    while True:
        one, two = next(reference, None), next(other, None)
        if one is None and two is None:
            return
        if one is None or two is None:
            shorter, longer = ("reference", "other video") if one is None else ("other video", "reference")
            raise InputError(f"the {shorter} ends after {count} frames and the {longer} goes on; compare equal lengths")
        if one.shape != two.shape:
            raise InputError(
                f"the reference is {one.shape[1]}x{one.shape[0]} and the other video {two.shape[1]}x{two.shape[0]}; "
                "resize one of them"
            )
        yield one, two
        count += 1


def _filters(height: int, width: int, printed: Path) -> tuple[av.filter.Graph, tuple]:
    """psnr and ssim of two inputs, their numbers printed to a file (PyAV before 17 does not show frame metadata)."""
    graph = av.filter.Graph()
    sources = tuple(
        graph.add_buffer(width=width, height=height, format="gbrp", time_base=Fraction(1, 1), name=name)
        for name in ("reference", "other")
    )
    copies, psnr, ssim = graph.add("split"), graph.add("psnr"), graph.add("ssim")
    path = printed.as_posix().replace("\\", "/").replace(":", "\\:").replace("'", "\\'")
    show, sink = graph.add("metadata", f"mode=print:file={path}:direct=1"), graph.add("buffersink")
    sources[0].link_to(psnr, 0, 0)
    sources[1].link_to(copies)
    copies.link_to(psnr, 0, 1)
    psnr.link_to(ssim, 0, 0)
    copies.link_to(ssim, 1, 1)
    ssim.link_to(show)
    show.link_to(sink)
    graph.configure()
    return graph, sources


def _read_metrics(printed: str) -> Comparison:
    def values(key: str) -> np.ndarray:
        return np.array(re.findall(rf"^{re.escape(key)}=(\S+)$", printed, re.MULTILINE), np.float64)

    return Comparison(values("lavfi.psnr.mse_avg"), values("lavfi.ssim.All"))


def side_by_side(reference: np.ndarray, other: np.ndarray, gain: float = 4.0) -> np.ndarray:
    """uint8 [H, 3 W, 3]: the reference, the other, and their difference around mid-grey, ``gain`` times enlarged."""
    difference = 128 + gain * (other.astype(np.float32) - reference)
    return np.concatenate([reference, other, difference.round().clip(0, 255).astype(np.uint8)], 1)
