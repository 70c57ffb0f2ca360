"""Decoder layers for one row on the processor, all in one native call.

They have no op in torch and no twin here: where they are not served, the layers' modules do the same in steps. In torch
a written token takes some 30 operators a layer, a quarter of its time on one thread and more on several.
"""

from collections.abc import Container, Sequence

import torch
from torch import Tensor

from .processor import NUMBERS
from .registry import BLOCK_ALIGNMENT, TYPE_NUMBERS, current

ATTENTION, DELTA_NET, FEED_FORWARD = range(3)
"""Kinds of halves of a layer (cpu/decoder.c)."""

HALF = 25
"""Numbers of a Half there: its kind, its norm, and those of the longest kind."""

Matrix = tuple[Tensor, str]
"""The weights of a linear layer, uint8 [out, row_bytes] or floats [out, in], and their ggml type."""


def served(states: Tensor) -> bool:
    """Whether native code takes one row ``states`` [1, D]."""
    return (
        states.device.type == "cpu"
        and len(states) == 1
        and states.dtype in NUMBERS
        and states.is_contiguous()
        and current().processor.unavailable() is None
    )


def attention_half(
    norms: Sequence[Tensor], matrices: Sequence[Matrix], rows: Tensor, gated: bool = False
) -> list[int] | None:
    """The numbers of ``x + output(attention(norm(x)))``, for :func:`decoder_row`, or None where it is not served.

    Args:
        norms: float32 weights of the RMS norms of the states [D], of queries and of keys [size].
        matrices: blocks of query, key, value and output.
        rows: [2, key_heads, capacity, size] in the dtype of the states; the row after those read is written.
        gated: each head's query is followed by as many channels whose sigmoids gate what the head attends to.
    """
    _, key_heads, capacity, size = rows.shape
    if not all_of(BLOCK_ALIGNMENT, *matrices) or size % 32:
        return None
    heads = len(matrices[0][0]) // (size * (1 + gated))
    tensors = [*norms[1:], rows[0], rows[1]]
    return half(ATTENTION, norms[0], matrices, tensors, (heads, key_heads, size, capacity, int(gated)))


def delta_net_half(
    norm: Tensor,
    matrices: Sequence[Matrix],
    vectors: Sequence[Tensor],
    before: tuple[Tensor, Tensor],
    after: tuple[Tensor, Tensor],
    grouped: bool,
) -> list[int] | None:
    """The same of a gated delta net.

    Args:
        norm: float32 weight [D] of the RMS norm of the states.
        matrices: blocks of the channels, the gate and the output [D, values], of which the channels are queries and
            keys, ``key_heads * size`` each, and values, ``heads * size``; blocks or floats of decay and strength.
        vectors: float32 taps [channels, kernel], weight and bias [heads] of the decay, weight [size] of the norm.
        before: the state float32 [heads, size, size] and the convolution's inputs [kernel - 1, channels], these in the
            dtype of the model's states.
        after: the same after the row, to be written.
        grouped: value heads of one key head are side by side, else ``key_heads`` apart.
    """
    state, inputs = before
    heads, size, _ = state.shape
    channels, gate, decay, strength, output = matrices
    if not all_of(BLOCK_ALIGNMENT, channels, gate, output) or not all_of(TYPE_NUMBERS, decay, strength):
        return None
    if size % 8 or state.dtype != torch.float32 or not (state.is_contiguous() and inputs.is_contiguous()):
        return None
    sizes = ((inputs.shape[1] - heads * size) // (2 * size), heads, size, len(inputs) + 1, int(grouped))
    return half(DELTA_NET, norm, matrices, (*vectors, state, after[0], inputs, after[1]), sizes)


def feed_forward_half(norm: Tensor, matrices: Sequence[Matrix], inner: int) -> list[int] | None:
    """The same of ``x + down(silu(gate(norm(x))) * up(norm(x)))``, ``inner`` wide; the matrices are gate, up, down."""
    return half(FEED_FORWARD, norm, matrices, (), (inner,)) if all_of(BLOCK_ALIGNMENT, *matrices) else None


def all_of(types: Container[str], *matrices: Matrix) -> bool:
    """Whether all matrices are of these types and in the processor's memory."""
    for weight, qtype in matrices:  # noqa: SIM110 - a generator takes twice the time
        if qtype not in types or not weight.is_cpu:
            return False
    return True


def half(
    kind: int, norm: Tensor, matrices: Sequence[Matrix], tensors: Sequence[Tensor], sizes: Sequence[int]
) -> list[int]:
    """The numbers of a Half (cpu/decoder.c)."""
    numbers = [kind, norm.data_ptr()]
    for weight, qtype in matrices:
        numbers += weight.data_ptr(), TYPE_NUMBERS[qtype]
    numbers += [*(tensor.data_ptr() for tensor in tensors), *sizes]
    return numbers + [0] * (HALF - len(numbers))


def decoder_row(
    states: Tensor,
    halves: Sequence[list[int]],
    epsilon: float,
    angles: tuple[Tensor, Tensor] | None = None,
    length: int = 0,
) -> Tensor:
    """One row after ``halves`` of layers, in order.

    Args:
        states: [1, D] in float32, float16 or bfloat16, served.
        epsilon: of the RMS norms.
        angles: cosines and sines float32 [1, turned / 2] of the channels that turn.
        length: rows read before this one.
    """
    table, result = torch.tensor(halves), torch.empty_like(states)
    cosine, sine = angles or (None, None)
    turned = 0 if cosine is None else 2 * cosine.shape[-1]
    sizes = (len(halves), states.shape[1], turned, length + 1)
    arguments = (states, result, table, cosine, sine, *sizes, NUMBERS[states.dtype], epsilon)
    current().processor.run("decoder_row", arguments)
    return result
