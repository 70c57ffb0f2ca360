"""The code of a video is what the reference computes for the same frames, mode by mode."""

import json

import numpy as np
import pytest
import torch
from codeclens.models.code.conversation import converse
from codeclens.models.code.encoding import encode_video
from codeclens.models.code.layout import lay_out
from codeclens.models.errors import InputError
from codeclens.models.qwen3vl.generate import GREEDY
from codeclens.models.video.reading import Frames
from support.frames import frames_of, noise, plan_for


@pytest.fixture(scope="module")
def video(qwen3vl_fixtures):
    return np.load(qwen3vl_fixtures / "tiny-tied" / "ref-video.npz")


def relative_error(found, expected):
    expected = torch.as_tensor(expected)
    return float((found - expected).norm() / expected.norm())


def test_rgb_is_the_reference_video_path(tiny_model, video):
    """Ids, positions, vision features and logits of the video fixture, from nothing but its frames and times."""
    rgb = np.concatenate([video["media_0_video_u8"], video["media_1_video_u8"]])
    frames = frames_of(rgb, [0.0, 0.5, 1.0, 1.5])
    code = encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "rgb")
    parts = json.loads(str(video["parts"]))
    layout = lay_out([parts[0], *code.segments, parts[-1]], tiny_model.tokenizer)
    assert layout.ids == video["input_ids"][0].tolist()
    assert torch.equal(layout.positions, torch.from_numpy(video["position_ids"]))
    merged = torch.cat([segment.embeds for segment in code])
    assert relative_error(merged, video["vis_merger"]) < 1e-4
    for level in range(3):
        deepstack = torch.cat([segment.deepstack[level] for segment in code])
        assert relative_error(deepstack, video[f"vis_deepstack_{level}"]) < 1e-4
    conversation = converse(tiny_model, code)
    conversation.ask("What is in the video?", sampling=GREEDY, max_tokens=1)
    answered = converse(tiny_model, code)
    answered.ask("What is in the video?", sampling=GREEDY, max_tokens=0)
    assert relative_error(answered.context.logits, video["logits"][-1]) < 1e-4


def test_stills_equal_the_reference_image(tiny_model, qwen3vl_fixtures):
    image = np.load(qwen3vl_fixtures / "tiny-tied" / "ref-image.npz")
    frames = frames_of(image["media_0_image_u8"][None])
    code = encode_video([frames], plan_for(frames, "I"), tiny_model, "keyframes")
    assert relative_error(code.segments[0].embeds, image["vis_merger"]) < 1e-4
    assert code.segments[0].grid == (4, 6)
    assert torch.equal(code.segments[0].positions(4), torch.from_numpy(image["position_ids"][:, 4:28]))


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
        assert relative_error(left.deepstack, right.deepstack) < 1e-5


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
        encode_video([frames], plan_for(frames, "IPIP"), tiny_model, "thumbnail", weights="x").fingerprint,
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
