"""The code of a video is what the reference computes for the same frames, mode by mode."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import converse
from codeclens.models.code.encoding import encode_video, extend_code, slice_code
from codeclens.models.code.layout import lay_out_segments
from codeclens.models.errors import InputError
from codeclens.models.qwen.generate import GREEDY
from codeclens.models.source.reading import Frames
from support.frames import frames_of, noise, plan_for


@pytest.fixture(scope="module")
def video(tiny_folder):
    return np.load(tiny_folder / "ref-video.npz")


def relative_error(found, expected):
    expected = torch.as_tensor(expected)
    return float((found - expected).norm() / expected.norm())


def test_rgb_is_the_reference_video_path(tiny_model, video):
    """Ids, positions, vision features and logits of the video fixture, from nothing but its frames and times."""
    rgb = np.concatenate([video["media_0_video_u8"], video["media_1_video_u8"]])
    frames = frames_of(rgb, [0.0, 0.5, 1.0, 1.5])
    code = encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "rgb")
    parts = json.loads(str(video["parts"]))
    layout = lay_out_segments([parts[0], *code.segments, parts[-1]], tiny_model.tokenizer)
    assert layout.ids == video["input_ids"][0].tolist()
    assert torch.equal(layout.positions, torch.from_numpy(video["position_ids"]))
    merged = torch.cat([segment.embeds for segment in code])
    assert relative_error(merged, video["vis_merger"]) < 1e-4
    for level in range(tiny_model.config.text.deepstack_layers):
        deepstack = torch.cat([segment.deepstack[level] for segment in code])
        assert relative_error(deepstack, video[f"vis_deepstack_{level}"]) < 1e-4
    conversation = converse(tiny_model, code)
    conversation.ask("What is in the video?", sampling=GREEDY, max_tokens=1)
    answered = converse(tiny_model, code)
    answered.ask("What is in the video?", sampling=GREEDY, max_tokens=0)
    assert relative_error(answered.context.logits, video["logits"][-1]) < 1e-4


def test_stills_equal_the_reference_image(tiny_model, tiny_folder):
    image = np.load(tiny_folder / "ref-image.npz")
    frames = frames_of(image["media_0_image_u8"][None])
    code = encode_video([frames], plan_for(frames, "I"), tiny_model, "keyframes")
    assert relative_error(code.segments[0].embeds, image["vis_merger"]) < 1e-4
    assert code.segments[0].grid == (4, 6)
    parts = json.loads(str(image["parts"]))
    layout = lay_out_segments([parts[0], replace(code.segments[0], stamped=False), parts[-1]], tiny_model.tokenizer)
    assert layout.ids == image["input_ids"][0].tolist()
    assert torch.equal(layout.positions, torch.from_numpy(image["position_ids"]))


def test_batches_and_chunks_do_not_change_the_code(tiny_model):
    rgb = noise(9)
    frames = frames_of(rgb)
    plan = plan_for(frames, "IPPIPPPPI")
    whole = encode_video([frames], plan, tiny_model, "thumbnail", batch_patches=10**6)
    chunks = [Frames(rgb[i : i + 2], frames.pts[i : i + 2], frames.index[i : i + 2]) for i in range(0, 9, 2)]
    single = encode_video(chunks, plan, tiny_model, "thumbnail", batch_patches=1)
    assert whole.fingerprint == single.fingerprint
    for left, right in zip(whole, single, strict=True):
        assert (left.kind, left.index, left.grid) == (right.kind, right.index, right.grid)
        assert relative_error(left.embeds, right.embeds) < 1e-5
        torch.testing.assert_close(left.deepstack, right.deepstack, rtol=1e-4, atol=1e-4)


def test_neighbouring_stills_are_not_fused(tiny_model):
    """A still beside another must encode as it does alone: stamps or none, equal size or not."""
    frames = frames_of(noise(3))
    together = encode_video([frames], plan_for(frames, "III"), tiny_model, "keyframes", stamps="whole")
    for i in range(3):
        alone = frames_of(frames.rgb[i : i + 1])
        code = encode_video([alone], plan_for(alone, "I"), tiny_model, "keyframes")
        assert relative_error(together.segments[i].embeds, code.segments[0].embeds) < 1e-5


def test_the_fingerprint_follows_pixels_plan_and_mode(tiny_model):
    frames = frames_of(noise(4))
    other = frames_of(frames.rgb.copy())
    other.rgb[2, 5, 5, 0] ^= 128
    prints = {
        encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "thumbnail").fingerprint,
        encode_video([other], plan_for(frames, "IPIP"), tiny_model, "thumbnail").fingerprint,
        encode_video([frames], plan_for(frames, "IPPP"), tiny_model, "thumbnail").fingerprint,
        encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "rgb").fingerprint,
        encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "thumbnail", stamps="whole").fingerprint,
    }
    assert len(prints) == 5
    assert encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "thumbnail").fingerprint in prints


def test_a_plan_of_another_video_is_refused(tiny_model):
    frames = frames_of(noise(4))
    with pytest.raises(InputError, match="frame 4 of the plan was not read; the plan belongs to another video"):
        encode_video([frames], plan_for(frames_of(noise(6)), "IPPPPP"), tiny_model, "thumbnail", name="clip.mp4")
    with pytest.raises(InputError, match="frames are .128, 192., the plan was made for .64, 64."):
        encode_video([frames], plan_for(frames_of(noise(4, 64, 64)), "IPPP"), tiny_model, "thumbnail")


def test_cancelling_leaves_no_code(tiny_model):
    class Cancelled(Exception):
        pass

    def cancel(done, total):
        if done >= 2:
            raise Cancelled

    frames = frames_of(noise(6))
    with pytest.raises(Cancelled):
        encode_video([frames], plan_for(frames, "IIIIII"), tiny_model, "keyframes", batch_patches=1, progress=cancel)


def test_a_stream_extends_its_code_without_encoding_again(tiny_model):
    frames = frames_of(noise(7))
    plan = plan_for(frames, "IPPPIPP")
    whole = encode_video([frames], plan, tiny_model, "thumbnail")
    first = Frames(frames.rgb[:3], frames.pts[:3], frames.index[:3])
    rest = Frames(frames.rgb[3:], frames.pts[3:], frames.index[3:])
    code = encode_video([first], plan_for(first, "IPP"), tiny_model, "thumbnail")
    extended = extend_code(code, [rest], plan, tiny_model)
    assert extended.segments[:3] == code.segments
    for left, right in zip(extended, whole, strict=True):
        assert (left.kind, left.index, left.pts, left.grid) == (right.kind, right.index, right.pts, right.grid)
        assert relative_error(left.embeds, right.embeds) < 1e-5
    with pytest.raises(InputError, match="does not continue the code's 3 frames"):
        extend_code(code, [rest], plan_for(first, "IPP"), tiny_model)
    with pytest.raises(InputError, match="decides otherwise"):
        extend_code(code, [rest], plan_for(frames, "IIPPIPP"), tiny_model)


@pytest.mark.parametrize(
    ("mode", "options", "start", "expected"),
    [
        ("thumbnail", {}, 1.0, [("I", (2,)), ("P", (3,)), ("I", (4,)), ("P", (5,))]),
        ("thumbnail", {}, 2.0, [("I", (4,)), ("P", (5,))]),
        ("thumbnail", {"pair_thumbnails": True}, 1.0, [("I", (2,)), ("pair", (3, 3)), ("I", (4,)), ("pair", (5, 6))]),
        ("rgb", {}, 0.5, [("I", (1,)), ("pair", (2, 3)), ("pair", (4, 5))]),
        ("rgb", {}, 1.0, [("pair", (2, 3)), ("pair", (4, 5))]),
        ("keyframes", {}, 0.5, [("I", (1,)), ("I", (4,))]),
    ],
)
def test_a_slice_opens_on_a_whole_picture(tiny_model, mode, options, start, expected):
    frames = frames_of(noise(7))
    code = encode_video([frames], plan_for(frames, "IPPPIPP"), tiny_model, mode, **options)
    part = slice_code(code, start, 3.0, lambda index: frames.rgb[index], tiny_model)
    expected = [(kind, tuple(dict.fromkeys(index))) for kind, index in expected]
    assert [(segment.kind, segment.index) for segment in part] == expected
    assert part.segments[0].grid == (4, 6)
    assert part.plan.kind[0] == 1
    alone = encode_video(
        [frames_of(frames.rgb[part.segments[0].index[0]][None])],
        plan_for(frames_of(noise(1)), "I"),
        tiny_model,
        "keyframes",
    )
    if part.segments[0].kind == "I":
        assert relative_error(part.segments[0].embeds, alone.segments[0].embeds) < 1e-5


def test_a_slice_of_dropped_frames_is_refused(tiny_model):
    frames = frames_of(noise(4))
    plan = plan_for(frames, "IPIP")
    plan.keep[2:] = False
    code = encode_video([frames], plan, tiny_model, "thumbnail")
    with pytest.raises(InputError, match="the plan keeps no frame within 1 to 2 s"):
        slice_code(code, 1.0, 2.0, lambda index: frames.rgb[index], tiny_model)


def test_pruned_groups_keep_their_times(tiny_model):
    """EVS as shipped: the stamp and the markers stay where all tokens of a group are gone."""
    frames = frames_of(np.repeat(noise(1), 6, axis=0))
    plan = plan_for(frames, "IPPPPP")
    code = encode_video([frames], plan, tiny_model, "rgb", drop=0.6)
    assert len(code.segments[0]) == 24 and code.token_count == int(72 * 0.4)
    layout = lay_out_segments(list(code.segments), tiny_model.tokenizer)
    text = tiny_model.tokenizer.decode(layout.ids, skip_special=False).replace("<|video_pad|>", "")
    assert text == "".join(f"<{t} seconds><|vision_start|><|vision_end|>" for t in ("0.2", "1.2", "2.2"))
    full = lay_out_segments(list(encode_video([frames], plan, tiny_model, "rgb").segments), tiny_model.tokenizer)
    assert layout.next_position == full.next_position
    kept = [
        row
        for row, token in zip(full.positions.T.tolist(), full.ids, strict=True)
        if token == tiny_model.tokenizer.video_pad
    ]
    cells = [24 * number + cell for number, segment in enumerate(code) for cell in segment.cell.tolist()]
    assert layout.positions[:, layout.visual_index].T.tolist() == [kept[cell] for cell in cells]
