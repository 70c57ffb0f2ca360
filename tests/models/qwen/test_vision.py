"""The vision tower against the reference, and what each kind of picture can and cannot reveal."""

import copy

import gguf
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from codeclens.models.qwen import load_vision
from codeclens.models.qwen.gguf import read_gguf
from codeclens.models.qwen.model_file import ModelFile, StoredTensor
from codeclens.models.qwen.vision import patches_of
from support.gguf_files import TINY, write_mmproj

SCENARIOS = ("image", "video", "mixed")


@pytest.fixture(scope="module")
def tower(qwen3vl_fixtures):
    return load_vision(read_gguf(qwen3vl_fixtures / "tiny-tied" / "mmproj-tiny-tied-F16.gguf"))


@pytest.fixture(scope="module")
def references(qwen3vl_fixtures):
    return {name: dict(np.load(qwen3vl_fixtures / "tiny-tied" / f"ref-{name}.npz")) for name in SCENARIOS}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load_vision(read_gguf(write_mmproj(tmp_path_factory.mktemp("tower") / "mmproj.gguf", TINY)))


def media_of(reference) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and grids of the images, then the videos, of a reference."""
    names = [("pixel_values", "image_grid_thw"), ("pixel_values_videos", "video_grid_thw")]
    found = [(reference[pixels], reference[grid]) for pixels, grid in names if pixels in reference]
    return tuple(torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*found, strict=True))


def error(found: torch.Tensor, expected: np.ndarray) -> float:
    """Largest deviation relative to the largest value."""
    expected = torch.from_numpy(expected)
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def outcome_error(tower, reference) -> float:
    """The larger error of the merged tokens and the DeepStack features, in the order they are injected."""
    tokens, deepstack = tower(*media_of(reference))
    errors = [error(features, reference[f"vis_deepstack_{i}"]) for i, features in enumerate(deepstack)]
    return max(error(tokens, reference["vis_merger"]), *errors)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_traced_tensor_equals_the_reference(tower, references, scenario):
    reference, found = references[scenario], {}
    modules = {"vis_patch_embed": tower.patch_embedding, "vis_merger": tower.merger}
    modules |= {f"vis_block_{i}": block for i, block in enumerate(tower.blocks)}
    modules |= {f"vis_deepstack_{i}": merger for i, merger in enumerate(tower.deepstack_mergers)}
    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: found.update({name: output}))
        for name, module in modules.items()
    ]
    tower(*media_of(reference))
    for hook in hooks:
        hook.remove()
    assert set(found) == {name for name in reference if name.startswith("vis_")} and len(found) == 10
    for name, states in found.items():
        assert error(states, reference[name]) < 1e-5, name


@pytest.mark.parametrize("scenario", ["image", "video"])
def test_a_q8_0_tower_equals_the_reference_on_its_weights(qwen3vl_fixtures, references, scenario):
    """The F16 tower quantised as llama-quantize does it; rows that are no multiple of 32 stay as they are."""
    file = read_gguf(qwen3vl_fixtures / "tiny-tied" / "mmproj-tiny-tied-F16.gguf")
    tensors = {}
    for name, stored in file.tensors.items():
        if stored.type == "F16" and stored.data.dim() == 2 and stored.shape[-1] % 32 == 0:
            blocks = gguf.quantize(stored.data.float().numpy(), gguf.GGMLQuantizationType.Q8_0)
            stored = StoredTensor(name, "Q8_0", stored.shape, torch.from_numpy(blocks))
        tensors[name] = stored
    tower = load_vision(ModelFile(file.path, file.size, file.metadata, tensors))
    assert sum(stored.type == "Q8_0" for stored in tensors.values()) == 28
    expected = np.load(qwen3vl_fixtures / "tiny-tied" / "ref-quants.npz")
    tokens, deepstack = tower(*media_of(references[scenario]))
    assert error(tokens, expected[f"mmproj-Q8_0/{scenario}/vis_merger"]) < 1e-5
    for level, features in enumerate(deepstack):
        assert error(features, expected[f"mmproj-Q8_0/{scenario}/vis_deepstack_{level}"]) < 1e-5


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_patches_equal_the_references_pixels(tower, references, scenario):
    reference = references[scenario]
    frames = [torch.from_numpy(reference[name]) for name in sorted(reference) if name.startswith("media_")]
    pixels, grids = [], []
    for still in (True, False):
        chosen = [part for part in frames if (part.dim() == 3) is still]
        if chosen:
            stack = torch.stack(chosen) if still else torch.cat(chosen)
            made = patches_of(stack, tower.config, still=still)
            pixels.append(made[0])
            grids.append(made[1])
    expected, grid = media_of(reference)
    torch.testing.assert_close(torch.cat(pixels), expected, rtol=0, atol=1e-6)
    assert torch.cat(grids).tolist() == grid.tolist()


def test_patches_are_in_merge_order(tower):
    """Each patch's content says where it came from; four neighbours of a 2x2 window come one after the other."""
    frames = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    for row in range(4):
        for column in range(6):
            frames[:, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = 10 * row + column
    patches, grid = patches_of(frames, tower.config)
    assert grid.tolist() == [[1, 4, 6]] and patches.shape == (24, 1536)
    found = ((patches[:, 0] * 0.5 + 0.5) * 255).round().int().tolist()
    assert found[:12] == [0, 1, 10, 11, 2, 3, 12, 13, 4, 5, 14, 15]
    assert found[12:] == [20, 21, 30, 31, 22, 23, 32, 33, 24, 25, 34, 35]


def test_an_odd_last_frame_is_paired_with_itself(tower):
    frames = torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8)
    patches, grid = patches_of(frames, tower.config)
    again, _ = patches_of(torch.cat([frames, frames[-1:]]), tower.config)
    assert grid.tolist() == [[2, 2, 2]] and torch.equal(patches, again)


def test_a_still_is_a_picture_shown_twice(tower):
    frames = torch.randint(0, 256, (2, 32, 64, 3), dtype=torch.uint8)
    stills, grid = patches_of(frames, tower.config, still=True)
    assert grid.tolist() == [[1, 2, 4], [1, 2, 4]]
    first, _ = patches_of(frames[[0, 0]], tower.config)
    assert torch.equal(stills[:8], first)


@pytest.mark.parametrize("size", [(0, 32, 32), (1, 33, 32), (1, 32, 48), (1, 0, 32)])
def test_sides_that_do_not_divide_are_refused(tower, size):
    with pytest.raises(ValueError, match="a multiple of 32"):
        patches_of(torch.zeros(*size, 3, dtype=torch.uint8), tower.config)


def test_wrong_grids_are_refused(tower):
    with pytest.raises(ValueError, match="do not fill"):
        tower(torch.zeros(8, 1536), torch.tensor([[1, 4, 4]]))
    with pytest.raises(ValueError, match="windows of 2 x 2"):
        tower(torch.zeros(12, 1536), torch.tensor([[1, 3, 4]]))


def test_positions_are_the_references_four_corners(small):
    """Interpolated by hand: the four table entries around each point, weighted by distance."""
    side = small.config.grid_side
    table = small.position_table.weight.view(side, side, -1)
    rows, columns = 6, 10
    expected = torch.empty(rows, columns, table.shape[-1])
    for row, y in enumerate(np.linspace(0, side - 1, rows)):
        for column, x in enumerate(np.linspace(0, side - 1, columns)):
            top, left = int(y), int(x)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            down, across = y - top, x - left
            upper = (1 - across) * table[top, left] + across * table[top, right]
            lower = (1 - across) * table[bottom, left] + across * table[bottom, right]
            expected[row, column] = (1 - down) * upper + down * lower
    found = small.positions([(rows, columns)], "cpu")
    torch.testing.assert_close(found, small.in_merge_order(expected), rtol=1e-5, atol=1e-5)


def test_pictures_of_any_sizes_do_not_see_each_other(small):
    generator = torch.Generator().manual_seed(0)
    grids = [[1, 4, 4], [3, 2, 6], [1, 4, 4], [1, 2, 2], [2, 2, 6]]
    parts = [torch.randn(int(np.prod(grid)), 1536, generator=generator) for grid in grids]
    together, deepstack = small(torch.cat(parts), torch.tensor(grids))
    alone = [small(part, torch.tensor([grid])) for part, grid in zip(parts, grids, strict=True)]
    torch.testing.assert_close(together, torch.cat([tokens for tokens, _ in alone]), rtol=1e-4, atol=1e-5)
    for level, features in enumerate(deepstack):
        expected = torch.cat([levels[level] for _, levels in alone])
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_temporal_groups_are_pictures_of_their_own(small):
    video = torch.randint(0, 256, (6, 64, 32, 3), dtype=torch.uint8)
    tokens, deepstack = small.encode(video.view(3, 2, 64, 32, 3))
    assert tokens.shape == (3, 2, TINY.hidden) and deepstack.shape == (2, 3, 2, TINY.hidden)
    whole, _ = small(*patches_of(video, small.config))
    torch.testing.assert_close(tokens.flatten(0, 1), whole)
    one, levels = small.encode(video[2:4][None])
    torch.testing.assert_close(one[0], tokens[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(levels[:, 0], deepstack[:, 1], rtol=1e-4, atol=1e-5)


def test_no_mask_is_built(small, monkeypatch):
    attend = F.scaled_dot_product_attention
    sizes = []

    def without_mask(query, key, value, attn_mask=None, **options):
        assert attn_mask is None
        sizes.append(tuple(query.shape[:3]))
        return attend(query, key, value, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", without_mask)
    small(torch.randn(56, 1536), torch.tensor([[2, 4, 4], [1, 4, 6]]))
    assert sizes == [(2, 2, 16), (1, 2, 24)] * TINY.vision_layers


def test_progress_may_cancel_between_layers(small):
    class Cancelled(Exception):
        pass

    calls = []

    def watch(done, total):
        calls.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        small(torch.zeros(4, 1536), torch.tensor([[1, 2, 2]]), watch)
    assert calls == [(0, 3), (1, 3), (2, 3)]


def swap_slices(tower):
    weight = tower.patch_embedding.weight.view(-1, 3, 2, 256).flip(2).reshape(-1, 1536)
    tower.patch_embedding.weight = torch.nn.Parameter(weight, requires_grad=False)


def one_slice(tower):
    weight = tower.patch_embedding.weight.view(-1, 3, 2, 256)[:, :, :1].repeat(1, 1, 2, 1).reshape(-1, 1536)
    tower.patch_embedding.weight = torch.nn.Parameter(weight, requires_grad=False)


def swap_deepstack(tower):
    tower.deepstack_mergers = torch.nn.ModuleList(list(tower.deepstack_mergers)[::-1])


def corners_not_aligned(tower):
    def positions(grids, device):
        side = tower.config.grid_side
        table = tower.position_table(torch.arange(side * side)).T.reshape(1, -1, side, side)
        sampled = [F.interpolate(table, grid, mode="bilinear", align_corners=False) for grid in grids]
        return torch.cat([tower.in_merge_order(states[0].permute(1, 2, 0)) for states in sampled])

    tower.positions = positions


def columns_before_rows(tower):
    rotary = type(tower).rotary

    def swapped(grids, device):
        return tuple(table.roll(table.shape[1] // 2, 1) for table in rotary(tower, grids, device))

    tower.rotary = swapped


def exact_gelu_in_blocks(tower):
    for block in tower.blocks:
        block.forward = lambda states, cos, sin, runs, block=block: (
            (states := states + block.attention(block.attention_norm(states), cos, sin, runs))
            + block.down(F.gelu(block.up(block.feed_forward_norm(states))))
        )


def tanh_gelu_in_mergers(tower):
    merger = tower.merger
    merger.forward = lambda states: merger.second(
        F.gelu(merger.first(merger.norm(states).view(-1, merger.joined)), approximate="tanh")
    )


def norm_after_merge(tower):
    merger = tower.merger

    def forward(states):
        weight, bias = merger.norm.weight.repeat(4), merger.norm.bias.repeat(4)
        joined = F.layer_norm(states.view(-1, merger.joined), (merger.joined,), weight, bias, merger.norm.eps)
        return merger.second(F.gelu(merger.first(joined)))

    merger.forward = forward


ALL, MOVING = set(SCENARIOS), {"video", "mixed"}


@pytest.mark.parametrize(
    ("mutate", "revealed_by"),
    [
        (swap_slices, MOVING),
        (one_slice, ALL),
        (swap_deepstack, ALL),
        (corners_not_aligned, ALL),
        (columns_before_rows, ALL),
        (exact_gelu_in_blocks, ALL),
        (tanh_gelu_in_mergers, ALL),
        (norm_after_merge, ALL),
    ],
)
def test_what_reveals_a_wrong_tower(tower, references, mutate, revealed_by):
    """Only video distinguishes the two slices of the patch embedding. Everything else shows in each scenario."""
    wrong = copy.deepcopy(tower)
    mutate(wrong)
    assert all(outcome_error(tower, references[name]) < 1e-5 for name in SCENARIOS)
    assert {name for name in SCENARIOS if outcome_error(wrong, references[name]) > 5e-5} == revealed_by


def test_the_epsilon_shows_above_rounding(tower, references):
    wrong = copy.deepcopy(tower)
    for module in wrong.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    for name in SCENARIOS:
        assert outcome_error(wrong, references[name]) > 2 * outcome_error(tower, references[name])


def test_a_square_grid_of_the_tables_size_hides_the_interpolation(small):
    """At the table's own size every resampling is the identity, so tests must use other sizes."""
    side = small.config.grid_side
    table = small.position_table.weight
    torch.testing.assert_close(small.positions([(side, side)], "cpu"), small.in_merge_order(table.view(side, side, -1)))
    corners_not_aligned(wrong := copy.deepcopy(small))
    torch.testing.assert_close(wrong.positions([(side, side)], "cpu"), small.positions([(side, side)], "cpu"))
    assert (wrong.positions([(side, 4)], "cpu") - small.positions([(side, 4)], "cpu")).abs().max() > 0.01
