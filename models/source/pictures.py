"""Picture files through Pillow, for everything that shows or codes a picture: bounded memory, one sentence for damage.

Every reader shows the same pixels: turned upright as EXIF says, transparent pixels over black, 16-bit and
floating-point grey scaled to 8 bits (Pillow's own conversion clips them).
"""

import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError

FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000", "ICO", "DDS", "SGI", "PCX", "PSD", "QOI",
    "TGA",
)  # fmt: skip
"""Those that are pictures and nothing else. EPS is left out because Pillow starts a program to draw it."""

MOST_BYTES = 3 << 28
"""A picture that takes more memory than this, decoded, is refused: 200 megapixels of colour, 800 of grey."""

MOST_SIDE = 1 << 17
"""Pixels, twice the most that JPEG has; damaged files claim millions in one direction."""

REDUCE_ABOVE = 1 << 24
"""Pixels above which a picture is averaged down before it is resampled; below, the resampling filter sees them all."""

BAND_BYTES = 1 << 26
"""A picture is brought to RGB in bands of this size: at once it would take four copies."""

MAGIC = (
    b"GIF8", b"\x89PNG\r\n\x1a\n", b"II*\0", b"MM\0*", b"II+\0", b"BM", b"qoif", b"\0\0\0\x0cjP  ", b"DDS ",
    b"8BPS",
)  # fmt: skip
"""How picture files begin, but for WebP, AVIF and JPEG."""

JPEG = b"\xff\xd8\xff"
FOLLOWS_WITHIN = 1 << 12
"""Bytes within which the next picture of a Motion JPEG stream begins."""

ORIENTATION = 0x0112
"""EXIF 2.32, 4.6.4: which side of the stored picture is up."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip

DECODER_ERRORS = (
    OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError,
    RuntimeError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
"""What Pillow's decoders raise on damaged files."""


class Picture:
    """A picture file whose header has been read; :meth:`rgb` decodes it. Make it with :func:`open_picture`."""

    def __init__(self, image: Image.Image, name: str):
        self.image, self.name = image, name
        self.orientation = orientation_of(image)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) as displayed."""
        width, height = self.image.size
        return (width, height) if self.orientation >= 5 else (height, width)

    def rgb(self, least: tuple[int, int] | None = None) -> np.ndarray:
        """uint8 [H, W, 3], upright. A picture of many pixels is reduced first, to twice ``least`` (H, W) or more.

        Raises InputError where it does not decode, or would take more than ``MOST_BYTES``.
        """
        with decoding(self.name):
            if least and self.image.format == "JPEG" and self.image.width * self.image.height > REDUCE_ABOVE:
                self.image.draft(None, [2 * side for side in turned(least, self.orientation)[::-1]])
            require_memory(self.image, self.name)
            self.image.load()
            return to_rgb(self.image, self.orientation, least)


def read_picture(source: str | os.PathLike | bytes, name: str | None = None) -> np.ndarray:
    """The picture at ``source`` as uint8 [H, W, 3]; arguments and errors as in :func:`open_picture`."""
    return open_picture(source, name).rgb()


def open_picture(
    source: str | os.PathLike | bytes, name: str | None = None, formats: Sequence[str] = FORMATS
) -> Picture:
    """Read the header of a picture file.

    Args:
        source: a path, or the bytes of a file.
        name: what messages call it; the path if not given.
        formats: Pillow's names of the formats that are expected.

    Raises:
        InputError: there is no such file, or it is no picture of these formats.
    """
    name = name or ("the picture" if isinstance(source, bytes) else str(source))
    return Picture(open_image(source if isinstance(source, bytes) else read_file(source), name, formats), name)


def read_file(path: str | os.PathLike) -> bytes:
    """The bytes of a regular file; raises InputError for anything else."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path} is a folder or a device; give the path of a picture file")
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} cannot be read: {reason}; give the path of a picture file") from None


def open_image(data: bytes, name: str, formats: Sequence[str] = FORMATS) -> Image.Image:
    """Pillow's image of a file, not decoded yet. Pillow's own limit of pixels does not hold; see ``MOST_BYTES``.

    Raises InputError where ``data`` is no picture of these formats.
    """
    Image.init()
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        data = headers_first(data)
    with decoding(name):
        for kind in formats:
            factory, accepts = Image.OPEN.get(kind, (None, None))
            if factory is None or (accepts is not None and accepts(data[:16]) is not True):
                continue
            try:
                return factory(io.BytesIO(data), "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue
    raise InputError(f"{name} is not a picture that can be read; PNG, JPEG or WebP would be right")


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises in the block into an InputError that names ``name``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except DECODER_ERRORS as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{name} is damaged and does not decode ({reason}); give another copy of the picture"
        ) from None


def require_memory(image: Image.Image, name: str, animated: bool = False) -> None:
    """Raise InputError where ``image`` has a side above ``MOST_SIDE`` or would take more than ``MOST_BYTES``."""
    pixel = {"1": 1, "L": 1, "P": 1}.get(image.mode, 2 if image.mode.startswith("I;16") else 4)
    if animated:
        # A frame is laid in colour over a copy of the one before.
        pixel = 8
    # OpenJPEG holds 4 bytes for each component beside the picture.
    bytes_needed = image.width * image.height * pixel * (4 if image.format == "JPEG2000" else 1)
    if max(image.size) > MOST_SIDE:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels; give a picture with sides of {MOST_SIDE} or less"
        )
    if bytes_needed > MOST_BYTES:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels, which take {bytes_needed >> 20} MiB; "
            f"give a picture that takes {MOST_BYTES >> 20} MiB or less"
        )


def orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) where there is none or the EXIF data are damaged. Pillow turns TIFF by itself.

    Nothing is decoded: of a PNG, Pillow would inflate all pixels to see whether EXIF data follow them.
    """
    if image.format == "TIFF" or image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1
    return found if found in UPRIGHT else 1


def is_picture(data: bytes) -> bool:
    """True for a file that is read here, still or animated; its first 16 bytes suffice, unless it is a JPEG.

    FFmpeg reads Motion JPEG, which is JPEG pictures one after another, and what Pillow has no decoder for.
    """
    webp, avif = data[:4] == b"RIFF" and data[8:12] == b"WEBP", data[4:12] in (b"ftypavif", b"ftypavis")
    return webp or avif or data.startswith(MAGIC) or is_one_jpeg(data)


def is_one_jpeg(data: bytes) -> bool:
    """True for a JPEG picture that no other follows (ITU-T T.81, annex B), or only as the MPF segment announces."""
    at = 2
    while data.startswith(JPEG) and at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE2 and data[at + 4 : at + 8] == b"MPF\0":
            return True
        if marker == 0xDA:
            end = data.find(b"\xff\xd9", at)
            return end < 0 or data.find(JPEG, end, end + FOLLOWS_WITHIN) < 0
        at += 2 + length
    return False


def turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """A displayed (H, W) as it is stored, and the other way round."""
    return size[::-1] if orientation >= 5 else tuple(size)


def to_rgb(image: Image.Image, orientation: int = 1, least: tuple[int, int] | None = None) -> np.ndarray:
    """A decoded ``image`` as uint8 [H, W, 3], upright, over black.

    With ``least`` (H, W), a picture above ``REDUCE_ABOVE`` pixels is averaged over squares as large as leave twice
    ``least`` in height and width.
    """
    factor = 1
    if least and image.width * image.height > REDUCE_ABOVE:
        height, width = turned(least, orientation)
        factor = max(1, min(image.height // (2 * height), image.width // (2 * width)))
    scale, rows = eight_bits(image), factor * max(1, BAND_BYTES // (4 * image.width * factor))
    rgb = np.empty((-(-image.height // factor), -(-image.width // factor), 3), np.uint8)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb[top // factor : (top + rows) // factor] = _over_black(band, scale).reduce(factor)
    return rgb if orientation == 1 else np.asarray(Image.fromarray(rgb).transpose(UPRIGHT[orientation]))


def eight_bits(image: Image.Image) -> Callable[[np.ndarray], np.ndarray] | None:
    """What brings the values of ``image`` to 0..255 where they have another range; None where they have not.

    16-bit values are cut to their high byte. 32-bit integers are taken for the 8, 16 or 32 bits that hold the largest.
    Floats are 0 to 1; where one is above, the largest becomes white.
    """
    if image.mode.startswith("I;16"):
        return lambda values: values >> 8
    if image.mode == "I":
        lowest, highest = image.getextrema()
        shift = 24 if lowest < 0 or highest > 0xFFFF else 8 if highest > 0xFF else 0
        return lambda values: values.astype(np.uint32) >> shift
    if image.mode == "F":
        values = np.asarray(image)
        white = max(1.0, float(values.max(where=np.isfinite(values), initial=0.0)))
        return lambda values: np.where(np.isfinite(values), values, 0).clip(0, white) * (255 / white) + 0.5
    return None


def _over_black(image: Image.Image, scale: Callable[[np.ndarray], np.ndarray] | None) -> Image.Image:
    if scale is not None:
        image = Image.fromarray(scale(np.asarray(image)).astype(np.uint8))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    return image.convert("RGB")


def headers_first(data: bytes) -> bytes:
    """A PNG file whose EXIF data stand before its pixels, without its text (PNG 3, 11.3.3 and 11.3.4.5).

    Text may be a workflow of many megabytes, which Pillow refuses to read.
    """
    header, exif, kept, at = data[:33], [], [], 33
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind not in (b"tEXt", b"zTXt", b"iTXt"):
            (exif if kind == b"eXIf" and end <= len(data) else kept).append(data[at:end])
        at = end
    return b"".join([header, *exif, *kept, data[at:]])
