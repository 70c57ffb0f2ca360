"""The gated delta rule (Gated DeltaNet, arXiv 2412.06464), row by row and in chunks.

Each head keeps a state S [K, V] that maps keys to values. A row lets the state fade, corrects what it says of the row's
key by a part ``strength`` of the error, and reads it with the row's query:

    S = exp(decay) S;  S = S + k (strength (v - S^T k))^T;  o = S^T q

Both forms take q, k [n, H, K], v [n, H, V], decay (at most 0) and strength [n, H] and the state [H, K, V] before the
first row, all float32, and return o [n, H, V] and the state after the last row; nothing is written in place.
"""

import torch
import torch.nn.functional as F

from .... import kernels

CHUNK = 64
"""Rows that are solved for together."""

SEGMENT = 8 * CHUNK
"""Rows whose chunks are prepared at once, which bounds the scratch memory: about 8 n H 4 (K + V) bytes."""

GONE = -25.0
"""Of a state that fades by more nothing is left in float32; sums of such decays would round away those that matter."""

RECURRENT_ROWS = 4
"""Up to so many rows the recurrence is quicker than a chunk."""


def delta_rule(query, key, value, decay, strength, state) -> tuple[torch.Tensor, torch.Tensor]:
    """The quicker form for the number of rows."""
    form = recurrent if query.shape[0] <= RECURRENT_ROWS else chunked
    return form(query, key, value, decay, strength, state)


def recurrent(query, key, value, decay, strength, state) -> tuple[torch.Tensor, torch.Tensor]:
    """By definition, one row after the other."""
    outputs = []
    for row in zip(query, key, value, decay, strength, strict=True):
        output, state = kernels.delta_step(*row, state)
        outputs.append(output)
    return torch.stack(outputs), state


def chunked(query, key, value, decay, strength, state, chunk: int = CHUNK) -> tuple[torch.Tensor, torch.Tensor]:
    """``chunk`` rows at a time (section 3.3 of the paper, and Yang et al. 2024, arXiv 2406.06484)."""
    outputs = []
    for start in range(0, query.shape[0], SEGMENT):
        rows = slice(start, start + SEGMENT)
        parts = (query[rows], key[rows], value[rows], decay[rows], strength[rows])
        output, state = _segment(*parts, state, min(chunk, query.shape[0] - start))
        outputs.append(output)
    return torch.cat(outputs), state


def _segment(query, key, value, decay, strength, state, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
    count = query.shape[0]
    # Rows of zeros after the last neither fade the state nor add to it.
    parts = (_in_chunks(part, chunk) for part in (query, key, value, decay[..., None], strength[..., None]))
    query, key, value, decay, strength = parts
    total = decay[..., 0].clamp(min=GONE).cumsum(-1)
    upper = torch.ones(chunk, chunk, dtype=torch.bool, device=query.device).triu(1)
    fading = (total[..., :, None] - total[..., None, :]).masked_fill(upper, -torch.inf).exp()
    since = total.exp()[..., None]
    # What each row corrects depends on the rows before it in the chunk: a unit lower triangular system.
    overlap = (strength * key @ key.mT * fading).tril(-1)
    wanted = strength * torch.cat([value, key * since], dim=-1)
    solved = torch.linalg.solve_triangular(overlap, wanted, upper=False, unitriangular=True)
    own, seen = solved.split([value.shape[-1], key.shape[-1]], dim=-1)
    within = query @ key.mT * fading
    late = (key * (total[..., -1:] - total).exp()[..., None]).mT
    query, last = query * since, total[..., -1].exp()[..., None, None]
    outputs = []
    for number in range(query.shape[1]):
        added = own[:, number] - seen[:, number] @ state
        outputs.append(query[:, number] @ state + within[:, number] @ added)
        state = torch.baddbmm(state * last[:, number], late[:, number], added)
    return torch.cat(outputs, dim=1)[:, :count].transpose(0, 1), state


def _in_chunks(states: torch.Tensor, chunk: int) -> torch.Tensor:
    """[n, H, c] to [H, chunks, chunk, c], filled up with zeros."""
    missing = -states.shape[0] % chunk
    return F.pad(states, (0, 0, 0, 0, 0, missing)).transpose(0, 1).unflatten(1, (-1, chunk))
