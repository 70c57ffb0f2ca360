"""gather_patches against Python's own sort."""

import pytest
import torch
from codeclens.kernels import gather_patches
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=60)
@given(
    energies=st.lists(st.integers(-3, 3), max_size=40),
    channels=st.integers(0, 5),
    fraction=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.int32, torch.float16, torch.int64]),
)
def test_most_energy_first_then_lowest_index(energies, channels, fraction, dtype):
    count, k = len(energies), int(fraction * len(energies))
    patches = torch.arange(count * channels).view(count, channels)
    packed, index = gather_patches(patches, torch.tensor(energies, dtype=dtype), k)
    assert index.tolist() == sorted(range(count), key=lambda i: (-energies[i], i))[:k]
    assert index.dtype == torch.int64 and torch.equal(packed, patches[index])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_patches_of_a_512_pixel_frame_by_residual_energy(dtype):
    """1024 patches of 16 x 16 x 3, a quarter kept."""
    generator = torch.Generator().manual_seed(1)
    patches = torch.randint(0, 255, (1024, 768), generator=generator).to(dtype)
    energy = torch.randint(0, 300, (1024,), generator=generator, dtype=torch.int32)
    packed, index = gather_patches(patches, energy, 256)
    kept = energy[index]
    assert packed.dtype == dtype and torch.equal(packed, patches[index])
    assert kept.min() >= energy[torch.ones(1024, dtype=torch.bool).index_fill(0, index, False)].max()
    assert all(
        later > earlier for earlier, later in zip(index, index[1:], strict=False) if energy[earlier] == energy[later]
    )


def test_negative_zero_ties_with_zero():
    _, index = gather_patches(torch.zeros(3, 1), torch.tensor([-0.0, 0.0, -0.0]), 3)
    assert index.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "patches, energy, k, message",
    [
        (torch.zeros(4), torch.zeros(4), 1, "patches is (4,)"),
        (torch.zeros(4, 2).T, torch.zeros(2), 1, "wanted contiguous [N, C]"),
        (torch.zeros(4, 2), torch.zeros(3), 1, "energy is (3,); wanted contiguous [4]"),
        (torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool), 1, "energy is torch.bool"),
        (torch.zeros(4, 2), torch.zeros(4, device="meta"), 1, "patches is on cpu and energy on meta"),
        (torch.zeros(4, 2), torch.zeros(4), 5, "k is 5; wanted 0 to 4"),
        (torch.zeros(4, 2), torch.zeros(4), -1, "k is -1"),
    ],
)
def test_bad_input_is_one_sentence(patches, energy, k, message):
    with pytest.raises(ValueError, match="^gather_patches: ") as error:
        gather_patches(patches, energy, k)
    assert message in str(error.value) and str(error.value).endswith(".")
