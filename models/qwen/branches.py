"""Many continuations of one reading in one pass: the questions after a video, the replies after each question.

The rows of all branches go through the model together, so that its weights are read once. A row attends to what was
read before, to the rows that its branch continues, and to itself: tree attention (SpecInfer, arXiv 2305.09781, section
4). The reading stays as it is. A recurrent layer runs branch by branch, since its state has no rows to choose among.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .attention import Attention, attention_in_tree
from .cache import Cache
from .generate import Context

ROWS = 512
"""Rows that go through the model at once; the scores of each layer's attention among them are held."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A way to go on.

    Attributes:
        rows: its rows among those of all branches, in order.
        position: M-RoPE position of its next row.
        reads: whether it continues the reading; otherwise it begins with nothing.
        states: what the recurrent layers keep after its rows.
    """

    rows: tuple[int, ...]
    position: int
    reads: bool
    states: Cache


class Branches:
    """The branches of a reading, with their keys and values; takes the place of a cache in a pass.

    ``context`` must have read something and must not read on while its branches are in use.
    """

    def __init__(self, context: Context):
        self.model, self.prefix = context.model, context.cache
        self.root = Branch((), context.position, True, context.cache)
        self.empty = Branch((), 0, False, Cache(len(self.model.layers)))
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self._count = 0

    @torch.no_grad()
    def read(self, parts: Sequence[tuple[Branch, Sequence[int]]]) -> tuple[list[Branch], list[torch.Tensor]]:
        """Let each branch be continued by token ids, one at least; a branch may be continued in several ways.

        Returns the new branches, and for each the hidden states [n, D] of its new rows.
        """
        branches, hidden = [], []
        for group in in_groups(parts):
            made = [self._continued(branch, ids) for branch, ids in group]
            hidden += self._pass(group, made)
            branches += made
        return branches, hidden

    def _continued(self, branch: Branch, ids: Sequence[int]) -> Branch:
        rows = tuple(range(self._count, self._count + len(ids)))
        self._count += len(ids)
        return Branch((*branch.rows, *rows), branch.position + len(ids), branch.reads, branch.states.fork())

    def _pass(self, group, made: list[Branch]) -> list[torch.Tensor]:
        lengths = [len(ids) for _, ids in group]
        starts = [torch.arange(branch.position, branch.position + len(ids)) for branch, ids in group]
        embeds = self.model.embed(torch.tensor([token for _, ids in group for token in ids]))
        visible = torch.zeros(sum(lengths), self._count, dtype=torch.bool)
        at = 0
        for branch, count in zip(made, lengths, strict=True):
            rows = torch.tensor(branch.rows)
            visible[at : at + count, rows] = rows <= rows[-count:, None]
            at += count
        self._visible = visible.to(embeds.device)
        self._reads = torch.tensor([branch.reads for branch in made]).repeat_interleave(torch.tensor(lengths))
        self._states, self._lengths = [branch.states for branch in made], lengths
        hidden = self.model(embeds, torch.cat(starts).expand(3, -1).to(embeds.device), self)
        return list(hidden.split(lengths))

    def attend(self, layer: int, query, key, value, attend: Attention) -> torch.Tensor:
        """Attention [H, n, d] of the new rows ``query`` [H, n, d], ``key`` and ``value`` [K, n, d]."""
        if layer in self._keys:
            key, value = torch.cat([self._keys[layer], key], 1), torch.cat([self._values[layer], value], 1)
        self._keys[layer], self._values[layer] = key, value
        before = self.prefix.rows(layer, key.dtype)
        visible, reads = self._visible.to(query.device), self._reads.to(query.device)
        return attention_in_tree(query, key, value, visible, before, reads)

    def each(self, mixer, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """What a recurrent ``mixer`` makes of the new rows ``states`` [n, D], branch by branch."""
        parts = zip(*(rows.split(self._lengths) for rows in (states, cos, sin)), self._states, strict=True)
        return torch.cat([mixer(*rows) for rows in parts])

    def advance(self, count: int) -> None:
        """Make what the recurrent layers kept valid."""
        for states in self._states:
            states.advance(0)


def in_groups(parts: Sequence[tuple]) -> list[list[tuple]]:
    """Tuples that end with their token ids, in order, as many together as have ``ROWS`` rows, one at least."""
    groups, rows = [], ROWS
    for part in parts:
        if rows + len(part[-1]) > ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += len(part[-1])
    return groups
