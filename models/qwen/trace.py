"""Every intermediate result of one forward pass, under the names of the reference files.

For comparing with any other implementation: ids, pixels, grids and positions are taken as given, float32, on the CPU.
"""

from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..files import writing
from .loading import Qwen3VL
from .rope import mrope_positions, segments_of

IMAGE, VIDEO = 1, 2


def read_inputs(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; raises InputError where it is none or lacks ``input_ids``."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            inputs = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, TypeError, AttributeError, EOFError) as error:
        raise InputError(f"{path} cannot be read as an .npz file of plain arrays ({error})") from None
    if "input_ids" not in inputs:
        raise InputError(f"{path} has no array 'input_ids'; it has {', '.join(inputs) or 'none'}")
    return inputs


def write_outputs(path: str | Path, outputs: dict[str, torch.Tensor]) -> None:
    """Write ``outputs`` as an .npz file, whole or not at all."""
    with writing(path) as partial, open(partial, "wb") as stream:
        np.savez(stream, **{name: values.numpy() for name, values in outputs.items()})


@torch.no_grad()
def trace(model: Qwen3VL, inputs: dict[str, np.ndarray], name: str = "the inputs") -> dict[str, torch.Tensor]:
    """Run ``model`` on ``inputs`` and return the traced tensors.

    Inputs: ``input_ids`` [1, L]; with pictures ``pixel_values`` and ``image_grid_thw``, with video
    ``pixel_values_videos`` and ``video_grid_thw``; optionally ``position_ids`` [3, L] and ``mm_token_type_ids`` [1, L]
    (0 text, 1 image, 2 video). Outputs: ``position_ids``, ``vis_patch_embed``, ``vis_block_i``, ``vis_deepstack_i``,
    ``vis_merger`` (images, then videos), ``txt_layer_i`` [1, L, D] before DeepStack is added, ``logits`` [L, V].
    Raises InputError where the inputs do not fit together.
    """
    ids = torch.from_numpy(inputs["input_ids"]).long().reshape(-1)
    if not len(ids) or ids.min() < 0 or ids.max() >= model.config.text.vocabulary:
        raise InputError(f"{name} has input_ids outside the vocabulary of {model.config.text.vocabulary} tokens")
    kinds = _kinds(model, ids, inputs)
    positions = _positions(model, ids, inputs, name)
    outputs: dict[str, torch.Tensor] = {"position_ids": positions}
    embeds, deepstack, index = model.text.embed(ids), None, None
    media = [media for media in (IMAGE, VIDEO) if (kinds == media).any()]
    if media:
        seen = [_see(model, inputs, kind, int((kinds == kind).sum()), name) for kind in media]
        for key in seen[0]:
            outputs[key] = torch.cat([part[key] for part in seen])
        index = torch.cat([torch.nonzero(kinds == kind)[:, 0] for kind in media])
        embeds = embeds.index_copy(0, index, outputs["vis_merger"])
        deepstack = [outputs[f"vis_deepstack_{i}"] for i in range(len(model.vision.deepstack_mergers))]
    with _Recorder({f"txt_layer_{i}": layer for i, layer in enumerate(model.text.layers)}) as recorded:
        hidden = model.text(embeds, positions, None, deepstack, index)
    outputs.update({key: states[None] for key, states in recorded.items()})
    outputs["logits"] = model.text.logits(hidden)
    return outputs


def _kinds(model: Qwen3VL, ids: torch.Tensor, inputs: dict[str, np.ndarray]) -> torch.Tensor:
    """0 for text, 1 for image and 2 for video, of each token."""
    if "mm_token_type_ids" in inputs:
        return torch.from_numpy(inputs["mm_token_type_ids"]).long().reshape(-1)
    return IMAGE * (ids == model.tokenizer.image_pad) + VIDEO * (ids == model.tokenizer.video_pad)


def _positions(model: Qwen3VL, ids: torch.Tensor, inputs: dict[str, np.ndarray], name: str) -> torch.Tensor:
    if "position_ids" in inputs:
        positions = torch.from_numpy(inputs["position_ids"]).long().reshape(3, -1)
        if positions.shape[1] != len(ids):
            raise InputError(f"{name} has {positions.shape[1]} position_ids for {len(ids)} input_ids")
        return positions
    grids = [inputs.get(key, np.zeros((0, 3), np.int64)).tolist() for key in ("image_grid_thw", "video_grid_thw")]
    try:
        segments = segments_of(ids.tolist(), model.tokenizer.image_pad, model.tokenizer.video_pad, *grids)
    except ValueError as error:
        raise InputError(f"{name} does not fit together: {error}") from None
    return mrope_positions(segments)[0]


def _see(model: Qwen3VL, inputs: dict[str, np.ndarray], kind: int, tokens: int, name: str) -> dict[str, torch.Tensor]:
    """Run the vision tower on the images or the videos of ``inputs`` and record it."""
    pixels, grid = ("pixel_values", "image_grid_thw") if kind == IMAGE else ("pixel_values_videos", "video_grid_thw")
    if model.vision is None:
        raise InputError(f"{name} has pictures, and the model was loaded without an mmproj file")
    if pixels not in inputs or grid not in inputs:
        raise InputError(f"{name} has tokens for pictures and lacks {pixels!r} or {grid!r}")
    modules = {"vis_patch_embed": model.vision.patch_embedding, "vis_merger": model.vision.merger}
    modules |= {f"vis_block_{i}": block for i, block in enumerate(model.vision.blocks)}
    modules |= {f"vis_deepstack_{i}": merger for i, merger in enumerate(model.vision.deepstack_mergers)}
    with _Recorder(modules) as recorded:
        try:
            model.vision(torch.from_numpy(inputs[pixels]).float(), torch.from_numpy(inputs[grid]).long())
        except ValueError as error:
            raise InputError(f"{name} does not fit together: {error}") from None
    if len(recorded["vis_merger"]) != tokens:
        raise InputError(f"{name} has {tokens} tokens for pictures of {len(recorded['vis_merger'])} tokens")
    return recorded


class _Recorder:
    """Keeps what named modules return while the ``with`` block runs."""

    def __init__(self, modules: dict[str, torch.nn.Module]):
        self.modules = modules

    def __enter__(self) -> dict[str, torch.Tensor]:
        recorded: dict[str, torch.Tensor] = {}

        def keep(name):
            return lambda module, inputs, output: recorded.__setitem__(name, output)

        self.hooks = [module.register_forward_hook(keep(name)) for name, module in self.modules.items()]
        return recorded

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()
