"""The P-tokenizer beside the tower that it reads with, and beside a plain implementation of its mask."""

import pytest
import torch
from codeclens.models.code.learned.p_tokenizer import STEPS, PTokenizer
from codeclens.models.qwen.vision import patches_of

SIZE = (128, 192)


def picture(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, *SIZE, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def as_residual(rgb: torch.Tensor) -> torch.Tensor:
    """The picture in the scale of a residual, which is that of the tower's normalised pixels."""
    return rgb.float() / 127.5 - 1


def still(count: int = 1) -> torch.Tensor:
    return torch.zeros(count, SIZE[0] // 16, SIZE[1] // 16, 2)


@torch.no_grad()
def last_states(tower, rgb):
    """What the tower's last block makes of a picture's patches."""
    found = []
    hook = tower.blocks[-1].register_forward_hook(lambda block, inputs, output: found.append(output))
    patches, grid = patches_of(rgb, tower.config, still=True)
    tower(patches, grid)
    hook.remove()
    return found[0]


@torch.no_grad()
def test_at_first_and_without_motion_it_is_the_towers_reading(tiny_model):
    tower = tiny_model.vision
    network = PTokenizer(tower.config, side=4, rank=4)
    patches, _ = network.read(tower, as_residual(picture()), still())
    torch.testing.assert_close(patches[0], last_states(tower, picture()), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_motion_counts_only_once_its_kernels_have_moved(tiny_model):
    tower, moving = tiny_model.vision, torch.rand_like(still()) - 0.5
    network = PTokenizer(tower.config, side=4, rank=4)
    before = network(tower, as_residual(picture()), still(), torch.tensor([1]))[0]
    assert torch.equal(network(tower, as_residual(picture()), moving, torch.tensor([1]))[0], before)
    network.motion.normal_(0, 0.1)
    assert not torch.allclose(network(tower, as_residual(picture()), moving, torch.tensor([1]))[0], before)


@torch.no_grad()
def test_patches_do_not_see_latents_and_latents_see_patches(tiny_model):
    tower = tiny_model.vision
    network = PTokenizer(tower.config, side=4, rank=4)
    patches, latents = network.read(tower, as_residual(picture()), still())
    network.latents.normal_()
    others, moved = network.read(tower, as_residual(picture()), still())
    assert torch.equal(patches, others) and not torch.allclose(latents[-1], moved[-1])
    _, seen = network.read(tower, as_residual(picture(1)), still())
    assert not torch.allclose(seen[0], moved[0])


@torch.no_grad()
def test_one_pass_with_a_block_mask_gives_the_same(tiny_model):
    """The mask of the paper's appendix B, as one matrix over patches and latents."""
    tower = tiny_model.vision
    network = PTokenizer(tower.config, side=4, rank=4)
    expected = network.read(tower, as_residual(picture()), still())
    length = SIZE[0] * SIZE[1] // 256

    def masked(query, key, value, causal):
        total = key.shape[2]
        if query.shape[2] == length == total:  # the patches' own half: computed with the others below
            masked.waiting = query, key, value
            return torch.zeros_like(query)
        query = torch.cat([masked.waiting[0], query], dim=2)
        mask = torch.ones(total, total, dtype=torch.bool)
        mask[:length, length:] = False
        scores = (query @ key.mT / query.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        return (scores.softmax(-1) @ value)[:, :, length:]

    attends = [block.attend for block in tower.blocks]
    try:
        for block in tower.blocks[-1:]:
            block.attend = masked
        found = network.read(tower, as_residual(picture()), still())[1][-1]
    finally:
        for block, attend in zip(tower.blocks, attends, strict=True):
            block.attend = attend
    torch.testing.assert_close(found, expected[1][-1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "grid"),
    [((512, 512), (4, 4)), ((256, 256), (2, 2)), ((128, 128), (1, 1)), ((128, 192), (1, 2)), ((32, 64), (1, 1))],
)
def test_tokens_follow_the_pictures_size(tiny_model, size, grid):
    tower = tiny_model.vision
    network = PTokenizer(tower.config, side=8, rank=2)
    assert network.grid(size) == grid
    motion = torch.zeros(2, size[0] // 16, size[1] // 16, 2)
    tokens, levels = network(tower, torch.rand(2, *size, 3), motion, torch.tensor([1, STEPS + 9]))
    width, count = tower.config.output_size, grid[0] * grid[1]
    assert tokens.shape == (2, count, width)
    assert levels.shape == (len(tower.config.deepstack_indexes), 2, count, width)


@torch.no_grad()
def test_time_is_added_by_frames_since_the_i_frame(tiny_model):
    tower = tiny_model.vision
    network = PTokenizer(tower.config, side=4, rank=2)
    network.time[2] = 1.0
    network.time[-1] = 2.0
    inputs = as_residual(picture()).expand(4, -1, -1, -1), still(4), torch.tensor([1, 3, STEPS, STEPS + 5])
    tokens, _ = network(tower, *inputs)
    for number, added in enumerate((0.0, 1.0, 2.0, 2.0)):
        torch.testing.assert_close(tokens[number], tokens[0] + added)


def test_gradients_reach_every_weight_with_and_without_checkpoints(tiny_model):
    tower = tiny_model.vision
    gradients = []
    for checkpointed in (False, True):
        network = PTokenizer(tower.config, side=4, rank=2)
        network.checkpointed = checkpointed
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02)
        tokens, levels = network(tower, as_residual(picture()), still() + 0.3, torch.tensor([2]))
        (tokens.square().mean() + levels.square().sum()).backward()
        found = {name: parameter.grad for name, parameter in network.named_parameters()}
        # Nothing reads the patches after the last block, nor do the mergers of levels that the tower lacks.
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in found.values())
        gradients.append(found)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
    assert all(parameter.grad is None for parameter in tower.parameters())
