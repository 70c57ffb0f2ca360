"""Reference stills as standard image files: deterministic integer decoders that every machine has."""

import io

import numpy as np
from PIL import Image, features

from ..errors import InputError
from ..source.pictures import Picture, open_image
from .records import STILL_CODECS, CorruptStream, ReferenceImage


def encode_image(picture: np.ndarray, codec: str, quality: int, role: int) -> ReferenceImage:
    """Code a still.

    Args:
        picture: uint8 [H, W, 3].
        codec: 'PNG' (exact, quality is not used), 'WEBP' or 'AVIF'.
        quality: 1 to 100.
        role: FIRST or LAST.

    Raises:
        InputError: if this Pillow cannot write the codec, or the picture is too large for it.
    """
    if codec == "AVIF" and not features.check("avif"):
        raise InputError("this Pillow cannot write AVIF; install Pillow 11.3 or newer, or choose WEBP or PNG")
    if codec == "WEBP" and max(picture.shape[:2]) > 16383:
        raise InputError(f"WEBP takes pictures up to 16383 pixels a side, not {picture.shape[1]}x{picture.shape[0]}")
    options = {
        "PNG": {"optimize": True},
        "WEBP": {"quality": quality, "method": 6},
        "AVIF": {"quality": quality, "speed": 4, "subsampling": "4:2:0"},
    }
    packed = io.BytesIO()
    Image.fromarray(picture).save(packed, codec, **options[codec])
    return ReferenceImage(STILL_CODECS.index(codec), role, packed.getvalue())


def decode_image(image: ReferenceImage, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] of ``size`` (H, W), which is compared with what the file says before anything is decoded.

    Raises:
        CorruptStream: for an unknown codec, a picture of another size, or one that does not decode.
        InputError: if this Pillow cannot read AVIF.
    """
    if image.codec >= len(STILL_CODECS):
        raise CorruptStream(f"the stream has a reference image of codec {image.codec}; this reader knows 0 to 2")
    codec = STILL_CODECS[image.codec]
    if codec == "AVIF" and not features.check("avif"):
        raise InputError("this Pillow cannot read the stream's AVIF images; install Pillow 11.3 or newer")
    try:
        picture = open_image(image.data, f"a {codec} reference image", (codec,))
        if picture.size[::-1] == tuple(size):
            return Picture(picture, f"a {codec} reference image").rgb()
    except InputError as error:
        raise CorruptStream(str(error)) from None
    found = picture.size[::-1]
    raise CorruptStream(f"a reference image is {found[1]}x{found[0]}; the stream's video is {size[1]}x{size[0]}")


def best_codec() -> str:
    """AVIF where this Pillow writes it, the smallest at equal quality; else WEBP."""
    return "AVIF" if features.check("avif") else "WEBP"
