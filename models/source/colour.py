"""From a decoded picture to upright RGB of the wanted size."""

from dataclasses import dataclass

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataKind
from av.video.reformatter import Colorspace, Interpolation

COLORSPACE_UNSPECIFIED, KNOWN_COLORSPACES = 2, range(18)
"""AVCOL_SPC_UNSPECIFIED, and all up to AVCOL_SPC_NB (libavutil/pixfmt.h): damaged files name others."""

FULL_QUALITY = int(Interpolation.BICUBIC) | 0x2000 | 0x40000
"""Antialiased bicubic with chroma at full width (SWS_FULL_CHR_H_INT) and exact rounding (SWS_ACCURATE_RND)."""


@dataclass(frozen=True, slots=True)
class Orientation:
    """How a coded picture is turned upright: rows and columns swapped first, then flipped.

    From the display matrix of the container (ISO/IEC 14496-12, 6.2.2): a, b, c, d map (x, y) to (ax + cy, bx + dy).
    """

    transpose: bool = False
    flip_columns: bool = False
    flip_rows: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        matrix = side_data(frame, "DISPLAYMATRIX")
        if matrix is None:
            # What PyAV works out without the table of its names; mirrored pictures are beyond it.
            turn = round(frame.rotation / 90) % 4
            return cls(transpose=turn % 2 == 1, flip_columns=turn in (2, 3), flip_rows=turn in (1, 2))
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(b) > abs(a):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def apply(self, rgb: np.ndarray) -> np.ndarray:
        """The upright picture of ``rgb`` [H, W, 3]."""
        if self.transpose:
            rgb = rgb.transpose(1, 0, 2)
        return rgb[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def side_data(frame: av.VideoFrame, kind: str):
    """The side data of PyAV's name ``kind``; None where there is none or PyAV cannot list what there is."""
    SideDataKind._missing_ = classmethod(_unknown_kind)
    try:
        return frame.side_data.get(kind)
    except ValueError:
        return None


def _unknown_kind(kinds: type[SideDataKind], number: int) -> SideDataKind:
    """A kind that FFmpeg has and PyAV has no name for (EXIF in PyAV 18): without one, no side data can be read."""
    kind = object.__new__(kinds)
    kind._name_, kind._value_ = f"UNKNOWN_{number}", number
    return kind


def has_alpha(frame: av.VideoFrame) -> bool:
    """True for a pixel format with opacities, in a plane of their own or in a palette."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)


def to_rgb(
    frame: av.VideoFrame, size: tuple[int, int], orientation: Orientation | None = None, alpha: bool = True
) -> np.ndarray:
    """Upright RGB, uint8 [H, W, 3], of ``size`` (H, W) as displayed, over black where it is not opaque.

    A picture that does not say its YCbCr matrix is read as players do: BT.709 above 576 lines, BT.601 below.
    ``alpha`` is False where opacities mean nothing.
    """
    orientation = orientation or Orientation()
    if alpha and has_alpha(frame):
        return orientation.apply(resize_rgb(_over_black(frame), size[::-1] if orientation.transpose else size))
    height, width = size[::-1] if orientation.transpose else size
    rgb = frame.reformat(width, height, "rgb24", src_colorspace=_matrix(frame), interpolation=FULL_QUALITY).to_ndarray()
    return orientation.apply(rgb)


def _matrix(frame: av.VideoFrame) -> Colorspace | None:
    """The matrix to use in place of what the frame says, None where that will do."""
    hd, unspecified = frame.height > 576, frame.colorspace == COLORSPACE_UNSPECIFIED
    if frame.format.is_rgb or frame.colorspace in KNOWN_COLORSPACES and not (hd and unspecified):
        return None
    return Colorspace.ITU709 if hd else Colorspace.ITU601


def _over_black(frame: av.VideoFrame) -> np.ndarray:
    rgba = frame.reformat(format="rgba", src_colorspace=_matrix(frame), interpolation=FULL_QUALITY).to_ndarray()
    return ((rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + 127) // 255).astype(np.uint8)


def resize_rgb(rgb: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``rgb`` uint8 [H, W, 3] at ``size`` (H, W), with the same filter as decoded pictures."""
    if rgb.shape[:2] == tuple(size):
        return rgb
    return to_rgb(av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24"), size)
