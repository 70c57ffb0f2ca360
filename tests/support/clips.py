"""Small test videos whose every frame is known, made with FFmpeg (through PyAV) and Pillow."""

import io
from fractions import Fraction

import av
import numpy as np
from PIL import Image


def encode(
    rgb,
    *,
    fps=25,
    codec="libx264",
    container="mp4",
    container_options=None,
    pix_fmt="yuv420p",
    options=None,
    ticks=None,
    time_base=None,
    rotation=0,
    sample_aspect=None,
    colorspace=None,
    transfer=None,
    streams=1,
    default=None,
) -> bytes:
    """The bytes of a video of ``rgb`` uint8 [T, H, W, 3].

    ``ticks`` are presentation times in units of ``time_base``, evenly spaced at ``fps`` if not given. With ``streams``
    above 1 stream n shows the pictures inverted n times; ``default`` is the one that the container marks as default.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=container_options or {}) as output:
        made = []
        for number in range(streams):
            stream = output.add_stream(codec, rate=Fraction(fps).limit_denominator(100000))
            stream.height, stream.width = rgb.shape[1:3]
            stream.pix_fmt = pix_fmt
            stream.options = dict(options or {})
            if time_base is not None:
                stream.codec_context.time_base = Fraction(time_base)
            if sample_aspect is not None:
                stream.codec_context.sample_aspect_ratio = Fraction(sample_aspect)
            if colorspace is not None:
                stream.codec_context.colorspace = colorspace
            if transfer is not None:
                stream.codec_context.color_trc = transfer
            if rotation:
                stream.set_display_rotation(rotation)
            if default is not None:
                stream.disposition = 1 if number == default else 0
            made.append(stream)
        for position, picture in enumerate(rgb):
            for number, stream in enumerate(made):
                picture_now = 255 - picture if number % 2 else picture
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_now), format="rgb24")
                frame = frame.reformat(format=pix_fmt, dst_colorspace=colorspace)
                frame.pts = position if ticks is None else int(ticks[position])
                frame.time_base = Fraction(1) / Fraction(fps) if time_base is None else Fraction(time_base)
                output.mux(stream.encode(frame))
        for stream in made:
            output.mux(stream.encode(None))
    return file.getvalue()


def repeat(video: bytes, times: int) -> bytes:
    """An MP4 that shows the frames of ``video`` (an MP4 of one closed GOP) ``times`` times over, without encoding."""
    file = io.BytesIO()
    with av.open(io.BytesIO(video)) as source, av.open(file, "w", format="mp4") as output:
        stream = source.streams.video[0]
        packets = [packet for packet in source.demux(stream) if packet.size]
        length = stream.duration
        made = output.add_stream_from_template(stream)
        times_of = [(packet.pts, packet.dts) for packet in packets]
        for turn in range(times):
            for packet, (pts, dts) in zip(packets, times_of, strict=True):
                packet.stream, packet.time_base = made, stream.time_base
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                output.mux(packet)
    return file.getvalue()


def animate(rgb, *, format="GIF", milliseconds=100) -> bytes:
    """The bytes of an animated GIF, WebP or PNG of ``rgb`` uint8 [T, H, W, 3]; one delay or one for each frame."""
    file = io.BytesIO()
    pictures = [Image.fromarray(picture) for picture in rgb]
    settings = {"lossless": True} if format == "WEBP" else {}
    pictures[0].save(file, format, save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0, **settings)
    return file.getvalue()


def numbered(count, height=96, width=128, *, seed=0) -> np.ndarray:
    """uint8 [T, H, W, 3]: a still scene under the frame's number in 10 large black or white squares."""
    rgb = np.repeat(scene(height, width, seed=seed)[None], count, axis=0)
    side_y, side_x = height // 2, width // 5
    for position in range(count):
        for bit in range(10):
            y, x = bit // 5 * side_y, bit % 5 * side_x
            rgb[position, y : y + side_y, x : x + side_x] = 255 * (position >> bit & 1)
    return rgb


def number_of(picture) -> int:
    """The number that ``numbered`` painted, read back at any size."""
    height, width = picture.shape[:2]
    bits = 0
    for bit in range(10):
        y, x = int((bit // 5 + 0.5) * height / 2), int((bit % 5 + 0.5) * width / 5)
        bits |= int(picture[y - 1 : y + 2, x - 1 : x + 2].mean() > 127) << bit
    return bits


def scene(height, width, *, seed=0, smooth=3, contrast=1.0) -> np.ndarray:
    """uint8 [H, W, 3]: a random scene of soft blobs and fine detail, different for each seed."""
    random = np.random.default_rng(seed)
    picture = np.full((height, width, 3), random.uniform(60, 190, 3))
    for cells, strength in ((4, 60), (12, 40), (40, 25)):
        noise = random.normal(0, strength, (cells, max(1, cells * width // height), 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(noise[..., channel]).resize((width, height), Image.Resampling.BICUBIC)
            picture[..., channel] += np.asarray(layer)
    middle = picture.mean()
    return (middle + (picture - middle) * contrast).clip(0, 255).astype(np.uint8)
