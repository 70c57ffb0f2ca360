"""A clip made from nothing: a moving scene, a hard cut, a pan and a still stretch, the same bytes on every run.

The first command of the README plans this clip, so that a newcomer sees the whole job without owning a video.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from ..files import writing
from ..progress import Progress, no_progress

WIDTH, HEIGHT, FPS = 640, 384, 24
CUT = 120
PAN_END = 216
FRAMES = 312
IN_WORDS = (
    "A hot-air balloon and clouds drift over mountains. After 5 seconds a hard cut to a harbour at dusk, over which the"
    " camera pans until 9 seconds; from there nothing moves."
)
PAN_SPEED = 4
"""Pixels per frame that the nearest layer of the second scene moves to the left while the camera pans."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A painted strip wider than the picture; it slides by ``speed`` pixels while the camera moves by one.

    Attributes:
        rgb: uint8 [H, W', 3].
        alpha: uint8 [H, W'], 255 where the layer is opaque.
        speed: fraction of the camera's movement, 1 for the nearest layer.
    """

    rgb: np.ndarray
    alpha: np.ndarray
    speed: float

    @property
    def top(self) -> int:
        """The first row that shows anything."""
        return int(np.argmax(self.alpha.any(axis=1)))


def write_demo(path: str | os.PathLike, progress: Progress = no_progress) -> Path:
    """Write the clip (H.264 in MP4, 640x384, 24 fps, 13 s) and return its path.

    Frames 0-119 show a balloon and clouds over mountains, a hard cut at frame 120 leads to a harbour at dusk where the
    camera pans until frame 216, and from there nothing moves.
    """
    path = Path(path)
    with writing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast", "threads": "1"}
        for number, rgb in enumerate(demo_frames()):
            progress(number, FRAMES)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    progress(FRAMES, FRAMES)
    return path


def demo_frames():
    """Yield the 312 frames, uint8 [384, 640, 3] each."""
    mountains, balloon = mountain_layers(), balloon_sprite()
    for number in range(CUT):
        picture = compose(mountains, camera=0, drift=number)
        paste(picture, balloon, x=60 + 3 * number, y=150 - number // 2 + round(8 * np.sin(number / 14)))
        yield picture
    harbour = harbour_layers()
    for number in range(CUT, PAN_END):
        yield compose(harbour, PAN_SPEED * (number - CUT))
    still = compose(harbour, PAN_SPEED * (PAN_END - CUT))
    for _ in range(PAN_END, FRAMES):
        yield still


def compose(layers: list[Layer], camera: int, drift: int = 0) -> np.ndarray:
    """Stack the layers, back to front, seen by a camera that moved ``camera`` pixels to the right.

    A layer with negative speed drifts by itself instead, |speed| pixels for each unit of ``drift``.
    """
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for layer in layers:
        left = round(layer.speed * camera) if layer.speed >= 0 else round(-layer.speed * drift)
        window = np.s_[layer.top :, left : left + WIDTH]
        paste(picture, (layer.rgb[window], layer.alpha[window]), 0, layer.top)
    return picture


def paste(picture: np.ndarray, sprite, x: int, y: int) -> None:
    """Blend ``sprite`` (rgb, alpha) into ``picture`` in place, its upper left corner at (x, y); the rest is clipped."""
    rgb, alpha = sprite
    top, left = max(y, 0), max(x, 0)
    bottom, right = min(y + rgb.shape[0], HEIGHT), min(x + rgb.shape[1], WIDTH)
    if top >= bottom or left >= right:
        return
    window = np.s_[top - y : bottom - y, left - x : right - x]
    weight = alpha[window][..., None].astype(np.uint16)
    under = picture[top:bottom, left:right]
    under[:] = ((rgb[window] * weight + under * (255 - weight) + 127) // 255).astype(np.uint8)


def mountain_layers() -> list[Layer]:
    """The first scene: sky and sun, drifting clouds, three ridges, a meadow with firs."""
    random = np.random.default_rng(7)
    sky = gradient(WIDTH, [(0, (86, 150, 214)), (0.55, (188, 216, 233)), (0.8, (250, 231, 201))])
    glow(sky, 500, 84, 150, (255, 236, 190), 0.8)
    glow(sky, 500, 84, 34, (255, 250, 230), 1.0)
    ridges = [
        ridge(WIDTH, 196, 62, (140, 160, 190), random, snow=True),
        ridge(WIDTH, 250, 46, (92, 124, 150), random),
        ridge(WIDTH, 298, 30, (60, 98, 100), random),
        ridge(WIDTH, 340, 12, (88, 130, 66), random, trees=True),
    ]
    return [opaque(sky, 0.0), clouds(WIDTH + 160, random), *ridges]


def harbour_layers() -> list[Layer]:
    """The second scene: a dusk sky with a moon, far hills, houses with lit windows, water with boats, a quay."""
    random = np.random.default_rng(23)
    width = WIDTH + PAN_SPEED * (PAN_END - CUT)
    sky = gradient(WIDTH + 100, [(0, (28, 30, 70)), (0.45, (112, 68, 118)), (0.72, (238, 132, 96))])
    glow(sky, 470, 70, 90, (255, 240, 220), 0.35)
    glow(sky, 470, 70, 26, (255, 248, 232), 1.0)
    return [
        opaque(sky, 0.0),
        ridge(width // 2 + WIDTH, 236, 34, (74, 52, 96), random, speed=0.25),
        houses(width, random),
        quay(width, random),
    ]


def gradient(width: int, stops) -> np.ndarray:
    """uint8 [HEIGHT, width, 3] blending from colour to colour; a stop is (fraction of the height, rgb)."""
    rows = np.arange(HEIGHT) / HEIGHT
    at = [stop[0] for stop in stops]
    column = np.stack([np.interp(rows, at, [stop[1][channel] for stop in stops]) for channel in range(3)], axis=1)
    return np.repeat(column[:, None].round().astype(np.uint8), width, axis=1)


def glow(picture: np.ndarray, x: int, y: int, radius: int, colour, strength: float) -> None:
    """Add a soft disc to ``picture`` in place."""
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    distance = np.hypot(rows - y, columns - x) / radius
    weight = (strength * np.clip((1.05 - distance) / 0.1 if radius < 60 else 1 - distance, 0, 1))[..., None]
    picture[:] = (picture * (1 - weight) + np.array(colour) * weight).astype(np.uint8)


def opaque(rgb: np.ndarray, speed: float) -> Layer:
    return Layer(rgb, np.full(rgb.shape[:2], 255, np.uint8), speed)


def canvas(width: int, height: int = HEIGHT, colour=(0, 0, 0)) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A transparent picture of twice the size, to be shrunk by :func:`layer_of`, and its pen."""
    picture = Image.new("RGBA", (2 * width, 2 * height), (*colour, 0))
    return picture, ImageDraw.Draw(picture)


def layer_of(picture: Image.Image, speed: float) -> Layer:
    """Shrink a canvas to half, which smooths its edges, and make it a layer."""
    small = np.asarray(picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX))
    return Layer(small[..., :3].copy(), small[..., 3].copy(), speed)


def ridge(width, level, height, colour, random, speed=0.0, snow=False, trees=False) -> Layer:
    """A hill line made of sines, textured with strokes so that its motion can be seen."""
    picture, pen = canvas(width)
    columns = np.arange(2 * width)
    line = np.full(2 * width, 2.0 * level)
    for octave in range(1, 5):
        period = 760 / octave**1.3 * random.uniform(0.8, 1.2)
        line += 2 * height / octave**1.4 * np.sin(columns / period * 2 * np.pi + random.uniform(0, 6.3))
    pen.polygon(
        [(0, 2 * HEIGHT), *zip(columns.tolist(), line.tolist(), strict=True), (2 * width, 2 * HEIGHT)], fill=colour
    )
    if snow:
        top = line.min()
        for left in range(0, 2 * width - 12, 9):
            depth = max(0.0, (top + 1.4 * height - line[left]) * random.uniform(0.6, 1.3))
            foot = (left + 6, line[left + 6] + depth)
            pen.polygon([(left - 3, line[left]), (left + 12, line[left + 12]), foot], fill=(236, 240, 246))
    for _ in range(width):
        x = int(random.integers(0, 2 * width))
        y = line[x] + random.uniform(8, 160)
        shade = random.uniform(0.86, 1.1)
        pen.line((x, y, x + random.uniform(10, 34), y + random.uniform(-4, 8)), fill=scaled(colour, shade), width=3)
    if trees:
        for x in sorted(random.integers(0, 2 * width, 46).tolist()):
            fir(pen, x, line[x] + random.uniform(6, 60), random.uniform(36, 84), random.uniform(0.8, 1.15))
    return layer_of(picture, speed)


def scaled(colour, factor: float) -> tuple[int, int, int]:
    return tuple(int(min(255, channel * factor)) for channel in colour)


def fir(pen, x, y, height, shade) -> None:
    """A fir: three triangles on a trunk, its foot at (x, y)."""
    pen.rectangle((x - 3, y - 10, x + 3, y), fill=(84, 62, 44))
    for step in range(3):
        base, half = y - 8 - step * height * 0.26, height * (0.34 - 0.07 * step)
        pen.polygon([(x - half, base), (x + half, base), (x, base - height * 0.46)], fill=scaled((38, 84, 58), shade))


def clouds(width: int, random) -> Layer:
    """Soft clouds that drift by themselves, half a pixel a frame."""
    picture, pen = canvas(width, colour=(255, 255, 255))
    for _ in range(8):
        x, y = random.uniform(0, 2 * width), random.uniform(40, 260)
        for _ in range(9):
            half = random.uniform(18, 52)
            dx, dy = random.uniform(-90, 90), random.uniform(-14, 14)
            pen.ellipse(
                (x + dx - half * 1.5, y + dy - half / 2, x + dx + half * 1.5, y + dy + half / 2),
                fill=(255, 255, 255, 215),
            )
    return layer_of(picture.filter(ImageFilter.GaussianBlur(5)), -0.5)


def balloon_sprite() -> tuple[np.ndarray, np.ndarray]:
    """A striped hot-air balloon, 84x112 pixels with transparency."""
    picture, pen = canvas(84, 112)
    pen.line((52, 140, 74, 192), fill=(90, 70, 50), width=3)
    pen.line((116, 140, 94, 192), fill=(90, 70, 50), width=3)
    for stripe, colour in enumerate([(214, 60, 52), (246, 196, 74), (236, 236, 228), (246, 196, 74), (214, 60, 52)]):
        half = 80 * (1 - stripe * 0.2) if stripe < 5 else 8
        pen.ellipse((84 - half, 4, 84 + half, 156), fill=colour)
    pen.polygon([(34, 128), (134, 128), (98, 176), (70, 176)], fill=(180, 44, 44))
    pen.rectangle((68, 186, 100, 214), fill=(132, 92, 52), outline=(84, 58, 34), width=3)
    small = np.asarray(picture.resize((84, 112), Image.Resampling.BOX))
    return small[..., :3].copy(), small[..., 3].copy()


def houses(width: int, random) -> Layer:
    """A waterfront: gabled houses with windows, some lit, and their reflection on the water."""
    picture, pen = canvas(width)
    shore, x = 540, -20
    while x < 2 * width:
        wide, tall = int(random.integers(70, 150)), int(random.integers(110, 250))
        colour = scaled(
            [(150, 88, 82), (96, 92, 124), (176, 128, 92), (116, 74, 96)][random.integers(4)], random.uniform(0.6, 0.9)
        )
        pen.rectangle((x, shore - tall, x + wide, shore), fill=colour)
        pen.polygon(
            [(x - 6, shore - tall), (x + wide + 6, shore - tall), (x + wide / 2, shore - tall - 56)],
            fill=scaled(colour, 0.62),
        )
        for left in range(x + 14, x + wide - 22, 30):
            for top in range(shore - tall + 18, shore - 34, 40):
                lit = random.random() < 0.55
                pen.rectangle((left, top, left + 16, top + 22), fill=(255, 214, 128) if lit else scaled(colour, 0.45))
        x += wide + int(random.integers(0, 26))
    water = (52, 58, 102)
    mirrored = picture.crop((0, 2 * shore - 2 * HEIGHT, 2 * width, shore)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    pen.rectangle((0, shore, 2 * width, 2 * HEIGHT), fill=water)
    mirrored.putalpha(mirrored.getchannel("A").point(lambda value: value * 2 // 5))
    picture.alpha_composite(mirrored, (0, shore))
    pen = ImageDraw.Draw(picture)
    for _ in range(2 * width):
        left, top = random.uniform(0, 2 * width), random.uniform(shore + 4, 2 * HEIGHT)
        tone = [(244, 160, 120, 120), (90, 96, 150, 140), (34, 38, 78, 160)][random.integers(3)]
        pen.line((left, top, left + random.uniform(8, 46), top), fill=tone, width=2)
    for left in range(120, 2 * width, 420):
        boat(pen, left + int(random.integers(0, 160)), shore + int(random.integers(40, 90)))
    return layer_of(picture, 0.5)


def boat(pen, x: int, y: int) -> None:
    """A small sailing boat whose hull floats at (x, y)."""
    pen.polygon([(x - 60, y), (x + 60, y), (x + 42, y + 26), (x - 44, y + 26)], fill=(226, 220, 210))
    pen.rectangle((x - 60, y, x + 60, y + 6), fill=(178, 58, 54))
    pen.line((x, y, x, y - 130), fill=(70, 52, 44), width=5)
    pen.polygon([(x + 6, y - 126), (x + 6, y - 14), (x + 66, y - 14)], fill=(244, 232, 214))


def quay(width: int, random) -> Layer:
    """The nearest layer: a stone quay with bollards and lamps."""
    picture, pen = canvas(width)
    pen.rectangle((0, 690, 2 * width, 2 * HEIGHT), fill=(44, 40, 46))
    for x in range(0, 2 * width, 64):
        for row, y in enumerate(range(692, 2 * HEIGHT, 26)):
            shade = scaled((92, 82, 88), random.uniform(0.62, 0.95))
            left = x - 32 * (row % 2)
            pen.rectangle((left, y, left + 61, y + 23), fill=shade)
    pen.rectangle((0, 680, 2 * width, 694), fill=(58, 50, 60))
    for x in range(90, 2 * width, 330):
        pen.rounded_rectangle((x - 12, 648, x + 12, 690), 8, fill=(30, 28, 38))
        pen.line((x + 150, 690, x + 150, 420), fill=(26, 24, 34), width=8)
        pen.ellipse((x + 134, 396, x + 166, 428), fill=(255, 226, 150), outline=(26, 24, 34), width=4)
    return layer_of(picture, 1.0)
