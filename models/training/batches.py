"""Examples as tensors, and the forward pass over them.

A row is what a conversation reads: the pictures once, then every question with its answer as if it were the first. So
one pass through the pictures trains on all questions about them.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F

from ..qwen.prompt import Prompt, asking, lay_out, opening
from ..qwen.tokenizer import Tokenizer
from ..qwen.vision import patches_of
from .examples import Example
from .targets import AT, SITES, label, unknown


@dataclass(slots=True)
class Batch:
    """B rows of L tokens, flattened where a model reads them.

    Attributes:
        ids: int64 [B * L]; positions: int64 [3, B * L].
        mask: bool [B, 1, L, L], True where a token (row) sees another (column).
        pictures: uint8 [n, f, H, W, 3] for each size and number of frames.
        visual_rows: int64 [m], the rows of the tokens of ``pictures`` that are shown, in the order of these;
            visual_tokens: int64 [m], their indexes among all tokens of ``pictures``.
        answer_rows: int64 [a], rows that predict a token of an answer; answer_ids: int64 [a], these tokens.
        branch: int64 [a], the number of each token's question in the batch; weights: float32 [a], see
            :func:`token_weights`.
        sites: for each site of auxiliary targets, the rows whose states are read, int64 [k] (indexes of visual tokens
            for "vision"), and their values, float32 [k, targets of the site], NaN where unknown.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    pictures: list[torch.Tensor]
    visual_rows: torch.Tensor
    visual_tokens: torch.Tensor
    answer_rows: torch.Tensor
    answer_ids: torch.Tensor
    branch: torch.Tensor
    weights: torch.Tensor
    sites: dict[str, tuple[torch.Tensor, torch.Tensor]]

    @property
    def count(self) -> int:
        """Questions, or rows where none is asked: the batch's weight among others."""
        return int(self.branch[-1]) + 1 if len(self.branch) else len(self.mask)

    def to(self, device) -> "Batch":
        """The same on another device."""
        values = {name: getattr(self, name) for name in self.__slots__}
        pictures = [group.to(device) for group in values.pop("pictures")]
        sites = {site: (rows.to(device), known.to(device)) for site, (rows, known) in values.pop("sites").items()}
        return Batch(**{name: value.to(device) for name, value in values.items()}, pictures=pictures, sites=sites)


@dataclass(slots=True)
class _Row:
    """One example as numbers; ``branch`` is 0 before the questions, then the question's number from 1 on."""

    prompt: Prompt
    ids: list[int]
    positions: list[torch.Tensor]
    branch: list[int]
    answers: list[tuple[int, int, int, float]] = field(default_factory=list)
    sites: list[tuple[str, int, np.ndarray]] = field(default_factory=list)


def collate(examples: Sequence[Example], tokenizer: Tokenizer, answers: Sequence | None = None) -> Batch:
    """The batch of ``examples`` with each question's answer, or with ``answers``: (question, answer) pairs for each."""
    if answers is None:
        asked = [[(one.question, one.answer, one.choices) for one in example.questions] for example in examples]
    else:
        asked = [[(*pair, ()) for pair in pairs] for pairs in answers]
    rows = [_row(example, questions, tokenizer) for example, questions in zip(examples, asked, strict=True)]
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), tokenizer.token_id("<|endoftext|>"))
    positions = torch.zeros(3, len(rows), length, dtype=torch.int64)
    branches = torch.full((len(rows), length), -1)
    tokens, sites, first = [], {"event": [], "order": [], "choice": []}, 0
    for number, row in enumerate(rows):
        count, offset = len(row.ids), number * length
        ids[number, :count] = torch.tensor(row.ids)
        positions[:, number, :count] = torch.cat(row.positions, dim=1)
        branches[number, :count] = torch.tensor(row.branch)
        tokens += [(offset + at - 1, token, first + branch, weight) for at, token, branch, weight in row.answers]
        for site, at, values in row.sites:
            sites[site].append((offset + at, values))
        first += len(asked[number])
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    mask = (seen & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    *integers, weights = zip(*tokens, strict=True) if tokens else [()] * 4
    pictures, *visual, picture_sites = _pictures(examples, rows, length)
    for site, found in sites.items():
        values = np.array([values for _, values in found], np.float32).reshape(len(found), len(AT[site]))
        picture_sites[site] = torch.tensor([at for at, _ in found], dtype=torch.int64), torch.from_numpy(values)
    return Batch(
        ids.flatten(), positions.flatten(1), mask, pictures, *visual,
        *(torch.tensor(column, dtype=torch.int64) for column in integers), torch.tensor(weights), picture_sites,
    )  # fmt: skip


def _row(example: Example, questions, tokenizer: Tokenizer) -> _Row:
    prompt = lay_out([opening(), *example.parts], tokenizer)
    row = _Row(prompt, list(prompt.ids), [prompt.positions], [0] * len(prompt.ids))
    end = tokenizer.token_id("<|im_end|>")
    for number, (question, answer, choices) in enumerate(questions):
        begin = len(row.ids)
        row.sites += _event_sites(question, example.events, tokenizer, begin)
        asked = _encoded(tokenizer, asking(question))
        reply = [*_encoded(tokenizer, answer), end]
        start = begin + len(asked)
        weights = token_weights(reply, [[*_encoded(tokenizer, choice), end] for choice in choices])
        row.answers += [(start + at, token, number, weights[at]) for at, token in enumerate(reply)]
        if choices and answer in example.events:
            values = unknown("choice")
            label(values, (), "choice", {"second": answer == max(choices, key=question.find)})
            row.sites.append(("choice", start + int(np.argmax(weights)) - 1, values))
        row.ids += asked + reply
        row.positions.append((prompt.next_position + torch.arange(len(asked) + len(reply))).expand(3, -1))
        row.branch += [number + 1] * (len(asked) + len(reply))
    return row


def token_weights(answer: list[int], choices: list[list[int]]) -> list[float]:
    """The weight of each token of an answer in its loss, 1 in all.

    Half is spread evenly, half over the tokens at which the answer differs from another choice: the rest of "the red
    circle stops" does not say which of two events it is.
    """
    differs = [
        any(other[:at] == answer[:at] and other[at : at + 1] not in ([], [token]) for other in choices)
        for at, token in enumerate(answer)
    ]
    even = 1 / len(answer)
    if not any(differs):
        return [even] * len(answer)
    return [0.5 * even + 0.5 * here / sum(differs) for here in differs]


def _event_sites(question: str, events: dict[str, np.ndarray], tokenizer: Tokenizer, begin: int):
    """(site, row, values) for the last token of the words of each event that ``question`` names, from ``begin`` on."""
    found, before = [], None
    for start, words in sorted((question.find(words), words) for words in events if words in question):
        last = begin + len(_encoded(tokenizer, question[: start + len(words)])) - 1
        found.append(("event", last, events[words]))
        if before is not None:
            later = unknown("order")
            label(later, (), "order", {"later": events[words][0] > before})
            found.append(("order", last, later))
        before = events[words][0]
    return found


@functools.lru_cache(maxsize=1 << 15)
def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text, not to be changed; questions and answers come again and again."""
    return tokenizer.encode(text)


def _pictures(examples: Sequence[Example], rows: list[_Row], length: int):
    """All pictures by shape; in that order, rows and indexes of their shown tokens; the sites of the pictures."""
    groups: dict[tuple, list] = {}
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        token = shown = 0
        for index, (picture, kept) in enumerate(zip(example.pictures, example.kept, strict=True)):
            tokens, span = slice(token, token := token + len(kept)), slice(shown, shown := shown + int(kept.sum()))
            values = example.targets["vision"][tokens], example.targets["cell"][span]
            values += (example.targets["picture"][index : index + 1],)
            visual = number * length + row.prompt.visual_index[span]
            groups.setdefault(picture.shape, []).append((torch.from_numpy(picture), visual, kept, values))
    _, visual, kept, values = zip(*(one for group in groups.values() for one in group), strict=True)
    vision, cell, picture = (torch.from_numpy(np.concatenate(column)) for column in zip(*values, strict=True))
    visual_rows, closing = torch.cat(visual), torch.stack([one[-1] + 1 for one in visual])
    visual_tokens = torch.from_numpy(np.flatnonzero(np.concatenate(kept)))
    sites = {
        "vision": (torch.arange(len(vision)), vision),
        "cell": (visual_rows, cell),
        "picture": (closing, picture),
    }
    return [torch.stack([one[0] for one in group]) for group in groups.values()], visual_rows, visual_tokens, sites


def attend(query, key, value, causal: bool = False, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Attention [B, H, n, d] over whole sequences, with as many key heads as heads; ``mask`` bool [B, 1, n, n].

    On the CPU by its definition: the backward pass of torch's fused kernel takes two to eight times as long there in
    bfloat16.
    """
    if causal:
        raise ValueError("whole sequences attend by a mask; causal attention is the text model's own")
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = query @ key.mT * query.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(-1).to(value.dtype) @ value


class BatchAttention:
    """Attention for the rows of a batch, each by its own mask; set ``mask`` before every pass."""

    def __init__(self):
        self.mask: torch.Tensor | None = None

    def __call__(self, query, key, value, causal: bool = False) -> torch.Tensor:
        """See ``qwen.attention.Attention``; the n tokens are the B * L of the batch."""
        rows, _, length, _ = self.mask.shape
        groups = query.shape[1] // key.shape[1]
        query, key, value = (states[0].unflatten(1, (rows, length)).transpose(0, 1) for states in (query, key, value))
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
        attended = attend(query, key, value, mask=self.mask)
        return attended.transpose(0, 1).flatten(1, 2)[None]


def forward(
    model, attention: BatchAttention, batch: Batch, text: bool = True
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Cross entropy of every token of every answer, float32 [a], and the states at each site of targets, [k, D].

    ``model`` is a :class:`.architecture.TinyQwen3VL` whose text model attends with ``attention``. Without ``text`` only
    the vision tower runs: no losses, and the states of the site "vision" alone.
    """
    patches, grids = [], []
    for group in batch.pictures:
        cut, grid = patches_of(group.flatten(0, 1), model.config.vision, still=group.shape[1] == 1)
        patches.append(cut)
        grids.append(grid)
    tokens, deepstack = model.vision(torch.cat(patches), torch.cat(grids))
    states = {"vision": tokens[batch.sites["vision"][0]]}
    if not text:
        return tokens.new_zeros(0, dtype=torch.float32), states
    layers, hooks = model.text.layers, []
    for site, after in SITES.items():
        if after is not None:
            depth = int(len(layers) * after) if after > 0 else len(layers) + after

            def read(layer, inputs, hidden, site=site):
                states[site] = hidden[batch.sites[site][0]]

            hooks.append(layers[depth - 1].register_forward_hook(read))
    embeds = model.text.embed(batch.ids)
    tokens, *deepstack = (features[batch.visual_tokens] for features in (tokens, *deepstack))
    embeds = embeds.index_copy(0, batch.visual_rows, tokens.to(embeds.dtype))
    attention.mask = batch.mask
    try:
        hidden = model.text(embeds, batch.positions, None, deepstack, batch.visual_rows)
    finally:
        for hook in hooks:
            hook.remove()
    logits = model.text.logits(hidden[batch.answer_rows])
    return F.cross_entropy(logits.float(), batch.answer_ids, reduction="none"), states


def answer_losses(model, attention: BatchAttention, batch: Batch) -> torch.Tensor:
    """The first result of :func:`forward`."""
    return forward(model, attention, batch)[0]
