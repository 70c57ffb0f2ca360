"""Frames of a synthetic clip.

Pixels come from additions, products, square roots and integer random numbers alone, which IEEE 754 fixes to the last
bit; sines of scalars are rounded before use. So a seed gives the same bytes on any machine.
"""

import math
from collections.abc import Iterable, Iterator
from functools import lru_cache

import numpy as np

from ..errors import InputError
from .scenes import COLOURS, Camera, Clip, Fault, Figure, Ground, Shot

STAR = ((0.809016994375, -0.587785252292), (-0.809016994375, -0.587785252292))
"""The two mirror axes of a five-pointed star, after folding left on right."""

SHAKES_A_SECOND = 8
FADE = 0.25
"""Seconds in which a shot sinks to black before a fade, and rises from it after."""

FLICKER_GAINS = (0.62, 0.8, 1.2, 1.38)
JITTER = 0.045
"""Largest distance of a jittering figure from its path, in shorter sides."""


def render(clip: Clip, size: tuple[int, int], frames: Iterable[int] | None = None) -> Iterator[np.ndarray]:
    """Yield frames of ``clip``, uint8 [H, W, 3] each.

    Args:
        size: (H, W) in pixels; in the clip's aspect, or the picture is cut off or padded with background.
        frames: which frames, in any order; all where None.
    """
    if min(size) < 16:
        raise InputError(
            f"a synthetic clip of {size[1]} x {size[0]} pixels is too small to show anything; give 16 or more"
        )
    for frame in range(clip.frames) if frames is None else frames:
        yield render_frame(clip, size, frame)


def render_frame(clip: Clip, size: tuple[int, int], frame: int) -> np.ndarray:
    """The frame numbered ``frame``, uint8 [H, W, 3], faults and fades included."""
    shown, faults = what_is_shown(clip, frame)
    picture = paint(clip, clip.shot_at(shown), size, shown, faults)
    picture *= np.float32(brightness(clip, frame, faults))
    return np.clip(picture + np.float32(0.5), 0, 255).astype(np.uint8)


def what_is_shown(clip: Clip, frame: int) -> tuple[int, list[Fault]]:
    """The frame whose scene is shown at ``frame``, which freezes and duplicates change, and the faults there."""
    faults = [fault for fault in clip.faults if fault.first <= frame < fault.stop]
    for fault in faults:
        if fault.kind == "freeze":
            return fault.first, faults
        if fault.kind == "duplicate":
            return frame - (frame - fault.first) % 2, faults
    return frame, faults


def paint(clip: Clip, shot: Shot, size: tuple[int, int], frame: int, faults: list[Fault]) -> np.ndarray:
    """Background and figures as the camera sees them: float32 [H, W, 3]."""
    view = camera_view(clip, shot, frame / clip.fps)
    picture = ground_seen(shot, clip.aspect, size, view)
    for index, pose, becomes in poses(clip, shot, size, frame, view, faults):
        paint_figure(picture, shot.figures[index], pose, becomes)
    return picture


def poses(clip: Clip, shot: Shot, size, frame: int, view, faults: list[Fault]) -> Iterator[tuple]:
    """Positions of the figures of a shot in the picture of a frame, the farthest first.

    Yields (index in the shot, (x, y, radius, angle), what it morphed into or None): pixels, and turns.
    """
    seconds = frame / clip.fps
    scale = min(size) * view[2]
    for index, figure in enumerate(shot.figures):
        own = [fault for fault in faults if fault.figure == index and shot is clip.shot_at(fault.first)]
        if any(fault.kind == "vanish" for fault in own):
            continue
        x, y = figure.position(seconds)
        becomes = None
        for fault in own:
            if fault.kind == "jitter":
                dx, dy = unit_noise(fault.seed, frame)
                x, y = x + JITTER * dx, y + JITTER * dy
            becomes = fault.becomes or becomes
        x = (x - view[0]) * scale + size[1] / 2
        y = (y - view[1]) * scale + size[0] / 2
        radius = figure.radius * figure.scale(seconds) * scale
        yield index, (x, y, radius, figure.angle + figure.spin * seconds), becomes


def brightness(clip: Clip, frame: int, faults: list[Fault]) -> float:
    """The factor that flicker and fades apply to a frame."""
    gain = 1.0
    for fault in faults:
        if fault.kind == "flicker":
            gain = FLICKER_GAINS[flicker_order(fault.seed, fault.stop - fault.first)[frame - fault.first]]
    length = FADE * clip.fps
    for shot in clip.shots:
        if shot.opening == "fade":
            gain *= min(1.0, abs(frame + 0.5 - shot.first) / length)
    return gain


def flicker_order(seed: int, count: int) -> list[int]:
    """Which of the gains each frame gets: never the same as one or two frames before."""
    draw = np.random.default_rng(seed)
    order = []
    for _ in range(count):
        free = [gain for gain in range(len(FLICKER_GAINS)) if gain not in order[-2:]]
        order.append(free[int(draw.integers(len(free)))])
    return order


def unit_noise(seed: int, number: int) -> tuple[float, float]:
    """Two numbers for each ``number``, of 0.4 to 1 in size and of either sign."""
    draw = np.random.default_rng((seed, number))
    sizes, signs = draw.integers(40, 101, 2) / 100, 2 * draw.integers(0, 2, 2) - 1
    return float(sizes[0] * signs[0]), float(sizes[1] * signs[1])


def camera_view(clip: Clip, shot: Shot, seconds: float) -> tuple[float, float, float]:
    """The point (x, y) at the middle of the picture and the zoom factor, 1 for the whole frame."""
    camera = shot.camera
    x, y = clip.aspect[0] / 2, clip.aspect[1] / 2
    start, stop = shot.first / clip.fps, shot.stop / clip.fps
    fraction = (seconds - start) / (stop - start)
    if camera.kind in PANS:
        dx, dy = PANS[camera.kind]
        travelled = camera.amount * (fraction - 0.5)
        return x + dx * travelled, y + dy * travelled, 1.0
    if camera.kind == "in":
        return x, y, 1 + camera.amount * fraction
    if camera.kind == "out":
        return x, y, 1 - camera.amount * fraction
    if camera.kind == "shake":
        shakes = (seconds - start) * SHAKES_A_SECOND
        whole = math.floor(shakes)
        before, after = unit_noise(camera.seed, whole), unit_noise(camera.seed, whole + 1)
        dx, dy = (a + (b - a) * (shakes - whole) for a, b in zip(before, after, strict=True))
        return x + camera.amount * dx, y + camera.amount * dy, 1.0
    return x, y, 1.0


PANS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def margin(camera: Camera) -> float:
    """Distance beyond the frame that the camera may see, in shorter sides."""
    if camera.kind == "still":
        return 0.0
    reach = {"shake": camera.amount, "out": 0.5 / (1 - camera.amount)}.get(camera.kind, camera.amount / 2)
    return reach * 1.5 + 0.1


def ground_seen(shot: Shot, aspect, size: tuple[int, int], view) -> np.ndarray:
    """The background through the camera: float32 [H, W, 3], bilinear."""
    beyond = margin(shot.camera)
    canvas = ground_canvas(shot.ground, size, beyond)
    if shot.camera.kind == "still":
        return canvas.copy()
    unit = min(size)
    rows = axis_samples(size[0], unit, view[1] - aspect[1] / 2, view[2], beyond, canvas.shape[0])
    columns = axis_samples(size[1], unit, view[0] - aspect[0] / 2, view[2], beyond, canvas.shape[1])
    seen = blend_rows(canvas, *rows)
    return blend_rows(seen.transpose(1, 0, 2), *columns).transpose(1, 0, 2).copy()


def axis_samples(count: int, unit: int, offset: float, zoom: float, beyond: float, length: int):
    """Canvas index int64 [count] and weight float32 [count] of the next one, for each pixel of an axis."""
    position = (np.arange(count) + 0.5 - count / 2) / zoom + count / 2 + (offset + beyond) * unit - 0.5
    position = np.clip(position, 0, length - 1.001)
    index = np.floor(position).astype(np.int64)
    return index, (position - index).astype(np.float32)


def blend_rows(picture: np.ndarray, index: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Rows between ``index`` and the next: [len(index), W, 3]."""
    first = picture[index]
    return first + (picture[index + 1] - first) * weight[:, None, None]


@lru_cache(maxsize=8)
def ground_canvas(ground: Ground, size: tuple[int, int], beyond: float) -> np.ndarray:
    """The background with ``beyond`` shorter sides around the frame: float32 [H', W', 3], not to be written to."""
    unit = min(size)
    around = math.ceil(beyond * unit)
    height, width = size[0] + 2 * around, size[1] + 2 * around
    y = ((np.arange(height) + 0.5 - around) / unit).astype(np.float32)[:, None]
    x = ((np.arange(width) + 0.5 - around) / unit).astype(np.float32)[None, :]
    draw = np.random.default_rng(ground.seed)
    soft = value_noise(draw, y, x, 3 * ground.scale)
    if ground.kind == "smooth":
        blend = (x + y) / 2 + np.float32(0.1) * soft
    elif ground.kind == "cloudy":
        blend = np.float32(0.5) + np.float32(0.6) * (soft + np.float32(0.5) * value_noise(draw, y, x, 8 * ground.scale))
    elif ground.kind == "striped":
        lean = np.float32(int(draw.integers(-10, 11)) / 10)
        blend = wave((x + lean * y) * np.float32(7 * ground.scale)) + np.float32(0.15) * soft
    elif ground.kind == "checked":
        rate = np.float32(4 * ground.scale)
        blend = np.where(np.floor(x * rate) % 2 == np.floor(y * rate) % 2, np.float32(0.85), np.float32(0.15))
        blend = blend + np.float32(0.15) * soft
    else:
        blend = np.float32(0.5) + np.float32(0.9) * value_noise(draw, y, x, 42) + np.float32(0.15) * soft
    first, second = (np.array(colour, np.float32) for colour in ground.colours)
    blend = np.broadcast_to(blend, (height, width))
    return first + (second - first) * np.clip(blend, -0.3, 1.3)[..., None]


def value_noise(draw, y: np.ndarray, x: np.ndarray, cells: float) -> np.ndarray:
    """Random lattice values from -0.5 to 0.5, ``cells`` a shorter side, interpolated bilinearly: float32 [H, W]."""
    rate = np.float32(cells)
    rows, columns = y[:, 0] * rate, x[0] * rate
    rows, columns = rows - np.floor(rows[0]), columns - np.floor(columns[0])
    lattice = draw.integers(-500, 501, (int(rows[-1]) + 2, int(columns[-1]) + 2)).astype(np.float32) / np.float32(1000)
    for axis in (rows, columns):
        index = axis.astype(np.int64)
        weight = (axis - index)[:, None]
        lattice = (lattice[index] + (lattice[index + 1] - lattice[index]) * weight).T
    return lattice


def wave(phase: np.ndarray) -> np.ndarray:
    """A triangle wave from 0 to 1 of period 1, with flat crests."""
    return np.clip(np.abs(phase - np.floor(phase) - np.float32(0.5)) * 3 - np.float32(0.25), 0, 1)


def paint_figure(picture: np.ndarray, figure: Figure, pose, becomes: str | None = None) -> None:
    """Paint a figure into ``picture`` in place; ``pose`` is (x, y, radius) in pixels and the angle in turns."""
    x, y, radius, angle = pose
    if radius < 0.5:
        return
    reach = math.ceil(radius * 1.25) + 1
    top, bottom = max(0, math.floor(y) - reach), min(picture.shape[0], math.ceil(y) + reach)
    left, right = max(0, math.floor(x) - reach), min(picture.shape[1], math.ceil(x) + reach)
    if top >= bottom or left >= right:
        return
    colour = becomes if becomes in COLOURS else figure.colour
    shape = becomes if becomes and becomes not in COLOURS else figure.shape
    u, v = local_coordinates((top, bottom, left, right), x, y, radius, angle)
    distance = signed_distance(shape, u, v)
    alpha = np.clip(np.float32(0.5) - distance * np.float32(radius), 0, 1)
    rim = distance > -max(0.09, 1.2 / radius)
    shade = surface(figure.pattern, u, v) * np.where(rim, np.float32(0.5), np.float32(1))
    body = np.array(COLOURS.get(colour) or tuple(bytes.fromhex(colour[1:])), np.float32)
    under = picture[top:bottom, left:right]
    if body.max() < 64:
        # Black cannot be shaded darker: its pattern and its rim are grey.
        painted = body + (1 - shade)[..., None] * np.float32(130)
    else:
        painted = body * shade[..., None]
    under += alpha[..., None] * (painted - under)


def local_coordinates(box, x: float, y: float, radius: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The pixels' centres in the figure's own frame, in radii: two float32 [h, w]."""
    top, bottom, left, right = box
    # 2 ** -16 is far coarser than the differences between two mathematical libraries.
    cos, sin = (round(f(2 * math.pi * angle) * 65536) / 65536 for f in (math.cos, math.sin))
    dy = ((np.arange(top, bottom) + 0.5 - y) / radius).astype(np.float32)[:, None]
    dx = ((np.arange(left, right) + 0.5 - x) / radius).astype(np.float32)[None, :]
    cos, sin = np.float32(cos), np.float32(sin)
    return dx * cos + dy * sin, dy * cos - dx * sin


def signed_distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """About the distance to the outline in radii, negative inside: float32 like ``u``."""
    if shape == "circle":
        return np.sqrt(u * u + v * v) - 1
    if shape == "ring":
        return np.abs(np.sqrt(u * u + v * v) - np.float32(0.74)) - np.float32(0.26)
    u = np.abs(u)
    if shape == "square":
        return np.maximum(u, np.abs(v)) - np.float32(0.84)
    if shape == "cross":
        v = np.abs(v)
        long, wide = np.float32(1), np.float32(0.34)
        return np.minimum(np.maximum(u - long, v - wide), np.maximum(u - wide, v - long))
    if shape == "triangle":
        return np.maximum(u * np.float32(0.866025404) - v * np.float32(0.5), v) - np.float32(0.56)
    return star_distance(u, -v)


def star_distance(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A five-pointed star, u >= 0, v upwards: folded along its mirror axes until one edge is left."""
    for along_u, along_v in STAR:
        beyond = 2 * np.maximum(u * np.float32(along_u) + v * np.float32(along_v), 0)
        u, v = u - beyond * np.float32(along_u), v - beyond * np.float32(along_v)
    tip, inner = 1.14, 0.56
    edge_u, edge_v = inner * 0.587785252292, inner * 0.809016994375 - tip
    length = math.sqrt(edge_u * edge_u + edge_v * edge_v)
    return (v - np.float32(tip)) * np.float32(edge_u / length) - np.abs(u) * np.float32(edge_v / length)


def surface(pattern: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Brightness of a figure's surface: its pattern under light from above."""
    light = np.float32(0.97) - np.float32(0.09) * v
    if pattern == "striped":
        dark = wave((u + v) * np.float32(1.3)) > np.float32(0.5)
    elif pattern == "dotted":
        rate = np.float32(1.9)
        a, b = u * rate, v * rate
        a, b = a - np.floor(a) - np.float32(0.5), b - np.floor(b) - np.float32(0.5)
        dark = a * a + b * b < np.float32(0.085)
    elif pattern == "checked":
        rate = np.float32(2.2)
        dark = np.floor(u * rate) % 2 == np.floor(v * rate) % 2
    else:
        return light
    return light * np.where(dark, np.float32(0.62), np.float32(1))
