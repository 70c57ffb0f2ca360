"""Decoder layers for one row on the processor, all in one native call.

They have no op in torch and no twin here: where they are not served, the layers' modules do the same in steps. In torch
a written token takes some 30 operators a layer, a quarter of its time on one thread and more on several.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .processor import NUMBERS
from .registry import BLOCK_ALIGNMENT, TYPE_NUMBERS, current

ATTENTION, FEED_FORWARD = 10, 4
"""Numbers of a half of a layer in Layer (cpu/decoder.c), without its types."""


def served(states: Tensor) -> bool:
    """Whether native code takes one row ``states`` [1, D]."""
    return (
        states.device.type == "cpu"
        and len(states) == 1
        and states.dtype in NUMBERS
        and states.is_contiguous()
        and current().processor.unavailable() is None
    )


def type_numbers(matrices: Sequence[tuple[Tensor, str]]) -> list[int] | None:
    """ggml's numbers of the matrices' types, or None unless all are blocks with native code, on the processor."""
    if all(qtype in BLOCK_ALIGNMENT and blocks.is_cpu for blocks, qtype in matrices):
        return [TYPE_NUMBERS[qtype] for _, qtype in matrices]
    return None


def attention_half(
    norms: Sequence[Tensor], matrices: Sequence[tuple[Tensor, str]], rows: Tensor
) -> tuple[list[int], list[int]] | None:
    """The numbers of ``x + output(attention(norm(x)))``, for :func:`decoder_row`, or None where it is not served.

    Args:
        norms: float32 weights of the RMS norms of the states [D], of queries and of keys [size].
        matrices: weights uint8 [out, row_bytes] of query, key, value and output, and their block types.
        rows: [2, key_heads, capacity, size] in the dtype of the states; the row after those read is written.
    """
    types = type_numbers(matrices)
    if types is None or rows.shape[3] % 32:
        return None
    tensors = (*norms, *(blocks for blocks, _ in matrices), rows[0], rows[1])
    return [*(tensor.data_ptr() for tensor in tensors), rows.shape[2]], types


def feed_forward_half(norm: Tensor, matrices: Sequence[tuple[Tensor, str]]) -> tuple[list[int], list[int]] | None:
    """The same of ``x + down(silu(gate(norm(x))) * up(norm(x)))``; ``matrices`` are gate, up and down."""
    types = type_numbers(matrices)
    if types is None:
        return None
    return [norm.data_ptr(), *(blocks.data_ptr() for blocks, _ in matrices)], types


def decoder_row(
    states: Tensor,
    layers: Sequence[tuple],
    inner: int,
    epsilon: float,
    heads: tuple[int, int, int] = (1, 1, 32),
    angles: tuple[Tensor, Tensor] | None = None,
    length: int = 0,
) -> Tensor:
    """One row after ``layers``, each a pair of the halves above, either of which may be None.

    Args:
        states: [1, D] in float32, float16 or bfloat16, served.
        inner: width between gate and down.
        heads: heads of queries, of keys, and their channels.
        angles: cosines and sines float32 [1, turned / 2] of the channels that turn.
        length: rows read before this one.
    """
    numbers = []
    for attention, feed_forward in layers:
        first, first_types = attention or ([0] * ATTENTION, [0] * 4)
        second, second_types = feed_forward or ([0] * FEED_FORWARD, [0] * 3)
        numbers += [*first, *second, *first_types, *second_types]
    table, result = torch.tensor(numbers), torch.empty_like(states)
    cosine, sine = angles or (None, None)
    turned = 0 if cosine is None else 2 * cosine.shape[-1]
    sizes = (len(layers), states.shape[1], inner, *heads, turned, length + 1)
    arguments = (states, result, table, cosine, sine, *sizes, NUMBERS[states.dtype], epsilon)
    current().processor.run("decoder_row", arguments)
    return result
