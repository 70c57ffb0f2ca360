"""The second stage: answers after a learned code, by which the language model's adapter learns to read it."""

import random
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from ...code.conversation import converse
from ...code.encoding import encode_video
from ...code.layout import lay_out_segments
from ...code.learned.changes import as_tensors
from ...code.learned.learned_code import LearnedCode
from ...code.modes import CodeOptions, encoder_of
from ...code.modes.pictures import encode_pictures, make_segment
from ...code.visual_code import Segment
from ...qwen.generate import GREEDY
from ...qwen.prompt import asking, opening
from ...qwen.tokenizer import typed
from ...source.reading import Frames
from ...video.gop import GopPlan
from ...video.planning import plan_from_costs
from .clips import Sample

I_FRAMES = 0.04
"""Chance of any later frame to be an I frame: adaptive plans of rendered clips have 0.4 in 15."""

WRITTEN = 64
"""Tokens of an answer that the model gives itself, at most."""


class Checkpointed(torch.nn.Module):
    """A layer whose states inside are computed again for the gradient."""

    def __init__(self, layer: torch.nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *inputs):
        return checkpoint(self.layer, *inputs, use_reentrant=False)


def plan_of(sample: Sample, draw: random.Random) -> GopPlan:
    """A plan of a stretch with I frames at random; its first frame always is one."""
    chosen = [at for at in range(1, len(sample.rgb)) if draw.random() < I_FRAMES]
    size = sample.rgb.shape[1:3]
    return plan_from_costs(np.zeros(len(sample.rgb)), "frames", frames=chosen, pts=sample.pts, size=size)


def segments_of(sample: Sample, plan: GopPlan, code: LearnedCode, model, window: int) -> list[Segment]:
    """The code of a stretch as the mode's encoder gives it, but with gradients into the network where it has any."""
    encoder = encoder_of(code.header.mode, CodeOptions(learned=code, window=window))
    groups = encoder.groups(plan)
    frames = Frames(sample.rgb, sample.pts, plan.index)
    reader = encoder.reader(groups, plan, None)
    changes = dict(reader.read([frames], None, "sample"))
    numbers, tokens, deepstack = list(changes), None, None
    if numbers:
        inputs = as_tensors(list(changes.values()), code.header.radius, model.device)
        tokens, deepstack = code.network(model.vision, *inputs)
    whole = [number for number, group in enumerate(groups) if group.kind == "I"]
    pictures = np.stack([sample.rgb[list(groups[number].frames)] for number in whole])
    embeds, levels = encode_pictures(model, pictures)
    found = {}
    for at, number in enumerate(whole):
        found[number] = make_segment(groups[number], plan, embeds[at].to(model.device), levels[:, at].to(model.device))
    for at, number in enumerate(numbers):
        found[number] = make_segment(groups[number], plan, tokens[at], deepstack[:, at])
    return [found[number] for number in range(len(groups))]


def answer_loss(reader, segments: Sequence[Segment], question: str, answer: str) -> torch.Tensor:
    """Mean cross entropy of the tokens of ``answer``, and of its end, after the segments and the question."""
    tokenizer, text = reader.tokenizer, reader.text
    prompt = lay_out_segments([opening(), *segments, asking(question, tokenizer.thinks, think=False)], tokenizer)
    reply = [*tokenizer.encode(typed(answer)), tokenizer.token_id("<|im_end|>")]
    ids = torch.tensor([*prompt.ids, *reply])
    device = segments[0].embeds.device
    index = prompt.visual_index.to(device)
    embeds = text.embed(ids).to(device)
    embeds = embeds.index_copy(0, index, torch.cat([segment.embeds for segment in segments]).to(embeds.dtype))
    deepstack = torch.cat([segment.deepstack for segment in segments], dim=1).to(embeds.dtype)
    following = (prompt.next_position + torch.arange(len(reply))).expand(3, -1)
    positions = torch.cat([prompt.positions, following], dim=1)
    hidden = text(embeds, positions, None, list(deepstack), index)
    logits = text.logits(hidden[len(prompt.ids) - 1 : -1])
    return F.cross_entropy(logits.float(), torch.tensor(reply, device=logits.device))


@torch.no_grad()
def own_answer(model, sample: Sample, question: str) -> str:
    """What the model itself says when every frame is shown whole: the target of self-distillation."""
    frames = Frames(sample.rgb, sample.pts, np.arange(len(sample.rgb)))
    every = range(len(sample.rgb))
    plan = plan_from_costs(
        np.zeros(len(every)), "frames", frames=every, pts=sample.pts, size=sample.rgb.shape[1:3], mode="keyframes"
    )
    code = encode_video([frames], plan, model, "keyframes")
    return converse(model, code).ask(question, sampling=GREEDY, max_tokens=WRITTEN, thinking=False).text


def reader_for_training(code: LearnedCode, model):
    """``model`` with the code's adapter, its layers computed again for the gradient."""
    reader = code.reader_of(model)
    if reader is model or not code.network.checkpointed:
        return reader
    reader.text.layers = torch.nn.ModuleList(map(Checkpointed, reader.text.layers))
    return reader
