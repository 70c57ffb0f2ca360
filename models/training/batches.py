"""Examples as tensors: one padded row of tokens each, its questions as branches that do not see each other.

A row is what a conversation reads: the pictures once, then every question and answer as if it were the first, as forks
of one reading are (see ``code.conversation``). So one pass through the pictures trains on all questions.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..qwen.prompt import Prompt, asking, lay_out, opening
from ..qwen.tokenizer import Tokenizer
from ..qwen.vision import patches_of
from ..source.sampling import CELL
from .examples import Example
from .text_targets import MENTION_VALUES


@dataclass(slots=True)
class Batch:
    """B rows of L tokens, flattened where a model reads them.

    Attributes:
        ids: int64 [B * L].
        positions: int64 [3, B * L].
        mask: bool [B, 1, L, L], True where a token (row) sees another (column).
        pictures: uint8 [n, f, H, W, 3] for each size and number of frames.
        visual_rows: int64 [m], where the tokens of ``pictures`` belong, in their order.
        answer_rows: int64 [a], tokens that predict a token of an answer; ``targets`` int64 [a], which.
        branch: int64 [a], number of the question that each target belongs to, over the whole batch; ``weights`` float32
            [a], what the target weighs in it (:func:`token_weights`).
        cells, wholes: what the tokens of ``visual_rows``, and those in ``behind_rows`` int64 [n] behind each picture,
            are told (:mod:`.changes`).
        mention_rows: int64 [k], the last tokens of the events that questions name; ``mentions`` float32
            [k, values + 1], what they are told.
        choosing_rows: int64 [c], tokens that predict which of two events an answer names; ``second`` float32 [c],
            whether it is the one that the question names behind the other.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    pictures: list[torch.Tensor]
    visual_rows: torch.Tensor
    answer_rows: torch.Tensor
    targets: torch.Tensor
    branch: torch.Tensor
    weights: torch.Tensor
    cells: torch.Tensor
    wholes: torch.Tensor
    behind_rows: torch.Tensor
    mention_rows: torch.Tensor
    mentions: torch.Tensor
    choosing_rows: torch.Tensor
    second: torch.Tensor

    @property
    def count(self) -> int:
        """Questions."""
        return int(self.branch[-1]) + 1

    def to(self, device) -> "Batch":
        """The same on another device."""
        values = {name: getattr(self, name) for name in self.__slots__}
        pictures = [group.to(device) for group in values.pop("pictures")]
        return Batch(**{name: value.to(device) for name, value in values.items()}, pictures=pictures)


@dataclass(slots=True)
class _Row:
    """One example as numbers; ``of`` int64 [L] is 0 for what all questions share and the question's number from 1."""

    prompt: Prompt
    ids: list[int]
    positions: torch.Tensor
    of: np.ndarray
    answers: list[tuple[int, int, int, float]]
    mentions: list[tuple[int, np.ndarray]]
    choosing: list[tuple[int, float]]


def collate(examples: Sequence[Example], tokenizer: Tokenizer, answers: Sequence | None = None) -> Batch:
    """The batch of ``examples`` with each question's answer, or with ``answers``: (question, answer) pairs for each."""
    if answers is None:
        asked = [[(one.question, one.answer, one.choices) for one in example.questions] for example in examples]
    else:
        asked = [[(*pair, ()) for pair in pairs] for pairs in answers]
    rows = [_row(example, questions, tokenizer) for example, questions in zip(examples, asked, strict=True)]
    length = max(len(row.ids) for row in rows)
    filler = tokenizer.token_id("<|endoftext|>")
    ids = torch.full((len(rows), length), filler)
    positions = torch.zeros(3, len(rows), length, dtype=torch.int64)
    of = np.zeros((len(rows), length), np.int64)
    targets, mentions, choosing, first = [], [], [], 0
    for number, row in enumerate(rows):
        count = len(row.ids)
        ids[number, :count] = torch.tensor(row.ids)
        positions[:, number, :count] = row.positions
        of[number, :count] = row.of
        of[number, count:] = -1
        targets += [(number * length + at - 1, token, first + branch) for at, token, branch, _ in row.answers]
        mentions += [(number * length + at, told) for at, told in row.mentions]
        choosing += [(number * length + at, second) for at, second in row.choosing]
        first += len(asked[number])
    branches = torch.from_numpy(of)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    mask = (seen & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    answer_rows, tokens, branch = torch.tensor(targets, dtype=torch.int64).reshape(-1, 3).T
    weights = torch.tensor([weight for row in rows for *_, weight in row.answers])
    shown = _pictures(examples, rows, length)
    named = torch.tensor([at for at, _ in mentions], dtype=torch.int64)
    told = torch.tensor(np.array([told for _, told in mentions], np.float32).reshape(-1, len(MENTION_VALUES) + 1))
    choosing_rows = torch.tensor([at for at, _ in choosing], dtype=torch.int64)
    second = torch.tensor([second for _, second in choosing])
    return Batch(
        ids.flatten(), positions.flatten(1), mask, *shown[:2], answer_rows, tokens, branch, weights, *shown[2:], named,
        told, choosing_rows, second,
    )  # fmt: skip


def _row(example: Example, questions, tokenizer: Tokenizer) -> _Row:
    prompt = lay_out([opening(), *example.parts], tokenizer)
    ids, positions, of = list(prompt.ids), [prompt.positions], [0] * len(prompt.ids)
    end = tokenizer.token_id("<|im_end|>")
    answers, mentions, choosing = [], [], []
    for number, (question, answer, choices) in enumerate(questions):
        asked = _encoded(tokenizer, asking(question))
        said = [*_encoded(tokenizer, answer), end]
        mentions += [(len(ids) + at, told) for at, told in _mentions(question, example.moments, tokenizer)]
        start = len(ids) + len(asked)
        weights = token_weights(said, [[*_encoded(tokenizer, choice), end] for choice in choices])
        answers += [(start + at, token, number, weights[at]) for at, token in enumerate(said)]
        if choices and answer in example.moments:
            second = max(choices, key=question.find)
            choosing.append((start + int(np.argmax(weights)) - 1, float(answer == second)))
        ids += asked + said
        positions.append((prompt.next_position + torch.arange(len(asked) + len(said))).expand(3, -1))
        of += [number + 1] * (len(asked) + len(said))
    return _Row(prompt, ids, torch.cat(positions, dim=1), np.array(of), answers, mentions, choosing)


def token_weights(answer: list[int], choices: list[list[int]]) -> list[float]:
    """What each token of an answer weighs, 1 in all.

    One half falls on all alike, the other on those at which the answer parts from other choices: the rest of "the red
    circle stops" says nothing about which of two events it is.
    """
    parting = [
        any(other[:at] == answer[:at] and other[at : at + 1] not in ([], [token]) for other in choices)
        for at, token in enumerate(answer)
    ]
    alike = 1 / len(answer)
    if not any(parting):
        return [alike] * len(answer)
    return [0.5 * alike + 0.5 * parts / sum(parting) for parts in parting]


def _mentions(question: str, moments: dict[str, np.ndarray], tokenizer: Tokenizer) -> list[tuple[int, np.ndarray]]:
    """The last token of the words of each event that ``question`` names, and what it is told."""
    named = sorted((question.find(words), words) for words in moments if words in question)
    told, before = [], np.nan
    for start, words in named:
        seconds = moments[words][0]
        later = np.nan if np.isnan(before) else seconds > before
        last = len(_encoded(tokenizer, question[: start + len(words)])) - 1
        told.append((last, np.append(moments[words], np.float32(later))))
        before = seconds
    return told


@functools.lru_cache(maxsize=1 << 15)
def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    """The tokens of a text; questions and answers come again and again. Not to be changed."""
    return tokenizer.encode(text)


def _pictures(examples, rows: list[_Row], length: int) -> tuple:
    """All pictures by shape; in that order the rows of their tokens; what these, and the rows behind, are told."""
    groups: dict[tuple, list] = {}
    for number, (example, row) in enumerate(zip(examples, rows, strict=True)):
        at = 0
        for picture, whole in zip(example.pictures, example.wholes, strict=True):
            tokens = (picture.shape[1] // CELL) * (picture.shape[2] // CELL)
            places = number * length + row.prompt.visual_index[at : at + tokens]
            cells = torch.from_numpy(example.cells[at : at + tokens])
            shown = torch.from_numpy(picture), places, cells, torch.from_numpy(whole), places[-1:] + 1
            groups.setdefault(picture.shape, []).append(shown)
            at += tokens
    shown, places, cells, wholes, behind = zip(*(one for group in groups.values() for one in group), strict=True)
    pictures = [torch.stack([one[0] for one in group]) for group in groups.values()]
    return pictures, torch.cat(places), torch.cat(cells), torch.stack(wholes), torch.cat(behind)


def attend(query, key, value, causal: bool = False, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Attention [B, H, n, d] over whole sequences, with as many key heads as heads; ``mask`` bool [B, 1, n, n].

    On the CPU by its definition: backwards in bfloat16, torch's fused kernel takes two to eight times as long there.
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
        """See ``qwen3vl.attention.Attention``; the n tokens are the B * L of the batch."""
        rows, _, length, _ = self.mask.shape
        groups = query.shape[1] // key.shape[1]
        query, key, value = (states[0].unflatten(1, (rows, length)).transpose(0, 1) for states in (query, key, value))
        key, value = (states.repeat_interleave(groups, dim=1) for states in (key, value))
        attended = attend(query, key, value, mask=self.mask)
        return attended.transpose(0, 1).flatten(1, 2)[None]


def answer_losses(model, attention: BatchAttention, batch: Batch) -> torch.Tensor:
    """Cross entropy of every token of every answer, given what stands before it: float32 [a].

    ``model`` is a :class:`.tiny.TinyQwen3VL` whose text model attends with ``attention``.
    """
    return losses_and_states(model, attention, batch)[0]


def losses_and_states(model, attention: BatchAttention, batch: Batch) -> tuple[torch.Tensor, ...]:
    """:func:`answer_losses`, and the hidden states [B * L, D] halfway through the text model's layers, before the last
    two and before the last of them."""
    patches, grids = [], []
    for group in batch.pictures:
        cut, grid = patches_of(group.flatten(0, 1), model.config.vision, still=group.shape[1] == 1)
        patches.append(cut)
        grids.append(grid)
    tokens, deepstack = model.vision(torch.cat(patches), torch.cat(grids))
    embeds = model.text.embed(batch.ids)
    embeds = embeds.index_copy(0, batch.visual_rows, tokens.to(embeds.dtype))
    attention.mask = batch.mask
    states = []
    layers = model.text.layers
    hooks = [
        layer.register_forward_hook(lambda layer, given, left: states.append(left))
        for layer in (layers[len(layers) // 2 - 1], layers[-3], layers[-2])
    ]
    try:
        hidden = model.text(embeds, batch.positions, None, deepstack, batch.visual_rows)
    finally:
        for hook in hooks:
            hook.remove()
    logits = model.text.logits(hidden[batch.answer_rows])
    return F.cross_entropy(logits.float(), batch.targets, reduction="none"), *states
