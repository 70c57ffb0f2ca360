"""Grouped-query attention that never builds an n x n mask.

A chunk of a long prompt sees everything stored before it and, causally, itself. The two parts are attended separately
and merged by their log-sum-exp (the online softmax of FlashAttention, arXiv 2205.14135, section 3.1).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

Attention = Callable[..., torch.Tensor]
"""``attention(query [B, H, n, d], key [B, K, m, d], value [B, K, m, d], causal) -> [B, H, n, d]``; K divides H.

``causal``: query i sees the keys up to ``m - n + i``, which is all of them for the last query.
"""


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """Attention through torch's SDPA; see ``Attention`` for the shapes."""
    count, stored = query.shape[2], key.shape[2] - query.shape[2]
    if not causal or count == 1:
        return _unfold(F.scaled_dot_product_attention(_fold(query, key), key, value), query)
    if stored == 0:
        groups = query.shape[1] // key.shape[1]
        return F.scaled_dot_product_attention(query, _repeat(key, groups), _repeat(value, groups), is_causal=True)
    before, before_sum = _attend_with_sum(_fold(query, key), key[:, :, :stored], value[:, :, :stored], False)
    groups = query.shape[1] // key.shape[1]
    own, own_sum = _attend_with_sum(
        query, _repeat(key[:, :, stored:], groups), _repeat(value[:, :, stored:], groups), True
    )
    weight = torch.sigmoid(_unfold(before_sum, query[..., 0]) - own_sum)[..., None]
    return torch.lerp(own.to(weight.dtype), _unfold(before, query).to(weight.dtype), weight).to(query.dtype)


def attention_in_tree(query, key, value, visible, before, reads) -> torch.Tensor:
    """Attention [H, n, d] of rows that continue one reading in several ways.

    Args:
        query: [H, n, d]; ``key`` and ``value`` [K, m, d] are those of all rows after the reading, the new ones last.
        visible: bool [n, m], the rows that each query sees.
        before: keys and values [K, p, d] of the reading, None where it is empty.
        reads: bool [n], the queries that see the reading.
    """
    groups = query.shape[0] // key.shape[0]
    own, own_sum = _by_definition(query[None], _repeat(key[None], groups), _repeat(value[None], groups), ~visible)
    if before is None:
        return own[0]
    stored, stored_value = (rows[None] for rows in before)
    read, read_sum = _attend_with_sum(_fold(query[None], stored), stored, stored_value, False)
    weight = torch.sigmoid(_unfold(read_sum, own_sum) - own_sum) * reads
    return torch.lerp(own.to(weight.dtype), _unfold(read, own).to(weight.dtype), weight[..., None]).to(query.dtype)[0]


def _fold(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Queries of one key head, one below the other: without causality a group is just more rows."""
    return query.reshape(query.shape[0], key.shape[1], -1, query.shape[-1])


def _unfold(folded: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    return folded.reshape(query.shape)


def _repeat(states: torch.Tensor, groups: int) -> torch.Tensor:
    return states if groups == 1 else states.repeat_interleave(groups, dim=1)


def _attend_with_sum(query, key, value, causal) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention [B, H, n, d] and the float32 log-sum-exp of its scores [B, H, n]; equal head counts."""
    device = query.device.type
    if query.requires_grad or key.requires_grad or device not in ("cpu", "cuda"):
        hidden = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).triu(1)
        return _by_definition(query, key, value, hidden if causal else None)
    if device == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal)[:2]
    if query.dtype != torch.float32:
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, 0.0, causal)[:2]
    states, total = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True, 0.0, causal)[
        :2
    ]
    return states, total[..., : query.shape[2]]


def _by_definition(query, key, value, hidden: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Where torch has no fused kernel that returns its log-sum-exp, or none through which gradients flow.

    ``hidden`` bool [n, m] are the keys that a query does not see.
    """
    scores = query.float() @ key.float().mT * query.shape[-1] ** -0.5
    if hidden is not None:
        scores = scores.masked_fill(hidden, -torch.inf)
    total = scores.logsumexp(-1)
    return (scores - total[..., None]).exp().to(value.dtype) @ value, total
