"""One row of the gated delta rule."""

import torch
from torch import Tensor


def delta_step(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """``S = exp(decay) S;  S = S + k (strength (v - S^T k))^T;  o = S^T q`` for each head (arXiv 2412.06464, eq. 10).

    Args:
        query: [H, K].
        key: [H, K].
        value: [H, V].
        decay: [H], at most 0.
        strength: [H], 0 to 1.
        state: [H, K, V].

    All of one floating dtype. Returns o [H, V] and the new state; `state` stays as it was. Raises ValueError for other
    shapes.
    """
    check_delta("delta_step", query, key, value, decay, strength, state)
    faded = state * decay.exp()[:, None, None]
    error = (value - (key[:, None] @ faded)[:, 0]) * strength[:, None]
    after = torch.baddbmm(faded, key[:, :, None], error[:, None])
    return (query[:, None] @ after)[:, 0], after


def check_delta(op: str, query: Tensor, key: Tensor, value: Tensor, decay: Tensor, strength: Tensor, state: Tensor):
    """Raise ValueError, in one sentence, unless the tensors are one row and the state of the same heads."""
    if state.dim() != 3:
        raise ValueError(f"{op}: state is {tuple(state.shape)}; wanted [H, K, V].")
    heads, keys, values = state.shape
    wanted = {"query": (heads, keys), "key": (heads, keys), "value": (heads, values), "decay": (heads,)}
    given = {"query": query, "key": key, "value": value, "decay": decay, "strength": strength}
    for name, tensor in given.items():
        shape = wanted.get(name, (heads,))
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{op}: {name} is {tuple(tensor.shape)}; wanted {shape} for a state {tuple(state.shape)}.")
        if tensor.dtype != state.dtype or tensor.device != state.device:
            raise ValueError(
                f"{op}: {name} is {tensor.dtype} on {tensor.device} and state {state.dtype} on {state.device}; "
                "wanted one dtype and device."
            )
