"""The two halves of a decoder layer for one row on the processor, each one native call.

They have no op in torch and no twin here: where one answers None, the layer's modules do the same in steps. In torch a
written token takes some 30 operators a layer, a quarter of its time on one thread and more on several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .processor import NUMBERS
from .registry import BLOCK_ALIGNMENT, TYPE_NUMBERS, current


@dataclass(frozen=True, slots=True)
class Matrix:
    """A weight uint8 [out, row_bytes] of ``qtype`` blocks."""

    blocks: Tensor
    qtype: str


def served(states: Tensor, matrices: Sequence[Matrix], size: int = 32) -> bool:
    """Whether native code takes one row ``states`` [1, D], these weights and heads of ``size`` channels."""
    return (
        states.device.type == "cpu"
        and len(states) == 1
        and states.dtype in NUMBERS
        and states.is_contiguous()
        and size % 32 == 0
        and all(matrix.qtype in BLOCK_ALIGNMENT and matrix.blocks.device == states.device for matrix in matrices)
        and current().processor.unavailable() is None
    )


def attention_row(
    states: Tensor,
    norms: tuple[Tensor, Tensor, Tensor],
    query: Matrix,
    key: Matrix,
    value: Matrix,
    output: Matrix,
    angles: tuple[Tensor, Tensor],
    rows: Tensor,
    length: int,
    epsilon: float,
) -> Tensor | None:
    """``states + output(attention(norm(states)))`` for one row that attends to itself and ``length`` rows before it.

    Args:
        states: [1, D] in float32, float16 or bfloat16.
        norms: float32 weights of the RMS norms of the states [D], of queries and of keys [size].
        angles: cosines and sines float32 [1, turned / 2] of the channels that turn.
        rows: [2, key_heads, capacity, size] in the dtype of the states; row ``length`` receives key and value.

    Returns [1, D], or None where the arguments are not served.
    """
    _, key_heads, capacity, size = rows.shape
    if rows.dtype != states.dtype or not served(states, (query, key, value, output), size):
        return None
    heads, turned = len(query.blocks) // size, 2 * angles[0].shape[-1]
    result = torch.empty_like(states)
    norm, query_norm, key_norm = norms
    tensors = (states, result, norm, query.blocks, key.blocks, value.blocks, output.blocks, query_norm, key_norm)
    sizes = (states.shape[1], heads, key_heads, size, turned, length + 1, capacity)
    types = [TYPE_NUMBERS[matrix.qtype] for matrix in (query, key, value, output)]
    arguments = (*tensors, *angles, rows[0], rows[1], *sizes, *types, NUMBERS[states.dtype], epsilon)
    current().processor.run("attention_row", arguments)
    return result


def feed_forward_row(
    states: Tensor, norm: Tensor, gate: Matrix, up: Matrix, down: Matrix, epsilon: float
) -> Tensor | None:
    """``states + down(silu(gate(norm(states))) * up(norm(states)))`` for one row [1, D], or None where not served."""
    if not served(states, (gate, up, down)):
        return None
    result = torch.empty_like(states)
    types = [TYPE_NUMBERS[matrix.qtype] for matrix in (gate, up, down)]
    tensors = (states, result, norm, gate.blocks, up.blocks, down.blocks)
    arguments = (*tensors, states.shape[1], len(gate.blocks), *types, NUMBERS[states.dtype], epsilon)
    current().processor.run("feed_forward_row", arguments)
    return result
