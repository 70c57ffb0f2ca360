"""Weights in 8-bit floats with one scale a matrix, which stay so in memory."""

import torch
import torch.nn.functional as F

TILE_WEIGHTS = 1 << 24
"""Weights that are numbers of the states' dtype at once."""


def float8_linear(
    states: torch.Tensor, weight: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """``states`` [..., in] times ``scale`` times the float8 ``weight`` [out, in], plus ``bias``."""
    rows = max(1, TILE_WEIGHTS // weight.shape[1])
    parts = [F.linear(states, tile.to(states.dtype)) for tile in weight.split(rows)]
    product = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)) * scale
    return product if bias is None else product + bias


def float8_rows(ids: torch.Tensor, weight: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """The rows ``ids`` of a float8 ``weight`` as numbers."""
    rows = F.embedding(ids, weight.view(torch.uint8)).view(weight.dtype)
    return rows.to(dtype) * scale
