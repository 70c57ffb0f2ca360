"""Changed cells: what is sent, against a simulation cell by cell, and what becomes of it in a code."""

import numpy as np
import pytest
import torch
from codeclens.models.code.encoding import encode_video, extend_code, slice_code
from codeclens.models.code.layout import lay_out_segments, prompt_tokens, shown_tokens
from codeclens.models.code.modes import group_frames
from codeclens.models.code.modes.selection import SMALLEST, describe_cells, meet_budget, send_changes
from codeclens.models.errors import InputError
from codeclens.models.source.reading import Frames
from hypothesis import given, settings
from hypothesis import strategies as st
from support.frames import frames_of, noise, plan_for


def scene(count: int = 9, moving: int = 8) -> np.ndarray:
    """A still picture of 4 x 4 cells over which a grey square moves ``moving`` pixels a frame within two rows."""
    rgb = np.repeat(noise(1, 128, 128), count, axis=0)
    for number in range(count):
        rgb[number, 40:60, moving * number : moving * number + 20] = 128
    return rgb


def costs(kept: np.ndarray) -> int:
    """A token for each cell and three for each group that sends any."""
    return int(kept.sum() + 3 * kept.any(1).sum())


def simulate(described, whole, threshold):
    """Cell by cell, in plain Python: what is sent where the difference to the last sent exceeds the threshold."""
    kept = []
    for cell in range(len(described[0])):
        memory, own = None, []
        for number, cells in enumerate(described):
            sent = memory is None or whole[number] or float(np.mean(np.abs(cells[cell] - memory))) > threshold
            memory = cells[cell] if sent else memory
            own.append(sent)
        kept.append(own)
    return np.array(kept).T


CELLS = st.integers(1, 6)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), CELLS, st.integers(0, 2**32 - 1), st.integers(0, 120))
def test_changes_are_taken_against_what_was_last_sent(groups, cells, seed, threshold):
    draw = np.random.default_rng(seed)
    described = list(draw.integers(0, 256, (groups, cells, 4)).astype(np.float32))
    whole = draw.random(groups) < 0.2
    found = send_changes(described, whole, threshold)
    assert found.kept.tolist() == simulate(described, whole, threshold).tolist()


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 8), CELLS, st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_a_budget_is_met_exactly_or_everything_was_sent(groups, cells, seed, extra):
    draw = np.random.default_rng(seed)
    described = list(draw.uniform(0, 255, (groups, cells, 4)).astype(np.float32))
    whole = [True] + [False] * (groups - 1)
    budget = cells + 3 + extra
    found = meet_budget(described, whole, budget, costs)
    spent = costs(found.kept)
    everything = costs(send_changes(described, whole, SMALLEST).kept)
    assert spent <= budget
    # One more group costs 4 at least: less than that may be left over, or every group that sends is whole.
    full = all(row.all() for row in found.kept if row.any())
    assert spent == min(budget, everything) or full or budget - spent < 4


def test_cells_are_compared_by_means_of_four_by_four_pixels():
    rgb = noise(2, 64, 96)
    found = describe_cells(rgb)
    assert found.shape == (6, 2 * 8 * 8 * 3)
    # The cell in the second row, third column; frame 1, first row of samples, second sample, green.
    assert found[5].reshape(2, 8, 8, 3)[1, 0, 1, 1] == pytest.approx(rgb[1, 32:36, 68:72, 1].mean())


def test_only_what_moved_is_sent_where_it_stands(tiny_model):
    frames = frames_of(scene())
    plan = plan_for(frames, "IPPPPPPPP")
    code = encode_video([frames], plan, tiny_model, "cells", budget=10**4)
    native = encode_video([frames], plan, tiny_model, "rgb")
    assert [segment.kind for segment in code] == ["pair", "P", "P", "P", "P"]
    for sent, whole in zip(code, native, strict=True):
        assert (sent.index, sent.pts, sent.grid) == (whole.index, whole.pts, whole.grid)
        assert torch.equal(sent.embeds, whole.embeds[sent.cell])
        assert torch.equal(sent.deepstack, whole.deepstack[:, sent.cell])
        assert torch.equal(sent.positions, whole.positions[:, sent.cell])
    assert all(set(segment.cell.tolist()) <= {4, 5, 6, 7} for segment in code.segments[1:])
    layout = lay_out_segments(list(code.segments), tiny_model.tokenizer)
    full = lay_out_segments(list(native.segments), tiny_model.tokenizer)
    assert len(layout.ids) == shown_tokens(code, tiny_model.tokenizer) < len(full.ids)


def test_a_still_video_is_sent_once(tiny_model):
    frames = frames_of(np.repeat(noise(1, 64, 64), 8, axis=0))
    code = encode_video([frames], plan_for(frames, "IPPPIPPP"), tiny_model, "cells")
    assert [(segment.kind, segment.index) for segment in code] == [("pair", (0, 1))]


@pytest.mark.parametrize("budget", [40, 60, 75, 10**4])
def test_the_prompt_stays_within_the_budget(tiny_model, budget):
    frames = frames_of(noise(10, 128, 128))
    plan = plan_for(frames, "IPPPPPPPPP")
    code = encode_video([frames], plan, tiny_model, "cells", budget=budget)
    spent = shown_tokens(code, tiny_model.tokenizer)
    assert spent == budget or (budget == 10**4 and code.token_count == 5 * 16)
    chat = prompt_tokens([], tiny_model.tokenizer)
    assert prompt_tokens(code, tiny_model.tokenizer) == spent + chat


def test_what_the_budget_leaves_over_is_spent_on_stamps(tiny_model):
    frames = frames_of(scene(9), pts=[number / 4 for number in range(9)])
    plan = plan_for(frames, "IPPPPPPPP")

    def encode(**options):
        return encode_video([frames], plan, tiny_model, "cells", **options)

    sparing = encode(budget=10**4, stamps="second")
    assert [segment.stamped for segment in sparing] == [True, False, True, False, True]
    generous = shown_tokens(encode(budget=10**4, stamps="every"), tiny_model.tokenizer)
    for budget, every in ((generous, True), (generous - 1, False)):
        code = encode(budget=budget)
        assert all(segment.stamped for segment in code) == every
        assert [segment.cell.tolist() for segment in code] == [segment.cell.tolist() for segment in sparing]


def test_without_a_budget_the_plan_is_one(tiny_model):
    frames = frames_of(noise(10, 128, 128))
    plan = plan_for(frames, "IPPPPPPPPP").in_mode("cells")
    code = encode_video([frames], plan, tiny_model, "cells")
    planned = shown_tokens(group_frames(plan, "cells"), tiny_model.tokenizer)
    assert 0 <= planned - shown_tokens(code, tiny_model.tokenizer) < 12


def test_a_stream_goes_on_from_what_was_sent(tiny_model):
    rgb = scene(8)
    frames = frames_of(rgb)
    first, rest = (Frames(rgb[span], frames.pts[span], frames.index[span]) for span in (slice(4), slice(4, 8)))
    options = {"budget": 10**4}
    code = encode_video([first], plan_for(first, "IPPP"), tiny_model, "cells", **options)
    extended = extend_code(code, [rest], plan_for(frames, "IPPPPPPP"), tiny_model, **options)
    at_once = encode_video([frames], plan_for(frames, "IPPPPPPP"), tiny_model, "cells", **options)
    assert [segment.cell.tolist() for segment in extended] == [segment.cell.tolist() for segment in at_once]
    # The last pair shows the square in two positions, so a pair that shows it at rest is news; another is not.
    for number, segments in ((8, 5), (10, 5)):
        still = Frames(rgb[[7, 7]], np.array([number, number + 1]) / 2, np.array([number, number + 1]))
        longer = frames_of(rgb[[*range(8), *[7] * (number - 6)]])
        extended = extend_code(extended, [still], plan_for(longer, "I" + "P" * (number + 1)), tiny_model, **options)
        assert len(extended.segments) == segments and len(extended.plan) == number + 2


def test_a_slice_of_cells_opens_with_a_whole_pair(tiny_model):
    rgb = scene()
    frames = frames_of(rgb)
    code = encode_video([frames], plan_for(frames, "IPPPPPPPP"), tiny_model, "cells", budget=10**4)
    part = slice_code(code, 1.0, 4.0, lambda index: rgb[index], tiny_model)
    assert [(segment.kind, segment.index, len(segment)) for segment in part][0] == ("pair", (2, 3), 16)
    assert part.segments[1:] == code.segments[2:4]
    native = encode_video([frames], code.plan, tiny_model, "rgb")
    torch.testing.assert_close(part.segments[0].embeds, native.segments[1].embeds, rtol=1e-4, atol=1e-5)


def test_frames_that_can_be_read_only_once_are_refused(tiny_model):
    frames = frames_of(scene(2))
    with pytest.raises(InputError, match="the mode 'cells' reads frames twice"):
        encode_video(iter([frames]), plan_for(frames, "IP"), tiny_model, "cells", name="clip.mp4")
