"""Qwen3-VL's vision tower: patches of frame pairs in, merged tokens and DeepStack features out.

Source: Qwen3-VL technical report (arXiv 2511.21631, section 2) and its checkpoints: a pre-norm ViT (arXiv 2010.11929)
with an interpolated position table, 2-D rotary attention within each temporal group, a 2x2 merger, and DeepStack
mergers (arXiv 2406.04334) on intermediate layers.
"""

import itertools

import torch
import torch.nn.functional as F

from ..progress import Progress, no_progress
from .attention import Attention, attention
from .config import TEMPORAL_PATCH, VISION_ROPE_BASE, VisionConfig
from .rope import frequencies, rotate


class VisionModel(torch.nn.Module):
    """The whole tower.

    ``operations`` supplies ``Linear``, ``LayerNorm`` and ``Embedding``; ``attend`` the attention (see
    ``attention.Attention``).
    """

    def __init__(
        self, config: VisionConfig, operations=torch.nn, device=None, dtype=None, attend: Attention = attention
    ):
        super().__init__()
        made = {"operations": operations, "device": device, "dtype": dtype}
        self.config = config
        self.dtype = dtype or torch.float32
        self.patch_embedding = operations.Linear(config.patch_values, config.hidden_size, device=device, dtype=dtype)
        self.position_table = operations.Embedding(config.grid_side**2, config.hidden_size, device=device, dtype=dtype)
        self.blocks = torch.nn.ModuleList(VisionBlock(config, attend, **made) for _ in range(config.layers))
        self.merger = PatchMerger(config, norm_before_merge=True, **made)
        self.deepstack_mergers = torch.nn.ModuleList(
            PatchMerger(config, norm_before_merge=False, **made) for _ in config.deepstack_indexes
        )

    def forward(
        self, patches: torch.Tensor, grid_thw: torch.Tensor, progress: Progress = no_progress
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encode pictures and videos of any sizes together.

        ``patches`` [sum(t * h * w), 3 * 2 * side * side] in the order of ``patches_of``; ``grid_thw`` int64 [k, 3], the
        temporal groups, rows and columns of patches of each. Returns the merged tokens [sum(t * h * w) / 4, D] and one
        like it for each DeepStack layer. ``progress`` counts layers.
        """
        grids = [(rows, columns) for frames, rows, columns in grid_thw.tolist() for _ in range(frames)]
        if any(rows < 2 or columns < 2 or rows % 2 or columns % 2 for rows, columns in grids):
            raise ValueError(f"the grids {grid_thw.tolist()} do not divide into windows of 2 x 2 patches")
        if patches.shape != (sum(rows * columns for rows, columns in grids), self.config.patch_values):
            raise ValueError(f"patches of shape {list(patches.shape)} do not fill the grids {grid_thw.tolist()}")
        cos, sin = self.rotary(grids, patches.device)
        runs = [(rows * columns, len(list(same))) for (rows, columns), same in itertools.groupby(grids)]
        states = self.patch_embedding(patches)
        states = states + self.positions(grids, patches.device).to(states.dtype)
        deepstack = []
        for index, block in enumerate(self.blocks):
            progress(index, len(self.blocks))
            states = block(states, cos, sin, runs)
            if index in self.config.deepstack_indexes:
                deepstack.append(self.deepstack_mergers[len(deepstack)](states))
        progress(len(self.blocks), len(self.blocks))
        return self.merger(states), deepstack

    def encode(self, frames: torch.Tensor, progress: Progress = no_progress) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode n pictures of one size: ``frames`` uint8 [n, f, H, W, 3], f = 1 for stills and 2 for frame pairs.

        Returns tokens [n, H * W / 1024, D] and DeepStack features [layers, n, H * W / 1024, D]. ``progress`` counts
        layers.
        """
        patches, grid = patches_of(frames.flatten(0, 1), self.config, still=frames.shape[1] == 1)
        tokens, deepstack = self(patches.to(self.dtype), grid, progress)
        size = (frames.shape[0], -1, tokens.shape[-1])
        levels = [features.view(size) for features in deepstack]
        return tokens.view(size), torch.stack(levels) if levels else tokens.new_empty(0, *tokens.view(size).shape)

    def positions(self, grids: list[tuple[int, int]], device) -> torch.Tensor:
        """The learned position table, bilinearly resampled (corners aligned) to each grid: [sum(h * w), C]."""
        side = self.config.grid_side
        table = self.position_table(torch.arange(side * side, device=device)).float()
        table = table.T.reshape(1, -1, side, side)
        sampled = {
            grid: self.in_merge_order(
                F.interpolate(table, grid, mode="bilinear", align_corners=True)[0].permute(1, 2, 0)
            )
            for grid in set(grids)
        }
        return torch.cat([sampled[grid] for grid in grids])

    def rotary(self, grids: list[tuple[int, int]], device) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of each patch's angles, rows before columns: float32 [sum(h * w), head_dim / 2] each."""
        speeds = frequencies(VISION_ROPE_BASE, self.config.hidden_size // self.config.heads // 2, device)
        angles = {}
        for rows, columns in set(grids):
            row = torch.arange(rows, device=device)[:, None, None] * speeds
            column = torch.arange(columns, device=device)[None, :, None] * speeds
            size = (rows, columns, len(speeds))
            angles[rows, columns] = self.in_merge_order(torch.cat([row.expand(size), column.expand(size)], dim=-1))
        stacked = torch.cat([angles[grid] for grid in grids])
        return stacked.cos(), stacked.sin()

    def in_merge_order(self, grid: torch.Tensor) -> torch.Tensor:
        """[h, w, c] to [h * w, c] with the patches of each 2x2 merge window next to each other."""
        rows, columns, channels = grid.shape
        merge = self.config.merge_size
        windows = grid.reshape(rows // merge, merge, columns // merge, merge, channels)
        return windows.permute(0, 2, 1, 3, 4).reshape(-1, channels)


class VisionBlock(torch.nn.Module):
    """A pre-norm transformer layer: attention within each temporal group, then a tanh-GELU MLP."""

    def __init__(self, config: VisionConfig, attend: Attention, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        width = config.hidden_size
        self.heads = config.heads
        self.attend = attend
        self.attention_norm = operations.LayerNorm(width, eps=config.epsilon, **made)
        self.query_key_value = operations.Linear(width, 3 * width, **made)
        self.attention_output = operations.Linear(width, width, **made)
        self.feed_forward_norm = operations.LayerNorm(width, eps=config.epsilon, **made)
        self.up = operations.Linear(width, config.intermediate_size, **made)
        self.down = operations.Linear(config.intermediate_size, width, **made)

    def forward(self, states, cos, sin, runs) -> torch.Tensor:
        """``states`` [n, C]; ``cos``, ``sin`` [n, head_dim / 2]; ``runs`` of (patches, groups) of equal sizes."""
        states = states + self.attention(self.attention_norm(states), cos, sin, runs)
        return states + self.down(F.gelu(self.up(self.feed_forward_norm(states)), approximate="tanh"))

    def attention(self, states, cos, sin, runs) -> torch.Tensor:
        count, width = states.shape
        query, key, value = self.query_key_value(states).view(count, 3, self.heads, -1).permute(1, 2, 0, 3)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        attended, start = [], 0
        for size, groups in runs:
            # Equal temporal groups are a batch, so that none has to be masked from another.
            batch = [part[:, start : start + size * groups] for part in (query, key, value)]
            batch = [part.unflatten(1, (groups, size)).transpose(0, 1) for part in batch]
            attended.append(self.attend(*batch, causal=False).transpose(1, 2).reshape(groups * size, width))
            start += size * groups
        return self.attention_output(torch.cat(attended))


class PatchMerger(torch.nn.Module):
    """Four neighbouring patches to one token of the language model.

    The main merger normalises each patch and then joins four; a DeepStack merger joins and then normalises.
    """

    def __init__(self, config: VisionConfig, norm_before_merge: bool, operations, device, dtype):
        super().__init__()
        made = {"device": device, "dtype": dtype}
        self.joined = config.hidden_size * config.merge_size**2
        norm_width = config.hidden_size if norm_before_merge else self.joined
        self.norm_width = norm_width
        self.norm = operations.LayerNorm(norm_width, eps=config.epsilon, **made)
        self.first = operations.Linear(self.joined, self.joined, **made)
        self.second = operations.Linear(self.joined, config.output_size, **made)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """[4n, C] patches in merge order to [n, D] tokens."""
        states = self.norm(states.view(-1, self.norm_width)).view(-1, self.joined)
        return self.second(F.gelu(self.first(states)))


def patches_of(frames: torch.Tensor, config: VisionConfig, still: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Cut RGB frames into the tower's patches.

    ``frames`` uint8 [T, H, W, 3], sides multiples of 32. A video pairs neighbours, an odd last frame with itself; with
    ``still`` every frame is a picture of its own, shown twice. Returns patches float32 [t * h * w, 3 * 2 * side * side]
    in merge order, each (colour, frame, row, column), and ``grid_thw`` int64: [1, 3] for a video, [T, 3] for stills.
    Raises ValueError for other sides.
    """
    mean, std = (torch.tensor(values, device=frames.device) for values in (config.image_mean, config.image_std))
    values = (frames.float() / 255.0 - mean) / std
    if still:
        values = values.repeat_interleave(TEMPORAL_PATCH, dim=0)
    elif len(values) % TEMPORAL_PATCH:
        values = torch.cat([values, values[-1:]])
    patches = cut_patches(values, config)
    groups, (rows, columns) = len(values) // TEMPORAL_PATCH, (side // config.patch_size for side in values.shape[1:3])
    grid = torch.tensor([[1, rows, columns]] * groups if still else [[groups, rows, columns]])
    return patches, grid


def cut_patches(values: torch.Tensor, config: VisionConfig) -> torch.Tensor:
    """Numbers [2 * t, H, W, 3], ready for the tower, as patches [t * h * w, 3 * 2 * side * side] in merge order.

    Raises ValueError where the sides are no multiples of 32 or there is nothing.
    """
    count, height, width, _ = values.shape
    side, merge = config.patch_size, config.merge_size
    if not count or height % (side * merge) or width % (side * merge) or not height or not width:
        raise ValueError(f"{count} frames of {width} x {height}: sides of a multiple of {side * merge} are needed")
    groups, rows, columns = count // TEMPORAL_PATCH, height // side, width // side
    windows = values.reshape(groups, TEMPORAL_PATCH, rows // merge, merge, side, columns // merge, merge, side, 3)
    return windows.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(groups * rows * columns, config.patch_values)
