"""One reader for pictures: the same pixels from every format and through every door, bounded memory, one sentence."""

import io
import struct
import subprocess
import sys
import zlib

import av
import numpy as np
import pytest
from codeclens.models.errors import InputError
from codeclens.models.source import pictures
from codeclens.models.source.pictures import open_picture, read_picture
from codeclens.models.source.reading import VideoSource
from PIL import Image, PngImagePlugin

RAMP = np.linspace(0, 65535, 64 * 48).astype(np.uint16).reshape(48, 64)
COLOURS = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


def both(path) -> list[np.ndarray]:
    """What the reader of pictures and the reader of videos show."""
    return [read_picture(path), VideoSource.open(path).read().rgb[0]]


def saved(folder, picture: Image.Image, kind: str, **options):
    path = folder / f"picture.{kind.lower()}"
    picture.save(path, kind, **options)
    return path


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000", "PPM"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path, kind):
    """The picture that the same values make in 8 bits."""
    mode = "I" if kind == "PPM" else None
    picture = Image.fromarray(RAMP.astype(np.int32) if mode else RAMP)
    path = saved(tmp_path, picture, kind, **({"irreversible": False} if kind == "JPEG2000" else {}))
    expected = np.repeat((RAMP >> 8).astype(np.uint8)[..., None], 3, 2)
    for rgb in both(path) if kind != "PPM" else [read_picture(path)]:
        np.testing.assert_array_equal(rgb, expected)


def test_16_bit_grey_is_what_ffmpeg_shows(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP), "PNG")
    with av.open(str(path)) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="gray")
    assert np.abs(read_picture(path)[..., 0].astype(int) - shown).max() <= 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAMP / np.float32(65535), RAMP / 257),
        (RAMP.astype(np.float32), RAMP / 257),
        (RAMP / np.float32(65535) * 3 - 1, (RAMP / 65535 * 3 - 1).clip(0, 2) * 127.5),
    ],
    ids=["0 to 1", "the largest becomes white", "below 0"],
)
def test_floats(tmp_path, values, expected):
    values = values.astype(np.float32)
    values[0, 0] = np.nan
    for rgb in both(saved(tmp_path, Image.fromarray(values), "TIFF")):
        assert np.abs(rgb[..., 0] - expected)[1:].max() <= 0.51
        assert rgb[0, 0, 0] == 0


@pytest.mark.parametrize("shift", [0, 8, 24])
def test_integers_of_32_bits_fill_8_16_or_all_of_them(tmp_path, shift):
    grey = (RAMP >> 8).astype(np.int64) << shift
    for rgb in both(saved(tmp_path, Image.fromarray(grey.astype(np.uint32).view(np.int32)), "TIFF")):
        np.testing.assert_array_equal(rgb[..., 0], RAMP >> 8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "AVIF", "GIF"])
def test_transparent_pixels_lie_on_black(tmp_path, kind):
    alpha = np.where(np.arange(64) < 32, 0, 255).astype(np.uint8)
    if kind != "GIF":
        alpha[48:] = 128
    picture = Image.fromarray(np.dstack([np.full_like(COLOURS, 200), np.broadcast_to(alpha, (48, 64))]), "RGBA")
    path = saved(tmp_path, picture, kind, **({"lossless": True} if kind == "WEBP" else {}))
    expected = 200 * (alpha / 255)
    for rgb in both(path):
        assert np.abs(rgb - expected[None, :, None])[:, (np.arange(64) % 32 > 2)].max() <= 4


def test_transparency_of_a_palette_and_of_one_grey(tmp_path):
    palette = Image.fromarray((np.arange(48 * 64) % 2).astype(np.uint8).reshape(48, 64), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    for rgb in both(saved(tmp_path, palette, "PNG", transparency=0)):
        np.testing.assert_array_equal(rgb[0, :2], [[0, 0, 0], [0, 255, 0]])
    grey = Image.fromarray(np.full((48, 64), 77, np.uint8))
    for rgb in both(saved(tmp_path, grey, "PNG", transparency=77)):
        assert not rgb.any()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, kind, orientation):
    """By the eight pictures of the EXIF standard: which corner the first row and column begin in."""
    upright = {
        1: lambda p: p, 2: lambda p: p[:, ::-1], 3: lambda p: p[::-1, ::-1], 4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2), 6: lambda p: np.rot90(p, -1), 7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p),
    }[orientation]  # fmt: skip
    stored = np.zeros((48, 64, 3), np.uint8)
    stored[:24, :32], stored[24:, :32], stored[:24, 32:] = 255, 160, 80
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(stored), kind, exif=exif)
    for rgb in both(path):
        assert rgb.shape == upright(stored).shape
        corners = [(5, 5), (5, -5), (-5, 5), (-5, -5)]
        assert max(abs(int(rgb[at][0]) - int(upright(stored)[at][0])) for at in corners) < 8
    assert open_picture(path).size == upright(stored).shape[:2] == open_picture(path).rgb((8, 8)).shape[:2]
    info = VideoSource.open(path).info
    assert (info.height, info.width) == upright(stored).shape[:2]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_damaged_exif_leaves_a_picture_upright(tmp_path, kind):
    path = saved(tmp_path, Image.fromarray(COLOURS), kind, exif=b"Exif\0\0not a TIFF file", lossless=True)
    for rgb in both(path):
        np.testing.assert_array_equal(rgb, COLOURS)


def test_a_png_with_megabytes_of_text_is_read(tmp_path):
    """What image generators write into their PNG files may be larger than Pillow reads."""
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * (3 << 20), zip=True)
    text.add_itxt("prompt", "y" * (3 << 20), zip=True)
    for rgb in both(saved(tmp_path, Image.fromarray(COLOURS), "PNG", pnginfo=text)):
        np.testing.assert_array_equal(rgb, COLOURS)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_large_picture_is_reduced_before_it_is_resampled(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(pictures, "REDUCE_ABOVE", 1 << 16)
    monkeypatch.setattr(pictures, "BAND_BYTES", 1 << 14)
    waves = np.sin(np.arange(900)[:, None] / 40) * np.cos(np.arange(1300) / 70) * 120 + 128
    path = saved(tmp_path, Image.fromarray(waves.astype(np.uint8)), kind)
    rgb = open_picture(path).rgb((100, 140))
    assert 200 <= rgb.shape[0] < 900 and 280 <= rgb.shape[1] < 1300
    back = np.asarray(Image.fromarray(rgb).resize((1300, 900), Image.Resampling.BICUBIC))[..., 0]
    assert np.abs(back - waves).mean() < 4


def test_motion_jpeg_is_a_video_and_one_jpeg_a_picture(tmp_path):
    frames = []
    for colour in ("red", "green", "blue"):
        packed = io.BytesIO()
        Image.new("RGB", (64, 48), colour).save(packed, "JPEG")
        frames.append(packed.getvalue())
    (tmp_path / "clip.mjpeg").write_bytes(b"".join(frames))
    (tmp_path / "still.jpg").write_bytes(frames[0])
    assert VideoSource.open(tmp_path / "clip.mjpeg").info.codec == "mjpeg"
    assert len(VideoSource.open(tmp_path / "clip.mjpeg").timeline().pts) == 3
    assert VideoSource.open(tmp_path / "still.jpg").info.codec == "jpeg"


def png_of(width: int, height: int, bits: int = 8, colour: int = 2, data: bytes = b"") -> bytes:
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded():
    with pytest.raises(InputError, match=r"^bomb has 30000 x 30000 pixels, which take 3433 MiB; give a picture that"):
        read_picture(png_of(30000, 30000), "bomb")
    with pytest.raises(InputError, match=r"^bomb has 30000 x 30000 pixels"):
        VideoSource.open(png_of(30000, 30000), name="bomb")


REFUSE = """
import resource, sys
from codeclens.models.errors import InputError
from codeclens.models.source.pictures import open_picture
from codeclens.models.source.reading import VideoSource
open_picture(sys.argv[1]).rgb()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for read in (lambda path: open_picture(path).rgb(), VideoSource.open):
    try:
        read(sys.argv[2])
    except InputError as error:
        assert "give a picture that takes 768 MiB or less" in str(error), error
    else:
        raise AssertionError("it was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in KiB on Linux")
def test_nothing_of_a_bomb_is_inflated_to_see_which_side_is_up(tmp_path):
    """Pillow decodes a whole PNG for its EXIF data, which may follow the pixels: this one inflates to 630 MB."""
    rows = zlib.compressobj(1)
    data = b"".join(rows.compress(bytes(60001)) for _ in range(10500)) + rows.flush()
    (tmp_path / "bomb.png").write_bytes(png_of(20000, 10500, 8, 2, data))
    Image.fromarray(COLOURS).save(tmp_path / "small.png")
    command = [sys.executable, "-c", REFUSE, str(tmp_path / "small.png"), str(tmp_path / "bomb.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 24


def test_exif_behind_the_pixels_of_a_png_is_found(tmp_path):
    """The PNG specification allows it anywhere between the header and the end."""
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(tmp_path, Image.fromarray(COLOURS), "PNG", exif=exif).read_bytes()
    at = data.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    (tmp_path / "last.png").write_bytes(data[:at] + data[end:-12] + data[at:end] + data[-12:])
    for rgb in both(tmp_path / "last.png"):
        np.testing.assert_array_equal(rgb, np.rot90(COLOURS, -1))


MEASURE = """
import resource, sys
from codeclens.models.source.pictures import open_picture
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rgb = open_picture(sys.argv[1]).rgb((1024, 1024))
print(rgb.shape[0], (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_400_megapixels_of_grey_take_their_own_memory_and_little_more(tmp_path):
    """Brought to RGBA as a whole, as one does, they would take 3.2 GB."""
    rows = zlib.compressobj()
    data = b"".join(rows.compress(b"\0" + bytes(20000)) for _ in range(20000)) + rows.flush()
    path = tmp_path / "large.png"
    path.write_bytes(png_of(20000, 20000, 8, 0, data))
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True)
    side, megabytes = map(int, done.stdout.split())
    assert 2048 <= side < 4096 and megabytes < 700


@pytest.mark.parametrize(
    ("name", "words"),
    [("absent.png", "cannot be read: No such file"), (".", "is a folder or a device"), ("a\0b", "null")],
)
def test_what_is_no_file_is_one_sentence(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        read_picture(name)


def test_a_text_is_no_picture():
    with pytest.raises(
        InputError, match=r"^notes is not a picture that can be read; PNG, JPEG or WebP would be right$"
    ):
        read_picture(b"Dear diary, " * 20, "notes")


def test_an_animation_takes_more_memory_than_a_picture_of_its_size():
    """A damaged GIF of 17,604 x 33,598 pixels took 5 GB at its second frame."""
    packed = io.BytesIO()
    first, second = (Image.new("RGB", (60, 40), colour) for colour in ("red", "blue"))
    first.save(packed, "GIF", save_all=True, append_images=[second])
    data = bytearray(packed.getvalue())
    data[6:10] = struct.pack("<HH", 12000, 12000)
    with pytest.raises(InputError, match=r"^clip has 12000 x 12000 pixels, which take 1098 MiB"):
        VideoSource.open(bytes(data), name="clip")
