"""What frames show: opacities over black, fields, side data without a name; and names that resemble addresses."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from codeclens.models.source.colour import Orientation, side_data, to_rgb
from codeclens.models.source.containers import ContainerReader
from codeclens.models.source.pictures import read_picture
from codeclens.models.source.reading import FrameSampling, VideoSource
from PIL import Image, ImageOps
from support.clips import encode, number_of, numbered, scene


def encode_rgba(rgba: np.ndarray, codec: str, container: str, pix_fmt: str) -> bytes:
    """The bytes of a video of ``rgba`` uint8 [T, H, W, 4]."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *rgba.shape[1:3], pix_fmt
        for number, picture in enumerate(rgba):
            frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


def see_through(count: int = 4) -> np.ndarray:
    """uint8 [T, 64, 96, 4]: a scene whose opacity grows from left to right, and its colours hidden where it is 0."""
    opacity = np.linspace(-60, 300, 96).clip(0, 255).astype(np.uint8)
    rgba = np.dstack([scene(64, 96, contrast=0.4), np.tile(opacity, (64, 1))])
    return np.repeat(rgba[None], count, axis=0)


def over_black(rgba: np.ndarray) -> np.ndarray:
    black = Image.new("RGBA", rgba.shape[1::-1], (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, Image.fromarray(rgba)).convert("RGB"))


@pytest.mark.parametrize("codec, container, pix_fmt, tolerance", [
    ("png", "mov", "rgba", 1),
    ("qtrle", "mov", "argb", 1),
    ("rawvideo", "mov", "rgba", 1),
    ("utvideo", "avi", "gbrap", 1),
    ("ffv1", "matroska", "yuva444p", 4),
    ("prores_ks", "mov", "yuva444p10le", 6),
    ("libvpx-vp9", "webm", "yuva420p", 20),
    ("libvpx-vp9", "matroska", "yuva420p", 20),
])  # fmt: skip
def test_hidden_colours_stay_hidden_in_every_container(codec, container, pix_fmt, tolerance):
    rgba = see_through()
    source = VideoSource.open(encode_rgba(rgba, codec, container, pix_fmt))
    for sampling in (FrameSampling.all(), FrameSampling.every(3)):
        for picture in source.read(sampling).rgb:
            error = np.abs(picture.astype(int) - over_black(rgba[0]))
            assert error.mean() < tolerance / 3 and np.quantile(error, 0.99) <= tolerance
    assert source.read(size=(32, 48)).rgb[0, :, :6].max() <= 8 and source.warnings == []


def test_undefined_bytes_of_uncompressed_avi_are_no_opacities():
    rgba = see_through()
    rgba[..., 3] = 0
    source = VideoSource.open(encode_rgba(rgba, "rawvideo", "avi", "bgra"))
    assert np.array_equal(source.read().rgb[0], rgba[0, ..., :3])


def test_a_matrix_that_does_not_exist_is_taken_for_the_usual_one():
    frame = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 90, np.uint8), format="rgb24").reformat(format="yuv420p")
    usual = to_rgb(frame, (32, 48))
    frame.colorspace = 72
    assert np.array_equal(to_rgb(frame, (32, 48)), usual)


class FrameOfTheFuture:
    """A frame with side data of a kind that PyAV has no name for."""

    def __init__(self, rotation: int):
        self.rotation = rotation

    @property
    def side_data(self):
        raise ValueError("31 is not a valid Type")


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_unknown_side_data_costs_nothing(rotation):
    assert side_data(FrameOfTheFuture(rotation), "MOTION_VECTORS") is None
    reader = VideoSource.open(encode(numbered(1, 64, 96), rotation=rotation)).reader
    assert isinstance(reader, ContainerReader)
    assert Orientation.of(FrameOfTheFuture(rotation)) == reader.orientation


def test_exif_in_motion_jpeg(faults):
    for name, count in (("cam_exif.avi", 12), ("cam_exif.mov", 12), ("cam_exif.mjpeg", 12), ("exif6.jpg", 1)):
        source = VideoSource.open(faults / "qwen/mjpeg_exif" / name)
        assert len(source.read(FrameSampling.all())) == count and source.warnings == []


def motion_jpeg(pictures: list[bytes], container: str) -> bytes:
    """The bytes of a video of whole JPEG files, as cameras write it."""
    if container == "mjpeg":
        return b"".join(pictures)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("mjpeg", rate=10)
        stream.width, stream.height = Image.open(io.BytesIO(pictures[0])).size
        stream.pix_fmt = "yuvj420p"
        for number, picture in enumerate(pictures):
            packet = av.Packet(picture)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 10)
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", ["avi", "mov", "matroska", "mjpeg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_and_mirrors_motion_jpeg_as_it_does_pictures(orientation, container):
    """Pillow's exif_transpose is the reference, and the reader of pictures shows the same."""
    picture, exif, file = Image.fromarray(scene(96, 128)), Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    picture.save(file, "JPEG", quality=95, subsampling=0, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(file))).astype(int)
    source = VideoSource.open(motion_jpeg([file.getvalue()] * 3, container))
    shown = source.read(FrameSampling.all()).rgb
    assert (source.info.height, source.info.width) == upright.shape[:2]
    assert shown.shape == (3, *upright.shape) and np.abs(shown - upright).max() <= 3
    assert np.abs(read_picture(file.getvalue()) - upright).max() <= 3


@pytest.mark.parametrize("matrix, upright", [
    ((1, 0, 0, 1), lambda rgb: rgb), ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]), ((1, 0, 0, -1), lambda rgb: rgb[::-1]),
    ((-1, 0, 0, -1), lambda rgb: rgb[::-1, ::-1]), ((0, 1, 1, 0), lambda rgb: rgb.transpose(1, 0, 2)),
    ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)), ((0, -1, 1, 0), np.rot90),
    ((0, -1, -1, 0), lambda rgb: rgb.transpose(1, 0, 2)[::-1, ::-1]),
])  # fmt: skip
def test_every_display_matrix_of_mp4(matrix, upright):
    """The matrix of the track header (ISO/IEC 14496-12, 8.3.2), written into the bytes of a file."""
    data = bytearray(encode(numbered(2, 64, 96)))
    plain = VideoSource.open(bytes(data)).read(FrameSampling.all()).rgb[0]
    at = data.index(b"tkhd") + 4 + 40
    for entry, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[at + 4 * entry : at + 4 * entry + 4] = (value << 16).to_bytes(4, "big", signed=True)
    assert np.array_equal(VideoSource.open(bytes(data)).read(FrameSampling.all()).rgb[0], upright(plain))


def test_fields_are_said():
    source = VideoSource.open(encode(numbered(4, 96, 96), options={"x264-params": "tff=1"}), name="tape")
    assert source.info.interlaced and len(source.warnings) == 1 and "tape is interlaced" in source.warnings[0]
    assert not VideoSource.open(encode(numbered(2))).info.interlaced


@pytest.mark.parametrize("name", [
    "12:30.mp4", "http:z.mp4", "Movie: part 1.mp4", "concat:a|b.mp4", "pipe:0", "file:x.mp4", "%03d.mp4", "a b?.mp4",
    "\u00e9t\u00e9 \u65e5\u672c.mp4", "-i.mp4", "data:text.mp4", "subfile,,start,0:x.mp4", "async:b",
    "n" * 250 + ".mp4",
])  # fmt: skip
def test_every_name_opens(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    try:
        Path(name).write_bytes(encode(numbered(3, 64, 96)))
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    frames = VideoSource.open(name).read(FrameSampling.all())
    assert [number_of(picture) for picture in frames.rgb] == [0, 1, 2]
