"""Pictures and a question in, text out: the shortest way through the model."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..errors import InputError
from ..progress import Progress, no_progress
from .cache import KVCache
from .generate import Context, Generation, Sampling, generate
from .prompt import Picture, chat, lay_out, split_reasoning
from .vision import patches_of

CELL = 32
"""Pixels on a side of what becomes one token: a 2 x 2 window of 16 x 16 patches."""
FEWEST_TOKENS = 64


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """What the vision tower made of a picture of ``rows`` x ``columns`` tokens.

    ``embeds`` [rows * columns, D] stand in the prompt; ``deepstack``, one such tensor per level, join the first layers.
    """

    rows: int
    columns: int
    embeds: torch.Tensor
    deepstack: list[torch.Tensor]


@dataclass(frozen=True, slots=True)
class Description:
    """What the model said.

    ``text`` is without the ``reasoning`` of a Thinking model; ``truncated`` says that the limit cut it off.
    """

    text: str
    reasoning: str
    truncated: bool
    generation: Generation


def fit_size(height: int, width: int, most_tokens: int = 1024) -> tuple[int, int]:
    """The (height, width), multiples of 32, at which a picture of that size is shown.

    The aspect ratio is kept as far as that allows, the area between 64 and ``most_tokens`` cells of 32 x 32 pixels
    (``smart_resize`` of Qwen2-VL's image processor). Raises InputError beyond an aspect ratio of 200, as the source.
    """
    if min(height, width) < 1 or max(height, width) > 200 * min(height, width):
        raise InputError(f"the picture is {width} x {height}; sides may differ by a factor of 200 at most")
    rows, columns = max(1, round(height / CELL)), max(1, round(width / CELL))
    if rows * columns > most_tokens:
        scale = math.sqrt(height * width / (most_tokens * CELL**2)) * CELL
        rows, columns = max(1, math.floor(height / scale)), max(1, math.floor(width / scale))
    elif rows * columns < FEWEST_TOKENS:
        scale = math.sqrt(height * width / (FEWEST_TOKENS * CELL**2)) * CELL
        rows, columns = math.ceil(height / scale), math.ceil(width / scale)
    return rows * CELL, columns * CELL


def fit_picture(rgb: np.ndarray, most_tokens: int = 1024) -> np.ndarray:
    """Resize ``rgb`` uint8 [H, W, 3] to :func:`fit_size`, antialiased bicubic."""
    height, width = fit_size(*rgb.shape[:2], most_tokens)
    if (height, width) == rgb.shape[:2]:
        return rgb
    return np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC))


@torch.no_grad()
def look(model, pictures: Sequence[np.ndarray], progress: Progress = no_progress) -> list[SeenPicture]:
    """Run ``pictures``, uint8 [H, W, 3] with sides of a multiple of 32, through the vision tower of ``model``.

    ``model`` is a loaded :class:`..qwen3vl.Qwen3VL` with its mmproj. ``progress`` counts layers of all pictures.
    """
    seen = []
    for number, rgb in enumerate(pictures):
        patches, grid = patches_of(torch.from_numpy(rgb.copy())[None].to(model.device), model.config.vision, still=True)

        def watch(done, layers, number=number):
            progress(number * layers + done, len(pictures) * layers)

        embeds, deepstack = model.vision(patches.to(model.dtype), grid, watch)
        seen.append(SeenPicture(rgb.shape[0] // CELL, rgb.shape[1] // CELL, embeds, deepstack))
    return seen


def describe(
    model,
    pictures: Sequence[SeenPicture],
    question: str,
    *,
    system: str = "",
    think: bool = True,
    sampling: Sampling = Sampling(),  # noqa: B008 - frozen
    max_tokens: int = 512,
    on_text: Callable[[str], None] | None = None,
    progress: Progress = no_progress,
) -> Description:
    """Answer ``question`` about ``pictures`` (none: just answer it), pictures first as in Qwen's own examples.

    ``think`` False closes the reasoning of a Thinking model before it starts. ``progress`` counts rows while reading,
    then tokens while writing. Raises InputError where prompt and answer do not fit the model's context.
    """
    turns = [("system", system)] if system else []
    content = [*(Picture(picture.rows, picture.columns) for picture in pictures), question]
    parts = chat([*turns, ("user", content)], model.tokenizer.thinks, think)
    prompt = lay_out(parts, model.tokenizer)
    most = model.config.text.context_length
    if len(prompt.ids) + max_tokens > most:
        raise InputError(
            f"the prompt has {len(prompt.ids)} tokens and the answer may have {max_tokens}; "
            f"the model's context holds {most}"
        )
    context = Context(model.text, KVCache(model.config.text.layers, len(prompt.ids) + min(max_tokens, 1024)))
    embeds = model.text.embed(torch.tensor(prompt.ids))
    deepstack = None
    if pictures:
        embeds[prompt.visual_index.to(embeds.device)] = torch.cat([picture.embeds for picture in pictures]).to(embeds)
        deepstack = [torch.cat(level).to(embeds) for level in zip(*(p.deepstack for p in pictures), strict=True)]
    context.read(embeds, prompt.positions, deepstack, prompt.visual_index if pictures else None, progress=progress)
    context.ids.extend(prompt.ids)
    tokenizer = model.tokenizer
    written = generate(
        context, tokenizer.decode, tokenizer.end_ids, sampling, max_tokens, on_text=on_text, progress=progress
    )
    reasoning, text = split_reasoning(written.text, tokenizer.thinks and think)
    return Description(text, reasoning, written.truncated, written)
