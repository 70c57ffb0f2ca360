"""The modes of learned codes: groups, windows, references, streaming, slicing, and the adapter that reads them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import converse
from codeclens.models.code.encoding import encode_video, extend_code, slice_code
from codeclens.models.code.learned.changes import as_tensors, change_of
from codeclens.models.code.modes import CodeOptions, encoder_of
from codeclens.models.errors import InputError
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import Frames
from codeclens.models.video.planning import plan, plan_from_costs
from codeclens.models.video.primitives import primitives
from support.frames import frames_of, noise, plan_for

from .conftest import random_code


def moving(count: int = 6) -> Frames:
    """Noise that a window of 128 x 192 pixels moves over, 3 to the right and 2 down a frame."""
    wide = noise(1, 192, 256, seed=5)[0]
    return frames_of(np.stack([wide[2 * i : 2 * i + 128, 3 * i : 3 * i + 192] for i in range(count)]))


def part_of(frames: Frames, start: int, stop: int) -> Frames:
    span = slice(start, stop)
    return Frames(frames.rgb[span], frames.pts[span], frames.index[span])


def assert_same(left, right):
    assert (left.kind, left.index, left.grid) == (right.kind, right.index, right.grid)
    torch.testing.assert_close(left.embeds, right.embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(left.deepstack, right.deepstack, rtol=1e-4, atol=1e-5)


def test_a_change_is_the_motion_and_what_it_leaves():
    frames = moving(2)
    found = change_of(frames.rgb[1], frames.rgb[0], 1, 8)
    inside = found.mv[:-1, :-1]
    assert (inside == (3, 2)).all() and not found.residual[:-16, :-16].any()
    residual, motion, step = as_tensors([found, found], 8)
    assert residual.shape == (2, 128, 192, 3) and step.tolist() == [1, 1]
    assert torch.allclose(motion[:, :-1, :-1], torch.tensor([3 / 8, 2 / 8]))
    assert torch.equal(residual[0], torch.from_numpy(found.residual).float() / 127.5)
    for inputs, kept in (("motion", (0, 1)), ("residual", (1, 0)), ("none", (0, 0))):
        shown = as_tensors([found], 8, inputs=inputs)
        assert [bool(one.any()) for one in shown[:2]] == [bool(one) for one in kept]


def test_p_frames_are_the_networks_tokens(tiny_model, code, mode):
    frames = moving(4)
    coded = encode_video([frames], plan_for(frames, "IPPI"), tiny_model, mode, learned=code)
    assert [segment.kind for segment in coded] == ["I", "P", "P", "I"]
    rows, columns = code.network.grid((128, 192))
    for number in (1, 2):
        change = change_of(frames.rgb[number], frames.rgb[number - 1], number, 8)
        tokens, levels = code.network(tiny_model.vision, *as_tensors([change], 8))
        segment = coded.segments[number]
        assert segment.grid == (rows, columns) and len(segment) == rows * columns
        torch.testing.assert_close(segment.embeds, tokens[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(segment.deepstack, levels[:, 0], rtol=1e-4, atol=1e-5)
    stills = encode_video([frames], plan_for(frames, "IPPI"), tiny_model, "keyframes")
    for whole, expected in zip((coded.segments[0], coded.segments[3]), stills, strict=True):
        assert_same(whole, expected)


def test_the_plans_motion_is_used_where_it_is_of_the_same_frames(tiny_model, code, mode):
    frames = moving(5)
    found = primitives([frames], radius=8)
    decided = replace(plan(found, "frames", frames=[0, 3]), video=None)
    alone = encode_video([frames], decided, tiny_model, mode, learned=code)
    given = encode_video([frames], decided, tiny_model, mode, learned=code, primitives=found)
    for left, right in zip(alone, given, strict=True):
        assert_same(left, right)
    still = replace(found, mv=np.zeros_like(found.mv))
    other = encode_video([frames], decided, tiny_model, mode, learned=code, primitives=still)
    assert not torch.allclose(other.segments[1].embeds, alone.segments[1].embeds)
    stream = encode_video(
        [frames], decided, tiny_model, mode, learned=code, primitives=replace(still, source="bitstream")
    )
    assert_same(stream.segments[1], alone.segments[1])


def test_chunks_and_batches_do_not_change_the_code(tiny_model, code, mode):
    frames = moving(7)
    decided = plan_for(frames, "IPPIPPP")
    whole = encode_video([frames], decided, tiny_model, mode, learned=code)
    chunks = [part_of(frames, at, at + 2) for at in range(0, 7, 2)]
    single = encode_video(chunks, decided, tiny_model, mode, learned=code, batch_patches=1)
    assert whole.fingerprint == single.fingerprint
    for left, right in zip(whole, single, strict=True):
        assert_same(left, right)


def test_a_window_is_one_change_from_the_frame_before_it(tiny_model, code, mode):
    frames = moving(6)
    coded = encode_video([frames], plan_for(frames, "IPPPPP"), tiny_model, mode, learned=code, window=2)
    assert [segment.index for segment in coded] == [(0,), (1, 2), (3, 4), (5,)]
    assert [segment.time for segment in coded] == [0.0, 0.75, 1.75, 2.5]
    change = change_of(frames.rgb[4], frames.rgb[2], 4, 8)
    tokens, _ = code.network(tiny_model.vision, *as_tensors([change], 8))
    torch.testing.assert_close(coded.segments[2].embeds, tokens[0], rtol=1e-4, atol=1e-5)


def test_the_i_frame_may_be_every_changes_reference(tiny_model, code, mode):
    frames = moving(4)
    coded = encode_video([frames], plan_for(frames, "IPPP"), tiny_model, mode, learned=code, reference="whole")
    change = change_of(frames.rgb[3], frames.rgb[0], 3, 8)
    tokens, _ = code.network(tiny_model.vision, *as_tensors([change], 8))
    torch.testing.assert_close(coded.segments[3].embeds, tokens[0], rtol=1e-4, atol=1e-5)


def test_a_block_may_come_from_the_frame_after():
    """What was hidden before and is seen after is no residual, and its motion is given as if from before."""
    frames = moving(3)
    hidden = frames.rgb.copy()
    hidden[0, :, :96] = 0
    found = change_of(hidden[1], hidden[0], 1, 8, after=hidden[2])
    inside = slice(2, -2)
    assert not found.residual[32:-32, 32:80].any() and not found.residual[32:-32, 112:-32].any()
    assert (found.mv[inside, 2:4] == (3, 2)).all() and (found.mv[inside, 8:-2] == (3, 2)).all()
    alone = change_of(hidden[1], hidden[0], 1, 8)
    assert np.abs(alone.residual[32:-32, 32:80]).mean() > 20
    longer = change_of(hidden[1], hidden[0], 1, 8, after=hidden[2], span=2)
    assert (longer.mv[inside, 2:4] == (6, 4)).all()


def test_both_references_are_used_where_there_are_both(tiny_model, code, mode):
    frames = moving(4)
    coded = encode_video([frames], plan_for(frames, "IPPP"), tiny_model, mode, learned=code, reference="both")
    for number in (1, 2, 3):
        after = frames.rgb[number + 1] if number < 3 else None
        change = change_of(frames.rgb[number], frames.rgb[number - 1], number, 8, after=after)
        tokens, _ = code.network(tiny_model.vision, *as_tensors([change], 8))
        torch.testing.assert_close(coded.segments[number].embeds, tokens[0], rtol=1e-4, atol=1e-5)
    trained = replace(code, header=replace(code.header, reference="both"))
    again = encode_video([frames], plan_for(frames, "IPPP"), tiny_model, mode, learned=trained)
    for left, right in zip(coded, again, strict=True):
        assert_same(left, right)
    with pytest.raises(InputError, match="the reference is 'next'"):
        encode_video([frames], plan_for(frames, "IPPP"), tiny_model, mode, learned=code, reference="next")


def test_adaptive_windows_are_long_where_little_changes():
    costs = np.array([0.0] + [10.0] * 6 + [100.0] * 6)
    decided = plan_from_costs(costs, "frames", frames=[0])
    encoder = encoder_of("ptoken", CodeOptions(window=2, adaptive=True))
    windows = encoder.windows(list(range(1, 13)), decided)
    assert [frame for window in windows for frame in window] == list(range(1, 13))
    # Twice the median of 55 are spent by a window: eleven still frames at most, but four times the window's length.
    assert windows == [(1, 2, 3, 4, 5, 6), *((frame,) for frame in range(7, 13))]
    fixed = encoder_of("ptoken", CodeOptions(window=5)).windows(list(range(1, 13)), decided)
    assert [len(window) for window in fixed] == [5, 5, 2]


@pytest.mark.parametrize("reference", ["previous", "whole"])
def test_a_stream_goes_on_as_if_it_had_been_whole(tiny_model, code, mode, reference):
    frames = moving(8)
    options = {"learned": code, "reference": reference}
    whole = encode_video([frames], plan_for(frames, "IPPPPIPP"), tiny_model, mode, **options)
    for cut in (1, 3, 5, 6):
        start = encode_video(
            [part_of(frames, 0, cut)], plan_for(part_of(frames, 0, cut), "IPPPPIPP"[:cut]), tiny_model, mode, **options
        )
        grown = extend_code(
            start, [part_of(frames, cut, 8)], plan_for(frames, "IPPPPIPP"), tiny_model, reference=reference
        )
        assert grown.learned is code and len(grown.segments) == 8
        for left, right in zip(whole, grown, strict=True):
            assert_same(left, right)


def test_a_slice_re_anchors(tiny_model, code, mode):
    frames = moving(6)
    coded = encode_video([frames], plan_for(frames, "IPPPPP"), tiny_model, mode, learned=code)
    part = slice_code(coded, 1.0, 2.0, lambda index: frames.rgb[index], tiny_model)
    assert [(segment.kind, segment.index) for segment in part] == [("I", (2,)), ("P", (3,))]
    assert part.learned is code
    assert_same(part.segments[1], coded.segments[3])


def test_dropped_gops_do_not_change_what_is_kept(tiny_model, code, mode):
    frames = moving(6)
    decided = plan_for(frames, "IPPIPP")
    keep = np.array([False] * 3 + [True] * 3)
    coded = encode_video([frames], replace(decided, keep=keep), tiny_model, mode, learned=code)
    whole = encode_video([frames], decided, tiny_model, mode, learned=code)
    for left, right in zip(coded, whole.segments[3:], strict=True):
        assert_same(left, right)


def test_the_adapter_reads_the_code_and_leaves_the_model_alone(tiny_model, mode):
    frames = moving(3)
    decided = plan_for(frames, "IPP")
    plain = random_code(tiny_model, mode)
    adapted = replace(random_code(tiny_model, mode, rank=2), network=plain.network)
    codes = [encode_video([frames], decided, tiny_model, mode, learned=one) for one in (plain, adapted)]
    before, expected = (answers(tiny_model, one) for one in codes)
    assert not torch.allclose(expected, before, rtol=1e-3)
    assert torch.equal(answers(tiny_model, codes[0]), before)
    assert codes[0].fingerprint != codes[1].fingerprint
    for layer in tiny_model.text.modules():
        assert not layer._forward_hooks
    # By its definition: W + B A in every matrix of the layers.
    paths = {name.replace("/", "."): one for name, one in adapted.adapter.items()}
    merged = {}
    for name, one in paths.items():
        layer = tiny_model.text.get_submodule(name)
        merged[name] = layer.weight.data
        layer.weight.data = layer.weight.float() + one.up @ one.down
    try:
        torch.testing.assert_close(answers(tiny_model, codes[0]), expected, rtol=1e-3, atol=1e-3)
    finally:
        for name, weight in merged.items():
            tiny_model.text.get_submodule(name).weight.data = weight


def answers(model, code):
    """Logits after a question about the code."""
    conversation = converse(model, code)
    conversation.ask("What moves?", sampling=GREEDY, max_tokens=0)
    return conversation.context.logits
