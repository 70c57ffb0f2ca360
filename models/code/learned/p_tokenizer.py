"""AdaCodec's P-tokenizer (arXiv 2606.02569, section 3.2 and appendix B): residual and motion to a few tokens.

The paper copies the vision tower and trains the copy whole, 576 million weights for Qwen3-VL-8B. Here the loaded tower
itself reads, frozen and quantised as it is, with a trained low-rank adapter beside each of its matrices: a few percent
of its weights, and nothing of the tower in the file. What the paper does not say is decided so:

* Motion is constant over a patch, and a frame stands for both frames of the 3-D stem, so the 2 x 16 x 16 kernels of a
  motion channel act by their sum alone: it is kept as one number.
* Latents are a square table, resampled to twice the rows and columns of the tokens that come out, so that a sixteenth
  of a picture's tokens comes out at any size and aspect; they stand spread over the frame, in the position table and
  in the rotary embedding alike.
* Latents see patches and each other.
* The temporal embedding is a table of sixteen, by frames since the I frame; later frames have the last.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ...errors import InputError
from ...qwen.adapters import Adapter, adapted
from ...qwen.config import TEMPORAL_PATCH, VISION_ROPE_BASE, VisionConfig
from ...qwen.rope import frequencies, rotate
from ...qwen.vision import PatchMerger, VisionBlock, VisionModel, cut_patches
from ...source.sampling import CELL
from ...video.motion import BLOCK
from ...video.tokens import thumbnail_size

STEPS = 16
"""Entries of the temporal embedding: AdaCodec's longest run of P frames."""

BLOCK_LAYERS = ("query_key_value", "attention_output", "up", "down")
MERGER_LAYERS = ("first", "second")


class PTokenizer(torch.nn.Module):
    """What is trained; the tower is handed to every pass.

    Args:
        config: that of the tower.
        side: rows and columns of the table of latents, twice those of the tokens of a square picture (8 for 16 tokens).
        rank: of the adapters.
        seed: of the first weights.
    """

    def __init__(self, config: VisionConfig, side: int = 8, rank: int = 32, seed: int = 0):
        super().__init__()
        if config.patch_size != BLOCK:
            raise InputError(f"the tower's patches have {config.patch_size} pixels a side; macroblocks have {BLOCK}")
        width, inner = config.hidden_size, config.intermediate_size
        joined = width * config.merge_size**2
        sizes = {
            "query_key_value": (width, 3 * width), "attention_output": (width, width), "up": (width, inner),
            "down": (inner, width), "first": (joined, joined), "second": (joined, config.output_size),
        }  # fmt: skip
        self.side, self.rank = side, rank
        self.checkpointed = False
        self.stem = Adapter(config.patch_values, width, rank)
        self.motion = torch.nn.Parameter(torch.zeros(width, 2))
        self.latents = torch.nn.Parameter(torch.empty(side * side, width))
        self.time = torch.nn.Parameter(torch.zeros(STEPS, config.output_size))
        self.blocks = _adapters([BLOCK_LAYERS] * config.layers, sizes, rank)
        self.mergers = _adapters([MERGER_LAYERS] * (1 + len(config.deepstack_indexes)), sizes, rank)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.latents.normal_(0, 0.02, generator=generator)
        for module in self.modules():
            if isinstance(module, Adapter):
                module.reset(generator)

    @staticmethod
    def grid(size: tuple[int, int]) -> tuple[int, int]:
        """(rows, columns) of the tokens of a frame of (H, W) pixels: those of its thumbnail."""
        height, width = thumbnail_size(size)
        return height // CELL, width // CELL

    def forward(
        self, tower: VisionModel, residual: torch.Tensor, motion: torch.Tensor, step: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The tokens of n changes (:func:`.changes.as_tensors`): [n, N, D], and DeepStack features [K, n, N, D]."""
        patches, latents = self.read(tower, residual, motion)
        config, levels = tower.config, []
        for index, states in enumerate(latents):
            if index in config.deepstack_indexes:
                levels.append(self.merge(tower.deepstack_mergers[len(levels)], self.mergers[1 + len(levels)], states))
        tokens = self.merge(tower.merger, self.mergers[0], latents[-1])
        tokens = tokens + self.time[(step - 1).clamp(0, STEPS - 1)].to(tokens.dtype)[:, None]
        return tokens, torch.stack(levels) if levels else tokens.new_empty(0, *tokens.shape)

    def read(self, tower: VisionModel, residual: torch.Tensor, motion: torch.Tensor):
        """States of the patches [n, P, C] after the last block, and of the latents [n, L, C] after every block."""
        count, height, width, _ = residual.shape
        grid, small = (height // BLOCK, width // BLOCK), tuple(2 * side for side in self.grid((height, width)))
        values = residual.to(tower.dtype).repeat_interleave(TEMPORAL_PATCH, dim=0)
        states = adapted(tower.patch_embedding, self.stem, cut_patches(values, tower.config))
        vectors = torch.stack([tower.in_merge_order(field) for field in motion]).to(states.dtype)
        states = states.unflatten(0, (count, -1)) + F.linear(vectors, self.motion.to(states.dtype))
        states = states + tower.positions([grid], residual.device).to(states.dtype)
        latents = self.resampled(tower, small) + tower.positions([small], residual.device)
        states = torch.cat([states, latents.to(states.dtype).expand(count, -1, -1)], dim=1)
        cos, sin = self.rotary(tower, grid, small, residual.device)
        patches, kept = grid[0] * grid[1], []
        for block, adapters in zip(tower.blocks, self.blocks, strict=True):
            arguments = (block, adapters, states, cos, sin, patches)
            states = checkpoint(_block, *arguments, use_reentrant=False) if self.checkpointed else _block(*arguments)
            kept.append(states[:, patches:])
        return states[:, :patches], kept

    def resampled(self, tower: VisionModel, grid: tuple[int, int]) -> torch.Tensor:
        """The latents at ``grid``, float32 [L, C] in merge order."""
        table = self.latents.T.reshape(1, -1, self.side, self.side)
        if grid != (self.side, self.side):
            table = F.interpolate(table, grid, mode="bilinear", align_corners=True)
        return tower.in_merge_order(table[0].permute(1, 2, 0))

    def rotary(self, tower: VisionModel, grid, small, device) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of patches and then of latents, which stand in the middles of equal parts of the frame."""
        config = tower.config
        speeds = frequencies(VISION_ROPE_BASE, config.hidden_size // config.heads // 2, device)
        angles = []
        for rows, columns in (grid, small):
            row = ((torch.arange(rows, device=device) + 0.5) * grid[0] / rows - 0.5)[:, None, None] * speeds
            column = ((torch.arange(columns, device=device) + 0.5) * grid[1] / columns - 0.5)[None, :, None] * speeds
            size = (rows, columns, len(speeds))
            angles.append(tower.in_merge_order(torch.cat([row.expand(size), column.expand(size)], dim=-1)))
        stacked = torch.cat(angles)
        return stacked.cos(), stacked.sin()

    def merge(self, merger: PatchMerger, adapters: torch.nn.ModuleDict, states: torch.Tensor) -> torch.Tensor:
        """[n, 4N, C] latents to [n, N, D] tokens."""
        joined = merger.norm(states.reshape(-1, merger.norm_width)).view(len(states), -1, merger.joined)
        hidden = F.gelu(adapted(merger.first, adapters["first"], joined))
        return adapted(merger.second, adapters["second"], hidden)


def _adapters(layers, sizes: dict[str, tuple[int, int]], rank: int) -> torch.nn.ModuleList:
    return torch.nn.ModuleList(
        torch.nn.ModuleDict({name: Adapter(*sizes[name], rank) for name in names}) for names in layers
    )


def _block(block: VisionBlock, adapters: torch.nn.ModuleDict, states, cos, sin, patches: int) -> torch.Tensor:
    """``states`` [n, P + L, C] after a layer of the tower; the first ``patches`` do not see what follows them."""
    count, length, _ = states.shape
    packed = adapted(block.query_key_value, adapters["query_key_value"], block.attention_norm(states))
    query, key, value = packed.view(count, length, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    own = [part[:, :, :patches] for part in (query, key, value)]
    attended = torch.cat(
        [block.attend(*own, causal=False), block.attend(query[:, :, patches:], key, value, causal=False)], dim=2
    )
    attended = attended.transpose(1, 2).reshape(states.shape)
    states = states + adapted(block.attention_output, adapters["attention_output"], attended)
    hidden = F.gelu(adapted(block.up, adapters["up"], block.feed_forward_norm(states)), approximate="tanh")
    return states + adapted(block.down, adapters["down"], hidden)
