"""What the trainers of video models expect of clips, and sentences about clips that they will trip over.

Sources: musubi-tuner's documentation (Wan: 16 frames a second, 4 n + 1 frames, sides multiples of 16; HunyuanVideo: 24
and 4 n + 1), Lightricks' LTX trainer (24 or 25 frames a second, 8 n + 1 frames, sides multiples of 32).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..source.reading import VideoSource
from ..video.cuts import Cuts


@dataclass(frozen=True, slots=True)
class Trainer:
    """What a model was made for: frames a second, frames of a clip (step * n + 1), the multiple that sides are of."""

    rates: tuple[float, ...]
    step: int
    shortest: int
    multiple: int


TRAINERS = {
    "wan": Trainer((16.0,), 4, 5, 16),
    "hunyuan": Trainer((24.0,), 4, 5, 16),
    "ltx": Trainer((24.0, 25.0), 8, 9, 32),
}


def trainer_named(name: str) -> Trainer:
    """One of ``TRAINERS``; raises InputError for another name."""
    if name not in TRAINERS:
        raise InputError(f"trainer {name!r} is not known; it must be one of {', '.join(TRAINERS)}")
    return TRAINERS[name]


def trips(source: VideoSource, trainer: Trainer, cuts: Cuts | None = None) -> list[str]:
    """Phrases about what the trainer will trip over in a clip; none where it is as expected."""
    info, timeline = source.info, source.timeline()
    count, phrases = len(timeline.pts), []
    if count < trainer.shortest:
        phrases.append(f"{count} frames, fewer than {trainer.shortest}")
    elif (count - 1) % trainer.step:
        phrases.append(f"{count} frames, of which {(count - 1) // trainer.step * trainer.step + 1} are used")
    if all(abs(info.fps - rate) > 0.5 for rate in trainer.rates):
        wanted = " or ".join(f"{rate:g}" for rate in trainer.rates)
        phrases.append(f"{info.fps:.4g} frames a second instead of {wanted}")
    if info.width % trainer.multiple or info.height % trainer.multiple:
        phrases.append(f"{info.width}x{info.height}, not multiples of {trainer.multiple}")
    if cuts and cuts.cuts:
        phrases.append(f"{len(cuts.cuts)} cuts; split it into shots first (--split OUT)")
    return phrases


def odd_shapes(sizes: Sequence[tuple[str, int, int]]) -> list[str]:
    """Names of the clips, (name, width, height), that lie the other way round than most of the folder."""
    upright = [height > width for _, width, height in sizes]
    most = sum(upright) * 2 > len(upright)
    return [name for (name, _, _), one in zip(sizes, upright, strict=True) if one != most]
